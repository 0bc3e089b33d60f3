"""
Writes down what happens: what a transport sends and gets, what a reader is told.

Answers are judged by its own lights, not by the library's.
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

WORDS = frozenset({"pending", "processing", "completed", "failed"})
LONGEST_HINT = 600.0  # seconds


def keep(trace: Trace, send: Callable[..., Awaitable[tuple[Response, Any]]]) -> Callable[..., Any]:
    """Make a ``send`` that writes its requests and answers into *trace*."""

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
    return "neither" if ours or isinstance(error, BadResponseError) else "trouble"


def _kind_of(response: Response, task_id: str) -> Kind:
    is_page = response.body.lstrip()[:1] == b"<"
    match response.status:
        case 429:
            return "throttled"
        case status if status >= 500:  # 501 is about one task
            return "well" if status == 501 else "trouble"
        case status if status >= 300:
            return "trouble" if status == 403 and is_page else "well"
    if is_page:
        return "trouble"
    shown = _object(response.body)
    is_task = shown.get("id") == task_id and shown.get("status") in WORDS
    return "ok" if is_task else "neither"


def _object(body: bytes) -> dict[str, Any]:
    try:
        shown = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return shown if isinstance(shown, dict) else {}


def _hint_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, as far as it is plainly said."""
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
    """Watch ids to their end, or until it breaks off, and write down what is told."""
    loop = asyncio.get_running_loop()
    for task_id in ids:
        trace.added(task_id, loop.time())
    async with client.watch(**options) as watcher:
        watcher.add(*ids, tag=1)
        watcher.close()
        await read_and_note(watcher, trace)
    trace.records.append(Left(loop.time()))


async def read_and_note(events: TaskWatcher, trace: Trace, *, reader: int = 0) -> None:
    """Read until it is over, or breaks off: then the error is in the trace, not raised."""
    loop = asyncio.get_running_loop()
    try:
        async for event in events:
            trace.told(event, loop.time(), reader=reader)
    except Exception as error:  # noqa: BLE001 -- the oracle judges it
        trace.records.append(Raised(error, loop.time(), reader))
    else:
        trace.records.append(Finished(loop.time(), reader))
