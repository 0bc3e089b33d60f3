"""
Output of the command: events as lines or JSON on stdout, messages on stderr.

``choose_output()`` picks the live view where a terminal can show one.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from ezvideo_async.cli.formatting import clean, event_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ezvideo_async import AsyncVideoClient, Event
    from ezvideo_async.cli.summary import Summary


def print_message(text: str) -> None:
    """Print *text* to stderr; a closed stderr is ignored."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def print_error(text: str) -> None:
    """Print *text*, cleaned and prefixed with the command's name, to stderr."""
    print_message(f"ezvideo: {clean(text)}")


class EventOutput(Protocol):
    """
    Context manager that shows events.

    Attributes:
        wants_progress: Whether it shows ``ProgressChanged`` events.
    """

    wants_progress: bool

    def __enter__(self) -> Self:
        """Start the output."""
        ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the output and restore the terminal."""
        ...

    def show(self, event: Event) -> None:
        """Show one event."""
        ...


def write_line(event: Event) -> None:
    """Write an event as one line of text to stdout."""
    print(event_line(event), flush=True)


def print_record(record: dict[str, Any]) -> None:
    """Print a record as one line of ASCII JSON to stdout."""
    print(json.dumps(record), flush=True)


def write_json(event: Event) -> None:
    """Write an event as one line of ASCII JSON to stdout."""
    print_record(event.to_dict())


class LineOutput:
    """Output of each event as one line on stdout."""

    def __init__(self, write: Callable[[Event], None], *, progress: bool) -> None:
        self._write = write
        self.wants_progress = progress

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        """Write one event."""
        self._write(event)


def choose_output(
    *, client: AsyncVideoClient, summary: Summary, progress: bool = False, as_json: bool = False
) -> EventOutput:
    """
    Return a live view if stderr is a terminal and rich is installed, else line output.

    When stdout is a terminal too, the live view replaces the lines; with JSON on stdout there
    is no live view then.  There is none either when stdout is a pipe, because what comes out of
    it, as with ``| tee log``, usually goes to the same terminal.
    """
    line_output = LineOutput(write_json if as_json else write_line, progress=progress)
    is_shared = _is_terminal(sys.stdout)
    if not _is_terminal(sys.stderr) or (as_json and is_shared) or _is_pipe(sys.stdout):
        return line_output
    try:
        from ezvideo_async.cli.live_view import LiveView  # noqa: PLC0415 -- rich is optional
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return line_output
    live_view = LiveView(
        client=client,
        summary=summary,
        line_output=None if is_shared else line_output,
        as_json=as_json,
    )
    return live_view if live_view.is_supported else line_output


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _is_pipe(stream: TextIO | None) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode if stream is not None else 0
    except OSError:  # a replaced stream without a file descriptor
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
