"""Error code, message and type of a response body, in the shapes of all known gateways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from ezvideo_async._domain.redaction import redact_queries
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._protocol.fields import is_no_error, is_object, scalar_text, text_or_none
from ezvideo_async._protocol.task_decoder import envelope_levels, read_error

if TYPE_CHECKING:
    from ezvideo_async._protocol.fields import JSONObject

_MAX_CHARACTERS = 200
"""Characters of a code or message in an error line."""


@frozen
class ErrorBody:
    """
    The error in a response body, None where it has no such text.

    Queries of urls are redacted, because signed urls are keys.
    """

    code: str | None = None
    message: str | None = None
    error_type: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The arguments of an exception."""
        return {"code": self.code, "server_message": self.message, "error_type": self.error_type}


def parse_error_body(body: bytes) -> ErrorBody:
    """Return the error in a body of any bytes; an empty one if there is none."""
    try:
        decoded = decode_json(body)
    except ValueError:
        return ErrorBody()
    return read_error_body(decoded) if is_object(decoded) else ErrorBody()


def read_error_body(decoded: JSONObject) -> ErrorBody:
    """Return the error of the outermost level that has one; a "success" counts last."""
    errors = [_error_at(level) for level in envelope_levels(decoded)]
    candidates = [error for error in errors if error.code or error.message]
    return min(candidates, key=_has_success_code, default=ErrorBody())


def _has_success_code(error: ErrorBody) -> bool:
    return error.code is not None and is_no_error(error.code)


def _error_at(level: JSONObject) -> ErrorBody:
    nested = read_error(level)
    message = nested.message or text_or_none(level.get("message")) or text_or_none(level.get("msg"))
    return ErrorBody(
        code=_redacted(nested.code or scalar_text(level.get("code"))),
        message=_redacted(message or _fastapi_detail(level.get("detail"))),
        error_type=_redacted(_error_type(level)),
    )


def _redacted(text: str | None) -> str | None:
    return None if text is None else redact_queries(text)


def _fastapi_detail(detail: object) -> str | None:
    """Return FastAPI's ``detail``: a text, or a list of ``loc`` and ``msg`` as text."""
    if not isinstance(detail, list):
        return text_or_none(detail)
    parts = [_fastapi_issue(issue) for issue in detail if is_object(issue)]
    return "; ".join(part for part in parts if part) or None


def _fastapi_issue(issue: JSONObject) -> str:
    location = issue.get("loc")
    steps = [scalar_text(step) for step in location] if isinstance(location, list) else []
    path = ".".join(step for step in steps if step)
    return ": ".join(part for part in (path, scalar_text(issue.get("msg"))) if part)


def _error_type(level: JSONObject) -> str | None:
    error = level.get("error")
    nested = text_or_none(error.get("type")) if is_object(error) else None
    return nested or text_or_none(level.get("type"))


def error_line(start: str, error: ErrorBody) -> str:
    """Return one printable line: *start*, then the server's code and message, cut and escaped."""
    line = start if error.code is None else f"{start} ({_printable(error.code)})"
    return line if error.message is None else f"{line}: {_printable(error.message)}"


def _printable(text: str) -> str:
    cut = text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "…"
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in cut
    )
