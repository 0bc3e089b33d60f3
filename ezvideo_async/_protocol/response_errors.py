"""Errors of responses that show no state of a task: one class per status, code and shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ezvideo_async import errors
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.error_body import ErrorBody, error_line
from ezvideo_async._protocol.messages import Response, is_html
from ezvideo_async._protocol.not_found import is_about_a_task, normalized_code

if TYPE_CHECKING:
    from ezvideo_async.errors import BadResponseReason, EzVideoError

_NOT_FOUND = "the server has no task with this id"
_NOT_FOUND_OR_ROUTE = f"{_NOT_FOUND}, or base_url is wrong; does it end with /v1?"
_NOT_ALLOWED = "not allowed (is the API key limited to some models, or banned?)"
_KEY_REFUSED = "the API key was refused"
_RATE_LIMITED = "too many requests"

_GONE = 410
_TRANSIENT = frozenset({408, 409, 421, 425})
"""4xx that depend on the moment, not on the request (RFC 9110); SDKs repeat them too."""
_PERMANENT = frozenset({501, 505, 506, 508, 510, 511})
"""5xx that repeating does not end (RFC 9110, RFC 6585, RFC 5842)."""


def bad_response(
    response: Response, reason: BadResponseReason, phrase: str, **fields: Any
) -> errors.BadResponseError:
    """Return the error of a response that is no task, with its status and size in the message."""
    return errors.BadResponseError(
        f"{phrase} (HTTP {response.status}, {len(response.body)} bytes)",
        status=response.status,
        reason=reason,
        request_id=response.request_id,
        **fields,
    )


# -- success statuses ---------------------------------------------------------------------------


def error_under_success(response: Response, error: ErrorBody, task_id: str) -> EzVideoError:
    """Return the error of a body that a gateway sent under a success status, by its code."""
    code = normalized_code(error.code)
    if code == "404" or code in dialects.NOT_FOUND_CODES:
        return _not_found(response, error, None, task_id)
    for codes, kind, phrase, retryable in _KINDS_BY_CODE:
        if code in codes:
            return kind(
                error_line(phrase, error),
                retryable=retryable,
                status=response.status,
                request_id=response.request_id,
                **error.fields,
            )
    return bad_response(
        response,
        "schema",
        error_line("the response is not a task", error),
        paths=("expected a status, an id or a url @ $",),
        **error.fields,
    )


_KINDS_BY_CODE: tuple[tuple[frozenset[str], type[errors.APIStatusError], str, bool], ...] = (
    (dialects.AUTHENTICATION_CODES, errors.AuthenticationError, _KEY_REFUSED, False),
    (dialects.PERMISSION_CODES, errors.PermissionDeniedError, _NOT_ALLOWED, False),
    (dialects.RATE_LIMIT_CODES, errors.RateLimitError, _RATE_LIMITED, True),
)


# -- other statuses -----------------------------------------------------------------------------


def error_of_status(
    response: Response, error: ErrorBody, excerpt: str | None, task_id: str
) -> EzVideoError:
    """Return the error of an error status; *excerpt* is None for a body that is JSON."""
    status, code = response.status, normalized_code(error.code)
    start = f"HTTP {status}: "
    fields: dict[str, Any] = {
        "status": status,
        "request_id": response.request_id,
        "body_excerpt": excerpt,
        **error.fields,
    }
    if status == 404 and _is_wrong_route(response, error.message):  # noqa: PLR2004 -- HTTP
        line = error_line(f"{start}no such route (does base_url end with /v1?)", error)
        return errors.ConfigError(line, reason="route", retryable=False, **fields)
    if status in {404, _GONE} or (status < 500 and code in dialects.NOT_FOUND_CODES):  # noqa: PLR2004 -- HTTP
        return _not_found(response, error, excerpt, task_id)
    kind, phrase, retryable = _classify(response, code, is_json=excerpt is None)
    if kind not in _DECIDED_KINDS:
        retryable = _should_retry(response, default=retryable)
    return kind(error_line(start + phrase, error), retryable=retryable, **fields)


_DECIDED_KINDS = (errors.AuthenticationError, errors.PermissionDeniedError)
"""Errors that ``x-should-retry`` does not make retryable: the same key fails again."""

_Classified = tuple[type[errors.APIStatusError], str, bool]


def _classify(response: Response, code: str, *, is_json: bool) -> _Classified:
    """Return the class, the phrase and ``retryable`` of an error status."""
    match response.status:
        case 401:
            return errors.AuthenticationError, _KEY_REFUSED, False
        case 402:
            return errors.PermissionDeniedError, "the account has no credit", False
        case 403 if not is_json:
            return errors.PermissionDeniedError, "a firewall refused the request", True
        case 403:
            return errors.PermissionDeniedError, _NOT_ALLOWED, False
        case 429 if code in dialects.QUOTA_CODES:
            return errors.RateLimitError, "the quota is used up", False
        case 429:
            return errors.RateLimitError, _RATE_LIMITED, True
        case status if status in _TRANSIENT or status >= 500:  # noqa: PLR2004 -- HTTP
            phrase = "the server failed to handle the request"
            return errors.ServerError, phrase, status not in _PERMANENT
        case _:
            # Azure sends Retry-After with those 400s that may be repeated once; what is no JSON
            # is a proxy's.
            retryable = not is_json or "retry-after" in response.headers
            return errors.BadRequestError, "the request was refused", retryable


def _should_retry(response: Response, *, default: bool) -> bool:
    """Return the value of ``x-should-retry``, which gateways of the OpenAI family send."""
    if response.status in _PERMANENT:
        return default
    value = response.headers.get("x-should-retry", "").strip().lower()
    return {"true": True, "false": False}.get(value, default)


def _is_wrong_route(response: Response, message: str | None) -> bool:
    if message is not None:
        return message.startswith(dialects.WRONG_ROUTE_PREFIXES)
    start = response.body[:256].lstrip().decode("utf-8", "replace")
    return is_html(response) or start.startswith(dialects.WRONG_ROUTE_PREFIXES)


def _not_found(
    response: Response, error: ErrorBody, excerpt: str | None, task_id: str
) -> errors.TaskNotFoundError:
    is_ambiguous = response.status != _GONE and not is_about_a_task(error, excerpt, task_id)
    phrase = _NOT_FOUND_OR_ROUTE if is_ambiguous else _NOT_FOUND
    start = phrase if response.is_success else f"HTTP {response.status}: {phrase}"
    return errors.TaskNotFoundError(
        error_line(start, error),
        is_ambiguous=is_ambiguous,
        retryable=_should_retry(response, default=False),
        status=response.status,
        request_id=response.request_id,
        body_excerpt=excerpt,
        **error.fields,
    )


def redirect_error(response: Response) -> errors.ConfigError:
    """Return the error of a redirect, with the origin of its target."""
    try:
        target = urlsplit(response.headers.get("location", ""))
        origin = f"{target.scheme}://{target.hostname}" if target.hostname else "this server"
    except ValueError:
        origin = "an invalid url"
    return errors.ConfigError(
        f"HTTP {response.status}: the server redirects to {origin[:200]!a}; redirects are not "
        "followed, so set base_url to the API itself",
        status=response.status,
        reason="redirect",
        request_id=response.request_id,
    )
