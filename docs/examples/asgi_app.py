"""ASGI application with one watcher for the whole process."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from ezvideo_async import AsyncVideoClient, EzVideoError, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ezvideo_async import TaskWatcher

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]


class VideoApp:
    """Respond to GET /ID when the task has finished, or with 202 after 25 seconds."""

    watcher: TaskWatcher

    async def __call__(
        self, scope: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        if scope["type"] == "lifespan":
            await self.run_lifespan(receive, send)
        elif scope["type"] == "http":
            await self.show_video(scope["path"].removeprefix("/"), send)

    async def run_lifespan(self, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            await receive()  # lifespan.startup
            client = await stack.enter_async_context(AsyncVideoClient())
            self.watcher = await stack.enter_async_context(
                client.watch(keep_open=True)
            )
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        await send({"type": "lifespan.shutdown.complete"})

    async def show_video(self, task_id: str, send: Send) -> None:
        try:
            task = await self.watcher.wait(
                task_id, timeout=25.0, raise_on_failure=False
            )
            status, body = 200, task.to_dict()
        except WaitTimeoutError:
            status, body = 202, {"id": task_id}
        except EzVideoError as error:
            status, body = 502, {"id": task_id, "error": str(error)}
        headers = [(b"content-type", b"application/json")]
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


app = VideoApp()
