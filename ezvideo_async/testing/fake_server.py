"""A real HTTP server on the loopback interface that plays video-task servers."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, ClassVar, Self

import anyio
from aiohttp import web
from yarl import URL

from ezvideo_async.testing.backend import BASE_PATH, Backend, requested_task_id
from ezvideo_async.testing.dialect_shapes import DIALECTS
from ezvideo_async.testing.fake_tasks import OUTCOMES, PROGRESS_KINDS, check_word
from ezvideo_async.testing.faults import FAULT_KINDS, Fault, FaultPlan
from ezvideo_async.testing.request_log import (
    OpenRequest,
    RequestLog,
    RequestRecord,
    authorization_word,
    redacted,
)

if TYPE_CHECKING:
    from types import TracebackType

    from ezvideo_async.testing.dialect import Answer
    from ezvideo_async.testing.fake_tasks import FakeTaskState

# Connections that may wait to be accepted; the kernel lowers it to its own limit.
BACKLOG = 4096
# Rounds of the loop between accept() and a connection known to the server, and one more.
ACCEPT_ROUNDS = 3
# Seconds for the last handlers; they end at once, so it is never used up.
SHUTDOWN_TIMEOUT = 1.0
# SO_LINGER switched on with 0 seconds: closing sends RST instead of FIN.
_LINGER_NOTHING = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class FakeVideoServer:
    """
    A video-task server for tests and demos; a real aiohttp server on the loopback interface.

    Tasks live by the clock of the running event loop: with ``VirtualClockLoop`` an hour of
    processing passes in milliseconds, with a usual loop in an hour.  A task is queued for the
    first tenth of its duration, runs for the rest, and then ends with its outcome.

    It serves ``GET {base_url}/videos/{id}``; every other url gets the dialect's "not found", and
    creating tasks over HTTP is answered with 501: ``add_task`` makes them.

    Args:
        dialect: How answers look unless a task says otherwise; one of ``dialects``.
        api_key: The only bearer token that is let in; None lets everybody in.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        latency: Seconds that every answer takes.
        epoch: Unix seconds at the server's start, for ``created_at`` and its like; None: now.
        keep_requests: How many requests are remembered; the oldest are forgotten first.

    Attributes:
        dialects: All words for *dialect*.
        outcomes: All words for *outcome*: ``lost`` tasks are not found from their end on,
            ``never`` tasks run for ever.
        progress_kinds: All words for *progress*: ``linear``, ``coarse`` (0, 30, 50, 100), ``none``
            (the field is absent) and ``stuck`` (50 until the end).
        fault_kinds: All words for *kind* of ``fault``.
    """

    dialects: ClassVar[tuple[str, ...]] = tuple(DIALECTS)
    outcomes: ClassVar[tuple[str, ...]] = OUTCOMES
    progress_kinds: ClassVar[tuple[str, ...]] = PROGRESS_KINDS
    fault_kinds: ClassVar[tuple[str, ...]] = FAULT_KINDS

    def __init__(
        self,
        *,
        dialect: str = "ezmodel",
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float = 0.0,
        epoch: float | None = None,
        keep_requests: int = 100_000,
    ) -> None:
        check_word("dialect", dialect, self.dialects)
        if not 0 <= latency < math.inf:
            raise ValueError(f"latency must be finite seconds, 0 or more, not {latency!r}")
        self._dialect = dialect
        self._api_key = api_key
        self._address = (host, port)
        self._latency = latency
        self._epoch = epoch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._backend: Backend | None = None
        self._http: web.Server
        self._listener: asyncio.Server
        self._closing = asyncio.Event()
        self._faults = FaultPlan()
        self._log = RequestLog(size=keep_requests)

    # --- start and stop --------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start to listen; a server starts once."""
        if self._loop is not None:
            raise RuntimeError("a FakeVideoServer is entered once; make a new one")
        self._loop = asyncio.get_running_loop()
        self._backend = Backend(
            dialect=self._dialect,
            api_key=self._api_key,
            started=self._loop.time(),
            epoch=time.time() if self._epoch is None else self._epoch,
        )
        self._http = web.Server(self._handle, handler_cancellation=True, access_log=None)
        host, port = self._address
        self._listener = await self._loop.create_server(self._http, host, port, backlog=BACKLOG)
        self._address = (host, self._listener.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop at once: requests under way lose their connection."""
        with anyio.CancelScope(shield=True):
            await self._stop_listening()
            self._closing.set()
            self._http.pre_shutdown()
            await self._http.shutdown(SHUTDOWN_TIMEOUT)
            await asyncio.sleep(0)  # transports close their sockets in the next round

    async def _stop_listening(self) -> None:
        """Accept no more, and let what is accepted become a connection that can be closed."""
        loop = asyncio.get_running_loop()
        for listening in self._listener.sockets:
            loop.remove_reader(listening.fileno())
        for _ in range(ACCEPT_ROUNDS):
            await asyncio.sleep(0)
        self._listener.close()

    @property
    def base_url(self) -> str:
        """Where clients find the API; ends in ``/v1``."""
        self._now()
        host, port = self._address
        return str(URL.build(scheme="http", host=host, port=port, path=BASE_PATH))

    def _now(self) -> float:
        if self._loop is None:
            raise RuntimeError("the FakeVideoServer has not started; use it with async with")
        return self._loop.time()

    @property
    def _started_backend(self) -> Backend:
        self._now()
        assert self._backend is not None
        return self._backend

    # --- tasks -----------------------------------------------------------------------------------

    def add_task(
        self,
        task_id: str | None = None,
        *,
        duration: float = 60.0,
        outcome: str = "completed",
        dialect: str | None = None,
        progress: str = "linear",
    ) -> str:
        """
        Create a task now and return its id.

        Args:
            task_id: None makes the next id in the style of the dialect.
            duration: Seconds until the end, 0 or more, queueing included.
            outcome: How it ends; one of ``outcomes``.
            dialect: How the server speaks about it; None: as about everything else.
            progress: How its progress grows; one of ``progress_kinds``.

        Raises:
            ValueError: An argument is out of range, or the id is taken.
        """
        task = self._started_backend.add(
            task_id,
            dialect=dialect,
            now=self._now(),
            duration=duration,
            outcome=outcome,
            progress=progress,
        )
        return task.task_id

    def finish(self, task_id: str, *, outcome: str = "completed") -> None:
        """
        End a task now.

        Raises:
            ValueError: The id is unknown, the task has ended already, or the outcome is not
                one that ends a task.
        """
        self._started_backend.task(task_id).finish(outcome=outcome, now=self._now())

    def forget(self, task_id: str) -> None:
        """
        Know nothing of a task from now on; its id is free again.

        Raises:
            ValueError: The id is unknown.
        """
        self._started_backend.forget(task_id)

    def state(self, task_id: str) -> FakeTaskState:
        """
        The true state of a task now, whatever its dialect shows of it.

        Raises:
            ValueError: The id is unknown.
        """
        return self._started_backend.task(task_id).state(now=self._now())

    # --- faults and observations -----------------------------------------------------------------

    def fault(
        self,
        kind: str,
        *,
        seconds: float | None = None,
        share: float = 1.0,
        task_id: str | None = None,
        **details: Any,
    ) -> None:
        """
        Let requests meet trouble from now on.

        ``401`` ... ``504`` are answers in the dialect's shape (``404``: the task is not found);
        ``html`` is a page with status 200 and ``gateway-html`` one with 502; ``garbage`` and
        ``empty`` are bodies with status 200; ``redirect`` is a 302; ``wrong-id`` is the answer
        about another task; ``slow`` is late and ``hang`` never comes; ``truncated`` stops in the
        middle of the body; ``close`` and ``reset`` end the connection without an answer.

        Args:
            kind: One of ``fault_kinds``.
            seconds: How long it lasts; None: until ``heal``.
            share: The part of the requests that meet it, above 0 and at most 1, evenly spread:
                0.25 is every fourth request.
            task_id: None: requests for any task.
            details: ``retry_after`` (429 and 5xx), ``delay`` (slow; seconds, default 10),
                ``location`` (redirect), ``foreign_id`` (wrong-id; default: always a new one).

        Raises:
            ValueError: An argument is out of range.
        """
        if seconds is not None and not seconds > 0:
            raise ValueError(f"seconds must be above 0 or None, not {seconds!r}")
        until = math.inf if seconds is None else self._now() + seconds
        self._faults.add(
            Fault(kind=kind, until=until, share=share, task_id=task_id, details=details)
        )

    def heal(self, kind: str | None = None) -> None:
        """End all faults, or all of one kind; requests that have met one are not helped."""
        self._faults.heal(kind)

    def requests(self, task_id: str | None = None) -> list[RequestRecord]:
        """The remembered requests in order of arrival; all, or those for one id."""
        return [record for record in self._log if task_id in {None, record.task_id}]

    @property
    def in_flight(self) -> int:
        """Requests that have arrived and are not yet answered."""
        return self._log.in_flight

    @property
    def peak_in_flight(self) -> int:
        """The most requests that were under way at once."""
        return self._log.peak

    # --- serving ---------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task_id = requested_task_id(request.method, request.raw_path)
        header = request.headers.get("Authorization")
        authorization = authorization_word(header, api_key=self._api_key)
        record = RequestRecord(
            method=request.method,
            path=request.raw_path,
            task_id=task_id,
            authorization=authorization,
            headers=redacted(request.headers, authorization=authorization),
            at=self._now(),
        )
        entry = self._log.begin(record)
        try:
            return await self._respond(request, entry)
        finally:
            self._log.end(entry, now=self._now())

    async def _respond(self, request: web.BaseRequest, entry: OpenRequest) -> web.StreamResponse:
        fault = self._faults.pick(entry.record.task_id, now=entry.record.at)
        kind = None if fault is None else fault.kind
        entry.note(fault=kind)
        await self._pause(math.inf if kind == "hang" else self._latency + _delay(fault))
        if self._closing.is_set() or kind in {"close", "reset"}:
            return _disconnected(request, reset=kind == "reset")
        answer = self._started_backend.answer(entry.record, fault=fault, now=self._now())
        entry.note(status=answer.status)
        if kind == "truncated":
            return await _truncated(request, answer)
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than the server lives."""
        if seconds:
            with anyio.move_on_after(seconds):
                await self._closing.wait()


def _delay(fault: Fault | None) -> float:
    return 0.0 if fault is None else fault.delay


def _disconnected(request: web.BaseRequest, *, reset: bool) -> web.StreamResponse:
    """End the connection; the response that is returned finds nobody to go to."""
    transport = request.transport
    if transport is not None:
        if reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOTHING)
        transport.abort()
    return web.Response()


async def _truncated(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Promise the whole body, send half of it, and end the connection."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
