"""Dialect ``openrouter``: the shapes of OpenRouter's video jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from ezvideo_async.testing.dialects.dialect import Dialect, Json, error_of, video_url

if TYPE_CHECKING:
    from ezvideo_async.testing.fake_tasks import FakeTaskState

_STATUS_VALUES = {"queued": "pending", "running": "in_progress"}


def _task(state: FakeTaskState) -> Json:
    path = f"/api/v1/videos/{quote(state.task_id, safe='')}"
    body: Json = {
        "id": state.task_id,
        "polling_url": path,
        "status": _STATUS_VALUES.get(state.phase, state.phase),
    }
    if state.phase == "completed":
        body["generation_id"] = f"gen-{state.row}"
        body["urls"] = [video_url(state.task_id)]
        body["unsigned_urls"] = [f"https://openrouter.example.test{path}/content?index=0"]
    if error := error_of(state):
        body["error"] = error["message"]
    return body


def _error(status: int, _code: str, message: str) -> Json:
    return {"error": {"message": message, "code": status}}


def _not_found(task_id: str) -> tuple[int, Json]:
    return 404, _error(404, "", f"Video job {task_id} not found")


OPENROUTER = Dialect(
    name="openrouter", id_prefix="job-", task=_task, not_found=_not_found, error=_error
)
