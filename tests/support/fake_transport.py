"""A transport without sockets: a scripted server in the same loop, which keeps a ledger."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, field

from ezvideo_async import RequestTimeoutError
from ezvideo_async._protocol.messages import Response
from tests.support.clients import make_client
from tests.support.oracle import Asked, Trace
from tests.support.oracle.recorder import keep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ezvideo_async import AsyncVideoClient, EzVideoError
    from ezvideo_async._protocol.messages import Request

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""

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
    """One task of the scripted server: what it says now."""

    status: str = "pending"
    progress: int | None = None
    fault: str | Reply | None = None
    latency: float = 0.0
    extra: dict[str, Any] = field(factory=dict)

    def body(self, task_id: str) -> bytes:
        """Write the answer."""
        shape = {"id": task_id, "status": self.status, "progress": self.progress, **self.extra}
        return json.dumps(shape).encode()


class FakeLine:
    """No connection, and never used."""

    was_used = False

    def close(self) -> None:
        """There is nothing to close."""


class FakeTransport:
    """
    Stands in for ``Transport``; unknown ids are not found.

    Attributes:
        outage: The fault that all requests meet; a task's own fault comes after it.
        share: The part of the requests that *outage* meets, above 0 and up to 1.
    """

    def __init__(self, trace: Trace | None = None) -> None:
        self.tasks: dict[str, FakeTask] = {}
        self.trace = trace if trace is not None else Trace()
        self.outage: str | Reply | None = None
        self.share = 1.0
        self._met = 0
        self.headers: dict[str, str] = {}
        self.sends = 0
        self.is_closed = False

    def asked(self, task_id: str | None = None) -> list[float]:
        """When requests were sent: all, or those for one id."""
        return [
            record.at
            for record in self.trace.records
            if isinstance(record, Asked) and task_id in {None, record.task_id}
        ]

    async def send(
        self, request: Request, secret: object, **options: object
    ) -> tuple[Response, FakeLine]:
        """Answer as the script says, and write it down."""
        self.sends += 1
        return await keep(self.trace, self._answer)(request, secret, **options)

    async def _answer(
        self, request: Request, _secret: object, **_options: object
    ) -> tuple[Response, FakeLine]:
        task = self.tasks.get(request.task_id, FakeTask(fault="not-found"))
        fault = self._outage() or task.fault
        await asyncio.sleep(15.0 if fault == "hang" else task.latency)
        if fault == "hang":
            raise self._timed_out(request)
        if fault is not None:
            status, headers, body = FAULTS[fault] if isinstance(fault, str) else fault
            return Response(status=status, headers=headers, body=body), FakeLine()
        return Response(
            status=200, headers=self.headers, body=task.body(request.task_id)
        ), FakeLine()

    def _outage(self) -> str | Reply | None:
        """The outage, for every so-manieth request."""
        self._met += 1
        hits = int(self._met * self.share) > int((self._met - 1) * self.share)
        return self.outage if hits else None

    @staticmethod
    def _timed_out(request: Request) -> EzVideoError:
        return RequestTimeoutError("no answer in time", task_id=request.task_id)

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True


@asynccontextmanager
async def fake_client(transport: FakeTransport, **options: Any) -> AsyncIterator[AsyncVideoClient]:
    """Enter a client that speaks to *transport*."""
    options = {"base_url": "https://api.example.test/v1", **options}
    async with make_client("key", transport=transport, **options) as client:
        yield client
