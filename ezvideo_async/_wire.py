"""
Requests and answers without a network: what to send, and what an answer means.

No await, no clock, no randomness, no I/O.  ``decode_status`` is total: whatever status, headers
and bytes it is given, it returns a ``VideoTask`` or an ``EzVideoError`` and raises nothing.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from attrs import field, frozen

from ezvideo_async import _dialects as dialects, errors
from ezvideo_async._parse import (
    foreign_id,
    is_object,
    read_error,
    read_task,
    scalar_text,
    shows_task,
    text_or_none,
    unwrapped,
)
from ezvideo_async._retry_after import read_retry_after
from ezvideo_async._strict_json import decode_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ezvideo_async._models import VideoTask

MAX_ID_CHARACTERS = 512
"""FAULTS C2, C3: longer ids are somebody's mistake, and slow to quote."""

EXCERPT_CHARACTERS = 500
_SENTENCE_CHARACTERS = 200

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


@frozen(kw_only=True)
class Request:
    """One request to send: an absolute url, percent-encoded already."""

    url: str
    task_id: str
    method: str = "GET"


@frozen(kw_only=True)
class Response:
    """
    One answer as it came.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case; a header sent twice has its values joined with ``, ``.
        body: Decompressed, whole.
    """

    status: int
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = field(default=b"", repr=False)

    @property
    def request_id(self) -> str | None:
        """The id under which the server's operator finds this request."""
        return text_or_none(self.headers.get("x-request-id")) or text_or_none(
            self.headers.get("x-oneapi-request-id")
        )


@frozen(kw_only=True)
class PollHint:
    """
    When the server wants to be asked again.

    Attributes:
        retry_after: Seconds, of any status; None when the server did not say.
        poll_after: Seconds, from ``openai-poll-after-ms``; None when the server did not say.
    """

    retry_after: float | None = None
    poll_after: float | None = None


NO_HINT = PollHint()

# -- requests ---------------------------------------------------------------------------------


def checked_task_id(task_id: object) -> str:
    """
    Let a usable task id pass, verbatim.

    Raises:
        InvalidTaskIdError: It is no text, empty or blank, ``.`` or ``..``, over 512 characters,
            or holds control characters or lone surrogates.
    """
    if not isinstance(task_id, str):
        message = f"a task id must be text, got {type(task_id).__name__}"
        raise errors.InvalidTaskIdError(message)
    trouble = _trouble_with_id(task_id)
    if trouble:
        message = f"{task_id[:80]!a} can't be a task id: it {trouble}"
        raise errors.InvalidTaskIdError(message)
    return task_id


def _trouble_with_id(task_id: str) -> str | None:
    if len(task_id) > MAX_ID_CHARACTERS:
        return f"has {len(task_id)} characters, at most {MAX_ID_CHARACTERS} are allowed"
    if task_id.isascii() and task_id.isprintable() and task_id.strip(" .") != "":
        return None
    if not task_id.strip():
        return "is empty or blank"
    if task_id in {".", ".."}:
        return "would change the path of the url"
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in task_id):
        return "holds control characters or lone surrogates"
    return None


def checked_base_url(base_url: object) -> str:
    """
    Let a usable base url pass, without its trailing slashes.

    Raises:
        ConfigError: It is no ``http(s)`` url with a host, or carries a user, a query or a
            fragment.
    """
    if not isinstance(base_url, str) or not base_url.strip():
        raise _bad_base_url("is empty")
    url = base_url.strip()
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise _bad_base_url("holds characters that no url may hold")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad_base_url("has a host or port that can't be read") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise _bad_base_url("does not begin with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise _bad_base_url("holds a user or password; pass the key as api_key")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise _bad_base_url("holds a query or fragment")
    if {".", ".."} & set(parts.path.split("/")):
        raise _bad_base_url("holds . or .. in its path")
    return url.rstrip("/")


def _bad_base_url(trouble: str) -> errors.ConfigError:
    return errors.ConfigError(f"base_url {trouble}; give one like https://www.ezmodel.cloud/v1")


def status_request(base_url: str, task_id: str) -> Request:
    """Build the request for one task's state: the id is one path segment, nothing left safe."""
    return Request(url=f"{base_url}/videos/{quote(task_id, safe='')}", task_id=task_id)


# -- answers ----------------------------------------------------------------------------------


def poll_hint(response: Response, *, unix_now: float) -> PollHint:
    """Read when the server wants to be asked again; *unix_now* stands in for a missing Date."""
    headers = response.headers
    if "retry-after" not in headers and "retry-after-ms" not in headers:
        after_ms = headers.get("openai-poll-after-ms")
        return NO_HINT if after_ms is None else PollHint(poll_after=_milliseconds(after_ms))
    return PollHint(
        retry_after=read_retry_after(headers, unix_now=unix_now),
        poll_after=_milliseconds(headers.get("openai-poll-after-ms")),
    )


_WHOLE_MILLISECONDS = re.compile(r"[0-9]{1,9}\Z")


def _milliseconds(text: str | None) -> float | None:
    if text is None or not _WHOLE_MILLISECONDS.match(text.strip()):
        return None
    return int(text) / 1000.0


def decode_status(
    response: Response,
    *,
    task_id: str,
    base_url: str,
    unix_now: float,
    alias: str | None = None,
) -> VideoTask | errors.EzVideoError:
    """
    Read the answer to a status request.

    Args:
        response: The answer.
        task_id: The id that was asked for; an answer about another one is a
            ``BadResponseError`` with reason ``id_mismatch`` and ``answered_id``.
        base_url: Where relative urls belong.
        unix_now: The wall clock, for an HTTP date in an answer without ``Date``.
        alias: Another id that the answer may be about: the server's own name for the task.

    Returns:
        The task, or the error to raise; nothing is raised.

    Source:
        FAULTS.md tables H and J; the order of the checks is "status code first".
    """
    if response.status in _HTTP_OK and response.status not in _NOT_A_TASK:
        read = _decode_success(response, task_id, base_url, alias)
    else:
        read = _decode_error(response, task_id)
    if isinstance(read, errors.APIStatusError | errors.BadResponseError):
        read.retry_after = read_retry_after(response.headers, unix_now=unix_now)
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
    if not shows_task(answer):
        return _error_under_success(response, task_id, answer)
    other = foreign_id(answer, task_id)
    if other is not None and other != alias:
        return _bad_response(
            response, task_id, "id_mismatch", f"the answer is about another task, {other[:80]!a}",
            answered_id=other,
        )  # fmt: skip
    return read_task(
        answer,
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
    told = _told(answer)
    code = (told.code or "").lower()
    for codes, kind, phrase, retryable in _KINDS_BY_CODE:
        if code in codes:
            return kind(
                _sentence(phrase, told),
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
        _sentence("the answer is not a task", told),
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
        sentence = "got a web page instead of a task; does base_url end with /v1?"
        return _bad_response(response, task_id, "html", sentence, body_excerpt=excerpt)
    sentence = "the answer is not JSON"
    return _bad_response(response, task_id, "not_json", sentence, body_excerpt=excerpt)


def _bad_response(
    response: Response, task_id: str, reason: str, sentence: str, **more: Any
) -> errors.BadResponseError:
    return errors.BadResponseError(
        f"{sentence} (HTTP {response.status}, {len(response.body)} bytes)",
        task_id=task_id,
        status=response.status,
        reason=reason,
        request_id=response.request_id,
        **more,
    )


def is_html(response: Response) -> bool:
    """Tell a web page, by its type or its first character, from anything an API says."""
    start = response.body[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] in {b"{", b"["}:
        return False
    return "text/html" in response.headers.get("content-type", "").lower() or start[:1] == b"<"


def excerpt_of(body: bytes) -> str:
    """Show the first 500 characters of a body, whatever bytes it holds, but no url's query."""
    start = body[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace")
    return _without_queries(start)[:EXCERPT_CHARACTERS]


_QUERY_OF_URL = re.compile(r"(https?:\\?/\\?/[^\s\"'<>?#]*)[?#][^\s\"'<>]*", re.IGNORECASE)


def _without_queries(text: str) -> str:
    """Cut the queries of urls in a text, JSON's escaped slashes included: signed urls are keys."""
    return _QUERY_OF_URL.sub(r"\1?…", text)


# -- error answers ------------------------------------------------------------------------------


def _decode_error(response: Response, task_id: str) -> errors.EzVideoError:
    status = response.status
    if status in _REDIRECTS and status not in _NOT_A_TASK:
        return _redirect(response, task_id)
    if status in _NOT_A_TASK:
        return _bad_response(response, task_id, "empty", "the answer has no body")
    if not 400 <= status < 600:  # noqa: PLR2004 -- the error statuses of HTTP
        sentence = f"HTTP {status} is no status of this API"
        return _bad_response(response, task_id, "schema", sentence)
    told = _told_by_body(response.body)
    kind, phrase, retryable = _judge(response, told)
    return kind(
        _sentence(f"HTTP {status}: {phrase}", told),
        task_id=task_id,
        retryable=_server_says(response, default=retryable),
        status=status,
        reason="route" if kind is errors.ConfigError else None,
        code=told.code,
        server_message=told.message,
        error_type=told.error_type,
        request_id=response.request_id,
        body_excerpt=None if _is_json(response.body) else excerpt_of(response.body) or None,
    )


_Kind = type[errors.APIStatusError] | type[errors.ConfigError]


def _judge(response: Response, told: _Told) -> tuple[_Kind, str, bool]:
    """Name the class, the phrase and whether asking again helps."""
    status, code = response.status, (told.code or "").lower()
    if status == 404 and _is_wrong_route(response, told.message):  # noqa: PLR2004 -- HTTP
        return errors.ConfigError, "no such route; does base_url end with /v1?", False
    if status in {404, 410} or (status < 500 and code in dialects.NOT_FOUND_CODES):  # noqa: PLR2004
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


@frozen
class _Told:
    """What an error body tells."""

    code: str | None = None
    message: str | None = None
    error_type: str | None = None


def _told_by_body(body: bytes) -> _Told:
    try:
        answer = decode_json(body)
    except ValueError:
        return _Told()
    return _told(answer) if is_object(answer) else _Told()


def _told(answer: Mapping[str, Any]) -> _Told:
    """Read an error body, at the outermost level that tells of trouble, or of anything."""
    told = [_told_at(level) for level in unwrapped(answer)]
    telling = [each for each in told if each.code or each.message]
    # "success" in a wrapper is the last thing to tell about an error inside it.
    return min(telling, key=_says_no_error, default=_Told())


def _says_no_error(told: _Told) -> bool:
    return told.code is not None and dialects.is_no_error(told.code)


def _told_at(level: Mapping[str, Any]) -> _Told:
    nested = read_error(level)
    return _Told(
        code=nested.code or scalar_text(level.get("code")),
        message=nested.message or _flat_message(level),
        error_type=_error_type(level),
    )


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


def _sentence(start: str, told: _Told) -> str:
    """Make one line for people; what the server said is cut and escaped."""
    line = start if told.code is None else f"{start} ({_plain(told.code)})"
    return line if told.message is None else f"{line}: {_plain(told.message)}"


def _plain(text: str) -> str:
    cut = _without_queries(text[: 2 * _SENTENCE_CHARACTERS])
    cut = cut if len(cut) <= _SENTENCE_CHARACTERS else cut[:_SENTENCE_CHARACTERS] + "…"
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in cut
    )
