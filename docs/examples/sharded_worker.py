"""Watch one share of many tasks: python sharded_worker.py INDEX COUNT < ids.txt."""

from __future__ import annotations

import asyncio
import sys
import zlib

from ezvideo_async import AsyncVideoClient, RequestBudget

RATE = 100.0  # requests per second, of all processes together


def index_of(task_id: str, count: int) -> int:
    """Return the process that watches an id; the same in every process and run."""
    return zlib.crc32(task_id.encode()) % count


async def main(index: int, count: int, task_ids: list[str]) -> None:
    mine = [task_id for task_id in task_ids if index_of(task_id, count) == index]
    async with (
        AsyncVideoClient(budget=RequestBudget(rate=RATE / count)) as client,
        client.watch(mine, store=f"watch-{index}-of-{count}.db") as watcher,
    ):
        watcher.finish_adding()
        async for event in watcher:
            if event.is_final:
                print(event.dedup_key, flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.read().split()))
