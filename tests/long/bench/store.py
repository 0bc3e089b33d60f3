"""
Benchmark of a watcher with a store: CPU time per change, and how long the event loop is held.

A cost is the CPU time of the whole process, thread and disk calls included, less that of the same
watcher without a store.  Changes are made with ``add()`` and ``apply()``, so that no poll is
measured.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tests.long.bench.harness import (
    Case,
    Goal,
    Meter,
    Options,
    Sample,
    interleaved,
    markdown,
    meanwhile,
    percentile,
    spread,
    task_ids,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ezvideo_async import TaskWatcher, VideoTask

_BATCH = 1000  # ids of one add()
_HOURS = 86_400.0  # seconds between polls: none is measured
_STALL_RATE, _STALL_FOR = 1000, 5  # changes per second, seconds
_BEAT = 0.001  # seconds
ADD, CHANGE, ACKNOWLEDGE = "add, durable", "change of status", "acknowledgement"
OPEN, STALL = "open", "stall"
_FIRST_POLL = 0.02  # seconds; the mock responds at once


@asynccontextmanager
async def _watching(folder: Path | None, ids: list[str]) -> AsyncIterator[TaskWatcher]:
    """Enter a watcher with a store in the folder, or with none, that does not poll again."""
    from ezvideo_async import PollPolicy
    from tests.long.bench.mock import MockTransport, mock_client

    policy = PollPolicy(interval=_HOURS, jitter=0.0)
    store = None if folder is None else folder / "watch.db"
    async with (
        mock_client(MockTransport(), rate=0.01, burst=1) as client,
        client.watch(ids, policy=policy, store=store, keep_open=True) as watcher,
    ):
        await watcher.save()
        await asyncio.sleep(_FIRST_POLL)
        yield watcher


def _task(task_id: str, status: str) -> VideoTask:
    """Decode a task from a body whose url has a query, as a poll does."""
    from ezvideo_async._domain.strict_json import decode_json
    from ezvideo_async._protocol.task_decoder import read_task
    from tests.long.bench.responder import body_of

    body = body_of(task_id.encode(), 42).replace(b"in_progress", status.encode())
    body = body.replace(b'"error":null', b'"url":"https://cdn.example.test/v.mp4?signature=0123"')
    return read_task(
        decode_json(body), body=body, task_id=task_id, base_url=None, request_id="0123456789abcdef"
    )


async def _add(watcher: TaskWatcher, count: int) -> float:
    ids = task_ids(count)
    with Meter() as meter:
        for start in range(0, count, _BATCH):
            watcher.add(*ids[start : start + _BATCH])
            await watcher.save()
    return meter.cpu


async def _change(watcher: TaskWatcher, count: int) -> float:
    states = [_task(task_id, "processing") for task_id in task_ids(count)]
    watcher.add(*task_ids(count))
    await watcher.save()
    with Meter() as meter:
        for task in states:
            watcher.apply(task)
        await watcher.save()
    return meter.cpu


async def _acknowledge(watcher: TaskWatcher, count: int) -> float:
    watcher.add(*task_ids(count))
    for task_id in task_ids(count):
        watcher.apply(_task(task_id, "completed"))
    await watcher.save()
    finals = 0
    with Meter() as meter:
        while finals < count:
            finals += (await anext(watcher)).is_final
        await watcher.save()
    return meter.cpu


_SUBJECTS = {ADD: _add, CHANGE: _change, ACKNOWLEDGE: _acknowledge}


async def cost(what: str, count: int) -> Sample:
    """Measure one kind of change with and without a store."""
    with TemporaryDirectory() as folder:
        async with _watching(Path(folder), ["first"]) as watcher:
            stored = await _SUBJECTS[what](watcher, count)
    async with _watching(None, ["first"]) as watcher:
        plain = await _SUBJECTS[what](watcher, count)
    return {"us": 1e6 * (stored - plain) / count}


async def opened(count: int) -> Sample:
    """Measure the opening of a file with many ids, until the watcher is entered."""
    with TemporaryDirectory() as folder:
        async with _watching(Path(folder), ["first"]) as watcher:
            await _change(watcher, count)
        lags: list[float] = []
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(meanwhile(_beat(lags)))
            await asyncio.sleep(0.05)
            lags.clear()
            with Meter() as meter:
                await stack.enter_async_context(_watching(Path(folder), []))
    return {"s": meter.cpu, "longest stall, ms": 1e3 * max(lags)}


async def stall(rate: int, seconds: int) -> Sample:
    """Measure how late a timer is while states change."""
    count = rate * seconds
    states = [_task(task_id, "processing") for task_id in task_ids(count)]
    lags: list[float] = []
    with TemporaryDirectory() as folder:
        async with _watching(Path(folder), ["first"]) as watcher:
            watcher.add(*task_ids(count))
            await watcher.save()
            async with meanwhile(_beat(lags)):
                loop = asyncio.get_running_loop()
                start = loop.time()
                for number, task in enumerate(states):
                    await asyncio.sleep(max(0.0, start + number / rate - loop.time()))
                    watcher.apply(task)
    return {"ms": 1e3 * percentile(lags, 99), "longest, ms": 1e3 * max(lags)}


async def _beat(lags: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _BEAT
        await asyncio.sleep(_BEAT)
        lags.append(loop.time() - due)


def run(options: Options) -> dict[str, Any]:
    """Measure all changes alternately."""
    count, rows = (2_000, [10_000]) if options.quick else (10_000, [10_000, 100_000])
    cases = [Case(what, cost, {"what": what, "count": count}) for what in _SUBJECTS]
    cases += [Case(f"{OPEN} {size}", opened, {"count": size}) for size in rows]
    cases.append(Case(STALL, stall, {"rate": _STALL_RATE, "seconds": _STALL_FOR}))
    return {"samples": interleaved(cases, options), "rows": rows}


def tables(found: dict[str, Any]) -> str:
    """Return what the store costs as a table."""
    samples = found["samples"]
    rows = [[f"{what}, CPU", f"{spread(samples, what, 'us').shown(1)} µs"] for what in _SUBJECTS]
    for size in found["rows"]:
        case = f"{OPEN} {size}"
        rows += [
            [f"opening {size:,} ids, CPU", f"{spread(samples, case, 's').shown()} s"],
            ["the longest stall meanwhile", _milliseconds(samples, case, "longest stall, ms")],
        ]
    rows.append(["stall at 1,000 changes/s, p99", _milliseconds(samples, STALL, "ms")])
    rows.append(["the same, longest", _milliseconds(samples, STALL, "longest, ms")])
    return markdown(["with a store", "more than without"], rows)


def _milliseconds(samples: Any, case: str, name: str) -> str:
    return f"{spread(samples, case, name).shown(1)} ms"


def goals(found: dict[str, Any]) -> list[Goal]:
    """Compare the figures with the targets."""
    samples = found["samples"]
    bars = {ADD: 30, CHANGE: 90, ACKNOWLEDGE: 300}
    costs = [
        Goal("s", what, spread(samples, what, "us"), bar, unit="µs", digits=1)
        for what, bar in bars.items()
    ]
    bars_of_rows = {10_000: 0.3, 100_000: 2.5}
    opening = [
        Goal("s", f"opening {size:,} ids", spread(samples, f"{OPEN} {size}", "s"), bar, unit="s")
        for size, bar in bars_of_rows.items()
        if size in found["rows"]
    ]
    late = spread(samples, STALL, "ms")
    what = "stall of the loop at 1,000 changes/s, p99"
    return [*costs, *opening, Goal("s", what, late, 20, unit="ms", digits=1, needs_quiet=True)]
