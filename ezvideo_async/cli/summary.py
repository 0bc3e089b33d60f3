"""
Counts what a watch has told so far, and sums it up.

No await, no clock, no randomness, no I/O.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ezvideo_async import TaskFailed, TaskLost
from ezvideo_async.cli import exit_codes as _exits
from ezvideo_async.cli.formatting import (
    counted,
    cut,
    duration,
    failed_because,
    lost_because,
    word_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ezvideo_async import Event

ENDS = ("completed", "failed", "lost")
_MOST_REASONS = 5
_LONGEST_REASON = 100  # characters
_LOST_MEANS = "lost tasks are no longer looked for; they may still run, and be billed"


class Tally:
    """
    The last word about each task.

    Attributes:
        counts: How many tasks are ``unseen``, ``pending``, ``processing``, ``completed``,
            ``failed`` and ``lost`` now.
        total: How many tasks there are.
    """

    def __init__(self, task_ids: Iterable[str]) -> None:
        self._words = dict.fromkeys(task_ids, "unseen")
        self.total = len(self._words)
        self.counts = Counter(unseen=self.total)
        self._reasons: dict[str, Counter[str]] = {"failed": Counter(), "lost": Counter()}
        self._past_deadline: set[str] = set()

    def count(self, event: Event) -> None:
        """Take in one event."""
        word = word_of(event)
        if word != "stalled":
            self.counts[self._words[event.task_id]] -= 1
            self.counts[word] += 1
            self._words[event.task_id] = word
        if isinstance(event, TaskFailed):
            self._reasons["failed"][_shortened(failed_because(event.task))] += 1
        elif isinstance(event, TaskLost):
            self._reasons["lost"][_shortened(lost_because(event))] += 1
            if event.reason == "deadline":
                self._past_deadline.add(event.task_id)

    @property
    def ended(self) -> int:
        """How many tasks have ended."""
        return sum(self.counts[word] for word in ENDS)

    @property
    def open_ids(self) -> list[str]:
        """The ids whose own end has not been told, be our time up or not, in the order given."""
        return [
            task_id
            for task_id, word in self._words.items()
            if word not in ENDS or task_id in self._past_deadline
        ]

    @property
    def exit_code(self) -> int:
        """1 when a task failed or got lost, but for the time limit; then 4; else 0."""
        if self.counts["failed"] + self.counts["lost"] > len(self._past_deadline):
            return _exits.NOT_ALL_COMPLETED
        return _exits.STILL_OPEN if self._past_deadline else _exits.COMPLETED

    def summary(self, *, elapsed: float, requests: int) -> Iterator[str]:
        """Sum up the watch in lines: counts, requests, seconds, and the reasons."""
        ends = ", ".join(f"{self.counts[word]:,} {word}" for word in ENDS)
        still_open = f", {self.total - self.ended:,} still open" if self.ended < self.total else ""
        yield (
            f"{counted(self.total, 'task')}: {ends}{still_open}; "
            f"{counted(requests, 'request')} in {duration(elapsed)}"
        )
        for word, reasons in self._reasons.items():
            yield from _reason_lines(word, reasons)
        if self.counts["lost"]:
            yield f"  {_LOST_MEANS}"


def _shortened(reason: str) -> str:
    return cut(reason, _LONGEST_REASON)


def _reason_lines(word: str, reasons: Counter[str]) -> Iterator[str]:
    for reason, number in reasons.most_common(_MOST_REASONS):
        yield f"  {number:,} {word}: {reason}"
    others = sum(reasons.values()) - sum(n for _, n in reasons.most_common(_MOST_REASONS))
    if others:
        yield f"  {others:,} {word} for other reasons"
