"""
The key: checked once, shown never, renewed at most once for everybody who was refused.

Nothing here does network I/O of its own; a key may come from the caller's async callable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from ezvideo_async.errors import ConfigError

KeySource = str | Callable[[], Awaitable[str]]
"""A key, or an async callable that gives one and is asked again once after a 401."""

_MASK = "***"


class Secret:
    """A key that no ``repr``, log, pickle or traceback shows."""

    __slots__ = ("_key",)

    def __init__(self, key: object) -> None:
        self._key = _checked_key(key)

    def __repr__(self) -> str:
        return f"Secret({_MASK!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> NoReturn:
        message = "a key is not pickled or copied"
        raise TypeError(message)

    def authorization(self) -> str:
        """Give the value of the ``Authorization`` header; let no local variable hold it."""
        return f"Bearer {self._key}"

    def scrub(self, text: str) -> str:
        """Mask the key wherever *text* echoes it."""
        return text.replace(self._key, _MASK)

    def scrub_body(self, body: bytes) -> bytes:
        """Mask the key wherever *body* echoes it."""
        return body.replace(self._key.encode(), _MASK.encode())


def _checked_key(key: object) -> str:
    if not isinstance(key, str) or not key.strip():
        message = "the api_key is empty; pass api_key=... or set EZVIDEO_API_KEY"
        raise ConfigError(message)
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        message = "the api_key holds characters that no key has (only printable ASCII, no blanks)"
        raise ConfigError(message)
    return key


class Credentials:
    """
    Where the key of each request comes from.

    Args:
        source: A text, checked here and now, or an async callable, asked at the first request.

    Raises:
        ConfigError: There is no usable key.
    """

    def __init__(self, source: KeySource | None) -> None:
        if source is None:
            message = "no API key; pass api_key=... or set EZVIDEO_API_KEY"
            raise ConfigError(message)
        self._provider = None if isinstance(source, str) else _checked_provider(source)
        self._secret = Secret(source) if isinstance(source, str) else None
        self._asking = asyncio.Lock()

    async def secret(self) -> Secret:
        """Give the key to send; the callable is asked once, however many wait."""
        if self._secret is None:
            async with self._asking:
                if self._secret is None:
                    self._secret = await self._asked()
        return self._secret

    async def renewed(self, refused: Secret) -> Secret | None:
        """
        Give another key than the one the server refused, or None when there is none.

        Among many refused at once, one asks the callable and all get its answer.
        """
        if self._provider is None:
            return None
        async with self._asking:
            if self._secret == refused:
                self._secret = await self._asked()
            return None if self._secret == refused else self._secret

    async def _asked(self) -> Secret:
        if self._provider is None:
            message = "no API key; pass api_key=... or set EZVIDEO_API_KEY"
            raise ConfigError(message)
        return Secret(await self._provider())


def _checked_provider(source: object) -> Callable[[], Awaitable[str]]:
    if not callable(source):
        message = f"api_key must be text or an async callable, got {type(source).__name__}"
        raise ConfigError(message)
    return source
