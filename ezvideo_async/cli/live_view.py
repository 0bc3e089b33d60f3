"""
Live view of a watch, drawn on stderr with rich at most four times a second.

It shows the rows that changed last, a progress bar and the counts by state, never one row per
task.  When stdout is the same terminal, final events are printed above the view, all new ones at
each refresh.  Widths are in terminal cells, of which a CJK character takes two; no line is wider
than the terminal, whatever a server sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from typing import TYPE_CHECKING, Self

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ezvideo_async import ProgressChanged, TaskCompleted, TaskFailed, TaskLost
from ezvideo_async._limits.budget import rate_limiter_of
from ezvideo_async.cli.formatting import (
    clean,
    duration_text,
    event_detail,
    event_line,
    failure_reason,
    loss_reason,
    state_of,
)
from ezvideo_async.cli.summary import FINAL_STATES, NO_STATUS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from ezvideo_async import AsyncVideoClient, Event
    from ezvideo_async.cli.output import LineOutput
    from ezvideo_async.cli.summary import Summary

_REFRESH_INTERVAL = 0.25  # seconds
_MAX_ROWS = 10
_OTHER_LINES = 5  # a blank, the bar, the counts, and two lines for final events
_RATE_SAMPLES = 20  # the request rate is measured over 20 refreshes, five seconds

_STYLES = {
    "completed": "green",
    "failed": "red",
    "lost": "magenta",
    "processing": "cyan",
    "pending": "yellow",
    "stalled": "bold yellow",
    NO_STATUS: "dim",
}
_MIN_ID_WIDTH, _MAX_ID_SHARE = 10, 3  # an id takes at most a third of the line
_STATE_WIDTH = len("processing")
_TASK_BAR_WIDTH = 20
_MAX_BAR_LINE = 100  # cells: its text stays near the rows on a wide terminal
_EMOJI_STYLE = "\ufe0f"
"""Terminals disagree on the width of the character before this one."""


class LiveView:
    """
    Event output that redraws a small view in place.

    Args:
        client: Read for the number of requests sent and the state of the budget.
        summary: Read for the counts; the caller records events in it.
        line_output: Also gets the events; None when stdout is the terminal of the view.
        as_json: Whether *line_output* writes JSON, which holds only the events asked for.
    """

    def __init__(
        self,
        *,
        client: AsyncVideoClient,
        summary: Summary,
        line_output: LineOutput | None,
        as_json: bool,
    ) -> None:
        self._client = client
        self._summary = summary
        self._line_output = line_output
        self.wants_progress: bool = not as_json or bool(line_output and line_output.wants_progress)
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._glyphs = _glyphs(
            is_utf=self._console.encoding.startswith("utf"),
            has_colors=self._console.color_system is not None and not self._console.no_color,
        )
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        self._recent: dict[str, Event] = {}
        self._final_lines: list[str] = []
        self._samples: deque[tuple[float, int]] = deque(maxlen=_RATE_SAMPLES)
        self._started_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_supported(self) -> bool:
        """Whether the terminal can redraw lines."""
        return self._console.is_interactive and not self._console.is_dumb_terminal

    def __enter__(self) -> Self:
        self._started_at = self._now()
        self._live.start()
        self._refresh()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(OSError):  # the terminal was closed
            self._live.update(Text())
            self._print_final_lines()
            self._live.stop()

    def show(self, event: Event) -> None:
        """Show an event in its row and write it to the line output."""
        self._recent[event.task_id] = event  # an existing row keeps its place
        if len(self._recent) > _MAX_ROWS:
            del self._recent[min(self._recent, key=lambda task_id: self._recent[task_id].at)]
        if self._line_output is None:
            self._keep_final_line(event)
        elif self._line_output.wants_progress or not isinstance(event, ProgressChanged):
            self._line_output.show(event)

    def _keep_final_line(self, event: Event) -> None:
        if event.is_final:
            self._final_lines.append(event_line(event, with_date=False))
            self._recent.pop(event.task_id, None)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _refresh(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_REFRESH_INTERVAL, self._refresh)
        self._samples.append((self._now(), self._client.requests_sent))
        with contextlib.suppress(OSError):  # the terminal was closed
            self._live.update(self._frame())
            self._print_final_lines()
            self._live.refresh()

    def _print_final_lines(self) -> None:
        if self._final_lines:
            lines, self._final_lines = "\n".join(self._final_lines), []
            self._console.print(Text(lines), soft_wrap=True)

    def _frame(self) -> Group:
        width, height = self._console.size
        return draw_frame(
            self._summary,
            list(self._recent.values())[-max(height - _OTHER_LINES, 1) :],
            width=width,
            elapsed=self._now() - self._started_at,
            rate=self._rate_text(),
            glyphs=self._glyphs,
        )

    def _rate_text(self) -> str:
        """Return the request rate, or why no requests are sent."""
        limiter, now = rate_limiter_of(self._client.budget), self._now()
        if limiter.is_circuit_open:
            return "server not responding, probing"
        cool_down = limiter.cool_down_left(now)
        if cool_down > 0:
            return f"rate limited, {cool_down:.0f} s left"
        (since, sent_then), (_, sent) = self._samples[0], self._samples[-1]
        return f"{(sent - sent_then) / max(now - since, _REFRESH_INTERVAL):.1f} requests/s"


def draw_frame(
    summary: Summary,
    events: Iterable[Event],
    *,
    width: int,
    elapsed: float,
    rate: str,
    glyphs: tuple[str, str] = ("━", "━"),
) -> Group:
    """
    Draw one frame of the live view: a blank line, a row per event, the bar, the counts.

    Args:
        summary: The counts.
        events: The last event of each task that has a row, at most ten in the live view.
        width: The width of the terminal, in cells.
        elapsed: Seconds since the watch began.
        rate: The text at the end of the bar, such as ``4.0 requests/s``.
        glyphs: The characters of which bars are made: of the done part, and of the rest.
    """
    return Group(
        "",
        *draw_rows(events, width=width, glyph=glyphs[0]),
        draw_bar(summary, width=width, elapsed=elapsed, rate=rate, glyphs=glyphs),
        draw_counts(summary, width=width),
    )


def _glyphs(*, is_utf: bool, has_colors: bool) -> tuple[str, str]:
    """Return the characters of the done part of a bar and of the rest."""
    done = "━" if is_utf else "#"
    return done, done if is_utf and has_colors else "."


def draw_rows(events: Iterable[Event], *, width: int, glyph: str) -> list[Text]:
    """Draw one line per event: the id, the state, and the progress or the reason."""
    rows = [(clean(event.task_id), event) for event in events]
    longest = max((cell_len(task_id) for task_id, _ in rows), default=0)
    id_width = max(_MIN_ID_WIDTH, min(longest, width // _MAX_ID_SHARE))
    return [_draw_row(task_id, event, id_width, width, glyph) for task_id, event in rows]


def _draw_row(task_id: str, event: Event, id_width: int, width: int, glyph: str) -> Text:
    state = state_of(event)
    line = Text(no_wrap=True)
    line.append(fit_id(task_id, id_width) + " ")
    line.append(f"{state:<{_STATE_WIDTH}} ", _STYLES[state])
    rest = max(width - id_width - _STATE_WIDTH - 2, 0)
    progress = None if event.task is None else event.task.progress
    if state == "processing" and progress is not None:
        task_bar = glyph * (_TASK_BAR_WIDTH * progress // 100)
        line.append(fit(f"{progress:3}% {task_bar}", rest), "cyan")
    else:
        line.append(fit(_short_detail(event), rest), "dim")
    line.truncate(width)
    return line


def _short_detail(event: Event) -> str:
    if isinstance(event, TaskFailed):
        return failure_reason(event.task)
    if isinstance(event, TaskLost):
        return loss_reason(event)
    if isinstance(event, TaskCompleted) and event.task.url:
        return clean(event.task.url.partition("?")[0])
    return event_detail(event)


def fit(text: str, width: int) -> str:
    """Pad or truncate *text* to exactly *width* cells; a truncated text ends with ``…``."""
    plain = text.replace(_EMOJI_STYLE, "")
    if cell_len(plain) <= width:
        return plain + " " * (width - cell_len(plain))
    return set_cell_size(plain, max(width - 1, 0)) + "…"[:width]


def fit_id(task_id: str, width: int) -> str:
    """Pad or truncate an id to exactly *width* cells, in the middle: ids share their first part."""
    plain = task_id.replace(_EMOJI_STYLE, "")
    if cell_len(plain) <= width:
        return fit(plain, width)
    start = set_cell_size(plain, max(width - 1, 0) // 2).rstrip()
    end = plain[max(len(plain) - width // 2, 0) :]
    while cell_len(end) > width // 2:
        end = end[1:]
    return fit(f"{start}…{end}", width)


def draw_bar(
    summary: Summary, *, width: int, elapsed: float, rate: str, glyphs: tuple[str, str]
) -> Text:
    """Draw the share of ended tasks as a bar, then their number, the time and the rate."""
    width = min(width, _MAX_BAR_LINE)
    text = f" {summary.ended:,}/{summary.total:,} ended  {duration_text(elapsed)}  {rate}"
    bar_width = max(width - cell_len(text), 0)
    filled = bar_width * summary.ended // max(summary.total, 1)
    line = Text(no_wrap=True)
    done, rest = glyphs
    line.append(done * filled, "green")
    line.append(rest * (bar_width - filled), "bright_black")
    line.append(text)
    line.truncate(width)
    return line


def draw_counts(summary: Summary, *, width: int) -> Text:
    """Draw the number of tasks in each state."""
    line = Text(no_wrap=True)
    for state in (*FINAL_STATES, "processing", "pending", NO_STATUS):
        number = summary.counts[state]
        if number or state in FINAL_STATES:
            line.append(f"{number:,} {state}  ", _STYLES[state] if number else "dim")
    line.truncate(width)
    return line
