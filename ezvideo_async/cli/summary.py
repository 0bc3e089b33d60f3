"""Counts of a watch by task state, its summary lines and its exit code."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from ezvideo_async import TaskFailed, TaskLost
from ezvideo_async.cli.exit_codes import COMPLETED, NOT_ALL_COMPLETED, STILL_OPEN
from ezvideo_async.cli.formatting import (
    clean,
    count_text,
    duration_text,
    failure_reason,
    loss_reason,
    state_of,
    truncate,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ezvideo_async import Event, VideoTask

FINAL_STATES = ("completed", "failed", "lost")
NO_STATUS = "without status"
_MAX_REASONS = 5
_MAX_REASON_LENGTH = 100  # characters
_LOST_HINT = "(lost: no longer polled; the task may still be running and be billed)"


class Summary:
    """
    The last state of each watched task.

    Attributes:
        counts: The number of tasks by state: ``without status``, ``pending``,
            ``processing``, ``completed``, ``failed``, ``lost``.
        total: The number of tasks.
        last_seq: The number of the last event; 0 before the first one.
        restored: The number of tasks that a store had.
        skipped: The number of given tasks that ended in an earlier watch with the same store.
    """

    def __init__(self, task_ids: Iterable[str]) -> None:
        self._states = dict.fromkeys(task_ids, NO_STATUS)
        self.total: int = len(self._states)
        self.last_seq: int = 0
        self.restored: int = 0
        self.skipped: int = 0
        self.counts: Counter[str] = Counter({NO_STATUS: self.total})
        self._reasons: dict[str, Counter[str]] = {"failed": Counter(), "lost": Counter()}
        self._timed_out: set[str] = set()
        self._has_lost_seen_task = False

    def set_watched(self, tasks: Mapping[str, VideoTask | None], *, restored: int) -> None:
        """
        Replace the ids by those that are watched, *restored* of which a store had.

        A stored final state does not count before its event.
        """
        self.skipped = len(self._states.keys() - tasks.keys())
        self.restored, self.total = restored, len(tasks)
        self._states = {
            task_id: NO_STATUS if task is None or task.is_terminal else str(task.status)
            for task_id, task in tasks.items()
        }
        self.counts = Counter(self._states.values())

    def record(self, event: Event) -> None:
        """Record one event."""
        self.last_seq = event.seq
        state = state_of(event)
        if state != "stalled":
            self.counts[self._states[event.task_id]] -= 1
            self.counts[state] += 1
            self._states[event.task_id] = state
        if isinstance(event, TaskFailed):
            self._record_reason("failed", failure_reason(event.task), event.task_id)
        elif isinstance(event, TaskLost):
            self._record_reason("lost", loss_reason(event), event.task_id)
            self._has_lost_seen_task = self._has_lost_seen_task or event.task is not None
            if event.reason == "deadline":
                self._timed_out.add(event.task_id)

    def _record_reason(self, state: str, reason: str, task_id: str) -> None:
        # Servers quote the id: without it, equal reasons are counted together.
        same = re.sub(rf"(?<!\w){re.escape(clean(task_id))}(?!\w)", "ID", reason)
        self._reasons[state][truncate(same, _MAX_REASON_LENGTH)] += 1

    @property
    def ended(self) -> int:
        """The number of tasks that have had their final event."""
        return sum(self.counts[state] for state in FINAL_STATES)

    @property
    def ids_without_final_event(self) -> list[str]:
        """The ids that have not had their final event, in the order given."""
        return [task_id for task_id, state in self._states.items() if state not in FINAL_STATES]

    @property
    def open_ids(self) -> list[str]:
        """The ids that may still finish, those past the timeout included, in the order given."""
        return [
            task_id
            for task_id, state in self._states.items()
            if state not in FINAL_STATES or task_id in self._timed_out
        ]

    @property
    def timed_out_ids(self) -> list[str]:
        """The ids past the timeout, in the order given."""
        return [task_id for task_id in self._states if task_id in self._timed_out]

    @property
    def exit_code(self) -> int:
        """4 if a task exceeded the timeout; else 1 if one failed or was lost; else 0."""
        if self._timed_out:
            return STILL_OPEN
        return NOT_ALL_COMPLETED if self.counts["failed"] + self.counts["lost"] else COMPLETED

    def lines(self, *, elapsed: float, requests: int) -> Iterator[str]:
        """Yield the summary: counts, requests and seconds, then the most frequent reasons."""
        counts = ", ".join(f"{self.counts[state]:,} {state}" for state in FINAL_STATES)
        still_open = f", {self.total - self.ended:,} still open" if self.ended < self.total else ""
        yield (
            f"{count_text(self.total, 'task')}: {counts}{still_open}; "
            f"{count_text(requests, 'request')} in {duration_text(elapsed)}"
        )
        if self.restored:
            yield f"  {self.restored:,} restored from the store"
        if self.skipped:
            yield f"  {self.skipped:,} ended in an earlier watch; not watched again"
        for state, reasons in self._reasons.items():
            yield from _reason_lines(state, reasons)
        if self._has_lost_seen_task:
            yield f"  {_LOST_HINT}"


def _reason_lines(state: str, reasons: Counter[str]) -> Iterator[str]:
    shown = reasons.most_common(_MAX_REASONS)
    for reason, number in shown:
        yield f"  {number:,} {state}: {reason}"
    others = reasons.total() - sum(number for _, number in shown)
    if others:
        yield f"  {others:,} {state} for other reasons"
