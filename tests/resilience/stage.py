"""
Plays troubles of the catalogue to a client or to a watcher.

A trouble is met so many times, on whatever connections the requests come; after that, and on the
same connections, every task is completed.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from ezvideo_async import EzVideoError, RetryPolicy
from tests.support.raw_server import READ, RawServer, client_of, done

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ezvideo_async import AsyncVideoClient, Event
    from tests.resilience.catalog import Fault

ONCE = RetryPolicy(attempts=1)

over_both_sessions = pytest.mark.parametrize("session", ["own", "borrowed"])
"""A session of the client's, and one of the caller's: their ways through aiohttp may differ."""


class Met:
    """
    A script for all connections: the first *times* requests meet a trouble, the others none.

    It is counted when a request has been read: a connection that is kept, and never used again,
    keeps no trouble from the others.
    """

    def __init__(self, trouble: Any, times: int) -> None:
        self._trouble = trouble
        self._left = times

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield READ
            if self._left:
                self._left -= 1
                steps = iter(self._trouble)
                assert next(steps) is READ
                yield from steps
            else:
                yield done


class Always:
    """A script for all connections: every request gets this reply, after *latency* seconds."""

    def __init__(self, reply: Any, *, latency: float = 0.0) -> None:
        self._reply = reply
        self._latency = latency

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield READ
            if self._latency:
                yield self._latency
            yield self._reply


def meeting(trouble: Fault, *, questions: int) -> RawServer:
    """A server that plays *trouble* to the first *questions*, then lets tasks be completed."""
    return RawServer(Met(trouble.script, questions * trouble.requests))


@asynccontextmanager
async def client_over(
    session: str, server: RawServer, **options: Any
) -> AsyncIterator[AsyncVideoClient]:
    """Enter a client that opens its own session, or borrows one."""
    if session == "own":
        async with client_of(server, **options) as client:
            yield client
        return
    async with aiohttp.ClientSession() as borrowed:
        async with client_of(server, session=borrowed, **options) as client:
            yield client
        assert not borrowed.closed


async def failed(client: AsyncVideoClient, task_id: str = "t") -> Any:
    """The error that retrieving a task ends with."""
    with pytest.raises(EzVideoError) as raised:
        await client.retrieve(task_id)
    return raised.value


async def read_all(reader: Any) -> list[Event]:
    """Read to the end."""
    return [event async for event in reader]


def check_error(error: Any, trouble: Fault) -> None:
    """Hold an error against its row: class, reason, and whether asking again may help."""
    assert type(error) is trouble.kind, error
    assert getattr(error, "reason", None) == trouble.reason
    assert error.retryable is trouble.is_retryable
    assert str(error).isprintable()


async def check_retrieve(trouble: Fault, session: str) -> None:
    """One question ends with the row's error, every send counted; the next one is answered."""
    async with (
        meeting(trouble, questions=1) as server,
        client_over(session, server, retry=ONCE) as client,
    ):
        error = await failed(client)
        check_error(error, trouble)
        assert error.task_id == "t"
        assert client.requests_sent == len(server.requests) == trouble.requests
        assert client.budget.in_flight == 0

        assert (await client.retrieve("next")).succeeded
        assert client.requests_sent == len(server.requests) == trouble.requests + 1


async def check_watcher(trouble: Fault, session: str) -> None:
    """A watcher of three ids asks again, gives up the id that met it, or ends for all."""
    check = {"retry": check_retry, "lost": check_lost, "fatal": check_fatal}[trouble.verdict]
    await check(trouble, session)


async def check_retry(trouble: Fault, session: str) -> None:
    """All ids meet the trouble first: it is no event, and each id ends once, as asked again."""
    ids = ["a", "b", "c"]
    async with (
        meeting(trouble, questions=3) as server,
        client_over(session, server) as client,
    ):
        async with client.watch(ids) as watcher:
            events = await read_all(watcher)

        assert sorted((event.task_id, event.kind) for event in events) == [
            (task_id, "task_completed") for task_id in ids
        ]
        assert client.requests_sent == len(server.requests) == 3 * trouble.requests + 3
        for task_id in ids:
            first, *_, last = [seen.at for seen in server.requests if seen.task_id == task_id]
            assert last - first >= 5.0


async def check_lost(trouble: Fault, session: str) -> None:
    """The id that met the trouble is lost with its error; the others go on to their ends."""
    async with (
        meeting(trouble, questions=1) as server,
        client_over(session, server) as client,
    ):
        async with client.watch(["a", "b", "c"]) as watcher:
            events = await read_all(watcher)

        assert [(event.task_id, event.kind) for event in events] == [
            ("a", "task_lost"),
            ("b", "task_completed"),
            ("c", "task_completed"),
        ]
        check_error(events[0].error, trouble)
        assert client.requests_sent == len(server.requests) == 3


async def check_fatal(trouble: Fault, session: str) -> None:
    """The error leaves the iteration with the open ids, and nothing more is sent."""
    async with (
        meeting(trouble, questions=1) as server,
        client_over(session, server) as client,
    ):
        async with client.watch(["a", "b", "c"]) as watcher:
            with pytest.raises(EzVideoError) as raised:
                await read_all(watcher)
            await asyncio.sleep(600)

        check_error(raised.value, trouble)
        assert raised.value.open_ids == ("a", "b", "c")
        assert client.requests_sent == len(server.requests) == 1
