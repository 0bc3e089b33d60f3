"""Web application with one watcher for the whole process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import web
from ezvideo_async import (
    AsyncVideoClient,
    TaskNotFoundError,
    TaskWatcher,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WATCHER = web.AppKey("watcher", TaskWatcher)


async def open_hub(app: web.Application) -> AsyncIterator[None]:
    async with AsyncVideoClient() as client, client.watch(keep_open=True) as watcher:
        app[WATCHER] = watcher
        yield


async def show_video(request: web.Request) -> web.Response:
    """Respond when the task has finished; many visitors share its polls."""
    task_id = request.match_info["task_id"]
    try:
        task = await request.app[WATCHER].wait(
            task_id, timeout=25.0, raise_on_failure=False
        )
    except (
        WaitTimeoutError
    ) as error:  # not finished yet: the browser requests it again
        state = None if error.task is None else error.task.to_dict()
        return web.json_response({"id": task_id, "task": state}, status=202)
    except TaskNotFoundError:
        raise web.HTTPNotFound from None
    return web.json_response(task.to_dict())


async def stream_video(request: web.Request) -> web.StreamResponse:
    """Send the current state at once, then every change, as server-sent events."""
    task_id, watcher = request.match_info["task_id"], request.app[WATCHER]
    watcher.add(task_id)  # no effect if it is known
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await stream.prepare(request)
    async with watcher.subscribe(task_id) as events:
        async for event in events:
            data = json.dumps(event.to_dict())
            message = f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n"
            await stream.write(message.encode())
    return stream


app = web.Application()
app.cleanup_ctx.append(open_hub)
app.router.add_get("/videos/{task_id}", show_video)
app.router.add_get("/videos/{task_id}/events", stream_video)

if __name__ == "__main__":
    web.run_app(app)
