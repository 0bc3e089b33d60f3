"""How the command ends: its exit codes, what it says to people, and wrong usage."""

from __future__ import annotations

import contextlib
import sys

from ezvideo_async.errors import (
    AuthenticationError,
    ConfigError,
    EzVideoError,
    InvalidTaskIdError,
    PermissionDeniedError,
    TLSError,
)

COMPLETED = 0
NOT_ALL_COMPLETED = 1
USAGE = 2
KEY_REFUSED = 3
STILL_OPEN = 4
SIGNALLED = 128
"""A signal's number is added to it, as shells do."""
INTERRUPTED = SIGNALLED + 2
PIPE_BROKEN = SIGNALLED + 13


class UsageError(Exception):
    """What the caller typed can't be done; the text says why, and what to do."""


def exit_code_of(error: EzVideoError) -> int:
    """Name the exit code of an error that ended the command."""
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        return KEY_REFUSED
    if isinstance(error, ConfigError | InvalidTaskIdError | TLSError):
        return USAGE
    return NOT_ALL_COMPLETED


def say(text: str) -> None:
    """Tell people something, on stderr; that nobody can hear it ends nothing."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)
