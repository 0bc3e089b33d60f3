"""
The server of the soak, in a process of its own: tasks, trouble of every kind, and the books.

The books say of every task, in every generation of its id, how it ends, whether that was shown,
and how often the watcher told it.  A control connection, a line of JSON each way, adds tasks and
takes in what was told; the watcher's process keeps nothing, so that its memory can be judged.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from attrs import define, field

from tests.support.fast_server import HANG, QuickServer, Reply, Then, answer

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTY = 0.05  # share of the requests
SHORTEST, LONGEST = 10.0, 120.0  # seconds a task takes
SAME_ID = 0.1  # share of the tasks that are renewed under the id of the one that ended
REFUSE_EVERY, REFUSE_FOR = 60.0, 2.0  # seconds: new connections are refused
GENTLE_FOR = 1.0
"""Seconds without trouble before new connections are refused, so that none is on its way: the
kernel would reset it, and nobody here could count the request that came with it."""
KINDS = {"completed": "task_completed", "failed": "task_failed", "cancelled": "task_failed"}
VANISHES = "vanishes"  # not found from its end on
_OUTCOMES = ("completed", "failed", "cancelled", VANISHES)
_NOT_FOUND = answer({"error": {"code": "task_not_found", "message": "no"}}, status="404 Not Found")
_PAGE = b"<html><title>maintenance</title></html>"


def _status(status: int, *headers: str, body: Any = b"") -> Callable[[bytes, str], Reply]:
    return lambda _whole, _task_id: Reply(answer(body, *headers, status=f"{status} S"))


def _bytes(data: bytes, then: Then = Then.KEEP) -> Callable[[bytes, str], Reply]:
    return lambda _whole, _task_id: Reply(data, then)


def _about_another(task_id: str) -> bytes:
    # Another one each time: the same foreign id twice is an alias, and believed.
    return answer({"id": f"{task_id}_{uuid4()}", "status": "completed"})


# Each takes the whole right answer and the id, and makes something else of it.
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
    "FIN after the answer": lambda whole, _: Reply(whole, Then.CLOSE),
    "wrong id": lambda _, task_id: Reply(_about_another(task_id)),
    "a stray answer after the answer": lambda whole, task_id: Reply(
        whole + _about_another(task_id)
    ),
    "stale": lambda _, task_id: Reply(answer({"id": task_id, "status": "pending"})),
    "hang": lambda _whole, _: HANG,
    "late": lambda whole, _: Reply(whole, late=2.0),
    "429": _status(429),
    "429, Retry-After": _status(429, "Retry-After: 1"),
}
# A 429 stops everybody: one in half a minute, else nothing but waiting is watched.
WEIGHTS = [0.02 if name.startswith("429") else 1.0 for name in FAULTS]


@define
class Task:
    """One task: when and how it ends, and what was seen of that."""

    generation: int
    ends: float
    outcome: str
    begun: float
    shown: bool = False
    told: int = 0

    @property
    def kind(self) -> str:
        """The kind of its final event."""
        return KINDS.get(self.outcome, "task_lost")


@define
class Books:
    """All tasks, the latest of each id, and what is wrong."""

    chance: random.Random
    latest: dict[str, Task] = field(factory=dict)
    all: list[tuple[str, Task]] = field(factory=list)
    wrong: Counter[str] = field(factory=Counter)
    met: Counter[str] = field(factory=Counter)
    asked: int = 0
    is_gentle: bool = False
    is_calm: bool = False

    # -- what the watcher's process says ----------------------------------------------------------

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

    def told(self, now: float, task_id: str, generation: int, kind: str) -> list[Any] | None:
        """Take in a final event; the task that takes the place of the one that ended."""
        task = self.latest[task_id]
        self.wrong["of another generation"] += task.generation != generation
        self.wrong["of the wrong kind"] += task.kind != kind
        self.wrong["never shown"] += not task.shown
        task.told += 1
        if self.is_calm or task.told > 1:
            return None
        return self.add(now, task_id if self.chance.random() < SAME_ID else None)

    def calm(self, now: float) -> None:
        """End all trouble, and all tasks."""
        self.is_calm = True
        for task in self.latest.values():
            task.ends = min(task.ends, now)

    def report(self) -> dict[str, Any]:
        """What came of it all."""
        lost = [task_id for task_id, task in self.all if not task.told]
        return {
            "tasks": len(self.all),
            "told once": sum(task.told == 1 for _, task in self.all),
            "doubled": sum(task.told > 1 for _, task in self.all),
            "lost": len(lost),
            "lost ids": lost[:5],
            "wrong": {name: count for name, count in self.wrong.items() if count},
            "faults": sum(self.met.values()),
            "kinds": dict(self.met),
        }

    # -- what the watcher asks --------------------------------------------------------------------

    def reply_to(self, task_id: str, now: float) -> Reply:
        """Answer a request, or meet it with trouble."""
        task = self.latest.get(task_id)
        if task is None:
            self.wrong["asked for, but never added"] += 1
            return Reply(_NOT_FOUND)
        self.wrong["asked for after its end was told"] += bool(task.told)
        whole = self._answer(task_id, task, now)
        if self.is_calm or self.is_gentle or self.chance.random() >= FAULTY:
            return Reply(whole)
        (name,) = self.chance.choices(list(FAULTS), WEIGHTS)
        self.met[name] += 1
        return FAULTS[name](whole, task_id)

    def _answer(self, task_id: str, task: Task, now: float) -> bytes:
        if now < task.ends:
            share = (now - task.begun) / (task.ends - task.begun)
            status = "processing" if share > 0.1 else "pending"
            return answer({"id": task_id, "status": status, "progress": int(99 * share)})
        task.shown = True
        if task.outcome == VANISHES:
            return _NOT_FOUND
        return answer({"id": task_id, "status": task.outcome, "progress": 100})


async def serve(seed: int) -> None:
    """Print the two ports, and serve until the control connection is closed."""
    loop = asyncio.get_running_loop()
    books = Books(random.Random(seed))
    is_over = asyncio.Event()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            word, *details = json.loads(line)
            match word:
                case "add":
                    found: Any = books.add(loop.time())
                case "told":
                    found = [books.told(loop.time(), *each) for each in details]
                case "calm":
                    found = books.calm(loop.time())
                case "figures":
                    found = {"requests": server.requests, "faults": sum(books.met.values())}
                case _:
                    found = {**books.report(), "requests": server.requests}
            writer.write(json.dumps(found).encode() + b"\n")
        writer.close()
        is_over.set()

    async with QuickServer(lambda task_id: books.reply_to(task_id, loop.time())) as server:
        listening = await asyncio.start_server(control, "127.0.0.1", 0)
        print(server.port, listening.sockets[0].getsockname()[1], flush=True)
        while not is_over.is_set():
            await _wait(is_over, REFUSE_EVERY)
            books.is_gentle = True
            await _wait(is_over, GENTLE_FOR)
            books.is_gentle = False
            if not books.is_calm:
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
