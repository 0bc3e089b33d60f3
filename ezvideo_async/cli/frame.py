"""
The live view as lines of cells: the rows that changed last, a bar, the counts.

No await, no clock, no randomness, no I/O.  A cell is a column of the terminal; a CJK character
takes two.  No line is wider than asked for, whatever a server says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from ezvideo_async import TaskCompleted, TaskFailed, TaskLost
from ezvideo_async.cli.clean import clean
from ezvideo_async.cli.formatting import detail_of, duration, failed_because, lost_because, word_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezvideo_async import Event
    from ezvideo_async.cli.summary import Tally

_STYLES = {
    "completed": "green",
    "failed": "red",
    "lost": "magenta",
    "processing": "cyan",
    "pending": "yellow",
    "stalled": "bold yellow",
    "unseen": "dim",
}
_SHORTEST_ID, _ID_SHARE = 10, 3  # cells; an id takes a third of the line at most
_WORD = 10  # cells of the longest word, "processing"
_TASK_BAR = 20  # cells
_EMOJI_STYLE = "\ufe0f"
"""Terminals disagree on how wide it makes what it follows."""


def fit(text: str, width: int) -> str:
    """Pad or cut *text* to exactly *width* cells; a cut ends with ``…``."""
    plain = text.replace(_EMOJI_STYLE, "")
    if cell_len(plain) <= width:
        return plain + " " * (width - cell_len(plain))
    return set_cell_size(plain, max(width - 1, 0)) + "…"[:width]


def rows(events: Iterable[Event], *, width: int, mark: str) -> list[Text]:
    """Draw one line for each event: id, word, and the progress or the reason."""
    shown = [(clean(event.task_id), event) for event in events]
    longest = max((cell_len(task_id) for task_id, _ in shown), default=0)
    of_id = max(_SHORTEST_ID, min(longest, width // _ID_SHARE))
    return [_row(task_id, event, of_id, width, mark) for task_id, event in shown]


def _row(task_id: str, event: Event, of_id: int, width: int, mark: str) -> Text:
    word = word_of(event)
    line = Text(no_wrap=True)
    line.append(fit(task_id, of_id) + " ")
    line.append(f"{word:<{_WORD}} ", _STYLES[word])
    left = max(width - of_id - _WORD - 2, 0)
    progress = None if event.task is None else event.task.progress
    if word in {"processing", "pending"} and progress is not None:
        line.append(fit(f"{progress:3}% " + mark * (_TASK_BAR * progress // 100), left), "cyan")
    else:
        line.append(fit(_short_detail(event), left), "dim")
    line.truncate(width)
    return line


def _short_detail(event: Event) -> str:
    if isinstance(event, TaskFailed):
        return failed_because(event.task)
    if isinstance(event, TaskLost):
        return lost_because(event)
    if isinstance(event, TaskCompleted):
        return clean((event.task.url or "").partition("?")[0])
    return detail_of(event)


def bar(tally: Tally, *, width: int, mark: str, elapsed: float, pace: str) -> Text:
    """Draw how many tasks have ended, for how long we watch, and how fast we ask."""
    words = f" {tally.ended:,}/{tally.total:,} ended  {duration(elapsed)}  {pace}"
    room = max(width - cell_len(words), 0)
    done = room * tally.ended // max(tally.total, 1)
    line = Text(no_wrap=True)
    line.append(mark * done, "green")
    line.append(mark * (room - done) if mark != "#" else "." * (room - done), "bright_black")
    line.append(words)
    line.truncate(width)
    return line


def counts(tally: Tally, *, width: int) -> Text:
    """Draw how many tasks there are in each state."""
    line = Text(no_wrap=True)
    for word in ("completed", "failed", "lost", "processing", "pending", "unseen"):
        number = tally.counts[word]
        if number or word in {"completed", "failed", "lost"}:
            line.append(f"{number:,} {word}  ", _STYLES[word] if number else "dim")
    line.truncate(width)
    return line
