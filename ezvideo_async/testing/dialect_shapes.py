"""
How servers of different make put the same facts: pure functions from state to answer.

Each dialect is one row of ``DIALECTS``.  The shapes follow the API document and the public
sources of the servers; names and texts in them are made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs

from ezvideo_async.testing.dialect import Dialect, Json

if TYPE_CHECKING:
    from ezvideo_async.testing.fake_tasks import FakeTaskState

# Seconds after its end for which a video can be had: a day, and an hour at OpenAI.
DAY = 86_400
HOUR = 3_600
# Seconds between two looks of a new-api gateway at its upstream.
NEW_API_ROUND = 15.0
# What OpenAI's answers ask pollers to wait, in the unit of their header.
OPENAI_POLL_AFTER_MS = "2500"

_REASONS = {
    "failed": ("content_policy_violation", "The prompt was rejected by the content policy"),
    "cancelled": ("cancelled", "The task was cancelled"),
    "expired": ("expired", "The task waited for too long"),
}


def video_url(task_id: str) -> str:
    """Where the made-up storage keeps the video of a task."""
    return f"https://storage.example.test/videos/{quote(task_id, safe='')}.mp4"


def _progress(state: FakeTaskState) -> Json:
    return {} if state.progress is None else {"progress": state.progress}


def _reason(state: FakeTaskState) -> Json | None:
    if state.phase not in _REASONS:
        return None
    code, message = _REASONS[state.phase]
    return {"message": message, "code": code}


def _ended(state: FakeTaskState, lifetime: int) -> Json:
    """``completed_at`` and ``expires_at`` of a completed task; empty for others."""
    if state.phase != "completed" or state.ended_at is None:
        return {}
    return {"completed_at": state.ended_at, "expires_at": state.ended_at + lifetime}


# --- ezmodel: the API document -------------------------------------------------------------------

_EZMODEL_WORDS = {"queued": "pending", "running": "processing"}


def _ezmodel_task(state: FakeTaskState) -> Json:
    body: Json = {
        "id": state.task_id,
        "object": "video",
        "model": "sora-1.0",
        "status": _EZMODEL_WORDS.get(state.phase, state.phase),
        **_progress(state),
        "created_at": state.created_at,
        **_ended(state, DAY),
        "seconds": "10.0",
        "size": "1920x1080",
        "metadata": {"fps": 30, "seed": state.row},
    }
    if state.phase == "completed":
        body["url"] = video_url(state.task_id)
    if state.phase == "failed":
        body["error"] = _reason(state)
    return body


def _ezmodel_error(_status: int, code: str, message: str) -> Json:
    return {"error": {"message": message, "code": code}}


def _ezmodel_not_found(_task_id: str) -> tuple[int, Json]:
    return 404, {"error": {"message": "Video task not found", "code": "task_not_found"}}


# --- openai --------------------------------------------------------------------------------------

_OPENAI_WORDS = {
    "queued": "queued",
    "running": "in_progress",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "failed",
    "expired": "failed",
}


def _openai_task(state: FakeTaskState) -> Json:
    return {
        "id": state.task_id,
        "object": "video",
        "model": "sora-2",
        "status": _OPENAI_WORDS[state.phase],
        **_progress(state),
        "created_at": state.created_at,
        "completed_at": None,
        "expires_at": None,
        **_ended(state, HOUR),
        "prompt": "a paper boat on a quiet lake",
        "seconds": "4",
        "size": "720x1280",
        "remixed_from_video_id": None,
        "error": _reason(state),
    }


def _openai_error(_status: int, code: str | None, message: str) -> Json:
    shape = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return {"error": shape}


def _openai_not_found(task_id: str) -> tuple[int, Json]:
    return 404, _openai_error(404, None, f"Video with id '{task_id}' not found.")


# --- new-api: a gateway that copies the state of its upstream in rounds --------------------------

_NEW_API_WORDS = {**_OPENAI_WORDS, "submitted": "unknown"}
_ROW_WORDS = {
    "submitted": "NOT_START",
    "queued": "QUEUED",
    "running": "IN_PROGRESS",
    "completed": "SUCCESS",
    "failed": "FAILURE",
    "cancelled": "FAILURE",
    "expired": "FAILURE",
}


def _new_api_progress(state: FakeTaskState) -> int | None:
    """A task that has ended shows 100, also when it failed."""
    return state.progress if state.ended_at is None or state.progress is None else 100


def _new_api_task(state: FakeTaskState) -> Json:
    reason = _reason(state)
    url = video_url(state.task_id) if state.phase == "completed" else ""
    seen = {} if state.phase == "submitted" else {"completed_at": state.updated_at}
    return {
        "id": state.task_id,
        "task_id": state.task_id,
        "object": "video",
        "model": "seedance-1-0-pro",
        "status": _NEW_API_WORDS[state.phase],
        **_progress(attrs.evolve(state, progress=_new_api_progress(state))),
        "created_at": state.created_at,
        **seen,
        **({} if reason is None else {"error": reason}),
        "metadata": {"url": url},
    }


def _new_api_row(state: FakeTaskState) -> Json:
    progress = _new_api_progress(state)
    row: Json = {
        "id": state.row,
        "created_at": state.created_at,
        "task_id": state.task_id,
        "action": "generate",
        "status": _ROW_WORDS[state.phase],
        "fail_reason": (_reason(state) or {"message": ""})["message"],
        "submit_time": state.created_at,
        "finish_time": state.ended_at or 0,
        **({} if progress is None else {"progress": f"{progress}%"}),
        "data": None,
    }
    if state.phase == "completed":
        row["result_url"] = video_url(state.task_id)
    return {"code": "success", "message": "", "data": row}


def _new_api_error(_status: int, _code: str, message: str) -> Json:
    return {"error": {"message": message, "type": "new_api_error", "code": ""}}


def _new_api_not_found(_task_id: str) -> tuple[int, Json]:
    return 400, {"code": "task_not_exist", "message": "task_not_exist", "data": None}


# --- xai -----------------------------------------------------------------------------------------


def _xai_task(state: FakeTaskState) -> Json:
    if state.phase == "queued":
        return {"request_id": state.task_id}
    model: Json = {"model": "grok-imagine-video"}
    match state.phase:
        case "running":
            return {"status": "pending", **model, **_progress(state)}
        case "completed":
            video = {"url": video_url(state.task_id), "duration": 6, "respect_moderation": True}
            return {"status": "done", **model, "video": video}
        case "expired":
            return {"status": "expired", **model}
        case _:
            return {"status": "failed", "model": "", "error": _reason(state)}


def _xai_error(_status: int, code: str, message: str) -> Json:
    return {"code": code, "error": message}


def _xai_not_found(_task_id: str) -> tuple[int, Json]:
    return 404, _xai_error(404, "Some requested entity was not found", "Video request not found")


# --- openrouter ----------------------------------------------------------------------------------

_OPENROUTER_WORDS = {"queued": "pending", "running": "in_progress"}


def _openrouter_task(state: FakeTaskState) -> Json:
    path = f"/api/v1/videos/{quote(state.task_id, safe='')}"
    body: Json = {
        "id": state.task_id,
        "polling_url": path,
        "status": _OPENROUTER_WORDS.get(state.phase, state.phase),
    }
    if state.phase == "completed":
        body["generation_id"] = f"gen-{state.row}"
        body["urls"] = [video_url(state.task_id)]
        body["unsigned_urls"] = [f"https://openrouter.example.test{path}/content?index=0"]
    if reason := _reason(state):
        body["error"] = reason["message"]
    return body


def _openrouter_error(status: int, _code: str, message: str) -> Json:
    return {"error": {"message": message, "code": status}}


def _openrouter_not_found(task_id: str) -> tuple[int, Json]:
    return 404, _openrouter_error(404, "", f"Video job {task_id} not found")


# --- the table -----------------------------------------------------------------------------------

_NEW_API = Dialect(
    name="new-api",
    id_prefix="task_",
    task=_new_api_task,
    not_found=_new_api_not_found,
    error=_new_api_error,
    round_seconds=NEW_API_ROUND,
    headers={"X-Oneapi-Request-Id": "fake{:06d}"},
)
_ROWS = (
    Dialect(
        name="ezmodel",
        id_prefix="vid_",
        task=_ezmodel_task,
        not_found=_ezmodel_not_found,
        error=_ezmodel_error,
    ),
    Dialect(
        name="openai",
        id_prefix="video_",
        task=_openai_task,
        not_found=_openai_not_found,
        error=_openai_error,
        headers={"x-request-id": "req_{:06d}"},
        task_headers={"openai-poll-after-ms": OPENAI_POLL_AFTER_MS},
    ),
    _NEW_API,
    attrs.evolve(_NEW_API, name="new-api-task", task=_new_api_row),
    Dialect(
        name="xai",
        id_prefix="req-",
        task=_xai_task,
        not_found=_xai_not_found,
        error=_xai_error,
    ),
    Dialect(
        name="openrouter",
        id_prefix="job-",
        task=_openrouter_task,
        not_found=_openrouter_not_found,
        error=_openrouter_error,
    ),
)
DIALECTS = {row.name: row for row in _ROWS}
