"""Answers of a server, and how the library reads them: helpers of the pure tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ezvideo_async._domain.task import VideoTask
from ezvideo_async._protocol.messages import Response
from ezvideo_async._protocol.responses import decode_task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ezvideo_async.errors import EzVideoError

BASE_URL = "https://api.example.test/v1"
ASKED = "vid_x"
UNIX_NOW = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


def body_of(value: Any) -> bytes:
    """Bytes stay, text is sent as it stands, all else is written as JSON."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def response_of(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
    """An answer with this body; header names are brought into lower case."""
    lowered = {name.lower(): text for name, text in (headers or {}).items()}
    return Response(status=status, headers=lowered, body=body_of(value))


def outcome_of(
    value: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    ask: str = ASKED,
    alias: str | None = None,
) -> VideoTask | EzVideoError:
    """What a status request makes of this answer."""
    return decode_task(
        response_of(value, status=status, headers=headers),
        task_id=ask,
        base_url=BASE_URL,
        unix_now=UNIX_NOW,
        alias=alias,
    )


def task_of(value: Any, *, ask: str = ASKED) -> VideoTask:
    """The task that this answer shows; it must show one."""
    outcome = outcome_of(value, ask=ask)
    assert isinstance(outcome, VideoTask), outcome
    return outcome


def error_of(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
    """The error that this answer is; it must be one."""
    outcome = outcome_of(value, status=status, headers=headers)
    assert not isinstance(outcome, VideoTask), outcome
    return outcome
