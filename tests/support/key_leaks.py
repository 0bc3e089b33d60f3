"""
API key leak detection: in texts, values, exceptions, stack frames and logs.

A key is found by any piece of 8 characters, verbatim or escaped for JSON, urls or Python.  Values
are searched to a bounded depth: attributes, slots, items.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ezvideo_async._transport.credentials import ApiKey

PIECE = 8
"""Characters; pieces start at every fourth, so that any eleven characters contain one."""

_DEPTH = 6
_ITEMS = 1000
_NOT_SEARCHED = (ApiKey, ModuleType, type, FunctionType, MethodType, asyncio.AbstractEventLoop)
"""What may hold the key, and what holds nothing of the library."""


@lru_cache
def _traces(key: str) -> tuple[str, ...]:
    """Return the pieces of the key in every form, in lower case."""
    starts = range(0, max(1, len(key) - PIECE + 1), PIECE // 2)
    pieces = [key[start : start + PIECE] for start in starts]
    return tuple(form.lower() for piece in pieces for form in (piece, *_escaped(piece)))


def _escaped(piece: str) -> Iterator[str]:
    for form in ("\\u{:04x}", "%{:02x}", "\\x{:02x}"):
        yield "".join(form.format(ord(character)) for character in piece)


def has_key(text: str | bytes, key: str) -> bool:
    """Return True if a text shows the key or a piece of it."""
    lowered = (text if isinstance(text, str) else text.decode("latin-1")).lower()
    return any(trace in lowered for trace in _traces(key))


def assert_no_key(text: str | bytes, *, key: str) -> None:
    """Fail if a text shows the key or a piece of it."""
    assert not has_key(text, key), text


# -- values ---------------------------------------------------------------------------------------


def walk(value: object, name: str = "value", *, depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """
    Yield a value and all that it holds, with names: items, attributes, slots, notes.

    Only containers, exceptions and objects of the library are entered; of others the ``repr``
    counts.
    """
    yield from _walk(value, name, depth, {})


def _walk(
    value: object, name: str, depth: int, visited: dict[int, object]
) -> Iterator[tuple[str, Any]]:
    if isinstance(value, _NOT_SEARCHED) or id(value) in visited:
        return
    visited[id(value)] = value  # kept alive, so that no id is reused
    yield name, value
    if depth > 0:
        for suffix, inner in _inside(value):
            yield from _walk(inner, f"{name}{suffix}", depth - 1, visited)


def _inside(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for index, (key, item) in zip(range(_ITEMS), list(value.items()), strict=False):
            yield f".key{index}", key
            yield f"[{index}]", item
    elif isinstance(value, Iterable) and isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{index}]", item) for index, item in zip(range(_ITEMS), value, strict=False))
    if isinstance(value, BaseException) or type(value).__module__.startswith("ezvideo_async."):
        yield from ((f".{name}", inner) for name, inner in _attributes(value))


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            yield slot, getattr(value, slot, None)
    for name in ("args", "raw") if isinstance(value, BaseException) else ("raw",):
        yield name, getattr(value, name, None)


def _is_of_aiohttp(value: object) -> bool:
    return type(value).__module__.startswith("aiohttp")


def assert_keyless(value: object, name: str = "value", *, key: str, depth: int = _DEPTH) -> None:
    """Fail if the key is in a value, or in anything that it holds."""
    texts = [(where, _text_of(inner)) for where, inner in walk(value, name, depth=depth)]
    if has_key("\n".join(text for _, text in texts), key):
        raise AssertionError([pair for pair in texts if has_key(pair[1], key)])


def _text_of(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else repr(value)


# -- errors ---------------------------------------------------------------------------------------


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its causes, its contexts, and the errors of a group."""
    waiting: list[BaseException | None] = [error]
    visited: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in visited:
            visited.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__, getattr(each, "last_error", None)]
            waiting += getattr(each, "exceptions", ())


def locals_of(error: BaseException, *packages: str) -> Iterator[tuple[str, Any]]:
    """Yield the local variables of some packages' frames on an error's traceback."""
    for frame, _line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals["__name__"].partition(".")[0] in packages:
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_qualname}.{name}", value


def our_locals(error: BaseException) -> Iterator[tuple[str, Any]]:
    """Yield the local variables of the library's frames on an error's traceback."""
    yield from locals_of(error, "ezvideo_async")


def assert_clean(error: BaseException, *, key: str) -> None:
    """Fail if an error holds the key or an object of aiohttp."""
    for each in chain(error):
        assert_no_key(f"{each}\n{each!r}\n{each.args!r}", key=key)
        assert_no_key("".join(traceback.format_exception(each)), key=key)
        assert_keyless(each, type(each).__name__, key=key)
        for where, inner in walk(each):
            assert not _is_of_aiohttp(inner), where
        assert_clean_frames(each, key=key)
        for name, value in our_locals(each):
            assert not _is_of_aiohttp(value), name
            for slot in getattr(type(value), "__slots__", ()):
                assert not _is_of_aiohttp(getattr(value, slot, None)), f"{name}.{slot}"


def assert_clean_frames(error: BaseException, *, key: str) -> None:
    """Fail if a local variable on the traceback, such as Sentry reports, holds the key."""
    for name, value in locals_of(error, "ezvideo_async", "aiohttp", "asyncio", "anyio"):
        assert_keyless(value, name, key=key)


# -- logs -----------------------------------------------------------------------------------------


class LeakHandler(logging.Handler):
    """
    A handler for the root logger that searches every record.

    Attributes:
        counts: Number of records, by the first part of their logger's name.
        leaks: The records in which the key is.
    """

    def __init__(self, key: str) -> None:
        super().__init__(logging.DEBUG)
        self.key = key
        self.counts: dict[str, int] = {}
        self.leaks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Search a record as it is written, and as a structured reporter would read it."""
        package = record.name.partition(".")[0]
        self.counts[package] = self.counts.get(package, 0) + 1
        try:
            assert_no_key(f"{self.format(record)}\n{vars(record)!r}", key=self.key)
            if record.exc_info and record.exc_info[1] is not None:
                assert_clean_frames(record.exc_info[1], key=self.key)
        except AssertionError as leak:
            self.leaks.append(f"{record.name}: {leak}")
