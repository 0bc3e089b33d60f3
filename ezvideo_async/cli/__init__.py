"""
The ``ezvideo`` command: data on stdout, everything else on stderr.

Importing this package, and asking for help, loads neither aiohttp nor asyncio nor rich: the
module of a command is loaded when the command is run.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING

from ezvideo_async.cli.arguments import parsed
from ezvideo_async.cli.clean import clean
from ezvideo_async.cli.exit_codes import (
    INTERRUPTED,
    NOT_ALL_COMPLETED,
    PIPE_BROKEN,
    USAGE,
    UsageError,
    exit_code_of,
    say,
)
from ezvideo_async.errors import EzVideoError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the ``ezvideo`` command.

    Args:
        argv: The arguments without the program's name; None takes the process's own.

    Returns:
        The exit code: 0 all completed, 1 some failed or lost, 2 usage or set-up, 3 key refused,
        4 some still open, 141 nobody reads stdout any more, 128 + n ended by signal n.
    """
    _print_anything()
    try:
        code = _exit_code(argv)
    except BrokenPipeError:
        code = PIPE_BROKEN
    except KeyboardInterrupt:
        code = INTERRUPTED
    _let_go_of_broken_streams()
    return code


def _exit_code(argv: Sequence[str] | None) -> int:
    try:
        return _done(argv)
    except UsageError as error:
        say(f"ezvideo: {clean(str(error))}")
        return USAGE
    except EzVideoError as error:
        say(f"ezvideo: {clean(str(error))}")
        return exit_code_of(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        say(f"ezvideo: stdout can't be written: {error.strerror}")
        return NOT_ALL_COMPLETED


def _done(argv: Sequence[str] | None) -> int:
    try:
        args = parsed(argv)
    except SystemExit as helped:
        code = int(helped.code or 0)
    else:
        code = import_module(f"{__name__}.{args.module}").command(args)
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _print_anything() -> None:
    """Let no character that a stream can't encode end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _let_go_of_broken_streams() -> None:
    """Point streams whose reader has left to nowhere: the interpreter flushes them at its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
