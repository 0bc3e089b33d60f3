"""Where events go: lines on stdout, or a live view where one can be shown."""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from ezvideo_async.cli.formatting import event_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ezvideo_async import AsyncVideoClient, Event
    from ezvideo_async.cli.summary import Tally


class Screen(Protocol):
    """
    A place for events; enter it before telling any.

    Attributes:
        wants_progress: Whether changes of progress alone are worth telling it.
    """

    wants_progress: bool

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End showing, and leave the terminal as it was."""
        ...

    def tell(self, event: Event) -> None:
        """Show an event."""
        ...


def write_line(event: Event) -> None:
    """Write an event for people to stdout."""
    print(event_line(event), flush=True)


def write_json(event: Event) -> None:
    """Write an event as one line of ASCII JSON to stdout."""
    print(json.dumps(event.to_dict()), flush=True)


class PoolBackend:
    """The plain screen: each event is written, and that is all."""

    def __init__(self, write: Callable[[Event], None], *, progress: bool) -> None:
        self._write = write
        self.wants_progress = progress

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def tell(self, event: Event) -> None:
        """Write an event."""
        self._write(event)


def screen_for(
    *, client: AsyncVideoClient, tally: Tally, progress: bool = False, as_json: bool = False
) -> Screen:
    """
    Choose the screen: live when stderr is a terminal and rich is installed, else lines.

    On a shared terminal the live view tells what the lines would, but for JSON, which no live
    view disturbs.  Neither does one disturb what comes out of a pipe, such as ``| tee log``,
    on the same terminal in all likelihood.
    """
    write = write_json if as_json else write_line
    lines = PoolBackend(write, progress=progress)
    is_shared = _is_terminal(sys.stdout)
    if not _is_terminal(sys.stderr) or (as_json and is_shared) or _is_pipe(sys.stdout):
        return lines
    try:
        from ezvideo_async.cli.live_view import View  # noqa: PLC0415 -- rich is in the extra "cli"
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return lines
    view = View(client=client, tally=tally, lines=None if is_shared else lines, as_json=as_json)
    return view if view.is_possible else lines


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _is_pipe(stream: TextIO | None) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode if stream is not None else 0
    except OSError:  # no file of the system's, but a fake
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
