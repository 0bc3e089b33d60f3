"""Hypothesis strategies: JSON values, tasks, hostile response bodies, statuses and headers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from ezvideo_async._domain.task import ErrorInfo, TaskStatus, VideoTask
from ezvideo_async._protocol import dialects

URL = "https://cdn.example.test/v.mp4"

texts = st.text(st.characters(exclude_categories=()), max_size=12)
"""Any text, also with lone surrogates and control characters."""

plain_texts = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Z")),
    min_size=1,
    max_size=12,
).filter(str.strip)

numbers = st.one_of(
    st.integers(),
    st.sampled_from([10**30, -(10**30), 10**400, 0, -1, 1_767_225_600, 1_767_225_600_922]),
    st.floats(allow_nan=False, allow_infinity=False),
)


def json_values(max_leaves: int = 12) -> st.SearchStrategy[Any]:
    """Return a strategy for any JSON value."""
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=max_leaves,
    )


FIELDS = (
    *dialects.STATUS_FIELDS,
    *dialects.ID_FIELDS,
    *dialects.CREATED_AT_FIELDS,
    *dialects.COMPLETED_AT_FIELDS,
    *dialects.EXPIRES_AT_FIELDS,
    *(place[0] for place in dialects.URL_PLACES),
    *dialects.ENVELOPE_FIELDS,
    *dialects.FAILURE_REASON_FIELDS,
    "code",
    "message",
    "msg",
    "detail",
    "error",
    "progress",
    "model",
    "seconds",
    "size",
    "metadata",
    "request_id",
    "type",
    "loc",
)
STATUS_VALUES = (*dialects.STATUS_VALUES, "COMPLETED ", "brewing", "")
CODES = (
    *dialects.NOT_FOUND_CODES,
    *dialects.AUTHENTICATION_CODES,
    *dialects.RATE_LIMIT_CODES,
    *dialects.QUOTA_CODES,
    "success",
    "0",
)

_leaves = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    texts,
    st.sampled_from(
        [*STATUS_VALUES, *CODES, "vid_x", "45%", "0.5", URL, "/v.mp4", "2026-01-01T00:00:00Z"]
    ),
)
hostile_values: st.SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from((*FIELDS, "url", "video_url", "videos")), inner, max_size=4
        ),
    ),
    max_leaves=10,
)
"""Values of any type, with the keys and values of tasks among them."""

hostile_objects = st.dictionaries(st.sampled_from(FIELDS) | texts, hostile_values, max_size=8)
"""Objects with the keys of tasks, envelopes and error bodies, and any value in every field."""


@st.composite
def hostile_bodies(draw: st.DrawFn) -> bytes:
    """Return a body: a hostile object, other JSON, invalid JSON, a web page or random bytes."""
    body = json.dumps(draw(hostile_objects | json_values())).encode()
    kind = draw(st.sampled_from(("whole", "cut", "twice", "page", "mark", "constant", "noise")))
    if kind == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if kind == "twice":
        return b'{"status": "failed", "status": "completed", "x": ' + body + b"}"
    if kind == "page":
        return b"<!doctype html><title>404 page not found</title>" + body
    if kind == "mark":
        return b"\xef\xbb\xbf" + body
    if kind == "constant":
        return b'{"id": "vid_x", "progress": NaN, "seconds": -Infinity, "error": ' + body + b"}"
    return draw(st.binary(max_size=40)) if kind == "noise" else body


statuses = st.integers(100, 999) | st.sampled_from(
    [200, 201, 202, 204, 301, 304, 400, 401, 402, 403, 404, 408, 409, 410, 422, 429, 500, 501, 503]
)
headers = st.dictionaries(
    st.sampled_from(
        [
            "content-type",
            "date",
            "location",
            "openai-poll-after-ms",
            "retry-after",
            "retry-after-ms",
            "x-oneapi-request-id",
            "x-request-id",
            "x-should-retry",
        ]
    ),
    texts
    | st.sampled_from(
        [
            "0",
            "5",
            "text/html",
            "true",
            "false",
            "https://[::1",
            "https://console.example.test/login?next=/",
            "Thu, 01 Jan 2026 00:00:30 GMT",
        ]
    ),
    max_size=5,
)

task_ids = st.sampled_from(["vid_x", "a", "b", "sora-2:task_/=%2F", "任务"]) | plain_texts

_instants = st.integers(1, 99_999_999_999).map(lambda at: datetime.fromtimestamp(at, UTC))
_urls = st.sampled_from(
    [None, URL, URL + "?sig=s3cr3t&e=1#t", "https://u:s3cr3t@h.test/v", "data:video/mp4;base64,AA"]
)


@st.composite
def canonical_tasks(draw: st.DrawFn) -> VideoTask:
    """Return a task in the form of the API document."""
    status = draw(st.sampled_from(TaskStatus))
    error = None
    if status is TaskStatus.FAILED:
        maybe = st.none() | plain_texts
        error = ErrorInfo(code=draw(maybe), message=draw(maybe))
    return VideoTask(
        id=draw(task_ids),
        status=status,
        raw_status=str(status),
        progress=draw(st.none() | st.integers(0, 100)),
        model=draw(st.none() | plain_texts),
        created_at=draw(st.none() | _instants),
        completed_at=draw(st.none() | _instants) if status.is_terminal else None,
        expires_at=draw(st.none() | _instants),
        seconds=draw(st.none() | st.sampled_from(["10.0", "8", "3.4", "eight"])),
        size=draw(st.none() | st.sampled_from(["1920x1080", "720P"])),
        url=draw(_urls),
        error=error,
        metadata=draw(st.dictionaries(st.sampled_from(["fps", "seed"]), json_values(4))),
    )
