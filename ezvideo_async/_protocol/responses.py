"""
Decoder of responses to a status request: a task or an error, and the polling hint.

``decode_task`` is total: it accepts any status, headers and bytes, returns a ``VideoTask`` or an
``EzVideoError``, and raises nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ezvideo_async import errors
from ezvideo_async._domain.strict_json import TooManyValuesError
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.envelope import read_envelope
from ezvideo_async._protocol.error_body import NO_ERROR_BODY, read_error_body
from ezvideo_async._protocol.fields import is_object, normalize_status
from ezvideo_async._protocol.messages import (
    FRESH,
    NO_HINT,
    Evidence,
    PollHint,
    Response,
    body_excerpt,
    is_html,
)
from ezvideo_async._protocol.response_errors import (
    bad_response,
    error_of_status,
    error_under_success,
    redirect_error,
)
from ezvideo_async._protocol.retry_after import LITELLM_RETRY_AFTER, parse_retry_after
from ezvideo_async._protocol.task_decoder import decode_envelope

if TYPE_CHECKING:
    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async._protocol.envelope import TaskEnvelope
    from ezvideo_async.errors import EzVideoError

_WHOLE_MILLISECONDS = re.compile(r"[0-9]{1,9}\Z")
_REDIRECTS = range(300, 400)
_ERRORS = range(400, 600)
_WITHOUT_BODY = frozenset({204, 205, 304})


def poll_hint(response: Response, *, unix_now: float) -> PollHint:
    """Return the times that a response asks to wait; *unix_now* replaces a missing ``Date``."""
    headers = response.headers
    if (
        "openai-poll-after-ms" not in headers
        and "retry-after" not in headers
        and "retry-after-ms" not in headers
        and LITELLM_RETRY_AFTER not in headers
    ):
        return NO_HINT
    milliseconds = _WHOLE_MILLISECONDS.match(headers.get("openai-poll-after-ms", "").strip())
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
        response: Its body decides if it is the asked task in a final state, else its status.
        task_id: The id of the request; another id in the response is an ``id_mismatch``.
        base_url: The base of relative urls.
        unix_now: Replaces a missing ``Date`` for an HTTP date in ``Retry-After``.
        evidence: What else is known of the task that the response is about.
    """
    if response.is_success:
        outcome = _decode_success(response, task_id, base_url, evidence)
    else:
        outcome = _decode_other(response, task_id, base_url, evidence)
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
        decoded = response.json()
    except TooManyValuesError:
        phrase = "the response has over 20,000 brackets and commas and is not decoded"
        return bad_response(response, "too_large", phrase)
    except ValueError:
        return _not_json(response)
    if not is_object(decoded):
        paths = (f"expected an object @ $, got {_json_type(decoded)}",)
        return bad_response(response, "schema", "the response is not a JSON object", paths=paths)
    envelope = read_envelope(decoded, task_id)
    if envelope.status is None:
        return error_under_success(response, read_error_body(envelope.levels), task_id)
    other = envelope.foreign_id(task_id)
    if other is not None and other not in evidence.aliases:
        phrase = f"the response has the id {other[:80]!a}"
        return bad_response(response, "id_mismatch", phrase, received_id=other)
    task = decode_envelope(
        envelope,
        body=response.body,
        task_id=task_id,
        base_url=base_url,
        request_id=response.request_id,
    )
    if envelope.ids or not task.is_terminal:
        return task
    return _unconfirmed(response, envelope, task, evidence)


def _unconfirmed(
    response: Response, envelope: TaskEnvelope, task: VideoTask, evidence: Evidence
) -> VideoTask | EzVideoError:
    """Return a final state that names no id if it is confirmed, else the error that carries it."""
    if envelope.is_url_only:
        if evidence.is_confirmed:
            return task
        phrase = "the response has a url, but neither an id nor a status"
    else:
        if evidence.is_fresh:
            return task
        phrase = "the response has a final status, but no id, and the connection was used before"
    return bad_response(
        response,
        "schema",
        f"{phrase}; it is believed when the next response shows the same",
        paths=("expected an id @ $",),
        unconfirmed=task,
    )


def _json_type(value: object) -> str:
    names = {type(None): "null", list: "an array", str: "a text"}
    return names.get(type(value), "a number or boolean")


def _not_json(response: Response) -> errors.BadResponseError:
    if not response.body.strip(b" \t\r\n"):
        return bad_response(response, "empty", "the response body is empty")
    excerpt = body_excerpt(response.body)
    if is_html(response):
        phrase = "the response is a web page; does base_url end with /v1?"
        return bad_response(response, "html", phrase, body_excerpt=excerpt)
    return bad_response(response, "not_json", "the response is not JSON", body_excerpt=excerpt)


# -- other statuses -----------------------------------------------------------------------------


def _decode_other(
    response: Response, task_id: str, base_url: str, evidence: Evidence
) -> VideoTask | EzVideoError:
    status = response.status
    if status in _WITHOUT_BODY:
        return bad_response(response, "empty", "the response has no body")
    if status in _REDIRECTS:
        return redirect_error(response)
    if status not in _ERRORS:
        return bad_response(response, "schema", f"HTTP {status} is not a status of this API")
    try:
        decoded, excerpt = response.json(), None
    except ValueError:
        decoded, excerpt = None, body_excerpt(response.body)
    if not is_object(decoded):
        return error_of_status(response, NO_ERROR_BODY, excerpt, task_id)
    envelope = read_envelope(decoded, task_id)
    if _is_final_state(envelope, {task_id, *evidence.aliases}):
        return decode_envelope(
            envelope,
            body=response.body,
            task_id=task_id,
            base_url=base_url,
            request_id=response.request_id,
        )
    return error_of_status(response, read_error_body(envelope.levels), None, task_id)


def _is_final_state(envelope: TaskEnvelope, known_ids: set[str]) -> bool:
    """Return True for a finished task, which vLLM-Omni reports with an error status."""
    if envelope.status is None or not envelope.status.is_terminal or envelope.raw_status is None:
        return False
    is_call_error = normalize_status(envelope.raw_status) in dialects.CALL_ERROR_VALUES
    return not is_call_error and not known_ids.isdisjoint(envelope.ids)
