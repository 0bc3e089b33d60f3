"""
CPU instructions per poll of the client's process, without the kernel, counted by valgrind.

A case runs twice, with few and with many polls.  The difference of the counts, divided by that of
the polls, leaves out start-up and first polls.  Repeats are almost equal; between two versions of
the code, less than 0.5 % is no difference: another hash seed changes as much.

The event loop is asyncio's, on real sockets, with two changes that make it repeatable.  It reads
no socket until responses to all requests in flight have arrived.  Its clock advances by a fixed
step each time, so that ids are always due, however slow valgrind is.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import selectors
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.long.bench import harness
from tests.long.bench.harness import CLIENT_CORE, KEY, SERVER_CORE, task_ids
from tests.long.bench.responder import responder

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from ezvideo_async import TaskEvent

WIDTH = 64  # requests in flight, and responses per wake-up of the loop
IDS = 2_000
FEW = 40 * WIDTH  # polls of the short run: each id was polled at least once
MANY, QUICK_MANY = FEW + 32 * WIDTH, FEW + 16 * WIDTH
_SCHEDULED = 5  # times as many polls where there is no network
_AMPLE = 1e6  # requests a second: the budget must not limit
_INTERVAL = 0.1  # seconds; a poll of all ids takes 0.25 s of the loop's clock
_STEP = 0.008  # seconds of the loop's clock per wake-up: 8,000 polls a second
_PAUSES = (0.01, 0.02, 0.04, 0.08, 0.16)  # real seconds before each check for responses: few checks
_MOST_PASSES = 1_000  # of the loop in a row without a check for responses
_TIMEOUT = 600  # seconds for one run, which takes 10 to 20 on a quiet machine
# cachegrind without a cache simulation counts what callgrind counts, in half the time.
_VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")


class _Batches(selectors.DefaultSelector):
    """Reports sockets when all responses have arrived, in the order of their numbers."""

    now = 1_000.0  # seconds, the loop's clock
    _passes = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        self._passes += 1
        if timeout is not None and timeout <= 0 and self._passes < _MOST_PASSES:
            return []
        self._passes = 0
        self.now += _STEP
        for pause in _PAUSES:
            time.sleep(pause)
            ready = super().select(0)
            if len(ready) >= WIDTH:
                break
        return sorted(ready, key=lambda each: each[0].fd)


class _BatchLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._batches = _Batches()
        super().__init__(self._batches)

    def time(self) -> float:
        return self._batches.now


async def watch(base_url: str, polls: int, *, progress: bool = False, tasks: bool = False) -> int:
    """Watch until at least *polls* polls are done; return their number."""
    from ezvideo_async import AsyncVideoClient, PollPolicy, RequestBudget

    async def read(events: AsyncIterable[TaskEvent]) -> None:
        async for event in events:
            if tasks:
                _ = event.task

    policy = PollPolicy(interval=_INTERVAL, min_interval=0.001)
    budget = RequestBudget(rate=_AMPLE, max_in_flight=WIDTH)
    async with (
        AsyncVideoClient(KEY, base_url=base_url, budget=budget) as client,
        client.watch(task_ids(IDS), policy=policy, progress=progress) as watcher,
        harness.meanwhile(read(watcher)),
    ):
        await harness.reached(lambda: watcher.stats.polls, polls)
        return watcher.stats.polls


async def retrieve(base_url: str, polls: int) -> int:
    """Call ``AsyncVideoClient.retrieve`` *polls* times, 64 calls at a time."""
    from ezvideo_async import AsyncVideoClient, RequestBudget

    budget = RequestBudget(rate=_AMPLE, max_in_flight=WIDTH)
    ids, left = task_ids(IDS), iter(range(polls))
    async with AsyncVideoClient(KEY, base_url=base_url, budget=budget) as client:

        async def work() -> None:
            for number in left:
                await client.retrieve(ids[number % IDS])

        await asyncio.gather(*(work() for _ in range(WIDTH)))
    return polls


async def schedule(_base_url: str, polls: int, *, lasting: int) -> int:
    """Drive the schedule without network and decoding, as ``schedule_cost`` does."""
    from tests.long.bench.schedule_cost import plain_loop

    await plain_loop(IDS, _SCHEDULED * polls, lasting=lasting)
    return _SCHEDULED * polls


NO_EVENT = f"`TaskWatcher`, {IDS:,} ids, nothing new"
RETRIEVE = "`AsyncVideoClient.retrieve()`"
CASES: dict[str, Any] = {
    NO_EVENT: watch,
    "the same, every poll an event": partial(watch, progress=True),
    "the same, and each event's whole task read": partial(watch, progress=True, tasks=True),
    RETRIEVE: retrieve,
    "schedule to reader, no network, nothing new": partial(schedule, lasting=1_000_000),
    "schedule to reader, one poll in seven an event": partial(schedule, lasting=8),
    "schedule to reader, every poll an event": partial(schedule, lasting=1),
}


def unavailable() -> str | None:
    """Return why nothing can be counted here; None if it can."""
    if shutil.which(_VALGRIND[0]):
        return None
    return "instructions are not counted: valgrind not found; install it (Debian: valgrind)"


def run(options: harness.Options) -> dict[str, Any]:
    """Count all cases, repeat by repeat."""
    many = QUICK_MANY if options.quick else MANY
    for case in CASES:  # writes the byte code, which the first counted run would write otherwise
        _finished(case, WIDTH, CLIENT_CORE, ())
    samples: harness.Samples = {case: [] for case in CASES}
    for repeat in range(options.rounds):
        for case in CASES:
            samples[case].append(sample := _sample(case, many))
            shown = f"{sample['thousands']:,.2f} thousand instructions per poll"
            print(f"[{repeat + 1}/{options.rounds}] {case}: {shown}", file=sys.stderr)
    return {"samples": samples}


def _sample(case: str, many: int) -> harness.Sample:
    """Run a case with few and with many polls, each on one core."""
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(partial(_finished, case), (FEW, many), (SERVER_CORE, CLIENT_CORE))
        (few_polls, few_count), (many_polls, many_count) = runs
    return {"thousands": (many_count - few_count) / (many_polls - few_polls) / 1e3}


def _finished(case: str, polls: int, core: int, prefix: Any = _VALGRIND) -> tuple[int, int]:
    """Run a case in a process of its own; return its polls and its instructions."""
    with responder(is_moving=case not in (NO_EVENT, RETRIEVE)) as server:
        harness.pin(core)  # this thread; the process inherits it
        done = subprocess.run(
            [*prefix, sys.executable, "-m", __name__, case, server.base_url, str(polls)],
            cwd=harness.ROOT, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True,
            text=True, timeout=_TIMEOUT, check=False,
        )  # fmt: skip
    counted = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode or (prefix and not counted):
        raise RuntimeError(f"no count for {case}: exit code {done.returncode}\n{done.stderr}")
    return int(done.stdout), int(counted[1].replace(",", "")) if counted else 0


def tables(found: dict[str, Any]) -> str:
    """Write the instructions per poll, and how far apart the repeats are."""
    rows = []
    for case, samples in found["samples"].items():
        counts = [sample["thousands"] for sample in samples]
        middle = median(counts)
        apart = (max(counts) - min(counts)) / middle
        rows.append([case, f"{middle:,.1f}", f"{apart:.3%}", str(len(counts))])
    return harness.markdown(["case", "instructions per poll, thousands", "spread", "repeats"], rows)


if __name__ == "__main__":
    random.seed(0)
    with asyncio.Runner(loop_factory=_BatchLoop) as runner:
        print(runner.run(CASES[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
