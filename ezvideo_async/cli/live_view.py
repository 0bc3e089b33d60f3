"""
The live view: drawn on stderr with rich, four times a second at most.

Never one row per task: a window of the rows that changed last, one bar, one line of counts.
When stdout is the same terminal, endings are printed above the view, a bundle per refresh.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ezvideo_async import ProgressChanged
from ezvideo_async.cli import frame as _frame
from ezvideo_async.cli.formatting import event_line

if TYPE_CHECKING:
    from types import TracebackType

    from ezvideo_async import AsyncVideoClient, Event
    from ezvideo_async.cli.output import PoolBackend
    from ezvideo_async.cli.summary import Tally

_EVERY = 0.25  # seconds between two refreshes
_MOST_ROWS = 10
_OTHER_LINES = 5  # a blank, the bar, the counts, and room for endings
_PACE_TICKS = 20  # the pace is measured over five seconds


class View:
    """
    A screen that lives.

    Args:
        client: Tells how many requests were sent, and what holds them back.
        tally: Counts; it is only read here.
        lines: Where events go besides; None when stdout is this terminal, too.
        as_json: Whether *lines* are for programs, which want no event but what they asked for.
    """

    def __init__(
        self, *, client: AsyncVideoClient, tally: Tally, lines: PoolBackend | None, as_json: bool
    ) -> None:
        self._client = client
        self._tally = tally
        self._lines = lines
        self.wants_progress = not as_json or (lines is not None and lines.wants_progress)
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._mark = "━" if self._console.encoding.startswith("utf") else "#"
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        self._changed: dict[str, Event] = {}
        self._endings: list[str] = []
        self._samples: deque[tuple[float, int]] = deque(maxlen=_PACE_TICKS)
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_possible(self) -> bool:
        """Whether the terminal can draw over what it has drawn."""
        return self._console.is_interactive and not self._console.is_dumb_terminal

    def __enter__(self) -> Self:
        self._began = self._now()
        self._live.start()
        self._tick()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.update(Text())
            self._print_endings()
            self._live.stop()

    def tell(self, event: Event) -> None:
        """Show an event in the window, and print it where it can be kept."""
        self._changed[event.task_id] = event  # a row stays where it is
        if len(self._changed) > _MOST_ROWS:
            del self._changed[min(self._changed, key=lambda shown: self._changed[shown].at)]
        if self._lines is None:
            self._keep_ending(event)
        elif self._lines.wants_progress or not isinstance(event, ProgressChanged):
            self._lines.tell(event)

    def _keep_ending(self, event: Event) -> None:
        if event.is_final:
            self._endings.append(event_line(event, with_date=False))
            self._changed.pop(event.task_id, None)

    # -- drawing ----------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self._tick)
        self._samples.append((self._now(), self._client.requests_sent))
        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.update(self._frame())
            self._print_endings()
            self._live.refresh()

    def _print_endings(self) -> None:
        if self._endings:
            lines, self._endings = "\n".join(self._endings), []
            self._console.print(Text(lines), soft_wrap=True)

    def _frame(self) -> Group:
        width, height = self._console.size
        tally, mark = self._tally, self._mark
        window = list(self._changed.values())[-max(height - _OTHER_LINES, 1) :]
        elapsed = self._now() - self._began
        return Group(
            "",
            *_frame.rows(window, width=width, mark=mark),
            _frame.bar(tally, width=width, mark=mark, elapsed=elapsed, pace=self._pace()),
            _frame.counts(tally, width=width),
        )

    def _pace(self) -> str:
        """Say how fast requests go out, or what holds them back."""
        budget, now = self._client.budget, self._now()
        if budget.is_server_out:
            return "the server is out, probing"
        cool_down = budget.cool_down_left(now)
        if cool_down > 0:
            return f"the server asks to pause, {cool_down:.0f} s"
        (since, sent_then), (_, sent) = self._samples[0], self._samples[-1]
        return f"{(sent - sent_then) / max(now - since, _EVERY):.1f} requests/s"
