"""Raw HTTP answers, valid first and then broken: framing, headers, packing, bytes, pauses, ends."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

from tests.long.fuzz.json_text import answer_tree, text_of
from tests.support.raw_server import KEY

if TYPE_CHECKING:
    from random import Random

FOREIGN = "foreign-"
"""So begin the ids that nobody asked for."""

CLOSE, RESET, STALL = "close", "reset", "stall"
Steps = list[Any]
"""Bytes to send, seconds to pause, or one of the ends above."""

_STATUS_LINES = [
    *("HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified", "HTTP/1.0 200 OK", "HTTP/1.1 200"),
    *("HTTP/1.1 404 Not Found", "HTTP/1.1 500 Oops", "HTTP/1.1 429 Slow", "HTTP/1.1 401 No"),
    *(
        "HTTP/1.1 000 OK",
        "HTTP/1.1 999 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
    ),
    *("HTTP/2 200", "HTTP/0.9 200 OK", "ICY 200 OK", "HTTP/1.1  200 OK", "http/1.1 200 OK", ""),
    *(
        "HTTP/1.1 200 \xff\xfe",
        "HTTP/1.1 -200 OK",
        "HTTP/1.1 101 Switching Protocols",
        "\x16\x03\x01",
    ),
    "HTTP/1.1 302 Found\r\nLocation: http://evil.test/",
]
_HEADERS = [
    *("Connection: close", "Connection: keep-alive", "Connection: upgrade\r\nUpgrade: h2c"),
    *("Content-Type: text/html", "Content-Type: application/json; charset=hex", "Content-Type: "),
    *("Retry-After: 1", "Retry-After: 9999999999", "Date: x", "X-Request-Id: \xff\x80", "X: \x00"),
    *("Set-Cookie: a=b; Path=/", "Location: //evil", ": empty", "no colon here", "X : blank"),
    *(" folded: line", "X: a\r\n b", "X: \x1b[31m", "Trailer: X", f"X: {'y' * 9000}", "\x7f: x"),
    "\r\n".join(f"X-{number}: y" for number in range(200)),
    f"X: {KEY}",
]
_LENGTHS = [
    "0",
    "1",
    "-1",
    "+5",
    "5, 5",
    "5, 6",
    "0x10",
    "1e3",
    "9" * 30,
    "",
    "99999999",
    "٣",
    "7 7",
]
_CODINGS = ["chunked", "gzip, chunked", "chunked, gzip", "identity", "Chunked", "xchunked", "\x00"]
_ENCODINGS = ["gzip", "deflate", "br", "zstd", "identity", "gzip, gzip", "x-gzip", "compress", "?"]
_INFORMATION = [
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    "HTTP/1.1 102 Processing\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n" * 50,
]


def _task(task_id: str) -> bytes:
    return json.dumps({"id": task_id, "status": "completed"}).encode()


def sound(task_id: str) -> bytes:
    """A stream that any client understands."""
    body = _task(task_id)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _body(rand: Random, task_id: str) -> bytes:
    kind = rand.random()
    if kind < 0.6:
        return _task(task_id)
    if kind < 0.62:
        return json.dumps({"error": {"message": f"Incorrect key {KEY}", "code": KEY}}).encode()
    if kind < 0.7:
        return _task(f"{FOREIGN}{rand.randrange(3)}")
    if kind < 0.995:
        return text_of(answer_tree(rand), rand).encode("utf-8", "surrogatepass")
    return rand.choice((b" " * (1 << 20) + b"{}", b"", _task(task_id) + b" " * 70_000))


def _packed(rand: Random, body: bytes) -> bytes:
    packed = rand.choice((gzip.compress, gzip.compress, zlib.compress))(body)
    kind = rand.randrange(8)
    if kind == 0:
        return packed[: rand.randrange(len(packed) + 1)]
    if kind == 1:
        return packed[:-8] + rand.randbytes(8)
    if kind == 2:
        return packed + rand.choice((gzip.compress(b"{}"), b"\x00" * 9, b"x"))
    if kind == 3:
        return _flipped(rand, packed)
    if kind == 4 and rand.random() < 0.1:
        return gzip.compress(b" " * (8 << 20) + body)
    return packed


def _chunked(rand: Random, body: bytes) -> bytes:
    parts, at = [], 0
    while at < len(body):
        size = rand.randrange(1, 60)
        part = body[at : at + size]
        extension = rand.choice(("", "", "", ";x=y", ";" + "z" * 300, " "))
        parts.append(f"{len(part):x}{extension}\r\n".encode() + part + b"\r\n")
        at += size
    parts.append(
        rand.choice((b"0\r\n\r\n",) * 9 + (b"0\r\nX: y\r\n\r\n", b"", b"0\r\n", b"0;\r\n\r\n"))
    )
    if rand.random() < 0.3:
        odd = (
            b"zz\r\n",
            b"-1\r\n",
            b"fffffffffffffffff\r\n",
            b"\r\n",
            b"5\n",
            b"0x5\r\n",
            b"5\r\nab\r\n",
        )
        parts.insert(rand.randrange(len(parts) + 1), rand.choice(odd))
    return b"".join(parts)


def _flipped(rand: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rand.choice((1, 1, 2, 5))):
        if changed:
            at = rand.randrange(len(changed))
            changed[at] = rand.choice((changed[at] ^ (1 << rand.randrange(8)), rand.randrange(256)))
    return bytes(changed)


def _answer(rand: Random, task_id: str) -> bytes:
    """One answer whose framing is sound, or doubled, or lies."""
    start = "HTTP/1.1 200 OK" if rand.random() < 0.92 else rand.choice(_STATUS_LINES)
    body, headers = _body(rand, task_id), []
    if rand.random() < 0.2:
        coding = "gzip" if rand.random() < 0.6 else rand.choice(_ENCODINGS)
        headers.append(f"Content-Encoding: {coding}")
        body = _packed(rand, body)
    framing = rand.random()
    if framing < 0.3:
        headers.append(f"Transfer-Encoding: {rand.choice(('chunked',) * 8 + tuple(_CODINGS))}")
        body = _chunked(rand, body)
    elif framing < 0.92:
        headers.append(f"Content-Length: {len(body)}")
    lies = rand.random()
    if lies < 0.03:
        headers.append(f"Content-Length: {rand.choice((*_LENGTHS, len(body), len(body) + 3))}")
    elif lies < 0.06:
        headers[-1:] = [f"Content-Length: {rand.choice((*_LENGTHS, len(body) - 1, len(body) + 1))}"]
    elif lies < 0.08:
        headers.append(rand.choice(("Transfer-Encoding: chunked", "Content-Length: 5", *headers)))
    headers += rand.sample(_HEADERS, rand.choice((0, 0, 0, 0, 0, 0, 1, 2)))
    rand.shuffle(headers)
    end = "\r\n" if rand.random() < 0.96 else rand.choice(("\n", "\r", "\n\n", "\r\n "))
    head = end.join((start, *headers, "", ""))
    return head.encode("latin-1", "replace") + body


def steps(rand: Random, task_id: str) -> Steps:
    """One broken stream: what is sent in which pieces, and how it ends."""
    stream = _answer(rand, task_id)
    if rand.random() < 0.1:
        stream = rand.choice(_INFORMATION).encode() + stream
    if rand.random() < 0.1:
        extras = (sound(f"{FOREIGN}0"), stream, b"\r\n", b"x", b"HTTP/1.1 ", b"{}", b"\x00" * 99)
        stream += rand.choice(extras)
    kind = rand.random()
    at = rand.randrange(len(stream) + 1)
    if kind < 0.1:
        stream = stream[:at]
    elif kind < 0.2:
        stream = _flipped(rand, stream)
    elif kind < 0.24:
        stream = stream[:at] + rand.randbytes(rand.randrange(1, 9)) + stream[at:]
    elif kind < 0.28:
        stream = stream[:at] + stream[min(len(stream), at + rand.randrange(1, 30)) :]
    pieces: Steps = [stream]
    if rand.random() < 0.2 and len(stream) < 5_000:
        cuts = sorted(rand.randrange(len(stream) + 1) for _ in range(rand.choice((1, 2, 9))))
        pauses = (0.0, 0.0, 0.5, 2.0, 14.9, 20.0)
        pieces = []
        for one, two in zip((0, *cuts), (*cuts, len(stream)), strict=True):
            pieces += [stream[one:two], rand.choice(pauses)]
    return pieces + rand.choice(([], [], [], [CLOSE], [CLOSE], [RESET], [STALL]))
