"""A watcher under any mix of adds, discards, answers, faults, reads and cancels."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ezvideo_async import AsyncVideoClient, PollPolicy, RequestBudget, TaskWatcher, VideoTask
from ezvideo_async.testing import VirtualClockLoop
from tests.fake_transport import FAULTS, FakeTask, FakeTransport
from tests.oracle import Added, Discarded, Limits, Trace, check

IDS = [f"vid_{letter}" for letter in "abcdef"]
WORDS = ["pending", "processing", "completed", "failed"]
PASSING_FAULTS = sorted({*FAULTS, "hang"} - {"firewall"})  # which is fatal in the end

ids = st.sampled_from(IDS)


class WatcherMachine(RuleBasedStateMachine):
    """Drives one watcher over a scripted server and holds the trace against the oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualClockLoop()
        self.trace = Trace()
        self.server = FakeTransport(self.trace)
        self.numbers: dict[str, int] = {}
        self.limits = Limits(rate=50.0, burst=2.5, max_in_flight=3)

    def run(self, awaitable: Any) -> Any:
        """Run the loop until *awaitable* is done."""
        return self.loop.run_until_complete(awaitable)

    @initialize(progress=st.booleans(), seed=st.randoms(use_true_random=False))
    def enter(self, progress, seed):
        """Enter a watcher that stays open."""
        self.client = AsyncVideoClient(
            "key",
            base_url="https://api.example.test/v1",
            budget=RequestBudget(rate=50.0, max_in_flight=3),
            rand=seed.random,
        )
        self.client._transport = self.server
        self.run(self.client.__aenter__())
        self.watcher = TaskWatcher(self.client, policy=PollPolicy(), progress=progress)
        self.run(self.watcher.__aenter__())

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
        self.server.outage = None
        for task in self.server.tasks.values():
            task.status, task.fault, task.latency = "completed", None, 0.0
        self.run(asyncio.sleep(600.0))
        self.watcher.close()
        self.run(self._read_to_the_end())
        self.run(self.watcher.__aexit__(None, None, None))
        self.run(self.client.aclose())
        assert check(self.trace, self.limits, is_over=True) == []
        assert not asyncio.all_tasks(self.loop)
        assert self.client.budget.in_flight == 0

    async def _read_to_the_end(self):
        async for event in self.watcher:
            self.trace.told(event, self.loop.time())

    @rule(chosen=st.lists(ids, min_size=1, max_size=6))
    def add(self, chosen):
        """Add ids; each that is not watched begins a new watch."""

        async def add():
            for task_id in chosen:
                if task_id not in self.watcher.open_ids:
                    self.numbers[task_id] = self.numbers.get(task_id, 0) + 1
                    added = Added(task_id, self.numbers[task_id], self.loop.time())
                    self.trace.records.append(added)
                self.watcher.add(task_id, tag=self.numbers[task_id])

        self.run(add())

    @rule(task_id=ids)
    def discard(self, task_id):
        """Discard an id."""

        async def discard():
            return self.watcher.discard(task_id)

        if self.run(discard()):
            self.trace.records.append(Discarded(task_id, self.numbers[task_id], self.loop.time()))

    @rule(
        task_id=ids,
        word=st.sampled_from(WORDS),
        progress=st.integers(0, 100),
        latency=st.sampled_from([0.0, 0.0, 0.2, 3.0]),
    )
    def server_shows(self, task_id, word, progress, latency):
        """From now on the server shows this state."""
        self.server.tasks[task_id] = FakeTask(status=word, progress=progress, latency=latency)

    @rule(task_id=ids, fault=st.sampled_from(PASSING_FAULTS))
    def server_fails(self, task_id, fault):
        """From now on requests for this id meet a fault."""
        self.server.tasks.setdefault(task_id, FakeTask()).fault = fault

    @rule(outage=st.sampled_from([None, "500", "503", "429", "html", "hang"]))
    def outage(self, outage):
        """From now on all requests meet a fault, or none."""
        self.server.outage = outage

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 5.0, 17.0, 90.0]))
    def advance(self, seconds):
        """Let time pass."""
        self.run(asyncio.sleep(seconds))

    @precondition(lambda self: self.watcher.stats.unread)
    @rule(count=st.integers(1, 4))
    def read(self, count):
        """Read some unread events."""
        for _ in range(min(count, self.watcher.stats.unread)):
            self.trace.told(self.run(self.watcher.__anext__()), self.loop.time())

    @rule(seconds=st.sampled_from([0.0, 2.0, 6.0]))
    def cancel_a_read(self, seconds):
        """Wait for an event, and cancel the wait: nothing may get lost by it."""

        async def read_and_cancel():
            reading = asyncio.ensure_future(self.watcher.__anext__())
            await asyncio.sleep(seconds)
            reading.cancel()
            await asyncio.wait([reading])
            return None if reading.cancelled() else reading.result()

        event = self.run(read_and_cancel())
        if event is not None:
            self.trace.told(event, self.loop.time())

    @rule(task_id=ids)
    def refresh(self, task_id):
        """Ask to look soon."""

        async def refresh():
            self.watcher.refresh(task_id)

        self.run(refresh())

    @rule(task_id=ids, word=st.sampled_from(WORDS))
    def feed(self, task_id, word):
        """Tell a state learned elsewhere."""

        async def feed():
            if task_id in self.watcher.open_ids:
                self.trace.answered(task_id, self.loop.time(), word)
            self.watcher.feed(VideoTask.from_dict({"id": task_id, "status": word}))

        self.run(feed())

    @invariant()
    def promises_hold(self):
        """Nothing that happened so far breaks a promise."""
        assert check(self.trace, self.limits) == []

    @invariant()
    def unread_events_are_bounded(self):
        """At most one unread event for each watch that ever began."""
        if hasattr(self, "watcher"):
            assert self.watcher.stats.unread <= sum(self.numbers.values())


TestWatcherMachine = WatcherMachine.TestCase
TestWatcherMachine.settings = settings(stateful_step_count=40, deadline=None)
