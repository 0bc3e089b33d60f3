"""Decoder of tasks: envelopes, ids, status, places of the url, errors."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations

import pytest

from ezvideo_async._domain.task import ErrorInfo, TaskStatus
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.envelope import read_envelope
from ezvideo_async._protocol.task_decoder import read_task
from ezvideo_async.errors import BadResponseError
from tests.support.response_bodies import error_of, task_of

URL = "https://cdn.example.test/v.mp4"
OTHER_URL = "https://other.example.test/w.mp4"
AT = 1_767_225_600
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)

# -- status ----------------------------------------------------------------------------------


@pytest.mark.fault("J7")
@pytest.mark.parametrize(
    ("value", "raw_status"),
    [
        ("None", "None"),
        (7, "7"),
        (2.5, "2.5"),
        (True, "bool"),
        (["completed"], "list"),
        ({"code": "completed"}, "dict"),
    ],
)
def test_status_that_is_no_text_is_an_unknown_status_value(value, raw_status):
    """It is processing, whatever it contains."""
    task = task_of({"id": "vid_x", "status": value})

    assert (task.status, task.raw_status) == (TaskStatus.PROCESSING, raw_status)


@pytest.mark.parametrize("name", ["state", "status", "task_status"])
def test_status_in_an_object_is_read(name):
    """As A2A sends it; a number before it is skipped."""
    task = task_of({"id": "vid_x", "status": {name: "TASK_STATE_COMPLETED", "timestamp": "x"}})

    assert (task.status, task.raw_status) == (TaskStatus.COMPLETED, "TASK_STATE_COMPLETED")
    assert task_of({"id": "vid_x", "status": 200, "state": {name: "done"}}).succeeded


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"url": URL}, TaskStatus.COMPLETED),
        ({"url": "/v.mp4"}, TaskStatus.COMPLETED),
        ({}, TaskStatus.PROCESSING),
        ({"url": "soon"}, TaskStatus.PROCESSING),
    ],
)
def test_ready_is_completed_beside_a_url(fields, status):
    """Without one it is an unknown status value."""
    assert task_of({"id": "vid_x", "status": "Ready"} | fields).status is status


@pytest.mark.fault("Q19")
def test_raw_status_keeps_200_characters():
    """A server may send a megabyte at each poll."""
    assert task_of({"id": "vid_x", "status": "x" * 1000}).raw_status == "x" * 200


@pytest.mark.fault("J7")
@pytest.mark.parametrize("value", [None, "", "  "])
def test_blank_status_counts_as_missing(value):
    """The next alias is read, and without one the task is pending."""
    task = task_of({"id": "vid_x", "status": value})

    assert (task.status, task.raw_status) == (TaskStatus.PENDING, None)
    assert task_of({"id": "vid_x", "status": value, "state": "done"}).raw_status == "done"
    assert task_of({"id": "vid_x", "state": value, "task_status": "fail"}).raw_status == "fail"


def test_status_aliases_have_an_order():
    """``status`` wins over ``state``, and that over ``task_status``."""
    body = {"id": "vid_x", "task_status": "failed", "state": "running", "status": "queued"}

    assert task_of(body).status is TaskStatus.PENDING
    del body["status"]
    assert task_of(body).status is TaskStatus.PROCESSING
    del body["state"]
    assert task_of(body).status is TaskStatus.FAILED


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "vid_x"}, TaskStatus.PENDING),
        ({"id": "vid_x", "progress": 100, "completed_at": AT}, TaskStatus.PENDING),
        ({"id": "vid_x", "url": URL}, TaskStatus.COMPLETED),
        ({"id": "vid_x", "url": "/v.mp4"}, TaskStatus.COMPLETED),
        ({"id": "vid_x", "url": "", "metadata": {"url": "soon"}}, TaskStatus.PENDING),
        ({"id": "vid_x", "url": URL, "error": {"code": 0}, "code": 200}, TaskStatus.COMPLETED),
        ({"id": "vid_x", "error": {"code": "x"}}, TaskStatus.FAILED),
        ({"id": "vid_x", "error": {"message": "worker died"}}, TaskStatus.FAILED),
        ({"id": "vid_x", "error": "worker died"}, TaskStatus.FAILED),
        ({"id": "vid_x", "error": {}}, TaskStatus.PENDING),
        ({"id": "vid_x", "error": None}, TaskStatus.PENDING),
        ({"id": "vid_x", "error": {"code": 0, "message": ""}}, TaskStatus.PENDING),
        ({"id": "vid_x", "error": {"code": "success", "message": "ok"}}, TaskStatus.PENDING),
        ({"id": "vid_x", "error": {"code": "", "message": "boom"}}, TaskStatus.FAILED),
        ({"id": "vid_x", "fail_reason": URL}, TaskStatus.PENDING),
        ({"request_id": "vid_x"}, TaskStatus.PENDING),
        ({"request_id": "trace"}, TaskStatus.PENDING),
        ({"success": False, "task_id": "vid_x", "message": "no"}, TaskStatus.FAILED),
        ({"success": True, "task_id": "vid_x"}, TaskStatus.PENDING),
    ],
)
def test_without_a_status_url_error_and_id_decide(body, status):
    """In this order; progress and times do not decide."""
    task = task_of(body)

    assert (task.status, task.raw_status) == (status, None)


@pytest.mark.fault("S3")
@pytest.mark.parametrize("value", ["pending", "processing", "failed", "brewing"])
def test_only_the_status_completes_a_task(value):
    """Progress 100, a time of completion and a url do not."""
    body = {"id": "vid_x", "status": value, "progress": 100, "completed_at": AT, "url": URL}

    assert not task_of(body).succeeded


# -- envelopes ------------------------------------------------------------------------------


def enveloped(body, *keys):
    for key in reversed(keys):
        body = {key: body, "code": "success"}
    return body


@pytest.mark.parametrize(
    "keys",
    [
        *("", "data", "task", "video_task", "output", "result", "response"),
        *("data data", "data task", "data task video_task", "result output"),
    ],
)
def test_task_may_be_in_three_envelopes(keys):
    """Each one is an object in one of the fields where gateways nest it."""
    assert task_of(enveloped({"id": "vid_x", "status": "done"}, *keys.split())).succeeded


def test_fourth_envelope_is_not_opened():
    """An object so deep is other data."""
    body = enveloped({"status": "done"}, "data", "data", "data", "data")

    assert error_of(body).reason == "schema"


@pytest.mark.parametrize("mark", ["id", "task_id"])
def test_object_with_an_id_and_a_status_is_no_envelope(mark):
    """Its ``data`` is only data: CometAPI keeps the response of its provider there."""
    body = {mark: "vid_x", "status": "queued", "data": {"status": "failed", "id": "vid_x"}}

    assert task_of(body).status is TaskStatus.PENDING


@pytest.mark.parametrize("mark", ["status", "id"])
@pytest.mark.parametrize("value", [200, None, "", True])
def test_task_mark_must_be_a_text(mark, value):
    """Gateways send numbers and blanks in envelopes."""
    assert task_of({mark: value, "data": {"id": "vid_x", "status": "done"}}).succeeded


@pytest.mark.parametrize(
    ("first", "second"), [("data", "task"), ("task", "video_task"), ("data", "video_task")]
)
def test_envelope_keys_have_an_order(first, second):
    """The first of ``data``, ``task`` and ``video_task`` that is an object contains the task."""
    body = {second: {"id": "vid_x", "status": "failed"}, first: {"id": "vid_x", "status": "done"}}

    assert task_of(body).succeeded
    assert not task_of(body | {first: [1]}).succeeded


# -- ids ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["id", "task_id", "video_id", "generation_id", "job_id"])
def test_id_may_be_under_any_alias(name):
    """An id of another task is foreign under each of them."""
    assert read_envelope({name: "vid_x", "status": "done"}).foreign_id("vid_x") is None
    assert read_envelope({name: "vid_y", "status": "done"}).foreign_id("vid_x") == "vid_y"


@pytest.mark.fault("J8")
@pytest.mark.parametrize("value", [None, "", " ", 7, True, ["vid_y"], {"id": "vid_y"}])
def test_only_a_text_is_an_id(value):
    """The task gets the asked id."""
    assert task_of({"id": value, "status": "done"}).id == "vid_x"
    assert task_of({"id": value, "task_id": "vid_x", "status": "done"}).id == "vid_x"


@pytest.mark.parametrize(
    ("body", "task_id"),
    [
        ({"id": "a", "task_id": "b"}, "a"),
        ({"id": 77, "task_id": "b"}, "b"),
        ({"id": "", "task_id": " ", "video_id": "c"}, "c"),
        ({"video_id": "c", "generation_id": "d", "job_id": "e"}, "c"),
        ({"generation_id": "d", "job_id": "e"}, "d"),
        ({"job_id": "e", "request_id": "f"}, "e"),
        ({"request_id": "f"}, "f"),
        ({"id": "sora-2:task_/=%2F"}, "sora-2:task_/=%2F"),
    ],
)
def test_first_alias_is_the_id_if_none_was_asked(body, task_id):
    """As in a webhook; an asked id wins over it."""
    assert read_task(body | {"status": "done"}).id == task_id
    assert read_task(body | {"status": "done"}, task_id="vid_x").id == "vid_x"


@pytest.mark.parametrize("body", [{"id": 77, "status": "done"}, {"status": "done"}])
def test_task_without_any_id_is_refused(body):
    """A number is a row of a database, not the id of a task."""
    with pytest.raises(BadResponseError) as refused:
        read_task(body)

    assert refused.value.paths == ("expected a text @ $.id",)


@pytest.mark.parametrize(
    "body",
    [
        {"request_id": "r", "code": 1203},
        {"request_id": "r", "error": "boom"},
        {"request_id": "r", "error": {"code": "x"}},
        {"code": 1203, "message": "no", "data": {"request_id": "r"}},
        {"error": {"message": "no"}, "data": {"request_id": "r"}},
        {"request_id": ""},
        {"request_id": 5},
    ],
)
def test_request_id_with_an_error_is_no_task_id(body):
    """It is a trace id, at whatever level the error is."""
    assert read_envelope(body).status is None


@pytest.mark.parametrize("code", [None, 0, "", "SUCCESS", "ok", 200], ids=repr)
def test_request_id_without_an_error_is_a_new_task(code):
    """This is xAI's response to a new task."""
    assert task_of({"request_id": "r", "code": code}).status is TaskStatus.PENDING
    assert task_of({"code": code, "data": {"request_id": "r"}}).status is TaskStatus.PENDING


@pytest.mark.parametrize("body", [None, [], "text"])
def test_only_an_object_is_a_task(body):
    """The error says what was expected where."""
    with pytest.raises(BadResponseError) as refused:
        read_task(body, task_id="vid_x")

    assert refused.value.paths[0].endswith("@ $")


# -- fields ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("created_at", ["created_at", "created", "createdAt", "create_time", "submit_time"]),
        ("completed_at", ["completed_at", "finished_at", "finish_time", "completedAt"]),
        ("expires_at", ["expires_at", "expiresAt"]),
    ],
)
def test_timestamps_have_aliases_in_order(field, names):
    """The first one that can be read counts."""
    body = {"id": "vid_x", "status": "done"}

    for place, name in enumerate(names):
        later = dict.fromkeys(names[place + 1 :], AT + 99)
        for unreadable in (None, 0, "soon"):
            earlier = dict.fromkeys(names[:place], unreadable)
            assert getattr(task_of(body | earlier | {name: AT} | later), field) == NEW_YEAR


@pytest.mark.parametrize(
    ("value", "completed_at"), [("done", NEW_YEAR), ("failed", NEW_YEAR), ("queued", None)]
)
def test_only_a_finished_task_has_completed_at(value, completed_at):
    """New-api copies it from ``updated_at`` while the task is still running."""
    assert (
        task_of({"id": "vid_x", "status": value, "completed_at": AT}).completed_at == completed_at
    )


@pytest.mark.parametrize(
    ("value", "model"), [("sora-2", "sora-2"), ("", None), (" ", None), (5, None), (None, None)]
)
def test_model_is_a_text_or_none(value, model):
    """New-api's Kling sends an empty one."""
    assert task_of({"id": "vid_x", "status": "done", "model": value}).model == model


@pytest.mark.fault("J11")
@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"seconds": "10.0"}, "10.0"),
        ({"seconds": 8}, "8"),
        ({"seconds": 3.4}, "3.4"),
        ({"seconds": None}, None),
        ({"seconds": ""}, None),
        ({"seconds": True}, None),
        ({"seconds": "eight"}, "eight"),
        ({"duration": 5}, "5"),
        ({"n_seconds": 5}, "5"),
        ({"video": {"duration": 6}}, "6"),
        ({"seconds": "4", "duration": 5}, "4"),
        ({"seconds": "", "duration": 5, "n_seconds": 6}, "5"),
        ({"seconds": None, "n_seconds": 6, "video": {"duration": 7}}, "6"),
    ],
)
def test_seconds_are_text_from_the_first_place(fields, seconds):
    """A number is kept as it was written."""
    assert task_of({"id": "vid_x", "status": "done"} | fields).seconds == seconds


@pytest.mark.fault("J11")
@pytest.mark.parametrize(
    ("value", "size"), [("1280x720", "1280x720"), (" 10x10 ", " 10x10 "), (720, "720"), ("", None)]
)
def test_size_is_text(value, size):
    """A text is unchanged."""
    assert task_of({"id": "vid_x", "status": "done", "size": value}).size == size


# -- url ------------------------------------------------------------------------------------

URL_PLACES = (
    "url video_url result_url metadata.url metadata.video_url metadata.result_url video "
    "output.url output.video_url output.video output.videos output outputs.video_url outputs "
    "urls unsigned_urls content.video_url content.result_url content.url task_result.videos "
    "result.url result.video_url result_urls download_url content_url file_url data.url "
    "data.video_url data.output_url data.outputs data results.url results.video_url videos "
    "resultUrl videoUrl"
)
PLACES = [tuple(place.split(".")) for place in URL_PLACES.split()]


def test_table_of_url_places():
    """A place is added to the table together with this test."""
    assert list(dialects.URL_PLACES) == PLACES


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_url_is_found_in_every_place(place):
    """As a text, in an object or in a list, with any status; a list may be on the way."""
    for url in (URL, {"url": URL}, [{"url": URL}, OTHER_URL]):
        for status in ("queued", "completed", "failed"):
            fields = {place[0]: url if len(place) == 1 else {place[1]: url}}
            assert task_of({"id": "vid_x", "status": status} | fields).url == URL
    if len(place) > 1:
        fields = {place[0]: [{place[1]: URL}, {place[1]: OTHER_URL}]}
        assert task_of({"id": "vid_x", "status": "done"} | fields).url == URL


def test_url_places_have_an_order():
    """Every place wins over every later one; unreadable values are skipped."""
    for place, later in combinations(PLACES, 2):
        if place[0] == later[0] and len(later) == 1:
            continue  # the later place contains the other one
        for url, expected in ((URL, URL), ("soon", OTHER_URL)):
            fields = {later[0]: OTHER_URL if len(later) == 1 else {later[1]: OTHER_URL}}
            own = url if len(place) == 1 else fields.get(place[0], {}) | {place[1]: url}
            assert task_of({"id": "vid_x", "status": "done"} | fields | {place[0]: own}).url == (
                expected
            )


@pytest.mark.parametrize(
    "name", ["file_path", "output_path", "polling_url", "thumbnail_url", "href"]
)
def test_some_fields_are_never_urls_of_the_video(name):
    """Such as a path on the server's disk, or the url for the next poll."""
    assert task_of({"id": "vid_x", "status": "done", name: URL}).url is None


@pytest.mark.parametrize("name", ["fail_reason", "remixed_from_video_id"])
@pytest.mark.parametrize(
    ("status", "value", "url"),
    [
        ("done", URL, URL),
        ("done", "/v.mp4", None),
        ("done", "data:video/mp4,x", None),
        ("done", "vid_source", None),
        ("processing", URL, None),
        ("failed", URL, None),
    ],
)
def test_fields_with_another_meaning_hold_urls_of_completed_tasks(name, status, value, url):
    """CometAPI's failure reason and Agnes's remix source, if they begin with http."""
    assert task_of({"id": "vid_x", "status": status, name: value}).url == url


def test_fields_with_another_meaning_come_last():
    """The failure reason comes before the remix source."""
    body = {"id": "vid_x", "status": "done", "fail_reason": URL, "remixed_from_video_id": OTHER_URL}

    assert task_of(body).url == URL
    assert task_of(body | {"data": {"url": OTHER_URL}}).url == OTHER_URL


def test_url_is_found_in_metadata_that_is_a_text():
    """The text of an object is read as an object."""
    assert task_of({"id": "vid_x", "status": "done", "metadata": f'{{"url": "{URL}"}}'}).url == URL


# -- errors ---------------------------------------------------------------------------------


@pytest.mark.fault("J14")
@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({}, None, None),
        ({"error": None}, None, None),
        ({"error": {}}, None, None),
        ({"error": []}, None, None),
        ({"error": [{"message": "x"}]}, None, None),
        ({"error": True}, None, None),
        ({"error": 5}, None, None),
        ({"error": ""}, None, None),
        ({"error": {"code": "c", "message": "m"}}, "c", "m"),
        ({"error": {"code": 1301, "message": 5}}, "1301", "5"),
        ({"error": {"code": "", "message": ""}}, None, None),
        ({"error": {"code": 0, "message": "m"}}, "0", "m"),
        ({"error": {"code": True, "message": {"a": 1}}}, None, None),
        ({"error": {"message": "m", "msg": "n", "detail": "o"}}, None, "m"),
        ({"error": {"message": "", "msg": "n", "detail": "o"}}, None, "n"),
        ({"error": {"detail": "o"}}, None, "o"),
        ({"error": "m"}, None, "m"),
        ({"error": "m", "code": "c"}, "c", "m"),
        ({"error": "m", "code": 7}, "7", "m"),
        ({"code": "c"}, "c", None),
        ({"code": 0, "message": "ok"}, None, None),
        ({"code": "c", "message": "m", "msg": "n"}, "c", "m"),
        ({"msg": "n", "detail": "d"}, None, "n"),
        ({"detail": "d"}, None, "d"),
        ({"errorMsg": "e"}, None, "e"),
        ({"failCode": 500, "failMsg": "e"}, "500", "e"),
        ({"base_resp": {"status_code": 1027, "status_msg": "m"}}, "1027", "m"),
        ({"base_resp": {"status_code": 0, "status_msg": "success"}}, None, None),
        ({"message": "m", "fail_reason": "a"}, None, "a"),
        ({"url": "the prompt was refused"}, None, "the prompt was refused"),
        ({"video_url": "the prompt was refused"}, None, "the prompt was refused"),
        ({"video_url": URL}, None, None),
        ({"message": "m" * 3000, "code": "c" * 300}, "c" * 200, "m" * 2000),
        ({"fail_reason": "a", "failure_reason": "b"}, None, "a"),
        ({"failure_reason": "b", "failure": "c"}, None, "b"),
        ({"failure": "c", "reason": "d"}, None, "c"),
        ({"reason": "d", "error_message": "e"}, None, "d"),
        ({"error_message": "e", "err_msg": "f"}, None, "e"),
        ({"err_msg": "f", "task_status_msg": "g"}, None, "f"),
        ({"task_status_msg": "g", "metadata": {"url": "h"}}, None, "g"),
        ({"metadata": {"url": "the prompt was refused"}}, None, "the prompt was refused"),
        ({"metadata": {"url": URL}}, None, None),
        ({"metadata": {"url": "/v.mp4"}}, None, None),
        ({"metadata": {"url": ""}}, None, None),
        ({"error": {"code": "c"}, "fail_reason": "a"}, "c", "a"),
        ({"error": {"message": "m"}, "fail_reason": "a"}, None, "m"),
        ({"error": [], "fail_reason": "a"}, None, "a"),
    ],
)
def test_failed_task_has_an_error(fields, code, message):
    """From ``error`` first, then from the places where gateways put a reason."""
    task = task_of({"id": "vid_x", "status": "failed"} | fields)

    assert task.error == ErrorInfo(code=code, message=message)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("cancelled", "cancelled"),
        ("Canceled", "cancelled"),
        ("aborted", "cancelled"),
        ("deleted", "cancelled"),
        ("EXPIRED", "expired"),
        ("timeout", "timeout"),
        ("timed out", "timed_out"),
        ("failed", None),
        ("rejected", None),
        ("error", None),
    ],
)
def test_status_value_replaces_a_missing_code(value, code):
    """So that callers can distinguish cancelled and expired tasks from failed ones."""
    body = {"id": "vid_x", "status": value}

    assert task_of(body).error == ErrorInfo(code=code)
    assert task_of(body | {"error": {"code": "own"}}).error == ErrorInfo(code="own")
    assert task_of(body | {"error": {"code": ""}}).error == ErrorInfo(code=code)


@pytest.mark.parametrize("status", ["queued", "processing", "completed"])
@pytest.mark.parametrize("code", [0, "0", "Success", "ok", 200, "200"], ids=repr)
def test_success_code_is_no_error_unless_the_task_failed(status, code):
    """PiAPI and new-api send an error object that means "no error"."""
    body = {"id": "vid_x", "status": status, "error": {"code": code, "message": "string"}}

    assert task_of(body).error is None
    assert task_of(body | {"status": "failed"}).error is not None


@pytest.mark.parametrize("status", ["queued", "processing", "completed"])
@pytest.mark.parametrize(
    "error", ["no face", {"message": "no face"}, {"code": "", "msg": "no face"}]
)
def test_error_text_without_a_code_is_kept(status, error):
    """It decides nothing."""
    task = task_of({"id": "vid_x", "status": status, "error": error})

    assert task.error == ErrorInfo(message="no face")
    assert task.status is not TaskStatus.FAILED


@pytest.mark.parametrize("status", ["queued", "processing", "completed"])
def test_error_does_not_change_another_status(status):
    """New-api's Hailuo reports a temporary rate limit."""
    task = task_of(
        {"id": "vid_x", "status": status, "error": {"code": "1002", "message": "rate limit"}}
    )

    assert task.error == ErrorInfo(code="1002", message="rate limit")
    assert task.status is not TaskStatus.FAILED
