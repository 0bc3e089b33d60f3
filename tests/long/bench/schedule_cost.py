"""
Benchmark of scheduling and delivery, without network and decoding.

The first rows drive scheduler, broadcaster and mailbox in a plain loop: take due tasks, record a
response of each, publish the event, read it.  The whole watcher on a requester that does nothing
also includes workers, admission and budget, which is more than the target covers.
"""

from __future__ import annotations

from math import log
from random import Random
from typing import Any

from tests.long.bench.harness import (
    Case,
    Goal,
    Meter,
    Options,
    Sample,
    cpu_seconds,
    drained,
    interleaved,
    markdown,
    meanwhile,
    ratio,
    reached,
    spread,
    task_ids,
)

INTERVAL = 5.0
_STEP = 0.01  # seconds of virtual time in which due ids are collected; responses come a step later
_CROWD = 50_000.0  # polls per second that are due: more than the watcher can send
_AMPLE = 1e6
SIZES = (10_000, 100_000, 1_000_000)
_SHORTEST = (
    0.9 * INTERVAL
)  # seconds between two polls of an id, so that the next one shows another state
EVERY, SOME, NONE, WHOLE = "every poll an event", "some events", "no news", "whole watcher"
STATES_LAST = {EVERY: 1, SOME: 8, NONE: 1_000_000}
"""Polls for which a state lasts, by case."""


async def plain_loop(ids: int, count: int, *, lasting: int) -> Sample:
    """Drive the scheduler in virtual time and read its events; a state lasts *lasting* polls."""
    from ezvideo_async import PollPolicy
    from ezvideo_async._delivery.broadcaster import Broadcaster
    from ezvideo_async._protocol.messages import Response
    from ezvideo_async._scheduling.scheduler import Scheduler
    from tests.long.bench.mock import UNSEEN, state_bytes, tasks

    scheduler = Scheduler(PollPolicy(interval=INTERVAL), progress=True)
    broadcaster = Broadcaster(
        scheduler, progress=True, ends=lambda: False, drops_unread=False, iterates=True
    )
    asked = dict.fromkeys(task_ids(ids))
    began = cpu_seconds()
    scheduler.add(asked, now=0.0, rand=0.5, over=INTERVAL)
    added = cpu_seconds() - began
    states, rand = tasks(), Random(ids).random
    repeats = [Response(200, {}, state_bytes(state)) for state in states]
    decoders = [lambda *_response, state=state: state for state in states]
    now, unix_now, in_flight = 0.0, 1.8e9, []

    async def polled(least: int) -> int:
        nonlocal now, in_flight
        polls = 0
        while polls < least:
            events, now = 0, now + _STEP
            wakes_at = now + _STEP
            age = int(now / _SHORTEST)
            for tracked in in_flight:
                place = (age + hash(tracked.task_id)) // lasting % len(states)
                is_repeat = tracked.progress == states[place].progress
                event = scheduler.observe(
                    tracked,
                    repeats[place] if is_repeat else UNSEEN,
                    decoders[place],
                    None,
                    now=now,
                    unix_now=unix_now + now,
                    rand=rand(),
                )
                if event is not None:
                    broadcaster.publish(tracked, event)
                    events += 1
                if tracked.due < wakes_at:  # the watcher too checks whether to wake earlier
                    wakes_at = scheduler.next_at()
            polls += len(in_flight)
            for _ in range(events):
                await broadcaster.read()
            in_flight = scheduler.tick(
                now,
                unix_now=unix_now + now,
                rand=rand,
                permit=lambda: True,
                release=lambda _ready: 0.0,
            ).to_poll
        return polls

    await polled(ids)
    with Meter() as meter:
        polls = await polled(count)
    return {"us": 1e6 * meter.cpu / polls, "us to add": 1e6 * added / ids}


async def whole_watcher(ids: int, count: int) -> Sample:
    """Run a watcher on a requester that responds at once."""
    from ezvideo_async import PollPolicy
    from tests.long.bench.mock import mock_client

    policy = PollPolicy(interval=ids / _CROWD, min_interval=0.001)
    async with (
        mock_client(rate=_AMPLE) as client,
        client.watch(task_ids(ids), policy=policy, progress=True) as watcher,
        meanwhile(drained(watcher)),
    ):
        await reached(lambda: watcher.stats.polls, ids)
        start = watcher.stats.polls
        with Meter() as meter:
            await reached(lambda: watcher.stats.polls, start + count)
            polls = watcher.stats.polls - start
        return {"us": 1e6 * meter.cpu / polls}


def run(options: Options) -> dict[str, Any]:
    """Measure all sizes alternately."""
    sizes = (10_000, 50_000) if options.quick else SIZES
    count = 40_000 if options.quick else 200_000
    cases = []
    for ids in sizes:
        seldom = 1 if ids > 100_000 else None
        for kind, lasting in STATES_LAST.items():
            arguments = {"ids": ids, "count": count, "lasting": lasting}
            cases.append(Case(f"{kind}, {ids}", plain_loop, arguments, seldom))
        if not seldom:
            arguments = {"ids": ids, "count": count // 4}
            cases.append(Case(f"{WHOLE}, {ids}", whole_watcher, arguments))
    return {"samples": interleaved(cases, options), "sizes": sizes}


def tables(found: dict[str, Any]) -> str:
    """Return the CPU time by number of ids as a table."""
    samples, sizes = found["samples"], found["sizes"]
    told = {
        NONE: "scheduler, broadcaster and mailbox, nothing new",
        SOME: "the same, one poll in seven an event that is read",
        EVERY: "the same, every poll an event that is read",
        WHOLE: "the whole watcher with workers and admission, every poll an event",
    }
    rows = [
        [
            what,
            *(
                spread(samples, f"{kind}, {ids}", "us").shown()
                if f"{kind}, {ids}" in samples
                else ""
                for ids in sizes
            ),
        ]
        for kind, what in told.items()
    ]
    adding = [spread(samples, f"{NONE}, {ids}", "us to add").shown() for ids in sizes]
    heads = ["CPU per poll, µs", *(f"{ids:,} ids" for ids in sizes)]
    return markdown(heads, [*rows, ["to add an id", *adding]])


def goals(found: dict[str, Any]) -> list[Goal]:
    """Compare the figures with the targets."""
    samples, sizes = found["samples"], found["sizes"]
    told = {SOME: "scheduling, one poll in seven an event", EVERY: "the same, every poll an event"}
    costs = [
        Goal("d", f"{what}, {ids:,} ids", spread(samples, f"{kind}, {ids}", "us"), 4, unit="µs")
        for kind, what in told.items()
        for ids in sizes
    ]
    least, most = sizes[0], sizes[-1]
    growth = ratio(samples, f"{SOME}, {most}", f"{SOME}, {least}", "us")
    bar = round(log(most) / log(least), 2)
    what = f"scheduling at {most:,} ids / at {least:,}; the target is the growth of log n"
    return [*costs, Goal("d", what, growth, bar, unit="x")]
