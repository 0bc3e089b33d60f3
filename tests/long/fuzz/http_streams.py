"""Hypothesis strategies of raw HTTP responses, valid or damaged in framing, encoding or bytes."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

from attrs import frozen
from hypothesis import strategies as st

from tests.long.fuzz.json_bodies import ASKED, json_texts
from tests.support.raw_server import CLOSE, KEY, READ, RESET, STALL, Seen

FOREIGN = "foreign-"
"""Prefix of the ids that the client never requests."""

_STATUS_LINES = (
    *("HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified", "HTTP/1.0 200 OK", "HTTP/1.1 200"),
    *("HTTP/1.1 404 Not Found", "HTTP/1.1 500 Oops", "HTTP/1.1 429 Slow", "HTTP/1.1 401 No"),
    *("HTTP/1.1 000 OK", "HTTP/1.1 999 OK", "HTTP/1.1 abc OK", "HTTP/1.1 20 OK", "HTTP/2 200"),
    *("HTTP/0.9 200 OK", "ICY 200 OK", "HTTP/1.1  200 OK", "http/1.1 200 OK", "", "\x16\x03\x01"),
    *("HTTP/1.1 200 \xff\xfe", "HTTP/1.1 -200 OK", "HTTP/1.1 101 Switching Protocols"),
    "HTTP/1.1 302 Found\r\nLocation: http://evil.test/",
)
_HEADERS = (
    *("Connection: close", "Connection: keep-alive", "Connection: upgrade\r\nUpgrade: h2c"),
    *("Content-Type: text/html", "Content-Type: application/json; charset=hex", "Content-Type: "),
    *("Retry-After: 1", "Retry-After: 9999999999", "Date: x", "X-Request-Id: \xff\x80", "X: \x00"),
    *("Set-Cookie: a=b; Path=/", "Location: //evil", ": empty", "no colon here", "X : blank"),
    *(" folded: line", "X: a\r\n b", "X: \x1b[31m", "Trailer: X", f"X: {'y' * 9000}", "\x7f: x"),
    *("\r\n".join(f"X-{number}: y" for number in range(200)), f"X: {KEY}"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: \x00"),
    *("Content-Length: 0", "Content-Length: 5", "Content-Length: -1", "Content-Length: 5, 5"),
    *("Content-Length: 5, 6", "Content-Length: 0x10", f"Content-Length: {'9' * 30}"),
)
_CODINGS = ("gzip", "deflate", "br", "zstd", "identity", "gzip, gzip", "x-gzip", "?")
_INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
)
_STRAY = (b"\r\n", b"x", b"HTTP/1.1 ", b"{}", b"\x00" * 99)
_BAD_CHUNKS = (b"zz\r\n", b"-1\r\n", b"f" * 17 + b"\r\n", b"\r\n", b"5\n", b"5\r\nab\r\n")

_TASK = f'{{"id": "{ASKED}", "status": "completed"}}'
_FOREIGN_TASK = f'{{"id": "{FOREIGN}1", "status": "completed"}}'
_KEY_ECHO = f'{{"error": {{"message": "Incorrect key {KEY}", "code": "{KEY}"}}}}'
_PACKERS = {"gzip": gzip.compress, "deflate": zlib.compress}


@frozen(kw_only=True)
class Damage:
    """Bytes put in the place of *removed* bytes, after this share of the whole."""

    share: float
    removed: int
    inserted: bytes

    def applied(self, data: bytes) -> bytes:
        """Damage *data*."""
        at = int(self.share * len(data))
        return data[:at] + self.inserted + data[at + self.removed :]


@frozen(kw_only=True)
class Stream:
    """
    The response to one request, which is rendered when the requested id is known.

    Attributes:
        text: The body; ``vid_x`` in it becomes the requested id.
        chunk_size: Of a chunked body; 0 for a body with ``Content-Length``.
        bad_chunk: Sent before the last chunk.
        pieces: The share of the bytes at which a piece ends, and seconds to wait after it.
    """

    start: str
    headers: tuple[str, ...]
    text: str
    coding: str | None
    packing: Damage | None
    chunk_size: int
    bad_chunk: bytes
    before: bytes
    after: bytes
    damage: Damage | None
    pieces: tuple[tuple[float, float], ...]
    end: tuple[object, ...]

    def steps(self) -> list[Any]:
        """Return the steps of a ``RawServer`` script that send it."""
        steps: list[Any] = [READ]
        begin = 0.0
        for end, delay in (*self.pieces, (1.0, 0.0)):
            steps += [lambda seen, part=(begin, end): self._part(seen, *part), delay]
            begin = end
        return [*steps, *self.end]

    def _part(self, seen: Seen, begin: float, end: float) -> bytes:
        data = self.rendered(seen.task_id)
        return data[int(begin * len(data)) : int(end * len(data))]

    def rendered(self, task_id: str) -> bytes:
        """Return all bytes of the response."""
        body = self.text.replace(ASKED, task_id).encode("utf-8", "surrogatepass")
        headers = list(self.headers)
        if self.coding is not None:
            headers.append(f"Content-Encoding: {self.coding}")
            body = _PACKERS.get(self.coding, gzip.compress)(body)
            body = self.packing.applied(body) if self.packing else body
        if self.chunk_size:
            headers.append("Transfer-Encoding: chunked")
            size = self.chunk_size
            parts = [body[at : at + size] for at in range(0, len(body), size)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            body += self.bad_chunk + b"0\r\n\r\n"
        else:
            headers.append(f"Content-Length: {len(body)}")
        head = "\r\n".join((self.start, *headers, "", "")).encode("latin-1", "replace")
        data = self.before + head + body + self.after
        return self.damage.applied(data) if self.damage else data


@st.composite
def _seldom(draw: st.DrawFn, usual: Any, others: st.SearchStrategy[Any], *, one_in: int) -> Any:
    return draw(others) if draw(st.integers(1, one_in)) == one_in else usual


_damages = st.builds(
    Damage,
    share=st.floats(0.0, 1.0),
    removed=st.sampled_from((0, 1, 5, 30, 1 << 30)),
    inserted=st.binary(max_size=8),
)
_pieces = st.lists(
    st.tuples(st.floats(0.0, 1.0), st.sampled_from((0.0, 0.5, 2.0, 14.9, 20.0))), max_size=9
).map(lambda pieces: tuple(sorted(pieces)))
_texts = st.sampled_from((_KEY_ECHO, _FOREIGN_TASK, "", _TASK + " " * 70_000)) | json_texts()

streams = st.builds(
    Stream,
    start=_seldom("HTTP/1.1 200 OK", st.sampled_from(_STATUS_LINES), one_in=12),
    headers=_seldom((), st.lists(st.sampled_from(_HEADERS), max_size=2).map(tuple), one_in=4),
    text=_seldom(_TASK, _texts, one_in=3),
    coding=_seldom(None, st.sampled_from(_CODINGS), one_in=5),
    packing=_seldom(None, _damages, one_in=4),
    chunk_size=_seldom(0, st.integers(1, 60), one_in=3),
    bad_chunk=_seldom(b"", st.sampled_from(_BAD_CHUNKS), one_in=6),
    before=_seldom(b"", st.sampled_from(_INTERIM), one_in=10),
    after=_seldom(b"", st.sampled_from(_STRAY), one_in=10),
    damage=_seldom(None, _damages, one_in=4),
    pieces=_seldom((), _pieces, one_in=5),
    end=st.sampled_from(((), (), (), (CLOSE,), (RESET,), (STALL,))),
)
