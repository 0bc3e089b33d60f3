"""
Benchmark of the memory of a watched id, before and after its first response, and of adding ids.

The whole watcher runs on a transport that responds without a network.  The id strings are made
before and do not count.
"""

from __future__ import annotations

import gc
import resource
from collections import Counter
from pathlib import Path
from typing import Any

from tests.long.bench.harness import (
    Case,
    Goal,
    Options,
    Sample,
    cpu_seconds,
    drained,
    interleaved,
    markdown,
    meanwhile,
    reached,
    spread,
    task_ids,
)

_KIB = 1024.0
_FIRST_LOOKS = 12_000.0  # per second: half of what the transport can do, so that none is late
_IDLE = 2_500.0  # polls per second of all ids together, after their first response
_BUCKET = 0.1  # seconds
_NO_BURST = 2.0  # times the average: what a busy machine catches up
_ADDED_RATE = 10_000.0  # requests per second; first polls get half of it
_OFTEN = 100_000  # ids: more are measured once
SIZES = (10_000, 100_000, 1_000_000)


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def idle_ids(ids: int) -> Sample:
    """Add ids to a running watcher; poll each once and read its event."""
    from ezvideo_async import PollPolicy
    from tests.long.bench.mock import MockTransport, mock_client

    asked = task_ids(ids)
    policy = PollPolicy(interval=max(5.0, ids / _IDLE))
    async with (
        mock_client(MockTransport(), rate=2 * _FIRST_LOOKS) as client,
        client.watch(["first"], policy=policy) as watcher,
        meanwhile(drained(watcher)),
    ):
        await reached(lambda: watcher.stats.polls, 1)
        before = resident_bytes()
        watcher.add(*asked)
        added = resident_bytes()
        await reached(lambda: watcher.stats.polls, ids + 1)
        await reached(lambda: -watcher.stats.unread, 0)
        seen = resident_bytes()
    return {"new": (added - before) / ids / _KIB, "seen": (seen - before) / ids / _KIB}


async def added_at_once(ids: int) -> Sample:
    """Add many ids in one call: CPU time, and how evenly first polls are spread."""
    from ezvideo_async import PollPolicy
    from tests.long.bench.mock import MockTransport, mock_client

    asked = task_ids(ids)
    transport = MockTransport()
    async with (
        mock_client(transport, rate=_ADDED_RATE) as client,
        client.watch(["first"], policy=PollPolicy(interval=60.0)) as watcher,
    ):
        await reached(lambda: watcher.stats.polls, 1)
        transport.started = {}
        before = cpu_seconds()
        watcher.add(*asked)
        cpu = cpu_seconds() - before
        await reached(lambda: watcher.stats.polls, ids + 1)
        starts = sorted(transport.started.values())
    looks = Counter(int((at - starts[0]) / _BUCKET) for at in starts)
    mean = ids / ((starts[-1] - starts[0]) / _BUCKET)
    return {"cpu": cpu, "peak": max(looks.values()) / mean, "seconds": starts[-1] - starts[0]}


def run(options: Options) -> dict[str, Any]:
    """Measure all sizes alternately; memory hardly differs between rounds."""
    sizes = (2_000, 20_000) if options.quick else SIZES
    cases = []
    for ids in sizes:
        rounds = 1 if ids > _OFTEN or options.quick else 2
        cases.append(Case(f"{ids}", idle_ids, {"ids": ids}, rounds))
    adding = 10_000 if options.quick else 100_000
    cases.append(Case("adding", added_at_once, {"ids": adding}, 3))
    return {"samples": interleaved(cases, options), "sizes": sizes, "adding": adding}


def tables(found: dict[str, Any]) -> str:
    """Return memory by number of ids as a table, and the cost of adding."""
    samples, sizes = found["samples"], found["sizes"]
    rows = [
        [what, *(f"{spread(samples, f'{ids}', name).median:.2f}" for ids in sizes)]
        for name, what in (("new", "not yet seen"), ("seen", "seen"))
    ]
    table = markdown(["memory per watched id, KiB (RSS)", *(f"{ids:,} ids" for ids in sizes)], rows)
    return (
        f"{table}\n\nAdding {found['adding']:,} ids in one call takes "
        f"{spread(samples, 'adding', 'cpu').shown()} seconds of CPU time; their first polls are "
        f"spread over {spread(samples, 'adding', 'seconds').median:.1f} seconds, and the busiest "
        f"0.1 s has {spread(samples, 'adding', 'peak').median:.2f} times the average."
    )


def goals(found: dict[str, Any]) -> list[Goal]:
    """Compare the figures with the targets."""
    samples = found["samples"]
    size = [
        Goal("e", f"an idle id, {what}, {ids:,} ids", spread(samples, f"{ids}", name), 0.75,
             stretch=0.4, unit="KiB")
        for name, what in (("new", "not yet seen"), ("seen", "seen"))
        for ids in found["sizes"]
    ]  # fmt: skip
    adding, share = found["adding"], found["adding"] / 100_000
    return [
        *size,
        Goal("e", f"adding {adding:,} ids, CPU time", spread(samples, "adding", "cpu"),
             share, unit="s"),
        Goal("e", "their first polls, busiest 0.1 s / average",
             spread(samples, "adding", "peak"), _NO_BURST, unit="x", needs_quiet=True),
    ]  # fmt: skip
