"""Delays between the polls of one id: by policy, by prediction, after failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezvideo_async._scheduling.failure_kinds import is_local_stall
from ezvideo_async.errors import RateLimitError, TaskNotFoundError

if TYPE_CHECKING:
    from ezvideo_async._domain.policies import PollPolicy
    from ezvideo_async._protocol.messages import PollHint
    from ezvideo_async._scheduling.duration_estimator import (
        DurationEstimator,
        Prediction,
        RunObservation,
    )
    from ezvideo_async._scheduling.tracked_task import TrackedTask
    from ezvideo_async.errors import EzVideoError

_SPREAD_AFTER_429 = 2.0  # intervals over which ids come back, so that there is no burst
_LONGEST = 3.0  # intervals: no predicted delay is longer, and no end is detected later
_CLOSEST = 0.6  # intervals near a predicted end: 3 s of 5 s, the API document's minimum
_AFTER_QUIET_TIME = 0.96
"""
Intervals between polls after the quiet time.

One task in 50 finishes in the quiet time and is detected later, by (3 - 1) / 2 intervals on
average; the others are detected earlier by (1 - 0.96) / 2: together, no later.
"""


class Pacer:
    """The delays of one scheduler, all in seconds."""

    def __init__(self, policy: PollPolicy) -> None:
        self.policy = policy

    def earliest(self, tracked: TrackedTask, now: float) -> float:
        """Return the first instant from *now* on at which ``min_interval`` allows a poll."""
        return max(now, tracked.started + self.policy.min_interval)

    def after_response(
        self, tracked: TrackedTask, hint: PollHint, *, now: float, unix_now: float, rand: float
    ) -> float:
        _ = tracked, now, unix_now  # for pacers that predict
        return self.policy.delay(
            rand=rand, retry_after=hint.retry_after, poll_after=hint.poll_after
        )

    def after_failure(self, tracked: TrackedTask, error: EzVideoError, *, rand: float) -> float:
        """Count a failure and return the delay after it; "not found" before a state is none."""
        retry_after = getattr(error, "retry_after", None)
        is_not_yet_found = isinstance(error, TaskNotFoundError) and tracked.status is None
        if is_not_yet_found or is_local_stall(error):
            return self.policy.delay(rand=rand, retry_after=retry_after)
        streak = tracked.failure_streak()
        streak.errors += 1
        delay = self.policy.delay(rand=rand, errors=streak.errors, retry_after=retry_after)
        if isinstance(error, RateLimitError):
            obeyed = min(retry_after or 0.0, self.policy.retry_after_max)
            delay = max(delay, obeyed + rand * _SPREAD_AFTER_429 * self.policy.interval)
        return delay

    def observe(self, tracked: TrackedTask, *, now: float, unix_now: float) -> None:
        """Record a state that came without a poll."""

    def end(self, tracked: TrackedTask, *, now: float, unix_now: float) -> None:
        """Record the final event of an id."""

    def forget(self, tracked: TrackedTask) -> None:
        """Forget an id that was discarded."""


class AdaptivePacer(Pacer):
    """The delays of a policy with ``adaptive=True``: predicted from finished tasks."""

    def __init__(self, policy: PollPolicy, estimator: DurationEstimator) -> None:
        super().__init__(policy)
        self._estimator = estimator
        self._observations: dict[TrackedTask, RunObservation] = {}

    def after_response(
        self, tracked: TrackedTask, hint: PollHint, *, now: float, unix_now: float, rand: float
    ) -> float:
        self.observe(tracked, now=now, unix_now=unix_now)
        predicted = self._estimator.predict(self._observations.get(tracked), now=now)
        return self.policy.delay(
            rand=rand,
            retry_after=hint.retry_after,
            poll_after=hint.poll_after,
            interval=predicted_interval(self.policy.interval, predicted),
        )

    def observe(self, tracked: TrackedTask, *, now: float, unix_now: float) -> None:
        observation = self._observations.get(tracked)
        if observation is not None:
            observation.record(now - observation.created, tracked.progress)
            return
        task = tracked.task
        assert task is not None, "a state has been stored"
        observation = self._estimator.observe(None, task, now=now, unix_now=unix_now)
        if observation is not None:
            self._observations[tracked] = observation

    def end(self, tracked: TrackedTask, *, now: float, unix_now: float) -> None:
        observation, task = self._observations.pop(tracked, None), tracked.task
        if task is not None:
            self._estimator.observe(observation, task, now=now, unix_now=unix_now)

    def forget(self, tracked: TrackedTask) -> None:
        self._observations.pop(tracked, None)


def predicted_interval(interval: float, predicted: Prediction) -> float:
    """
    Seconds until the next poll of a running task, before jitter.

    - With *ends_at*: half of the time until then, ``(ends_at - age) / 2``, from 0.6 to 3
      intervals.
    - Else with a *quiet_until* of 3 intervals or more: the time until then,
      ``quiet_until - age``, from 0.96 to 3 intervals.
    - Else *interval*.

    Source:
        The simulation ``tests/long/bench/policy.py``.
    """
    age, longest = predicted.age, _LONGEST * interval
    if age is None:
        return interval
    if predicted.ends_at is not None:
        return min(longest, max(_CLOSEST * interval, (predicted.ends_at - age) / 2.0))
    if predicted.quiet_until is None or predicted.quiet_until < longest:
        return interval
    return min(longest, max(_AFTER_QUIET_TIME * interval, predicted.quiet_until - age))
