"""Benchmark of one event delivered to one of many subscriptions of one id each."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from tests.long.bench.harness import (
    Case,
    Goal,
    Meter,
    Options,
    Sample,
    interleaved,
    markdown,
    ratio,
    spread,
    task_ids,
)

FEW, MANY = 10, 1000


async def published(subscriptions: int, count: int) -> Sample:
    """Publish *count* events, each to one subscription; the watcher has no reader of its own."""
    from ezvideo_async import PollPolicy, StatusChanged
    from tests.long.bench.mock import MockTransport, mock_client, tasks

    ids = task_ids(subscriptions)
    policy = PollPolicy(interval=86_400.0)
    async with (
        mock_client(MockTransport(), rate=0.01, burst=1) as client,
        client.watch(policy=policy, iterate=False) as watcher,
        AsyncExitStack() as stack,
    ):
        watcher.add(*ids)
        for task_id in ids:
            await stack.enter_async_context(watcher.subscribe(task_id, replay=False))
        task = tasks()[0]
        events = []
        for task_id in ids:
            event = StatusChanged(task_id=task_id, task=task, previous=None, current=task.status)
            events.append((watcher._known(task_id), event))
        publish = watcher._broadcaster.publish
        with Meter() as meter:
            for _ in range(count // subscriptions):
                for tracked, event in events:
                    publish(tracked, event)
    return {"us": 1e6 * meter.cpu / (count // subscriptions * subscriptions)}


def run(options: Options) -> dict[str, Any]:
    """Measure both numbers of subscriptions alternately."""
    count = 20_000 if options.quick else 200_000
    cases = [
        Case(str(number), published, {"subscriptions": number, "count": count})
        for number in (FEW, MANY)
    ]
    return {"samples": interleaved(cases, options)}


def tables(found: dict[str, Any]) -> str:
    """Return the CPU time by number of subscriptions as a table."""
    samples = found["samples"]
    heads = ["CPU per event, µs", *(f"{number:,} subscriptions" for number in (FEW, MANY))]
    cells = [spread(samples, str(number), "us").shown() for number in (FEW, MANY)]
    return markdown(heads, [["one of them gets it", *cells]])


def goals(found: dict[str, Any]) -> list[Goal]:
    """Compare the figures with the targets."""
    samples = found["samples"]
    growth = ratio(samples, str(MANY), str(FEW), "us")
    return [
        Goal("s", "publish, 1,000 subscriptions", spread(samples, str(MANY), "us"), 5, unit="µs"),
        Goal("s", "publish, 1,000 subscriptions / 10", growth, 1.2, unit="x"),
    ]
