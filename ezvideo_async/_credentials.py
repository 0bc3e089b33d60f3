"""
The key: checked once, shown never, renewed at most once for everybody who was refused.

Nothing here does network I/O of its own; a key may come from the caller's async callable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import NoReturn

from ezvideo_async.errors import ConfigError, RequestTimeoutError

KeySource = str | Callable[[], Awaitable[str]]
"""A key, or an async callable that gives one and is asked again once after a 401."""

_MASK = "***"
_SHORTEST_SECRET = 8
"""Characters; a local server's "x" or "test" is no secret, and masking it would break answers."""


class Secret:
    """A key that no ``repr``, log, pickle or traceback shows."""

    __slots__ = ("_key",)

    def __init__(self, key: object) -> None:
        trouble = _trouble_with_key(key)
        self._key = "" if trouble else str(key).strip()
        del key  # no traceback shows it, not even a refused one
        if trouble:
            raise ConfigError(trouble)

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
        return text.replace(self._key, _MASK) if len(self._key) >= _SHORTEST_SECRET else text

    def scrub_body(self, body: bytes) -> bytes:
        """Mask the key wherever *body* echoes it."""
        if len(self._key) < _SHORTEST_SECRET:
            return body
        return body.replace(self._key.encode(), _MASK.encode())


def _trouble_with_key(key: object) -> str | None:
    if key is None:
        return "no API key; pass api_key=... or set EZVIDEO_API_KEY"
    if not isinstance(key, str):
        return f"api_key must be text or an async callable, got {type(key).__name__}"
    text = key.strip()
    if not text:
        return "the api_key is empty; pass api_key=... or set EZVIDEO_API_KEY"
    if not text.isascii() or not text.isprintable() or " " in text:
        return "the api_key holds characters that no key has (only printable ASCII, no blanks)"
    return None


class Credentials:
    """
    Where the key of each request comes from.

    Args:
        source: A text, checked here and now, or an async callable, asked at the first request.

    Attributes:
        patience: Seconds the callable gets for an answer.

    Raises:
        ConfigError: There is no usable key.
    """

    def __init__(self, source: KeySource | None) -> None:
        self.patience = 15.0
        self._provider = source if callable(source) else None
        self._asking = asyncio.Lock()
        try:
            self._secret = None if callable(source) else Secret(source)
        finally:
            del source  # no traceback shows it

    async def secret(self) -> Secret:
        """Give the key to send; the callable is asked once, however many wait."""
        if self._secret is None:
            async with self._turn():
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
        async with self._turn():
            if self._secret is refused:
                self._secret = await self._asked()
            return None if self._secret == refused else self._secret

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """
        Let one at a time ask the callable, and nobody wait for longer than *patience*.

        Raises:
            RequestTimeoutError: The callable, or those in front, took too long.
        """
        patience = asyncio.timeout(self.patience)
        try:
            async with patience, self._asking:
                yield
        except TimeoutError:
            if not patience.expired():
                raise
        if not patience.expired():
            return
        message = f"the api_key callable gave no key within {self.patience:g} s"
        raise RequestTimeoutError(message, reason="key")

    async def _asked(self) -> Secret:
        """Ask the callable; what it raises leaves as it is, but for ``StopAsyncIteration``."""
        assert self._provider is not None
        giving: object = self._provider()
        if not isawaitable(giving):
            message = "the api_key callable must be async: async def api_key(): ..."
            raise ConfigError(message)
        try:
            return Secret(await giving)
        except StopAsyncIteration:
            pass  # would end the caller's ``async for`` without a word
        message = "the api_key callable raised StopAsyncIteration"
        raise ConfigError(message)
