"""
Watch of 10,000 tasks of a server in another process, compared with the server's records.

``python tests/long/bench/watch_ten_thousand.py [ids] [rate]`` prints: final events delivered once,
polls after an end, the peak and the average of first polls per 100 ms, seconds from an end to its
event, memory and CPU time.  Both processes read the same monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import mean
from typing import Any

from ezvideo_async import AsyncVideoClient, RequestBudget, TaskWatcher
from ezvideo_async.testing import FakeVideoServer

SHORTEST, LONGEST = 15.0, 45.0  # seconds a task takes
INTERVAL = 5.0
BUCKET = 0.1


async def serve(count: int) -> None:
    """Run the server until standard input closes, then print its records."""
    loop = asyncio.get_running_loop()
    async with FakeVideoServer(keep_requests=10_000_000) as server:
        print(server.base_url, flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        started = loop.time()
        span = (LONGEST - SHORTEST) / count
        ends = {}
        for number in range(count):
            duration = SHORTEST + span * number
            task_id = server.add_task(f"vid_{number:07}", duration=duration)
            ends[task_id] = loop.time() + duration
        print(json.dumps({"started": started}), flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        requests = [(record.task_id, record.at) for record in server.requests()]
        print(json.dumps({"ends": ends, "requests": requests}), flush=True)


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def watch(base_url: str, ids: list[str], rate: float) -> dict[str, Any]:
    """Watch all ids to their end and count the events."""
    loop = asyncio.get_running_loop()
    told: Counter[str] = Counter()
    told_at: dict[str, float] = {}
    after_end = 0
    budget = RequestBudget(rate=rate)
    async with AsyncVideoClient("key", base_url=base_url, budget=budget) as client:
        await client.retrieve(ids[0])
        before = rss_bytes()
        peak = 0
        watcher: TaskWatcher
        async with client.watch(ids) as watcher:
            async for event in watcher:
                after_end += told[event.task_id]
                if event.is_final:
                    told[event.task_id] += 1
                    told_at[event.task_id] = loop.time()
                if len(told_at) % 100 == 1:
                    peak = max(peak, rss_bytes())
        return {
            "told": told,
            "told_at": told_at,
            "events_after_end": after_end,
            "memory": peak - before,
            "sent": client.requests_sent,
        }


def report(ids: list[str], found: dict[str, Any], ledger: dict[str, Any], cpu: float) -> None:
    """Print the figures."""
    requests, ends = ledger["requests"], ledger["ends"]
    firsts: dict[str, float] = {}
    late_polls = 0
    for task_id, at in requests[1:]:  # the first one warmed the connection up
        firsts.setdefault(task_id, at)
        late_polls += at > found["told_at"][task_id]
    begun = min(firsts.values())
    buckets = Counter(int((at - begun) / BUCKET) for at in firsts.values())
    per_bucket = len(ids) / (INTERVAL / BUCKET)
    waits = [found["told_at"][task_id] - ends[task_id] for task_id in ids]
    print(
        f"ids {len(ids)}, final events delivered exactly once "
        f"{sum(n == 1 for n in found['told'].values())}"
    )
    print(f"events after an end {found['events_after_end']}, polls after an end {late_polls}")
    print(f"requests: client counted {found['sent']}, server {len(requests)}")
    print(f"first polls in 100 ms: peak {max(buckets.values())}, average {per_bucket:.0f}, "
          f"ratio {max(buckets.values()) / per_bucket:.2f}")  # fmt: skip
    print(f"seconds from end to event: average {mean(waits):.2f}, max {max(waits):.2f}")
    print(f"memory added {found['memory'] / 1e6:.1f} MB")
    print(f"client CPU {cpu:.1f} s, {1e6 * cpu / len(requests):.0f} us per poll")


def main() -> None:
    """Run server and client."""
    if "--serve" in sys.argv:
        with suppress(KeyboardInterrupt):
            asyncio.run(serve(int(sys.argv[-1])))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 4_000.0
    command = [sys.executable, __file__, "--serve", str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        base_url = server.stdout.readline().strip()
        server.stdin.write("start\n")
        server.stdin.flush()
        server.stdout.readline()
        ids = [f"vid_{number:07}" for number in range(count)]
        before = resource.getrusage(resource.RUSAGE_SELF)
        found = asyncio.run(watch(base_url, ids, rate))
        after = resource.getrusage(resource.RUSAGE_SELF)
        server.stdin.write("stop\n")
        server.stdin.flush()
        ledger = json.loads(server.stdout.readline())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report(ids, found, ledger, cpu)


if __name__ == "__main__":
    main()
