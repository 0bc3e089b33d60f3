"""The ``ezvideo status`` command: one status request per task."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ezvideo_async import (
    AuthenticationError,
    ClosedError,
    EzVideoError,
    TaskNotFoundError,
    TaskStatus,
    TLSError,
    VideoTask,
)
from ezvideo_async.cli.connection import make_client
from ezvideo_async.cli.exit_codes import COMPLETED, NOT_ALL_COMPLETED, STILL_OPEN, exit_code_of
from ezvideo_async.cli.formatting import error_record, task_line
from ezvideo_async.cli.output import print_error, print_record
from ezvideo_async.cli.runner import run
from ezvideo_async.cli.task_ids import read_task_ids

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from ezvideo_async import AsyncVideoClient

_Result = VideoTask | EzVideoError
_MAX_CONCURRENT = 32  # requests
_EXIT_CODES = {TaskStatus.COMPLETED: COMPLETED, TaskStatus.FAILED: NOT_ALL_COMPLETED}
_ENOUGH_REFUSALS = 2  # of different ids: a proxy may rewrite the path of one odd id


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
    report = _Report(as_json=as_json)
    async with client:
        requests = {
            task_id: asyncio.create_task(_retrieve(client, task_id, slots)) for task_id in ids
        }
        try:
            for task_id, request in requests.items():
                report.add(task_id, await request)
        except EzVideoError as error:
            report.add_rest(requests, error)
            raise
        except asyncio.CancelledError:
            report.add_rest(requests, ClosedError("interrupted before the response"))
            raise
        finally:
            for request in requests.values():
                request.cancel()
            await asyncio.gather(*requests.values(), return_exceptions=True)
    return report.exit_code


async def _retrieve(client: AsyncVideoClient, task_id: str, slots: asyncio.Semaphore) -> _Result:
    async with slots:
        try:
            return await client.retrieve(task_id)
        except EzVideoError as error:
            return error


class _Report:
    """Results, printed in the order of the ids, and the exit code that they make."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._printed = 0
        self._codes = {COMPLETED}
        self._has_valid = False
        self._refusals: list[EzVideoError] = []

    @property
    def exit_code(self) -> int:
        """That of a refusal if the server knew no task; else 4 before 1 before 0."""
        if self._refusals and not self._has_valid:
            return exit_code_of(self._refusals[0])
        return max(self._codes)

    def add(self, task_id: str, result: _Result) -> None:
        """
        Print a task or an error.

        Raises:
            EzVideoError: The error would be the same for the other tasks.
        """
        if isinstance(result, VideoTask):
            self._has_valid = True
            self._codes.add(_EXIT_CODES.get(result.status, STILL_OPEN))
        else:
            self._record_error(result)
            print_error(f"{task_id}: {result}")
        self._printed += 1
        if self._as_json:
            print_record(_record(task_id, result))
        elif isinstance(result, VideoTask):
            print(task_line(result), flush=True)

    def _record_error(self, error: EzVideoError) -> None:
        self._codes.add(NOT_ALL_COMPLETED)
        self._has_valid = self._has_valid or isinstance(error, TaskNotFoundError)
        if exit_code_of(error) == NOT_ALL_COMPLETED:
            return
        self._refusals.append(error)
        is_certain = isinstance(error, AuthenticationError | TLSError)
        if is_certain or (not self._has_valid and len(self._refusals) == _ENOUGH_REFUSALS):
            raise error

    def add_rest(self, requests: dict[str, asyncio.Task[_Result]], error: EzVideoError) -> None:
        """Print the JSON records that are missing: the result, if there is one, or *error*."""
        if self._as_json:
            for task_id, request in list(requests.items())[self._printed :]:
                has_result = request.done() and not request.cancelled()
                print_record(_record(task_id, request.result() if has_result else error))


def _record(task_id: str, result: _Result) -> dict[str, Any]:
    """Return a task in the format of the API, or an error in the same shape without a status."""
    if isinstance(result, VideoTask):
        return result.to_dict()
    return {"id": task_id, "object": "error", "status": None, "error": error_record(result)}
