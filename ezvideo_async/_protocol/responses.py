"""
Requests and answers without a network: what to send, and what an answer means.

No await, no clock, no randomness, no I/O.  ``decode_task`` is total: whatever status, headers
and bytes it is given, it returns a ``VideoTask`` or an ``EzVideoError`` and raises nothing; None
for bytes that are known already.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from ezvideo_async import errors
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.error_body import (
    ErrorBody,
    parse_error_body,
    read_error_body,
    sentence,
)
from ezvideo_async._protocol.fields import is_object
from ezvideo_async._protocol.messages import (
    NO_HINT,
    PollHint,
    Request,
    Response,
    excerpt_of,
    is_html,
)
from ezvideo_async._protocol.progress_only import ProgressUpdate, progress_if_only_change
from ezvideo_async._protocol.retry_after import parse_retry_after
from ezvideo_async._protocol.task_decoder import decode_envelope, read_envelope

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ezvideo_async._domain.task import VideoTask

_NO_TASK = "the server knows no task of this id"
_KEY_REFUSED = "the key was refused"
_TOO_MANY = "too many requests"

_HTTP_OK = range(200, 300)
_REDIRECTS = range(300, 400)
_NOT_A_TASK = frozenset({204, 205, 304})
_PASSING = frozenset({408, 409, 421, 425})
"""4xx that are about the moment, not about the request: RFC 9110, and what SDKs retry."""
_HOPELESS = frozenset({501, 505, 506, 508, 510, 511})
"""5xx that do not heal by asking again (RFC 9110, RFC 6585, RFC 5842)."""


_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]+\Z")
"""Of these an id is its own quoting (RFC 3986, 2.3), as most ids are: seen in half the time."""


def retrieve_request(base_url: str, task_id: str) -> Request:
    """Build the request for one task's state: the id is one path segment, nothing left safe."""
    segment = task_id if _UNRESERVED.match(task_id) else quote(task_id, safe="")
    return Request(url=f"{base_url}/videos/{segment}", task_id=task_id)


def poll_hint(response: Response, *, unix_now: float) -> PollHint:
    """Read when the server wants to be asked again; *unix_now* stands in for a missing Date."""
    headers = response.headers
    if "retry-after" not in headers and "retry-after-ms" not in headers:
        after_ms = headers.get("openai-poll-after-ms")
        return NO_HINT if after_ms is None else PollHint(poll_after=_milliseconds(after_ms))
    return PollHint(
        retry_after=parse_retry_after(headers, unix_now=unix_now),
        poll_after=_milliseconds(headers.get("openai-poll-after-ms")),
    )


_WHOLE_MILLISECONDS = re.compile(r"[0-9]{1,9}\Z")


def _milliseconds(text: str | None) -> float | None:
    found = _WHOLE_MILLISECONDS.match(text.strip()) if text is not None else None
    return int(found[0]) / 1000.0 if found else None


def decode_task(
    response: Response,
    *,
    task_id: str,
    base_url: str,
    unix_now: float,
    alias: str | None = None,
    known: bytes = b"",
    progress: int | None = None,
) -> VideoTask | ProgressUpdate | errors.EzVideoError | None:
    """
    Read the answer to a status request.

    Args:
        response: The answer.
        task_id: The id that was asked for; an answer about another one is a
            ``BadResponseError`` with reason ``id_mismatch`` and ``answered_id``.
        base_url: Where relative urls belong.
        unix_now: The wall clock, for an HTTP date in an answer without ``Date``.
        alias: Another id that the answer may be about: the server's own name for the task.
        known: The body that was read last.  An answer that repeats it is not read again.
        progress: What it showed.

    Returns:
        The task, None if it is as *known*, its progress if nothing else has changed, or the
        error to raise; nothing is raised.

    Source:
        FAULTS.md tables H and J; the order of the checks is "status code first".
    """
    if response.status in _HTTP_OK and response.status not in _NOT_A_TASK:
        if known:
            if known == response.body:
                return None
            percent = progress_if_only_change(response.body, known=known, progress=progress)
            if percent is not None:
                return ProgressUpdate(
                    progress=percent, body=response.body, request_id=response.request_id
                )
        read = _decode_success(response, task_id, base_url, alias)
    else:
        read = _decode_error(response, task_id)
    if isinstance(read, errors.APIStatusError | errors.BadResponseError):
        read.retry_after = parse_retry_after(response.headers, unix_now=unix_now)
    return read


def _decode_success(
    response: Response, task_id: str, base_url: str, alias: str | None
) -> VideoTask | errors.EzVideoError:
    try:
        answer = decode_json(response.body)
    except ValueError:
        return _not_json(response, task_id)
    if not is_object(answer):
        return _bad_response(
            response, task_id, "schema", "the answer is not a JSON object",
            paths=(f"expected an object @ $, got {_json_name(answer)}",),
        )  # fmt: skip
    shown = read_envelope(answer)
    if shown.status is None:
        return _error_under_success(response, task_id, answer)
    other = shown.foreign_id(task_id)
    if other is not None and other != alias:
        return _bad_response(
            response, task_id, "id_mismatch", f"the answer is about another task, {other[:80]!a}",
            answered_id=other,
        )  # fmt: skip
    return decode_envelope(
        shown,
        body=response.body,
        task_id=task_id,
        base_url=base_url,
        request_id=response.request_id,
    )


def _json_name(value: object) -> str:
    names = {type(None): "null", list: "an array", str: "a text"}
    return names.get(type(value), "a number or boolean")


def _error_under_success(
    response: Response, task_id: str, answer: Mapping[str, Any]
) -> errors.EzVideoError:
    """Read an error envelope that a gateway sent under a success status, by its code."""
    told = read_error_body(answer)
    code = (told.code or "").lower()
    for codes, kind, phrase, retryable in _KINDS_BY_CODE:
        if code in codes:
            return kind(
                sentence(phrase, told),
                task_id=task_id,
                retryable=retryable,
                status=response.status,
                code=told.code,
                server_message=told.message,
                error_type=told.error_type,
                request_id=response.request_id,
            )
    return _bad_response(
        response,
        task_id,
        "schema",
        sentence("the answer is not a task", told),
        paths=("expected a status, an id or a url @ $",),
        code=told.code,
        server_message=told.message,
        error_type=told.error_type,
    )


_KINDS_BY_CODE: tuple[tuple[frozenset[str], type[errors.APIStatusError], str, bool], ...] = (
    (dialects.NOT_FOUND_CODES, errors.TaskNotFoundError, _NO_TASK, False),
    (dialects.AUTHENTICATION_CODES, errors.AuthenticationError, _KEY_REFUSED, False),
    (dialects.RATE_LIMIT_CODES, errors.RateLimitError, _TOO_MANY, True),
)


def _not_json(response: Response, task_id: str) -> errors.BadResponseError:
    if not response.body.strip(b" \t\r\n"):
        return _bad_response(response, task_id, "empty", "the answer is empty")
    excerpt = excerpt_of(response.body)
    if is_html(response):
        phrase = "got a web page instead of a task; does base_url end with /v1?"
        return _bad_response(response, task_id, "html", phrase, body_excerpt=excerpt)
    phrase = "the answer is not JSON"
    return _bad_response(response, task_id, "not_json", phrase, body_excerpt=excerpt)


def _bad_response(
    response: Response, task_id: str, reason: str, phrase: str, **more: Any
) -> errors.BadResponseError:
    return errors.BadResponseError(
        f"{phrase} (HTTP {response.status}, {len(response.body)} bytes)",
        task_id=task_id,
        status=response.status,
        reason=reason,
        request_id=response.request_id,
        **more,
    )


# -- error answers ------------------------------------------------------------------------------


def _decode_error(response: Response, task_id: str) -> errors.EzVideoError:
    status = response.status
    if status in _REDIRECTS and status not in _NOT_A_TASK:
        return _redirect(response, task_id)
    if status in _NOT_A_TASK:
        return _bad_response(response, task_id, "empty", "the answer has no body")
    if not 400 <= status < 600:  # noqa: PLR2004 -- the error statuses of HTTP
        phrase = f"HTTP {status} is no status of this API"
        return _bad_response(response, task_id, "schema", phrase)
    told = parse_error_body(response.body)
    kind, phrase, retryable = _judge(response, told)
    return kind(
        sentence(f"HTTP {status}: {phrase}", told),
        task_id=task_id,
        retryable=retryable if kind in _FINAL_KINDS else _server_says(response, default=retryable),
        status=status,
        reason="route" if kind is errors.ConfigError else None,
        code=told.code,
        server_message=told.message,
        error_type=told.error_type,
        request_id=response.request_id,
        body_excerpt=None if _is_json(response.body) else excerpt_of(response.body) or None,
    )


_FINAL_KINDS = (errors.AuthenticationError, errors.PermissionDeniedError, errors.ConfigError)
"""A server that says "retry" with one of these means somebody else."""

_Kind = type[errors.APIStatusError] | type[errors.ConfigError]


def _judge(response: Response, told: ErrorBody) -> tuple[_Kind, str, bool]:
    """Name the class, the phrase and whether asking again helps."""
    status, code = response.status, (told.code or "").lower()
    if status == 404 and _is_wrong_route(response, told.message):  # noqa: PLR2004 -- HTTP
        return errors.ConfigError, "no such route (does base_url end with /v1?)", False
    if status in {404, 410} or (status < 500 and code in dialects.NOT_FOUND_CODES):  # noqa: PLR2004 -- HTTP
        return errors.TaskNotFoundError, _NO_TASK, False
    if status in _PASSING or status >= 500:  # noqa: PLR2004 -- HTTP
        return errors.ServerError, "the server is in trouble", status not in _HOPELESS
    return _judge_refusal(response, code)


def _judge_refusal(response: Response, code: str) -> tuple[_Kind, str, bool]:
    match response.status:
        case 401:
            return errors.AuthenticationError, _KEY_REFUSED, False
        case 402:
            return errors.PermissionDeniedError, "the account has no credit", False
        case 403 if is_html(response):
            return errors.PermissionDeniedError, "a firewall's web page", True
        case 403:
            phrase = "not allowed (is the key limited to some models, or banned?)"
            return errors.PermissionDeniedError, phrase, False
        case 429 if code in dialects.QUOTA_CODES:
            return errors.RateLimitError, "the quota is used up", False
        case 429:
            return errors.RateLimitError, _TOO_MANY, True
        case _:
            # Azure sends Retry-After with some 400s: then, and only then, once more.
            return (
                errors.BadRequestError,
                "the request was refused",
                "retry-after" in response.headers,
            )


def _server_says(response: Response, *, default: bool) -> bool:
    """Obey ``x-should-retry``, which gateways of the OpenAI family send."""
    if response.status in _HOPELESS:
        return default
    word = response.headers.get("x-should-retry", "").strip().lower()
    return {"true": True, "false": False}.get(word, default)


def _is_wrong_route(response: Response, message: str | None) -> bool:
    if message is not None:
        return message.startswith(dialects.WRONG_ROUTE_PREFIXES)
    start = response.body[:256].lstrip().decode("utf-8", "replace")
    return is_html(response) or start.startswith(dialects.WRONG_ROUTE_PREFIXES)


def _redirect(response: Response, task_id: str) -> errors.ConfigError:
    try:
        target = urlsplit(response.headers.get("location", ""))
        origin = f"{target.scheme}://{target.hostname}" if target.hostname else "this server"
    except ValueError:
        origin = "an unreadable place"
    return errors.ConfigError(
        f"HTTP {response.status}: the server redirects to {origin[:200]!a}; redirects are not "
        "followed, so set base_url to the API itself",
        task_id=task_id,
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
