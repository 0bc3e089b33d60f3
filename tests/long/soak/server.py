"""
Server of the soak test in a separate process: tasks, faults, and the record of both.

The record holds for every task, in every generation of its id, how it ends, whether that was
shown, and how often the watcher delivered it.  A control connection, a line of JSON each way, adds
tasks and reports final events; the watcher's process keeps nothing, so that its memory can be
measured.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from attrs import define, field

from tests.long.soak.http_server import HANG, FastServer, Reply, Then
from tests.support.raw_server import response

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTY = 0.05  # share of the requests
SHORTEST, LONGEST = 10.0, 120.0  # seconds a task takes
SAME_ID = 0.1  # share of the tasks that are renewed under the id of the one that ended
REFUSE_EVERY, REFUSE_FOR = 60.0, 2.0  # seconds: new connections are refused
GENTLE_FOR = 1.0
"""Seconds without faults before new connections are refused: the kernel resets a connection that
is not accepted yet, and its request could not be counted."""
KINDS = {"completed": "task_completed", "failed": "task_failed", "cancelled": "task_failed"}
VANISHES = "vanishes"  # not found from its end on
_OUTCOMES = ("completed", "failed", "cancelled", VANISHES)
_NOT_FOUND = response({"error": {"code": "task_not_found", "message": "no"}}, status="404 No")
_PAGE = b"<html><title>maintenance</title></html>"


def _status(status: int, *headers: str, body: Any = b"") -> Callable[[bytes, str], Reply]:
    return lambda _whole, _task_id: Reply(response(body, *headers, status=f"{status} S"))


def _bytes(data: bytes, then: Then = Then.KEEP) -> Callable[[bytes, str], Reply]:
    return lambda _whole, _task_id: Reply(data, then)


def _about_another(task_id: str) -> bytes:
    # Another one each time: the same foreign id twice is an alias.
    return response({"id": f"{task_id}_{uuid4()}", "status": "completed"})


# Each gets the correct response and the id, and returns the faulty reply.
FAULTS: dict[str, Callable[[bytes, str], Reply]] = {
    "500": _status(500, body={"error": {"message": "oops"}}),
    "503": _status(503),
    "503, Retry-After": _status(503, "Retry-After: 2"),
    "504": _status(504),
    "firewall": _status(403, "Content-Type: text/html", body=_PAGE),
    "html": _status(200, "Content-Type: text/html", body=_PAGE),
    "html 502": _status(502, "Content-Type: text/html", body=_PAGE),
    "garbage": _status(200, body=b"{not json"),
    "empty": _status(200),
    "no task": _status(200, body={"id": 5, "status": None}),
    "too large": _status(200, body=b"[" + b" " * (1 << 20) + b"]"),
    "not HTTP": _bytes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Then.CLOSE),
    "two lengths": _bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n1"),
    "bad chunk": _bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "FIN": _bytes(b"", Then.CLOSE),
    "RST": _bytes(b"", Then.RESET),
    "FIN in the body": lambda whole, _: Reply(whole[:-5], Then.CLOSE),
    "RST in the body": lambda whole, _: Reply(whole[:-5], Then.RESET),
    "FIN in the head": lambda whole, _: Reply(whole[:20], Then.CLOSE),
    "FIN after the response": lambda whole, _: Reply(whole, Then.CLOSE),
    "wrong id": lambda _, task_id: Reply(_about_another(task_id)),
    "a stray response after the response": lambda whole, task_id: Reply(
        whole + _about_another(task_id)
    ),
    "stale": lambda _, task_id: Reply(response({"id": task_id, "status": "pending"})),
    "hang": lambda _whole, _: HANG,
    "late": lambda whole, _: Reply(whole, delay=2.0),
    "429": _status(429),
    "429, Retry-After": _status(429, "Retry-After: 1"),
}
# A 429 delays all polls: one in half a minute, else the watcher only waits.
WEIGHTS = [0.02 if name.startswith("429") else 1.0 for name in FAULTS]


@define
class Task:
    """One task: when and how it ends, and whether that was shown and delivered."""

    generation: int
    ends: float
    outcome: str
    begun: float
    shown: bool = False
    delivered: int = 0

    @property
    def kind(self) -> str:
        """The kind of its final event."""
        return KINDS.get(self.outcome, "task_lost")


@define
class Record:
    """All tasks, the latest of each id, and what is wrong."""

    chance: random.Random
    latest: dict[str, Task] = field(factory=dict)
    all: list[tuple[str, Task]] = field(factory=list)
    wrong: Counter[str] = field(factory=Counter)
    faults: Counter[str] = field(factory=Counter)
    is_gentle: bool = False
    is_finishing: bool = False

    # -- messages of the watcher's process --------------------------------------------------------

    def add(self, now: float, task_id: str | None = None) -> list[Any]:
        """Begin a task; its id and generation."""
        task_id = task_id or f"vid_{len(self.all):07}"
        earlier = self.latest.get(task_id)
        task = Task(
            generation=earlier.generation + 1 if earlier else 0,
            begun=now,
            ends=now + self.chance.uniform(SHORTEST, LONGEST),
            outcome=self.chance.choices(_OUTCOMES, (80, 10, 5, 5))[0],
        )
        self.latest[task_id] = task
        self.all.append((task_id, task))
        return [task_id, task.generation]

    def delivered(self, now: float, task_id: str, generation: int, kind: str) -> list[Any] | None:
        """Record a final event; return the task that replaces the ended one."""
        task = self.latest[task_id]
        self.wrong["of another generation"] += task.generation != generation
        self.wrong["of the wrong kind"] += task.kind != kind
        self.wrong["never shown"] += not task.shown
        task.delivered += 1
        if self.is_finishing or task.delivered > 1:
            return None
        return self.add(now, task_id if self.chance.random() < SAME_ID else None)

    def finish(self, now: float) -> None:
        """End all faults and all tasks."""
        self.is_finishing = True
        for task in self.latest.values():
            task.ends = min(task.ends, now)

    def report(self) -> dict[str, Any]:
        """Return the result of the run."""
        lost = [task_id for task_id, task in self.all if not task.delivered]
        return {
            "tasks": len(self.all),
            "delivered once": sum(task.delivered == 1 for _, task in self.all),
            "doubled": sum(task.delivered > 1 for _, task in self.all),
            "lost": len(lost),
            "lost ids": lost[:5],
            "wrong": {name: count for name, count in self.wrong.items() if count},
            "faults": sum(self.faults.values()),
            "kinds": dict(self.faults),
        }

    # -- requests of the watcher ------------------------------------------------------------------

    def reply_to(self, task_id: str, now: float) -> Reply:
        """Return the response to a request, or a fault."""
        task = self.latest.get(task_id)
        if task is None:
            self.wrong["polled, but never added"] += 1
            return Reply(_NOT_FOUND)
        self.wrong["polled after its final event"] += bool(task.delivered)
        whole = self._response(task_id, task, now)
        if self.is_finishing or self.is_gentle or self.chance.random() >= FAULTY:
            return Reply(whole)
        (name,) = self.chance.choices(list(FAULTS), WEIGHTS)
        self.faults[name] += 1
        return FAULTS[name](whole, task_id)

    def _response(self, task_id: str, task: Task, now: float) -> bytes:
        if now < task.ends:
            share = (now - task.begun) / (task.ends - task.begun)
            status = "processing" if share > 0.1 else "pending"
            return response({"id": task_id, "status": status, "progress": int(99 * share)})
        task.shown = True
        if task.outcome == VANISHES:
            return _NOT_FOUND
        return response({"id": task_id, "status": task.outcome, "progress": 100})


async def serve(seed: int) -> None:
    """Print the two ports, and serve until the control connection is closed."""
    loop = asyncio.get_running_loop()
    record = Record(random.Random(seed))
    is_over = asyncio.Event()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            word, *details = json.loads(line)
            match word:
                case "add":
                    found: Any = record.add(loop.time())
                case "delivered":
                    found = [record.delivered(loop.time(), *each) for each in details]
                case "finish":
                    found = record.finish(loop.time())
                case "figures":
                    found = {"requests": server.requests, "faults": sum(record.faults.values())}
                case _:
                    found = {**record.report(), "requests": server.requests}
            writer.write(json.dumps(found).encode() + b"\n")
        writer.close()
        is_over.set()

    async with FastServer(lambda task_id: record.reply_to(task_id, loop.time())) as server:
        listening = await asyncio.start_server(control, "127.0.0.1", 0)
        print(server.port, listening.sockets[0].getsockname()[1], flush=True)
        while not is_over.is_set():
            await _wait(is_over, REFUSE_EVERY)
            record.is_gentle = True
            await _wait(is_over, GENTLE_FOR)
            record.is_gentle = False
            if not record.is_finishing:
                server.refuse()
                await _wait(is_over, REFUSE_FOR)
                await server.open()
        listening.close()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
