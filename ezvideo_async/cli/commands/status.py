"""The ``ezvideo status`` command: one status request per task."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from ezvideo_async import EzVideoError, TaskStatus, VideoTask
from ezvideo_async.cli.connection import make_client
from ezvideo_async.cli.exit_codes import COMPLETED, NOT_ALL_COMPLETED, STILL_OPEN, exit_code_of
from ezvideo_async.cli.formatting import task_line
from ezvideo_async.cli.output import print_error
from ezvideo_async.cli.runner import run
from ezvideo_async.cli.task_ids import read_task_ids

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from ezvideo_async import AsyncVideoClient

_MAX_CONCURRENT = 32  # requests
_EXIT_CODES = {TaskStatus.COMPLETED: COMPLETED, TaskStatus.FAILED: NOT_ALL_COMPLETED}


def command(args: Namespace) -> int:
    """
    Print the status of each task and return the exit code.

    Raises:
        UsageError: There are no ids, or there is no API key.
        EzVideoError: An id or option is invalid, or the server refused the API key.
    """
    # Read stdin before the loop runs: it would delay signals.
    client, ids = make_client(args), read_task_ids(args)
    return run(_status(client, ids, as_json=args.json), verbose=args.verbose)


async def _status(client: AsyncVideoClient, ids: Sequence[str], *, as_json: bool) -> int:
    slots = asyncio.Semaphore(_MAX_CONCURRENT)
    codes = {COMPLETED}
    async with client:
        requests = [asyncio.create_task(_retrieve(client, task_id, slots)) for task_id in ids]
        try:
            for task_id, request in zip(ids, requests, strict=True):
                codes.add(_print_result(task_id, await request, as_json=as_json))
        finally:
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
    return max(codes)  # still open before failed


async def _retrieve(
    client: AsyncVideoClient, task_id: str, slots: asyncio.Semaphore
) -> VideoTask | EzVideoError:
    async with slots:
        try:
            return await client.retrieve(task_id)
        except EzVideoError as error:
            return error


def _print_result(task_id: str, result: VideoTask | EzVideoError, *, as_json: bool) -> int:
    """
    Print a task or an error and return its exit code.

    Raises:
        EzVideoError: The error would be the same for the other tasks.
    """
    if isinstance(result, VideoTask):
        print(json.dumps(result.to_dict()) if as_json else task_line(result), flush=True)
        return _EXIT_CODES.get(result.status, STILL_OPEN)
    if exit_code_of(result) != NOT_ALL_COMPLETED:
        raise result
    print_error(f"{task_id}: {result}")
    return NOT_ALL_COMPLETED
