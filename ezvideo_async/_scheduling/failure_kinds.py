"""Kinds of failed polls, by what they can be evidence of; verdicts are by kind."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from ezvideo_async.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ConfigError,
    PermissionDeniedError,
    ServerError,
    TaskNotFoundError,
    TransportError,
)

if TYPE_CHECKING:
    from ezvideo_async.errors import EzVideoError

_NO_CREDIT, _GONE, _NOT_IMPLEMENTED = 402, 410, 501
_FIRST_ERROR = 400  # a long page of a failing server says nothing of the task
_LOCAL_REASONS = frozenset({"local_stall", "budget", "resources"})
_NOT_JSON_REASONS = frozenset({"html", "not_json", "empty"})
_WITHOUT_BODY = frozenset({204, 205, 304})


class FailureKind(Enum):
    """What a failed poll can be evidence of."""

    TRANSIENT = auto()  # nothing: no response, 408, 425, 429, 5xx, an error that no row names
    NO_TASK = auto()  # nothing: a response about no task, or about another one
    CONFIGURATION = auto()  # this process: there is no API key, or it cannot be sent
    PAGE = auto()  # a success without JSON: a wrong base_url, or maintenance
    NOT_FOUND = auto()  # the id, in the API's own shape
    GONE = auto()  # the id, by a 410
    AMBIGUOUS = auto()  # a 404 that may be about the id or about the route
    TOO_LARGE = auto()  # the id: its body exceeds max_response_bytes
    REFUSED = auto()  # the id: 400, 422, 501 and other 4xx in the API's shape
    KEY = auto()  # the API key: 401
    NO_CREDIT = auto()  # the account: 402
    FORBIDDEN = auto()  # the API key: 403 in the API's shape
    FIREWALL = auto()  # a firewall: 403 in any other shape
    UNTRUSTED = auto()  # the way to the server: TLS refused, or the login to a proxy
    REDIRECT = auto()  # base_url
    ROUTE = auto()  # base_url: a 404 that no server sends for a task


_BY_REASON = {"redirect": FailureKind.REDIRECT, "route": FailureKind.ROUTE}


def kind_of(error: EzVideoError) -> FailureKind:
    """Return the kind of any error of a poll."""
    match error:
        case TaskNotFoundError():
            return _kind_of_not_found(error)
        case ConfigError():
            return _BY_REASON.get(error.reason or "", FailureKind.CONFIGURATION)
        case AuthenticationError():
            return FailureKind.KEY
        case PermissionDeniedError():
            return _kind_of_denial(error)
        case BadRequestError() if has_api_shape(error):
            return FailureKind.REFUSED
        case ServerError() if error.status == _NOT_IMPLEMENTED and has_api_shape(error):
            return FailureKind.REFUSED  # new-api: about the task's channel
        case TransportError() if error.reason in {"tls", "proxy"} and not error.retryable:
            return FailureKind.UNTRUSTED
        case BadResponseError():
            return _kind_of_bad_response(error)
        case _:
            return FailureKind.TRANSIENT


def _kind_of_not_found(error: TaskNotFoundError) -> FailureKind:
    if error.is_ambiguous:
        return FailureKind.AMBIGUOUS
    return FailureKind.GONE if error.status == _GONE else FailureKind.NOT_FOUND


def _kind_of_denial(error: PermissionDeniedError) -> FailureKind:
    if error.status == _NO_CREDIT:
        return FailureKind.NO_CREDIT
    is_by_api = has_api_shape(error) and not error.retryable
    return FailureKind.FORBIDDEN if is_by_api else FailureKind.FIREWALL


def _kind_of_bad_response(error: BadResponseError) -> FailureKind:
    if error.reason == "too_large":
        is_error = error.status is not None and error.status >= _FIRST_ERROR
        return FailureKind.TRANSIENT if is_error else FailureKind.TOO_LARGE
    if error.reason in _NOT_JSON_REASONS and error.status not in _WITHOUT_BODY:
        return FailureKind.PAGE
    return FailureKind.NO_TASK


def has_api_shape(error: EzVideoError) -> bool:
    """Return True if the response had an error code or message in JSON, as the API sends it."""
    return isinstance(error, APIStatusError) and (error.code or error.message) is not None


def proves_server(error: EzVideoError) -> bool:
    """Return True for "no such task" in the API's shape: key and base_url are right."""
    is_not_found = isinstance(error, TaskNotFoundError) and not error.is_ambiguous
    return is_not_found and has_api_shape(error)


def is_local_stall(error: EzVideoError) -> bool:
    """Return True for a timeout of our own: the loop was blocked while the response waited."""
    return isinstance(error, TransportError) and error.reason == "local_stall"


_ABOUT_BASE_URL = frozenset(
    {
        FailureKind.PAGE,
        FailureKind.NO_TASK,
        FailureKind.AMBIGUOUS,
        FailureKind.ROUTE,
        FailureKind.REDIRECT,
    }
)


def what_to_check(error: EzVideoError) -> str | None:
    """Return what the user should check when nothing valid came yet; None to wait and see."""
    match kind_of(error):
        case FailureKind.TRANSIENT if isinstance(error, TransportError):
            is_local = error.reason in _LOCAL_REASONS
            return None if is_local else "check base_url, the network and the proxy"
        case kind if kind in _ABOUT_BASE_URL:
            return "check that base_url leads to the API"
        case FailureKind.FORBIDDEN | FailureKind.FIREWALL | FailureKind.REFUSED:
            return "check the API key, base_url and the ids"
        case _:
            return None
