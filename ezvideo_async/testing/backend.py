"""
What a fake server knows and would honestly answer.

No await, no clock, no sockets: every instant arrives as an argument.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

import attrs

from ezvideo_async.testing.dialect_shapes import DIALECTS
from ezvideo_async.testing.fake_tasks import FakeTask, FakeTaskState, check_word
from ezvideo_async.testing.faults import distorted

if TYPE_CHECKING:
    from ezvideo_async.testing.dialect import Answer, Dialect
    from ezvideo_async.testing.faults import Fault
    from ezvideo_async.testing.request_log import RequestRecord

BASE_PATH = "/v1"


class Backend:
    """
    The tasks of one server, and the answers about them.

    Args:
        dialect: How answers look unless a task says otherwise.
        api_key: The only bearer token that is let in; None lets everybody in.
        started: Seconds on the loop clock when the server started.
        epoch: Unix seconds at that instant.
    """

    def __init__(self, *, dialect: str, api_key: str | None, started: float, epoch: float) -> None:
        self._dialect = DIALECTS[dialect]
        self._api_key = api_key
        self._started = started
        self._origin = epoch - started
        self._tasks: dict[str, FakeTask] = {}
        self._rows = 0
        self._foreign = 0
        self._answers = 0

    def add(
        self,
        task_id: str | None,
        *,
        dialect: str | None,
        now: float,
        duration: float,
        outcome: str,
        progress: str,
    ) -> FakeTask:
        """Create a task; a ValueError names the argument that is wrong."""
        dialect = self._dialect.name if dialect is None else dialect
        check_word("dialect", dialect, tuple(DIALECTS))
        if task_id is None:
            task_id = self._next_id(DIALECTS[dialect].id_prefix)
        if task_id in self._tasks:
            raise ValueError(f"task {task_id!r} exists already")
        task = FakeTask(
            task_id=task_id,
            dialect=dialect,
            row=self._rows + 1,
            created=now,
            duration=duration,
            outcome=outcome,
            progress=progress,
            origin=self._origin,
        )
        self._rows += 1
        self._tasks[task_id] = task
        return task

    def task(self, task_id: str) -> FakeTask:
        """The task with this id, or a ValueError."""
        if task_id not in self._tasks:
            raise ValueError(f"no task {task_id!r} on this server")
        return self._tasks[task_id]

    def forget(self, task_id: str) -> None:
        """Drop the task with this id, or raise a ValueError."""
        del self._tasks[self.task(task_id).task_id]

    def answer(self, record: RequestRecord, *, fault: Fault | None, now: float) -> Answer:
        """What a request that met *fault* gets at *now*."""
        task = None if record.task_id is None else self._tasks.get(record.task_id)
        dialect = self._dialect if task is None else DIALECTS[task.dialect]
        answer = self._honest_answer(record, task, dialect, now)
        if fault is not None and fault.kind == "wrong-id":
            answer = self._foreign_answer(answer, task, dialect, fault, now)
        elif fault is not None:
            task_id = record.task_id or ""
            answer = distorted(answer, fault=fault, dialect=dialect, task_id=task_id)
        self._answers += 1
        return answer.with_headers(dialect.numbered_headers(self._answers))

    def _next_id(self, prefix: str) -> str:
        number = self._rows + 1
        while f"{prefix}{number:06d}" in self._tasks:
            number += 1
        return f"{prefix}{number:06d}"

    def _honest_answer(
        self, record: RequestRecord, task: FakeTask | None, dialect: Dialect, now: float
    ) -> Answer:
        if self._api_key is not None and record.authorization != "correct":
            return dialect.error_answer(401)
        if record.task_id is None:
            return _no_task_answer(record, dialect)
        if task is None or task.state(now=now).phase == "lost":
            return dialect.not_found_answer(record.task_id)
        return dialect.task_answer(self._shown_state(task, dialect, now))

    def _shown_state(self, task: FakeTask, dialect: Dialect, now: float) -> FakeTaskState:
        """What the server has noticed of a task; a gateway notices in rounds only."""
        if dialect.round_seconds:
            rounds = math.floor((now - self._started) / dialect.round_seconds)
            now = self._started + rounds * dialect.round_seconds
        return task.submitted() if now < task.created else task.state(now=now)

    def _foreign_answer(
        self, answer: Answer, task: FakeTask | None, dialect: Dialect, fault: Fault, now: float
    ) -> Answer:
        """The same state under another id; an answer without a task stays as it is."""
        if task is None or answer.status != HTTPStatus.OK:
            return answer
        self._foreign += 1
        task_id = fault.details.get("foreign_id", f"{dialect.id_prefix}foreign{self._foreign}")
        state = self._shown_state(task, dialect, now)
        return dialect.task_answer(attrs.evolve(state, task_id=task_id))


def requested_task_id(method: str, target: str) -> str | None:
    """The decoded id when a request is for the state of one task, else None."""
    path = target.partition("?")[0]
    start = f"{BASE_PATH}/videos/"
    segment = path.removeprefix(start)
    if method != "GET" or segment in {path, ""} or "/" in segment:
        return None
    return unquote(segment)


def _no_task_answer(record: RequestRecord, dialect: Dialect) -> Answer:
    path = record.path.partition("?")[0]
    if (record.method, path) == ("POST", f"{BASE_PATH}/videos"):
        return dialect.error_answer(501)
    return dialect.no_route_answer(record.method, path)
