"""
Checks of a client and a watcher against a fault of the catalog.

The first requests meet the fault, on any connection; to the later ones every task is completed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ezvideo_async import EzVideoError
from tests.resilience.wires import ONCE, client_for, failed
from tests.support.raw_server import READ, RawServer, done, now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ezvideo_async import Event
    from tests.resilience.catalog import Fault


class FaultyRequests:
    """
    A script for all connections: the requests meet a fault as *plan* says, then none.

    A fault counts when its request has been read, so that an unused connection holds none.
    """

    def __init__(self, steps: Any, plan: Iterable[bool]) -> None:
        self._steps = steps
        self._plan = iter(plan)

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield READ
            if next(self._plan, False):
                steps = iter(self._steps)
                assert next(steps) is READ
                yield from steps
            else:
                yield done


def meeting(fault: Fault, *, polls: int) -> RawServer:
    """Make a server with *fault* for the first *polls* polls; then tasks are completed."""
    return RawServer(FaultyRequests(fault.script, [True] * (polls * fault.requests)))


def refusing_the_first_id(fault: Fault) -> RawServer:
    """Make a server with *fault* for the first of three ids; the others are completed."""
    return RawServer(FaultyRequests(fault.script, [True, False, False, *[True] * 100]))


async def read_all(reader: Any) -> list[Event]:
    """Read until the iteration ends."""
    return [event async for event in reader]


def check_error(error: Any, fault: Fault) -> None:
    """Check class, reason and ``retryable`` of an error against its fault."""
    assert type(error) is fault.kind, error
    assert getattr(error, "reason", None) == fault.reason
    assert error.retryable is fault.is_retryable
    assert str(error).isprintable()


async def check_retrieve(fault: Fault, session: str) -> None:
    """A call ends with the error, every send is counted, and the next call succeeds."""
    async with (
        meeting(fault, polls=1) as server,
        client_for(server.base_url, session, retry=ONCE) as client,
    ):
        error = await failed(client)
        check_error(error, fault)
        assert error.task_id == "t"
        assert client.requests_sent == len(server.requests) == fault.requests
        assert client.budget.in_flight == 0

        assert (await client.retrieve("next")).succeeded
        assert client.requests_sent == len(server.requests) == fault.requests + 1


async def check_watcher(fault: Fault, session: str) -> None:
    """A watcher of three ids polls again, loses the id with the fault, or raises the error."""
    check = {"retry": check_retry, "lost": check_lost, "fatal": check_fatal}[fault.verdict]
    await check(fault, session)


async def check_retry(fault: Fault, session: str) -> None:
    """All ids meet the fault: it is no event, and each id completes once, with the next poll."""
    ids = ["a", "b", "c"]
    async with (
        meeting(fault, polls=3) as server,
        client_for(server.base_url, session) as client,
    ):
        async with client.watch(ids) as watcher:
            events = await read_all(watcher)

        assert sorted((event.task_id, event.kind) for event in events) == [
            (task_id, "task_completed") for task_id in ids
        ]
        assert client.requests_sent == len(server.requests) == 3 * fault.requests + 3
        for task_id in ids:
            first, *_, last = [seen.at for seen in server.requests if seen.task_id == task_id]
            assert last - first >= 5.0


async def check_lost(fault: Fault, session: str) -> None:
    """The id with the fault is lost with the error after three polls; the others complete."""
    async with (
        refusing_the_first_id(fault) as server,
        client_for(server.base_url, session) as client,
    ):
        async with client.watch(["a", "b", "c"]) as watcher:
            events = await read_all(watcher)

        assert [(event.task_id, event.kind) for event in events] == [
            ("b", "task_completed"),
            ("c", "task_completed"),
            ("a", "task_lost"),
        ]
        check_error(events[-1].error, fault)
        assert client.requests_sent == len(server.requests) == 5
        assert now() >= 10.0


async def check_fatal(fault: Fault, session: str) -> None:
    """The error is raised with the open ids, and no further request is sent."""
    async with (
        meeting(fault, polls=1) as server,
        client_for(server.base_url, session) as client,
    ):
        async with client.watch(["a", "b", "c"]) as watcher:
            with pytest.raises(EzVideoError) as raised:
                await read_all(watcher)
            await asyncio.sleep(600)

        check_error(raised.value, fault)
        assert raised.value.open_ids == ("a", "b", "c")
        assert client.requests_sent == len(server.requests) == 1
