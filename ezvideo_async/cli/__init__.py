"""
The ``ezvideo`` command: data on stdout, everything else on stderr.

Importing this package and printing help load neither aiohttp nor asyncio nor rich: the module
of a command is imported when that command runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING

from ezvideo_async.cli.arguments import parse_arguments
from ezvideo_async.cli.exit_codes import (
    INTERRUPTED,
    NOT_ALL_COMPLETED,
    PIPE_BROKEN,
    USAGE,
    UsageError,
    exit_code_of,
)
from ezvideo_async.errors import EzVideoError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the ``ezvideo`` command.

    Args:
        argv: The arguments without the program's name; None means those of the process.

    Returns:
        The exit code; the first that applies: 128 + n ended by signal n, 2 usage or
        configuration, 3 API key refused, 6 some states not saved, 4 some still open, 1 some
        failed or lost, 0 all completed; 141 if stdout was closed.
    """
    _escape_unencodable_output()
    try:
        code = _exit_code(argv)
    except BrokenPipeError:
        code = PIPE_BROKEN
    except KeyboardInterrupt:
        code = INTERRUPTED
    _redirect_broken_streams()
    return code


def _exit_code(argv: Sequence[str] | None) -> int:
    try:
        return _run_command(argv)
    except UsageError as error:
        return _report(str(error), USAGE)
    except EzVideoError as error:
        return _report(str(error), exit_code_of(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        return _report(f"cannot write to stdout: {error.strerror}", NOT_ALL_COMPLETED)


def _run_command(argv: Sequence[str] | None) -> int:
    try:
        args = parse_arguments(argv)
    except SystemExit as exited:
        code = int(exited.code or 0)
    else:
        code = import_module(f"{__name__}.{args.module}").command(args)
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _report(message: str, code: int) -> int:
    from ezvideo_async.cli.output import print_error  # noqa: PLC0415 -- imports attrs

    print_error(message)
    return code


def _escape_unencodable_output() -> None:
    """Escape characters that a stream cannot encode, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _redirect_broken_streams() -> None:
    """Redirect closed pipes to the null device, because the interpreter flushes them at exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
