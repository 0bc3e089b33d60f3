"""
Catalog of faults on one connection, each with the error and the verdict that must follow.

Every entry is a script for ``RawServer``; the tests of this folder run ``retrieve()`` and a
watcher against each of them, with own connections and with a borrowed session.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any, Literal

from aiohttp.compression_utils import HAS_BROTLI, HAS_ZSTD
from aiohttp.http_parser import HttpResponseParser, HttpResponseParserPy
from attrs import frozen

from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ConfigError,
    EzVideoError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
    TransportError,
)
from tests.support.raw_server import CLOSE, READ, RESET, STALL, Script, Seen, response, task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Verdict = Literal["retry", "lost", "fatal"]
"""The watcher polls again; loses this id; raises for all ids."""


@frozen(kw_only=True)
class Fault:
    """
    One fault.

    Attributes:
        row: The row of the fault table.
        script: The steps on the first connection; later connections have no fault.
        kind: The class of the error that ``retrieve()`` raises.
        verdict: What the watcher does.
        reason: The error's ``reason``; None where it has none.
        retryable: Of the error; None if it follows from the verdict.
        requests: How many requests one call sends.
    """

    row: str
    script: Script | Endless
    kind: type[EzVideoError]
    verdict: Verdict = "retry"
    reason: str | None = None
    retryable: bool | None = None
    requests: int = 1

    @property
    def is_retryable(self) -> bool:
        """``retryable`` of the error."""
        return self.verdict == "retry" if self.retryable is None else self.retryable


HEAD = b"HTTP/1.1 200 OK\r\n"
_SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_BODY = b'{"id": "t", "status": "completed", "seconds": "5"'


def _dripped(text: bytes, delay: float = 1.0) -> Script:
    """Send byte by byte."""
    return [step for byte in text for step in (bytes([byte]), delay)]


_NO_BYTES: dict[str, Script] = {
    "before the request is read": [],
    "after the request": [READ],
}
_PARTS_OF_A_HEAD: dict[str, Script] = {
    "in the status line": [READ, b"HTTP/1.1 20"],
    "after the status line": [READ, HEAD],
    "in a header": [READ, HEAD, b"Content-Type: applic"],
    "before the empty line": [READ, HEAD, b"Content-Length: 99\r\n"],
    "after an interim response": [READ, b"HTTP/1.1 103 Hints\r\n\r\n"],
}
_PARTS_OF_A_BODY: dict[str, Script] = {
    "after the head": [READ, _SIZED],
    "in the body": [READ, _SIZED, _BODY],
    "after the head, chunked": [READ, _CHUNKED],
    "in a chunk": [READ, _CHUNKED, b"60\r\n", _BODY],
    "before the last chunk": [READ, _CHUNKED, b"2\r\n{}\r\n"],
}
_DRIPS: dict[str, Script] = {
    "of the head": [READ, *_dripped(_SIZED)],
    "of the body": [READ, _SIZED, *_dripped(_BODY)],
    "of chunks": [READ, _CHUNKED, *[b"1\r\n \r\n", 1.0] * 60],
    "of interim responses": [READ, *[b"HTTP/1.1 103 Hints\r\n\r\n", 1.0] * 60],
}

NETWORK: dict[str, Fault] = {
    **{
        f"{end} {where}": Fault(
            row=row, script=[*start, step], kind=TransportError, reason="disconnected"
        )
        for end, step, row in (("fin", CLOSE, "N8"), ("rst", RESET, "N9"))
        for where, start in _NO_BYTES.items()
    },
    **{
        f"{end} {where}": Fault(
            row="N10", script=[*start, 0.1, step], kind=TransportError, reason="disconnected"
        )
        for end, step in (("fin", CLOSE), ("rst", RESET))
        for where, start in _PARTS_OF_A_HEAD.items()
    },
    **{
        f"{end} {where}": Fault(
            row="N11", script=[*start, 0.1, step], kind=TransportError, reason="payload"
        )
        for end, step in (("fin", CLOSE), ("rst", RESET))
        for where, start in _PARTS_OF_A_BODY.items()
    },
    **{  # such an end looks like the end of the body
        f"{end} in a body without length": Fault(
            row="N11",
            script=[READ, HEAD, b"\r\n", _BODY, 0.1, step],
            kind=BadResponseError,
            reason="not_json",
        )
        for end, step in (("fin", CLOSE), ("rst", RESET))
    },
    **{
        f"stall {where}": Fault(
            row="N13", script=[*start, STALL], kind=RequestTimeoutError, reason="timeout"
        )
        for where, start in {**_NO_BYTES, **_PARTS_OF_A_HEAD, **_PARTS_OF_A_BODY}.items()
    },
    **{
        f"drip {what}": Fault(row="N14", script=script, kind=RequestTimeoutError, reason="timeout")
        for what, script in _DRIPS.items()
    },
}

# -- bytes ----------------------------------------------------------------------------------------

PURE_PYTHON = HttpResponseParser is HttpResponseParserPy
"""True with aiohttp's parser in Python, which accepts more than the one in C."""

CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY = b"Content-Length: 2\r\n\r\n{}"
PAGE = b"<!doctype html><title>Attention required</title>"
MEBIBYTE = 1 << 20


class Endless:
    """
    A script that never ends: some first steps, and then one part again and again.

    Attributes:
        sent: Bytes of parts given out so far, on all connections.
    """

    def __init__(self, *first: Any, part: bytes) -> None:
        self._first = first
        self._part = part
        self.sent = 0

    def __iter__(self) -> Iterator[Any]:
        yield from self._first
        while True:
            self.sent += len(self._part)
            yield self._part


def _completed(status: str) -> Callable[[Seen], bytes]:
    """Make a reply under this status that the requested task is completed."""
    return lambda seen: response(task(seen.task_id), status=status)


def packed_bomb(mebibytes: int) -> bytes:
    """Make a gzip stream of *mebibytes* MiB of blanks from one repeated block."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(b" " * MEBIBYTE) + packer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + block * mebibytes


def _reply(body: object, *headers: str, status: str = "200 OK") -> Script:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [READ, response(content, *headers, status=status)]


def _page(status: str) -> Script:
    return _reply(PAGE, "Content-Type: text/html; charset=utf-8", status=status)


def _refused(status: int, *headers: str, code: str = "x") -> Script:
    body = {"error": {"code": code, "message": "m"}}
    return [READ, response(body, *headers, status=f"{status} S")]


def _packed(body: bytes, encoding: str = "gzip") -> Script:
    return [READ, response(body, f"Content-Encoding: {encoding}")]


def _by_parser(*, c: Any, python: Any) -> Any:
    return python if PURE_PYTHON else c


# -- refusals -------------------------------------------------------------------------------------


def _passing(
    row: str,
    kind: type[EzVideoError],
    scripts: Mapping[str, Script | Endless],
    *,
    reason: str | None = None,
) -> dict[str, Fault]:
    """Make faults with the same error, after which the watcher polls again."""
    return {
        name: Fault(row=row, script=script, kind=kind, reason=reason)
        for name, script in scripts.items()
    }


_REFUSALS: dict[str, Fault] = {
    **{
        f"status {status}": Fault(
            row="H1", script=_refused(status), kind=BadRequestError, verdict="lost"
        )
        for status in (400, 405, 406, 411, 415, 417, 422)
    },
    "status 400 with Retry-After": Fault(
        row="H1",
        script=_refused(400, "Retry-After: 2"),
        kind=BadRequestError,
        verdict="lost",
        retryable=True,
    ),
    "status 401": Fault(row="H2", script=_refused(401), kind=AuthenticationError, verdict="fatal"),
    "status 402": Fault(
        row="H3", script=_refused(402), kind=PermissionDeniedError, verdict="fatal"
    ),
    "status 403": Fault(
        row="H4", script=_refused(403), kind=PermissionDeniedError, verdict="fatal"
    ),
    "status 403 as a page": Fault(row="H4", script=_page("403 No"), kind=PermissionDeniedError),
    "status 404": Fault(
        row="H5",
        script=_refused(404, code="task_not_found"),
        kind=TaskNotFoundError,
        retryable=False,
    ),
    "status 404 as a page": Fault(
        row="H7", script=_page("404 No"), kind=ConfigError, verdict="fatal", reason="route"
    ),
    **{
        f"status {status}": Fault(row="H8", script=_refused(status), kind=ServerError)
        for status in (408, 421, 425)
    },
    "status 409": Fault(row="H9", script=_refused(409), kind=ServerError),
    "status 410": Fault(row="H10", script=_refused(410), kind=TaskNotFoundError, verdict="lost"),
    **{
        f"status {status}": Fault(
            row="H11", script=_refused(status), kind=BadRequestError, verdict="lost"
        )
        for status in (413, 414, 431)
    },
    "status 429": Fault(row="H12", script=_refused(429), kind=RateLimitError),
    "status 429 with Retry-After": Fault(
        row="H13", script=_refused(429, "Retry-After: 20"), kind=RateLimitError
    ),
    **{
        f"status {status}": Fault(row="H17", script=_refused(status), kind=ServerError)
        for status in (500, 502, 503, 504, 507, *range(520, 528), 529, 530)
    },
    "status 501": Fault(row="H18", script=_refused(501), kind=ServerError, verdict="lost"),
    "status 501 as a page": Fault(
        row="H18", script=_page("501 No"), kind=ServerError, retryable=False
    ),
    **{
        f"status {status}": Fault(
            row="H18", script=_refused(status), kind=ServerError, retryable=False
        )
        for status in (505, 506, 508, 510, 511)
    },
}

# -- redirects ------------------------------------------------------------------------------------

_REDIRECTS: dict[str, Fault] = {
    f"status {status}, to {name}": Fault(
        row="H21",
        script=_reply(b"", *headers, status=f"{status} Moved"),
        kind=ConfigError,
        verdict="fatal",
        reason="redirect",
    )
    for status, name, headers in (
        *((status, "login", ["Location: https://login.test/"]) for status in (301, 302, 303)),
        *((status, "itself", ["Location: /v1/videos/t"]) for status in (307, 308)),
        *((status, "nowhere", []) for status in (300, 302, 305)),
    )
}

# -- invalid success ------------------------------------------------------------------------------


def _error_200(code: object) -> Script:
    return _reply({"error": {"code": code, "message": "m"}})


_SUCCESSES: dict[str, Fault] = {
    **_passing(
        "H22",
        BadResponseError,
        {
            "an error under 200": _error_200("boom"),
            "success without data": _reply({"code": "success", "message": "", "data": None}),
        },
        reason="schema",
    ),
    "an unknown task under 200": Fault(
        row="H22", script=_error_200("task_not_found"), kind=TaskNotFoundError, retryable=False
    ),
    "a refused key under 200": Fault(
        row="H22", script=_error_200("invalid_api_key"), kind=AuthenticationError, verdict="fatal"
    ),
    "too many requests under 200": Fault(
        row="H22", script=_error_200("rate_limit_exceeded"), kind=RateLimitError
    ),
    **_passing(
        "H23",
        BadResponseError,
        {
            f"status {status} without a task": _reply({}, status=f"{status} S")
            for status in (201, 202, 203, 206)
        },
        reason="schema",
    ),
    **_passing(
        "H24",
        BadResponseError,
        {
            "status 204": [READ, b"HTTP/1.1 204 None\r\n\r\n"],
            "status 205": _reply(b"", status="205 Reset"),
            "status 205 with a task": [READ, _completed("205 Reset")],
            "status 304": [READ, b"HTTP/1.1 304 Same\r\n\r\n"],
            "an empty body": _reply(b""),
            "an empty body in chunks": [READ, CHUNKED + b"0\r\n\r\n"],
            "an empty body until the end": [READ, HEAD + b"\r\n", CLOSE],
        },
        reason="empty",
    ),
}

# -- invalid HTTP ---------------------------------------------------------------------------------

_NO_HTTP: dict[str, Fault] = {
    **_passing(
        "H25",
        RequestTimeoutError,
        {
            "a storm of 103s": [READ, *[b"HTTP/1.1 103 Hints\r\n\r\n" * 20, 0.5] * 50],
            "a storm of 100s": [READ, *[b"HTTP/1.1 100 Continue\r\n\r\n", 0.5] * 50],
        },
        reason="timeout",
    ),
    **_passing(
        "H25",
        BadResponseError,
        {
            "status 101": [
                READ,
                b"HTTP/1.1 101 Switch\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                STALL,
            ],
            "status 101 without headers": [READ, b"HTTP/1.1 101 Switch\r\n\r\n", STALL],
            "status 000": _reply({}, status="000 Zero"),
            "status 600": _reply({}, status="600 Six"),
            "status 999": [READ, _completed("999 Nine")],
        },
        reason="schema",
    ),
    **_passing(
        "H25",
        TransportError,
        {
            f"status {word}": [READ, b"HTTP/1.1 %b No\r\n" % word.encode() + EMPTY]
            for word in ("abc", "20", "2000", "-200")
        },
        reason="protocol",
    ),
    **_passing(
        "H25",
        TransportError,
        {"another protocol": [READ, b"SSH-2.0-OpenSSH\r\n\r\n"]},
        reason="protocol",
    ),
    **_passing(
        "H25",
        TransportError,
        {
            "a body without a head": [READ, b'{"id": "t"}', CLOSE],
            "an alert of TLS": [READ, b"\x15\x03\x01\x00\x02\x02\x46", CLOSE],
        },
        # The parser in Python waits for a line end, and gets the end of the connection.
        reason=_by_parser(c="protocol", python="disconnected"),
    ),
    **_passing(
        "H26",
        TransportError,
        {
            f"chunks {name}": [READ, CHUNKED + chunks + b"\r\n0\r\n\r\n"]
            for name, chunks in {
                "of letters": b"zz\r\n{}",
                "of negative size": b"-2\r\n{}",
                "of hexadecimal sign": b"0x2\r\n{}",
                "without a size": b"\r\n{}",
                "longer than their size": b'1\r\n{"id": "t"}',
                "without an end of line": b"2\r\n{}0",
            }.items()
        },
        reason="protocol",
    ),
    "chunks beyond all numbers": Fault(
        row="H26",
        script=[READ, CHUNKED + b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n", STALL],
        # The parser in Python waits for them.
        kind=_by_parser(c=TransportError, python=RequestTimeoutError),
        reason=_by_parser(c="protocol", python="timeout"),
    ),
    **_passing(
        "H26",
        TransportError,
        {
            "chunks without the last": [READ, CHUNKED + b"2\r\n{}\r\n", CLOSE],
            "a huge chunk that is cut": [READ, CHUNKED + b"7fffffff\r\n{}", CLOSE],
        },
        reason="payload",
    ),
    **_passing(
        "H26",
        TransportError,
        {
            name: [READ, HEAD + lines.encode() + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n"]
            for name, lines in {
                "length, then chunks": "Content-Length: 12\r\nTransfer-Encoding: chunked",
                "chunks, then length": "Transfer-Encoding: chunked\r\nContent-Length: 12",
            }.items()
        },
        reason="protocol",
    ),
    **_passing(
        "H26",
        TransportError,
        {
            f"length {name}": [READ, HEAD + lines.encode() + b"\r\n\r\n{}x"]
            for name, lines in {
                "of two values": "Content-Length: 2\r\nContent-Length: 3",
                "of two values, the longer first": "Content-Length: 3\r\nContent-Length: 2",
                "sent twice": "Content-Length: 3\r\nContent-Length: 3",
                "in a list": "Content-Length: 2, 2",
                "negative": "Content-Length: -2",
                "with a sign": "Content-Length: +2",
                "in letters": "Content-Length: two",
                "hexadecimal": "Content-Length: 0x2",
                "empty": "Content-Length: ",
                "of 5,000 digits": "Content-Length: " + "9" * 5000,
            }.items()
        },
        reason="protocol",
    ),
    "length beyond all numbers": Fault(
        row="H26",
        script=[READ, HEAD + b"Content-Length: " + b"9" * 25 + b"\r\n\r\n{}", CLOSE],
        kind=TransportError,
        reason=_by_parser(c="protocol", python="payload"),
    ),
    **_passing(
        "H27",
        TransportError,
        {
            "length too large, then the end": [
                READ,
                HEAD + b"Content-Length: 50\r\n\r\n{}",
                CLOSE,
            ],
            "length too large, then a reset": [
                READ,
                HEAD + b"Content-Length: 50\r\n\r\n{}",
                0.5,
                RESET,
            ],
        },
        reason="payload",
    ),
    "length too large, then nothing": Fault(
        row="H27",
        script=[READ, HEAD + b"Content-Length: 50\r\n\r\n{}", STALL],
        kind=RequestTimeoutError,
        reason="timeout",
    ),
    "length too small": Fault(
        row="H27",
        script=[READ, HEAD + b'Content-Length: 9\r\n\r\n{"id": "t", "status": "completed"}'],
        # The parser in Python drops what follows the body.
        kind=_by_parser(c=TransportError, python=BadResponseError),
        reason=_by_parser(c="protocol", python="not_json"),
    ),
    **_passing(
        "H28",
        TransportError,
        {
            "a long header": [READ, HEAD + b"X-A: " + b"a" * 8200 + b"\r\n" + EMPTY],
            "a long name of a header": [READ, HEAD + b"a" * 8200 + b": a\r\n" + EMPTY],
            "a long status line": [READ, b"HTTP/1.1 200 " + b"a" * 8200 + b"\r\n" + EMPTY],
            "many headers": [READ, HEAD + b"X-A: a\r\n" * 129 + EMPTY],
            "10 MB of headers": [
                READ,
                HEAD,
                *[(b"X-A: " + b"a" * 8000 + b"\r\n") * 10] * 130,
                EMPTY,
            ],
            "one header of 10 MB": [READ, HEAD + b"X-A: ", *[b"a" * 65536] * 160, b"\r\n" + EMPTY],
            "endless headers": Endless(READ, HEAD, part=b"X-A: a\r\n" * 1000),
            "a header without a colon": [READ, HEAD + b"hello\r\n" + EMPTY],
            "a header with NUL": [READ, HEAD + b"X-A: a\x00b\r\n" + EMPTY],
            "a header of no name": [READ, HEAD + b": a\r\n" + EMPTY],
        },
        reason="protocol",
    ),
    "many trailers": Fault(
        row="H28",
        script=[READ, CHUNKED + b"2\r\n{}\r\n0\r\n" + b"X-A: a\r\n" * 200 + b"\r\n"],
        kind=TransportError,
        reason=_by_parser(c="protocol", python="payload"),
    ),
}

# -- too much -------------------------------------------------------------------------------------

_TASK = json.dumps(task("t")).encode()

_TOO_MUCH: dict[str, Fault] = {
    **_passing(
        "H29",
        BadResponseError,
        {
            "a body of 2 MiB": _reply(b" " * (2 * MEBIBYTE)),
            "a declared terabyte": [
                READ,
                HEAD + b"Content-Length: 1000000000000\r\n\r\n",
                *[b" " * 65536] * 40,
            ],
            "an endless body": Endless(READ, HEAD + b"\r\n", part=b" " * 65536),
            "an endless body in chunks": Endless(
                READ, CHUNKED, part=b"10000\r\n" + b" " * 65536 + b"\r\n"
            ),
        },
        reason="too_large",
    ),
    **_passing(
        "H30",
        BadResponseError,
        {"a bomb of gzip": [*_packed(packed_bomb(1024)), STALL]},
        reason="too_large",
    ),
    **_passing(
        "H30",
        TransportError,
        {
            "thousands of gzip members": _packed(gzip.compress(b" " * 100) * 20_000),
            "thousands of empty gzip members": _packed(
                gzip.compress(b"") * 20_000 + gzip.compress(_TASK)
            ),
            "gzip of a wrong sum": _packed(gzip.compress(_TASK)[:-8] + b"12345678"),
            "gzip that is none": _packed(_TASK),
            "garbage after gzip": _packed(gzip.compress(_TASK) + b"garbage"),
        },
        reason="payload",
    ),
    "deflate that is cut": Fault(
        row="H30",
        script=_packed(zlib.compress(_TASK)[:-5], "deflate"),
        kind=TransportError,
        reason=_by_parser(c="protocol", python="payload"),
    ),
    **_passing(
        "H30",
        BadResponseError,
        {
            "gzip in gzip": _packed(gzip.compress(gzip.compress(_TASK))),
            "gzip in gzip, declared": _packed(gzip.compress(gzip.compress(_TASK)), "gzip, gzip"),
            "gzip that is cut": _packed(gzip.compress(_TASK)[:-12]),
            "gzip that is cut in half": _packed(gzip.compress(_TASK)[:25]),
            "an encoding nobody knows": _packed(b"\x1f\x9d\x90", "compress"),
        },
        reason="not_json",
    ),
    "gzip of nothing": Fault(row="H30", script=_packed(b""), kind=BadResponseError, reason="empty"),
    **{
        # These bytes are invalid, with and without the package for the encoding.
        f"{encoding} unasked": Fault(
            row="H30",
            script=_packed(b"\xff" * 30, encoding),
            kind=TransportError,
            reason="payload" if has_package else "protocol",
        )
        for encoding, has_package in (("br", HAS_BROTLI), ("zstd", HAS_ZSTD))
    },
}

_PAGES: dict[str, Fault] = {
    "a web page": Fault(row="H31", script=_page("200 OK"), kind=BadResponseError, reason="html"),
    "plain text": Fault(
        row="H31",
        script=_reply(b"upstream is sleeping", "Content-Type: text/plain"),
        kind=BadResponseError,
        reason="not_json",
    ),
}

HTTP: dict[str, Fault] = {
    **_REFUSALS,
    **_REDIRECTS,
    **_SUCCESSES,
    **_NO_HTTP,
    **_TOO_MUCH,
    **_PAGES,
}

# -- JSON -----------------------------------------------------------------------------------------


def _foreign(seen: Seen) -> bytes:
    """Reply about another task each time."""
    return response(task(f"{seen.task_id}-{seen.connection}-{seen.at}"))


_NOT_JSON = {
    "J1": {"UTF-16": _TASK.decode().encode("UTF-16"), "cut": _TASK[:-1]},
    "J2": {"30,000 arrays": b"[" * 30_000 + b"]" * 30_000},
    "J4": {"5,000 digits": b'{"id": "t", "progress": ' + b"9" * 5000 + b"}"},
    "J5": {"status named twice": b'{"id": "t", "status": "failed", "status": "completed"}'},
}
_NO_TASK = {
    "J6": {"a list at the top": [{"id": "t"}]},
    "J7": {"status null": {"status": None, "progress": 100}},
    "J8": {"a number as id": {"id": 5}},
}

JSON: dict[str, Fault] = {
    name: Fault(row=row, script=_reply(body), kind=BadResponseError, reason=reason)
    for reason, rows in (("not_json", _NOT_JSON), ("schema", _NO_TASK))
    for row, bodies in rows.items()
    for name, body in bodies.items()
} | {
    "another id each time": Fault(
        row="J8",
        script=[READ, _foreign],
        kind=BadResponseError,
        reason="id_mismatch",
        requests=2,
    ),
}

CATALOG: dict[str, Fault] = {**NETWORK, **HTTP, **JSON}
