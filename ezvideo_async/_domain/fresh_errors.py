"""
Copies of errors, so that each reader and waiter raises one of its own.

One object raised to several callers collects the frames of all of them, and shows each what
another was handling.
"""

from __future__ import annotations

from copy import copy
from typing import TypeVar

from ezvideo_async.errors import EzVideoError, WaitTimeoutError

E = TypeVar("E", bound=EzVideoError)


def fresh_error(error: E) -> E:
    """
    Return an error with the same fields, which nobody has raised.

    Errors of ours within it are copied too; an exception of others that caused it is the same.
    """
    fresh, cause = copy(error), error.__cause__
    if isinstance(fresh, WaitTimeoutError) and fresh.last_error is not None:
        last_error, fresh.last_error = fresh.last_error, fresh_error(fresh.last_error)
        if cause is last_error:
            cause = fresh.last_error
    if isinstance(cause, EzVideoError) and cause is error.__cause__:
        cause = fresh_error(cause)
    if cause is not None:  # set to None, it would hide what the caller was handling
        fresh.__cause__ = cause
    return fresh
