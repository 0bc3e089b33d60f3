"""
Dialects ``new-api`` and ``new-api-task``: a gateway that polls its upstream at intervals.

``new-api`` is the OpenAI shape, ``new-api-task`` the row of the gateway's own task table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ezvideo_async.testing.dialects.dialect import (
    Dialect,
    Json,
    error_of,
    progress_of,
    video_url,
)
from ezvideo_async.testing.dialects.openai import STATUS_VALUES

if TYPE_CHECKING:
    from ezvideo_async.testing.fake_tasks import FakeTaskState

_UPSTREAM_INTERVAL = 15.0  # seconds
_TASK_STATUS_VALUES = {**STATUS_VALUES, "submitted": "unknown"}
_ROW_STATUS_VALUES = {
    "submitted": "NOT_START",
    "queued": "QUEUED",
    "running": "IN_PROGRESS",
    "completed": "SUCCESS",
    "failed": "FAILURE",
    "cancelled": "FAILURE",
    "expired": "FAILURE",
}


def _with_full_progress(state: FakeTaskState) -> FakeTaskState:
    """Return the state with progress 100 if the task has finished, failed tasks included."""
    if state.finished_at is None or state.progress is None:
        return state
    return attrs.evolve(state, progress=100)


def _task(state: FakeTaskState) -> Json:
    error = error_of(state)
    url = video_url(state.task_id) if state.phase == "completed" else ""
    # The gateway sets completed_at at each of its polls of the upstream.
    polled = {} if state.phase == "submitted" else {"completed_at": state.updated_at}
    return {
        "id": state.task_id,
        "task_id": state.task_id,
        "object": "video",
        "model": "seedance-1-0-pro",
        "status": _TASK_STATUS_VALUES[state.phase],
        **progress_of(_with_full_progress(state)),
        "created_at": state.created_at,
        **polled,
        **({} if error is None else {"error": error}),
        "metadata": {"url": url},
    }


def _row(state: FakeTaskState) -> Json:
    progress = _with_full_progress(state).progress
    row: Json = {
        "id": state.row,
        "created_at": state.created_at,
        "task_id": state.task_id,
        "action": "generate",
        "status": _ROW_STATUS_VALUES[state.phase],
        "fail_reason": (error_of(state) or {"message": ""})["message"],
        "submit_time": state.created_at,
        "finish_time": state.finished_at or 0,
        **({} if progress is None else {"progress": f"{progress}%"}),
        "data": None,
    }
    if state.phase == "completed":
        row["result_url"] = video_url(state.task_id)
    return {"code": "success", "message": "", "data": row}


def _error(_status: int, _code: str, message: str) -> Json:
    return {"error": {"message": message, "type": "new_api_error", "code": ""}}


def _not_found(_task_id: str) -> tuple[int, Json]:
    return 400, {"code": "task_not_exist", "message": "task_not_exist", "data": None}


NEW_API = Dialect(
    name="new-api",
    id_prefix="task_",
    task=_task,
    not_found=_not_found,
    error=_error,
    upstream_interval=_UPSTREAM_INTERVAL,
    headers={"X-Oneapi-Request-Id": "fake{:06d}"},
)
NEW_API_TASK = attrs.evolve(NEW_API, name="new-api-task", task=_row)
