"""``ezvideo demo``: a fake server in this process, and a watch of its tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ezvideo_async import AsyncVideoClient, PollPolicy
from ezvideo_async.cli.commands.watch import follow
from ezvideo_async.cli.exit_codes import COMPLETED, say
from ezvideo_async.cli.formatting import counted
from ezvideo_async.cli.output import screen_for
from ezvideo_async.cli.runner import run
from ezvideo_async.cli.summary import Tally
from ezvideo_async.testing import FakeVideoServer

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

_DIALECTS = ("ezmodel", "openai", "xai", "openrouter")
"""The other dialects are of gateways that look at their tasks every 15 seconds only."""
_OUTCOMES = {3: "failed", 10: "cancelled", 17: "expired"}
"""By the task's number modulo 20; others are completed, and one in the middle gets lost."""
_CYCLE = 20
_SHORTEST = 0.15  # share of the demo that the quickest task takes
_LOOKS = 14  # looks at the longest task
_QUICKEST = 0.1  # seconds between two looks, at least


def command(args: Namespace) -> int:
    """Run the demo; that some of its tasks fail is part of it, and no failure."""
    return run(demo(tasks=args.tasks, seconds=args.seconds), verbose=args.verbose)


async def demo(*, tasks: int, seconds: float) -> int:
    """Watch *tasks* fake tasks, the last of which ends after *seconds*."""
    async with FakeVideoServer() as server:
        ids = list(_add_tasks(server, tasks, seconds))
        say(f"ezvideo: a fake server at {server.base_url} makes {counted(tasks, 'video')}")
        return await _watch(server.base_url, Tally(ids), interval=seconds / _LOOKS)


def _add_tasks(server: FakeVideoServer, tasks: int, seconds: float) -> Iterator[str]:
    for number in range(tasks):
        # A stride prime to most counts, so that tasks end in no order.
        share = (number * 37 % tasks + 1) / tasks
        usual = _OUTCOMES.get(number % _CYCLE, "completed")
        yield server.add_task(
            duration=seconds * (_SHORTEST + (1 - _SHORTEST) * share),
            outcome="lost" if number == tasks // 2 else usual,
            dialect=_DIALECTS[number % len(_DIALECTS)],
        )


def _policy(interval: float) -> PollPolicy:
    """Obey the servers' hints only as far as a demo has time."""
    quickest = min(interval, PollPolicy().min_interval)
    return PollPolicy(interval=interval, min_interval=quickest, poll_after_max=interval)


async def _watch(base_url: str, tally: Tally, *, interval: float) -> int:
    loop = asyncio.get_running_loop()
    began = loop.time()
    client = AsyncVideoClient("no-key-needed", base_url=base_url)
    screen = screen_for(client=client, tally=tally)
    try:
        async with client:
            watcher = client.watch(
                tally.open_ids,
                policy=_policy(max(interval, _QUICKEST)),
                progress=screen.wants_progress,
            )
            await follow(watcher, screen=screen, tally=tally)
    finally:
        requests = client.requests_sent
        for line in tally.summary(elapsed=loop.time() - began, requests=requests):
            say(line)
    say("  (that some fail, and one gets lost, is part of the demo)")
    return COMPLETED
