"""Requests that are built, and answers of every status, header and body that are read."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given, strategies as st

from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._domain.validation import sends_in_clear, validate_base_url, validate_task_id
from ezvideo_async._protocol.messages import Response
from ezvideo_async._protocol.requests import retrieve_request
from ezvideo_async._protocol.responses import decode_task, poll_hint
from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ConfigError,
    EzVideoError,
    InvalidTaskIdError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TaskNotFoundError,
)
from tests.support import strategies
from tests.support.response_bodies import ASKED, BASE_URL, UNIX_NOW, error_of, outcome_of, task_of

TOKEN = "sk-canary-5f1d7e"  # a secret, as far as anybody knows
SIGNED = "https://cdn.example.test/v.mp4?sig=s3cr3t"
HTML = "<!doctype html><title>New API</title>"

# -- the same again --------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b'{"id": "vid_x", "status": "queued"}', b"{}", b"<html>", b""])
def test_known_bytes_are_not_read_again(body):
    """None stands for the task that they showed; no bytes at all are never known."""
    answer = Response(status=200, body=body)

    again = decode_task(answer, task_id=ASKED, base_url=BASE_URL, unix_now=UNIX_NOW, known=body)

    assert (again is None) is (body != b"")


@pytest.mark.parametrize("status", [204, 304, 404, 500])
def test_known_bytes_prove_nothing_under_another_status(status):
    """An error page that looks like the last answer is an error."""
    body = b'{"id": "vid_x", "status": "queued"}'
    answer = Response(status=status, body=body)

    outcome = decode_task(answer, task_id=ASKED, base_url=BASE_URL, unix_now=0.0, known=body)

    assert isinstance(outcome, EzVideoError)


# -- requests --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_id", "segment"),
    [
        ("vid_1", "vid_1"),
        ("sora-2:task_1", "sora-2%3Atask_1"),
        ("video_bGl0=", "video_bGl0%3D"),
        ("a/../b?c#d%e", "a%2F..%2Fb%3Fc%23d%25e"),
        ("...", "..."),
        (" x ", "%20x%20"),
        ("任务", "%E4%BB%BB%E5%8A%A1"),
        ("a\\b", "a%5Cb"),
    ],
)
def test_an_id_is_one_segment_of_the_path(task_id, segment):
    """Percent-encoded with nothing safe, and otherwise verbatim."""
    request = retrieve_request(BASE_URL, validate_task_id(task_id))

    assert request.url == f"https://api.example.test/v1/videos/{segment}"
    assert (request.method, request.task_id) == ("GET", task_id)


@given(strategies.texts.filter(bool))
def test_whatever_id_is_let_pass_stays_one_segment(task_id):
    """No id reaches another path, query or host; the server reads what the caller gave."""
    try:
        validate_task_id(task_id)
    except InvalidTaskIdError:
        return

    parts = urlsplit(retrieve_request(BASE_URL, task_id).url)

    assert parts.path.startswith("/v1/videos/")
    assert parts.path.count("/") == 3
    assert parts.path.rpartition("/")[2] not in {"", ".", ".."}
    assert (parts.query, parts.fragment, parts.netloc) == ("", "", "api.example.test")
    assert task_id == unquote(parts.path.rpartition("/")[2])


@pytest.mark.parametrize(
    ("task_id", "trouble"),
    [
        ("", "is empty or blank"),
        ("  ", "is empty or blank"),
        ("\u00a0\u3000", "is empty or blank"),
        (".", "would change the path"),
        ("..", "would change the path"),
        ("a\nb", "control characters"),
        ("a\x00", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x85b", "control characters"),
        ("a\ud800", "lone surrogates"),
        ("x" * 513, "has 513 characters"),
        ("x" * 10_000_000, "has 10000000 characters"),
        (None, "must be text, got NoneType"),
        (b"vid", "must be text, got bytes"),
        (5, "must be text, got int"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_an_unusable_id_is_refused(task_id, trouble):
    """Before anything is sent, with a sentence that says what is wrong, and not too long."""
    with pytest.raises(InvalidTaskIdError, match=re.escape(trouble)) as refused:
        validate_task_id(task_id)

    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("task_id", ["x" * 512, "a b", "\u202ea", "é", "…", "a.", "-"])
def test_any_other_id_is_let_pass_verbatim(task_id):
    """Ids are opaque: nothing is trimmed, folded or normalised."""
    assert validate_task_id(task_id) is task_id


@pytest.mark.parametrize(
    ("given_url", "base_url"),
    [
        ("https://www.ezmodel.cloud/v1", "https://www.ezmodel.cloud/v1"),
        ("https://www.ezmodel.cloud/v1/", "https://www.ezmodel.cloud/v1"),
        (" https://h.test/v1// ", "https://h.test/v1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("https://h.test/a/b/v1", "https://h.test/a/b/v1"),
    ],
)
def test_a_base_url_loses_its_trailing_slashes(given_url, base_url):
    """Both spellings mean the same."""
    assert base_url == validate_base_url(given_url)


@pytest.mark.parametrize(
    ("base_url", "trouble"),
    [
        (None, "is empty"),
        (5, "is empty"),
        ("", "is empty"),
        (" ", "is empty"),
        ("h.test/v1", "does not begin with"),
        ("ftp://h.test/v1", "does not begin with"),
        ("file:///v1", "does not begin with"),
        ("https://", "does not begin with"),
        ("https://:80/v1", "does not begin with"),
        ("https://h.test:0/v1", "does not begin with"),
        ("https://h.test:99999/v1", "can't be read"),
        ("https://h.test:port/v1", "can't be read"),
        ("https://[::1/v1", "can't be read"),
        ("https://user:pw@h.test/v1", "user or password"),
        ("https://@h.test/v1", "user or password"),
        ("https://h.test/v1?key=x", "query or fragment"),
        ("https://h.test/v1#top", "query or fragment"),
        ("https://h.test/v1?", "query or fragment"),
        ("https://h.test/v1#", "query or fragment"),
        ("https://h.test/a/../v1", ". or .. in its path"),
        ("https://h.test/./v1", ". or .. in its path"),
        ("https://h.test/a b", "no url may hold"),
        ("https://h.test/a\nb", "no url may hold"),
        ("https://h.test\\v1", "no url may hold"),
        ("https://hé.test/v1", "no url may hold"),
    ],
    ids=ascii,
)
def test_an_unusable_base_url_is_refused(base_url, trouble):
    """With a sentence that names the option and shows a good one, and not what was given."""
    with pytest.raises(ConfigError, match=re.escape(trouble)) as refused:
        validate_base_url(base_url)

    assert str(refused.value).startswith("base_url ")
    assert "https://www.ezmodel.cloud/v1" in str(refused.value)
    assert "pw" not in str(refused.value)


# -- the table of statuses ------------------------------------------------------------------

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
    (status, kind, retryable)
    for kind, statuses in CLASSES.items()
    for status, retryable in statuses.items()
]


@pytest.mark.parametrize(
    ("status", "kind", "retryable"), STATUSES, ids=[str(row[0]) for row in STATUSES]
)
def test_an_error_status_has_its_class(status, kind, retryable):
    """One class per reaction, and ``retryable`` says whether asking again may help."""
    body = {"error": {"message": "told", "type": "kind", "code": "word"}}

    error = error_of(body, status=status, headers={"X-Request-Id": "req_1", "Retry-After": "x"})

    assert type(error) is kind
    assert error.retryable is (retryable or kind is BadRequestError)
    assert (error.status, error.code, error.message) == (status, "word", "told")
    assert (error.error_type, error.request_id) == ("kind", "req_1")
    assert (error.task_id, error.body_excerpt) == ("vid_x", None)
    assert str(error).startswith(f"HTTP {status}: ")
    assert str(error).endswith("(word): told")


@pytest.mark.parametrize(("headers", "again"), [({}, False), ({"Retry-After": "5"}, True)])
def test_a_refusal_with_retry_after_may_be_tried_again(headers, again):
    """Azure sends it with some 400s; without it the same request fails again."""
    assert error_of({"message": "no"}, status=400, headers=headers).retryable is again


@pytest.mark.parametrize("status", [100, 101, 199, 600, 999, 0, -1])
def test_a_status_out_of_http_is_a_bad_response(status):
    """It says nothing about the task."""
    error = error_of({"id": "vid_x", "status": "done"}, status=status)

    assert (type(error), error.reason, error.status) == (BadResponseError, "schema", status)
    assert error.retryable


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_a_body_is_an_empty_answer(status):
    """Whatever came with it."""
    error = error_of({"id": "vid_x", "status": "done"}, status=status)

    assert (type(error), error.reason, error.status) == (BadResponseError, "empty", status)


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 226, 299])
def test_any_other_success_shows_the_task(status):
    """OpenRouter, ofox and merge answer 202."""
    assert outcome_of({"id": "vid_x", "status": "done"}, status=status).succeeded


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
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
def test_a_redirect_is_a_wrong_set_up(status, location, origin):
    """It is never followed; the error names the origin alone, without user, path and query."""
    error = error_of("", status=status, headers={"Location": location, "x-request-id": "r"})

    assert (type(error), error.reason, error.retryable) == (ConfigError, "redirect", False)
    assert (error.status, error.request_id, error.task_id) == (status, "r", "vid_x")
    assert origin in str(error)
    assert "s3cr3t" not in repr(vars(error)) + str(error)


@pytest.mark.parametrize(
    "code",
    ["task_not_found", "task_not_exist", "video_not_found", "not_found", "resource_not_found"],
)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429])
def test_a_not_found_code_wins_over_any_4xx(status, code):
    """New-api says 400; the code is compared in any case."""
    error = error_of({"code": code.upper(), "message": "m", "data": None}, status=status)

    assert (type(error), error.code, error.message) == (TaskNotFoundError, code.upper(), "m")


def test_a_not_found_code_under_5xx_is_the_servers_trouble():
    """The task may be there."""
    assert type(error_of({"code": "not_found"}, status=500)) is ServerError


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
def test_a_404_of_the_route_is_a_wrong_set_up(body, headers):
    """No id can be found there; the error asks about the base url."""
    error = error_of(body, status=404, headers=headers)

    assert (type(error), error.reason, error.retryable) == (ConfigError, "route", False)
    assert "does base_url end with /v1?" in str(error)


@pytest.mark.parametrize(
    "body",
    ["", "not found", {"detail": "Not Found"}, {"message": "no Invalid URL ("}, "[]", {}, "{"],
)
def test_any_other_404_is_about_the_task(body):
    """Also an empty one, and a page of JSON sent as a web page."""
    assert type(error_of(body, status=404)) is TaskNotFoundError
    as_page = error_of({"message": "gone"}, status=404, headers={"Content-Type": "text/html"})
    assert type(as_page) is TaskNotFoundError


@pytest.mark.parametrize(
    "code", ["insufficient_quota", "insufficient_user_quota", "billing_limit_exceeded"]
)
def test_a_429_of_a_used_up_quota_does_not_pass_by_waiting(code):
    """It is still a rate limit, but asking again does not help."""
    error = error_of({"error": {"code": code}}, status=429)

    assert (type(error), error.retryable) == (RateLimitError, False)
    assert "quota" in str(error)


@pytest.mark.parametrize(
    ("body", "retryable"), [(HTML, True), ({"error": "no"}, False), ("", False)]
)
def test_a_403_that_is_a_web_page_may_pass(body, retryable):
    """A firewall's page; JSON is the API's own word, and names the likely cause."""
    error = error_of(body, status=403)

    assert (type(error), error.retryable) == (PermissionDeniedError, retryable)


@pytest.mark.parametrize("status", [400, 404, 429, 500])
@pytest.mark.parametrize(
    ("sent", "retryable"), [("true", True), (" True ", True), ("false", False), ("FALSE", False)]
)
def test_x_should_retry_is_obeyed(status, sent, retryable):
    """Gateways of the OpenAI family know better than the table."""
    error = error_of({"message": "m"}, status=status, headers={"X-Should-Retry": sent})

    assert error.retryable is retryable


@pytest.mark.parametrize("status", [401, 402, 403, 501, 505])
def test_x_should_retry_does_not_turn_a_final_word(status):
    """A refused key or a method nobody implements is not asked for again, whoever says so."""
    error = error_of({"message": "m"}, status=status, headers={"X-Should-Retry": "true"})

    assert not error.retryable


@pytest.mark.parametrize("sent", ["", "1", "yes", "maybe"])
def test_another_x_should_retry_says_nothing(sent):
    """The table stands."""
    assert error_of("", status=500, headers={"X-Should-Retry": sent}).retryable
    assert not error_of("", status=501, headers={"X-Should-Retry": sent}).retryable


# -- error bodies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "message", "error_type"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c"}}, "c", "m", "t"),
        ({"error": {"message": "m", "type": "t", "code": ""}}, None, "m", "t"),
        ({"error": {"message": "m", "type": None, "code": None}}, None, "m", None),
        ({"error": {"message": "m", "code": 404}}, "404", "m", None),
        ({"error": {"code": "c"}, "message": "m"}, "c", "m", None),
        ({"error": {"message": "m"}, "code": "c", "type": "t"}, "c", "m", "t"),
        ({"code": "c", "error": "m"}, "c", "m", None),
        ({"error": "m"}, None, "m", None),
        ({"code": "c", "message": "m", "data": None}, "c", "m", None),
        ({"code": 1203, "msg": "m"}, "1203", "m", None),
        ({"message": "m", "msg": "n", "detail": "d"}, None, "m", None),
        ({"message": "", "msg": "n", "detail": "d"}, None, "n", None),
        (
            {"object": "error", "message": "m", "type": "NotFoundError", "code": 7},
            "7",
            "m",
            "NotFoundError",
        ),
        ({"detail": "d"}, None, "d", None),
        (
            {"detail": [{"loc": ["path", "id"], "msg": "bad", "type": "v"}]},
            None,
            "path.id: bad",
            None,
        ),
        (
            {"detail": [{"loc": ["body", 0, None, ["x"]], "msg": "a"}, {"msg": "b"}]},
            None,
            "body.0: a; b",
            None,
        ),
        ({"detail": [{"loc": ["q"]}, {"loc": "q", "msg": ""}, "text", None]}, None, "q", None),
        ({"detail": []}, None, None, None),
        ({"detail": {"message": "m"}}, None, None, None),
        ({"data": {"code": "c", "message": "m"}}, "c", "m", None),
        ({"code": "c", "message": "m", "data": {"message": "n"}}, "c", "m", None),
        ({"code": "success", "data": {"error": {"code": "c", "message": "m"}}}, "c", "m", None),
        ({"code": 0, "message": "", "data": {"message": "m"}}, None, "m", None),
        ({"code": "success", "data": None}, "success", None, None),
        ({"error": []}, None, None, None),
        ({}, None, None, None),
        ([], None, None, None),
        ("null", None, None, None),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict | list) else None,
)
@pytest.mark.parametrize("status", [200, 400, 503])
def test_code_message_and_type_are_found_in_every_form(status, body, code, message, error_type):
    """An error object, an error text, flat fields, FastAPI's details, and wrappers of those."""
    error = error_of(body, status=status)

    assert (code, message, error_type) == (error.code, error.message, error.error_type)
    assert error.body_excerpt is None


@pytest.mark.parametrize(
    ("body", "excerpt"),
    [
        (HTML, HTML),
        ("x" * 600, "x" * 500),
        ("é" * 600, "é" * 500),
        (b"\xff\xfe\x00", "\ufffd\ufffd\x00"),
        ("", None),
        ('{"error": {"message": "up', '{"error": {"message": "up'),
        (f'cut: "{SIGNED}"', 'cut: "https://cdn.example.test/v.mp4?…"'),
        (r'{"url": "https:\/\/h.test\/v?sig=s3cr3t"', r'{"url": "https:\/\/h.test\/v?…"'),
        (f"<a href='{SIGNED}#x'>v</a>", "<a href='https://cdn.example.test/v.mp4?…'>v</a>"),
    ],
    ids=lambda value: ascii(value)[:40],
)
@pytest.mark.parametrize("status", [200, 500])
def test_a_body_that_is_no_json_is_shown_in_part(status, body, excerpt):
    """At most 500 characters, whatever bytes it holds, and no signed url's query."""
    assert excerpt == error_of(body, status=status).body_excerpt


def test_the_sentence_is_one_printable_line():
    """What the server said is cut, escaped, and loses the queries of its urls."""
    told = {"code": "a\x1b]8;;\n", "message": f"{SIGNED} \u202e\ud800 " + "long " * 100}

    sentence = str(error_of(told, status=400))

    assert sentence.isprintable()
    assert "s3cr3t" not in sentence
    assert len(sentence) < 500
    assert sentence.endswith("…")


@pytest.mark.parametrize("status", [200, 400, 401, 404, 503])
@pytest.mark.parametrize(
    "told",
    [
        {"error": {"message": f"see {SIGNED} now", "code": SIGNED, "type": SIGNED}},
        {"error": f"see {SIGNED} now", "code": SIGNED},
        {"message": f"see {SIGNED} now", "code": SIGNED, "data": None},
        {"detail": [{"loc": ["body"], "msg": f"see {SIGNED} now"}]},
    ],
)
def test_no_attribute_of_an_error_holds_a_signed_urls_query(told, status):
    """What the server said is kept in full but for the queries of its urls."""
    error = error_of(told, status=status)

    assert error.message.endswith("see https://cdn.example.test/v.mp4?… now")
    assert "s3cr3t" not in f"{error}{vars(error)!r}"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", ["http://", "https:\\/\\/", "http://h?", "http:// ", "?#"])
def test_a_megabyte_of_urls_is_cut_in_linear_time(part):
    """Whatever a server repeats, with or without a query, reading it does not take minutes."""
    message = part * ((1 << 20) // len(part))

    error = error_of(json.dumps({"error": {"message": message}}), status=400)

    assert error.message.startswith(part[:7])


# -- successes that are none ----------------------------------------------------------------


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
        ("[" * 100_000, {}, "not_json"),
        ("[]", {}, "schema"),
        ("null", {}, "schema"),
        ('"ok"', {}, "schema"),
        ("5", {}, "schema"),
        ("true", {}, "schema"),
        ("{}", {}, "schema"),
        ({"code": "success", "data": None}, {}, "schema"),
        ({"error": {"message": "m"}}, {}, "schema"),
        ({"id": "vid_y", "status": "done"}, {}, "id_mismatch"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_success_without_a_task_is_a_bad_response(body, headers, reason):
    """With a reason, the status, the size and the request's id; asking again may help."""
    error = error_of(body, headers={**headers, "X-Oneapi-Request-Id": "req_2"})

    assert (type(error), error.reason, error.status) == (BadResponseError, reason, 200)
    assert (error.retryable, error.request_id, error.task_id) == (True, "req_2", "vid_x")
    assert " bytes)" in str(error)


def test_a_web_page_asks_about_the_base_url():
    """The console of a gateway answers where ``/v1`` is missing."""
    assert "does base_url end with /v1?" in str(error_of(HTML))


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ("null", "expected an object @ $, got null"),
        ("[]", "expected an object @ $, got an array"),
        ('"ok"', "expected an object @ $, got a text"),
        ("5", "expected an object @ $, got a number or boolean"),
        ("{}", "expected a status, an id or a url @ $"),
    ],
)
def test_a_bad_response_says_where_it_is_wrong(body, path):
    """The path is a bug report by itself."""
    assert error_of(body).paths == (path,)


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
        ("rate_limit_exceeded", RateLimitError, True),
        ("too_many_requests", RateLimitError, True),
        ("429", RateLimitError, True),
        ("server_error", BadResponseError, True),
        (1203, BadResponseError, True),
        (None, BadResponseError, True),
    ],
)
@pytest.mark.parametrize("form", ["nested", "flat", "wrapped"])
def test_an_error_under_success_is_read_by_its_code(form, code, kind, retryable):
    """Gateways send error envelopes under 200."""
    nested = {"error": {"code": code, "message": "told", "type": "kind"}}
    flat = {"code": code, "message": "told", "type": "kind", "data": None}
    body = {"nested": nested, "flat": flat, "wrapped": {"code": "success", "data": nested}}[form]

    error = error_of(body, headers={"Retry-After": "7", "X-Request-Id": "req_1"})

    assert (type(error), error.retryable) == (kind, retryable)
    assert (error.code, error.message) == (None if code is None else str(code), "told")
    assert (error.error_type, error.status, error.request_id) == ("kind", 200, "req_1")
    assert (error.retry_after, error.task_id) == (7.0, "vid_x")


def test_an_answer_about_another_task_is_refused():
    """A pooled connection may hand over somebody else's answer; the foreign id is told."""
    foreign = {"id": "vid_y", "task_id": "vid_z", "status": "completed"}

    error = error_of(foreign)

    assert (error.reason, error.answered_id) == ("id_mismatch", "vid_y")
    assert outcome_of(foreign, alias="vid_z").reason == "id_mismatch"
    assert outcome_of(foreign, alias="vid_y").id == "vid_x"
    assert outcome_of(foreign | {"task_id": "vid_x"}).id == "vid_x"


def test_a_task_carries_its_requests_id():
    """From either header, the standard one first; it takes no part in comparing tasks."""
    told = {"id": "vid_x", "status": "done"}
    both = {"X-Request-Id": "a", "X-Oneapi-Request-Id": "b"}

    assert outcome_of(told, headers=both).request_id == "a"
    assert outcome_of(told, headers={**both, "X-Request-Id": " "}).request_id == "b"
    assert outcome_of(told).request_id is None
    assert outcome_of(told, headers=both) == outcome_of(told)


def test_an_answer_does_not_show_its_body():
    """A repr in somebody's log holds no signed url."""
    assert SIGNED not in repr(Response(status=200, body=SIGNED.encode()))


# -- hints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "retry_after", "poll_after"),
    [
        ({}, None, None),
        ({"openai-poll-after-ms": "2500"}, None, 2.5),
        ({"openai-poll-after-ms": " 2500 "}, None, 2.5),
        ({"openai-poll-after-ms": "\x1f2"}, None, 0.002),
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
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30.0, None),
    ],
)
def test_the_hints_of_an_answer_are_read_whatever_its_status(headers, retry_after, poll_after):
    """``Retry-After`` and OpenAI's polling hint, in seconds."""
    for status in (200, 429, 503):
        hint = poll_hint(Response(status=status, headers=headers), unix_now=UNIX_NOW)
        assert (retry_after, poll_after) == (hint.retry_after, hint.poll_after)


@pytest.mark.parametrize(
    ("body", "status"), [("", 200), (HTML, 200), ("", 204), ("", 429), ("", 404), (HTML, 503)]
)
def test_every_error_of_an_answer_carries_retry_after(body, status):
    """Also a maintenance page under 200 may say when to come back."""
    headers = {"Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT"}
    if status == 404:
        body = {"message": "not yet"}

    assert error_of(body, status=status, headers=headers).retry_after == 30.0


# -- properties -----------------------------------------------------------------------------


@given(
    status=strategies.statuses,
    headers=strategies.headers,
    body=strategies.hostile_bodies(),
    alias=st.none() | strategies.task_ids,
)
@example(status=200, headers={}, body=b'{"status":' + b"[" * 900 + b"]" * 900 + b"}", alias=None)
@example(status=400, headers={}, body=b'{"detail":[{"loc":[[[]]],"msg":[]}]}', alias=None)
def test_decode_status_is_total(status, headers, body, alias):
    """Any status, headers and bytes give a task or an error of ours, and raise nothing."""
    outcome = decode_task(
        Response(status=status, headers=headers, body=body),
        task_id=ASKED,
        base_url=BASE_URL,
        unix_now=UNIX_NOW,
        alias=alias,
    )

    assert isinstance(outcome, VideoTask | EzVideoError)
    assert TOKEN not in repr(outcome) + str(outcome)
    if isinstance(outcome, EzVideoError):
        assert TOKEN not in repr(outcome.args) + repr(vars(outcome))
        assert str(outcome).isprintable()
        assert outcome.task_id == ASKED
    else:
        assert status // 100 == 2
        assert outcome.id == ASKED
        assert outcome.progress is None or 0 <= outcome.progress <= 100
        json.dumps(outcome.to_dict())
        assert VideoTask.from_dict(outcome.to_dict()).status is outcome.status


@given(strategies.hostile_objects)
def test_a_task_is_read_whatever_its_fields_hold(told):
    """With an id and a status no other field can spoil the answer, and ``raw`` is the answer."""
    answer = {**told, "id": ASKED, "status": "processing"}

    task = task_of(answer)

    assert task.status is TaskStatus.PROCESSING
    assert task.raw == json.loads(json.dumps(answer))
    assert task == task_of(json.dumps(answer, indent=3))


@pytest.mark.fault("J12")
@given(task=strategies.canonical_tasks(), extra=strategies.hostile_values)
def test_unknown_keys_change_nothing(task, extra):
    """What no table names is kept in ``raw`` alone."""
    shape = task.to_dict()

    more = {"x_vendor": extra, "prompt": extra, "polling_url": extra, **shape, "object": extra}

    assert VideoTask.from_dict(shape) == VideoTask.from_dict(more)


@given(told=strategies.hostile_objects, data=st.data())
def test_the_order_of_keys_changes_nothing(told, data):
    """An object has no order: the tables have one."""
    body = json.dumps(told)
    shuffled = dict(data.draw(st.permutations(list(told.items()))))

    first, second = outcome_of(body), outcome_of(json.dumps(shuffled))

    assert type(first) is type(second)
    if isinstance(first, VideoTask):
        assert first == second
    else:
        assert (str(first), first.code) == (str(second), second.code)


@given(task=strategies.canonical_tasks())
def test_wrapping_a_task_changes_nothing(task):
    """Up to three levels around it are only paper."""
    shape = task.to_dict()

    for wrapped in (
        {"code": "success", "message": "", "data": shape},
        {"task": {"video_task": shape}},
        {"data": {"data": {"data": shape}}, "request_id": "trace"},
    ):
        assert VideoTask.from_dict(wrapped) == task


@pytest.mark.parametrize(
    ("base_url", "in_clear"),
    [
        ("https://api.example.test/v1", False),
        ("http://api.example.test/v1", True),
        ("http://10.0.0.5:3000/v1", True),
        ("http://127.0.0.1:8080/v1", False),
        ("http://localhost/v1", False),
        ("http://[::1]:8080/v1", False),
    ],
)
def test_a_key_sent_in_clear_is_noticed(base_url, in_clear):
    """Plain http is safe on this machine only."""
    assert sends_in_clear(base_url) is in_clear
