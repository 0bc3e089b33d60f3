"""Error code, message and type of a response body, in the shapes of all known gateways."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ezvideo_async._domain.redaction import redact_queries
from ezvideo_async._domain.task import ErrorInfo
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.fields import (
    is_no_error,
    is_object,
    read_aliases,
    scalar_text,
    short_text,
    text_or_none,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezvideo_async._protocol.fields import JSONObject

_MAX_SHOWN = 200  # characters of a code or message in an error line
_MAX_MESSAGE, _MAX_CODE = 2_000, 200  # characters that are kept: a server may send a megabyte
_HTTP_ERRORS_FROM = 400
_MAX_DETAILS = 20  # FastAPI's issues of one request; it has as many as the request has fields

_NEGATION = re.compile(r"\b(?:not|un\w*)\b|[未不]")

_NO_ERROR = ErrorInfo()


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


NO_ERROR_BODY = ErrorBody()

# -- one object -----------------------------------------------------------------------------------


def read_error(level: JSONObject) -> ErrorInfo:
    """Return code and message in ``error``; an error that is a text has its code beside it."""
    error = level.get("error")
    if error is None:  # in most responses
        return _NO_ERROR
    if is_object(error):
        return error_info(
            scalar_text(error.get("code")),
            read_aliases(error, dialects.ERROR_MESSAGE_FIELDS, scalar_text),
        )
    if text := text_or_none(error):
        return error_info(scalar_text(level.get("code")), text)
    return _NO_ERROR


def read_flat_error(level: JSONObject) -> ErrorInfo:
    """
    Return code and message that stand among the other fields, or in MiniMax's ``base_resp``.

    A status that is a number from 400 is a code of HTTP.
    """
    code = read_aliases(level, dialects.CODE_FIELDS, scalar_text)
    message = read_aliases(level, dialects.MESSAGE_FIELDS, text_or_none)
    base = level.get(dialects.BASE_RESPONSE_FIELD)
    if is_object(base):
        code = code or scalar_text(base.get("status_code"))
        message = message or text_or_none(base.get("status_msg"))
    status = level.get("status")
    if code is None and isinstance(status, int) and status >= _HTTP_ERRORS_FROM:
        code = str(status)  # Spring
    return error_info(code, message or _detail_text(level.get("detail")))


def error_info(code: str | None, message: str | None) -> ErrorInfo:
    """Return a code and a message, cut to what is kept of them."""
    return ErrorInfo(
        code=None if code is None else short_text(code, _MAX_CODE),
        message=None if message is None else short_text(message, _MAX_MESSAGE),
    )


def is_real(error: ErrorInfo) -> bool:
    """Return True if an error has a code that does not mean success, or no code but a message."""
    return error.message is not None if error.code is None else not is_no_error(error.code)


def is_success(message: str | None) -> bool:
    """Return True if a message, or its absence, says that the call succeeded."""
    text = (message or "ok").strip(" .!。").lower()
    if text in dialects.SUCCESS_MESSAGES:
        return True
    return text.endswith(dialects.SUCCESS_ENDINGS) and not _NEGATION.search(text)


def says_failed(level: JSONObject) -> bool:
    """Return True if a flag of an object says that the call failed."""
    return any(level.get(name) is value for name, value in dialects.FAILURE_FLAGS)


def has_call_error(level: JSONObject) -> bool:
    """Return True if an object says that the call failed, by a flag, an error or a code."""
    if says_failed(level) or is_real(read_error(level)):
        return True
    flat = read_flat_error(level)
    is_success_anyway = flat.message is not None and is_success(flat.message)
    return not is_no_error(flat.code) and not is_success_anyway


def _detail_text(detail: object) -> str | None:
    """Return FastAPI's ``detail`` as text: a text, an error, or a list of ``loc`` and ``msg``."""
    if is_object(detail):
        message = read_error(detail).message
        return message or read_aliases(detail, dialects.MESSAGE_FIELDS, text_or_none)
    if not isinstance(detail, list):
        return text_or_none(detail)
    issues = islice((issue for issue in detail if is_object(issue)), _MAX_DETAILS)
    return "; ".join(part for part in map(_fastapi_issue, issues) if part) or None


def _fastapi_issue(issue: JSONObject) -> str:
    location = issue.get("loc")
    steps = location[:_MAX_DETAILS] if isinstance(location, list) else ()
    path = ".".join(step for step in map(scalar_text, steps) if step)
    return ": ".join(part for part in (path, scalar_text(issue.get("msg"))) if part)


# -- a whole body ---------------------------------------------------------------------------------


def read_error_body(levels: Iterable[JSONObject]) -> ErrorBody:
    """Return the error of the outermost level that has one; a "success" counts last."""
    found = [_error_at(level) for level in levels]
    candidates = [error for error in found if error.code or error.message]
    return min(candidates, key=_has_success_code, default=NO_ERROR_BODY)


def _has_success_code(error: ErrorBody) -> bool:
    return error.code is not None and is_no_error(error.code)


def _error_at(level: JSONObject) -> ErrorBody:
    nested, flat = read_error(level), read_flat_error(level)
    return ErrorBody(
        code=_redacted(nested.code or flat.code, _MAX_CODE),
        message=_redacted(nested.message or flat.message, _MAX_MESSAGE),
        error_type=_redacted(_error_type(level), _MAX_CODE),
    )


def _redacted(text: str | None, limit: int) -> str | None:
    return None if text is None else short_text(redact_queries(short_text(text, limit)), limit)


def _error_type(level: JSONObject) -> str | None:
    error = level.get("error")
    nested = text_or_none(error.get("type")) if is_object(error) else None
    return nested or text_or_none(level.get("type"))


# -- what is shown --------------------------------------------------------------------------------


def error_line(start: str, error: ErrorBody) -> str:
    """Return one printable line: *start*, then the server's code and message, cut and escaped."""
    line = start if error.code is None else f"{start} ({_printable(error.code)})"
    return line if error.message is None else f"{line}: {_printable(error.message)}"


def _printable(text: str) -> str:
    cut = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in cut
    )
