"""Bytes that are JSON are read, and whatever only looks like JSON is a ``ValueError``."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._domain.strict_json import MAX_DEPTH, decode_json
from tests.support.strategies import json_values


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"null", None),
        (b" \t\r\n{}\n", {}),
        (b"\xef\xbb\xbf{}", {}),
        (b"\xef\xbb\xbf \n[1]", [1]),
        (b"[NaN, Infinity, -Infinity, 1e400, -1e400]", [None] * 5),
        (b"[1e300, 1.5, -0.0]", [1e300, 1.5, -0.0]),
        (b'{"a": {"b": 1}, "b": 2}', {"a": {"b": 1}, "b": 2}),
        (b'"\\ud800"', "\ud800"),
        (b'"\\u0000"', "\x00"),
        (b"1" + b"0" * 30, 10**30),
    ],
)
def test_json_is_read(body, value):
    """A byte order mark is dropped, and numbers beyond a double are null."""
    assert value == decode_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"a": 1,}',
        b"{'a': 1}",
        b"{} {}",
        b"nul",
        b"\xff\xfe{\x00}\x00",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"a\nb"',
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"status": "failed", "\\u0073tatus": "completed"}',
        b"9" * 5000,
        b"[" * 100_000,
        b"[" * 101 + b"]" * 101,
        b'[{"b": 1}, ' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"]",
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"<html>",
    ],
    ids=lambda body: f"{len(body)} bytes, {body[:24]!r}",
)
def test_what_is_no_strict_json_is_a_value_error(body):
    """Whatever is wrong with it: nesting and thousands of digits too, and keys that stand twice."""
    with pytest.raises(ValueError):
        decode_json(body)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('["[{",', "]")])
def test_a_value_is_at_most_a_hundred_levels_deep(opening, closing):
    """Any number side by side, and brackets in texts, are no depth."""
    deepest = opening * MAX_DEPTH + "1" + closing * MAX_DEPTH
    body = f"[{','.join([deepest[len(opening) : -len(closing)]] * 3)}]".encode()

    assert json.loads(body) == decode_json(body)
    with pytest.raises(ValueError, match="nested too deeply"):
        decode_json(b"[" + body + b"]")


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_value_error(body):
    """Nothing else leaves the decoder."""
    try:
        decode_json(body)
    except ValueError:
        return


@given(json_values())
def test_what_was_dumped_is_read_back(value):
    """The strict rules change nothing about sound JSON."""
    assert value == decode_json(json.dumps(value).encode())
