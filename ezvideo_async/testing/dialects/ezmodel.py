"""Dialect ``ezmodel``: the shapes of the API document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezvideo_async.testing.dialects.dialect import (
    Dialect,
    Json,
    completion_times,
    error_of,
    progress_of,
    video_url,
)

if TYPE_CHECKING:
    from ezvideo_async.testing.fake_tasks import FakeTaskState

_VIDEO_LIFETIME = 86_400  # seconds
_STATUS_VALUES = {"queued": "pending", "running": "processing"}


def _task(state: FakeTaskState) -> Json:
    body: Json = {
        "id": state.task_id,
        "object": "video",
        "model": "sora-1.0",
        "status": _STATUS_VALUES.get(state.phase, state.phase),
        **progress_of(state),
        "created_at": state.created_at,
        **completion_times(state, lifetime=_VIDEO_LIFETIME),
        "seconds": "10.0",
        "size": "1920x1080",
        "metadata": {"fps": 30, "seed": state.row},
    }
    if state.phase == "completed":
        body["url"] = video_url(state.task_id)
    if state.phase == "failed":
        body["error"] = error_of(state)
    return body


def _error(_status: int, code: str, message: str) -> Json:
    return {"error": {"message": message, "code": code}}


def _not_found(_task_id: str) -> tuple[int, Json]:
    return 404, _error(404, "task_not_found", "Video task not found")


EZMODEL = Dialect(name="ezmodel", id_prefix="vid_", task=_task, not_found=_not_found, error=_error)
