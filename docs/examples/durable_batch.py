"""
Watch a batch of tasks, and continue after a restart.

Run it again with the same arguments: python durable_batch.py ID ID ...
"""

from __future__ import annotations

import asyncio
import sys

from ezvideo_async import AsyncVideoClient


async def main(task_ids: list[str]) -> None:
    async with (
        AsyncVideoClient() as client,
        client.watch(task_ids, store="watch.db") as watcher,
    ):
        watcher.finish_adding()  # without ids, those of the file are watched
        async for event in watcher:
            if event.is_final:
                print(event.dedup_key, event.task and event.task.url, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
