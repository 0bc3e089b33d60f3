"""``ezvideo watch``: follow tasks until each has ended."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from ezvideo_async import EzVideoError, PollPolicy
from ezvideo_async.cli.clean import clean
from ezvideo_async.cli.connection import FailureStreak, client_of
from ezvideo_async.cli.exit_codes import exit_code_of, say
from ezvideo_async.cli.output import screen_for
from ezvideo_async.cli.runner import run
from ezvideo_async.cli.summary import Tally
from ezvideo_async.cli.task_ids import ids_of, resume_command

if TYPE_CHECKING:
    from argparse import Namespace

    from ezvideo_async import AsyncVideoClient, TaskWatcher
    from ezvideo_async.cli.output import Screen


def command(args: Namespace) -> int:
    """
    Watch what the arguments name, and give the exit code.

    Raises:
        UsageError: There are no ids, or there is no key.
        EzVideoError: An id or option can't be used; nothing has been sent.
    """
    # Before the loop runs: reading stdin would hold up the signals.
    client, tally = client_of(args, observers=(FailureStreak(),)), Tally(ids_of(args))
    return run(_watch(args, client, tally), verbose=args.verbose)


async def _watch(args: Namespace, client: AsyncVideoClient, tally: Tally) -> int:
    sum_up = partial(_sum_up, args, client, tally, began=asyncio.get_running_loop().time())
    screen = screen_for(client=client, tally=tally, progress=args.progress, as_json=args.json)
    watcher = client.watch(
        tally.open_ids,
        policy=_policy(args.interval),
        timeout=args.timeout,
        progress=screen.wants_progress,
    )
    try:
        async with client:
            await follow(watcher, screen=screen, tally=tally)
    except BrokenPipeError:
        raise  # whoever read the events has left, and misses no summary
    except EzVideoError as error:
        say(f"ezvideo: {clean(str(error))}")
        sum_up()
        return exit_code_of(error)
    except (asyncio.CancelledError, OSError):
        sum_up()
        raise
    sum_up()
    return tally.exit_code


async def follow(watcher: TaskWatcher, *, screen: Screen, tally: Tally) -> None:
    """Show every event until all tasks have ended; what was shown is counted."""
    async with watcher:
        with screen:
            async for event in watcher:
                screen.tell(event)
                tally.count(event)


def _policy(interval: float) -> PollPolicy:
    """Make a policy of one number; below a second it is the caller who knows the server."""
    return PollPolicy(interval=interval, min_interval=min(interval, PollPolicy().min_interval))


def _sum_up(args: Namespace, client: AsyncVideoClient, tally: Tally, *, began: float) -> None:
    elapsed = asyncio.get_running_loop().time() - began
    for line in tally.summary(elapsed=elapsed, requests=client.requests_sent):
        say(line)
    if tally.open_ids:
        say(f"go on with:\n  {resume_command(args, tally.open_ids)}")
