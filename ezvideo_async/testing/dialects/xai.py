"""Dialect ``xai``: the shapes of xAI's video generations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezvideo_async.testing.dialects.dialect import (
    Dialect,
    Json,
    error_of,
    progress_of,
    video_url,
)

if TYPE_CHECKING:
    from ezvideo_async.testing.fake_tasks import FakeTaskState


def _task(state: FakeTaskState) -> Json:
    if state.phase == "queued":
        return {"request_id": state.task_id}
    model: Json = {"model": "grok-imagine-video"}
    match state.phase:
        case "running":
            return {"status": "pending", **model, **progress_of(state)}
        case "completed":
            video = {"url": video_url(state.task_id), "duration": 6, "respect_moderation": True}
            return {"status": "done", **model, "video": video}
        case "expired":
            return {"status": "expired", **model}
        case _:
            return {"status": "failed", "model": "", "error": error_of(state)}


def _error(_status: int, code: str, message: str) -> Json:
    return {"code": code, "error": message}


def _not_found(_task_id: str) -> tuple[int, Json]:
    return 404, _error(404, "Some requested entity was not found", "Video request not found")


XAI = Dialect(name="xai", id_prefix="req-", task=_task, not_found=_not_found, error=_error)
