"""Envelopes: which object of a response is the task, and whose its status is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.fields import normalize_status
from ezvideo_async._protocol.messages import Evidence
from ezvideo_async.errors import (
    AuthenticationError,
    BadResponseError,
    PermissionDeniedError,
    RateLimitError,
    TaskNotFoundError,
)
from tests.support.response_bodies import (
    ASKED,
    decode,
    error_of,
    outcome_of,
    response_of,
    task_of,
)
from tests.unit.protocol.test_dialect_cases import CASES

URL = "https://cdn.example.test/v.mp4"
RUNNING = {"id": "vid_x", "status": "processing", "progress": 40}
BELIEVED = Evidence(is_fresh=True, is_confirmed=True)

# -- whose status -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["success", "OK", "completed", "failed", "error", "fail"])
@pytest.mark.parametrize("key", dialects.ENVELOPE_FIELDS)
@pytest.mark.parametrize(
    "inner", [RUNNING, {"task_id": "vid_x", "state": "queued"}, {"status": "running"}]
)
def test_status_around_a_task_is_the_calls(status, key, inner):
    """JSend's "success" around a running task does not complete it."""
    for body in ({"status": status, key: inner}, {key: inner, "status": status, "message": "m"}):
        assert not task_of(body).is_terminal


@pytest.mark.parametrize(
    "inner",
    [
        {"id": "vid_x"},
        {"id": "vid_x", "status": None, "progress": 3},
        {"request_id": "vid_x"},
        {"task_id": "vid_x", "video_url": ""},
    ],
    ids=repr,
)
@pytest.mark.parametrize("key", ["data", "payload"])
@pytest.mark.parametrize("status", ["success", "completed"])
def test_status_around_an_id_is_the_calls(inner, key, status):
    """Also in a field that no gateway is known for."""
    assert task_of({"status": status, key: inner}).status is TaskStatus.PENDING


@pytest.mark.parametrize(
    "body",
    [
        {"result": {"payload": RUNNING}},
        {"status": "success", "payload": RUNNING},
        {"status": "completed", "payload": {"inner": RUNNING}},
        {"status": "success", "data": json.dumps(RUNNING)},
        {"status": "success", "data": [RUNNING]},
        {"id": "req_1", "data": RUNNING},
        {"id": "req_1", "status": "success", "data": RUNNING},
        {"id": "vid_x", "output": {"status": "processing", "video_url": URL, "progress": 40}},
        {"status": "completed", "url": URL, "payload": RUNNING},
    ],
    ids=repr,
)
def test_object_with_the_asked_id_is_the_task(body):
    """Under any key, in a text of JSON, alone in a list, and inside an object of another id."""
    task = task_of(body)

    assert (task.status, task.progress, task.id) == (TaskStatus.PROCESSING, 40, "vid_x")


@pytest.mark.parametrize(
    ("body", "url"),
    [
        ({"status": "done", "video": {"id": "file", "url": URL}}, URL),
        ({"status": "completed", "url": URL, "input": {"video_id": "vid_x"}}, URL),
        ({"status": "completed", "url": URL, "metadata": RUNNING}, URL),
        ({"status": "success", "progress": 100}, None),
        ({"state": "SUCCESS", "video_url": URL}, URL),
        ({"status": "succeeded", "output": ["https://cdn.example.test/v.mp4", "x"]}, URL),
        ({"status": "done", "output": {"url": URL}}, URL),
        ({"id": "vid_x", "status": "success", "data": {"status": "processing"}}, None),
        ({"id": "vid_x", "status": "completed", "data": [{"url": URL}, {"url": "x"}]}, URL),
        ({"id": "vid_x", "data": [{"url": URL}, {"url": "x"}]}, URL),
        ({"data": {"info": "x"}, "result": {"id": "vid_x", "status": "done"}}, None),
        ({"code": 0, "data": {"x": 1}, "output": {"id": "vid_x", "url": URL}}, URL),
    ],
    ids=repr,
)
def test_own_status_completes_a_task(body, url):
    """Beside an id, or where nothing inside is more of a task."""
    task = decode(response_of(body), ASKED, BELIEVED)

    assert (task.succeeded, task.url) == (True, url)


# -- no final state from a body that is no task -------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        # Lists.
        {"object": "list", "data": [{"id": "vid_y", "status": "completed", "url": URL}]},
        {"object": "list", "data": [{"id": "vid_x", "status": "completed", "url": URL}]},
        {"object": "list", "data": [], "status": "completed", "url": URL},
        {"data": [{"id": "vid_y", "status": "completed", "url": URL}], "has_more": False},
        {"data": [{"id": "vid_x", "status": "completed"}, {"id": "vid_y", "status": "done"}]},
        {"status": "success", "data": [{"id": "vid_y", "url": URL}]},
        {"status": "completed", "data": [{"id": "vid_y", "url": URL}]},
        {"status": "completed", "data": [{"url": URL}, {"url": URL}]},
        {"status": "completed", "results": [{"id": "vid_y", "status": "done", "url": URL}]},
        {"results": [{"id": "vid_y", "url": URL}]},
        {"videos": [{"id": "vid_y", "status": "completed", "url": URL}], "total": 1},
        # The call's status.
        {"status": "error", "message": "rate limited"},
        {"status": "fail", "data": {"title": "is missing"}},
        {"status": "success", "data": None},
        {"status": "success", "message": "logged in"},
        {"status": "success", "data": {"progress": 40}},
        {"status": "completed", "data": {}},
        {"status": "ok"},
        {"status": 200, "message": "ok"},
        {"status": True, "data": "/login"},
        {"status": {"code": 200}},
        # An error, with or without a url.
        {"success": False, "message": "invalid token", "data": "/login"},
        {"success": False, "url": URL},
        {"success": False, "status": "completed", "url": URL},
        {"success": False, "id": "vid_x", "url": URL},
        {"success": False, "data": {"id": "vid_x", "url": URL}, "message": "m"},
        {"success": False, "data": {"id": "vid_x"}, "message": "m"},
        {"error": True, "message": "m", "url": URL},
        {"error": "slow down", "url": URL},
        {"error": {"message": "slow down"}, "id": "vid_x", "url": URL},
        {"error": {"code": "x", "message": "slow down"}, "data": {"url": URL}},
        {"code": 1203, "message": "m", "url": URL},
        {"code": 1203, "message": "m", "id": "vid_x"},
        {"errcode": 40001, "errmsg": "m", "data": {"url": URL}},
        {"base_resp": {"status_code": 1004, "status_msg": "m"}, "task_id": "vid_x"},
        {"status": "completed", "result": {"url": URL, "error": "no"}},
        {"status": 500, "error": "m", "path": "/x", "url": URL},
        # A page of ThinkPHP: its code 0 is an error.
        {"code": 0, "msg": "please log in", "data": "", "url": "/index/login.html", "wait": 3},
        {"code": 0, "msg": "please log in", "data": "", "url": URL, "wait": 3},
        {"code": 0, "msg": "登录未成功", "data": "", "url": URL},
        # Another status inside.
        {"status": "completed", "payload": {"status": "processing"}},
        {"status": "failed", "payload": {"inner": [{"state": "running"}]}},
        {"status": "completed", "payload": {"id": "vid_y", "progress": 3}},
        {"video_url": URL, "payload": {"status": "processing"}},
        {"video_url": URL, "payload": {"id": "vid_y"}},
        {"status": "completed", "data": "{", "payload": {"status": "queued"}},
    ],
    ids=lambda body: json.dumps(body)[:90],
)
def test_body_that_is_no_task_is_a_failed_poll(body):
    """Whatever else is known, and as a webhook."""
    error = decode(response_of(body), ASKED, BELIEVED)

    assert (type(error), error.reason, error.retryable) == (BadResponseError, "schema", True)
    assert error.unconfirmed is None
    with pytest.raises(BadResponseError):
        VideoTask.from_dict(body, task_id=ASKED)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, TaskNotFoundError),
        (429, RateLimitError),
        ("rate_limit_exceeded", RateLimitError),
    ],
)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"id": "vid_x"},
        {"id": "vid_x", "success": False},
        {"url": URL},
        {"id": "vid_x", "data": {"url": URL}},
        {"status": "failed"},
        {"status": "error"},
        {"data": {"url": URL}},
    ],
    ids=repr,
)
def test_code_of_the_call_decides_a_failed_poll(code, kind, fields):
    """It is never a failed task: the next call may be admitted."""
    assert type(error_of({**fields, "code": code, "message": "m"})) is kind
    if "data" not in fields:
        assert type(error_of({**fields, "error": {"code": code, "message": "m"}})) is kind


def test_url_of_a_running_task_completes_nothing():
    """An object inside has its own status."""
    task = task_of({"id": "vid_x", "video_url": URL, "upscaling": {"status": "running"}})

    assert (task.status, task.url) == (TaskStatus.PENDING, URL)


@pytest.mark.parametrize(
    "body", [{"data": {"id": "vid_y", "status": "done"}}, {"id": "vid_y", "data": {"id": "vid_z"}}]
)
def test_foreign_id_in_an_envelope_is_a_mismatch(body):
    """The id of the innermost object that has one counts."""
    assert error_of(body).reason == "id_mismatch"


def test_foreign_id_is_cut():
    """A server may send a megabyte, and ids are remembered."""
    assert error_of({"id": "y" * 9999, "status": "done"}).received_id == "y" * 2048


# -- ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"request_id": "vid_x", "status": "COMPLETED", "logs": None}, TaskStatus.COMPLETED),
        ({"request_id": "vid_x", "status": "ERROR", "error": "no face"}, TaskStatus.FAILED),
        ({"request_id": "vid_x", "video": {"url": URL}}, TaskStatus.COMPLETED),
        ({"request_id": "r", "output": {"task_id": "vid_x", "task_status": "FAILED"}}, "failed"),
    ],
    ids=repr,
)
def test_request_id_names_the_task_if_it_is_the_asked_id(body, status):
    """As in fal's queue; beside another id it is a trace id."""
    assert decode(response_of(body), ASKED, Evidence()).status == status


@pytest.mark.parametrize("error", [{"code": 1203}, {"error": {"code": "x"}}, {"success": False}])
def test_asked_request_id_beside_an_error_is_a_trace_id(error):
    """The error is the call's."""
    assert error_of({"request_id": "vid_x", "message": "m", **error}).reason == "schema"


# -- webhooks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        {"object": "event", "id": "evt_1", "type": "video.completed", "created_at": 1},
        {"object": "event", "id": "evt_1"},
        {"id": "evt_1", "type": "video.completed"},
        {"id": "evt_1", "event": "task.updated", "specversion": "1.0"},
        {"type": "video.completed", "timestamp": "2026-01-01T00:00:00Z"},
    ],
    ids=repr,
)
def test_webhook_is_read_from_its_data(event):
    """The event's own id is not that of a task."""
    done = {"id": "vid_x", "status": "completed", "url": URL}

    task = VideoTask.from_dict({**event, "data": done})

    assert (task.id, task.succeeded, task.url) == ("vid_x", True, URL)
    assert VideoTask.from_dict({**event, "data": {"id": "vid_x"}}).status is TaskStatus.PENDING
    with pytest.raises(BadResponseError):
        VideoTask.from_dict({**event, "data": {"status": "completed"}})


def test_caller_may_read_a_url_alone():
    """A dictionary of the caller is no response of a server."""
    assert VideoTask.from_dict({"url": URL}, task_id="vid_x").succeeded
    assert VideoTask.from_dict({"status": "done"}, task_id="vid_x").succeeded


# -- properties ---------------------------------------------------------------------------------

BODIES = [
    (case["body"], case["ask"], case["expect"]["status"])
    for case in CASES
    if case["http_status"] == 200 and isinstance(case["body"], dict)
]
KEYS = (*dialects.ENVELOPE_FIELDS, "payload", "job", "item", "body", "video")
CALL_FIELDS = {
    "status": ["success", "ok", "SUCCESS", "completed", "done", "error", 200, True],
    "state": ["success", "succeeded"],
    "success": [True],
    "code": [0, 200, "success", 10000],
    "message": ["", "success", "ok"],
    "request_id": ["trace-1"],
    "id": ["req-1", 7],
    "error": [None, {}],
    "url": ["/docs", "https://docs.example.test/"],
    "object": ["list", "event", "response"],
}


def shuffled(draw: st.DrawFn, value: dict[str, Any]) -> dict[str, Any]:
    return dict(draw(st.permutations(list(value.items()))))


@st.composite
def wrapped(draw: st.DrawFn) -> tuple[dict[str, Any], str, str | None]:
    """Draw a recorded body with its envelope renamed, in up to three other ones, reordered."""
    body, ask, status = draw(st.sampled_from(BODIES))
    inner = [key for key in body if key in dialects.ENVELOPE_FIELDS and isinstance(body[key], dict)]
    for key in inner:
        if draw(st.booleans()):
            name = draw(st.sampled_from([*KEYS, key]))
            body = {name if old == key else old: value for old, value in body.items()}
    for _ in range(draw(st.integers(0, 3))):
        names = draw(st.lists(st.sampled_from(sorted(CALL_FIELDS)), unique=True, max_size=4))
        around = {name: draw(st.sampled_from(CALL_FIELDS[name])) for name in names}
        content: Any = shuffled(draw, body)
        if draw(st.integers(0, 4)) == 0:
            content = draw(st.sampled_from([[content], json.dumps(content), [content, content]]))
        body = shuffled(draw, {**around, draw(st.sampled_from(KEYS)): content})
    return body, ask, status


@given(wrapped())
@example(({"status": "success", "data": RUNNING}, "vid_x", "processing"))
@example(({"state": "succeeded", "payload": json.dumps(RUNNING)}, "vid_x", "processing"))
@example(({"state": "succeeded", "payload": json.dumps([RUNNING])}, "vid_x", "processing"))
@example(({"state": "succeeded", "payload": "{no JSON"}, "vid_x", "completed"))
@example(({"url": URL, "data": [{"data": {"status": "expired"}}]}, "vid_x", "failed"))
@example(
    ({"url": "/a", "state": "success", "data": {"data": {"status": "expired"}}}, "vid_x", "failed")
)
@example(({"code": 0, "state": "succeeded", "payload": {}}, "vid_x", None))
@example(({"message": "", "state": "succeeded", "payload": {}}, "vid_x", None))
@example(({"url": URL, "data": {"data": json.dumps(RUNNING)}}, "vid_x", "processing"))
def test_no_envelope_completes_a_task(drawn):
    """A body completes a task only if the recorded one did, whatever is around it."""
    body, ask, status = drawn
    evidence = Evidence(is_fresh=True, is_confirmed=True)

    outcome = decode(response_of(body), ask, evidence)

    if isinstance(outcome, VideoTask) and outcome.is_terminal:
        assert str(outcome.status) == status
        again = VideoTask.from_dict(body, task_id=ask)
        assert again.status is outcome.status


@given(
    value=st.sampled_from(sorted(dialects.STATUS_VALUES)), prefix=st.sampled_from(["", "X_STATE_"])
)
def test_enum_prefix_does_not_change_a_status_value(value, prefix):
    """Every row of the table may have one."""
    assert normalize_status(prefix + value.upper()) == value
    assert outcome_of({"id": "vid_x", "status": prefix + value}).raw_status == prefix + value
