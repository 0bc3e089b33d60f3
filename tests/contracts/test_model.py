"""State machine of a watcher: any mix of adds, discards, responses, faults, stalls and readers."""

from __future__ import annotations

import asyncio
import random
from email.utils import formatdate
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ezvideo_async import (
    AuthenticationError,
    RequestBudget,
    VideoTask,
)
from ezvideo_async.instrumentation import TaskEnded
from ezvideo_async.testing import VirtualClockLoop
from tests.support.cancellation import CancelledAt
from tests.support.clients import make_client
from tests.support.fake_transport import FAULTS, FakeTask, FakeTransport
from tests.support.oracle import (
    AddedAgain,
    Asked,
    Complained,
    Discarded,
    Finished,
    Joined,
    Left,
    Limits,
    Raised,
    Stalled,
    Trace,
    Unread,
    Waits,
    Woke,
    check,
)
from tests.support.oracle.recorder import read_and_note

IDS = [f"vid_{letter}" for letter in "abcdef"]
STATUSES = ["pending", "processing", "completed", "failed"]
TRANSIENT_FAULTS = sorted({*FAULTS, "hang"} - {"firewall"})  # in the end that one is fatal
OUTAGES = ["500", "503", "429", "429-bare", "html", "garbage", "hang"]
TIMEOUT = 3600.0  # seconds until an id is lost

REFUSED_KEY = (401, {}, b'{"error":{"code":"invalid_api_key","message":"no"}}')
SERVER_UNIX_NOW = 1_800_000_000  # years away from our clock

ids = st.sampled_from(IDS)


def rate_limited(seconds, *, as_date):
    """Return a 429 with a Retry-After in seconds, or as a date of a server whose clock is off."""
    if not as_date:
        return 429, {"retry-after": str(seconds)}, b""
    date, until = (formatdate(SERVER_UNIX_NOW + each, usegmt=True) for each in (0, seconds))
    return 429, {"date": date, "retry-after": until}, b""


class CountingLoop(VirtualClockLoop):
    """Counts its iterations."""

    rounds = 0

    def _run_once(self):
        self.rounds += 1
        super()._run_once()


class CallersOwnError(Exception):
    """Raised in the body of a loop."""


class WatcherMachine(RuleBasedStateMachine):
    """Drives one watcher over a scripted server, and checks the trace with the oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = CountingLoop()
        self.loop.set_exception_handler(self._note_complaint)
        self.trace = Trace()
        self.server = FakeTransport(self.trace)
        self.limits = Limits(
            rate=50.0, burst=2.5, max_in_flight=3, interval=5.0, jitter=0.1, longest_gap=700.0
        )
        self.readers = 0
        self.calls = 0
        self.subscription: Any = None

    # -- driving ----------------------------------------------------------------------------------

    def run(self, awaitable: Any) -> Any:
        """Run the loop until *awaitable* is done."""
        self.calls += 1
        try:
            return self.loop.run_until_complete(awaitable)
        finally:
            self.note(Woke(self.loop.rounds, self.loop.time(), self.calls))

    def call(self, function, *arguments, **options):
        """Call a function inside the loop."""

        async def call():
            return function(*arguments, **options)

        return self.run(call())

    def note(self, record):
        """Add a record to the trace."""
        self.trace.records.append(record)

    def now(self):
        """Return the loop clock."""
        return self.loop.time()

    def _observe(self, event):
        if isinstance(event, TaskEnded):
            self.trace.ended(event.task_id, self.now())

    def _note_complaint(self, _loop, context):
        self.note(Complained(context["message"], self.now()))

    # -- lifetime ---------------------------------------------------------------------------------

    @initialize(progress=st.booleans(), seed=st.integers(0, 999))
    def enter(self, progress, seed):
        """Enter a watcher that stays open."""
        self.client = make_client(
            "key",
            transport=self.server,
            base_url="https://api.example.test/v1",
            budget=RequestBudget(rate=50.0, max_in_flight=3),
            rand=random.Random(seed).random,
            observers=[self._observe],
        )
        self.progress = progress
        self._enter_watcher()

    def _enter_watcher(self):
        self.watcher = self.client.watch(progress=self.progress, timeout=TIMEOUT)
        self.reader = self._join(frozenset(), later=True)
        self.run(self.watcher.__aenter__())
        # Iteration that has begun gets every final event, however late.
        self.run(self._read_for(self.watcher, self.reader, asyncio.sleep(0)))

    def _join(self, watches, **how):
        if self.readers:
            self.note(Joined(self.readers, self.now(), watches, **how))
        self.readers += 1
        return self.readers - 1

    def _leave_watcher(self, *error):
        self._leave_subscription()
        self.run(self.watcher.__aexit__(*(error or (None, None, None))))
        self.note(Left(self.now()))
        assert not asyncio.all_tasks(self.loop)
        assert self.client.budget.in_flight == 0

    def teardown(self):
        """Heal the server, let ten minutes pass: every watch has exactly one final event."""
        try:
            if hasattr(self, "watcher"):
                self._end_all()
        finally:
            if hasattr(self, "watcher"):
                self.run(self.watcher.__aexit__(None, None, None))
                self.run(self.client.aclose())
            self.loop.close()

    def _end_all(self):
        self._heal()
        for task_id in IDS:
            self.server.tasks[task_id] = FakeTask(status="completed")
        self.run(asyncio.sleep(700.0))
        assert self.watcher.open_ids == ()
        self.watcher.finish_adding()
        self._read_to_the_end(self.watcher, self.reader)
        if self.subscription is not None:
            self._read_to_the_end(self.subscription, self.subscribed)
        self._leave_watcher()
        self.run(self.client.aclose())
        assert check(self.trace, self.limits) == []

    def _heal(self):
        self.server.outage, self.server.share = None, 1.0

    def _read_to_the_end(self, events, reader):
        self.run(read_and_note(events, self.trace, reader=reader))

    # -- who is watched ---------------------------------------------------------------------------

    @rule(chosen=st.lists(ids, min_size=1, max_size=6))
    def add(self, chosen):
        """Add ids; each that is not watched begins a new watch, the others are left alone."""
        for task_id in chosen:
            self.call(self._add, task_id)

    def _add(self, task_id):
        if task_id in self.watcher.open_ids:
            self.note(AddedAgain(task_id, "again", self.now()))
            self.watcher.add(task_id, tag="again")
        else:
            number = self.trace.added(task_id, self.now(), deadline=self.now() + TIMEOUT)
            self.watcher.add(task_id, tag=number, restart_ended=True)

    @rule(task_id=ids)
    def discard(self, task_id):
        """Discard an id."""
        self.call(self._discard, task_id)

    def _discard(self, task_id):
        if self.watcher.discard(task_id):
            self.note(Discarded(task_id, self.trace.numbers[task_id], self.now()))

    @rule(task_id=ids)
    def poll_now(self, task_id):
        """Poll an id as soon as possible."""
        self.call(self.watcher.poll_now, task_id)

    @precondition(lambda self: self._in_flight())
    @rule(data=st.data(), what=st.sampled_from(["poll_now", "discard", "end", "again"]))
    def change_an_id_in_flight(self, data, what):
        """Poll again, discard, end, or discard and add an id that is in flight."""
        task_id = data.draw(st.sampled_from(self._in_flight()))
        match what:
            case "poll_now":
                self.call(self.watcher.poll_now, task_id)
            case "end":
                self.run(self._read_for(self.watcher, self.reader, self._apply(task_id, "failed")))
            case _:
                self.call(self._discard, task_id)
        if what == "again":
            self.call(self._add, task_id)

    def _in_flight(self):
        asked = [record for record in self.trace.records if isinstance(record, Asked)]
        flying = {record.task_id for record in asked if record.ended is None}
        return sorted(flying.intersection(self.watcher.open_ids))

    @rule(task_id=ids, status=st.sampled_from(STATUSES))
    def apply(self, task_id, status):
        """Apply a state learned elsewhere."""
        self.run(self._apply(task_id, status))

    async def _apply(self, task_id, status):
        if task_id in self.watcher.open_ids:
            self.trace.answered(task_id, self.now(), status)
        self.watcher.apply(VideoTask.from_dict({"id": task_id, "status": status}))

    # -- what the server does ---------------------------------------------------------------------

    @rule(
        task_id=ids,
        status=st.sampled_from(STATUSES),
        progress=st.integers(0, 100),
        latency=st.sampled_from([0.0, 0.2, 3.0]),
    )
    def server_shows(self, task_id, status, progress, latency):
        """From now on the server shows this state."""
        self.server.tasks[task_id] = FakeTask(status=status, progress=progress, latency=latency)

    @rule(task_id=ids)
    def server_forgets(self, task_id):
        """From now on the server does not know the id."""
        self.server.tasks.pop(task_id, None)

    @rule(task_id=ids, fault=st.sampled_from(TRANSIENT_FAULTS))
    def server_fails(self, task_id, fault):
        """From now on requests for this id have a fault."""
        self.server.tasks.setdefault(task_id, FakeTask()).fault = fault

    @rule(task_id=ids)
    def server_heals(self, task_id):
        """From now on requests for this id have no fault."""
        self.server.tasks.setdefault(task_id, FakeTask()).fault = None

    @rule(outage=st.sampled_from(OUTAGES), share=st.sampled_from([1.0, 1.0, 0.5, 0.1]))
    def outage(self, outage, share):
        """From now on all requests, or a part of them, have a fault."""
        self.server.outage, self.server.share = outage, share

    @rule()
    def heal(self):
        """End the outage."""
        self._heal()

    @rule(
        seconds=st.sampled_from([0, 1, 3, 20, 400]),
        as_date=st.booleans(),
        share=st.sampled_from([1.0, 0.2]),
    )
    def limit_the_rate(self, seconds, as_date, share):
        """From now on all requests, or a part of them, get a 429."""
        self.server.outage = rate_limited(seconds, as_date=as_date)
        self.server.share = share

    # -- time -------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 5.0, 17.0, 90.0]))
    def advance(self, seconds):
        """Let time pass, without a reader."""
        self.run(asyncio.sleep(seconds))

    @rule(seconds=st.sampled_from([0.5, 3.0, 60.0]))
    def stall(self, seconds):
        """Block the loop, or let the machine sleep: the clock jumps over timers."""
        self.loop._now += seconds
        self.note(Stalled(seconds, self.now()))
        self.run(asyncio.sleep(0))

    # -- readers ----------------------------------------------------------------------------------

    @precondition(lambda self: self.watcher.stats.unread)
    @rule(count=st.integers(1, 4))
    def read(self, count):
        """Read some unread events."""
        for _ in range(min(count, self.watcher.stats.unread)):
            event = self.run(anext(self.watcher))
            self.trace.delivered(event, self.now(), reader=self.reader)

    async def _read_for(self, events, reader, meanwhile):
        """Wait for an event until *meanwhile* is done, then cancel the wait."""
        reading = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        if not reading.done():
            self.note(Waits(self.now(), reader))
        await meanwhile
        reading.cancel()
        await asyncio.wait([reading])
        if reading.cancelled():
            return
        if isinstance(reading.exception(), StopAsyncIteration):
            self.note(Finished(self.now(), reader))
        else:
            self.trace.delivered(reading.result(), self.now(), reader=reader)

    @rule(seconds=st.sampled_from([0.0, 2.0, 6.0]))
    def cancel_a_read(self, seconds):
        """Wait for an event, and cancel the wait; no event may get lost."""
        self.run(self._read_for(self.watcher, self.reader, asyncio.sleep(seconds)))

    @rule(task_id=ids, status=st.sampled_from(STATUSES))
    def cancel_a_read_as_an_event_comes(self, task_id, status):
        """Cancel the wait for an event at the instant at which it comes."""
        self.run(self._read_for(self.watcher, self.reader, self._apply(task_id, status)))

    @rule(at=st.integers(1, 3))
    def cancel_a_read_at_a_suspension(self, at):
        """Wait for an event for some seconds, cancelled at the k-th suspension."""

        async def read():
            async with asyncio.timeout(7.0):
                event = await CancelledAt(anext(self.watcher), at=at)
            self.trace.delivered(event, self.now(), reader=self.reader)

        async def read_and_cancel():
            await asyncio.gather(asyncio.ensure_future(read()), return_exceptions=True)

        self.run(read_and_cancel())

    @precondition(lambda self: self.subscription is None)
    @rule(chosen=st.lists(ids, max_size=4, unique=True), replay=st.booleans())
    def subscribe(self, chosen, replay):
        """Subscribe to some ids or to all."""
        self.run(self._subscribe(chosen, replay))

    async def _subscribe(self, chosen, replay):
        open_ids = self.watcher.open_ids
        chosen = [task_id for task_id in chosen if task_id in open_ids]
        watches = frozenset((each, self.trace.numbers[each]) for each in chosen or open_ids)
        self.subscription = self.watcher.subscribe(*chosen, replay=replay)
        self.subscribed = self._join(watches, later=not chosen, replay=replay)
        await self.subscription.__aenter__()

    @precondition(lambda self: self.subscription is not None)
    @rule(seconds=st.sampled_from([0.0, 2.0]))
    def read_the_subscription(self, seconds):
        """Wait for an event of the subscription for some seconds."""
        self.run(self._read_for(self.subscription, self.subscribed, asyncio.sleep(seconds)))

    @precondition(lambda self: self.subscription is not None)
    @rule()
    def leave_the_subscription(self):
        """Leave the subscription."""
        self._leave_subscription()

    def _leave_subscription(self):
        if self.subscription is not None:
            self.run(self.subscription.__aexit__(None, None, None))
        self.subscription = None

    # -- exits ------------------------------------------------------------------------------------

    @rule(raises=st.booleans())
    def leave(self, raises):
        """Leave the watcher, by ``break`` or an exception, and later enter a new one."""
        error = CallersOwnError()
        self._leave_watcher(*((CallersOwnError, error, None) if raises else ()))
        self.run(asyncio.sleep(30.0))
        self._enter_watcher()

    @precondition(lambda self: self.watcher.open_ids)
    @rule()
    def refuse_the_key(self):
        """Refuse the key: after the unread events an error with the open ids is raised."""
        self._heal()
        for task in self.server.tasks.values():
            task.fault = None
        self.run(asyncio.sleep(700.0))
        if self.watcher.open_ids:
            self.server.outage = REFUSED_KEY
            self._read_to_the_end(self.watcher, self.reader)
            raised = [record for record in self.trace.records if isinstance(record, Raised)]
            assert isinstance(raised[-1].error, AuthenticationError)
            self._heal()
            self._leave_watcher()
            self._enter_watcher()

    # -- checking ---------------------------------------------------------------------------------

    @invariant()
    def promises_hold(self):
        """No promise is broken so far."""
        if hasattr(self, "watcher"):
            self.note(Unread(self.watcher.stats.unread, self.now(), self.reader))
        assert check(self.trace, self.limits) == []


TestWatcherMachine = WatcherMachine.TestCase
TestWatcherMachine.settings = settings(stateful_step_count=40, deadline=None)
