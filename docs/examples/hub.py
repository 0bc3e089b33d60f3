"""Share the polls of one watcher among several readers."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from ezvideo_async import AsyncVideoClient

if TYPE_CHECKING:
    from ezvideo_async import TaskWatcher


async def print_events(watcher: TaskWatcher, task_id: str) -> None:
    async with watcher.subscribe(task_id, progress=True) as events:
        async for event in events:
            shown = "" if event.task is None else f"{event.task.progress} %"
            print(event.task_id, event.kind, shown)


async def main(task_ids: list[str]) -> None:
    async with AsyncVideoClient() as client, client.watch(keep_open=True) as watcher:
        watcher.add(*task_ids)
        readers = [
            asyncio.create_task(print_events(watcher, task_id))
            for task_id in task_ids
        ]
        first = await watcher.wait(task_ids[0], raise_on_failure=False)
        print("first task:", first.status)
        await asyncio.gather(*readers)
        print("requests sent:", client.requests_sent)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
