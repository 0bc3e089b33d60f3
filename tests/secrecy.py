"""What an error must not hold: the key, and anything of aiohttp."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, and in what context it was raised."""
    waiting: list[BaseException | None] = [error]
    met: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in met:
            met.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]


def our_locals(error: BaseException) -> Iterator[tuple[str, Any]]:
    """The local variables in the frames of our package on an error's traceback."""
    for frame, _line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals["__name__"].startswith("ezvideo_async."):
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_qualname}.{name}", value


def _of_aiohttp(value: object) -> bool:
    return type(value).__module__.startswith("aiohttp")


def assert_clean(error: BaseException, *, key: str) -> None:
    """Fail when the key or an object of aiohttp can be found from an error."""
    for each in chain(error):
        told = [str(each), repr(each), repr(each.args), repr(vars(each))]
        told += getattr(each, "__notes__", [])
        assert not any(key in text for text in told), told
        assert not _of_aiohttp(each)
        for name, value in our_locals(each):
            assert key not in repr(value), name
            assert not _of_aiohttp(value), name
            for inner in getattr(type(value), "__slots__", ()):
                assert not _of_aiohttp(getattr(value, inner, None)), f"{name}.{inner}"
