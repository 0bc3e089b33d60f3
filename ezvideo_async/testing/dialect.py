"""
What a dialect is: the pure functions that turn facts into an HTTP answer.

No await, no clock, no randomness.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ezvideo_async.testing.fake_tasks import FakeTaskState

Json = dict[str, Any]

_ERRORS = {
    401: ("invalid_api_key", "The API key is missing or not valid"),
    403: ("access_denied", "This API key may not see the task"),
    429: ("rate_limit_exceeded", "Too many requests"),
    500: ("internal_error", "Something broke"),
    501: ("not_implemented", "The fake server creates tasks with add_task() only"),
    502: ("bad_gateway", "The upstream did not answer"),
    503: ("service_unavailable", "The service is overloaded"),
    504: ("gateway_timeout", "The upstream did not answer in time"),
}


@attrs.frozen
class Answer:
    """One HTTP answer, ready to be sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """The same answer with more headers."""
        return attrs.evolve(self, headers={**self.headers, **headers})


def json_answer(status: int, value: object) -> Answer:
    """*value* as a JSON answer."""
    body = json.dumps(value, ensure_ascii=False).encode()
    return Answer(status, body, {"Content-Type": "application/json"})


@attrs.frozen(kw_only=True)
class Dialect:
    """
    One make of server.

    Attributes:
        task: The body of a 200 answer about a task.
        not_found: Status and body for an id nobody knows.
        error: The body for (status, code, message).
        round_seconds: A gateway looks at its tasks only so often; 0: always up to date.
        headers: Headers of every answer; ``{}`` in a value is the number of the answer.
        task_headers: Headers of answers about a task only.
    """

    name: str
    id_prefix: str
    task: Callable[[FakeTaskState], Json]
    not_found: Callable[[str], tuple[int, Json]]
    error: Callable[[int, str, str], Json]
    round_seconds: float = 0.0
    headers: Mapping[str, str] = attrs.field(factory=dict)
    task_headers: Mapping[str, str] = attrs.field(factory=dict)

    def task_answer(self, state: FakeTaskState) -> Answer:
        """What the server says about a task in this state."""
        return json_answer(200, self.task(state)).with_headers(self.task_headers)

    def not_found_answer(self, task_id: str) -> Answer:
        """What the server says about an id it does not know."""
        return json_answer(*self.not_found(task_id))

    def error_answer(self, status: int) -> Answer:
        """An error that is not about one task."""
        return json_answer(status, self.error(status, *_ERRORS[status]))

    def no_route_answer(self, method: str, path: str) -> Answer:
        """What the server says about a url it does not serve."""
        message = f"Invalid URL ({method} {path})"
        shape = {"message": message, "type": "invalid_request_error", "param": "", "code": ""}
        return json_answer(404, {"error": shape})

    def numbered_headers(self, number: int) -> dict[str, str]:
        """The headers of answer *number*."""
        return {name: value.format(number) for name, value in self.headers.items()}
