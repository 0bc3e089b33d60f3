"""API key: validation, masking where a server echoes it, and renewal after a 401."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import NoReturn

from ezvideo_async.errors import ConfigError, RequestTimeoutError

KeySource = str | Callable[[], Awaitable[str]]
"""
Source of the API key: a text, or an async callable without arguments that returns one.

The callable is called at the first request, and once more after a 401, for keys that expire.
Concurrent requests share one call; its exceptions reach them unchanged.
"""

_MASK = "***"
_SHORTEST_MASKED = 8  # characters; to mask a local server's "x" or "test" would garble responses

# One character of a key as JSON or percent-encoding may escape it.
_ESCAPED = re.compile(r'\\(?:u00([2-7][0-9A-Fa-f])|(["\\/]))|%([2-7][0-9A-Fa-f])')


class ApiKey:
    """An API key that no ``repr``, log, pickle or traceback shows."""

    __slots__ = ("_encoded", "_escaped", "_key")

    def __init__(self, key: object) -> None:
        problem = _problem_with_key(key)
        self._key = "" if problem else str(key).strip()
        self._encoded = self._key.encode("ascii")
        self._escaped: re.Pattern[str] | None = None
        del key  # no traceback shows it, even if it was refused
        if problem:
            raise ConfigError(problem)

    def __repr__(self) -> str:
        return f"ApiKey({_MASK!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled or copied")

    def authorization(self) -> str:
        """Return the value of the ``Authorization`` header; keep it in no local variable."""
        return f"Bearer {self._key}"

    def mask(self, text: str) -> str:
        r"""Mask the key, verbatim or with characters escaped as in JSON (``\u0041``) or urls."""
        if len(self._key) < _SHORTEST_MASKED:
            return text
        if ("\\" in text or "%" in text) and self._key in _ESCAPED.sub(_unescape, text):
            if self._escaped is None:
                self._escaped = _escaped_pattern(self._key)
            text = self._escaped.sub(lambda found: found["backslash"] or _MASK, text)
        return text.replace(self._key, _MASK)

    def mask_body(self, body: bytes, *, task_id: str) -> bytes:
        """
        Mask the key in a body, unless the task's id contains the key.

        With such an id masked, the response would seem to be about another task.
        """
        if body.find(self._encoded) < 0 and body.find(b"\\") < 0 and body.find(b"%") < 0:
            return body
        text = body.decode("latin-1")
        masked = self.mask(text)
        return masked.encode("latin-1") if self.mask(task_id) == task_id else body

    def mask_torn(self, text: str) -> str:
        """Mask the key also where *text* was cut within it; a piece of 8 characters counts."""
        text = self.mask(text)
        for length in range(len(self._key) - 1, _SHORTEST_MASKED - 1, -1):
            text = text.replace(self._key[:length], _MASK).replace(self._key[-length:], _MASK)
        return text


def _unescape(found: re.Match[str]) -> str:
    code = found[1] or found[3]
    return chr(int(code, 16)) if code else found[2]


def _escaped_pattern(key: str) -> re.Pattern[str]:
    # An escaped backslash starts no escape: ``\\u0041`` is no "A" in JSON, so it is matched, too.
    # The groups are atomic, so that a search takes linear time.
    characters = (f"(?>{'|'.join(_forms(character))})" for character in key)
    return re.compile(rf"{''.join(characters)}|(?P<backslash>\\\\)")


def _forms(character: str) -> list[str]:
    code, itself = f"(?i:{ord(character):02x})", re.escape(character)
    escaped = [rf"\\{itself}"] if character in '"\\/' else []
    return [rf"\\u00{code}", f"%{code}", *escaped, itself]


def _problem_with_key(key: object) -> str | None:
    if key is None:
        return "no API key; pass api_key=... or set EZVIDEO_API_KEY"
    if not isinstance(key, str):
        return f"api_key must be text or an async callable, got {type(key).__name__}"
    text = key.strip()
    if not text:
        return "the api_key is empty; pass api_key=... or set EZVIDEO_API_KEY"
    if not text.isascii() or not text.isprintable() or " " in text:
        return "the api_key may hold only printable ASCII without blanks; check how it is read"
    return None


class Credentials:
    """
    Gives the API key of each request, and renews it after a 401.

    Args:
        source: A text, validated at once, or an async callable, called at the first request.
        timeout: Seconds that a request waits for the callable.
    """

    def __init__(self, source: KeySource | None, *, timeout: float) -> None:
        self._timeout = timeout
        self._provider = source if callable(source) else None
        self._lock = asyncio.Lock()
        try:
            self._api_key = None if callable(source) else ApiKey(source)
        finally:
            del source  # no traceback shows it

    async def api_key(self) -> ApiKey:
        """
        Return the API key to send; concurrent first requests share one call of the callable.

        Raises:
            RequestTimeoutError: The callable returned no key in time.
            ConfigError: The callable returned no usable key.
        """
        if self._api_key is None:
            async with self._exclusive():
                if self._api_key is None:
                    self._api_key = await self._call_provider()
        return self._api_key

    async def renewed(self, refused: ApiKey) -> ApiKey | None:
        """
        Return another key than the one that the server refused, or None if there is none.

        Concurrent requests share one call of the callable.  Raises as :meth:`api_key`.
        """
        if self._provider is None:
            return None
        async with self._exclusive():
            if self._api_key is refused:
                self._api_key = await self._call_provider()
            return None if self._api_key == refused else self._api_key

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """Let one request at a time call the callable; the timeout includes waiting for it."""
        timeout = asyncio.timeout(self._timeout)
        try:
            async with timeout, self._lock:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
        if timeout.expired():
            raise RequestTimeoutError(
                f"the api_key callable returned no key within {self._timeout:g} s; "
                "make it faster or increase request_timeout",
                reason="key",
            )

    async def _call_provider(self) -> ApiKey:
        """Call the callable; its exceptions propagate unchanged, except ``StopAsyncIteration``."""
        assert self._provider is not None
        result: object = self._provider()
        if not isawaitable(result):
            raise ConfigError("the api_key callable must be async: async def api_key(): ...")
        try:
            return ApiKey(await result)
        except StopAsyncIteration:
            pass  # it would silently end the caller's ``async for``
        raise ConfigError("the api_key callable raised StopAsyncIteration; raise another exception")
