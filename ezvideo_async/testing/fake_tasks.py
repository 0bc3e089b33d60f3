"""
Tasks of the fake server: their state as a function of time, and the responses about them.

Every instant is an argument, in seconds on the loop clock.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

import attrs

from ezvideo_async.testing.dialects import DIALECTS
from ezvideo_async.testing.faults import faulty_response
from ezvideo_async.testing.validation import validate_choice, validate_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezvideo_async.testing.dialects.dialect import Dialect, FakeResponse
    from ezvideo_async.testing.faults import Fault
    from ezvideo_async.testing.request_log import RequestRecord

BASE_PATH = "/v1"
OUTCOMES = ("cancelled", "completed", "expired", "failed", "lost", "never")
PROGRESS_KINDS = ("coarse", "linear", "none", "stuck")

# Share of the duration before processing starts.
QUEUED_SHARE = 0.1
# Percent.  A running task never shows 100, even if it never finishes.
MAX_RUNNING_PROGRESS = 99
# Percent at which a "stuck" task stops, and the first step of a "coarse" one.
STUCK_PROGRESS = 50
COARSE_STEP = 30
# Percent; tolerance for the rounding of 100 * elapsed / duration.
ROUNDING = 1e-9


@attrs.frozen(kw_only=True)
class FakeTaskState:
    """
    State of one task on the fake server at one instant.

    Attributes:
        task_id: The id as given to ``add_task``.
        phase: ``submitted`` (a gateway has not polled its upstream yet), ``queued``, ``running``,
            or the outcome: ``completed``, ``failed``, ``cancelled``, ``expired``, ``lost``.
        progress: Whole percent, 0-100; None if the task shows none.
        row: Number of the task on its server, from 1.
        created_at: Unix seconds.
        updated_at: Unix seconds of the instant this state describes.
        finished_at: Unix seconds; None until the task has its outcome.
    """

    task_id: str
    phase: str
    progress: int | None
    row: int
    created_at: int
    updated_at: int
    finished_at: int | None = None


@attrs.define(kw_only=True)
class FakeTask:
    """
    Script of one task.

    Attributes:
        origin: Unix seconds at which the loop clock showed 0.
        finished: Instant of an early finish; None while the task follows its script.
    """

    task_id: str
    dialect: str
    row: int
    created: float
    duration: float
    outcome: str
    progress: str
    origin: float
    finished: float | None = None

    def __attrs_post_init__(self) -> None:
        if not self.task_id:
            raise ValueError("task_id must not be empty")
        validate_seconds("duration", self.duration)
        validate_choice("outcome", self.outcome, OUTCOMES)
        validate_choice("progress", self.progress, PROGRESS_KINDS)

    def finish(self, *, outcome: str, now: float) -> None:
        """Finish the task at *now*, whatever its script says."""
        if self.state(now=now).finished_at is not None:
            raise ValueError(f"task {self.task_id!r} has already finished: {self.outcome}")
        outcomes = tuple(outcome for outcome in OUTCOMES if outcome != "never")
        validate_choice("outcome", outcome, outcomes)
        self.outcome, self.finished = outcome, now

    def state(self, *, now: float) -> FakeTaskState:
        """Return the state at *now*, an instant not before the creation."""
        end = self._end()
        phase = self._phase(now, end)
        return FakeTaskState(
            task_id=self.task_id,
            phase=phase,
            progress=self._progress_at(min(now, end), phase),
            row=self.row,
            created_at=self._unix(self.created),
            updated_at=self._unix(now),
            finished_at=self._unix(end) if now >= end else None,
        )

    def submitted(self) -> FakeTaskState:
        """Return the state before a gateway first polled its upstream."""
        return attrs.evolve(self.state(now=self.created), phase="submitted", finished_at=None)

    def _unix(self, instant: float) -> int:
        return int(self.origin + instant)

    def _end(self) -> float:
        if self.finished is not None:
            return self.finished
        return math.inf if self.outcome == "never" else self.created + self.duration

    def _phase(self, now: float, end: float) -> str:
        if now >= end:
            return self.outcome
        return "queued" if now < self.created + QUEUED_SHARE * self.duration else "running"

    def _progress_at(self, now: float, phase: str) -> int | None:
        if self.progress == "none":
            return None
        if phase == "completed":
            return 100
        percent = 100.0
        if self.duration:
            percent = 100 * (now - self.created) / self.duration
        if percent + ROUNDING < 100 * QUEUED_SHARE:
            return 0
        return _PROGRESS[self.progress](min(MAX_RUNNING_PROGRESS, math.floor(percent + ROUNDING)))


_PROGRESS: dict[str, Callable[[int], int]] = {
    "linear": lambda percent: percent,
    "coarse": lambda percent: COARSE_STEP if percent < STUCK_PROGRESS else STUCK_PROGRESS,
    "stuck": lambda percent: min(percent, STUCK_PROGRESS),
}


class FakeTasks:
    """
    The tasks of one server, and the responses about them.

    Args:
        dialect: Dialect of all responses but those about tasks with a dialect of their own.
        api_key: The only accepted API key; None accepts every request.
        started: Instant at which the server started.
        epoch: Unix seconds at that instant.
    """

    def __init__(self, *, dialect: str, api_key: str | None, started: float, epoch: float) -> None:
        self._dialect = DIALECTS[dialect]
        self._api_key = api_key
        self._started = started
        self._origin = epoch - started
        self._tasks: dict[str, FakeTask] = {}
        self._rows = 0
        self._foreign_ids = 0
        self._responses = 0

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
        """Create a task; raise a ValueError that names the wrong argument."""
        dialect = self._dialect.name if dialect is None else dialect
        validate_choice("dialect", dialect, tuple(DIALECTS))
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

    def get(self, task_id: str) -> FakeTask:
        """Return the task with this id; raise a ValueError if there is none."""
        if task_id not in self._tasks:
            raise ValueError(f"no task {task_id!r} on this server")
        return self._tasks[task_id]

    def remove(self, task_id: str) -> None:
        """Remove the task with this id; raise a ValueError if there is none."""
        del self._tasks[self.get(task_id).task_id]

    def respond(self, record: RequestRecord, *, fault: Fault | None, now: float) -> FakeResponse:
        """Return the response at *now* to a request that *fault* hits."""
        task = None if record.task_id is None else self._tasks.get(record.task_id)
        dialect = self._dialect if task is None else DIALECTS[task.dialect]
        response = self._correct_response(record, task, dialect, now)
        if fault is not None and fault.kind == "wrong-id":
            response = self._wrong_id_response(response, task, dialect, fault, now)
        elif fault is not None:
            task_id = record.task_id or ""
            response = faulty_response(response, fault=fault, dialect=dialect, task_id=task_id)
        self._responses += 1
        return response.with_headers(dialect.numbered_headers(self._responses))

    def _next_id(self, prefix: str) -> str:
        number = self._rows + 1
        while f"{prefix}{number:06d}" in self._tasks:
            number += 1
        return f"{prefix}{number:06d}"

    def _correct_response(
        self, record: RequestRecord, task: FakeTask | None, dialect: Dialect, now: float
    ) -> FakeResponse:
        if self._api_key is not None and record.authorization != "correct":
            return dialect.error_response(401)
        if record.task_id is None:
            return _no_route_response(record, dialect)
        if task is None or task.state(now=now).phase == "lost":
            return dialect.not_found_response(record.task_id)
        return dialect.task_response(self._visible_state(task, dialect, now))

    def _visible_state(self, task: FakeTask, dialect: Dialect, now: float) -> FakeTaskState:
        """Return the state that the server shows: a gateway shows that of its last poll."""
        interval = dialect.upstream_interval
        if interval:
            now = self._started + math.floor((now - self._started) / interval) * interval
        return task.submitted() if now < task.created else task.state(now=now)

    def _wrong_id_response(
        self,
        response: FakeResponse,
        task: FakeTask | None,
        dialect: Dialect,
        fault: Fault,
        now: float,
    ) -> FakeResponse:
        """Return the same state under another id; keep a response without a task."""
        if task is None or response.status != HTTPStatus.OK:
            return response
        self._foreign_ids += 1
        default = f"{dialect.id_prefix}foreign{self._foreign_ids}"
        state = self._visible_state(task, dialect, now)
        foreign_id = fault.details.get("foreign_id", default)
        return dialect.task_response(attrs.evolve(state, task_id=foreign_id))


def requested_task_id(method: str, target: str) -> str | None:
    """Return the decoded id of a request for the state of one task, else None."""
    path = target.partition("?")[0]
    start = f"{BASE_PATH}/videos/"
    segment = path.removeprefix(start)
    if method != "GET" or segment in {path, ""} or "/" in segment:
        return None
    return unquote(segment)


def _no_route_response(record: RequestRecord, dialect: Dialect) -> FakeResponse:
    path = record.path.partition("?")[0]
    if (record.method, path) == ("POST", f"{BASE_PATH}/videos"):
        return dialect.error_response(501)
    return dialect.no_route_response(record.method, path)
