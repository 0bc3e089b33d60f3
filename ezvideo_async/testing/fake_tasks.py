"""
The life of one fake task as a function of time.

No await, no clock, no randomness: every instant arrives as an argument.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

OUTCOMES = ("cancelled", "completed", "expired", "failed", "lost", "never")
PROGRESS_KINDS = ("coarse", "linear", "none", "stuck")

# Share of the duration before processing starts.
QUEUED_SHARE = 0.1
# Percent.  A task that runs has not finished, whatever its age.
MAX_RUNNING_PROGRESS = 99
# Percent at which a "stuck" task stops, and the steps of a "coarse" one.
STUCK_PROGRESS = 50
COARSE_STEP = 30
# Percent; forgives the rounding of 100 * elapsed / duration.
ROUNDING = 1e-9


@attrs.frozen(kw_only=True)
class FakeTaskState:
    """
    What the fake server knows about one task at one instant.

    Attributes:
        task_id: The id as given to ``add_task``.
        phase: ``submitted`` (a gateway has not looked at it yet), ``queued``, ``running``, or how
            it ended: ``completed``, ``failed``, ``cancelled``, ``expired``, ``lost``.
        progress: Whole percent, 0-100; None when the task shows none.
        row: Number of the task on its server, from 1.
        created_at: Unix seconds.
        updated_at: Unix seconds of the instant this state describes.
        ended_at: Unix seconds; None while the task has not ended.
    """

    task_id: str
    phase: str
    progress: int | None
    row: int
    created_at: int
    updated_at: int
    ended_at: int | None = None


@attrs.define(kw_only=True)
class FakeTask:
    """
    The script of one task; instants are seconds on the loop clock.

    Attributes:
        origin: Unix seconds at which the loop clock showed 0.
        ended: When the task was ended early; None when it follows its script.
    """

    task_id: str
    dialect: str
    row: int
    created: float
    duration: float = attrs.field(default=60.0)
    outcome: str = "completed"
    progress: str = "linear"
    origin: float = 0.0
    ended: float | None = None

    def __attrs_post_init__(self) -> None:
        if not self.task_id:
            raise ValueError("task_id must not be empty")
        if not (math.isfinite(self.duration) and self.duration >= 0):
            raise ValueError(f"duration must be finite seconds, 0 or more, not {self.duration!r}")
        check_word("outcome", self.outcome, OUTCOMES)
        check_word("progress", self.progress, PROGRESS_KINDS)

    def finish(self, *, outcome: str, now: float) -> None:
        """End the task at *now*; its script is over."""
        if self.state(now=now).ended_at is not None:
            raise ValueError(f"task {self.task_id!r} has already ended: {self.outcome}")
        check_word("outcome", outcome, tuple(word for word in OUTCOMES if word != "never"))
        self.outcome, self.ended = outcome, now

    def state(self, *, now: float) -> FakeTaskState:
        """Phase and progress at *now*, not earlier than its creation."""
        end = self._end()
        phase = self._phase(now, end)
        return FakeTaskState(
            task_id=self.task_id,
            phase=phase,
            progress=self._progress_at(min(now, end), phase),
            row=self.row,
            created_at=self._unix(self.created),
            updated_at=self._unix(now),
            ended_at=self._unix(end) if now >= end else None,
        )

    def submitted(self) -> FakeTaskState:
        """The state before a gateway first looked at the task."""
        return attrs.evolve(self.state(now=self.created), phase="submitted", ended_at=None)

    def _unix(self, instant: float) -> int:
        return int(self.origin + instant)

    def _end(self) -> float:
        if self.ended is not None:
            return self.ended
        return math.inf if self.outcome == "never" else self.created + self.duration

    def _phase(self, now: float, end: float) -> str:
        if now >= end:
            return self.outcome
        return "queued" if now < self.created + QUEUED_SHARE * self.duration else "running"

    def _progress_at(self, now: float, phase: str) -> int | None:
        if self.progress == "none":
            return None
        if phase == "completed":
            return 100
        percent = 100.0
        if self.duration:
            percent = 100 * (now - self.created) / self.duration
        if percent + ROUNDING < 100 * QUEUED_SHARE:
            return 0
        return _PROGRESS[self.progress](min(MAX_RUNNING_PROGRESS, math.floor(percent + ROUNDING)))


_PROGRESS: dict[str, Callable[[int], int]] = {
    "linear": lambda percent: percent,
    "coarse": lambda percent: COARSE_STEP if percent < STUCK_PROGRESS else STUCK_PROGRESS,
    "stuck": lambda percent: min(percent, STUCK_PROGRESS),
}


def check_word(name: str, word: str, words: tuple[str, ...]) -> None:
    """Raise a ValueError that lists *words* unless *word* is one of them."""
    if word not in words:
        raise ValueError(f"{name} must be one of {', '.join(words)}; not {word!r}")
