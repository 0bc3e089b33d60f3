"""Waiting for the end of what was told to end, so that who leaves has left nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_LONGEST: Final = 2.0  # seconds that stopping may take


async def ended(task: asyncio.Future[Any]) -> None:
    """Wait for a task's end, cancellations notwithstanding, for 2 s at most."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + _LONGEST
    interrupted: asyncio.CancelledError | None = None
    while not task.done() and loop.time() < limit:
        try:
            await asyncio.wait([task], timeout=limit - loop.time())
        except asyncio.CancelledError as cancelled:  # noqa: ASYNC103 -- raised below
            interrupted = cancelled
    if interrupted is not None:
        raise interrupted
