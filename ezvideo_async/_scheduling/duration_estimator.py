"""
Estimates of how long tasks run, by model, from the tasks that finished.

1. One :class:`DurationEstimator` is about one server; each model is estimated separately.
2. Only tasks that were seen running count.  Durations come only from tasks that were young when
   first seen, since of the others the short ones have been missed.
3. A duration counts up to the last poll that saw the task running.  So an end in a long delay
   counts as an early one, and a server that has become faster is noticed after four tasks.
4. Memory is bounded: a fixed number of tasks and models, none older than six hours.
"""

from __future__ import annotations

from collections import deque
from statistics import fmean
from sys import intern
from typing import TYPE_CHECKING, NamedTuple

from attrs import define, field

if TYPE_CHECKING:
    from ezvideo_async._domain.task import VideoTask

_ONE_IN = 50  # the quiet time ends at the age that all but one in 50 tasks reach
_WINDOW = 200  # durations kept per model: the fourth smallest is that age then
_LEAST = 50  # durations from which on there is such an age
_MEAN_MAX = 10.0  # with a mean of more such ages, the quiet time costs more requests than it saves

_LAST, _HITS = 20, 18  # progress is trusted while 18 of the last 20 predictions were right
_NEAR = 0.1  # a right prediction is off by at most this share of the age
_PREDICTIVE = 20  # percent from which on a progress predicts the end
_MOVES = 1.5  # percent by which a linear progress would have moved: then it must have moved
_MOVES_SEEN = 3  # moves without which a right prediction proves nothing

_YOUNG = 15.0  # seconds: a task first seen at this age was watched from its start
_SKEW = 5.0  # seconds by which the server's clock may be ahead; beyond that, ages are unknown
_KEPT_FOR = 21_600.0  # seconds, six hours: by then the load of a server has changed
_MODELS_MAX = 32
_MODEL_NAME_MAX = 200  # characters; a longer name is no model's
_DONE = 100  # percent


class Prediction(NamedTuple):
    """
    What is predicted of a running task.

    Attributes:
        age: Seconds since it was created; None when unknown.
        quiet_until: The age, in seconds, that all but one in 50 tasks reach; None when unknown.
        ends_at: The age at which it finishes by its progress; None when that is not trusted.
    """

    age: float | None = None
    quiet_until: float | None = None
    ends_at: float | None = None


UNKNOWN = Prediction()


@define(eq=False, weakref_slot=False)
class RunObservation:
    """
    What polls have shown of a running task.

    Attributes:
        created: When the task was created, loop clock.
        is_young: Whether it was first seen soon after that.
        last_age: Its age when it was last seen running, seconds.
        progress: Its progress then, whole percent.
        predicted_end: The age at which it should finish, by the first predictive progress.
        moved: Polls in which the progress had moved, where it had to.
        stuck: Polls in which it had not.
    """

    model: str | None
    created: float
    is_young: bool
    last_age: float
    progress: int | None = field(init=False, default=None)
    predicted_end: float | None = field(init=False, default=None)
    moved: int = field(init=False, default=0)
    stuck: int = field(init=False, default=0)

    def record(self, age: float, progress: int | None) -> None:
        """Record that the task runs at this age, in seconds."""
        before = self.progress
        if (
            before
            and progress is not None
            and before * (age - self.last_age) >= _MOVES * self.last_age
        ):
            self.moved += progress > before
            self.stuck += progress <= before
        self.last_age, self.progress = age, progress
        if self.predicted_end is None and progress is not None and progress >= _PREDICTIVE:
            self.predicted_end = age * _DONE / progress

    @property
    def ends_at(self) -> float | None:
        """The age at which it finishes if progress continues as before; None if it does not."""
        if not self.progress or self.stuck:
            return None
        if self.predicted_end is not None and self.last_age > self.predicted_end * (1.0 + _NEAR):
            return None
        return self.last_age * _DONE / self.progress

    def was_right(self, age: float) -> bool | None:
        """Check the prediction against the age at the end; None if that proves nothing."""
        if self.predicted_end is None:
            return None
        slack = _NEAR * age
        is_right = not self.stuck and self.last_age - slack <= self.predicted_end <= age + slack
        return None if is_right and self.moved < _MOVES_SEEN else is_right


@define(eq=False)
class _ModelRecords:
    """Durations and checked predictions of one model's tasks, with their instants, oldest first."""

    durations: deque[tuple[float, float]] = field(factory=lambda: deque(maxlen=_WINDOW))
    checks: deque[tuple[float, bool]] = field(factory=lambda: deque(maxlen=_LAST))
    quiet_until: float | None = None
    is_progress_trusted: bool = False

    def record(self, observation: RunObservation, now: float) -> None:
        if observation.is_young:
            self.durations.append((now, observation.last_age))
        was_right = observation.was_right(now - observation.created)
        if was_right is not None:
            self.checks.append((now, was_right))
        self._update()

    def drop_older(self, before: float) -> None:
        is_less = False
        for ends in (self.durations, self.checks):
            while ends and ends[0][0] < before:
                ends.popleft()
                is_less = True
        if is_less:
            self._update()

    def _update(self) -> None:
        self.quiet_until = _quiet_until([duration for _, duration in self.durations])
        self.is_progress_trusted = sum(was_right for _, was_right in self.checks) >= _HITS


def _quiet_until(durations: list[float]) -> float | None:
    if len(durations) < _LEAST:
        return None
    # Of n durations the k-th smallest is outlived by all but k in n + 1.
    early = sorted(durations)[(len(durations) + 1) // _ONE_IN - 1]
    return early if fmean(durations) <= _MEAN_MAX * early else None


class DurationEstimator:
    """The durations of one server's tasks, by model; shared by all watchers of one client."""

    def __init__(self) -> None:
        self._models: dict[str | None, _ModelRecords] = {}  # the least recently used first

    def __len__(self) -> int:
        """Return the number of models with records."""
        return len(self._models)

    def observe(
        self, observation: RunObservation | None, task: VideoTask, *, now: float, unix_now: float
    ) -> RunObservation | None:
        """
        Record a state of a task of which polls have shown *observation* before.

        Returns:
            The observation, updated; None when the age is unknown or the task has finished.
        """
        if task.is_terminal:
            if observation is not None:
                self._record_end(observation, now)
            return None
        observation = observation or _first_observation(task, now, unix_now)
        if observation is not None:
            observation.record(now - observation.created, task.progress)
        return observation

    def _record_end(self, observation: RunObservation, now: float) -> None:
        records = self._models.pop(observation.model, None) or _ModelRecords()
        records.drop_older(now - _KEPT_FOR)
        records.record(observation, now)
        self._models[observation.model] = records
        if len(self._models) > _MODELS_MAX:
            del self._models[next(iter(self._models))]

    def predict(self, observation: RunObservation | None, *, now: float) -> Prediction:
        """Predict the end of a task that was just seen running."""
        if observation is None:
            return UNKNOWN
        records = self._models.get(observation.model)
        if records is None:
            return Prediction(observation.last_age)
        records.drop_older(now - _KEPT_FOR)
        ends_at = observation.ends_at if records.is_progress_trusted else None
        return Prediction(observation.last_age, records.quiet_until, ends_at)


def _first_observation(task: VideoTask, now: float, unix_now: float) -> RunObservation | None:
    if task.created_at is None or (task.model is not None and len(task.model) > _MODEL_NAME_MAX):
        return None
    age = unix_now - task.created_at.timestamp()
    if age < -_SKEW:
        return None
    age = max(0.0, age)
    model = None if task.model is None else intern(str(task.model))  # one string for all its tasks
    return RunObservation(model=model, created=now - age, is_young=age <= _YOUNG, last_age=age)
