"""Add ids while watching: they are read from standard input, one per line."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from ezvideo_async import AsyncVideoClient

if TYPE_CHECKING:
    from ezvideo_async import TaskWatcher


async def read_ids(watcher: TaskWatcher) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        if task_id := line.strip():
            watcher.add(task_id, tag="from stdin")
    watcher.finish_adding()  # the loop below ends after the last final event


async def main() -> None:
    async with AsyncVideoClient() as client, client.watch() as watcher:
        reading = asyncio.create_task(read_ids(watcher))
        async for event in watcher:
            if event.is_final:
                print(event.task_id, event.kind, event.tag)
        await reading


if __name__ == "__main__":
    asyncio.run(main())
