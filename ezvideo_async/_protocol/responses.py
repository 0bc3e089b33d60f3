"""
Decoder of responses to a status request: a task or an error, and the polling hint.

``decode_task`` is total: it accepts any status, headers and bytes, returns a ``VideoTask`` or an
``EzVideoError``, and raises nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ezvideo_async import errors
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.error_body import (
    ErrorBody,
    error_line,
    parse_error_body,
    read_error_body,
)
from ezvideo_async._protocol.fields import is_object
from ezvideo_async._protocol.messages import (
    FRESH,
    NO_HINT,
    Evidence,
    PollHint,
    Response,
    body_excerpt,
    is_html,
)
from ezvideo_async._protocol.retry_after import parse_retry_after
from ezvideo_async._protocol.task_decoder import decode_envelope, read_envelope

if TYPE_CHECKING:
    from typing import Any

    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async._protocol.fields import JSONObject
    from ezvideo_async.errors import BadResponseReason, EzVideoError

_NOT_FOUND = "the server has no task with this id"
_KEY_REFUSED = "the API key was refused"
_RATE_LIMITED = "too many requests"

_WHOLE_MILLISECONDS = re.compile(r"[0-9]{1,9}\Z")
_REDIRECTS = range(300, 400)
_ERRORS = range(400, 600)
_WITHOUT_BODY = frozenset({204, 205, 304})
_TRANSIENT = frozenset({408, 409, 421, 425})
"""4xx that depend on the moment, not on the request (RFC 9110); SDKs repeat them too."""
_PERMANENT = frozenset({501, 505, 506, 508, 510, 511})
"""5xx that repeating does not end (RFC 9110, RFC 6585, RFC 5842)."""


def poll_hint(response: Response, *, unix_now: float) -> PollHint:
    """Return the times that a response asks to wait; *unix_now* replaces a missing ``Date``."""
    headers = response.headers
    after_ms = headers.get("openai-poll-after-ms")
    if after_ms is None and "retry-after" not in headers and "retry-after-ms" not in headers:
        return NO_HINT
    milliseconds = _WHOLE_MILLISECONDS.match((after_ms or "").strip())
    return PollHint(
        retry_after=parse_retry_after(headers, unix_now=unix_now),
        poll_after=int(milliseconds[0]) / 1000.0 if milliseconds else None,
    )


def decode_task(
    response: Response, *, task_id: str, base_url: str, unix_now: float, evidence: Evidence = FRESH
) -> VideoTask | EzVideoError:
    """
    Return the task or the error of a response to a status request.

    Args:
        response: Its status decides first.
        task_id: The id of the request; another id in the response is an ``id_mismatch``.
        base_url: The base of relative urls.
        unix_now: Replaces a missing ``Date`` for an HTTP date in ``Retry-After``.
        evidence: What else is known of the task that the response is about.
    """
    if response.is_success:
        outcome = _decode_success(response, task_id, base_url, evidence)
    else:
        outcome = _decode_error(response)
    if isinstance(outcome, errors.EzVideoError):
        outcome.task_id = task_id
        if isinstance(outcome, errors.APIStatusError | errors.BadResponseError):
            outcome.retry_after = parse_retry_after(response.headers, unix_now=unix_now)
    return outcome


# -- success statuses ---------------------------------------------------------------------------


def _decode_success(
    response: Response, task_id: str, base_url: str, evidence: Evidence
) -> VideoTask | EzVideoError:
    try:
        decoded = decode_json(response.body)
    except ValueError:
        return _not_json(response)
    if not is_object(decoded):
        paths = (f"expected an object @ $, got {_json_type(decoded)}",)
        return _bad_response(response, "schema", "the response is not a JSON object", paths=paths)
    envelope = read_envelope(decoded)
    if envelope.status is None:
        return _error_under_success(response, decoded)
    other = envelope.foreign_id(task_id)
    if other is not None and other not in evidence.aliases:
        phrase = f"the response has the id {other[:80]!a}"
        return _bad_response(response, "id_mismatch", phrase, received_id=other)
    return decode_envelope(
        envelope,
        body=response.body,
        task_id=task_id,
        base_url=base_url,
        request_id=response.request_id,
    )


def _json_type(value: object) -> str:
    names = {type(None): "null", list: "an array", str: "a text"}
    return names.get(type(value), "a number or boolean")


def _error_under_success(response: Response, decoded: JSONObject) -> EzVideoError:
    """Return the error of a body that a gateway sent under a success status, by its code."""
    error = read_error_body(decoded)
    code = (error.code or "").lower()
    for codes, kind, phrase, retryable in _KINDS_BY_CODE:
        if code in codes:
            return kind(
                error_line(phrase, error),
                retryable=retryable,
                status=response.status,
                request_id=response.request_id,
                **error.fields,
            )
    return _bad_response(
        response,
        "schema",
        error_line("the response is not a task", error),
        paths=("expected a status, an id or a url @ $",),
        **error.fields,
    )


_KINDS_BY_CODE: tuple[tuple[frozenset[str], type[errors.APIStatusError], str, bool], ...] = (
    (dialects.NOT_FOUND_CODES, errors.TaskNotFoundError, _NOT_FOUND, False),
    (dialects.AUTHENTICATION_CODES, errors.AuthenticationError, _KEY_REFUSED, False),
    (dialects.RATE_LIMIT_CODES, errors.RateLimitError, _RATE_LIMITED, True),
)


def _not_json(response: Response) -> errors.BadResponseError:
    if not response.body.strip(b" \t\r\n"):
        return _bad_response(response, "empty", "the response body is empty")
    excerpt = body_excerpt(response.body)
    if is_html(response):
        phrase = "the response is a web page; does base_url end with /v1?"
        return _bad_response(response, "html", phrase, body_excerpt=excerpt)
    return _bad_response(response, "not_json", "the response is not JSON", body_excerpt=excerpt)


def _bad_response(
    response: Response, reason: BadResponseReason, phrase: str, **fields: Any
) -> errors.BadResponseError:
    return errors.BadResponseError(
        f"{phrase} (HTTP {response.status}, {len(response.body)} bytes)",
        status=response.status,
        reason=reason,
        request_id=response.request_id,
        **fields,
    )


# -- other statuses -----------------------------------------------------------------------------


def _decode_error(response: Response) -> EzVideoError:
    status = response.status
    if status in _WITHOUT_BODY:
        return _bad_response(response, "empty", "the response has no body")
    if status in _REDIRECTS:
        return _redirect(response)
    if status not in _ERRORS:
        return _bad_response(response, "schema", f"HTTP {status} is not a status of this API")
    error = parse_error_body(response.body)
    kind, phrase, retryable = _classify(response, error)
    if kind not in _DECIDED_KINDS:
        retryable = _should_retry(response, default=retryable)
    made = kind(
        error_line(f"HTTP {status}: {phrase}", error),
        retryable=retryable,
        status=status,
        request_id=response.request_id,
        body_excerpt=None if _is_json(response.body) else body_excerpt(response.body) or None,
        **error.fields,
    )
    if isinstance(made, errors.ConfigError):
        made.reason = "route"
    return made


_DECIDED_KINDS = (errors.AuthenticationError, errors.PermissionDeniedError, errors.ConfigError)
"""Errors that ``x-should-retry`` does not make retryable: the same key and url fail again."""

_Kind = type[errors.APIStatusError] | type[errors.ConfigError]


def _classify(response: Response, error: ErrorBody) -> tuple[_Kind, str, bool]:
    """Return the class, the phrase and ``retryable`` of an error status."""
    status, code = response.status, (error.code or "").lower()
    if status == 404 and _is_wrong_route(response, error.message):  # noqa: PLR2004 -- HTTP
        return errors.ConfigError, "no such route (does base_url end with /v1?)", False
    if status in {404, 410} or (status < 500 and code in dialects.NOT_FOUND_CODES):  # noqa: PLR2004 -- HTTP
        return errors.TaskNotFoundError, _NOT_FOUND, False
    if status in _TRANSIENT or status >= 500:  # noqa: PLR2004 -- HTTP
        phrase = "the server failed to handle the request"
        return errors.ServerError, phrase, status not in _PERMANENT
    return _classify_refusal(response, code)


def _classify_refusal(response: Response, code: str) -> tuple[_Kind, str, bool]:
    match response.status:
        case 401:
            return errors.AuthenticationError, _KEY_REFUSED, False
        case 402:
            return errors.PermissionDeniedError, "the account has no credit", False
        case 403 if is_html(response):
            return errors.PermissionDeniedError, "a firewall sent a web page", True
        case 403:
            phrase = "not allowed (is the API key limited to some models, or banned?)"
            return errors.PermissionDeniedError, phrase, False
        case 429 if code in dialects.QUOTA_CODES:
            return errors.RateLimitError, "the quota is used up", False
        case 429:
            return errors.RateLimitError, _RATE_LIMITED, True
        case _:
            # Azure sends Retry-After with those 400s that may be repeated once.
            retryable = "retry-after" in response.headers
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


def _redirect(response: Response) -> errors.ConfigError:
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


def _is_json(body: bytes) -> bool:
    try:
        decode_json(body)
    except ValueError:
        return False
    return True
