"""Responses to a status request, and what they are decoded to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ezvideo_async._domain.task import VideoTask
from ezvideo_async._protocol.messages import Evidence, Response
from ezvideo_async._protocol.responses import decode_task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ezvideo_async.errors import EzVideoError

BASE_URL = "https://api.example.test/v1"
ASKED = "vid_x"
"""The id of the requests."""

UNIX_NOW = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


def body_of(value: Any) -> bytes:
    """Return bytes unchanged, a text encoded, and any other value as JSON."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def response_of(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with this body; the names of headers are lowered."""
    lowered = {name.lower(): text for name, text in (headers or {}).items()}
    return Response(status=status, headers=lowered, body=body_of(value))


def outcome_of(
    value: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    ask: str = ASKED,
    aliases: tuple[str, ...] = (),
) -> VideoTask | EzVideoError:
    """Return the task or error that the response is decoded to."""
    return decode_task(
        response_of(value, status=status, headers=headers),
        task_id=ask,
        base_url=BASE_URL,
        unix_now=UNIX_NOW,
        evidence=Evidence(aliases, is_fresh=True),
    )


def task_of(value: Any, *, ask: str = ASKED) -> VideoTask:
    """Return the task that the response must contain."""
    outcome = outcome_of(value, ask=ask)
    assert isinstance(outcome, VideoTask), outcome
    return outcome


def error_of(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
    """Return the error that the response must be decoded to."""
    outcome = outcome_of(value, status=status, headers=headers)
    assert not isinstance(outcome, VideoTask), outcome
    return outcome


def decode(response, task_id, evidence):
    """Decode a response as the requester does."""
    return decode_task(
        response, task_id=task_id, base_url=BASE_URL, unix_now=UNIX_NOW, evidence=evidence
    )
