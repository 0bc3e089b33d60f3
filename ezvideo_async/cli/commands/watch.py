"""The ``ezvideo watch`` command: polling of tasks until each one has finished."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from ezvideo_async import EzVideoError, PollPolicy
from ezvideo_async.cli.connection import FailureReporter, make_client
from ezvideo_async.cli.exit_codes import exit_code_of
from ezvideo_async.cli.output import choose_output, print_error, print_message
from ezvideo_async.cli.runner import run
from ezvideo_async.cli.summary import Summary
from ezvideo_async.cli.task_ids import read_task_ids, resume_command

if TYPE_CHECKING:
    from argparse import Namespace

    from ezvideo_async import AsyncVideoClient, TaskWatcher
    from ezvideo_async.cli.output import EventOutput


def command(args: Namespace) -> int:
    """
    Watch the tasks and return the exit code.

    Raises:
        UsageError: There are no ids, or there is no API key.
        EzVideoError: An id or option is invalid; no request was sent.
    """
    # Read stdin before the loop runs: it would delay signals.
    client = make_client(args, observers=(FailureReporter(),))
    summary = Summary(read_task_ids(args))
    return run(_watch(args, client, summary), verbose=args.verbose)


async def _watch(args: Namespace, client: AsyncVideoClient, summary: Summary) -> int:
    started_at = asyncio.get_running_loop().time()
    finish = partial(_print_summary, args, client, summary, started_at=started_at)
    output = choose_output(
        client=client, summary=summary, progress=args.progress, as_json=args.json
    )
    watcher = client.watch(
        summary.open_ids,
        policy=_policy(args.interval),
        timeout=args.timeout,
        progress=output.wants_progress,
    )
    try:
        async with client:
            await show_events(watcher, output=output, summary=summary)
    except BrokenPipeError:
        raise  # the reader of the events closed the pipe; it needs no summary
    except EzVideoError as error:
        print_error(str(error))
        finish()
        return exit_code_of(error)
    except (asyncio.CancelledError, OSError):
        finish()
        raise
    finish()
    return summary.exit_code


async def show_events(watcher: TaskWatcher, *, output: EventOutput, summary: Summary) -> None:
    """Show and record every event until all tasks have ended."""
    async with watcher:
        with output:
            async for event in watcher:
                output.show(event)
                summary.record(event)


def _policy(interval: float) -> PollPolicy:
    """Return a policy with this interval; below 1 s, ``min_interval`` is lowered to it."""
    return PollPolicy(interval=interval, min_interval=min(interval, PollPolicy().min_interval))


def _print_summary(
    args: Namespace, client: AsyncVideoClient, summary: Summary, *, started_at: float
) -> None:
    elapsed = asyncio.get_running_loop().time() - started_at
    for line in summary.lines(elapsed=elapsed, requests=client.requests_sent):
        print_message(line)
    if summary.open_ids:
        print_message(f"continue with:\n  {resume_command(args, summary.open_ids)}")
