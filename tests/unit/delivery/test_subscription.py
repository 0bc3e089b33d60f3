"""Subscription: how it reads, ends and is left, with a publisher of its own."""

from __future__ import annotations

import asyncio

import pytest

from ezvideo_async._delivery.subscription import Subscription
from ezvideo_async._domain.events import ProgressChanged, StatusChanged, TaskCompleted
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._scheduling.tracked_task import TrackedTask
from ezvideo_async.errors import ClosedError, NotOpenError

PENDING, PROCESSING = TaskStatus.PENDING, TaskStatus.PROCESSING
RUNNING = VideoTask(id="vid_1", status=PROCESSING, progress=20)
STARTED = StatusChanged(task_id="vid_1", task=RUNNING, previous=PENDING, current=PROCESSING)
PROGRESSED = ProgressChanged(task_id="vid_1", task=RUNNING, previous=10, current=20)
COMPLETED = TaskCompleted(
    task_id="vid_1", task=VideoTask(id="vid_1", status=TaskStatus.COMPLETED, progress=100)
)


class FakePublisher:
    """Knows some ids; whether it is over, and its fault, are set by the test."""

    def __init__(self, *known):
        self.known = known
        self.attached = []
        self.is_over = False
        self.fault = None

    def attach(self, subscription, ids):
        """Remember the subscription; return the known ids."""
        self.attached.append(subscription)
        return self.known if ids is None else [each for each in ids if each in self.known]

    def detach(self, subscription):
        """Forget the subscription."""
        self.attached.remove(subscription)

    def raise_fault(self):
        """Raise the fault, if there is one."""
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def tracked():
    """An id that was seen running."""
    tracked = TrackedTask("vid_1", added=0.0)
    tracked.record(RUNNING, now=0.0, unix_now=5.0, progress=True, stalled_after=None)
    return tracked


def subscription(publisher, *ids, progress=True, replay=False):
    """Subscribe to these ids, or to all."""
    return Subscription(publisher, ids or None, progress=progress, replay=replay)


async def read_all(events):
    """Read until the iteration ends."""
    return [event async for event in events]


async def test_reading_needs_async_with(tracked):
    """A subscription is entered once, and nothing is delivered after it was left."""
    publisher = FakePublisher(tracked)
    events = subscription(publisher, tracked)
    with pytest.raises(NotOpenError, match="enter the subscription first"):
        await anext(events)

    async with events:
        assert publisher.attached == [events]
        with pytest.raises(ClosedError, match="subscribe again"):
            async with events:
                pass

    assert publisher.attached == []
    with pytest.raises(ClosedError, match="was left"):
        await anext(events)


async def test_leaving_ends_a_read_that_waits(tracked):
    """Its unread events can still be read."""
    events = subscription(FakePublisher(tracked), tracked)
    async with events:
        reading = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
    with pytest.raises(ClosedError):
        await reading

    events.deliver(tracked, STARTED)

    assert (await anext(events)).kind == "status_changed"


async def test_iteration_ends_when_its_ids_have_ended(tracked):
    """Whatever else is open, and although the publisher failed after that."""
    other = TrackedTask("vid_2", added=0.0)
    publisher = FakePublisher(tracked, other)
    async with subscription(publisher, tracked, other) as events:
        assert events.open_ids == {tracked, other}
        events.deliver(tracked, COMPLETED)
        assert events.open_ids == {other}
        events.drop(other)
        publisher.fault = ValueError("x")

        assert [event.kind for event in await read_all(events)] == ["task_completed"]
        assert await read_all(events) == []


async def test_subscription_to_all_ids_ends_with_the_publisher(tracked):
    """The end is noticed by a read that waits."""
    publisher = FakePublisher(tracked)
    async with subscription(publisher) as events:
        assert events.open_ids == frozenset()
        reading = asyncio.ensure_future(read_all(events))
        await asyncio.sleep(0)
        events.wake()
        await asyncio.sleep(0)
        assert not reading.done()

        publisher.is_over = True
        events.wake()
        events.wake()

        assert await reading == []


async def test_dropping_the_last_id_ends_a_read_that_waits(tracked):
    """Its unread event is dropped too."""
    async with subscription(FakePublisher(tracked), tracked) as events:
        reading = asyncio.ensure_future(read_all(events))
        await asyncio.sleep(0)

        events.deliver(tracked, STARTED)
        events.drop(tracked)

        assert await reading == []


async def test_fault_is_raised_after_the_unread_events(tracked):
    """Also in a read that waits."""
    publisher = FakePublisher(tracked)
    async with subscription(publisher, tracked) as events:
        events.deliver(tracked, STARTED)
        publisher.fault = ValueError("x")

        assert (await anext(events)).kind == "status_changed"
        with pytest.raises(ValueError, match="x"):
            await anext(events)


async def test_replay_delivers_the_current_states(tracked):
    """The state of a running id as it is when read, an ended id's final event, nothing else."""
    ended, unseen = TrackedTask("vid_2", added=0.0), TrackedTask("vid_3", added=0.0)
    ended.end(COMPLETED)
    publisher = FakePublisher(tracked, ended, unseen)
    unknown = TrackedTask("vid_4", added=0.0)
    async with subscription(publisher, tracked, ended, unseen, unknown, replay=True) as events:
        assert (events.open_ids, events.unread) == ({tracked, unseen}, 2)
        first, second = await anext(events), await anext(events)

    assert (first.task, first.previous, first.at) == (RUNNING, None, 5.0)
    assert second.kind == "task_completed"


@pytest.mark.parametrize(("progress", "count"), [(True, 1), (False, 0)])
async def test_progress_is_delivered_where_it_is_wanted(tracked, progress, count):
    """A change of progress alone wakes no other reader."""
    async with subscription(FakePublisher(tracked), tracked, progress=progress) as events:
        events.deliver(tracked, PROGRESSED)

        assert (events.progress, events.unread) == (progress, count)


@pytest.mark.fault("C13")
async def test_two_tasks_cannot_read_at_once(tracked):
    """The first read continues."""
    async with subscription(FakePublisher(tracked), tracked) as events:
        reading = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks read the same events"):
            await anext(events)

        events.deliver(tracked, STARTED)

        assert (await reading).kind == "status_changed"


@pytest.mark.parametrize("steps", range(4))
async def test_cancelled_read_loses_no_event(tracked, steps):
    """Wherever it is cancelled after the event came."""
    async with subscription(FakePublisher(tracked), tracked) as events:
        reading = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        events.deliver(tracked, STARTED)
        for _ in range(steps):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])

        event = await anext(events) if reading.cancelled() else reading.result()
        assert (event.seq, events.unread) == (1, 0)


async def test_subscription_belongs_to_its_event_loop(tracked):
    """Reading it in another loop is an error of the caller."""
    async with subscription(FakePublisher(tracked), tracked) as events:

        def read_elsewhere():
            asyncio.run(anext(events))

        with pytest.raises(ClosedError, match="another event loop"):
            await asyncio.to_thread(read_elsewhere)
