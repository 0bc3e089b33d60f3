"""A watcher under any mix of adds, discards, answers, faults, reads, stalls, readers and exits."""

from __future__ import annotations

import asyncio
import random
from email.utils import formatdate
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ezvideo_async import (
    AsyncVideoClient,
    AuthenticationError,
    PollPolicy,
    RequestBudget,
    TaskWatcher,
    VideoTask,
)
from ezvideo_async.instrumentation import TaskEnded
from ezvideo_async.testing import VirtualClockLoop
from tests.support.cancellation import CancelledAt
from tests.support.fake_transport import FAULTS, FakeTask, FakeTransport
from tests.support.oracle import (
    AddedAgain,
    Asked,
    Complained,
    Discarded,
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
WORDS = ["pending", "processing", "completed", "failed"]
PASSING_FAULTS = sorted({*FAULTS, "hang"} - {"firewall"})  # which is fatal in the end
OUTAGES = ["500", "503", "429", "429-bare", "html", "garbage", "hang"]
TIMEOUT = 3600.0  # seconds until an id is given up

REFUSED = (401, {}, b'{"error":{"code":"invalid_api_key","message":"no"}}')
SERVERS_CLOCK = 1_800_000_000  # Unix seconds, years away from ours

ids = st.sampled_from(IDS)


def throttled(seconds, *, as_date):
    """A 429 with a Retry-After in seconds, or as a date of a server whose clock is off."""
    if not as_date:
        return 429, {"retry-after": str(seconds)}, b""
    date, until = (formatdate(SERVERS_CLOCK + each, usegmt=True) for each in (0, seconds))
    return 429, {"date": date, "retry-after": until}, b""


class CountingLoop(VirtualClockLoop):
    """Counts how often it goes round."""

    rounds = 0

    def _run_once(self):
        self.rounds += 1
        super()._run_once()


class CallersOwnError(Exception):
    """What a loop's body raises."""


class WatcherMachine(RuleBasedStateMachine):
    """Drives one watcher over a scripted server and holds the trace against the oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = CountingLoop()
        self.loop.set_exception_handler(self._complain)
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
        """Call something of the watcher's inside the loop."""

        async def call():
            return function(*arguments, **options)

        return self.run(call())

    def note(self, record):
        """Add to the trace."""
        self.trace.records.append(record)

    def now(self):
        """The loop clock."""
        return self.loop.time()

    def _hear(self, signal):
        if isinstance(signal, TaskEnded):
            self.trace.ended(signal.task_id, self.now())

    def _complain(self, _loop, context):
        self.note(Complained(context["message"], self.now()))

    # -- lifetime ---------------------------------------------------------------------------------

    @initialize(progress=st.booleans(), seed=st.integers(0, 999))
    def enter(self, progress, seed):
        """Enter a watcher that stays open."""
        self.client = AsyncVideoClient(
            "key",
            base_url="https://api.example.test/v1",
            budget=RequestBudget(rate=50.0, max_in_flight=3),
            rand=random.Random(seed).random,
            observers=[self._hear],
        )
        self.client._transport = self.server
        self.progress = progress
        self.run(self.client.__aenter__())
        self._enter_watcher()

    def _enter_watcher(self):
        self.watcher = TaskWatcher(
            self.client, policy=PollPolicy(), progress=self.progress, timeout=TIMEOUT
        )
        self.reader = self._join(frozenset(), later=True)
        self.run(self.watcher.__aenter__())
        # A loop that was begun is owed every ending, for ever.
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
        """Heal the server, let ten minutes pass: every watch has had exactly one ending."""
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
        """Add ids; each that is not watched begins a new watch, for the others nothing changes."""
        for task_id in chosen:
            self.call(self._add, task_id)

    def _add(self, task_id):
        if task_id in self.watcher.open_ids:
            self.note(AddedAgain(task_id, "again", self.now()))
            self.watcher.add(task_id, tag="again")
        else:
            number = self.trace.added(task_id, self.now(), deadline=self.now() + TIMEOUT)
            self.watcher.add(task_id, tag=number)

    @rule(task_id=ids)
    def discard(self, task_id):
        """Discard an id."""
        self.call(self._discard, task_id)

    def _discard(self, task_id):
        if self.watcher.discard(task_id):
            self.note(Discarded(task_id, self.trace.numbers[task_id], self.now()))

    @rule(task_id=ids)
    def refresh(self, task_id):
        """Ask to look soon."""
        self.call(self.watcher.refresh, task_id)

    @precondition(lambda self: self._in_flight())
    @rule(data=st.data(), what=st.sampled_from(["refresh", "discard", "end", "again"]))
    def meddle_with_a_poll_in_flight(self, data, what):
        """While an id is asked for it is refreshed, discarded, ended, or discarded and added."""
        task_id = data.draw(st.sampled_from(self._in_flight()))
        match what:
            case "refresh":
                self.call(self.watcher.refresh, task_id)
            case "end":
                self.run(self._read_for(self.watcher, self.reader, self._feed(task_id, "failed")))
            case _:
                self.call(self._discard, task_id)
        if what == "again":
            self.call(self._add, task_id)

    def _in_flight(self):
        asked = [record for record in self.trace.records if isinstance(record, Asked)]
        flying = {record.task_id for record in asked if record.ended is None}
        return sorted(flying.intersection(self.watcher.open_ids))

    @rule(task_id=ids, word=st.sampled_from(WORDS))
    def feed(self, task_id, word):
        """Tell a state learned elsewhere."""
        self.run(self._feed(task_id, word))

    async def _feed(self, task_id, word):
        if task_id in self.watcher.open_ids:
            self.trace.answered(task_id, self.now(), word)
        self.watcher.apply(VideoTask.from_dict({"id": task_id, "status": word}))

    # -- what the server does ---------------------------------------------------------------------

    @rule(
        task_id=ids,
        word=st.sampled_from(WORDS),
        progress=st.integers(0, 100),
        latency=st.sampled_from([0.0, 0.2, 3.0]),
    )
    def server_shows(self, task_id, word, progress, latency):
        """From now on the server shows this state."""
        self.server.tasks[task_id] = FakeTask(status=word, progress=progress, latency=latency)

    @rule(task_id=ids)
    def server_forgets(self, task_id):
        """From now on the server does not know the id."""
        self.server.tasks.pop(task_id, None)

    @rule(task_id=ids, fault=st.sampled_from(PASSING_FAULTS))
    def server_fails(self, task_id, fault):
        """From now on requests for this id meet a fault."""
        self.server.tasks.setdefault(task_id, FakeTask()).fault = fault

    @rule(task_id=ids)
    def server_heals(self, task_id):
        """From now on requests for this id are answered."""
        self.server.tasks.setdefault(task_id, FakeTask()).fault = None

    @rule(outage=st.sampled_from(OUTAGES), share=st.sampled_from([1.0, 1.0, 0.5, 0.1]))
    def outage(self, outage, share):
        """From now on all requests, or a part of them, meet a fault."""
        self.server.outage, self.server.share = outage, share

    @rule()
    def heal(self):
        """The outage is over."""
        self._heal()

    @rule(
        seconds=st.sampled_from([0, 1, 3, 20, 400]),
        as_date=st.booleans(),
        share=st.sampled_from([1.0, 0.2]),
    )
    def throttle(self, seconds, as_date, share):
        """From now on all requests, or a part of them, are told to come back later."""
        self.server.outage = throttled(seconds, as_date=as_date)
        self.server.share = share

    # -- time -------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 5.0, 17.0, 90.0]))
    def advance(self, seconds):
        """Let time pass: nobody reads."""
        self.run(asyncio.sleep(seconds))

    @rule(seconds=st.sampled_from([0.5, 3.0, 60.0]))
    def stall(self, seconds):
        """The loop is blocked, or the machine sleeps: the clock jumps over timers."""
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
        """Wait for an event while *meanwhile* goes on, then cancel the wait."""
        reading = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        if not reading.done():
            self.note(Waits(self.now(), reader))
        await meanwhile
        reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            self.trace.delivered(reading.result(), self.now(), reader=reader)

    @rule(seconds=st.sampled_from([0.0, 2.0, 6.0]))
    def cancel_a_read(self, seconds):
        """Wait for an event, and cancel the wait: nothing may get lost by it."""
        self.run(self._read_for(self.watcher, self.reader, asyncio.sleep(seconds)))

    @rule(task_id=ids, word=st.sampled_from(WORDS))
    def cancel_a_read_as_an_event_comes(self, task_id, word):
        """An event comes and the wait for it is cancelled at the same instant."""
        self.run(self._read_for(self.watcher, self.reader, self._feed(task_id, word)))

    @rule(at=st.integers(1, 3))
    def cancel_a_read_at_a_suspension(self, at):
        """Wait for a while for an event, and be cancelled at the k-th suspension."""

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
        """A second reader joins, for some ids or for all."""
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
        """The second reader waits for an event for a while."""
        if self.subscription.has_ended:
            self._read_to_the_end(self.subscription, self.subscribed)
        else:
            self.run(self._read_for(self.subscription, self.subscribed, asyncio.sleep(seconds)))

    @precondition(lambda self: self.subscription is not None)
    @rule()
    def leave_the_subscription(self):
        """The second reader goes."""
        self._leave_subscription()

    def _leave_subscription(self):
        if self.subscription is not None:
            self.run(self.subscription.__aexit__(None, None, None))
        self.subscription = None

    # -- exits ------------------------------------------------------------------------------------

    @rule(raises=st.booleans())
    def leave(self, raises):
        """The reader breaks out of its loop, or raises in it, and later watches anew."""
        error = CallersOwnError()
        self._leave_watcher(*((CallersOwnError, error, None) if raises else ()))
        self.run(asyncio.sleep(30.0))
        self._enter_watcher()

    @precondition(lambda self: self.watcher.open_ids)
    @rule()
    def refuse_the_key(self):
        """The key is refused: what is unread is told, then the watch ends and names who is open."""
        self._heal()
        for task in self.server.tasks.values():
            task.fault = None
        self.run(asyncio.sleep(700.0))
        if self.watcher.open_ids:
            self.server.outage = REFUSED
            self._read_to_the_end(self.watcher, self.reader)
            raised = [record for record in self.trace.records if isinstance(record, Raised)]
            assert isinstance(raised[-1].error, AuthenticationError)
            self._heal()
            self._leave_watcher()
            self._enter_watcher()

    # -- judging ----------------------------------------------------------------------------------

    @invariant()
    def promises_hold(self):
        """Nothing that happened so far breaks a promise."""
        if hasattr(self, "watcher"):
            self.note(Unread(self.watcher.stats.unread, self.now(), self.reader))
        assert check(self.trace, self.limits) == []


TestWatcherMachine = WatcherMachine.TestCase
TestWatcherMachine.settings = settings(stateful_step_count=40, deadline=None)
