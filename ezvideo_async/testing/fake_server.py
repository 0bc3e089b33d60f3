"""Fake video-task server: a real HTTP server on the loopback interface."""

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

from ezvideo_async.testing.dialects import DIALECTS
from ezvideo_async.testing.fake_tasks import (
    BASE_PATH,
    OUTCOMES,
    PROGRESS_KINDS,
    FakeTasks,
    requested_task_id,
)
from ezvideo_async.testing.faults import FAULT_KINDS, Fault, FaultPlan
from ezvideo_async.testing.request_log import (
    OpenRequest,
    RequestLog,
    RequestRecord,
    check_authorization,
    redact_headers,
)
from ezvideo_async.testing.validation import validate_choice, validate_seconds

if TYPE_CHECKING:
    from types import TracebackType

    from ezvideo_async.testing.dialects.dialect import FakeResponse
    from ezvideo_async.testing.fake_tasks import FakeTaskState

# Connections that may wait to be accepted; the kernel may lower it.
BACKLOG = 4096
# Loop iterations from accept() until the server knows the connection, plus one.
ACCEPT_ITERATIONS = 3
# Seconds for the last handlers to finish; they finish at once.
SHUTDOWN_TIMEOUT = 1.0
# SO_LINGER with 0 seconds: closing sends RST instead of FIN.
_LINGER_ZERO = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class FakeVideoServer:
    """
    Fake video-task server for tests and demos: a real HTTP server on the loopback interface.

    The clock of the running event loop drives the tasks: with ``VirtualClockLoop`` an hour of
    processing takes milliseconds, with any other loop an hour.  A task is queued for the first
    tenth of its duration, runs for the rest, and then has its outcome.

    The server has one route, ``GET {base_url}/videos/{id}``.  ``POST {base_url}/videos`` gets 501:
    create tasks with ``add_task``.  Every other url gets 404.

    Args:
        dialect: Dialect of the responses, one of ``dialects``; a task may have another one.
        api_key: The only accepted API key; None accepts every request.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        latency: Seconds added to every response.
        epoch: Unix seconds at the start of the server, from which ``created_at`` and the other
            timestamps are computed; None: the current time.
        keep_requests: Number of newest requests that ``requests`` returns.

    Attributes:
        dialects: All values of *dialect*.
        outcomes: All values of *outcome*: a ``lost`` task gets "not found" at the end of its
            duration, a ``never`` task runs forever.
        progress_kinds: All values of *progress*: ``linear``, ``coarse`` (0, 30, 50, 100),
            ``none`` (no such field) and ``stuck`` (stays at 50 until the end).
        fault_kinds: All values of *kind* of ``fault``.
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
        validate_choice("dialect", dialect, self.dialects)
        validate_seconds("latency", latency)
        self._dialect = dialect
        self._api_key = api_key
        self._address = (host, port)
        self._latency = latency
        self._epoch = epoch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: FakeTasks | None = None
        self._http: web.Server
        self._listener: asyncio.Server
        self._closing = asyncio.Event()
        self._faults = FaultPlan()
        self._log = RequestLog(size=keep_requests)

    # --- start and stop --------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start to listen; raise a RuntimeError if the server has started before."""
        if self._loop is not None:
            raise RuntimeError("this FakeVideoServer has already been started; create a new one")
        self._loop = asyncio.get_running_loop()
        self._tasks = FakeTasks(
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
        """Stop at once; requests in flight lose their connection."""
        with anyio.CancelScope(shield=True):
            await self._stop_listening()
            self._closing.set()
            self._http.pre_shutdown()
            await self._http.shutdown(SHUTDOWN_TIMEOUT)
            await asyncio.sleep(0)  # transports close their sockets in the next iteration

    async def _stop_listening(self) -> None:
        """Stop accepting; wait until accepted sockets are connections that can be closed."""
        loop = asyncio.get_running_loop()
        for listening in self._listener.sockets:
            loop.remove_reader(listening.fileno())
        for _ in range(ACCEPT_ITERATIONS):
            await asyncio.sleep(0)
        self._listener.close()

    @property
    def base_url(self) -> str:
        """Base url for clients; ends in ``/v1``."""
        self._now()
        host, port = self._address
        return str(URL.build(scheme="http", host=host, port=port, path=BASE_PATH))

    def _now(self) -> float:
        if self._loop is None:
            raise RuntimeError("this FakeVideoServer has not started; enter it with async with")
        return self._loop.time()

    @property
    def _started_tasks(self) -> FakeTasks:
        self._now()
        assert self._tasks is not None
        return self._tasks

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
            task_id: None creates the next id in the style of the dialect.
            duration: Seconds until the outcome, time in the queue included; 0 or more.
            outcome: One of ``outcomes``.
            dialect: Dialect of responses about this task; None: that of the server.
            progress: How the progress grows; one of ``progress_kinds``.

        Raises:
            ValueError: An argument is out of range, or a task with this id exists.
        """
        task = self._started_tasks.add(
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
        Finish a task now, with any outcome but ``never``.

        Raises:
            ValueError: The id is unknown, the task has already finished, or there is no such
                outcome.
        """
        self._started_tasks.get(task_id).finish(outcome=outcome, now=self._now())

    def forget(self, task_id: str) -> None:
        """
        Remove a task: requests for it get "not found", and its id may be used again.

        Raises:
            ValueError: The id is unknown.
        """
        self._started_tasks.remove(task_id)

    def state(self, task_id: str) -> FakeTaskState:
        """
        Return the state of a task now, also what its dialect does not show.

        Raises:
            ValueError: The id is unknown.
        """
        return self._started_tasks.get(task_id).state(now=self._now())

    # --- faults and requests ---------------------------------------------------------------------

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
        Add a fault, which hits requests from now on.

        If several faults hit a request, the one added last applies.

        - ``401`` to ``504``: an error response in the shape of the dialect (``404``: the task is
          not found).
        - ``html``, ``gateway-html``: a web page with status 200 or 502.
        - ``garbage``, ``empty``: a body that is not JSON, or no body, with status 200.
        - ``redirect``: status 302.
        - ``wrong-id``: the response has the id of another task.
        - ``slow``: the response is delayed.  ``hang``: there is no response.
        - ``truncated``: the connection ends in the middle of the body.
        - ``close``, ``reset``: the connection ends without a response.

        Args:
            kind: One of ``fault_kinds``.
            seconds: Duration of the fault, above 0; None: until ``heal``.
            share: Share of the requests that it hits, above 0 and at most 1, evenly spread:
                0.25 is every fourth request.
            task_id: Hit only requests for this id; None: all requests.
            details: ``retry_after`` (429 and 5xx), ``delay`` (slow; seconds, default 10),
                ``location`` (redirect), ``foreign_id`` (wrong-id; default: a new id each time).

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
        """End all faults, or those of one kind; requests already hit are not affected."""
        self._faults.heal(kind)

    def requests(self, task_id: str | None = None) -> list[RequestRecord]:
        """Return the newest requests in order of arrival, all or those for one id."""
        return [record for record in self._log if task_id in {None, record.task_id}]

    @property
    def in_flight(self) -> int:
        """Requests that have arrived and have no response yet."""
        return self._log.in_flight

    @property
    def peak_in_flight(self) -> int:
        """The most requests that were in flight at once."""
        return self._log.peak_in_flight

    # --- serving ---------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task_id = requested_task_id(request.method, request.raw_path)
        header = request.headers.get("Authorization")
        authorization = check_authorization(header, api_key=self._api_key)
        record = RequestRecord(
            method=request.method,
            path=request.raw_path,
            task_id=task_id,
            authorization=authorization,
            headers=redact_headers(request.headers, authorization=authorization),
            at=self._now(),
        )
        entry = self._log.begin(record)
        try:
            return await self._respond(request, entry)
        finally:
            self._log.end(entry, now=self._now())

    async def _respond(self, request: web.BaseRequest, entry: OpenRequest) -> web.StreamResponse:
        fault = self._faults.pick(entry.record.task_id, now=entry.record.at)
        kind, delay = (None, 0.0) if fault is None else (fault.kind, fault.delay)
        entry.update(fault=kind)
        await self._wait(math.inf if kind == "hang" else self._latency + delay)
        if self._closing.is_set() or kind in {"close", "reset"}:
            return _disconnect(request, reset=kind == "reset")
        response = self._started_tasks.respond(entry.record, fault=fault, now=self._now())
        entry.update(status=response.status)
        if kind == "truncated":
            return await _truncate(request, response)
        return web.Response(status=response.status, body=response.body, headers=response.headers)

    async def _wait(self, seconds: float) -> None:
        """Wait, at most until the server closes."""
        if seconds:
            with anyio.move_on_after(seconds):
                await self._closing.wait()


def _disconnect(request: web.BaseRequest, *, reset: bool) -> web.StreamResponse:
    """End the connection; the returned response is never sent."""
    transport = request.transport
    if transport is not None:
        if reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()
    return web.Response()


async def _truncate(request: web.BaseRequest, response: FakeResponse) -> web.StreamResponse:
    """Announce the whole body, send half of it, and end the connection."""
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(response.body)
    await stream.prepare(request)
    await stream.write(response.body[: len(response.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return stream
