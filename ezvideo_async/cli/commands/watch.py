"""The ``ezvideo watch`` command: polling of tasks until each one has finished."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ezvideo_async import EzVideoError, PollPolicy, TaskCompleted
from ezvideo_async.cli.connection import make_client
from ezvideo_async.cli.exit_codes import exit_code_of
from ezvideo_async.cli.formatting import error_record
from ezvideo_async.cli.output import choose_output, print_error, print_message, print_record
from ezvideo_async.cli.runner import run
from ezvideo_async.cli.summary import Summary
from ezvideo_async.cli.task_ids import read_task_ids, resume_command

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from ezvideo_async import AsyncVideoClient, Event, TaskWatcher
    from ezvideo_async.cli.output import EventOutput


def command(args: Namespace) -> int:
    """
    Watch the tasks and return the exit code.

    Raises:
        UsageError: There are no ids, or there is no API key.
        EzVideoError: An id or option is invalid; no request was sent.
    """
    # Read stdin before the loop runs: it would delay signals.
    client = make_client(args)
    summary = Summary(read_task_ids(args))
    return run(_watch(args, client, summary), verbose=args.verbose)


async def _watch(args: Namespace, client: AsyncVideoClient, summary: Summary) -> int:
    started_at = asyncio.get_running_loop().time()
    output = choose_output(
        client=client, summary=summary, progress=args.progress, as_json=args.json
    )
    watcher = client.watch(
        summary.open_ids,
        policy=_policy(args.interval),
        timeout=args.timeout,
        progress=output.wants_progress,
    )

    def finish(error: EzVideoError | None = None) -> None:
        _print_summary(args, client, summary, started_at=started_at)
        if args.json:
            for record in _open_records(watcher, summary, error):
                print_record(record)

    try:
        async with client:
            await show_events(
                watcher, output=output, summary=summary, stops_after=partial(_stops_after, args)
            )
    except EzVideoError as error:
        print_error(str(error))
        finish(error)
        return exit_code_of(error)
    except asyncio.CancelledError:
        # Ctrl-C also ends the reader of the pipe.
        with contextlib.suppress(BrokenPipeError):
            finish()
        raise
    except BrokenPipeError:
        raise  # the reader of the events closed the pipe; it needs no summary
    except OSError:
        _print_summary(args, client, summary, started_at=started_at)
        raise
    finish()
    return summary.exit_code


def _open_records(
    watcher: TaskWatcher, summary: Summary, error: EzVideoError | None
) -> Iterator[dict[str, Any]]:
    """Yield the last record of each id that has had none with ``final``."""
    for seq, task_id in enumerate(summary.ids_without_final_event, start=summary.last_seq + 1):
        watched = watcher.get(task_id)
        final = watched.final_event if watched else None
        if final is not None:  # it ended, but the event was not read before the command ended
            yield final.to_dict() | {"seq": seq}
            continue
        task = watched.task if watched else None
        last_error = error or (watched.last_error if watched else None)
        yield {
            "event": "still_open",
            "task_id": task_id,
            "seq": seq,
            "at": time.time(),
            "final": False,
            "task": task and task.to_dict(),
            "error": last_error and error_record(last_error),
        }


async def show_events(
    watcher: TaskWatcher,
    *,
    output: EventOutput,
    summary: Summary,
    stops_after: Callable[[Event], bool] = lambda _: False,
) -> None:
    """Show and record every event until all tasks have ended, or one that *stops_after* names."""
    async with watcher:
        with output:
            async for event in watcher:
                output.show(event)
                summary.record(event)
                if stops_after(event):
                    break


def _stops_after(args: Namespace, event: Event) -> bool:
    return event.is_final and (
        args.any or (args.fail_fast and not isinstance(event, TaskCompleted))
    )


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
