"""
Soak: 200 tasks at any moment for 7 days of virtual time, without sockets.

``python -m tests.long.soak.days [days] [seed]``.  Tasks last from two minutes to a day and are
renewed as they end; the server is out for hours, throttles for minutes, and the machine sleeps.  The
oracle judges every watch by its own small trace, which is cut as it grows: a trace of the whole
week would be all that memory shows.  A line a day tells how it goes; the exit code is 1 when any
promise was broken, or memory grew.
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
IMPATIENT = 0.05  # share of the tasks given up after half their time
FAULTY = 0.01  # share of the requests in trouble on a good day
FAULTS_OF_A_GOOD_DAY = ("500", "503", "html", "garbage", "firewall", "hang", "refused")
CALM_FOR = (HOUR, 12 * HOUR)  # seconds between two troubles
TROUBLES = {  # what all requests meet, and for how many seconds
    "503": (HOUR, 4 * HOUR),
    "hang": (HOUR, 4 * HOUR),
    "html": (HOUR, 4 * HOUR),
    "refused": (HOUR, 4 * HOUR),
    "429": (60.0, 600.0),
    "429-bare": (60.0, 600.0),
    "sleep": (10.0, HOUR),  # of this machine
}
TRACE = 100  # records after which a trace is judged and cut
SLACK = 300.0
"""Seconds from an end, or from the end of a trouble, until it is told: two failures in a row with
their pauses, a cool-down of a minute, a rate that grows back."""


@define
class Life:
    """One task, watched once; *trace* is what happened since it was cut."""

    task_id: str
    number: int
    begun: float
    ends: float
    outcome: str
    deadline: float
    trace: Trace = field(factory=Trace)
    events: int = 0

    def status(self, now: float) -> str:
        """What the server says of it."""
        if now >= self.ends:
            return self.outcome
        return "processing" if now - self.begun > 0.1 * (self.ends - self.begun) else "pending"

    def may_be(self, kind: str, now: float) -> bool:
        """Whether it may be told to have ended like this."""
        if kind == "task_lost":  # at its deadline, or when a Retry-After leads beyond it
            return now >= self.deadline - 10.0
        return now >= self.ends and kind == f"task_{self.outcome}"

    def cut(self) -> None:
        """Keep of the requests the last one, and of the answers those that were told."""
        requests = [record for record in self.trace.records if isinstance(record, Asked)]
        judged, kept = set(requests[:-1]), []
        for record, following in zip_longest(self.trace.records, self.trace.records[1:]):
            match record:
                case Asked() if record in judged:
                    continue
                case Closed(asked=asked) if asked in judged:
                    continue
                case Answered() if not isinstance(following, Delivered):
                    continue
            kept.append(record)
        self.trace = Trace(kept)


class Week(FakeTransport):
    """A server without sockets, and the judge of what a watcher makes of it."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.lives: dict[str, Life] = {}
        self.born = 0
        self.trouble: str | None = None
        self.well_since = 0.0
        self.told: Counter[str] = Counter()
        self.waits: Counter[int] = Counter()  # whole seconds from an end to its being told
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
            deadline=now + lasts / 2 if self.chance.random() < IMPATIENT else inf,
        )
        life.trace.records.append(Added(life.task_id, life.number, now, life.deadline))
        self.lives[life.task_id] = life
        return life

    async def send(self, request, secret, **options):
        """Let the answer, or the trouble of the hour, be written down for the oracle."""
        now = asyncio.get_running_loop().time()
        self.sends += 1
        life = self._asked(request.task_id, now)
        if len(life.trace.records) > TRACE:
            self.breaches += check(life.trace, LIMITS, is_part=True)
            life.cut()
        return await keep(life.trace, self._answer)(request, secret, **options)

    async def _answer(self, request, _secret, **_options):
        loop, life = asyncio.get_running_loop(), self.lives[request.task_id]
        fault = self.trouble
        if fault is None and self.chance.random() < FAULTY:
            fault = self.chance.choice(FAULTS_OF_A_GOOD_DAY)
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

    def _asked(self, task_id: str, now: float) -> Life:
        """Judge one request by the limits of all."""
        if self._flying >= LIMITS.max_in_flight:
            self.breaches.append(f"INV-10: {self._flying + 1} in flight at {now}")
        drained = LIMITS.rate * (now - self._level_at)
        self._level, self._level_at = max(0.0, self._level - drained) + 1.0, now
        if self._level > LIMITS.burst + 1.0:
            self.breaches.append(f"INV-12: the rate is passed at {now}")
        if task_id not in self.lives:
            self.breaches.append(f"INV-5: {task_id} was asked for at {now}, after its end")
            return self.begin(now, task_id)
        return self.lives[task_id]

    # -- the watcher ------------------------------------------------------------------------------

    def hear(self, event: Event, now: float) -> Life | None:
        """Judge one event; the life that ended with it."""
        self._events += 1
        if event.seq != self._events:
            self.breaches.append(f"INV-1: event {self._events} is numbered {event.seq}")
        life = self.lives.get(event.task_id)
        if life is None or life.number != event.tag:
            self.breaches.append(f"INV-4: {event} is of a watch that has ended, or never was")
            return None
        life.events += 1
        life.trace.delivered(evolve(event, seq=life.events), now)
        if not event.is_final:
            return None
        self.breaches += check(life.trace, LIMITS, is_over=True, is_part=True)
        self._judge_end(life, event, now)
        del self.lives[event.task_id]
        return life

    def _judge_end(self, life: Life, event: Event, now: float) -> None:
        self.told[event.kind] += 1
        if not life.may_be(event.kind, now):
            self.breaches.append(f"{life.task_id} is told as {event.kind}, it is {life.outcome}")
        if self.trouble is None and event.kind != "task_lost":
            waited = now - max(life.ends, self.well_since)
            self.waits[int(waited)] += 1
            if waited > SLACK:
                self.breaches.append(f"INV-21: {life.task_id} was told after {waited:.0f} s")

    # -- the world --------------------------------------------------------------------------------

    async def be_troubled(self) -> None:
        """Bring one trouble after another, with hours between them."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.chance.uniform(*CALM_FOR))
            kind = self.chance.choice(list(TROUBLES))
            seconds = self.chance.uniform(*TROUBLES[kind])
            if kind == "sleep":
                loop._now += seconds
            else:
                self.trouble = kind
                await asyncio.sleep(seconds)
                self.trouble = None
            self.well_since = loop.time()

    def end_all(self, now: float) -> None:
        """End all trouble, and all tasks."""
        self.trouble, self.well_since = None, now
        for life in self.lives.values():
            life.ends = min(life.ends, now)


async def read(week: Week, watcher: TaskWatcher, until: float) -> None:
    """Judge every event, and watch a new task for every one that ended."""
    loop = asyncio.get_running_loop()
    async for event in watcher:
        ended = week.hear(event, loop.time())
        if ended is not None and loop.time() < until:
            is_same = week.chance.random() < SAME_ID
            watch(watcher, week.begin(loop.time(), ended.task_id if is_same else None))


def watch(watcher: TaskWatcher, life: Life) -> None:
    """Add a task, with its number and its time limit."""
    timeout = None if life.deadline == inf else life.deadline - life.begun
    watcher.add(life.task_id, tag=life.number, timeout=timeout, restart_ended=True)


async def tell(week: Week, watcher: TaskWatcher, vitals: Vitals) -> None:
    """Take a sample every virtual hour, and print a line every day."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(HOUR)
        sample = vitals.take(loop.time())
        if len(vitals.samples) % 24 == 0:
            print(
                f"day {loop.time() / DAY:3.1f}: {watcher.stats.open} open,"
                f" {week.told.total():,} ended, {week.sends:,} polls,"
                f" {len(week.breaches)} breaches;"
                f" {sample.memory / 1024:.1f} MiB, {sample.files} files, {sample.tasks} tasks",
                flush=True,
            )


async def soak(
    days: float, chance: random.Random, *, alive: int = ALIVE
) -> tuple[list[str], Vitals]:
    """Watch so many for so long, let everything end, and name what is wrong."""
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
        helping = [
            asyncio.create_task(tell(week, watcher, vitals)),
            asyncio.create_task(week.be_troubled()),
        ]
        await asyncio.wait([reading], timeout=days * DAY)
        for task in helping:
            task.cancel()
        await asyncio.wait(helping)
        week.end_all(loop.time())
        watcher.finish_adding()
        done, _ = await asyncio.wait([reading], timeout=HOUR)
        stats = watcher.stats
    for task in (*helping, *done):
        if not task.cancelled():
            task.result()
    total = stats.completed + stats.failed + stats.lost
    waits = sorted(week.waits.elements())
    print(f"{week.born:,} tasks begun, {total:,} ended: {dict(week.told)}; {week.sends:,} polls")
    print(
        f"from an end to its telling, no trouble: half in {waits[len(waits) // 2]} s,"
        f" 99 % in {waits[len(waits) * 99 // 100]} s, all in {waits[-1]} s"
    )
    pauses = rate_limiter_of(budget).pauses
    print(f"second half: {vitals.summary()}; {pauses} cool-downs and outages")
    if not week.born == total == week.told.total() or week.lives:
        week.breaches.append(f"{week.born} tasks begun, {total} ended, {len(week.lives)} open")
    if client.requests_sent != week.sends or stats.polls != week.sends:
        week.breaches.append(f"{stats.polls} polls were counted, {week.sends} sent")
    return week.breaches, vitals


def main() -> None:
    """Run it in virtual time."""
    days = max(0.5, float(sys.argv[1])) if len(sys.argv) > 1 else 7.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    logging.getLogger("ezvideo_async").setLevel(logging.CRITICAL)  # troubles are wanted here
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
