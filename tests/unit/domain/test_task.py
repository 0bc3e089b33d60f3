"""Values of the API: comparing, copying, shapes, and redaction of signed urls."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime

import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import given

from ezvideo_async._domain.redaction import redact_query
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._domain.task import ErrorInfo, TaskStatus, VideoTask, utc_datetime
from ezvideo_async._protocol.task_decoder import read_task
from ezvideo_async.errors import BadResponseError
from tests.support import strategies

FULL = VideoTask(
    id="vid_1",
    status=TaskStatus.FAILED,
    raw_status="cancelled",
    progress=45,
    model="sora-1.0",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    completed_at=datetime(2026, 1, 1, 0, 2, tzinfo=UTC),
    expires_at=datetime(2026, 1, 2, tzinfo=UTC),
    seconds="10.0",
    size="1920x1080",
    url="https://cdn.example.test/v.mp4?sig=s3cr3t",
    error=ErrorInfo(code="cancelled", message="by you"),
    metadata={"fps": 30},
    request_id="req_1",
)


def test_statuses_are_the_four_of_the_contract():
    """They are texts in lower case, and two of them are final."""
    assert [str(status) for status in TaskStatus] == [
        "pending",
        "processing",
        "completed",
        "failed",
    ]
    assert [status for status in TaskStatus if status.is_terminal] == ["completed", "failed"]


@pytest.mark.parametrize("status", TaskStatus)
def test_status_decides_whether_a_task_has_finished(status):
    """Progress does not."""
    task = VideoTask(id="vid_1", status=status, progress=100)

    assert task.is_terminal is (status in {"completed", "failed"})
    assert task.succeeded is (status == "completed")


@pytest.mark.parametrize("value", [FULL, FULL.error])
def test_values_are_frozen(value):
    """They have slots and no ``__dict__``."""
    with pytest.raises(FrozenInstanceError):
        value.code = "other"
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))]
)
def test_task_survives_copy_and_pickle(travel):
    """Also the body that it was read from."""
    task = read_task({"id": "vid_1", "status": "done"}, body=b'{"id": "vid_1", "status": "done"}')

    assert travel(FULL) == FULL
    assert travel(FULL).request_id == "req_1"
    assert travel(task).raw == task.raw
    assert hash(travel(FULL)) == hash(FULL)


def test_tasks_compare_by_their_fields():
    """The request id and the bytes of the body are not compared."""
    one = read_task({"id": "vid_1", "status": "done"}, body=b"{}", request_id="a")
    two = read_task({"status": "done", "id": "vid_1"}, body=b" {}", request_id="b")

    assert one == two
    assert hash(one) == hash(two)
    assert one != read_task({"id": "vid_1", "status": "succeeded"})


@pytest.mark.parametrize(
    ("seconds", "duration"),
    [
        ("10.0", 10.0),
        (" 8 ", 8.0),
        ("3.4", 3.4),
        (None, None),
        ("", None),
        ("-1", None),
        ("1e3", None),
        ("nan", None),
        ("8s", None),
        ("٨", None),
        ("9" * 400, None),
    ],
)
def test_duration_is_a_plain_number_of_seconds(seconds, duration):
    """It is None for every other text."""
    assert VideoTask(id="v", status=TaskStatus.PENDING, seconds=seconds).duration == duration


@pytest.mark.parametrize(
    ("size", "dimensions"),
    [
        ("1280x720", (1280, 720)),
        ("1920*1080", (1920, 1080)),
        ("1920\u00d71080", (1920, 1080)),
        (" 10x10 ", (10, 10)),
        ("10X10", None),
        ("1280x720x3", None),
        ("720P", None),
        ("x", None),
        (None, None),
    ],
)
def test_dimensions_are_width_and_height(size, dimensions):
    """They are None unless the size has both."""
    assert VideoTask(id="v", status=TaskStatus.PENDING, size=size).dimensions == dimensions


def test_to_dict_has_the_shape_of_the_api_document():
    """Times are Unix seconds, error and metadata are objects."""
    assert FULL.to_dict() == {
        "id": "vid_1",
        "object": "video",
        "model": "sora-1.0",
        "status": "failed",
        "progress": 45,
        "created_at": 1_767_225_600,
        "completed_at": 1_767_225_720,
        "expires_at": 1_767_312_000,
        "seconds": "10.0",
        "size": "1920x1080",
        "url": "https://cdn.example.test/v.mp4?sig=s3cr3t",
        "error": {"message": "by you", "code": "cancelled"},
        "metadata": {"fps": 30},
    }


def test_to_dict_leaves_out_unknown_fields():
    """Six keys are always there."""
    assert VideoTask(id="vid_1", status=TaskStatus.PENDING).to_dict() == {
        "id": "vid_1",
        "object": "video",
        "model": None,
        "status": "pending",
        "progress": None,
        "created_at": None,
    }


def test_raw_is_the_body_or_the_shape_of_the_document():
    """It is decoded at each access, so that changes of it have no effect."""
    read = VideoTask.from_dict({"data": {"id": "vid_1", "status": "done", "x": [1]}})

    assert read.raw == {"data": {"id": "vid_1", "status": "done", "x": [1]}}
    assert read.raw is not read.raw
    assert FULL.raw == FULL.to_dict()


def test_from_dict_reads_any_dialect():
    """Such as a webhook's payload, whose id may be passed separately."""
    task = VideoTask.from_dict({"state": "SUCCESS", "progress": "100%"}, task_id="vid_1")

    assert (task.id, task.status, task.progress) == ("vid_1", TaskStatus.COMPLETED, 100)


def test_from_dict_copies_its_argument():
    """Later changes of it have no effect."""
    data = {"id": "vid_1", "status": "done", "metadata": {"fps": 30}}
    task = VideoTask.from_dict(data)

    data["metadata"]["fps"] = 60

    assert task.metadata == {"fps": 30}
    assert task.raw["metadata"] == {"fps": 30}


def test_from_dict_refuses_other_objects():
    """As a response of this kind, or with Python's own error for values that JSON cannot have."""
    with pytest.raises(BadResponseError, match="not a task"):
        VideoTask.from_dict({"message": "hello"})
    with pytest.raises(TypeError):
        VideoTask.from_dict({"id": "vid_1", "status": b"done"})
    with pytest.raises(ValueError):
        VideoTask.from_dict({"id": "vid_1", "status": "done", "x": 10**5000})


@pytest.mark.parametrize("levels", [100, 5_000, 100_000])
def test_from_dict_refuses_deep_nesting(levels):
    """With a ValueError, also beyond the recursion limit."""
    nested = []
    for _ in range(levels):
        nested = [nested]

    with pytest.raises(ValueError, match="nested too deeply"):
        VideoTask.from_dict({"id": "vid_1", "status": "done", "x": nested})


@pytest.mark.parametrize("as_text", [False, True])
def test_deepest_valid_body_can_be_copied(as_text):
    """Its task survives pickle, copy and ``to_dict``, also with metadata in a text."""
    nested = '{"a":' * 99 + "1" + "}" * 99
    metadata = nested if as_text else json.loads(nested)
    body = json.dumps({"id": "v", "status": "completed", "metadata": metadata}).encode()

    task = read_task(decode_json(body), body=body)

    assert task.metadata == json.loads(nested)
    assert task == pickle.loads(pickle.dumps(task)) == copy.deepcopy(task)
    assert task == VideoTask.from_dict(json.loads(json.dumps(task.to_dict())))


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        (None, None),
        ("https://h.test/v.mp4", "https://h.test/v.mp4"),
        ("https://h.test/v.mp4?sig=s#t", "https://h.test/v.mp4?…"),
        ("https://h.test/v.mp4#t?x\ny", "https://h.test/v.mp4?…"),
        ("https://u:pw@h.test/v?s", "https://…@h.test/v?…"),
        ("https://h.test/a@b", "https://h.test/a@b"),
        ("/v.mp4?sig=s", "/v.mp4?…"),
        ("data:video/mp4;base64," + "A" * 99, "data:video/mp4;base64,AAAAAAAAAA…"),
        ("DATA:video/mp4;base64," + "A" * 99, "DATA:video/mp4;base64,AAAAAAAAAA…"),
    ],
)
def test_redacted_url_has_no_key(url, redacted):
    """User, query and fragment are left out, and a data url is cut."""
    assert redact_query(url) == redacted


@pytest.mark.parametrize(
    ("code", "message", "text"),
    [
        ("c", "m", "c: m"),
        ("c", None, "c"),
        (None, "m", "m"),
        (None, None, "no reason given"),
        (None, "see https://h.test/v?sig=s3cr3t", "see https://h.test/v?…"),
    ],
)
def test_str_of_an_error_is_one_sentence(code, message, text):
    """Code and message, as far as the server sent them, without signed queries."""
    assert str(ErrorInfo(code=code, message=message)) == text


def test_utc_datetime_is_aware():
    """Equal times share one object."""
    assert utc_datetime(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert utc_datetime(1).tzinfo is UTC
    assert utc_datetime(1) is utc_datetime(1)


@given(strategies.canonical_tasks())
def test_from_dict_reads_to_dict(task):
    """Through JSON, without a difference."""
    assert VideoTask.from_dict(json.loads(json.dumps(task.to_dict()))) == task


@given(strategies.canonical_tasks())
def test_repr_has_no_key(task):
    """Query, user and fragment of a url are redacted."""
    assert "s3cr3t" not in repr(task)
