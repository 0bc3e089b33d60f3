"""Code under test: wait for a video and report the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezvideo_async import TaskFailedError, WaitTimeoutError

if TYPE_CHECKING:
    from ezvideo_async import AsyncVideoClient


TIMEOUT = 1800.0  # seconds


async def report(client: AsyncVideoClient, task_id: str) -> str:
    try:
        task = await client.wait(task_id, timeout=TIMEOUT)
    except TaskFailedError as failed:
        return f"failed: {failed.task and failed.task.error}"
    except WaitTimeoutError:
        return "still running"
    return f"ready: {task.url}"
