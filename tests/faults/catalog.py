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
    EzVideoError,
    ServerError,
    TransportError,
)
from tests.raw_server import CLOSE, READ, RESET, Script, answer

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


NETWORK: dict[str, Trouble] = {
    "fin": Trouble(row="N8", script=[CLOSE], kind=TransportError, reason="disconnected"),
    "rst after the request": Trouble(
        row="N9", script=[READ, RESET], kind=TransportError, reason="disconnected"
    ),
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
