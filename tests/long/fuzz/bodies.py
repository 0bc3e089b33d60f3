"""Answers of any status, headers and bytes: read as a sane task, or as an error of ours."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import pickle
import re
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ezvideo_async import ErrorInfo, TaskStatus, VideoTask, errors
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._protocol.fields import is_no_error
from ezvideo_async._protocol.messages import Response
from ezvideo_async._protocol.responses import decode_task, poll_hint
from tests.long.fuzz.json_text import (
    ALIAS,
    ASKED,
    CANARY,
    CASES,
    answer_tree,
    any_text,
    text_of,
)
from tests.long.fuzz.subject import Subject, each
from tests.support.response_bodies import BASE_URL, UNIX_NOW

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

# -- making -------------------------------------------------------------------------------------

_STATUSES = [
    *(202, 203, 204, 205, 206, 301, 304, 400, 401, 402, 403, 404, 408, 409, 410, 422, 425, 429),
    *(500, 501, 502, 503, 504, 511, 529, 100, 999, 0, 600, 199),
]
_HEADERS: dict[str, tuple[str, ...]] = {
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
_PAGE = b"<!doctype html><title>404 page not found</title>"


def made(rand: Random, _index: int) -> tuple[Any, ...]:
    """Make one answer: body, whether its bytes are whole, status, headers, known alias."""
    status = 200 if rand.random() < 0.75 else rand.choice(_STATUSES)
    headers = {}
    if rand.random() < 0.4:
        for name in rand.sample(sorted(_HEADERS), rand.randrange(1, 4)):
            is_odd = rand.random() < 0.1
            headers[name] = any_text(rand) if is_odd else rand.choice(_HEADERS[name])
    if rand.random() < 0.03:
        case = rand.choice(CASES)
        status = case["http_status"]
    value = answer_tree(rand)
    body = text_of(value, rand).encode("utf-8", "surrogatepass")
    if rand.random() < 0.1:
        body = rand.choice((b"\xef\xbb\xbf", b" \r\n\t", b"\xef\xbb\xbf ")) + body + b"\n"
    is_whole = rand.random() < 0.88
    alias = ALIAS if rand.random() < 0.3 else None
    return body if is_whole else damaged(rand, body), is_whole, status, headers, alias


def damaged(rand: Random, body: bytes) -> bytes:
    """Break a text below its structure: cut, flip, insert, double, or encode it otherwise."""
    kind = rand.randrange(9)
    at = rand.randrange(len(body) + 1)
    if kind == 0:
        return body[:at]
    if kind == 1:
        return body[:at] + bytes([rand.randrange(256)]) + body[at + 1 :]
    if kind == 2:  # often no UTF-8 any more
        return body[:at] + rand.randbytes(rand.randrange(1, 5)) + body[at:]
    if kind == 3:
        till = min(len(body), at + rand.randrange(1, 40))
        return body[:till] + body[at:]
    if kind == 4:
        text = body.decode("utf-8", "replace")
        encoding = rand.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "gb18030"))
        return text.encode(encoding, "replace")
    if kind == 5:
        return rand.choice((_PAGE, b")]}',\n", b"data: ", b"\x00", b"[", b"{")) + body
    if kind == 6:
        return body + rand.choice((_PAGE, b"\x00", b"}", b"]", b",", body, b"\xff"))
    if kind == 7:
        return rand.choice((b"", b" \n", _PAGE, b"\xef\xbb\xbf", gzip.compress(body), b"null"))
    return body.replace(b'"', rand.choice((b"'", b"", b'\\"', b"\xe2\x80\x9c")))


# -- the contract -------------------------------------------------------------------------------

_CLASSES = (
    errors.ConfigError,
    errors.BadResponseError,
    errors.BadRequestError,
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.TaskNotFoundError,
    errors.RateLimitError,
    errors.ServerError,
)
_REASONS = {
    errors.ConfigError: {"redirect", "route"},
    errors.BadResponseError: {"empty", "html", "not_json", "schema", "id_mismatch"},
}
_LONGEST_SENTENCE = 1000
_LEAK = re.compile(rf"https?:\\*/\\*/cdn[^\s\"'<>]*\?sig={CANARY}")
_LATEST = datetime(5139, 1, 1, tzinfo=UTC)


def check_body(
    body: bytes, is_whole: bool, status: int, headers: Mapping[str, str], alias: str | None
) -> str:
    """Read an answer twice, and hold the first reading against all that is promised of it."""
    response = Response(status=status, headers=headers, body=body)
    _check_hint(response)
    _check_payload(body)
    first, second = (_read(response, alias) for _ in range(2))
    assert type(first) is type(second), "read otherwise the second time"
    if isinstance(first, VideoTask):
        assert first == second, "read otherwise the second time"
        _check_task(first, body)
        return str(first.status)
    _check_error(first, response, is_whole)
    return type(first).__name__


def _read(response: Response, alias: str | None) -> Any:
    return decode_task(response, task_id=ASKED, base_url=BASE_URL, unix_now=UNIX_NOW, alias=alias)


def _check_hint(response: Response) -> None:
    hint = poll_hint(response, unix_now=UNIX_NOW)
    for seconds in (hint.retry_after, hint.poll_after):
        assert seconds is None or (seconds >= 0 and isfinite(seconds)), hint


def _check_payload(body: bytes) -> None:
    """Read it as a webhook's payload, which lenient JSON has let through."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(payload, dict):
        with contextlib.suppress(errors.BadResponseError, ValueError):
            VideoTask.from_dict(payload)


def _is_text(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip() != "")


def _check_task(task: VideoTask, body: bytes) -> None:
    assert task.id == ASKED, "an answer about another task"
    assert type(task.status) is TaskStatus, task.status
    assert task.progress is None or type(task.progress) is int, "progress is no int"
    assert task.progress is None or 0 <= task.progress <= 100, "progress is no percentage"
    for text in (task.raw_status, task.model, task.seconds, task.size, task.request_id):
        assert _is_text(text), f"{text!a} is no text"
    for at in (task.created_at, task.completed_at, task.expires_at):
        assert at is None or at.tzinfo is UTC, "an instant without zone"
        assert at is None or datetime(1970, 1, 1, tzinfo=UTC) < at < _LATEST, "no instant of ours"
    assert task.completed_at is None or task.is_terminal, "completed before the end"
    assert task.duration is None or 0 <= task.duration < 1e9, "no duration"
    assert task.dimensions is None or min(task.dimensions) >= 0, "no dimensions"
    _check_url(task.url)
    _check_trouble(task)
    assert all(type(key) is str for key in task.metadata), "a key that is no text"
    assert task.raw == decode_json(body), "raw is not the answer"
    _check_shape(task)
    _check_copies(task)
    assert ascii(task).isprintable(), "a repr that breaks lines"


def _check_url(url: str | None) -> None:
    if url is None:
        return
    assert not any(character.isspace() for character in url), "a url with blanks"
    parts = urlsplit(url)
    is_data = url[:11].lower() == "data:video/"
    assert is_data or parts.scheme in {"http", "https"}, "a url of another scheme"
    assert is_data or parts.hostname, "a url without host"


def _check_trouble(task: VideoTask) -> None:
    error = task.error
    assert (error is not None) or task.status is not TaskStatus.FAILED, "failed without error"
    if error is not None:
        assert type(error) is ErrorInfo, error
        assert _is_text(error.code), "a code that is no text"
        assert _is_text(error.message), "a message that is no text"
        is_failed = task.status is TaskStatus.FAILED
        assert is_failed or not is_no_error(error.code), "an error that is none"


def _check_shape(task: VideoTask) -> None:
    shape = task.to_dict()
    written = json.dumps(shape, allow_nan=False)
    assert written.isascii(), "JSON that is no ASCII"
    assert json.loads(written) == shape, "to_dict() does not survive JSON"
    again = VideoTask.from_dict(shape)
    assert again.to_dict() == shape, "from_dict(to_dict()) is another task"
    assert (again.id, again.status) == (task.id, task.status), "another id or status"
    assert (again.progress, again.url) == (task.progress, task.url), "another progress or url"


def _check_copies(task: VideoTask) -> None:
    hash(task)
    for other in (pickle.loads(pickle.dumps(task)), copy.copy(task), copy.deepcopy(task)):
        assert other == task, "a copy that differs"
        assert other.request_id == task.request_id, "a copy that differs"
        assert other.raw == task.raw, "a copy that forgot the answer"


def _check_error(error: Any, response: Response, is_whole: bool) -> None:
    assert type(error) in _CLASSES, f"{type(error).__name__} for an answer"
    assert error.reason in _REASONS.get(type(error), {None}), f"reason {error.reason!r}"
    assert type(error.retryable) is bool, "retryable is no bool"
    assert error.task_id == ASKED, "which task?"
    assert error.status == response.status, "another status"
    assert error.__cause__ is None, "an inner error"
    assert error.__context__ is None, "an inner error"
    for text in (error.code, error.message, error.error_type, error.request_id):
        assert _is_text(text), f"{text!a} is no text"
    wait = error.retry_after
    assert wait is None or (wait > 0 and isfinite(wait)), "no time to wait"
    assert str(error).isprintable(), "a message that breaks lines"
    assert len(str(error)) < _LONGEST_SENTENCE, "a message without end"
    excerpt = error.body_excerpt
    assert excerpt is None or 0 < len(excerpt) <= 500, "an excerpt too long"
    told = vars(error)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error), "a copy of another class"
        assert (vars(other), str(other)) == (told, str(error)), "a copy that differs"
    if is_whole and error.reason != "id_mismatch":  # an id is kept verbatim, whatever it looks like
        assert not _LEAK.search(f"{error}{told!r}"), "the query of a signed url"


SUBJECT = Subject(
    name="bodies",
    full=1_000_000,
    few=2_000,
    run=each("bodies", made, check_body),
    kinds=frozenset({*map(str, TaskStatus), *(kind.__name__ for kind in _CLASSES)}),
)
