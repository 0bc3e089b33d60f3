"""Hypothesis strategies of response bodies: tasks and errors of real servers, damaged anywhere."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ezvideo_async._protocol import dialects
from tests.support.strategies import hostile_values, texts

ASKED = "vid_x"
ALIAS = "upstream-7"
CANARY = "s3cr3t-0f-a-signed-url"
SIGNED = f"https://cdn.example.test/v.mp4?sig={CANARY}&e=1#t"

_SAMPLES = Path(__file__).parents[2] / "samples" / "cases.jsonl"
RECORDED = [json.loads(line)["body"] for line in _SAMPLES.read_text("utf-8").splitlines()]

# -- values ---------------------------------------------------------------------------------------

_RAW = (
    *("-0", "0.004", "45.9", "1e2", "4.5E+1", "5e-324", "1e308", "1e400", "-1e400", "1e-400"),
    *("NaN", "Infinity", "-Infinity", "1767225600.75", "1767225600922000000", "1e11"),
    *("007", "+1", ".5", "1.", "0x10", "1_000", "--1", "1e", "\u0663", "1,5", "-", "nan", "True"),
    *("9" * 310, "9" * 4299, "9" * 5000, "undefined", "'x'", ""),
    *(depth * "[" + depth * "]" for depth in (2, 90, 480, 970, 12_000)),
    *(depth * '{"url":' + "1" + depth * "}" for depth in (20, 200, 2_000)),
    '{"a":1,"a":2}',
)
"""JSON that ``json.dumps`` does not write, and text that is not JSON."""
_PLACEHOLDER = re.compile(r'"@raw (\d+)@"')
_raws = st.integers(0, len(_RAW) - 1).map("@raw {}@".format)

_TEXTS = (
    *(
        "",
        " ",
        "null",
        "0",
        "45%",
        "30 %",
        ".5%",
        " 4_5 ",
        "\u0663",
        "1e3",
        "9" * 40,
        "10.0",
        "3.4",
    ),
    *("1280x720", "720\u00d71280", "720P", "1x1x1", "999999999x1", "success", "0001-01-01"),
    *("2026-01-01T00:00:00Z", "2026-W01-1", "20260101T000000.123456+0545"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1969-12-31T23:59:59Z"),
    *("\ud800", "\x00", "\x1b]8;;http://x\x07", "\u202egpj\u2069", "\ufeff", "a\r\nb", "\u2028"),
    *("视频生成失败", "x" * 300, "{}", '{"url":""}', '{"url": "https://h.test/m.mp4"}', ASKED),
)
_URLS = (
    *("https://cdn.example.test/v.mp4", SIGNED, "/v1/videos/vid_x/content", "http://[::1]/v"),
    *("HTTPS://h.test", "http://h.test:99999/", "https://u:p@h.test/v", "https://h.test/a b"),
    *("https://", "https:///v", "http://[::1", "https://h.test/\u202e", "//h/v", "/\\evil"),
    *("data:video/mp4;base64,AAAA", "data:text/html,x", "javascript:alert(1)", "file:///etc/x"),
    *(
        "https://\ud800/",
        "https://h\u2100",
        "https://h.test:-1/",
        "/",
        "https://h.test/" + "x" * 3000,
    ),
)
_CODES = (
    *dialects.NOT_FOUND_CODES,
    *dialects.AUTHENTICATION_CODES,
    *dialects.RATE_LIMIT_CODES,
    *dialects.QUOTA_CODES,
    *("success", "0", "", "200", "ok", "content_policy_violation"),
)
_STATUS_VALUES = (
    *dialects.STATUS_VALUES,
    *("COMPLETED", " Failed ", "IN PROGRESS", "in-progress", "Time  Out", "brewing", "moderated"),
    *("completed\x00", "c\u043empleted", "\ufeffcompleted", "FA\u0131LED"),
)
_codes = st.sampled_from(_CODES)
_urls = st.sampled_from(_URLS)
_messages = st.sampled_from((*_TEXTS, SIGNED, f"see {SIGNED} now")) | texts
_instants = st.sampled_from((1767225600, 1767225600922, 253402300800, 0, -1, *_TEXTS)) | _raws
values = hostile_values | _raws | st.sampled_from(_TEXTS) | _urls | _codes
"""Values of any type in any place."""

# -- tasks, errors and their envelopes ------------------------------------------------------------

_FIELDS: tuple[tuple[tuple[str, ...], st.SearchStrategy[Any]], ...] = (
    (dialects.STATUS_FIELDS, st.sampled_from(_STATUS_VALUES)),
    (
        dialects.ID_FIELDS,
        st.sampled_from([ASKED] * 30 + [ALIAS, "vid_y", "VID_X", "", " ", "\ud800"]),
    ),
    (("progress",), st.integers(-5, 200) | st.sampled_from(("45%", "0.5")) | _raws),
    (dialects.CREATED_AT_FIELDS, _instants),
    (dialects.COMPLETED_AT_FIELDS, _instants),
    (dialects.EXPIRES_AT_FIELDS, _instants),
    (("seconds", "duration"), st.sampled_from(("10.0", "8", 3.4, *_TEXTS)) | _raws),
    (("size",), st.sampled_from(("1280x720", "1920*1080", *_TEXTS))),
    (("model",), st.sampled_from(("sora-2", *_TEXTS))),
    (dialects.FAILURE_REASON_FIELDS, st.sampled_from((*_TEXTS, *_URLS))),
    (tuple({place[0] for place in dialects.URL_PLACES}), values),
    (("metadata", "error", "code", "type", "loc", "object", "request_id"), values),
)


@st.composite
def tasks(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an object with the fields of a task, most of them valid."""
    found: dict[str, Any] = {}
    for number, (names, drawn) in enumerate(_FIELDS):
        if number < 2 or draw(st.booleans()):
            found[draw(st.sampled_from(names))] = draw(drawn)
    if draw(st.booleans()):
        first, *inner = draw(st.sampled_from(dialects.URL_PLACES))
        found[first] = draw(_urls)
        for name in reversed(inner):
            found[first] = {name: found[first]}
    return found


@st.composite
def errors(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an error body in one of the shapes that servers send."""
    code, message = draw(_codes), draw(_messages)
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return {"error": draw(st.sampled_from((message, None, [], [message]))), "code": code}
    if kind == 1:
        return {"code": code, draw(st.sampled_from(("message", "msg"))): message, "data": None}
    if kind == 2:
        fault = {"loc": [draw(values), draw(values)], "msg": message, "type": "missing"}
        return {"detail": draw(st.sampled_from((message, [fault], [fault, fault, 1])))}
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


@st.composite
def _wrapped(draw: st.DrawFn) -> Any:
    value = draw(tasks() if draw(st.integers(0, 4)) else errors())
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2, 4)))):
        beside = {"code": draw(_codes), "message": "", "request_id": "trace"}
        value = {**beside, draw(st.sampled_from(dialects.ENVELOPE_FIELDS)): value}
    return value


def _replaced(draw: st.DrawFn, value: Any) -> Any:
    """Replace, remove or rename one part of a tree."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(values)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    changed = value.copy()
    if draw(st.integers(0, 5)) == 0:
        del changed[key]
    elif isinstance(changed, dict) and draw(st.integers(0, 5)) == 0:
        changed[draw(st.sampled_from(keys) | texts)] = changed.pop(key)
    else:
        changed[key] = _replaced(draw, value[key])
    return changed


@st.composite
def json_texts(draw: st.DrawFn) -> str:
    """Draw a task, an error or a recorded body, with up to two parts changed, as JSON text."""
    kind = draw(st.integers(0, 19))
    value = draw(_wrapped() if kind < 14 else st.sampled_from(RECORDED) if kind < 19 else values)
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        value = _replaced(draw, value)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return _PLACEHOLDER.sub(lambda match: _RAW[int(match[1])], text)


# -- bytes ----------------------------------------------------------------------------------------

PAGE = b"<!doctype html><title>404 page not found</title>"


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """Damage bytes: cut, insert, repeat, encode otherwise, or replace all of them."""
    at = draw(st.integers(0, len(body)))
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return body[:at]
    if kind == 1:
        return body[:at] + draw(st.binary(max_size=5)) + body[at + draw(st.integers(0, 3)) :]
    if kind == 2:
        return body[: at + draw(st.integers(1, 40))] + body[at:]
    if kind == 3:
        encoding = draw(st.sampled_from(("utf-16", "utf-32", "latin-1", "utf-7", "gb18030")))
        return body.decode("utf-8", "replace").encode(encoding, "replace")
    if kind == 4:
        return draw(st.sampled_from((PAGE, b")]}',\n", b"data: ", b"\x00", b"[", b"{"))) + body
    if kind == 5:
        return body + draw(st.sampled_from((PAGE, b"\x00", b"}", b"]", b",", body, b"\xff")))
    return draw(st.sampled_from((b"", b" \n", PAGE, gzip.compress(body), b"null")))


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Draw a body, and whether it is the JSON text as it was written."""
    body = draw(json_texts()).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        body = draw(st.sampled_from((b"\xef\xbb\xbf", b" \r\n\t"))) + body + b"\n"
    if draw(st.integers(0, 7)) == 0:
        return draw(damaged(body)), False
    return body, True
