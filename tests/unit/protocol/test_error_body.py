"""Error code, message and type of a body, in the shapes of all known gateways."""

from __future__ import annotations

import json

import pytest

from ezvideo_async._protocol.error_body import ErrorBody, error_line
from tests.support.response_bodies import error_of


def error_body(body):
    """Return what is read of the body of an error status."""
    error = error_of(body, status=500)
    return ErrorBody(error.code, error.message, error.error_type)


SIGNED_URL = "https://cdn.example.test/v.mp4?sig=s3cr3t"


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
        ({"object": "error", "message": "m", "type": "NotFound", "code": 7}, "7", "m", "NotFound"),
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
        ({"detail": {"message": "m"}}, None, "m", None),
        ({"detail": {"error": "m"}}, None, "m", None),
        ({"detail": {"error": {"message": "m"}}}, None, "m", None),
        ({"detail": {"error": 5}}, None, None, None),
        ({"base_resp": {"status_code": 1004, "status_msg": "m"}}, "1004", "m", None),
        ({"base_resp": {"status_code": 0, "status_msg": "success"}}, "0", "success", None),
        ({"base_resp": "no"}, None, None, None),
        ({"status": 404, "error": "m", "path": "/x"}, "404", "m", None),
        ({"status": 399, "message": "m"}, None, "m", None),
        ({"statusCode": 404, "message": "m"}, "404", "m", None),
        ({"error_code": 17, "error_msg": "m"}, "17", "m", None),
        ({"errcode": 40001, "errmsg": "m"}, "40001", "m", None),
        ({"errorCode": "c", "errorMsg": "m"}, "c", "m", None),
        ({"error": {"code": "c", "message": "", "raw_message": "m"}}, "c", "m", None),
        ({"data": {"code": "c", "message": "m"}}, "c", "m", None),
        ({"code": "c", "message": "m", "data": {"message": "n"}}, "c", "m", None),
        ({"code": "success", "data": {"error": {"code": "c", "message": "m"}}}, "c", "m", None),
        ({"code": 0, "message": "", "data": {"message": "m"}}, None, "m", None),
        ({"code": "success", "data": None}, "success", None, None),
        ({"error": []}, None, None, None),
        ({}, None, None, None),
        ([], None, None, None),
        ("null", None, None, None),
        ("<html>", None, None, None),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict | list) else None,
)
def test_code_message_and_type_are_found(body, code, message, error_type):
    """In an error object, an error text, flat fields, FastAPI's details, or an envelope."""
    assert error_body(body) == ErrorBody(code, message, error_type)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": f"see {SIGNED_URL} now", "code": SIGNED_URL, "type": SIGNED_URL}},
        {"error": f"see {SIGNED_URL} now", "code": SIGNED_URL},
        {"message": f"see {SIGNED_URL} now", "code": SIGNED_URL, "data": None},
        {"detail": [{"loc": ["body"], "msg": f"see {SIGNED_URL} now"}]},
    ],
)
def test_queries_of_urls_are_redacted(body):
    """A signed url is a key to the video."""
    error = error_body(body)

    assert error.message.endswith("see https://cdn.example.test/v.mp4?… now")
    assert "s3cr3t" not in repr(error)


@pytest.mark.fault("Q19")
def test_texts_of_an_error_are_cut():
    """A server may send a megabyte at each poll."""
    for body in (
        {"message": " m" * 9999, "code": "c" * 9999, "type": "t" * 9999},
        {"error": {"message": " m" * 9999, "code": "c" * 9999, "type": "t" * 9999}},
        {
            "detail": [{"loc": ["x" * 9999], "msg": "m" * 9999}],
            "code": "c" * 9999,
            "type": "t" * 999,
        },
    ):
        error = error_body(body)
        assert (len(error.message), len(error.code)) == (2000, 200)
        assert len(error.error_type) == 200


def test_first_twenty_issues_of_fastapi_are_read():
    """A message is no place for ten thousand of them."""
    issues = [{"loc": [number], "msg": "m"} for number in range(99)]

    message = error_body({"detail": issues}).message

    assert message == "; ".join(f"{number}: m" for number in range(20))


def test_error_line_is_printable():
    """What the server sent is escaped and cut."""
    error = ErrorBody(code="a\x1b]8;;\n", message="\u202e\ud800 " + "long " * 100)

    line = error_line("HTTP 400", error)

    assert line.startswith(r"HTTP 400 (a\x1b]8;;\n): \u202e\ud800 long ")
    assert line.isprintable()
    assert line.endswith("…")
    assert len(line) < 500


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", ["http://", "https:\\/\\/", "http://h?", "http:// ", "?#"])
def test_megabyte_of_urls_is_redacted_in_linear_time(part):
    """Whatever a server repeats, with or without a query."""
    message = part * ((1 << 20) // len(part))

    assert error_body({"message": message}).message.startswith(part[:7])
