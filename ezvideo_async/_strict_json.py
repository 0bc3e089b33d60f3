"""
Strict JSON: bytes to values, and nothing that only looks like one.

No await, no clock, no randomness, no I/O.

Rules:

1. The text is UTF-8; one byte order mark in front is dropped.
2. A key stands once in an object; "last one wins" would let a proxy rewrite a status.
3. ``NaN``, ``Infinity`` and numbers beyond a double are read as null, so that no value
   here compares unequal to itself.
4. Whatever is wrong, the error is a ``ValueError``: also nesting beyond the recursion limit and
   integers of thousands of digits.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def decode_json(body: bytes) -> Any:
    """
    Read one JSON value.

    Raises:
        ValueError: *body* is not JSON by the rules above; nothing else.
    """
    text = body.removeprefix(_BYTE_ORDER_MARK).decode("utf-8")
    try:
        return _DECODER.decode(text)
    except RecursionError:
        pass
    message = "nested too deeply"
    raise ValueError(message)


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a key stands twice in one object"
        raise ValueError(message)
    return found


def _finite_or_none(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


def _no_constant(_text: str) -> None:
    return None


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_of_unique_keys,
    parse_float=_finite_or_none,
    parse_constant=_no_constant,
)
