"""A hub that continues after a restart, with aiohttp: python durable_hub.py."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web
from ezvideo_async import (
    AsyncVideoClient,
    EzVideoError,
    InvalidTaskIdError,
    TaskWatcher,
)

from video_hub import END, HEADERS, LAST_ID, next_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLIENT = web.AppKey("client", AsyncVideoClient)
WATCHER = web.AppKey("watcher", TaskWatcher)


async def run_watcher(app: web.Application) -> AsyncIterator[None]:
    async with (
        AsyncVideoClient() as app[CLIENT],
        app[CLIENT].watch(store="hub.db", iterate=False) as app[WATCHER],
    ):
        yield  # the ids of the file are polled already


async def end_streams(app: web.Application) -> None:
    await app[CLIENT].aclose()


async def watch_video(request: web.Request) -> web.Response:
    """Watch a task that was just created; 202 means that no restart loses it."""
    watcher = request.app[WATCHER]
    add(watcher, [request.match_info["task_id"]])
    try:
        await watcher.save()
    except EzVideoError:  # the disk is full, for example; the caller may try again
        raise web.HTTPServiceUnavailable from None
    return web.Response(status=202)


async def stream_videos(request: web.Request) -> web.StreamResponse:
    """Send the events of the tasks in ?id=...&id=... until all of them have ended."""
    if request.headers.get("Last-Event-ID") == LAST_ID:
        return web.Response(status=204)  # the browser does not reconnect again
    watcher, task_ids = request.app[WATCHER], request.query.getall("id", [])
    if not task_ids:
        raise web.HTTPBadRequest
    add(watcher, task_ids)  # one that ended before a restart costs one request
    stream = web.StreamResponse(headers=HEADERS)
    with suppress(ConnectionResetError, EzVideoError):  # the browser reconnects
        async with watcher.subscribe(*task_ids) as events:
            await stream.prepare(request)
            message = b""
            while message != END:
                message = await next_message(events)
                await stream.write(message)
    return stream


def add(watcher: TaskWatcher, task_ids: list[str]) -> None:
    """Watch ids; those that are known are left alone."""
    try:
        watcher.add(*task_ids)
    except InvalidTaskIdError:
        raise web.HTTPNotFound from None
    except EzVideoError:  # the process stops, or the API key was refused
        raise web.HTTPServiceUnavailable from None


app = web.Application()
app.cleanup_ctx.append(run_watcher)
app.on_shutdown.append(end_streams)  # aiohttp then waits for open responses
app.router.add_post("/videos/{task_id}", watch_video)
app.router.add_get("/videos", stream_videos)

if __name__ == "__main__":
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "8080")),
        handler_cancellation=True,  # ends the stream of a visitor who has left
        shutdown_timeout=2.0,
    )
