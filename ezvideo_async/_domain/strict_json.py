"""
Strict JSON decoder: bytes to values.

Rules:

1. The text is UTF-8; one byte order mark at the start is dropped.
2. A key occurs once in an object; with "the last one wins" a proxy could rewrite a status.
3. ``NaN``, ``Infinity`` and numbers beyond a double are read as null, so that every value equals
   itself.
4. A value has at most 100 levels, so that objects that hold it can be copied and pickled.
5. Every error is a ``ValueError``, also for nesting beyond the recursion limit and for integers of
   thousands of digits.
6. A body of more than 64 KiB has at most 20,000 brackets and commas, so that decoding takes no
   longer than copying such a body; they are counted before anything is decoded.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_DEPTH: Final = 100
"""Levels; ``copy.deepcopy`` needs two frames for each, of the 1,000 that Python allows."""

_COUNTED_FROM = 65_536  # bytes; a smaller body has too few values to take long
_MAX_MARKS = 20_000  # 15 ms on a core of 2024; the longest real response has some hundreds

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANKS = " \t\n\r"


class TooManyValuesError(ValueError):
    """A body has too many values to be decoded in a bounded time."""


def decode_json(body: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Return the JSON value in *body*; raise ValueError, nothing else, by the rules above."""
    if len(body) > _COUNTED_FROM and sum(map(body.count, (b"{", b"[", b","))) > _MAX_MARKS:
        raise TooManyValuesError("more than 20,000 brackets and commas")
    text = body.removeprefix(_BYTE_ORDER_MARK).decode("utf-8").strip(_BLANKS)
    try:
        value, end = _DECODER.raw_decode(text)  # faster than ``decode``
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if end != len(text):
        raise ValueError("more than one value")
    # Most bodies have too few brackets to be nested too deeply.
    if text.count("{") + text.count("[") > max_depth and _is_deeper(value, max_depth):
        raise ValueError("nested too deeply")
    return value


def _is_deeper(value: Any, max_depth: int) -> bool:
    level = [value]
    for _ in range(max_depth):
        inner = [item for holder in level for item in _values(holder)]
        level = [item for item in inner if isinstance(item, dict | list)]
    return bool(level)


def _values(holder: Any) -> Iterable[Any]:
    if isinstance(holder, dict):
        return holder.values()
    return holder if isinstance(holder, list) else ()


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return unique


def _finite_or_none(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_of_unique_keys,
    parse_float=_finite_or_none,
    parse_constant=lambda _text: None,
)
