"""The ``ezvideo watch`` command: polling of tasks until each one has finished."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ezvideo_async import EzVideoError, PollPolicy, StoreError, TaskCompleted
from ezvideo_async.cli.connection import make_client
from ezvideo_async.cli.exit_codes import NOT_ALL_COMPLETED, UNSAVED, exit_code_of
from ezvideo_async.cli.formatting import count_text, error_record
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
        EzVideoError: An id or option is invalid, or the store cannot be opened; nothing was
            watched.
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
        store=args.store,
    )
    print_summary = partial(_print_summary, args, client, watcher, summary, started_at=started_at)

    def finish(error: EzVideoError | None = None) -> None:
        print_summary()
        if args.json:
            for record in _open_records(watcher, summary, error):
                print_record(record)

    try:
        async with client:
            await show_events(
                watcher,
                output=output,
                summary=summary,
                stops_after=partial(_stops_after, args),
                has_store=args.store is not None,
            )
    except EzVideoError as error:
        if isinstance(error, StoreError) and not error.unsaved:
            raise  # it was not opened
        print_error(str(error))
        finish(error)
        return _exit_code(exit_code_of(error), watcher)
    except asyncio.CancelledError:
        # Ctrl-C also ends the reader of the pipe.
        with contextlib.suppress(BrokenPipeError):
            finish()
        raise
    except BrokenPipeError:
        raise  # the reader of the events closed the pipe; it needs no summary
    except OSError as error:
        print_summary()
        print_error(f"cannot write to stdout: {error.strerror}")
        return _exit_code(NOT_ALL_COMPLETED, watcher)
    finish()
    return summary.exit_code


def _exit_code(code: int, watcher: TaskWatcher) -> int:
    """Return the code of an error, or 6 instead of 1 if states were not saved."""
    return UNSAVED if code == NOT_ALL_COMPLETED and watcher.stats.unsaved else code


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
    has_store: bool = False,
) -> None:
    """Show and record every event until all tasks have ended, or one that *stops_after* names."""
    entered_at = time.time()
    async with watcher:
        if has_store:
            watcher.finish_adding()  # without ids given, it would wait for more than it restored
            _count_watched(watcher, summary, entered_at=entered_at)
        with output:
            async for event in watcher:
                output.show(event)
                summary.record(event)
                if stops_after(event):
                    break


def _count_watched(watcher: TaskWatcher, summary: Summary, *, entered_at: float) -> None:
    """Count what is watched: with a store, it may be more or less than the ids given."""
    watched = [(task_id, watcher.get(task_id)) for task_id in watcher.open_ids]
    summary.set_watched(
        {task_id: None if found is None else found.task for task_id, found in watched},
        restored=sum(found is not None and found.added_at < entered_at for _, found in watched),
    )


def _stops_after(args: Namespace, event: Event) -> bool:
    return event.is_final and (
        args.any or (args.fail_fast and not isinstance(event, TaskCompleted))
    )


def _policy(interval: float) -> PollPolicy:
    """Return a policy with this interval; below 1 s, ``min_interval`` is lowered to it."""
    return PollPolicy(interval=interval, min_interval=min(interval, PollPolicy().min_interval))


def _print_summary(
    args: Namespace,
    client: AsyncVideoClient,
    watcher: TaskWatcher,
    summary: Summary,
    *,
    started_at: float,
) -> None:
    elapsed = asyncio.get_running_loop().time() - started_at
    for line in summary.lines(elapsed=elapsed, requests=client.requests_sent):
        print_message(line)
    unsaved = watcher.stats.unsaved
    if unsaved:
        print_error(f"{count_text(unsaved, 'state')} not saved in {args.store}")
    if summary.open_ids:
        # A store keeps no id whose timeout was reported.
        is_kept = args.store is not None and not unsaved
        ids = summary.timed_out_ids if is_kept else summary.open_ids
        print_message(f"continue with:\n  {resume_command(args, ids)}")
