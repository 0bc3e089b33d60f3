"""Dialect ``openai``: the shapes of OpenAI's Videos API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezvideo_async.testing.dialects.dialect import (
    Dialect,
    Json,
    completion_times,
    error_of,
    progress_of,
)

if TYPE_CHECKING:
    from ezvideo_async.testing.fake_tasks import FakeTaskState

_VIDEO_LIFETIME = 3_600  # seconds
_POLL_AFTER_MS = "2500"  # milliseconds, as the header has them

STATUS_VALUES = {
    "queued": "queued",
    "running": "in_progress",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "failed",
    "expired": "failed",
}


def _task(state: FakeTaskState) -> Json:
    return {
        "id": state.task_id,
        "object": "video",
        "model": "sora-2",
        "status": STATUS_VALUES[state.phase],
        **progress_of(state),
        "created_at": state.created_at,
        "completed_at": None,
        "expires_at": None,
        **completion_times(state, lifetime=_VIDEO_LIFETIME),
        "prompt": "a paper boat on a quiet lake",
        "seconds": "4",
        "size": "720x1280",
        "remixed_from_video_id": None,
        "error": error_of(state),
    }


def _error(_status: int, code: str | None, message: str) -> Json:
    shape = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return {"error": shape}


def _not_found(task_id: str) -> tuple[int, Json]:
    return 404, _error(404, None, f"Video with id '{task_id}' not found.")


OPENAI = Dialect(
    name="openai",
    id_prefix="video_",
    task=_task,
    not_found=_not_found,
    error=_error,
    headers={"x-request-id": "req_{:06d}"},
    task_headers={"openai-poll-after-ms": _POLL_AFTER_MS},
)
