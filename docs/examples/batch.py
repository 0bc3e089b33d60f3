"""Watch a batch of tasks: python batch.py ID ID ..."""

from __future__ import annotations

import asyncio
import sys

from ezvideo_async import AsyncVideoClient, TaskCompleted, TaskFailed, TaskLost


async def main(task_ids: list[str]) -> None:
    async with AsyncVideoClient() as client, client.watch(task_ids) as watcher:
        async for event in watcher:
            match event:
                case TaskCompleted(task_id=task_id, task=task):
                    print(task_id, "completed", task.url)
                case TaskFailed(task_id=task_id, task=task):
                    print(task_id, "failed", task.error)
                case TaskLost(task_id=task_id, reason=reason):
                    print(task_id, "lost", reason)
        print(watcher.stats)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
