"""
Transport and requester without a network, for benchmarks.

``MockTransport`` responds with bytes; ``MockRequester`` with a task that was decoded before.  Both
wait for one iteration of the loop, so that all requests in flight get their responses together.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ezvideo_async import RequestBudget, VideoTask
from ezvideo_async._domain.task import source_of
from ezvideo_async._protocol.messages import Response
from tests.long.bench.harness import KEY
from tests.long.bench.responder import body_of
from tests.support.clients import make_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ezvideo_async._engine.admission import AdmissionQueue

_HEADERS = {"content-type": "application/json", "x-request-id": "0123456789abcdef"}
PROGRESSES = range(10, 99)


def tasks() -> list[VideoTask]:
    """Decode one running task at each progress."""
    bodies = [body_of(b"task_%032d" % progress, progress) for progress in PROGRESSES]
    return [VideoTask.from_dict(json.loads(body)) for body in bodies]


def state_bytes(task: VideoTask) -> bytes:
    """Return the bytes that a task was decoded from."""
    source = source_of(task)
    assert source is not None
    return source[0]


class _Line:
    """Connection that is never used."""

    was_used = False

    def close(self) -> None:
        """Do nothing."""


class MockTransport:
    """Transport without a network; every response is new bytes."""

    def __init__(self, *, is_moving: bool = False) -> None:
        self.sends = 0
        self.started: dict[str, float] | None = None
        """When each id was first polled; None to record nothing."""
        self._is_moving = is_moving

    async def send(self, request: Any, *_: object, **_options: object) -> tuple[Response, _Line]:
        """Respond in the next iteration of the loop."""
        task_id = request.task_id
        self.sends += 1
        if self.started is not None:
            self.started.setdefault(task_id, asyncio.get_running_loop().time())
        progress = PROGRESSES[self.sends % len(PROGRESSES)] if self._is_moving else 42
        await asyncio.sleep(0)
        body = body_of(task_id.encode(), progress)
        return Response(status=200, headers=_HEADERS, body=body), _Line()

    async def aclose(self) -> None:
        """Do nothing."""


class MockRequester:
    """Requester without a network: every response is another task, decoded before."""

    def __init__(self, admission: AdmissionQueue) -> None:
        self._admission = admission
        self._tasks = tasks()
        self._sends = 0

    async def request(self, _request: Any, read: Any, *, poll: bool) -> Any:
        """Respond in the next iteration of the loop."""
        started = asyncio.get_running_loop().time()
        self._sends += 1
        await asyncio.sleep(0)
        found = read(UNSEEN, None)
        self._admission.finish(None, started=started, poll=poll)
        return found

    def decode(self, _response: Response, _task_id: str, _evidence: object) -> VideoTask:
        """Return the next task."""
        return self._tasks[self._sends % len(self._tasks)]


UNSEEN = Response(status=200, headers=_HEADERS, body=b"{}")
"""A response that differs from every stored one, and has to be decoded."""


@asynccontextmanager
async def mock_client(transport: MockTransport | None = None, **budget: Any) -> AsyncIterator[Any]:
    """Enter a client on *transport*, or on a ``MockRequester`` if it is None."""
    options = {"base_url": "https://a.test/v1", "budget": RequestBudget(**budget)}
    async with make_client(KEY, transport=transport, **options) as client:
        if transport is None:
            client._engine.requester = MockRequester(client._engine.admission)
        yield client
