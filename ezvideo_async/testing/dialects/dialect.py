"""Dialect of a fake server: its JSON shapes and headers, and what all dialects share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ezvideo_async.testing.fake_tasks import FakeTaskState

Json = dict[str, Any]

# Code and message of each error response that is not about one task.
_ERRORS = {
    401: ("invalid_api_key", "The API key is missing or not valid"),
    403: ("access_denied", "This API key may not access the task"),
    429: ("rate_limit_exceeded", "Too many requests"),
    500: ("internal_error", "Internal server error"),
    501: ("not_implemented", "The fake server creates tasks with add_task() only"),
    502: ("bad_gateway", "The upstream sent an invalid response"),
    503: ("service_unavailable", "The service is overloaded"),
    504: ("gateway_timeout", "The upstream did not respond in time"),
}
# Code and message of the error of a task, by its phase.
_TASK_ERRORS = {
    "failed": ("content_policy_violation", "The prompt was rejected by the content policy"),
    "cancelled": ("cancelled", "The task was cancelled"),
    "expired": ("expired", "The task expired in the queue"),
}


@attrs.frozen
class FakeResponse:
    """One HTTP response to send."""

    status: int
    body: bytes
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def with_headers(self, headers: Mapping[str, str]) -> FakeResponse:
        """Return a copy with more headers."""
        return attrs.evolve(self, headers={**self.headers, **headers})


def json_response(status: int, value: object) -> FakeResponse:
    """Return a response with *value* as its JSON body."""
    body = json.dumps(value, ensure_ascii=False).encode()
    return FakeResponse(status, body, {"Content-Type": "application/json"})


@attrs.frozen(kw_only=True)
class Dialect:
    """
    Shapes and headers of one make of server.

    Attributes:
        task: The body of a 200 response about a task.
        not_found: Status and body for an unknown id.
        error: The body for (status, code, message).
        upstream_interval: Seconds between a gateway's polls of its upstream; 0: always up to date.
        headers: Headers of every response; ``{}`` in a value is the number of the response.
        task_headers: Headers of responses about a task only.
    """

    name: str
    id_prefix: str
    task: Callable[[FakeTaskState], Json]
    not_found: Callable[[str], tuple[int, Json]]
    error: Callable[[int, str, str], Json]
    upstream_interval: float = 0.0
    headers: Mapping[str, str] = attrs.field(factory=dict)
    task_headers: Mapping[str, str] = attrs.field(factory=dict)

    def task_response(self, state: FakeTaskState) -> FakeResponse:
        """Return the 200 response about a task in this state."""
        return json_response(200, self.task(state)).with_headers(self.task_headers)

    def not_found_response(self, task_id: str) -> FakeResponse:
        """Return the response for an unknown id."""
        return json_response(*self.not_found(task_id))

    def error_response(self, status: int) -> FakeResponse:
        """Return an error response that is not about one task."""
        return json_response(status, self.error(status, *_ERRORS[status]))

    def no_route_response(self, method: str, path: str) -> FakeResponse:
        """Return the 404 for a url that the server does not serve."""
        message = f"Invalid URL ({method} {path})"
        shape = {"message": message, "type": "invalid_request_error", "param": "", "code": ""}
        return json_response(404, {"error": shape})

    def numbered_headers(self, number: int) -> dict[str, str]:
        """Return the headers of response *number*."""
        return {name: value.format(number) for name, value in self.headers.items()}


def video_url(task_id: str) -> str:
    """Return the url of a task's video in a made-up storage."""
    return f"https://storage.example.test/videos/{quote(task_id, safe='')}.mp4"


def progress_of(state: FakeTaskState) -> Json:
    """Return the field ``progress``, empty if the task shows none."""
    return {} if state.progress is None else {"progress": state.progress}


def error_of(state: FakeTaskState) -> Json | None:
    """Return code and message of a task that finished without a video, else None."""
    if state.phase not in _TASK_ERRORS:
        return None
    code, message = _TASK_ERRORS[state.phase]
    return {"message": message, "code": code}


def completion_times(state: FakeTaskState, *, lifetime: int) -> Json:
    """Return ``completed_at`` and ``expires_at`` of a completed task; *lifetime* is in seconds."""
    if state.phase != "completed" or state.finished_at is None:
        return {}
    return {"completed_at": state.finished_at, "expires_at": state.finished_at + lifetime}
