"""Server-sent events with aiohttp: python web_hub.py."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web
from ezvideo_async import EzVideoError, InvalidTaskIdError

from video_hub import HEADERS, LAST_ID, VideoHub, open_hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HUB = web.AppKey("hub", VideoHub)


async def run_hub(app: web.Application) -> AsyncIterator[None]:
    async with open_hub() as app[HUB]:
        yield


async def end_streams(app: web.Application) -> None:
    app[HUB].stop()


async def stream_video(request: web.Request) -> web.StreamResponse:
    task_id, hub = request.match_info["task_id"], request.app[HUB]
    if request.headers.get("Last-Event-ID") == LAST_ID:
        return web.Response(status=204)  # the browser does not reconnect again
    try:
        hub.add(task_id)
    except InvalidTaskIdError:
        raise web.HTTPNotFound from None
    except EzVideoError:  # the watch has ended, for example by a refused API key
        raise web.HTTPServiceUnavailable from None
    stream = web.StreamResponse(headers=HEADERS)
    with suppress(ConnectionResetError):  # the visitor has left
        await stream.prepare(request)
        async for message in hub.messages(task_id):
            await stream.write(message)
    return stream


app = web.Application()
app.cleanup_ctx.append(run_hub)
app.on_shutdown.append(end_streams)  # aiohttp then waits for open responses
app.router.add_get("/videos/{task_id}/events", stream_video)

if __name__ == "__main__":
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "8080")),
        handler_cancellation=True,  # ends the stream of a visitor who has left
        shutdown_timeout=2.0,
    )
