"""
What an error body tells, in the shapes of all known gateways.

No await, no clock, no randomness, no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from ezvideo_async._domain.redaction import redact_queries
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.fields import is_object, scalar_text, text_or_none
from ezvideo_async._protocol.task_decoder import envelope_levels, read_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_SENTENCE_CHARACTERS = 200


@frozen
class ErrorBody:
    """What an error body tells; queries of urls are left out, for signed ones are keys."""

    code: str | None = None
    message: str | None = None
    error_type: str | None = None


def parse_error_body(body: bytes) -> ErrorBody:
    """Read the body of an error, whatever bytes it holds."""
    try:
        answer = decode_json(body)
    except ValueError:
        return ErrorBody()
    return read_error_body(answer) if is_object(answer) else ErrorBody()


def read_error_body(answer: Mapping[str, Any]) -> ErrorBody:
    """Read an error body, at the outermost level that tells of trouble, or of anything."""
    told = [_told_at(level) for level in envelope_levels(answer)]
    telling = [each for each in told if each.code or each.message]
    # "success" in a wrapper is the last thing to tell about an error inside it.
    return min(telling, key=_says_no_error, default=ErrorBody())


def _says_no_error(told: ErrorBody) -> bool:
    return told.code is not None and dialects.is_no_error(told.code)


def _told_at(level: Mapping[str, Any]) -> ErrorBody:
    nested = read_error(level)
    return ErrorBody(
        code=_without_queries(nested.code or scalar_text(level.get("code"))),
        message=_without_queries(nested.message or _flat_message(level)),
        error_type=_without_queries(_error_type(level)),
    )


def _without_queries(text: str | None) -> str | None:
    return None if text is None else redact_queries(text)


def _flat_message(level: Mapping[str, Any]) -> str | None:
    flat = text_or_none(level.get("message")) or text_or_none(level.get("msg"))
    return flat or _fastapi_detail(level.get("detail"))


def _fastapi_detail(detail: object) -> str | None:
    """Read FastAPI's ``detail``: a text, or a list of ``loc`` and ``msg``."""
    if not isinstance(detail, list):
        return text_or_none(detail)
    parts = [_fastapi_fault(fault) for fault in detail if is_object(fault)]
    return "; ".join(part for part in parts if part) or None


def _fastapi_fault(fault: Mapping[str, Any]) -> str:
    place = fault.get("loc")
    steps = [scalar_text(step) for step in place] if isinstance(place, list) else []
    where = ".".join(step for step in steps if step)
    return ": ".join(part for part in (where, scalar_text(fault.get("msg"))) if part)


def _error_type(level: Mapping[str, Any]) -> str | None:
    error = level.get("error")
    nested = text_or_none(error.get("type")) if is_object(error) else None
    return nested or text_or_none(level.get("type"))


def sentence(start: str, told: ErrorBody) -> str:
    """Make one line for people; what the server said is cut and escaped."""
    line = start if told.code is None else f"{start} ({_plain(told.code)})"
    return line if told.message is None else f"{line}: {_plain(told.message)}"


def _plain(text: str) -> str:
    cut = text if len(text) <= _SENTENCE_CHARACTERS else text[:_SENTENCE_CHARACTERS] + "…"
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in cut
    )
