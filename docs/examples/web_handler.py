"""Wait for one task in a web handler: GET /videos/ID."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from ezvideo_async import AsyncVideoClient, TaskNotFoundError, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLIENT = web.AppKey("client", AsyncVideoClient)


async def open_client(app: web.Application) -> AsyncIterator[None]:
    async with AsyncVideoClient() as client:  # one for the whole process
        app[CLIENT] = client
        yield


async def show_video(request: web.Request) -> web.Response:
    task_id = request.match_info["task_id"]
    try:
        task = await request.app[CLIENT].wait(
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


app = web.Application()
app.cleanup_ctx.append(open_client)
app.router.add_get("/videos/{task_id}", show_video)

if __name__ == "__main__":
    web.run_app(app)
