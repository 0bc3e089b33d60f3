"""Transport without sockets: a scripted server in the same event loop, recorded in a trace."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

from attrs import define, field

from ezvideo_async import EzVideoError, RequestTimeoutError
from ezvideo_async._protocol.messages import Response
from tests.support.clients import make_client
from tests.support.oracle import Asked, Trace
from tests.support.oracle.recorder import keep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ezvideo_async import AsyncVideoClient
    from ezvideo_async._protocol.messages import Request

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers and body of a response."""

Fault = str | Reply | EzVideoError
"""The name of a fault, a response, or what the transport raises."""

FAULTS: dict[str, Reply] = {
    "500": (500, {}, b'{"error":{"message":"oops"}}'),
    "503": (503, {"retry-after": "7"}, b""),
    "429": (429, {"retry-after": "3"}, b""),
    "429-bare": (429, {}, b""),
    "html": (200, {"content-type": "text/html"}, b"<html>maintenance</html>"),
    "garbage": (200, {}, b"{"),
    "not-found": (404, {}, b'{"error":{"code":"task_not_found","message":"no"}}'),
    "firewall": (403, {"content-type": "text/html"}, b"<html>Attention required</html>"),
    "gone": (410, {}, b""),
    "refused": (400, {}, b'{"error":{"code":"bad","message":"no"}}'),
}


@define
class FakeTask:
    """One task of the scripted server, as it is now."""

    status: str = "pending"
    progress: int | None = None
    fault: Fault | None = None
    latency: float = 0.0
    extra: dict[str, Any] = field(factory=dict)

    def body(self, task_id: str) -> bytes:
        """Return the body of a response."""
        shape = {"id": task_id, "status": self.status, "progress": self.progress, **self.extra}
        return json.dumps(shape).encode()


class FakeConnection:
    """Stands in for the connection of a response."""

    was_used = False

    def close(self) -> None:
        """Do nothing."""


class FakeTransport:
    """
    Stands in for ``Transport``; unknown ids are not found.

    Args:
        trace: Records requests and responses; None for a new one.
        tasks: The first tasks, each with its status.

    Attributes:
        outage: The fault of all requests; a task's own fault comes after it.
        share: The part of the requests that have the outage, above 0 and up to 1.
        headers: Of every response without a fault.
    """

    def __init__(self, trace: Trace | None = None, **tasks: str) -> None:
        self.tasks = {task_id: FakeTask(status) for task_id, status in tasks.items()}
        self.trace = trace if trace is not None else Trace()
        self.outage: Fault | None = None
        self.share = 1.0
        self._count = 0
        self.headers: dict[str, str] = {}
        self.sends = 0
        self.is_closed = False

    def request_times(self, task_id: str | None = None) -> list[float]:
        """Return when requests were sent, all or those for one id."""
        return [
            record.at
            for record in self.trace.records
            if isinstance(record, Asked) and task_id in {None, record.task_id}
        ]

    async def send(
        self, request: Request, api_key: object, **options: object
    ) -> tuple[Response, FakeConnection]:
        """Respond by the script, and record request and response."""
        self.sends += 1
        return await keep(self.trace, self._respond)(request, api_key, **options)

    async def _respond(
        self, request: Request, _api_key: object, **_options: object
    ) -> tuple[Response, FakeConnection]:
        task = self.tasks.get(request.task_id, FakeTask(fault="not-found"))
        fault = self._outage_of_next() or task.fault
        await asyncio.sleep(15.0 if fault == "hang" else task.latency)
        if fault == "hang":
            raise RequestTimeoutError("no response in time", task_id=request.task_id)
        if isinstance(fault, EzVideoError):
            raise copy(fault)
        if fault is None:
            fault = 200, self.headers, task.body(request.task_id)
        status, headers, body = FAULTS[fault] if isinstance(fault, str) else fault
        return Response(status=status, headers=headers, body=body), FakeConnection()

    def _outage_of_next(self) -> Fault | None:
        """Return the outage for the given share of the requests, evenly distributed."""
        self._count += 1
        has_outage = int(self._count * self.share) > int((self._count - 1) * self.share)
        return self.outage if has_outage else None

    async def aclose(self) -> None:
        """Record that it was closed."""
        self.is_closed = True


@asynccontextmanager
async def fake_client(transport: FakeTransport, **options: Any) -> AsyncIterator[AsyncVideoClient]:
    """Enter a client that sends to *transport*."""
    options = {"base_url": "https://api.example.test/v1", **options}
    async with make_client("key", transport=transport, **options) as client:
        yield client
