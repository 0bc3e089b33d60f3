"""
Soak test in virtual time: 200 tasks at any moment for 7 days, without sockets.

``python -m tests.long.soak.days [days] [seed]``.  Tasks last from two minutes to a day and are
replaced when they end; there are outages of hours, rate limits of minutes, and the machine sleeps.
The oracle checks every watch by its own small trace, which is cut as it grows so that memory can
be measured.  Prints a line for each day; the exit code is 1 when a promise was broken, or memory
grew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections import Counter
from itertools import zip_longest
from math import exp, inf, log
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from ezvideo_async import PollPolicy, RequestBudget, RequestTimeoutError, TransportError
from ezvideo_async._limits.budget import rate_limiter_of
from ezvideo_async._protocol.messages import Response
from ezvideo_async.testing import VirtualClockLoop
from tests.long.soak.vitals import Vitals
from tests.support.fake_transport import FAULTS, FakeConnection, FakeTransport, fake_client
from tests.support.oracle import Added, Limits, Trace, check
from tests.support.oracle.recorder import keep
from tests.support.oracle.trace import Answered, Asked, Closed, Delivered

if TYPE_CHECKING:
    from ezvideo_async import Event, TaskWatcher

ALIVE = 200
DAY, HOUR = 86_400.0, 3_600.0
SHORTEST, LONGEST = 120.0, DAY  # seconds a task takes, evenly by its logarithm
POLICY = PollPolicy(interval=60.0)  # a quarter of a million polls a day
LIMITS = Limits(rate=20.0, burst=2.0, max_in_flight=16)
SAME_ID = 0.1  # share of the tasks renewed under the same id
SHORT_TIMEOUT = 0.05  # share of the tasks whose timeout is half their time
FAULTY = 0.01  # share of the requests with a fault outside of incidents
SINGLE_FAULTS = ("500", "503", "html", "garbage", "firewall", "hang", "refused")
CALM_FOR = (HOUR, 12 * HOUR)  # seconds between two incidents
INCIDENTS = {  # faults of all requests, and their duration in seconds
    "503": (HOUR, 4 * HOUR),
    "hang": (HOUR, 4 * HOUR),
    "html": (HOUR, 4 * HOUR),
    "refused": (HOUR, 4 * HOUR),
    "429": (60.0, 600.0),
    "429-bare": (60.0, 600.0),
    "sleep": (10.0, HOUR),  # of this machine
}
TRACE = 100  # records after which a trace is checked and cut
SLACK = 300.0
"""Seconds from an end, or from the end of an incident, to the final event: two failures in a row
with their backoff, a cool-down of a minute, a rate that grows back."""


@define
class Life:
    """One task, watched once; *trace* holds the records since it was cut."""

    task_id: str
    number: int
    begun: float
    ends: float
    outcome: str
    deadline: float
    trace: Trace = field(factory=Trace)
    events: int = 0

    def status(self, now: float) -> str:
        """Return the status that the server shows."""
        if now >= self.ends:
            return self.outcome
        return "processing" if now - self.begun > 0.1 * (self.ends - self.begun) else "pending"

    def may_end_as(self, kind: str, now: float) -> bool:
        """Return True if its final event may be of this kind now."""
        if kind == "task_lost":  # at its deadline, or when a Retry-After leads beyond it
            return now >= self.deadline - 10.0
        return now >= self.ends and kind == f"task_{self.outcome}"

    def cut(self) -> None:
        """Keep the last request, and the responses that became events."""
        requests = [record for record in self.trace.records if isinstance(record, Asked)]
        checked, kept = set(requests[:-1]), []
        for record, following in zip_longest(self.trace.records, self.trace.records[1:]):
            match record:
                case Asked() if record in checked:
                    continue
                case Closed(asked=asked) if asked in checked:
                    continue
                case Answered() if not isinstance(following, Delivered):
                    continue
            kept.append(record)
        self.trace = Trace(kept)


class Week(FakeTransport):
    """A server without sockets, which also checks the events of its watcher."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.lives: dict[str, Life] = {}
        self.born = 0
        self.incident: str | None = None
        self.well_since = 0.0
        self.ends: Counter[str] = Counter()
        self.waits: Counter[int] = Counter()  # whole seconds from an end to its final event
        self.breaches: list[str] = []
        self._events = 0
        self._flying = 0
        self._level = self._level_at = 0.0

    # -- the server -------------------------------------------------------------------------------

    def begin(self, now: float, task_id: str | None = None) -> Life:
        """Begin a task."""
        self.born += 1
        lasts = exp(self.chance.uniform(log(SHORTEST), log(LONGEST)))
        life = Life(
            task_id=task_id or f"vid_{self.born:06}",
            number=self.born,
            begun=now,
            ends=now + lasts,
            outcome=self.chance.choice(("completed", "completed", "completed", "failed")),
            deadline=now + lasts / 2 if self.chance.random() < SHORT_TIMEOUT else inf,
        )
        life.trace.records.append(Added(life.task_id, life.number, now, life.deadline))
        self.lives[life.task_id] = life
        return life

    async def send(self, request, secret, **options):
        """Reply, and record request and response for the oracle."""
        now = asyncio.get_running_loop().time()
        self.sends += 1
        life = self._check_request(request.task_id, now)
        if len(life.trace.records) > TRACE:
            self.breaches += check(life.trace, LIMITS, is_part=True)
            life.cut()
        return await keep(life.trace, self._reply)(request, secret, **options)

    async def _reply(self, request, _secret, **_options):
        loop, life = asyncio.get_running_loop(), self.lives[request.task_id]
        fault = self.incident
        if fault is None and self.chance.random() < FAULTY:
            fault = self.chance.choice(SINGLE_FAULTS)
        self._flying += 1
        try:
            if fault == "refused":
                raise TransportError("refused", task_id=request.task_id, reason="connect")
            await asyncio.sleep(15.0 if fault == "hang" else 0.1)
        finally:
            self._flying -= 1
        if fault == "hang":
            raise RequestTimeoutError("no answer in time", task_id=request.task_id)
        if fault is not None:
            status, headers, body = FAULTS[fault]
            return Response(status=status, headers=headers, body=body), FakeConnection()
        body = json.dumps({"id": request.task_id, "status": life.status(loop.time())}).encode()
        return Response(status=200, headers={}, body=body), FakeConnection()

    def _check_request(self, task_id: str, now: float) -> Life:
        """Check one request against the shared limits."""
        if self._flying >= LIMITS.max_in_flight:
            self.breaches.append(f"INV-10: {self._flying + 1} in flight at {now}")
        drained = LIMITS.rate * (now - self._level_at)
        self._level, self._level_at = max(0.0, self._level - drained) + 1.0, now
        if self._level > LIMITS.burst + 1.0:
            self.breaches.append(f"INV-12: the rate is exceeded at {now}")
        if task_id not in self.lives:
            self.breaches.append(f"INV-5: {task_id} was polled at {now}, after its end")
            return self.begin(now, task_id)
        return self.lives[task_id]

    # -- the watcher ------------------------------------------------------------------------------

    def check_event(self, event: Event, now: float) -> Life | None:
        """Check one event; return the life that ended with it."""
        self._events += 1
        if event.seq != self._events:
            self.breaches.append(f"INV-1: event {self._events} is numbered {event.seq}")
        life = self.lives.get(event.task_id)
        if life is None or life.number != event.tag:
            self.breaches.append(f"INV-4: {event} is of a watch that has ended, or never began")
            return None
        life.events += 1
        life.trace.delivered(evolve(event, seq=life.events), now)
        if not event.is_final:
            return None
        self.breaches += check(life.trace, LIMITS, is_over=True, is_part=True)
        self._check_end(life, event, now)
        del self.lives[event.task_id]
        return life

    def _check_end(self, life: Life, event: Event, now: float) -> None:
        self.ends[event.kind] += 1
        if not life.may_end_as(event.kind, now):
            self.breaches.append(f"{life.task_id} ends as {event.kind}, it is {life.outcome}")
        if self.incident is None and event.kind != "task_lost":
            waited = now - max(life.ends, self.well_since)
            self.waits[int(waited)] += 1
            if waited > SLACK:
                self.breaches.append(f"INV-21: {life.task_id} ended after {waited:.0f} s")

    # -- the world --------------------------------------------------------------------------------

    async def have_incidents(self) -> None:
        """Have one incident after another, with hours between them."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.chance.uniform(*CALM_FOR))
            kind = self.chance.choice(list(INCIDENTS))
            seconds = self.chance.uniform(*INCIDENTS[kind])
            if kind == "sleep":
                loop._now += seconds
            else:
                self.incident = kind
                await asyncio.sleep(seconds)
                self.incident = None
            self.well_since = loop.time()

    def end_all(self, now: float) -> None:
        """End the incident and all tasks."""
        self.incident, self.well_since = None, now
        for life in self.lives.values():
            life.ends = min(life.ends, now)


async def read(week: Week, watcher: TaskWatcher, until: float) -> None:
    """Check every event, and watch a new task for every ended one."""
    loop = asyncio.get_running_loop()
    async for event in watcher:
        ended = week.check_event(event, loop.time())
        if ended is not None and loop.time() < until:
            is_same = week.chance.random() < SAME_ID
            watch(watcher, week.begin(loop.time(), ended.task_id if is_same else None))


def watch(watcher: TaskWatcher, life: Life) -> None:
    """Add a task, with its number as the tag and its timeout."""
    timeout = None if life.deadline == inf else life.deadline - life.begun
    watcher.add(life.task_id, tag=life.number, timeout=timeout, restart_ended=True)


async def sample(week: Week, watcher: TaskWatcher, vitals: Vitals) -> None:
    """Take a sample every virtual hour, and print a line every day."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(HOUR)
        taken = vitals.take(loop.time())
        if len(vitals.samples) % 24 == 0:
            print(
                f"day {loop.time() / DAY:3.1f}: {watcher.stats.open} open,"
                f" {week.ends.total():,} ended, {week.sends:,} polls,"
                f" {len(week.breaches)} breaches;"
                f" {taken.memory / 1024:.1f} MiB, {taken.files} files, {taken.tasks} tasks",
                flush=True,
            )


async def soak(
    days: float, chance: random.Random, *, alive: int = ALIVE
) -> tuple[list[str], Vitals]:
    """Watch *alive* tasks for *days*, let every task end, and return what is wrong."""
    loop = asyncio.get_running_loop()
    week, vitals = Week(chance), Vitals(unit="day", seconds=DAY, warm_after=1.0)
    budget = RequestBudget(rate=LIMITS.rate, max_in_flight=LIMITS.max_in_flight)
    async with (
        fake_client(week, budget=budget, rand=chance.random) as client,
        client.watch(policy=POLICY) as watcher,
    ):
        for _ in range(alive):
            watch(watcher, week.begin(loop.time()))
        reading = asyncio.create_task(read(week, watcher, days * DAY))
        others = [
            asyncio.create_task(sample(week, watcher, vitals)),
            asyncio.create_task(week.have_incidents()),
        ]
        await asyncio.wait([reading], timeout=days * DAY)
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        week.end_all(loop.time())
        watcher.finish_adding()
        done, _ = await asyncio.wait([reading], timeout=HOUR)
        stats = watcher.stats
    for task in (*others, *done):
        if not task.cancelled():
            task.result()
    total = stats.completed + stats.failed + stats.lost
    waits = sorted(week.waits.elements())
    print(f"{week.born:,} tasks begun, {total:,} ended: {dict(week.ends)}; {week.sends:,} polls")
    print(
        f"from an end to its final event, without incidents: half in {waits[len(waits) // 2]} s,"
        f" 99 % in {waits[len(waits) * 99 // 100]} s, all in {waits[-1]} s"
    )
    print(f"second half: {vitals.summary()}; {rate_limiter_of(budget).pauses} pauses")
    if not week.born == total == week.ends.total() or week.lives:
        week.breaches.append(f"{week.born} tasks begun, {total} ended, {len(week.lives)} open")
    if client.requests_sent != week.sends or stats.polls != week.sends:
        week.breaches.append(f"{stats.polls} polls were counted, {week.sends} sent")
    return week.breaches, vitals


def main() -> None:
    """Run it in virtual time."""
    days = max(0.5, float(sys.argv[1])) if len(sys.argv) > 1 else 7.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    logging.getLogger("ezvideo_async").setLevel(logging.CRITICAL)  # incidents are expected
    print(f"{ALIVE} tasks for {days:g} virtual days, seed {seed}", flush=True)
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        broken, vitals = runner.run(soak(days, random.Random(seed)))
    breaches = [*broken, *vitals.growths()]
    for breach in breaches[:20]:
        print("BREACH:", breach)
    print(f"failed: {len(breaches)} breaches" if breaches else "passed")
    sys.exit(bool(breaches))


if __name__ == "__main__":
    main()
