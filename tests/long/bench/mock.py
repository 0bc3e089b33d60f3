"""
Stand-ins below the watcher, for what is measured without a network.

``MockTransport`` answers with bytes, which are decoded as any; ``MockExchange`` with a task that
was decoded before.  Both give the loop one turn, so that as many answers come together as there
are requests in flight.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ezvideo_async import AsyncVideoClient, RequestBudget, VideoTask
from ezvideo_async._engine.requester import Answer
from ezvideo_async._protocol.messages import Response
from tests.long.bench.harness import KEY
from tests.long.bench.responder import body_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ezvideo_async._engine.admission import AdmissionQueue

_HEADERS = {"content-type": "application/json", "x-request-id": "0123456789abcdef"}
PROGRESSES = range(10, 99)


def tasks() -> list[VideoTask]:
    """Decode one running task at each progress."""
    bodies = [body_of(b"task_%032d" % progress, progress) for progress in PROGRESSES]
    return [VideoTask.from_dict(json.loads(body)) for body in bodies]


class _Line:
    """No connection, and never used."""

    was_used = False

    def close(self) -> None:
        """There is nothing to close."""


class MockTransport:
    """Stands in for the transport; every answer is new bytes."""

    def __init__(self, *, is_moving: bool = False) -> None:
        self.sends = 0
        self.started: dict[str, float] | None = None
        """When each id was first sent, if anybody wants to know."""
        self._is_moving = is_moving

    async def send(self, request: Any, *_: object, **_options: object) -> tuple[Response, _Line]:
        """Answer in the next turn of the loop."""
        task_id = request.task_id
        self.sends += 1
        if self.started is not None:
            self.started.setdefault(task_id, asyncio.get_running_loop().time())
        progress = PROGRESSES[self.sends % len(PROGRESSES)] if self._is_moving else 42
        await asyncio.sleep(0)
        body = body_of(task_id.encode(), progress)
        return Response(status=200, headers=_HEADERS, body=body), _Line()

    async def aclose(self) -> None:
        """Have nothing to close."""


class MockExchange:
    """Stands in for the exchange; what it costs is close to nothing."""

    def __init__(self, gate: AdmissionQueue) -> None:
        self._gate = gate
        self._answers = [Answer(task) for task in tasks()]
        self._asked = 0

    async def ask(self, _task_id: str, *, poll: bool = True, **_options: object) -> Answer:
        """Answer in the next turn of the loop."""
        started = asyncio.get_running_loop().time()
        self._asked += 1
        await asyncio.sleep(0)
        self._gate.finish(None, started=started, poll=poll)
        return self._answers[self._asked % len(self._answers)]


@asynccontextmanager
async def mock_client(
    transport: MockTransport | None = None, **budget: Any
) -> AsyncIterator[AsyncVideoClient]:
    """Enter a client on a transport, or without one on an exchange, that is none."""
    client = AsyncVideoClient(KEY, base_url="https://a.test/v1", budget=RequestBudget(**budget))
    if transport is not None:
        client._transport = transport
    async with client:
        if transport is None:
            client._poller._exchange = MockExchange(client._gate)
        yield client
