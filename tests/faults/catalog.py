"""
Troubles that a server or a network can make on one connection, each with what must follow.

Every entry is a script for ``RawServer``; the tests of this folder play each of them to
``retrieve()`` and to a watcher, over an own and a borrowed session.
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import frozen

from ezvideo_async.errors import (
    BadRequestError,
    BadResponseError,
    EzVideoError,
    RequestTimeoutError,
    ServerError,
    TransportError,
)
from tests.raw_server import CLOSE, READ, RESET, STALL, Script, answer

Verdict = Literal["retry", "lost", "fatal"]
"""The watcher asks again; gives up this id; ends with everybody."""


@frozen(kw_only=True)
class Trouble:
    """
    One trouble.

    Attributes:
        row: The row of the fault table.
        script: What happens on the first connection; the following ones are in order.
        kind: The class of the error that ``retrieve()`` raises.
        verdict: What a watcher makes of it.
        reason: The error's ``reason``; None where it has none.
    """

    row: str
    script: Script
    kind: type[EzVideoError]
    verdict: Verdict = "retry"
    reason: str | None = None


def _refusal(status: int, *headers: str, code: str = "x") -> bytes:
    """An error answer in the API document's shape."""
    body: dict[str, Any] = {"error": {"code": code, "message": "m"}}
    return answer(body, *headers, status=f"{status} S")


_OK = b"HTTP/1.1 200 OK\r\n"
_SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_BODY = b'{"id": "t", "status": "completed", "seconds": "5"'


def _dripped(text: bytes, pause: float = 1.0) -> Script:
    """Send byte by byte."""
    return [step for byte in text for step in (bytes([byte]), pause)]


_NO_BYTES: dict[str, Script] = {
    "before the request is read": [],
    "after the request": [READ],
}
_PARTS_OF_A_HEAD: dict[str, Script] = {
    "in the status line": [READ, b"HTTP/1.1 20"],
    "after the status line": [READ, _OK],
    "in a header": [READ, _OK, b"Content-Type: applic"],
    "before the empty line": [READ, _OK, b"Content-Length: 99\r\n"],
    "after an interim answer": [READ, b"HTTP/1.1 103 Hints\r\n\r\n"],
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
    "of interim answers": [READ, *[b"HTTP/1.1 103 Hints\r\n\r\n", 1.0] * 60],
}

NETWORK: dict[str, Trouble] = {
    **{
        f"{end} {where}": Trouble(
            row=row, script=[*start, step], kind=TransportError, reason="disconnected"
        )
        for end, step, row in (("fin", CLOSE, "N8"), ("rst", RESET, "N9"))
        for where, start in _NO_BYTES.items()
    },
    **{
        f"{end} {where}": Trouble(
            row="N10", script=[*start, 0.1, step], kind=TransportError, reason="disconnected"
        )
        for end, step in (("fin", CLOSE), ("rst", RESET))
        for where, start in _PARTS_OF_A_HEAD.items()
    },
    **{
        f"{end} {where}": Trouble(
            row="N11", script=[*start, 0.1, step], kind=TransportError, reason="payload"
        )
        for end, step in (("fin", CLOSE), ("rst", RESET))
        for where, start in _PARTS_OF_A_BODY.items()
    },
    **{  # nothing tells this end from the body's
        f"{end} in a body without length": Trouble(
            row="N11",
            script=[READ, _OK, b"\r\n", _BODY, 0.1, step],
            kind=BadResponseError,
            reason="not_json",
        )
        for end, step in (("fin", CLOSE), ("rst", RESET))
    },
    **{
        f"stall {where}": Trouble(
            row="N13", script=[*start, STALL], kind=RequestTimeoutError, reason="timeout"
        )
        for where, start in {**_NO_BYTES, **_PARTS_OF_A_HEAD, **_PARTS_OF_A_BODY}.items()
    },
    **{
        f"drip {what}": Trouble(
            row="N14", script=script, kind=RequestTimeoutError, reason="timeout"
        )
        for what, script in _DRIPS.items()
    },
}

HTTP: dict[str, Trouble] = {
    **{
        f"status {status}": Trouble(
            row="H1", script=[READ, _refusal(status)], kind=BadRequestError, verdict="lost"
        )
        for status in (400, 405, 406, 411, 415, 417, 422)
    },
    **{
        f"status {status}": Trouble(row="H17", script=[READ, _refusal(status)], kind=ServerError)
        for status in (500, 502, 503, 504, 507, *range(520, 528), 529, 530)
    },
}

JSON: dict[str, Trouble] = {}

CATALOG: dict[str, Trouble] = {**NETWORK, **HTTP, **JSON}
