"""API key: validation, masking where a server echoes it, and renewal after a 401."""

from __future__ import annotations

import asyncio
import re
from binascii import a2b_qp
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from inspect import isawaitable
from math import inf
from typing import NoReturn

from ezvideo_async.errors import ConfigError, RequestTimeoutError

KeySource = str | Callable[[], Awaitable[str]]
"""
Source of the API key: a text, or an async callable without arguments that returns one.

The callable is called at the first request, and once more after a 401, for keys that expire.
Concurrent requests share one call; its exceptions reach them unchanged.
"""

_MASK = "***"
_RENEWAL_INTERVAL = 60.0  # seconds; a server that refuses every key must not cost a call each time
_SHORTEST_MASKED = 8  # characters; to mask a local server's "x" or "test" would garble responses

# One character of a key as JSON or percent-encoding may escape it.
_ESCAPED = re.compile(r'\\(?:u00([2-7][0-9A-Fa-f])|(["\\/]))|%([2-7][0-9A-Fa-f])')


class ApiKey:
    """An API key that no ``repr``, log, pickle or traceback shows."""

    __slots__ = ("_encoded", "_key", "_sought")

    def __init__(self, key: object) -> None:
        problem = _problem_with_key(key)
        self._key = "" if problem else str(key).strip()
        self._encoded = self._key.encode("ascii")
        self._sought = b"" if "%" in self._key else self._encoded.replace(b"\\", b"")
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

    def fingerprint(self, salt: bytes) -> bytes:
        """Return a hash by which the same key is known again."""
        return blake2b(self._encoded, key=salt, digest_size=16).digest()

    def mask(self, text: str) -> str:
        r"""Mask the key, verbatim or with characters escaped as in JSON (``\u0041``) or urls."""
        if len(self._key) < _SHORTEST_MASKED:
            return text
        if ("\\" in text or "%" in text) and self._may_be_escaped_in(text):
            text = self._mask_escaped(text)
        return text.replace(self._key, _MASK)

    def _may_be_escaped_in(self, text: str) -> bool:
        """Return False if the key is not in *text*, however escaped; takes 10 ns per character."""
        # All escapes become quoted-printable, which C decodes; other "=" and line ends must not
        # be read as such.
        coded = text.encode("utf-8", "replace").replace(b"=", b"=3D").replace(b"\r", b"\n")
        coded = coded.replace(b"%", b"=").replace(b"\\u00", b"=").replace(b"\\", b"")
        coded = coded.replace(b"==", b"=3D=").replace(b"==", b"=3D=")
        return self._sought in a2b_qp(coded).replace(b"\\", b"")

    def _mask_escaped(self, text: str) -> str:
        """Mask the key in a text that was found to have it, mostly."""
        ends: list[int] = []  # of the escapes, in the text without escapes
        shifts: list[int] = [0]  # by which the rest of the text is longer up to there

        def unescape(found: re.Match[str]) -> str:
            ends.append(found.start() - shifts[-1] + 1)
            shifts.append(shifts[-1] + len(found[0]) - 1)
            code = found[1] or found[3]
            return chr(int(code, 16)) if code else found[2]

        parts: list[str] = []
        plain, kept = _ESCAPED.sub(unescape, text), 0
        place = plain.find(self._key)
        while place >= 0:
            end = place + len(self._key)
            parts += text[kept : place + shifts[bisect_right(ends, place)]], _MASK
            kept = end + shifts[bisect_right(ends, end)]
            place = plain.find(self._key, end)
        return "".join(parts) + text[kept:]

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
        longest = min(len(self._key) - 1, len(text))
        for length in range(longest, _SHORTEST_MASKED - 1, -1):
            text = text.replace(self._key[:length], _MASK).replace(self._key[-length:], _MASK)
        return text


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
        self._renewed_at = -inf  # loop clock
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

        Concurrent requests share one call of the callable, which is called again after 60 s at
        the earliest.  Raises as :meth:`api_key`.
        """
        if self._provider is None:
            return None
        async with self._exclusive():
            now = asyncio.get_running_loop().time()
            if self._api_key is refused and now - self._renewed_at >= _RENEWAL_INTERVAL:
                self._api_key = await self._call_provider()
                self._renewed_at = now
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
        """Call the callable; its exceptions propagate, except those that would end a loop."""
        assert self._provider is not None
        try:
            result: object = self._provider()
            if isawaitable(result):
                return ApiKey(await result)
            problem = "must be async: async def api_key(): ..."
        except (StopIteration, StopAsyncIteration) as raised:
            problem = f"raised {type(raised).__name__}; raise another exception"
        except asyncio.CancelledError:  # noqa: ASYNC103 -- a stray one becomes an error of ours
            task = asyncio.current_task()
            if task is None or task.cancelling():  # it is this request that is cancelled
                raise
            problem = "raised CancelledError; raise another exception"
        raise ConfigError(f"the api_key callable {problem}")
