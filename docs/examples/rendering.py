"""The program under test: it waits for a video, and says what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezvideo_async import TaskFailedError, WaitTimeoutError

if TYPE_CHECKING:
    from ezvideo_async import AsyncVideoClient


PATIENCE = 1800.0  # seconds


async def rendered(client: AsyncVideoClient, task_id: str) -> str:
    try:
        task = await client.wait(task_id, timeout=PATIENCE)
    except TaskFailedError as failed:
        return f"failed: {failed.task and failed.task.error}"
    except WaitTimeoutError:
        return "still running, asked again tonight"
    return f"ready: {task.url}"
