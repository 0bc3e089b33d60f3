"""
What must not be found anywhere: the key, in any form, and anything of aiohttp.

A key is found where its text stands, or a piece of it, or what an escape for JSON, urls or HTML
or Base64 makes of it.  Values are walked through, to a bounded depth: attributes, slots, items.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ezvideo_async._transport.credentials import ApiKey

PIECE = 8
"""Characters; pieces that begin at every fourth: so any eleven characters show one."""

_DEPTH = 6
_ITEMS = 1000
_UNSEARCHED = (ApiKey, ModuleType, type, FunctionType, MethodType, asyncio.AbstractEventLoop)
"""Where the key may be, and what holds nothing of its own."""


@lru_cache
def _traces(key: str) -> tuple[str, ...]:
    """Pieces of the key in every form, in lower case."""
    pieces = _pieces(key, PIECE)
    forms = [form for piece in pieces for form in (piece, *_escaped(piece))]
    forms += [packed for before in range(3) for packed in _packed(key, before)]
    return tuple(form.lower() for form in forms)


def _pieces(text: str, length: int) -> list[str]:
    return [text[at : at + length] for at in range(0, max(1, len(text) - length + 1), length // 2)]


def _escaped(piece: str) -> Iterator[str]:
    for form in ("\\u{:04x}", "%{:02x}", "&#{};", "&#x{:x};", "\\x{:02x}"):
        yield "".join(form.format(ord(character)) for character in piece)


def _packed(key: str, before: int) -> list[str]:
    """Pieces of Base64, where *before* bytes stand in front of the key."""
    text = base64.b64encode(b"\0" * before + key.encode()).decode()
    return _pieces(text[-(-before * 8 // 6) :].rstrip("=")[:-1], 2 * PIECE)


def is_traced(text: str | bytes, key: str) -> bool:
    """Tell whether a text shows the key or a piece of it."""
    told = (text if isinstance(text, str) else text.decode("latin-1")).lower()
    return any(trace in told for trace in _traces(key))


def assert_untold(text: str | bytes, *, key: str) -> None:
    """Fail when a text shows the key or a piece of it."""
    assert not is_traced(text, key), text


# -- values ---------------------------------------------------------------------------------------


def walk(value: object, name: str = "value", *, depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """
    Name everything that hangs on a value: itself, items, attributes, slots, notes.

    The inside of what is neither ours, nor an exception, nor a container is left alone: that is
    the business of its ``repr``.
    """
    yield from _walk(value, name, depth, {})


def _walk(
    value: object, name: str, depth: int, met: dict[int, object]
) -> Iterator[tuple[str, Any]]:
    if isinstance(value, _UNSEARCHED) or id(value) in met:
        return
    met[id(value)] = value  # kept alive, so that no id comes twice
    yield name, value
    if depth > 0:
        for inner, found in _inside(value):
            yield from _walk(found, f"{name}{inner}", depth - 1, met)


def _inside(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for at, (key, item) in zip(range(_ITEMS), list(value.items()), strict=False):
            yield f".key{at}", key
            yield f"[{at}]", item
    elif isinstance(value, Iterable) and isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{at}]", item) for at, item in zip(range(_ITEMS), value, strict=False))
    if isinstance(value, BaseException) or _is_ours(value):
        yield from ((f".{name}", found) for name, found in _attributes(value))


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            yield slot, getattr(value, slot, None)
    for name in ("args", "raw") if isinstance(value, BaseException) else ("raw",):
        yield name, getattr(value, name, None)


def _is_ours(value: object) -> bool:
    return type(value).__module__.startswith("ezvideo_async.")


def _of_aiohttp(value: object) -> bool:
    return type(value).__module__.startswith("aiohttp")


def assert_keyless(value: object, name: str = "value", *, key: str, depth: int = _DEPTH) -> None:
    """Fail when the key can be found from a value."""
    told = [(where, _told(found)) for where, found in walk(value, name, depth=depth)]
    if is_traced("\n".join(text for _, text in told), key):
        raise AssertionError([pair for pair in told if is_traced(pair[1], key)])


def _told(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else repr(value)


# -- errors ---------------------------------------------------------------------------------------


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, in what context it was raised, and the parts of a group."""
    waiting: list[BaseException | None] = [error]
    met: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in met:
            met.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__, getattr(each, "last_error", None)]
            waiting += getattr(each, "exceptions", ())


def locals_of(error: BaseException, *packages: str) -> Iterator[tuple[str, Any]]:
    """The local variables in the frames of some packages on an error's traceback."""
    for frame, _line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals["__name__"].partition(".")[0] in packages:
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_qualname}.{name}", value


def our_locals(error: BaseException) -> Iterator[tuple[str, Any]]:
    """The local variables in the frames of our package on an error's traceback."""
    yield from locals_of(error, "ezvideo_async")


def assert_clean(error: BaseException, *, key: str) -> None:
    """Fail when the key or an object of aiohttp can be found from an error."""
    for each in chain(error):
        assert_untold(f"{each}\n{each!r}\n{each.args!r}", key=key)
        assert_untold("".join(traceback.format_exception(each)), key=key)
        assert_keyless(each, type(each).__name__, key=key)
        for where, found in walk(each):
            assert not _of_aiohttp(found), where
        assert_clean_frames(each, key=key)
        for name, value in our_locals(each):
            assert not _of_aiohttp(value), name
            for inner in getattr(type(value), "__slots__", ()):
                assert not _of_aiohttp(getattr(value, inner, None)), f"{name}.{inner}"


def assert_clean_frames(error: BaseException, *, key: str) -> None:
    """Fail when a reporter that shows local variables would show the key."""
    for name, value in locals_of(error, "ezvideo_async", "aiohttp", "asyncio", "anyio"):
        assert_keyless(value, name, key=key)


# -- logs -----------------------------------------------------------------------------------------


class Listener(logging.Handler):
    """
    Hears every record of every logger, as a handler of the root, and notes where the key is.

    Attributes:
        heard: How many records came, by the first word of their logger's name.
        found: The records in which the key is.
    """

    def __init__(self, key: str) -> None:
        super().__init__(logging.DEBUG)
        self.key = key
        self.heard: dict[str, int] = {}
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Search a record as it is written, and as a structured reporter would see it."""
        package = record.name.partition(".")[0]
        self.heard[package] = self.heard.get(package, 0) + 1
        try:
            assert_untold(f"{self.format(record)}\n{vars(record)!r}", key=self.key)
            if record.exc_info and record.exc_info[1] is not None:
                assert_clean_frames(record.exc_info[1], key=self.key)
        except AssertionError as found:
            self.found.append(f"{record.name}: {found}")
