"""
Recorder of a trace: the requests and responses of a transport, and the events of readers.

Classifies responses itself, without the library's decoder.
"""

from __future__ import annotations

import asyncio
import json
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ezvideo_async import BadResponseError, EzVideoError, TransportError
from tests.support.oracle.trace import Finished, Left, Raised, Trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ezvideo_async import AsyncVideoClient, TaskWatcher
    from ezvideo_async._protocol.messages import Request, Response
    from tests.support.oracle.trace import Kind

STATUSES = frozenset({"pending", "processing", "completed", "failed"})
LONGEST_HINT = 600.0  # seconds


def keep(trace: Trace, send: Callable[..., Awaitable[tuple[Response, Any]]]) -> Callable[..., Any]:
    """Make a ``send`` that records its requests and responses in *trace*."""

    async def send_and_note(
        request: Request, secret: object, **options: Any
    ) -> tuple[Response, Any]:
        loop, kind, hint = asyncio.get_running_loop(), "cancelled", None
        asked = trace.asked(request.task_id, loop.time(), resend=bool(options.get("fresh")))
        try:
            response, line = await send(request, secret, **options)
            kind, hint = _kind_of(response, request.task_id), _hint_of(response.headers)
        except EzVideoError as error:
            kind = _kind_of_error(error)
            raise
        finally:
            trace.closed(asked, loop.time(), kind, hint=hint)
        if kind == "ok":
            shown = json.loads(response.body)
            trace.answered(
                request.task_id, loop.time(), shown["status"], shown.get("progress"), asked=asked
            )
        return response, line

    return send_and_note


def _kind_of_error(error: EzVideoError) -> Kind:
    ours = not isinstance(error, TransportError) or error.reason == "local_stall"
    return "unclear" if ours or isinstance(error, BadResponseError) else "failure"


def _kind_of(response: Response, task_id: str) -> Kind:
    is_page = response.body.lstrip()[:1] == b"<"
    match response.status:
        case 429:
            return "rate_limited"
        case 503:  # an outage, or a rate limit by another name
            return "unavailable"
        case status if status >= 500:  # 501 is about one task
            return "refusal" if status == 501 else "failure"
        case status if status >= 300:
            return "failure" if status == 403 and is_page else "refusal"
    if is_page:
        return "failure"
    shown = _object(response.body)
    is_task = shown.get("id") == task_id and shown.get("status") in STATUSES
    return "ok" if is_task else "unclear"


def _object(body: bytes) -> dict[str, Any]:
    try:
        shown = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return shown if isinstance(shown, dict) else {}


def _hint_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, from the plain forms only."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_HINT) or None
    if text.endswith("GMT") and "date" in headers:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers["date"])
        return wait.total_seconds()
    after = headers.get("openai-poll-after-ms", "")
    return float(after) / 1000.0 if after.isascii() and after.isdigit() else None


async def watch_and_note(
    client: AsyncVideoClient, trace: Trace, ids: Sequence[str], **options: Any
) -> None:
    """Watch ids until iteration ends or raises, and record the events."""
    loop = asyncio.get_running_loop()
    for task_id in ids:
        trace.added(task_id, loop.time())
    async with client.watch(**options) as watcher:
        watcher.add(*ids, tag=1)
        watcher.finish_adding()
        await read_and_note(watcher, trace)
    trace.records.append(Left(loop.time()))


async def read_and_note(events: TaskWatcher, trace: Trace, *, reader: int = 0) -> None:
    """Read until iteration ends or raises; the error is recorded, not raised."""
    loop = asyncio.get_running_loop()
    try:
        async for event in events:
            trace.delivered(event, loop.time(), reader=reader)
    except Exception as error:  # noqa: BLE001 -- the oracle checks it
        trace.records.append(Raised(error, loop.time(), reader))
    else:
        trace.records.append(Finished(loop.time(), reader))
