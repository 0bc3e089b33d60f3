"""Strict JSON decoder: values that are read, and bytes that are a ``ValueError``."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._domain.strict_json import MAX_DEPTH, TooManyValuesError, decode_json
from tests.support.strategies import json_values, texts


@pytest.mark.fault("J1")
@pytest.mark.fault("J3")
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
def test_json_is_decoded(body, value):
    """A byte order mark is dropped, and numbers beyond a double are null."""
    assert decode_json(body) == value


@pytest.mark.fault("J1")
@pytest.mark.fault("J2")
@pytest.mark.fault("J4")
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
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32-be"),
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
def test_other_bytes_are_a_value_error(body):
    """Also deep nesting, thousands of digits, and a key that occurs twice."""
    with pytest.raises(ValueError):
        decode_json(body)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('["[{",', "]")])
def test_value_has_at_most_a_hundred_levels(opening, closing):
    """Objects side by side, and brackets in texts, do not count."""
    deepest = opening * MAX_DEPTH + "1" + closing * MAX_DEPTH
    body = f"[{','.join([deepest[len(opening) : -len(closing)]] * 3)}]".encode()

    assert decode_json(body) == json.loads(body)
    with pytest.raises(ValueError, match="nested too deeply"):
        decode_json(b"[" + body + b"]")


_PADDING = b" " * 65_536


@pytest.mark.parametrize(
    "many",
    [
        b"[" + b"{}," * 10_000 + b"{}]",
        b"[" + b"[]," * 10_000 + b"[]]",
        b"[" + b"0," * 20_000 + b"0]",
        b'"' + b"," * 20_001 + b'"',
        b"[" * 20_001,
        b"{" * 12_000 + b"[" * 12_000,
    ],
    ids=lambda body: f"{len(body)} bytes, {body[:24]!r}",
)
def test_long_body_with_too_many_values_is_not_decoded(many):
    """Brackets and commas are counted first, also in texts; a body of up to 64 KiB is decoded."""
    with pytest.raises(TooManyValuesError):
        decode_json(many + _PADDING)
    with pytest.raises(TooManyValuesError):
        decode_json(_PADDING + many)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"0," * 19_999 + b"0]" + _PADDING,
        b"[" + b"0," * 32_000 + b"0]",
        b'{"url": "data:video/mp4;base64,' + b"A" * (4 << 20) + b'"}',
    ],
    ids=lambda body: f"{len(body)} bytes, {body[:24]!r}",
)
def test_long_body_with_few_values_is_decoded(body):
    """New-api inlines a finished video."""
    assert decode_json(body) == json.loads(body)


@pytest.mark.fault("J5")
@given(
    key=texts.filter(bool),
    one=json_values(4),
    two=json_values(4),
    around=st.lists(st.sampled_from(["data", "metadata", "x"]), max_size=3),
)
def test_key_that_occurs_twice_is_a_value_error(key, one, two, around):
    """At any depth, with equal values too, and with an escaped letter."""
    again = json.dumps(key)
    if ord(key[0]) <= 0xFFFF:
        again = f'"\\u{ord(key[0]):04x}{json.dumps(key[1:])[1:]}'
    body = f"{{{json.dumps(key)}: {json.dumps(one)}, {again}: {json.dumps(two)}}}"
    for name in around:
        body = f'{{"{name}": [{body}]}}'

    with pytest.raises(ValueError, match="occurs twice"):
        decode_json(body.encode())


@given(st.binary(max_size=60))
def test_decoder_raises_only_value_errors(body):
    """Any bytes give a value or a ``ValueError``."""
    try:
        decode_json(body)
    except ValueError:
        return


@given(json_values())
def test_dumped_value_is_decoded_unchanged(value):
    """The strict rules do not change valid JSON."""
    assert decode_json(json.dumps(value).encode()) == value
