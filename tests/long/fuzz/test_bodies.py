"""Fuzz of status responses: any status, headers and bytes give a valid task or our error."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import re
from datetime import UTC, datetime
from math import isfinite
from urllib.parse import urlsplit

from hypothesis import given, strategies as st

from ezvideo_async import ErrorInfo, TaskStatus, VideoTask, errors
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._protocol.fields import is_no_error
from ezvideo_async._protocol.messages import Evidence, Response
from ezvideo_async._protocol.responses import decode_task, poll_hint
from tests.long.fuzz.json_bodies import ALIAS, ASKED, CANARY, bodies
from tests.support.response_bodies import BASE_URL, UNIX_NOW
from tests.support.strategies import texts

STATUSES = [
    *(202, 203, 204, 205, 206, 301, 304, 400, 401, 402, 403, 404, 408, 409, 410, 422, 425, 429),
    *(500, 501, 502, 503, 504, 511, 529, 100, 999, 0, 600, 199),
]
HEADERS = {
    "content-type": ("text/html", "application/json", "application/json; charset=hex", ""),
    "retry-after": ("0", "5", "1.5", "Thu, 01 Jan 2026 00:00:30 GMT", "9" * 400, "-1", "5, 7"),
    "retry-after-ms": ("0", "1500", "x"),
    "date": ("Thu, 01 Jan 2026 00:00:00 GMT", "", "Fri, 31 Dec 9999 23:59:59 GMT"),
    "location": ("https://[::1", "https://console.example.test/?next=/", "/login", "file:///x"),
    "openai-poll-after-ms": ("0", "2500", "-1", "1e3", " 7 "),
    "x-request-id": ("req_1", "", " ", "\ud800\x1b"),
    "x-oneapi-request-id": ("one_1",),
    "x-should-retry": ("true", "false", "TRUE ", "maybe"),
}
headers = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(found) | texts for name, found in HEADERS.items()}
)
ERRORS = (
    errors.ConfigError,
    errors.BadResponseError,
    errors.BadRequestError,
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.TaskNotFoundError,
    errors.RateLimitError,
    errors.ServerError,
)
REASONS = {
    errors.ConfigError: {"redirect", "route"},
    errors.BadResponseError: {"empty", "html", "not_json", "schema", "id_mismatch", "too_large"},
}
LEAK = re.compile(rf"https?:\\*/\\*/cdn[^\s\"'<>]*\?sig={CANARY}")
LATEST = datetime(5139, 1, 1, tzinfo=UTC)


@given(
    body=bodies(),
    status=st.sampled_from([200] * 3 * len(STATUSES) + STATUSES),
    headers=st.just({}) | headers,
    aliases=st.just(()) | st.just((ALIAS,)),
)
def test_any_response_is_a_valid_task_or_our_error(body, status, headers, aliases):
    """Decoding gives the same result twice, and every field of it is valid."""
    content, is_whole = body
    response = Response(status=status, headers=headers, body=content)
    first, second = (
        decode_task(
            response,
            task_id=ASKED,
            base_url=BASE_URL,
            unix_now=UNIX_NOW,
            evidence=Evidence(aliases, is_fresh=True),
        )
        for _ in range(2)
    )

    assert type(first) is type(second)
    if isinstance(first, VideoTask):
        assert first == second
        check_task(first, content)
    else:
        check_error(first, response, is_whole=is_whole)


@given(headers=headers)
def test_any_headers_give_a_finite_hint_or_none(headers):
    """The seconds of a hint are finite and not negative."""
    hint = poll_hint(Response(status=200, headers=headers, body=b"{}"), unix_now=UNIX_NOW)

    for seconds in (hint.retry_after, hint.poll_after):
        assert seconds is None or (seconds >= 0 and isfinite(seconds))


@given(body=bodies())
def test_any_webhook_payload_is_a_task_or_an_error(body):
    """``VideoTask.from_dict`` raises nothing else for JSON that lenient readers accept."""
    with contextlib.suppress(ValueError, RecursionError, errors.BadResponseError):
        payload = json.loads(body[0])
        if isinstance(payload, dict):
            VideoTask.from_dict(payload)


def is_text(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip() != "")


def check_task(task: VideoTask, body: bytes) -> None:
    assert task.id == ASKED
    assert type(task.status) is TaskStatus
    assert task.progress is None or (type(task.progress) is int and 0 <= task.progress <= 100)
    for text in (task.raw_status, task.model, task.seconds, task.size, task.request_id):
        assert is_text(text)
    for at in (task.created_at, task.completed_at, task.expires_at):
        assert at is None or at.tzinfo is UTC
        assert at is None or datetime(1970, 1, 1, tzinfo=UTC) < at < LATEST
    assert task.completed_at is None or task.is_terminal
    assert task.duration is None or 0 <= task.duration < 1e9
    assert task.dimensions is None or min(task.dimensions) >= 0
    check_url(task.url)
    check_error_info(task)
    assert all(type(key) is str for key in task.metadata)
    assert task.raw == decode_json(body)
    check_round_trip(task)
    check_copies(task)
    assert ascii(task).isprintable()


def check_url(url: str | None) -> None:
    if url is None:
        return
    assert not any(character.isspace() for character in url)
    parts = urlsplit(url)
    is_data = url[:11].lower() == "data:video/"
    assert is_data or (parts.scheme in {"http", "https"} and parts.hostname)


def check_error_info(task: VideoTask) -> None:
    error, is_failed = task.error, task.status is TaskStatus.FAILED
    assert error is not None or not is_failed
    if error is not None:
        assert type(error) is ErrorInfo
        assert is_text(error.code)
        assert is_text(error.message)
        assert is_failed or error.code is None or not is_no_error(error.code)
        assert is_failed or error.code is not None or error.message is not None


def check_round_trip(task: VideoTask) -> None:
    shape = task.to_dict()
    written = json.dumps(shape, allow_nan=False)
    assert written.isascii()
    assert json.loads(written) == shape
    again = VideoTask.from_dict(shape)
    assert again.to_dict() == shape
    assert (again.id, again.status) == (task.id, task.status)
    assert (again.progress, again.url) == (task.progress, task.url)


def check_copies(task: VideoTask) -> None:
    hash(task)
    for other in (pickle.loads(pickle.dumps(task)), copy.copy(task), copy.deepcopy(task)):
        assert other == task
        assert (other.request_id, other.raw) == (task.request_id, task.raw)


def check_error(error, response: Response, *, is_whole: bool) -> None:
    assert type(error) in ERRORS
    reason = getattr(error, "reason", None)
    assert reason in REASONS.get(type(error), {None})
    assert type(error.retryable) is bool
    assert (error.task_id, error.status) == (ASKED, response.status)
    assert (error.__cause__, error.__context__) == (None, None)
    for text in (error.code, error.message, error.error_type, error.request_id):
        assert is_text(text)
    assert error.retry_after is None or (error.retry_after > 0 and isfinite(error.retry_after))
    assert str(error).isprintable()
    assert len(str(error)) < 1000
    assert error.body_excerpt is None or len(error.body_excerpt) <= 500
    fields = vars(error)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (vars(other), str(other)) == (fields, str(error))
    if is_whole and reason != "id_mismatch":  # ids are kept verbatim
        assert not LEAK.search(f"{error}{fields!r}")
