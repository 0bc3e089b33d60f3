"""
Strict JSON: bytes to values, and nothing that only looks like one.

No await, no clock, no randomness, no I/O.

Rules:

1. The text is UTF-8; one byte order mark in front is dropped.
2. A key stands once in an object; "last one wins" would let a proxy rewrite a status.
3. ``NaN``, ``Infinity`` and numbers beyond a double are read as null, so that no value
   here compares unequal to itself.
4. A value is at most 100 levels deep, so that whatever holds one can be copied and pickled.
5. Whatever is wrong, the error is a ``ValueError``: also nesting beyond the recursion limit and
   integers of thousands of digits.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_DEPTH: Final = 100
"""Levels; ``copy.deepcopy`` takes two frames for each, of the 1,000 that Python allows."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANKS = " \t\n\r"


def decode_json(body: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """
    Read one JSON value.

    Args:
        body: The text.
        max_depth: Levels of arrays and objects that may be within each other.

    Raises:
        ValueError: *body* is not JSON by the rules above; nothing else.
    """
    text = body.removeprefix(_BYTE_ORDER_MARK).decode("utf-8").strip(_BLANKS)
    value, end = None, len(text)
    try:
        value, end = _DECODER.raw_decode(text)  # ``decode`` takes a tenth longer
    except RecursionError:
        is_too_deep = True
    else:
        # Most answers do not open enough brackets, let alone one within the other.
        is_too_deep = text.count("{") + text.count("[") > max_depth and _is_deeper(value, max_depth)
    if is_too_deep or end != len(text):
        message = "nested too deeply" if is_too_deep else "more than one value"
        raise ValueError(message)
    return value


def _is_deeper(value: Any, max_depth: int) -> bool:
    level = [value]
    for _ in range(max_depth):
        inner = [each for holder in level for each in _values(holder)]
        level = [each for each in inner if isinstance(each, dict | list)]
    return bool(level)


def _values(holder: Any) -> Iterable[Any]:
    if isinstance(holder, dict):
        return holder.values()
    return holder if isinstance(holder, list) else ()


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
