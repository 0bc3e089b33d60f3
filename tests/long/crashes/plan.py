"""Plan of a crash test: when each task changes, and how each one finishes."""

from __future__ import annotations

import random

from attrs import frozen

_KILL_AFTER = 0.05, 1.0  # seconds
_FAILED_EVERY = 5  # tasks


@frozen(kw_only=True)
class Plan:
    """
    A plan; all of it follows from these numbers.

    Attributes:
        kills: Watches that are killed; the last watch, which is not, comes after them.
        ids: Tasks.
        seed: Of the instants of the kills.
    """

    kills: int
    ids: int
    seed: int

    @property
    def task_ids(self) -> list[str]:
        """All ids, those that finish first first."""
        return [f"vid_{number}" for number in range(self.ids)]

    def kill_after(self, life: int) -> float:
        """Return how many seconds a watch lives."""
        return random.Random(f"{self.seed} {life}").uniform(*_KILL_AFTER)

    def final_status(self, task_id: str) -> str:
        """Return how a task finishes."""
        return "failed" if _number_of(task_id) % _FAILED_EVERY == 0 else "completed"

    def status(self, task_id: str, life: int) -> str:
        """Return what the server shows of a task; the last tasks finish after the last kill."""
        finishes_in = 1 + _number_of(task_id) * self.kills // self.ids
        if life >= finishes_in:
            return self.final_status(task_id)
        return "processing" if life == finishes_in - 1 else "pending"


def _number_of(task_id: str) -> int:
    return int(task_id.removeprefix("vid_"))
