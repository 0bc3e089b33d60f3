"""
What tasks that ended teach about those that run: how long they take, and if progress tells.

No await, no clock, no randomness of its own: ``now`` is the loop clock in seconds, ``unix_now``
the wall clock.  Rules:

1. One :class:`DurationEstimator` is about one server; within it each model has habits of its own.
2. Only what was seen running teaches: an id that had ended at the first look says nothing about
   pauses between looks.  How long tasks take is taught only by those first seen when young, since
   of the others the short-lived have been missed.
3. What counts of an end is when the task was last seen running.  So an end in a long pause counts
   as an early one, and a server that has become faster is believed after the fourth.
4. It is bounded: so many ends, of so many models, none older than ``_KEPT_FOR``.
"""

from __future__ import annotations

from collections import deque
from statistics import fmean
from sys import intern
from typing import TYPE_CHECKING, NamedTuple

from attrs import define, field

if TYPE_CHECKING:
    from ezvideo_async._domain.task import VideoTask

_ONE_IN = 50
"""The quiet time is over at the age that all but one in 50 tasks reach: the 2 % quantile."""

_WINDOW = 200
"""Ends that are kept of a model: the quantile is the fourth smallest then."""

_LEAST = 50
"""Ends from which on there is a quantile."""

_LONGEST_MEAN = 10.0
"""With a mean this many times the quantile the quiet time saves less than what it costs later."""

_LAST, _HITS = 20, 18
"""Progress is trusted while 18 of the last 20 reckonings were right."""

_NEAR = 0.1
"""A reckoning is right when it is off by no more than this share of the age."""

_TELLING = 20
"""Percent from which on a progress tells how fast it moves."""

_MOVES = 1.5
"""Percent by which an honest progress would have moved on: then it must have."""

_MOVES_SEEN = 3
"""Moves without which a right reckoning proves nothing."""

_YOUNG = 15.0
"""Seconds: a task first seen at this age at most was watched from its beginning."""

_SKEW = 5.0
"""Seconds by which the server's clock may be ahead of ours; beyond, ages are not known."""

_KEPT_FOR = 21_600.0
"""Seconds, six hours: the load of a server, and so its pace, is another one by then."""

_MODELS = 32
_LONGEST_NAME = 200
"""Characters; what calls itself longer is no model."""

_DONE = 100


class Prediction(NamedTuple):
    """
    What ``PollPolicy.delay`` is told of a running task.

    Attributes:
        age: Seconds since it was created; None when unknown.
        quiet_until: The age, in seconds, that all but one in 50 tasks reach; None when unknown.
        ends_at: The age at which it ends by its progress; None when that can't be trusted.
    """

    age: float | None = None
    quiet_until: float | None = None
    ends_at: float | None = None


UNKNOWN = Prediction()


@define(eq=False, weakref_slot=False)
class RunObservation:
    """
    What was seen of a running task.

    Attributes:
        model: Whose habits it has.
        born: When it was created, loop clock.
        is_young: It was first seen soon after that.
        alive: Its age when it was last seen running, seconds.
        progress: What it showed then, whole percent.
        reckoned: The age at which it should end, by the first progress that tells.
        moved: Looks in which the progress had moved on, where it had to.
        stood: Looks in which it had not.
    """

    model: str | None
    born: float
    is_young: bool
    alive: float
    progress: int | None = field(init=False, default=None)
    reckoned: float | None = field(init=False, default=None)
    moved: int = field(init=False, default=0)
    stood: int = field(init=False, default=0)

    def note(self, age: float, progress: int | None) -> None:
        """Take in that it runs, at this age and with this progress."""
        before = self.progress
        if before and progress is not None and before * (age - self.alive) >= _MOVES * self.alive:
            self.moved += progress > before
            self.stood += progress <= before
        self.alive, self.progress = age, progress
        if self.reckoned is None and progress is not None and progress >= _TELLING:
            self.reckoned = age * _DONE / progress

    @property
    def ends_at(self) -> float | None:
        """The age at which it ends if progress goes on as before; None when it does not."""
        if not self.progress or self.stood:
            return None
        if self.reckoned is not None and self.alive > self.reckoned * (1.0 + _NEAR):
            return None
        return self.alive * _DONE / self.progress

    def was_right(self, age: float) -> bool | None:
        """Judge the reckoning by the age at which the end was seen; None when nothing is proven."""
        if self.reckoned is None:
            return None
        slack = _NEAR * age
        is_right = not self.stood and self.alive - slack <= self.reckoned <= age + slack
        return None if is_right and self.moved < _MOVES_SEEN else is_right


@define(eq=False)
class _Habits:
    """What the ends of one model's tasks taught; each with its instant, oldest first."""

    lives: deque[tuple[float, float]] = field(factory=lambda: deque(maxlen=_WINDOW))
    verdicts: deque[tuple[float, bool]] = field(factory=lambda: deque(maxlen=_LAST))
    quiet_until: float | None = None
    is_progress_trusted: bool = False

    def learn(self, look: RunObservation, now: float) -> None:
        """Take in the end of a task."""
        if look.is_young:
            self.lives.append((now, look.alive))
        was_right = look.was_right(now - look.born)
        if was_right is not None:
            self.verdicts.append((now, was_right))
        self._conclude()

    def forget(self, before: float) -> None:
        """Drop what is older than an instant."""
        is_less = False
        for ends in (self.lives, self.verdicts):
            while ends and ends[0][0] < before:
                ends.popleft()
                is_less = True
        if is_less:
            self._conclude()

    def _conclude(self) -> None:
        self.quiet_until = _quiet_until([life for _, life in self.lives])
        self.is_progress_trusted = sum(was_right for _, was_right in self.verdicts) >= _HITS


def _quiet_until(lives: list[float]) -> float | None:
    if len(lives) < _LEAST:
        return None
    # Of n lives the k-th smallest is outlived by all but k in n + 1.
    early = sorted(lives)[(len(lives) + 1) // _ONE_IN - 1]
    return early if fmean(lives) <= _LONGEST_MEAN * early else None


class DurationEstimator:
    """What one server's tasks taught, by model; shared by all watches of one client."""

    def __init__(self) -> None:
        self._habits: dict[str | None, _Habits] = {}  # the least recently taught first

    def __len__(self) -> int:
        """How many models are known."""
        return len(self._habits)

    def seen(
        self, look: RunObservation | None, task: VideoTask, *, now: float, unix_now: float
    ) -> RunObservation | None:
        """
        Take in a task's state.

        Args:
            look: What was seen of it before; None for nothing.
            task: The state.
            now: The loop clock.
            unix_now: The wall clock.

        Returns:
            What has been seen of it now; None when its age is unknown, or it has ended.
        """
        if not task.is_terminal:
            look = _first_look(task, now, unix_now) if look is None else look
            if look is not None:
                look.note(now - look.born, task.progress)
            return look
        if look is not None:
            self._learn(look, now)
        return None

    def _learn(self, look: RunObservation, now: float) -> None:
        habits = self._habits.pop(look.model, None) or _Habits()
        habits.forget(now - _KEPT_FOR)
        habits.learn(look, now)
        self._habits[look.model] = habits
        if len(self._habits) > _MODELS:
            del self._habits[next(iter(self._habits))]

    def outlook(self, look: RunObservation | None, *, now: float) -> Prediction:
        """Say what is known of a task that was just seen running."""
        if look is None:
            return UNKNOWN
        habits = self._habits.get(look.model)
        if habits is None:
            return Prediction(look.alive)
        habits.forget(now - _KEPT_FOR)
        ends_at = look.ends_at if habits.is_progress_trusted else None
        return Prediction(look.alive, habits.quiet_until, ends_at)


def _first_look(task: VideoTask, now: float, unix_now: float) -> RunObservation | None:
    if task.created_at is None or (task.model is not None and len(task.model) > _LONGEST_NAME):
        return None
    age = unix_now - task.created_at.timestamp()
    if age < -_SKEW:
        return None
    age = max(0.0, age)
    model = None if task.model is None else intern(str(task.model))  # one text for all its tasks
    return RunObservation(model=model, born=now - age, is_young=age <= _YOUNG, alive=age)
