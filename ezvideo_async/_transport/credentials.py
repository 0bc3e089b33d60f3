"""
The key: checked once, shown never, renewed at most once for everybody who was refused.

Nothing here does network I/O of its own; a key may come from the caller's async callable.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
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

_MATCHED = 64
"""Characters of a key that are looked for escaped; what follows them counts as the key's rest."""

_STARTING = 12
"""Characters by which a body is searched first: a pattern of a whole key takes 30 ms to compile."""

_AMBIGUOUS = 4
"""Backslashes and percent signs, which no key has; each doubles the ways to read a text."""


class ApiKey:
    """A key that no ``repr``, log, pickle or traceback shows."""

    __slots__ = ("_echoes", "_key", "_marks", "_starts")

    def __init__(self, key: object) -> None:
        trouble = _trouble_with_key(key)
        self._key = "" if trouble else str(key).strip()
        self._echoes: re.Pattern[str] | None = None
        self._starts: re.Pattern[bytes] | None = None
        self._marks = _marks_of(self._key[:_STARTING])
        del key  # no traceback shows it, not even a refused one
        if trouble:
            raise ConfigError(trouble)

    def __repr__(self) -> str:
        return f"ApiKey({_MASK!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> NoReturn:
        message = "a key is not pickled or copied"
        raise TypeError(message)

    def authorization(self) -> str:
        """Give the value of the ``Authorization`` header; let no local variable hold it."""
        return f"Bearer {self._key}"

    def scrub(self, text: str) -> str:
        """Mask the key wherever *text* echoes it: as it is, escaped, or in Base64."""
        is_suspect = self._may_be_in(text.encode("utf-8", "surrogatepass"))
        return self._masked(text) if is_suspect else text

    def scrub_body(self, body: bytes) -> bytes:
        """Mask the key wherever *body* echoes it."""
        if not self._has_mark(body) or not self._may_be_in(body):
            return body
        return self._masked(body.decode("latin-1")).encode("latin-1")

    def _may_be_in(self, body: bytes) -> bool:
        if len(self._key) < _SHORTEST_SECRET:
            return False
        if self._starts is None:
            self._starts = re.compile(_echoes_of(self._key[:_STARTING]).encode())
        # A search in bytes takes half the time of one in text, and nearly always it is all.
        return self._starts.search(body) is not None

    def _has_mark(self, body: bytes) -> bool:
        """Pass by most bodies in half the time of a search for the pattern, 2.5 us."""
        for mark in self._marks:  # noqa: SIM110 -- a generator takes 0.7 us more
            if body.find(mark) >= 0:  # ``in`` tries first whether the mark is a number
                return True
        return False

    def _masked(self, text: str) -> str:
        if self._echoes is None:
            self._echoes = re.compile(_echoes_of(self._key))
        return self._echoes.sub(_MASK, text.replace(self._key, _MASK))

    def scrub_torn(self, text: str) -> str:
        """Mask also where *text* begins or ends within the key: somebody else has cut it."""
        text = self.scrub(text)
        for length in range(len(self._key) - 1, _SHORTEST_SECRET - 1, -1):
            text = text.replace(self._key[:length], _MASK).replace(self._key[-length:], _MASK)
        return text


def _echoes_of(key: str) -> str:
    """
    Write the pattern of everything that a server may make of the key when it quotes it.

    Characters may be escaped, one by one, for JSON (also JSON within JSON), urls or HTML; or the
    header was put into Base64, where the key begins at any of three places.  All alternatives
    begin with a plain character: so a search skips what can't be one as fast as it reads.
    """
    if len(re.findall(r"[\\%]", key)) > _AMBIGUOUS:
        return re.escape(key)
    start, rest = key[0], "".join(f"(?:{'|'.join(_forms(each))})" for each in key[1:_MATCHED])
    more = r"[^\s\"'<>]*+" if len(key) > _MATCHED else ""
    plain = [f"{form}{rest}{more}" for form in _forms(start)]
    packed = [_packed(key[:_MATCHED], before) for before in range(3)]
    more = r"[\w+/=-]*+" if len(key) > _MATCHED else ""
    return "|".join([*plain, *(f"{each}{more}" for each in packed)])


def _marks_of(key: str) -> tuple[bytes, ...]:
    """List the texts of which at least one is in everything that ``_echoes_of`` matches."""
    packed = (re.match(r"[A-Za-z0-9]*", _packed(key, before)) for before in range(3))
    return (key.encode(), *_ESCAPES, *(found[0].encode() for found in packed if found))


_ESCAPES = (b"\\", b"%", b"&#")
"""What the forms of a character begin with, but the character itself."""


def _forms(character: str) -> list[str]:
    code, itself = f"{ord(character):02x}", re.escape(character)
    escaped = [
        # From the first backslash of a row on: half an escape left over would break the JSON.
        rf"\\(?<!\\\\)\\*+(?:{itself}|(?i:u00{code}))",
        rf"%(?:25)?(?i:{code})",
        rf"&#(?:{ord(character)}|(?i:x{code}));",
    ]
    if character == "\\":
        escaped[0] = r"\\(?:\\*(?i:u005c)|\\{1,3})"
    return [*escaped, itself]


def _packed(key: str, before: int) -> str:
    """Write the Base64 that *key* gives after *before* bytes, but for what its neighbours give."""
    text = b64encode(b"\0" * before + key.encode()).decode()
    own = text[(0, 2, 3)[before] : (before + len(key)) * 8 // 6]
    odd = {"+": "(?:[+-]|%2[Bb])", "/": r"(?:[/_]|\\/|%2[Ff])"}  # the alphabet of urls, and escapes
    return "".join(odd.get(character, character) for character in own)


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
            self._secret = None if callable(source) else ApiKey(source)
        finally:
            del source  # no traceback shows it

    async def secret(self) -> ApiKey:
        """Give the key to send; the callable is asked once, however many wait."""
        if self._secret is None:
            async with self._turn():
                if self._secret is None:
                    self._secret = await self._asked()
        return self._secret

    async def renewed(self, refused: ApiKey) -> ApiKey | None:
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

    async def _asked(self) -> ApiKey:
        """Ask the callable; what it raises leaves as it is, but for ``StopAsyncIteration``."""
        assert self._provider is not None
        giving: object = self._provider()
        if not isawaitable(giving):
            message = "the api_key callable must be async: async def api_key(): ..."
            raise ConfigError(message)
        try:
            return ApiKey(await giving)
        except StopAsyncIteration:
            pass  # would end the caller's ``async for`` without a word
        message = "the api_key callable raised StopAsyncIteration"
        raise ConfigError(message)
