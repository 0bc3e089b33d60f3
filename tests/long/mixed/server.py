"""
Server of the mixed run, in a process of its own: one port per group, every reply by the plan.

``python -m tests.long.mixed.server SEED EPOCH`` prints its ports as JSON, serves until its
standard input is closed, and prints what it has sent.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from attrs import define, field

from tests.long.mixed.clock import FastLoop
from tests.long.mixed.plan import build
from tests.long.mixed.replies import Sent, Then, fixed

if TYPE_CHECKING:
    from tests.long.mixed.group import Group, Task, Window
    from tests.long.mixed.rows import Phase

_RST = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds
_PREFIX = "/v1/videos/"
_ONE_IN = 3  # replies of a row that doubles them
_UNPLANNED = fixed(500, {"error": {"message": "the plan has no such id"}})


@define
class ServedTask:
    """One task on the server: its place among the phases of its row."""

    task: Task
    count: int = 0
    now: float = 0.0
    begun: list[float] = field(factory=list)
    counts: list[int] = field(factory=list)

    @property
    def id(self) -> str:
        return self.task.id

    @property
    def dialect(self) -> str:
        return self.task.row.dialect

    def reply(self, now: float, group_age: float) -> Sent:
        """Return the reply to a request that came now."""
        self.now, self.count = now, self.count + 1
        phases = self.task.row.phases
        while not self.begun or self._is_over(phases[len(self.begun) - 1], now, group_age):
            self.begun.append(now)
            self.counts.append(0)
        self.counts[-1] += 1
        return phases[len(self.begun) - 1].reply(self)

    def _is_over(self, phase: Phase, now: float, group_age: float) -> bool:
        return (
            now - self.begun[-1] >= phase.seconds
            or group_age >= phase.until
            or self.counts[-1] >= phase.count
        )


class GroupServer:
    """The server of one group."""

    def __init__(self, group: Group) -> None:
        self.tasks = {task.id: ServedTask(task) for task in group.tasks}
        self.requests = 0
        self.connections: set[_Connection] = set()
        self.unplanned: list[str] = []
        self._group = group
        self._began: float | None = None
        self._doubling = 0
        self._passed: Counter[int] = Counter()

    def reply(self, target: str, now: float) -> Sent:
        """Count a request, and return the reply to it."""
        self.requests += 1
        self._began = now if self._began is None else self._began
        task = self.tasks.get(unquote(target.removeprefix(_PREFIX)))
        if task is None or not target.startswith(_PREFIX):
            self.unplanned.append(target[:200])
            return _UNPLANNED(ServedTask(self._group.tasks[0]))
        for window in self._group.windows:
            if window.begin <= now < window.end:
                return self._in_window(window, task, now)
        return self._usual(task, now)

    def _in_window(self, window: Window, task: ServedTask, now: float) -> Sent:
        second = int(now)
        self._passed[second] += 1
        if window.reply is not None and (
            window.rate == float("inf") or self._passed[second] > window.rate
        ):
            return window.reply(task)
        sent = self._usual(task, now)
        return sent if window.changes is None else window.changes(sent)

    def _usual(self, task: ServedTask, now: float) -> Sent:
        assert self._began is not None, "a request came"
        sent = task.reply(now, now - self._began)
        changes = task.task.row.doubles
        if changes is None:
            return sent
        self._doubling += 1
        return sent if self._doubling % _ONE_IN else changes(sent)

    def report(self) -> dict[str, Any]:
        """Return the counts, and when each phase of each id began."""
        return {
            "requests": self.requests,
            "unplanned": self.unplanned,
            "tasks": {
                task_id: list(zip(task.begun, task.counts, strict=True))
                for task_id, task in self.tasks.items()
            },
        }


class _Connection(asyncio.Protocol):
    """One connection; the client sends one request at a time, without a body."""

    def __init__(self, server: GroupServer) -> None:
        self._server = server
        self._received = b""
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.startswith(b"GET"[: len(self._received)]):
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            self._transport.close()
            return
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            self._send(self._server.reply(target, asyncio.get_running_loop().time()))

    def _send(self, sent: Sent) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(sent.data)
        if sent.drip:
            self._drip(sent.drip)
        elif sent.then is Then.CLOSE:
            self._transport.close()
        elif sent.then is Then.RESET:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            self._transport.abort()

    def _drip(self, drip: tuple[tuple[float, bytes], ...]) -> None:
        (delay, data), *rest = drip
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay, self._send, Sent(data, tuple(rest)))

    def drop(self) -> None:
        """Close at the end of the run."""
        self._transport.abort()


async def serve(seed: int) -> None:
    """Serve every group until standard input is closed; then print the report."""
    loop = asyncio.get_running_loop()
    servers, listeners, ports = {}, [], {}
    for group in build(seed):
        server = servers[group.name] = GroupServer(group)
        listener = await loop.create_server(
            lambda server=server: _Connection(server), "127.0.0.1", 0, backlog=1000
        )
        ports[group.name] = listener.sockets[0].getsockname()[1]
        if group.has_server:
            listeners.append(listener)
        else:
            listener.close()
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for listener in listeners:
        listener.close()
    for server in servers.values():
        for connection in tuple(server.connections):
            connection.drop()
    print(json.dumps({name: server.report() for name, server in servers.items()}), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=lambda: FastLoop(float(sys.argv[2]))) as runner:
        runner.run(serve(int(sys.argv[1])))
