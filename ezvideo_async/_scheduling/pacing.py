"""
How long one id is left alone: by the policy, by what was learned, and by how requests fail.

No await, no clock, no randomness of its own: ``now`` is the loop clock in seconds, ``unix_now``
the wall clock, ``rand`` a number in [0, 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezvideo_async._domain.policies import is_local_stall
from ezvideo_async._scheduling.duration_estimator import DurationEstimator
from ezvideo_async.errors import RateLimitError, TaskNotFoundError

if TYPE_CHECKING:
    from ezvideo_async._domain.policies import PollPolicy
    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async._scheduling.duration_estimator import RunObservation
    from ezvideo_async._scheduling.tracked_task import TrackedTask
    from ezvideo_async.errors import EzVideoError

_ROOM_FOR_SPREAD = 2.0
"""After a pause an id waits up to this many intervals more, so that not all come at once."""


class Pacer:
    """
    The pauses between the requests for each id of one schedule.

    Attributes:
        policy: When to ask again.
        learned: What ended tasks taught; may be shared by the schedules of one client.
    """

    def __init__(self, policy: PollPolicy) -> None:
        self.policy = policy
        self.learned: DurationEstimator = DurationEstimator()
        self._looks: dict[
            TrackedTask, RunObservation
        ] = {}  # what an adaptive policy has seen of those that run

    def earliest(self, watch: TrackedTask, now: float) -> float:
        """When an id may be asked for again at the earliest, from *now* on."""
        return max(now, watch.started + self.policy.min_interval)

    def after_answer(
        self,
        watch: TrackedTask,
        *,
        now: float,
        rand: float,
        retry_after: float | None,
        poll_after: float | None,
    ) -> float:
        """Seconds to leave an id alone that was answered; hints as of :meth:`PollPolicy.delay`."""
        policy = self.policy
        if not policy.adaptive:
            return policy.delay(rand=rand, retry_after=retry_after, poll_after=poll_after)
        known = self.learned.outlook(self._looks.get(watch), now=now)
        return policy.delay(
            rand=rand,
            retry_after=retry_after,
            poll_after=poll_after,
            age=known.age,
            quiet_until=known.quiet_until,
            ends_at=known.ends_at,
        )

    def after_failure(self, watch: TrackedTask, error: EzVideoError, *, rand: float) -> float:
        """Seconds to leave an id alone whose request failed; the failure is counted."""
        asked = getattr(error, "retry_after", None)
        if isinstance(error, TaskNotFoundError) or is_local_stall(error):
            return self.policy.delay(rand=rand, retry_after=asked)
        delay = self.policy.delay(rand=rand, errors=watch.count_error(), retry_after=asked)
        if isinstance(error, RateLimitError):
            obeyed = min(asked or 0.0, self.policy.retry_after_max)
            delay = max(delay, obeyed + rand * _ROOM_FOR_SPREAD * self.policy.interval)
        return delay

    def note(
        self, watch: TrackedTask, task: VideoTask | None, *, now: float, unix_now: float
    ) -> None:
        """Take in, for an adaptive policy, what an answer showed; None for what was known."""
        look = self._looks.get(watch)
        if task is None and look is not None:
            look.note(now - look.born, watch.progress)
            return
        seen = task or watch.task
        assert seen is not None, "only what was seen can be seen again"
        look = self.learned.seen(look, seen, now=now, unix_now=unix_now)
        if look is not None:
            self._looks[watch] = look

    def forget(self, watch: TrackedTask) -> None:
        """Let go of an id that is not asked for any more."""
        self._looks.pop(watch, None)
