"""The ``ezvideo demo`` command: a fake server in this process and a watch of its tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ezvideo_async import AsyncVideoClient, PollPolicy
from ezvideo_async.cli.commands.watch import show_events
from ezvideo_async.cli.exit_codes import COMPLETED
from ezvideo_async.cli.formatting import count_text
from ezvideo_async.cli.output import choose_output, print_error, print_message
from ezvideo_async.cli.runner import run
from ezvideo_async.cli.summary import Summary
from ezvideo_async.testing import FakeVideoServer

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

_DIALECTS = ("ezmodel", "openai", "xai", "openrouter")
"""The other dialects belong to gateways that refresh a task only every 15 seconds."""
_OUTCOMES = {3: "failed", 10: "cancelled", 17: "expired"}
"""By the task's number modulo 20; the others complete, except one that the server does not know."""
_UNKNOWN_ID = "video_unknown"
_GRACE_SHARE = 0.3  # of the demo, at most the default grace
_CYCLE = 20
_MIN_DURATION = 0.15  # share of the demo that the shortest task takes
_POLLS = 14  # of the longest task
_MIN_INTERVAL = 0.1  # seconds


def command(args: Namespace) -> int:
    """Run the demo and return 0, although some of its tasks fail."""
    return run(demo(tasks=args.tasks, seconds=args.seconds), verbose=args.verbose)


async def demo(*, tasks: int, seconds: float) -> int:
    """Watch *tasks* fake tasks, the last of which finishes after *seconds*."""
    async with FakeVideoServer() as server:
        ids = list(_add_tasks(server, tasks, seconds))
        print_error(f"watching {count_text(tasks, 'task')} of a fake server at {server.base_url}")
        return await _watch(server.base_url, Summary(ids), seconds=seconds)


def _add_tasks(server: FakeVideoServer, tasks: int, seconds: float) -> Iterator[str]:
    for number in range(tasks):
        # The stride is coprime to most counts, so that tasks finish in no visible order.
        share = (number * 37 % tasks + 1) / tasks
        if number == tasks // 2:
            yield _UNKNOWN_ID
            continue
        yield server.add_task(
            duration=seconds * (_MIN_DURATION + (1 - _MIN_DURATION) * share),
            outcome=_OUTCOMES.get(number % _CYCLE, "completed"),
            dialect=_DIALECTS[number % len(_DIALECTS)],
        )


def _policy(interval: float) -> PollPolicy:
    """Return a policy that follows the servers' hints only up to *interval*."""
    min_interval = min(interval, PollPolicy().min_interval)
    return PollPolicy(interval=interval, min_interval=min_interval)


async def _watch(base_url: str, summary: Summary, *, seconds: float) -> int:
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    client = AsyncVideoClient("no-key-needed", base_url=base_url)
    output = choose_output(client=client, summary=summary)
    try:
        async with client:
            watcher = client.watch(
                summary.open_ids,
                policy=_policy(max(seconds / _POLLS, _MIN_INTERVAL)),
                not_found_grace=min(10.0, seconds * _GRACE_SHARE),
                progress=output.wants_progress,
            )
            await show_events(watcher, output=output, summary=summary)
    finally:
        elapsed = loop.time() - started_at
        for line in summary.lines(elapsed=elapsed, requests=client.requests_sent):
            print_message(line)
    print_message("  (the failed and lost tasks are part of the demo)")
    return COMPLETED
