"""Decoder of responses: every status, header and body gives a task or an error."""

from __future__ import annotations

import json
from datetime import UTC

import pytest
from hypothesis import example, given, strategies as st

from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._protocol.messages import Evidence, Response
from ezvideo_async._protocol.responses import poll_hint
from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ConfigError,
    EzVideoError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TaskNotFoundError,
)
from tests.support import strategies
from tests.support.response_bodies import (
    ASKED,
    UNIX_NOW,
    decode,
    error_of,
    outcome_of,
    response_of,
    task_of,
)

USED, FRESH = Evidence(), Evidence(is_fresh=True)
SIGNED_URL = "https://cdn.example.test/v.mp4?sig=s3cr3t"
HTML = "<!doctype html><title>New API</title>"

# -- error statuses -------------------------------------------------------------------------

CLASSES = {
    AuthenticationError: {401: False},
    BadRequestError: dict.fromkeys((400, 405, 406, 411, 413, 414, 415, 417, 422, 431, 451), False),
    PermissionDeniedError: {402: False, 403: False},
    RateLimitError: {429: True},
    ServerError: {
        **dict.fromkeys((408, 409, 421, 425, 500, 502, 503, 504, 507, 599), True),
        **dict.fromkeys(range(520, 531), True),
        **dict.fromkeys((501, 505, 506, 508, 510, 511), False),
    },
    TaskNotFoundError: {404: False, 410: False},
}
STATUSES = [
    pytest.param(status, kind, retryable, id=str(status))
    for kind, statuses in CLASSES.items()
    for status, retryable in statuses.items()
]


@pytest.mark.parametrize(("status", "kind", "retryable"), STATUSES)
def test_error_status_has_its_class(status, kind, retryable):
    """``retryable`` says whether repeating may help; the server's words are attributes."""
    body = {"error": {"message": "no", "type": "kind", "code": "word"}}

    error = error_of(body, status=status, headers={"X-Request-Id": "req_1"})

    assert (type(error), error.retryable) == (kind, retryable)
    assert (error.status, error.code, error.message) == (status, "word", "no")
    assert (error.error_type, error.request_id) == ("kind", "req_1")
    assert (error.task_id, error.body_excerpt) == ("vid_x", None)
    assert str(error).startswith(f"HTTP {status}: ")
    assert str(error).endswith("(word): no")


def test_bad_request_with_retry_after_is_retryable():
    """Azure sends the header with some 400s."""
    assert error_of({"message": "no"}, status=400, headers={"Retry-After": "5"}).retryable


@pytest.mark.fault("Q7")
@pytest.mark.parametrize("status", [400, 405, 414, 422, 431])
@pytest.mark.parametrize("body", ["", "bad request", HTML, "{"])
def test_bad_request_without_json_is_retryable(status, body):
    """A proxy sent it, not the API: the excerpt is a text, also of an empty body."""
    error = error_of(body, status=status)

    assert (type(error), error.retryable, error.body_excerpt) == (BadRequestError, True, body)
    assert error_of("{}", status=status).body_excerpt is None


@pytest.mark.parametrize("status", [100, 101, 199, 600, 999, 0, -1])
def test_status_outside_of_http_is_a_bad_response(status):
    """It says nothing about the task."""
    error = error_of({"id": "vid_x", "status": "done"}, status=status)

    assert (type(error), error.reason, error.status) == (BadResponseError, "schema", status)
    assert error.retryable


@pytest.mark.parametrize("status", [204, 205, 304])
def test_status_without_body_is_an_empty_response(status):
    """Even if a body came with it."""
    error = error_of({"id": "vid_x", "status": "done"}, status=status)

    assert (type(error), error.reason, error.status) == (BadResponseError, "empty", status)


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 226, 299])
def test_other_success_is_decoded(status):
    """OpenRouter, ofox and merge respond with 202."""
    assert outcome_of({"id": "vid_x", "status": "done"}, status=status).succeeded


@pytest.mark.parametrize("status", [300, 301, 308, 399])
@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("https://console.example.test/login?next=s3cr3t", "'https://console.example.test'"),
        ("https://u:s3cr3t@console.example.test:8443/x", "'https://console.example.test'"),
        ("/login?next=s3cr3t", "'this server'"),
        ("", "'this server'"),
        ("https://[::1", "'an invalid url'"),
        ("javascript:s3cr3t", "'this server'"),
    ],
)
def test_redirect_is_a_config_error(status, location, origin):
    """The message has the origin, but no user, path or query."""
    error = error_of("", status=status, headers={"Location": location, "x-request-id": "r"})

    assert (type(error), error.reason, error.retryable) == (ConfigError, "redirect", False)
    assert (error.status, error.request_id, error.task_id) == (status, "r", "vid_x")
    assert origin in str(error)
    assert "s3cr3t" not in repr(vars(error)) + str(error)


@pytest.mark.parametrize(
    "code",
    ["task_not_found", "task_not_exist", "video_not_found", "not_found", "resource_not_found"],
)
def test_not_found_code_decides_any_4xx(code):
    """New-api sends 400; the case of the code is ignored.  A 5xx is the server's failure."""
    body = {"code": code.upper(), "message": "m", "data": None}

    for status in (400, 401, 403, 404, 422, 429):
        error = error_of(body, status=status)
        assert (type(error), error.code, error.message) == (TaskNotFoundError, code.upper(), "m")
    assert type(error_of(body, status=500)) is ServerError


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"error": {"message": "Invalid URL (GET /v1/videos)"}}, {}),
        ({"message": "Invalid URL (GET /videos/x)"}, {}),
        ("404 page not found", {}),
        ("\n 404 page not found\n", {}),
        ("Invalid URL (GET /)", {}),
        (HTML, {}),
        ("\ufeff <html>", {}),
        ("anything", {"Content-Type": "Text/HTML; charset=utf-8"}),
    ],
)
def test_404_of_the_route_is_a_config_error(body, headers):
    """The message asks about the base url."""
    error = error_of(body, status=404, headers=headers)

    assert (type(error), error.reason, error.retryable) == (ConfigError, "route", False)
    assert "does base_url end with /v1?" in str(error)


AMBIGUOUS = (
    "",
    "not found",
    "default backend - 404",
    "404 Not Found",
    "no Route matched with those values",
    "Cannot GET /videos/vid_x",
    {},
    "[]",
    "{",
    {"detail": "Not Found"},
    {"detail": "Not found."},
    {"message": "Not Found"},
    {"error": {"message": "Not Found", "type": "Not Found", "code": 404}},
    {"error": {"message": "Resource not found", "code": "404"}},
    {"errors": {"detail": "Not Found"}},
    {"code": "fail_to_fetch_task", "message": '{"detail":"Not Found"}'},
    {"code": 404, "msg": "请求地址不存在"},
    {"message": "no Invalid URL ("},
    {"message": "no Route matched with those values"},
    {"message": "Route GET:/v1/videos/vid_x not found", "error": "Not Found", "statusCode": 404},
    {"statusCode": 404, "message": "Cannot GET /v1/videos/vid_x", "error": "Not Found"},
    {"status": 404, "error": "Not Found", "path": "/v1/videos/vid_x"},
    {"message": "No static resource v1/videos/vid_x."},
    {"message": "The requested URL was not found on the server."},
    {"error": {"message": "Unknown request URL: GET /videos/vid_x", "code": "unknown_url"}},
    {"error": {"message": "The API deployment 'sora-2' for this resource does not exist."}},
    {"title": "Not Found", "status": 404},
    {"message": "Video generation is switched off"},
)


@pytest.mark.fault("Q1b")
@pytest.mark.parametrize("body", AMBIGUOUS, ids=repr)
def test_404_that_names_no_task_is_ambiguous(body):
    """Servers respond so to a wrong route too, and the message asks about the base url."""
    headers = {"Content-Type": "text/html"} if isinstance(body, dict) else {}

    error = error_of(body, status=404, headers=headers)

    assert (type(error), error.is_ambiguous, error.retryable) == (TaskNotFoundError, True, False)
    assert "or base_url is wrong; does it end with /v1?" in str(error)


@pytest.mark.fault("Q1b")
@pytest.mark.parametrize(
    "body",
    [
        "Video not found",
        "Task vid_x",
        {"detail": "Video not found"},
        {"detail": {"error": "Video not found"}},
        {"detail": "No item vid_x."},
        {"error": {"message": "Video with id 'vid_x' not found.", "code": None}},
        {"error": {"message": "litellm.NotFoundError: Error code: 404 - Video not found"}},
        {"error": {"message": "Not Found", "code": "VideoNotFound"}},
        {"error": {"message": "Not Found", "code": "JOB_DOES_NOT_EXIST"}},
        {"code": "TASK_NOT_EXIST", "message": ""},
        {"code": "Some requested entity was not found", "error": "Video request not found"},
        {"message": "Task abc does not exist"},
        {"message": "Task doesn't exist"},
        {"message": "no such task"},
        {"message": "Unknown job"},
        {"message": "Generation could not be found"},
        {"message": "task_id is invalid"},
        {"code": 404, "msg": "任务不存在"},
        {"msg": "未找到该视频"},
    ],
    ids=repr,
)
def test_404_that_names_the_task_is_about_it(body):
    """By a code, the asked id, or a word for a task with one for "not found"."""
    error = error_of(body, status=404)

    assert (type(error), error.is_ambiguous) == (TaskNotFoundError, False)
    assert "base_url" not in str(error)


def test_asked_id_with_any_characters_is_found_in_a_message():
    """It is no pattern, and a longer id that contains it is another one."""
    for ask, message, is_ambiguous in (
        ("a.b/(c", "no a.b/(c here", False),
        ("a.b", "no axb here", True),
        ("vid", "no vid_2 here", True),
    ):
        error = outcome_of({"message": message}, status=404, ask=ask)
        assert error.is_ambiguous is is_ambiguous


@pytest.mark.parametrize("body", ["", {"message": "Not Found"}])
def test_410_is_never_ambiguous(body):
    """No server responds so to a wrong route."""
    assert not error_of(body, status=410).is_ambiguous


# -- finished tasks under error statuses ----------------------------------------------------------


@pytest.mark.fault("Q10")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 429, 500, 501, 503])
@pytest.mark.parametrize(
    "body",
    [
        {"id": "vid_x", "status": "failed", "error": {"code": 500, "message": "out of memory"}},
        {"id": "vid_x", "status": "failed", "error": {"code": "404", "message": "out of memory"}},
        {"code": "x", "data": {"task_id": "vid_x", "status": "completed", "url": SIGNED_URL}},
        {"request_id": "vid_x", "status": "CANCELLED"},
    ],
    ids=repr,
)
def test_finished_task_under_an_error_status_is_its_state(status, body):
    """VLLM-Omni responds so to a failed task."""
    outcome = outcome_of(body, status=status, headers={"X-Request-Id": "r"})

    assert (outcome.is_terminal, outcome.id, outcome.request_id) == (True, "vid_x", "r")
    assert outcome == outcome_of(body)
    assert outcome.raw == body


@pytest.mark.fault("Q10")
@pytest.mark.parametrize(
    "body",
    [
        {"id": "vid_y", "status": "failed"},
        {"status": "failed"},
        {"id": "vid_x", "status": "processing"},
        {"id": "vid_x", "error": {"code": "x", "message": "m"}},
        {"id": "vid_x", "url": SIGNED_URL},
        {"id": "vid_x", "status": "error", "message": "bad gateway"},
        {"id": "vid_x", "status": 500},
    ],
    ids=repr,
)
def test_other_body_under_an_error_status_is_an_error(body):
    """Only the asked task with a final status of its own is a state."""
    assert type(error_of(body, status=500)) is ServerError
    assert type(error_of(body, status=429)) is RateLimitError


@pytest.mark.fault("Q10")
def test_finished_task_under_an_error_status_may_have_the_alias():
    """As under a success."""
    outcome = outcome_of({"id": "vid_y", "status": "failed"}, status=500, aliases=("vid_y",))

    assert (outcome.id, outcome.status) == ("vid_x", TaskStatus.FAILED)


@pytest.mark.parametrize(
    "code", ["insufficient_quota", "insufficient_user_quota", "billing_limit_exceeded"]
)
def test_429_of_a_used_up_quota_is_not_retryable(code):
    """Waiting does not fill the quota."""
    error = error_of({"error": {"code": code}}, status=429)

    assert (type(error), error.retryable) == (RateLimitError, False)
    assert "quota" in str(error)


@pytest.mark.parametrize(
    ("body", "retryable"),
    [(HTML, True), ("error code: 1010", True), ("", True), ({"error": "no"}, False), ("{}", False)],
)
@pytest.mark.fault("Q7")
def test_403_without_json_is_retryable(body, retryable):
    """It comes from a firewall; JSON comes from the API itself."""
    error = error_of(body, status=403)

    assert (type(error), error.retryable) == (PermissionDeniedError, retryable)


@pytest.mark.parametrize(
    ("value", "retryable"),
    [(" True ", True), ("FALSE", False), ("", None), ("1", None), ("yes", None)],
)
def test_x_should_retry_decides(value, retryable):
    """Gateways of the OpenAI family send it; other values are ignored."""
    headers = {"X-Should-Retry": value}

    for status, default in ((400, False), (404, False), (429, True), (500, True)):
        error = error_of({"message": "m"}, status=status, headers=headers)
        assert error.retryable is (default if retryable is None else retryable)


@pytest.mark.parametrize("status", [401, 402, 403, 501, 505])
def test_x_should_retry_does_not_overrule_a_refusal(status):
    """A refused key, or a method that the server does not have, is refused again."""
    assert not error_of("{}", status=status, headers={"X-Should-Retry": "true"}).retryable


@pytest.mark.parametrize(
    ("body", "excerpt"),
    [
        (HTML, HTML),
        ("x" * 600, "x" * 500),
        ("é" * 600, "é" * 500),
        (b"\xff\xfe\x00", "\ufffd\ufffd\x00"),
        ('{"error": {"message": "up', '{"error": {"message": "up'),
        (f'cut: "{SIGNED_URL}"', 'cut: "https://cdn.example.test/v.mp4?…"'),
        (r'{"url": "https:\/\/h.test\/v?sig=s3cr3t"', r'{"url": "https:\/\/h.test\/v?…"'),
        (f"<a href='{SIGNED_URL}#x'>v</a>", "<a href='https://cdn.example.test/v.mp4?…'>v</a>"),
    ],
    ids=lambda value: ascii(value)[:40],
)
@pytest.mark.parametrize("status", [200, 500])
def test_error_has_an_excerpt_of_a_body_that_is_not_json(status, body, excerpt):
    """At most 500 characters of any bytes, with the queries of urls redacted."""
    assert error_of(body, status=status).body_excerpt == excerpt


class CountedBody(bytes):
    """A body that counts how often it is decoded."""

    decoded = 0

    def removeprefix(self, prefix, /):
        self.decoded += 1
        return super().removeprefix(prefix)


@pytest.mark.parametrize("status", [200, 400, 403, 404, 500, 503])
@pytest.mark.parametrize("body", [b'{"code": "x"}', b'{"id": "vid_x", "status": "done"}', b"<p>"])
def test_body_is_decoded_once(status, body):
    """Decoding a long one costs milliseconds."""
    counted = CountedBody(body)

    decode(Response(status=status, body=counted), ASKED, FRESH)

    assert counted.decoded == 1


# -- success without a task -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        ("", {}, "empty"),
        (" \r\n\t", {}, "empty"),
        (HTML, {}, "html"),
        ("\ufeff\n" + HTML, {}, "html"),
        ("oops", {"Content-Type": "text/html"}, "html"),
        ("oops", {"Content-Type": "application/json"}, "not_json"),
        ('{"id": "vid_x", "status": "comp', {"Content-Type": "text/html"}, "not_json"),
        ('[{"id"', {"Content-Type": "text/html"}, "not_json"),
        (b"\xff\xfe{\x00}\x00", {}, "not_json"),
        ('{"id": "vid_x", "status": "failed", "status": "completed"}', {}, "not_json"),
        ("[" * 60_000, {}, "not_json"),
        ("[" * 100_000, {}, "too_large"),
        ({"m": [0] * 30_000}, {}, "too_large"),
        ({"code": "success", "data": None}, {}, "schema"),
        ({"error": {"message": "m"}}, {}, "schema"),
        ({"id": "vid_y", "status": "done"}, {}, "id_mismatch"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_success_without_a_task_is_a_bad_response(body, headers, reason):
    """It is retryable, and its message has the status and size."""
    error = error_of(body, headers={**headers, "X-Oneapi-Request-Id": "req_2"})

    assert (type(error), error.reason, error.status) == (BadResponseError, reason, 200)
    assert (error.retryable, error.request_id, error.task_id) == (True, "req_2", "vid_x")
    assert " bytes)" in str(error)
    assert (reason == "html") is ("does base_url end with /v1?" in str(error))


@pytest.mark.fault("J6")
@pytest.mark.parametrize(
    ("body", "path"),
    [
        ("null", "expected an object @ $, got null"),
        ("[]", "expected an object @ $, got an array"),
        ('"ok"', "expected an object @ $, got a text"),
        ("5", "expected an object @ $, got a number or boolean"),
        ("true", "expected an object @ $, got a number or boolean"),
        ("{}", "expected a status, an id or a url @ $"),
    ],
)
def test_schema_error_has_a_path(body, path):
    """It says what was expected where."""
    error = error_of(body)

    assert (type(error), error.reason, error.paths) == (BadResponseError, "schema", (path,))


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("task_not_exist", TaskNotFoundError, False),
        ("Resource_Not_Found", TaskNotFoundError, False),
        ("invalid_api_key", AuthenticationError, False),
        ("invalid_token", AuthenticationError, False),
        ("unauthorized", AuthenticationError, False),
        ("access_denied", AuthenticationError, False),
        ("auth_error", AuthenticationError, False),
        (401, AuthenticationError, False),
        (403, PermissionDeniedError, False),
        ("Forbidden", PermissionDeniedError, False),
        (404, TaskNotFoundError, False),
        ("VideoNotFound", TaskNotFoundError, False),
        ("rate_limit_exceeded", RateLimitError, True),
        ("too_many_requests", RateLimitError, True),
        ("429", RateLimitError, True),
        ("server_error", BadResponseError, True),
        (1203, BadResponseError, True),
        (None, BadResponseError, True),
    ],
)
def test_code_decides_an_error_under_a_success(code, kind, retryable):
    """Gateways send error bodies with status 200."""
    nested = {"error": {"code": code, "message": "no", "type": "kind"}}
    flat = {"code": code, "message": "no", "type": "kind", "data": None}

    for body in (nested, flat, {"code": "success", "data": nested}):
        error = error_of(body, headers={"Retry-After": "7", "X-Request-Id": "req_1"})
        assert (type(error), error.retryable) == (kind, retryable)
        assert (error.code, error.message) == (None if code is None else str(code), "no")
        assert (error.error_type, error.status, error.request_id) == ("kind", 200, "req_1")
        assert (error.retry_after, error.task_id) == (7.0, "vid_x")


def test_foreign_id_is_refused_unless_it_is_the_alias():
    """The asked id may be under any alias; the first foreign one is on the error."""
    body = {"id": "vid_y", "task_id": "vid_z", "status": "completed"}

    error = error_of(body)

    assert (error.reason, error.received_id) == ("id_mismatch", "vid_y")
    assert outcome_of(body, aliases=("vid_z",)).reason == "id_mismatch"
    assert outcome_of(body, aliases=("vid_y",)).id == "vid_x"
    assert outcome_of(body | {"task_id": "vid_x"}).id == "vid_x"


def test_task_has_the_request_id():
    """From either header, the standard one first; it is not compared."""
    body = {"id": "vid_x", "status": "done"}
    headers = {"X-Request-Id": "a", "X-Oneapi-Request-Id": "b"}

    assert outcome_of(body, headers=headers).request_id == "a"
    assert outcome_of(body, headers={**headers, "X-Request-Id": " "}).request_id == "b"
    assert outcome_of(body, headers={"X-LiteLLM-Call-Id": "c"}).request_id == "c"
    assert outcome_of(body).request_id is None
    assert outcome_of(body, headers=headers) == outcome_of(body)


def test_repr_of_a_response_has_no_body():
    """A body may contain a signed url."""
    assert SIGNED_URL not in repr(Response(status=200, body=SIGNED_URL.encode()))


# -- final states that are not yet believed -------------------------------------------------------

CONFIRMED = Evidence(is_fresh=True, is_confirmed=True)
UNNAMED = [
    {"status": "done", "video": {"url": SIGNED_URL}},
    {"status": "failed", "error": {"code": "internal_error", "message": "no"}},
    {"status": "expired"},
    {"code": 0, "data": {"status": "done"}},
    {"request_id": "trace", "status": "SUCCEEDED"},
    {"id": 77, "status": "completed"},
]


@pytest.mark.fault("Q13")
@pytest.mark.parametrize("body", UNNAMED, ids=repr)
def test_final_state_without_an_id_needs_a_fresh_connection(body):
    """On a used one it may be the response to another request; the error has the task."""
    believed = decode(response_of(body), ASKED, FRESH)
    error = decode(response_of(body), ASKED, USED)

    assert believed.is_terminal
    assert (error.reason, error.retryable, error.received_id) == ("schema", True, None)
    assert error.unconfirmed == believed
    assert error.task_id == ASKED


@pytest.mark.fault("Q13")
@pytest.mark.parametrize(
    "body",
    [
        {"status": "pending"},
        {"request_id": "vid_x"},
        {"request_id": "vid_x", "status": "done"},
        {"id": "vid_x", "status": "done"},
        {"task_id": "vid_x", "data": {"status": "done"}},
    ],
    ids=repr,
)
def test_other_states_are_believed_on_any_connection(body):
    """Those that name the asked id, and those that end nothing."""
    assert decode(response_of(body), ASKED, USED) == decode(response_of(body), ASKED, FRESH)
    assert isinstance(decode(response_of(body), ASKED, USED), VideoTask)


@pytest.mark.parametrize(
    "body",
    [
        {"url": SIGNED_URL},
        {"created": 1, "data": [{"url": SIGNED_URL}]},
        {"code": 0, "message": "success", "data": {"video_url": SIGNED_URL}},
        {"code": 10000, "message": "Success", "data": {"url": SIGNED_URL}},
        {"message": "Video generated successfully.", "url": SIGNED_URL},
        {"url": SIGNED_URL, "data": {"format": "mp4"}},
        {"video": {"url": "data:video/mp4;base64,AA"}},
    ],
    ids=repr,
)
def test_url_alone_is_believed_when_it_comes_again(body):
    """With neither an id nor a status, a body may be anything that has a url."""
    for evidence in (USED, FRESH):
        error = decode(response_of(body), ASKED, evidence)
        assert (error.reason, error.retryable) == ("schema", True)
        assert error.unconfirmed.succeeded
    assert decode(response_of(body), ASKED, CONFIRMED) == error.unconfirmed


# -- hints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "retry_after", "poll_after"),
    [
        ({}, None, None),
        ({"openai-poll-after-ms": "2500"}, None, 2.5),
        ({"openai-poll-after-ms": " 2500 "}, None, 2.5),
        ({"openai-poll-after-ms": "0"}, None, 0.0),
        ({"openai-poll-after-ms": "-1"}, None, None),
        ({"openai-poll-after-ms": "2.5"}, None, None),
        ({"openai-poll-after-ms": "soon"}, None, None),
        ({"openai-poll-after-ms": "٢"}, None, None),
        ({"openai-poll-after-ms": "9" * 10}, None, None),
        ({"retry-after": "7"}, 7.0, None),
        ({"retry-after-ms": "7500"}, 7.5, None),
        ({"retry-after": "7", "openai-poll-after-ms": "2500"}, 7.0, 2.5),
        ({"retry-after": "x", "openai-poll-after-ms": "2500"}, None, 2.5),
        ({"llm_provider-retry-after": "7"}, 7.0, None),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30.0, None),
    ],
)
def test_poll_hint_is_read_with_any_status(headers, retry_after, poll_after):
    """It has ``Retry-After`` and OpenAI's polling hint in seconds."""
    for status in (200, 429, 503):
        hint = poll_hint(Response(status=status, headers=headers), unix_now=UNIX_NOW)
        assert (hint.retry_after, hint.poll_after) == (retry_after, poll_after)


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 200), (HTML, 200), ("", 204), ("", 429), ('{"message": "not yet"}', 404), (HTML, 503)],
)
def test_every_error_of_a_response_has_retry_after(body, status):
    """Also that of a maintenance page with status 200."""
    headers = {"Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT"}

    assert error_of(body, status=status, headers=headers).retry_after == 30.0


# -- properties -----------------------------------------------------------------------------


@given(
    status=strategies.statuses,
    headers=strategies.headers,
    body=strategies.hostile_bodies(),
    aliases=st.just(()) | st.tuples(strategies.task_ids),
)
@example(status=200, headers={}, body=b'{"status":' + b"[" * 900 + b"]" * 900 + b"}", aliases=())
@example(status=400, headers={}, body=b'{"detail":[{"loc":[[[]]],"msg":[]}]}', aliases=())
def test_decode_task_is_total(status, headers, body, aliases):
    """Any status, headers and bytes give a valid task or an error of ours."""
    outcome = outcome_of(body, status=status, headers=headers, aliases=aliases)

    if isinstance(outcome, VideoTask):
        assert outcome.id == ASKED
        assert status // 100 == 2 or (status // 100 in {4, 5} and outcome.is_terminal)
        json.dumps(outcome.to_dict())
        assert VideoTask.from_dict(outcome.to_dict()).status is outcome.status
    else:
        assert isinstance(outcome, EzVideoError)
        assert outcome.task_id == ASKED
        assert str(outcome).isprintable()


@pytest.mark.fault("J9")
@pytest.mark.fault("J10")
@pytest.mark.fault("J11")
@given(strategies.hostile_objects)
def test_no_other_field_invalidates_a_task(fields):
    """With an id and a status, each other field has its type or is None; ``raw`` is unchanged."""
    body = {**fields, "id": ASKED, "status": "processing"}

    task = task_of(body)

    assert task.status is TaskStatus.PROCESSING
    assert task.raw == json.loads(json.dumps(body))
    assert task.progress is None or (type(task.progress) is int and 0 <= task.progress <= 100)
    for text in (task.model, task.seconds, task.size, task.url):
        assert text is None or type(text) is str
    for at in (task.created_at, task.expires_at):
        assert at is None or (at.tzinfo is UTC and at.microsecond == 0 and at.year < 5139)


@pytest.mark.fault("J12")
@given(task=strategies.canonical_tasks(), extra=strategies.hostile_values)
def test_unknown_keys_have_no_effect(task, extra):
    """They are in ``raw`` only."""
    shape = task.to_dict()

    more = {"x_vendor": extra, "prompt": extra, "polling_url": extra, **shape, "object": extra}

    assert VideoTask.from_dict(shape) == VideoTask.from_dict(more)


@given(fields=strategies.hostile_objects, data=st.data())
def test_order_of_keys_has_no_effect(fields, data):
    """Only the tables have an order."""
    shuffled = dict(data.draw(st.permutations(list(fields.items()))))

    first, second = outcome_of(json.dumps(fields)), outcome_of(json.dumps(shuffled, indent=3))

    assert type(first) is type(second)
    if isinstance(first, VideoTask):
        assert first == second
    else:
        assert (first.code, first.message) == (second.code, second.message)
