"""``ezvideo status``: ask once for each task."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from ezvideo_async import EzVideoError, TaskStatus, VideoTask
from ezvideo_async.cli.clean import clean
from ezvideo_async.cli.connection import client_of
from ezvideo_async.cli.exit_codes import (
    COMPLETED,
    NOT_ALL_COMPLETED,
    STILL_OPEN,
    exit_code_of,
    say,
)
from ezvideo_async.cli.formatting import task_line
from ezvideo_async.cli.runner import run
from ezvideo_async.cli.task_ids import ids_of

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from ezvideo_async import AsyncVideoClient

_AT_ONCE = 32
_EXIT_CODES = {TaskStatus.COMPLETED: COMPLETED, TaskStatus.FAILED: NOT_ALL_COMPLETED}


def command(args: Namespace) -> int:
    """
    Ask for what the arguments name, and give the exit code.

    Raises:
        UsageError: There are no ids, or there is no key.
        EzVideoError: An id or option can't be used, or the key was refused.
    """
    # Before the loop runs: reading stdin would hold up the signals.
    client, ids = client_of(args), ids_of(args)
    return run(_status(client, ids, as_json=args.json), verbose=args.verbose)


async def _status(client: AsyncVideoClient, ids: Sequence[str], *, as_json: bool) -> int:
    turn = asyncio.Semaphore(_AT_ONCE)
    codes = {COMPLETED}
    async with client:
        answers = [asyncio.create_task(_ask(client, task_id, turn)) for task_id in ids]
        try:
            for answer in answers:
                codes.add(_show(await answer, as_json=as_json))
        finally:
            for answer in answers:
                answer.cancel()
            await asyncio.gather(*answers, return_exceptions=True)
    return NOT_ALL_COMPLETED if NOT_ALL_COMPLETED in codes else max(codes)


async def _ask(
    client: AsyncVideoClient, task_id: str, turn: asyncio.Semaphore
) -> VideoTask | EzVideoError:
    async with turn:
        try:
            return await client.retrieve(task_id)
        except EzVideoError as error:
            error.task_id = task_id
            return error


def _show(answer: VideoTask | EzVideoError, *, as_json: bool) -> int:
    """
    Print an answer and give its exit code.

    Raises:
        EzVideoError: It is trouble that the other tasks would meet as well.
    """
    if isinstance(answer, VideoTask):
        print(json.dumps(answer.to_dict()) if as_json else task_line(answer), flush=True)
        return _EXIT_CODES.get(answer.status, STILL_OPEN)
    if exit_code_of(answer) != NOT_ALL_COMPLETED:
        raise answer
    say(f"ezvideo: {clean(f'{answer.task_id}: {answer}')}")
    return NOT_ALL_COMPLETED
