"""
Server-sent events with FastAPI.

Run it with: uvicorn fastapi_hub:app --timeout-graceful-shutdown 2
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ezvideo_async import EzVideoError, InvalidTaskIdError
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from video_hub import HEADERS, LAST_ID, VideoHub, open_hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import FrameType


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, VideoHub]]:
    async with open_hub() as hub:
        call_on_stop_signal(hub.stop)
        yield {"hub": hub}


def call_on_stop_signal(callback: Callable[[], None]) -> None:
    """Call back at SIGINT and SIGTERM; the lifespan ends only after all streams."""
    loop = asyncio.get_running_loop()
    numbers = signal.SIGINT, signal.SIGTERM
    handlers = {each: signal.getsignal(each) for each in numbers}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(callback)
        if callable(handler := handlers[signal.Signals(number)]):
            handler(number, frame)

    for each in handlers:
        signal.signal(each, handle)


app = FastAPI(lifespan=lifespan)


@app.get("/videos/{task_id}/events")
async def stream_video(task_id: str, request: Request) -> Response:
    hub: VideoHub = request.state.hub
    if request.headers.get("Last-Event-ID") == LAST_ID:
        return Response(status_code=204)  # the browser does not reconnect again
    try:
        hub.add(task_id)
    except InvalidTaskIdError:
        raise HTTPException(404) from None
    except EzVideoError:  # the watch has ended, for example by a refused API key
        raise HTTPException(503) from None
    return StreamingResponse(hub.messages(task_id), headers=HEADERS)
