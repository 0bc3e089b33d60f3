"""Exit codes of the ``ezvideo`` command, and the error for wrong usage."""

from __future__ import annotations

from ezvideo_async.errors import (
    AuthenticationError,
    ConfigError,
    EzVideoError,
    InvalidTaskIdError,
    PermissionDeniedError,
    StoreError,
    TLSError,
)

COMPLETED = 0
NOT_ALL_COMPLETED = 1
USAGE = 2
KEY_REFUSED = 3
STILL_OPEN = 4
UNSAVED = 6
SIGNALLED = 128
"""The signal's number is added, as shells do."""
INTERRUPTED = SIGNALLED + 2
PIPE_BROKEN = SIGNALLED + 13


class UsageError(Exception):
    """The arguments or the environment cannot be used; the text says why and what to do."""


def exit_code_of(error: EzVideoError) -> int:
    """Return the exit code for an error that ended the command."""
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        return KEY_REFUSED
    if isinstance(error, StoreError):
        return UNSAVED if error.unsaved else USAGE
    if isinstance(error, ConfigError | InvalidTaskIdError | TLSError):
        return USAGE
    return NOT_ALL_COMPLETED
