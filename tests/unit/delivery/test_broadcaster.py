"""Broadcaster: what an event, a waiter and a reader cost, on a real scheduler."""

from __future__ import annotations

import asyncio

import pytest

from ezvideo_async import ClosedError, WaitTimeoutError
from ezvideo_async._delivery.broadcaster import Broadcaster
from ezvideo_async._delivery.subscription import Subscription
from ezvideo_async._domain.events import StatusChanged
from ezvideo_async._domain.policies import PollPolicy
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async.testing import VirtualClockLoop


def watched(*task_ids):
    """Give a broadcaster of these ids, and their records."""
    scheduler = Scheduler(PollPolicy())
    tracked = scheduler.add(dict.fromkeys(task_ids), now=0.0, rand=0.5)
    broadcaster = Broadcaster(
        scheduler, progress=False, ends=lambda: False, drops_unread=False, iterates=True
    )
    return broadcaster, tracked


def started(tracked):
    """Make the event of a task's first state."""
    task = VideoTask(id=tracked.task_id, status=TaskStatus.PENDING)
    return StatusChanged(task_id=task.id, task=task, previous=None, current=task.status)


class CountingSubscription(Subscription):
    """Counts the events that are offered to it."""

    offered = 0

    def deliver(self, tracked, event):
        """Count, then deliver."""
        self.offered += 1
        super().deliver(tracked, event)


def subscribed(broadcaster, *tracked):
    """Subscribe to these ids, or to all, and start."""
    events = CountingSubscription(broadcaster, tracked or None, progress=False, replay=False)
    events.start()
    return events


async def test_event_is_offered_to_the_readers_of_its_id_and_of_all_ids_only():
    """A hub with one subscription a visitor: an event costs nothing for the others."""
    broadcaster, ids = watched(*(f"vid_{number}" for number in range(100)))
    visitors = [subscribed(broadcaster, tracked) for tracked in ids]
    both, everything = subscribed(broadcaster, *ids[:2]), subscribed(broadcaster)

    broadcaster.publish(ids[0], started(ids[0]))

    assert [each.offered for each in visitors] == [1, *[0] * 99]
    assert (both.offered, everything.offered, broadcaster.unread) == (1, 1, 1)


class CountedFuture(asyncio.Future):
    """A future that counts comparisons with it."""

    comparisons = 0

    def __eq__(self, other):
        CountedFuture.comparisons += 1
        return self is other

    __hash__ = object.__hash__


class CountingLoop(VirtualClockLoop):
    """Makes futures that count."""

    def create_future(self):
        """Make a future that counts comparisons with it."""
        return CountedFuture(loop=self)


async def leave_by_cancelling(waiting, _broadcaster, _tracked):
    for each in waiting:
        each.cancel()


async def leave_by_timeout(_waiting, _broadcaster, _tracked):
    await asyncio.sleep(10.0)


async def leave_by_discard(_waiting, broadcaster, tracked):
    broadcaster.drop(tracked, ClosedError("the task was discarded"))


@pytest.mark.parametrize(
    ("leave", "kind"),
    [
        (leave_by_cancelling, asyncio.CancelledError),
        (leave_by_timeout, WaitTimeoutError),
        (leave_by_discard, ClosedError),
    ],
)
def test_waiters_of_one_id_leave_without_a_search(leave, kind):
    """Two thousand leave at once; none is compared with the others."""
    size = 2000

    async def wait_and_leave():
        broadcaster, (tracked,) = watched("vid_1")
        waiting = [
            asyncio.ensure_future(broadcaster.final_event_of(tracked, 10.0)) for _ in range(size)
        ]
        await asyncio.sleep(0)
        CountedFuture.comparisons = 0
        await leave(waiting, broadcaster, tracked)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert broadcaster._waiting == {}
        return outcomes

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        outcomes = runner.run(wait_and_leave())

    assert [type(each) for each in outcomes] == [kind] * size
    assert CountedFuture.comparisons <= 2 * size
