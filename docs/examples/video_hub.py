"""Server-sent events of video tasks for any web framework; one hub per process."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from ezvideo_async import AsyncVideoClient, ClosedError, EzVideoError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ezvideo_async import Subscription, TaskEvent, TaskWatcher

HEARTBEAT = 15.0  # seconds
KEPT = 10_000  # final events
LAST_ID = "end"  # a browser that reconnects with it has had everything
END = f"id: {LAST_ID}\nevent: end\ndata: {{}}\n\n".encode()
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx sends each message at once
}


class VideoHub:
    def __init__(self, client: AsyncVideoClient, watcher: TaskWatcher) -> None:
        self._client = client
        self._watcher = watcher
        self._ended: dict[str, TaskEvent] = {}  # use your database instead
        self._recording = asyncio.create_task(self._record())

    async def _record(self) -> None:
        """Keep the final events, so that a later visitor costs no request."""
        try:
            async for event in self._watcher:
                if event.is_final:
                    self._ended[event.task_id] = event
                    if len(self._ended) > KEPT:
                        del self._ended[next(iter(self._ended))]
        except EzVideoError:
            pass  # the library has logged it, and add() raises it
        finally:
            await self._client.aclose()  # ends every stream

    def stop(self) -> None:
        """End every stream now."""
        self._recording.cancel()

    def add(self, task_id: str) -> None:
        """Watch an id, unless it is watched or has ended."""
        if task_id not in self._ended:
            with suppress(ClosedError):  # the server stops: the stream will be empty
                self._watcher.add(task_id)

    async def messages(self, task_id: str) -> AsyncIterator[bytes]:
        """Yield the current state at once, then every change, and the end."""
        if (final := self._ended.get(task_id)) is not None:
            yield encode(final) + END
            return
        with suppress(EzVideoError):  # the stream ends here: the browser reconnects
            async with self._watcher.subscribe(task_id) as events:
                message = b""
                while message != END:
                    message = await next_message(events)
                    yield message


@asynccontextmanager
async def open_hub() -> AsyncIterator[VideoHub]:
    async with AsyncVideoClient() as client, client.watch() as watcher:
        hub = VideoHub(client, watcher)
        yield hub
        hub.stop()


async def next_message(events: Subscription) -> bytes:
    try:
        async with asyncio.timeout(HEARTBEAT):
            event = await anext(events, None)
    except TimeoutError:
        return b": heartbeat\n\n"
    return END if event is None else encode(event)


def encode(event: TaskEvent) -> bytes:
    return f"event: {event.kind}\ndata: {json.dumps(event.to_dict())}\n\n".encode()
