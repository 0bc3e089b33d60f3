"""Entering, leaving, forgetting and misusing a client; borrowed sessions."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import socket
import warnings
from typing import Any

import aiohttp
import pytest

from ezvideo_async import AsyncVideoClient, PollPolicy, RetryPolicy
from ezvideo_async.errors import ClosedError, TaskNotFoundError
from ezvideo_async.testing import FakeVideoServer, VirtualClockLoop
from tests.support.raw_server import (
    CLOSE,
    DONE,
    KEY,
    READ,
    RESET,
    STALL,
    RawServer,
    client_of,
    done,
    now,
    replying,
    response,
    running,
)

LOCAL = "http://127.0.0.1:9/v1"


async def _used(client: AsyncVideoClient, how: str) -> None:
    if how == "watch":
        async with client.watch(["t"]):
            pass
    else:
        await getattr(client, how)("t")


USES = pytest.mark.parametrize("how", ["retrieve", "wait", "watch"])


@pytest.mark.fault("C18")
@USES
async def test_a_client_that_was_not_entered_says_how_to(how: str) -> None:
    """Every use before the client is entered tells to enter it."""
    with pytest.raises(ClosedError, match=r"^enter the client first: async with"):
        await _used(AsyncVideoClient(KEY, base_url=LOCAL), how)


@pytest.mark.fault("C18")
@USES
async def test_a_closed_client_says_so(how: str) -> None:
    """Every use after the end tells to make a new client; so does entering it again."""
    async with AsyncVideoClient(KEY, base_url=LOCAL) as client:
        pass
    with pytest.raises(ClosedError, match="closed; make a new one"):
        await _used(client, how)
    with pytest.raises(ClosedError, match="closed; make a new one"):
        await client.__aenter__()


@pytest.mark.fault("C18")
@USES
async def test_another_event_loop_is_refused(how: str) -> None:
    """A client is for the loop it was entered in."""

    def elsewhere(client: AsyncVideoClient) -> None:
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(_used(client, how))

    async with AsyncVideoClient(KEY, base_url=LOCAL) as client:
        with pytest.raises(ClosedError, match="belongs to another event loop"):
            await asyncio.to_thread(elsewhere, client)


@pytest.mark.fault("C18")
@USES
async def test_a_forked_child_is_refused(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process must not write into its parent's connections."""
    async with AsyncVideoClient(KEY, base_url=LOCAL) as client:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(ClosedError, match="belongs to the parent process"):
            await _used(client, how)
        monkeypatch.undo()


async def test_a_client_is_entered_once() -> None:
    """Entering twice is an error, and does not hurt the first entry."""
    async with RawServer(DONE) as server, client_of(server) as client:
        with pytest.raises(ClosedError, match="this client is entered already"):
            await client.__aenter__()

        assert (await client.retrieve("t")).succeeded


@pytest.mark.fault("C17")
async def test_closing_again_is_nothing() -> None:
    """``aclose`` may be called before entering, within, twice at once, and again."""
    async with RawServer(DONE) as server:
        async with client_of(server) as client:
            await client.retrieve("t")
            await asyncio.gather(client.aclose(), client.aclose())
            await client.aclose()
        unused = client_of(server)
        await unused.aclose()
        with pytest.raises(ClosedError):
            await unused.__aenter__()


@pytest.mark.fault("C19")
async def test_a_forgotten_client_warns_once_and_keeps_the_key() -> None:
    """A client that was entered and never closed gives one ``ResourceWarning``."""
    client = AsyncVideoClient(KEY, base_url=LOCAL)
    await client.__aenter__()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        del client
        gc.collect()

    assert [(each.category, str(each.message)) for each in heard] == [
        (ResourceWarning, f"AsyncVideoClient(base_url='{LOCAL}') was never closed")
    ]


def test_a_client_never_entered_warns_not() -> None:
    """What was not opened needs no closing; neither does what could not be made."""
    AsyncVideoClient(KEY, base_url=LOCAL)
    with pytest.raises(ValueError, match="base_url"):
        AsyncVideoClient(KEY, base_url="nonsense")
    gc.collect()


async def test_nothing_is_opened_before_the_first_request() -> None:
    """Entering opens nothing; the first request opens one connection."""
    async with RawServer(DONE) as server, client_of(server) as client:
        await asyncio.sleep(1.0)
        assert server.connections == 0
        await client.retrieve("t")

        assert server.connections == 1


async def test_own_connections_are_closed_with_the_client() -> None:
    """Leaving the client closes what it opened."""
    async with RawServer(DONE) as server:
        async with client_of(server) as client:
            await asyncio.gather(*(client.retrieve(name) for name in "abc"))
            assert server.open_connections == 3
        await asyncio.sleep(0.1)

        assert server.open_connections == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of aiohttp, on logins
async def test_a_borrowed_session_stays_open_and_keeps_its_key_to_itself() -> None:
    """The caller's session is not closed, and its default key or login is not sent."""
    async with (
        RawServer(DONE) as server,
        aiohttp.ClientSession(headers={"Authorization": "Bearer theirs", "X-A": "b"}) as theirs,
        aiohttp.ClientSession(auth=aiohttp.BasicAuth("user", "pw")) as basic,
    ):
        for session in (theirs, basic):
            async with client_of(server, session=session) as client:
                await client.retrieve("t")
            assert not session.closed

        sent = [seen.headers["authorization"] for seen in server.requests]
        assert sent == [f"Bearer {KEY}", f"Bearer {KEY}"]
        assert server.requests[0].headers["x-a"] == "b"


async def test_a_borrowed_sessions_habits_change_nothing() -> None:
    """Raising for statuses and leaving bodies packed are switched off for our requests."""
    packed = gzip.compress(b'{"id": "t", "status": "completed"}')
    script = replying(
        response(b"{}", status="410 Gone"), response(packed, "Content-Encoding: gzip")
    )
    async with (
        RawServer(script) as server,
        aiohttp.ClientSession(raise_for_status=True, auto_decompress=False) as session,
        client_of(server, session=session) as client,
    ):
        with pytest.raises(TaskNotFoundError):
            await client.retrieve("t")
        assert (await client.retrieve("t")).succeeded
        assert client.requests_sent == len(server.requests) == 2


@pytest.mark.parametrize("how", ["retrieve", "wait"])
async def test_a_borrowed_session_that_its_owner_closed_is_told(how: str) -> None:
    """A closed session is no trouble that passes: the call ends at once."""
    async with RawServer(DONE) as server, aiohttp.ClientSession() as session:
        async with client_of(server, session=session) as client:
            await session.close()
            with pytest.raises(ClosedError, match="the borrowed session was closed"):
                await _used(client, how)

            assert now() == 0.0
            assert client.requests_sent == 0


@pytest.mark.fault("C17")
@pytest.mark.parametrize("how", ["retrieve", "wait"])
async def test_closing_ends_a_request_in_flight(how: str) -> None:
    """A call whose request is under way when the client closes gets ``ClosedError``."""
    async with RawServer([READ, STALL]) as server, client_of(server) as client:
        call = asyncio.create_task(_used(client, how))
        await asyncio.sleep(1.0)
        await client.aclose()
        with pytest.raises(ClosedError, match="closed"):
            await call

        assert now() == 1.0
        assert client.budget.in_flight == 0


HALVES = {
    "a head": b"HTTP/1.1 200 OK\r\nConte",
    "a declared body": b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"',
    "a body in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "a body until the end": b'HTTP/1.1 200 OK\r\n\r\n{"id": "t", "status": "completed"}',
}


@pytest.mark.fault("C17")
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("is_borrowed", [False, True])
async def test_closing_ends_an_answer_half_read(half: str, *, is_borrowed: bool) -> None:
    """However far an answer has come, the call ends at once, and half of one is none."""
    async with (
        RawServer([READ, HALVES[half], STALL]) as server,
        aiohttp.ClientSession() as session,
        client_of(server, session=session if is_borrowed else None) as client,
    ):
        call = asyncio.create_task(client.retrieve("t"))
        await asyncio.sleep(1.0)
        await client.aclose()
        with pytest.raises(ClosedError, match="closed during the request"):
            await call

        assert now() == 1.0
        assert client.budget.in_flight == 0


@pytest.mark.fault("C17")
async def test_closing_ends_a_call_that_connects() -> None:
    """A handshake that never comes is not waited for."""
    async with RawServer([STALL]) as server:
        base_url = server.base_url.replace("http", "https")
        async with client_of(server, base_url=base_url) as client:
            call = asyncio.create_task(client.retrieve("t"))
            await asyncio.sleep(1.0)
            await client.aclose()
            with pytest.raises(ClosedError, match="closed during the request"):
                await call

            assert now() == 1.0
            assert client.requests_sent == 0


@pytest.mark.fault("C17")
@pytest.mark.parametrize("how", ["retrieve", "wait"])
async def test_closing_ends_a_pause_and_opens_nothing_anew(how: str) -> None:
    """A call that sleeps before its next request is woken by closing, and sends no more."""
    refusal = response(b"{}", "Retry-After: 50", status="503 Busy")
    async with RawServer([READ, refusal]) as server, client_of(server) as client:
        call = asyncio.create_task(_used(client, how))
        await asyncio.sleep(1.0)
        await client.aclose()
        with pytest.raises(ClosedError, match="the client was closed"):
            await call

        assert now() == 1.0
        assert len(server.requests) == server.connections == 1


@pytest.mark.fault("C17")
@pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore:.*unclosed:pytest.PytestUnraisableExceptionWarning"
)
def test_closing_a_client_whose_loop_has_ended_raises_nothing() -> None:
    """With a request under way that nothing can end any more."""

    async def asking(base_url: str) -> tuple[AsyncVideoClient, Any]:
        client = await AsyncVideoClient(KEY, base_url=base_url).__aenter__()
        call = asyncio.create_task(client.retrieve("t"))
        await asyncio.sleep(1.0)
        return client, call

    loop = VirtualClockLoop()
    with socket.create_server(("127.0.0.1", 0)) as deaf, asyncio.Runner() as other:
        base_url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        client, call = loop.run_until_complete(asking(base_url))
        loop.close()
        other.run(client.aclose())

    assert client._transport._carrier.connections == []
    call._log_destroy_pending = False
    del client, call
    gc.collect()


async def test_a_cancelled_close_has_closed_when_it_leaves() -> None:
    """Cancelled, again and again, ``aclose`` still closes everything before it leaves."""
    async with RawServer(DONE) as server, client_of(server) as client:
        await client.retrieve("t")
        before = asyncio.all_tasks()
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        asyncio.get_running_loop().call_soon(closing.cancel)
        await asyncio.wait([closing])

        assert closing.cancelled()
        assert asyncio.all_tasks() - before <= {closing}
        await asyncio.sleep(0.001)
        assert server.open_connections == 0


@pytest.mark.fault("C15")
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_closing_takes_two_seconds_at_most(*, is_cancelled: bool) -> None:
    """A connection that can't be closed, for a peer that never reads, is aborted after 2 s."""
    # More than the kernel takes for a peer.
    headers = {f"X-Padding-{number}": "x" * 4000 for number in range(4000)}
    async with RawServer([STALL]) as server, client_of(server, headers=headers) as client:
        call = asyncio.create_task(client.retrieve("t"))
        await asyncio.sleep(1.0)
        before = asyncio.all_tasks()
        transports = client._transport._carrier.connections
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0.5)
        if is_cancelled:
            closing.cancel()
        await asyncio.wait([closing])
        with pytest.raises(ClosedError):
            await call

        assert now() == 3.0
        assert closing.cancelled() == is_cancelled
        assert [sending.get_write_buffer_size() for sending in transports] == [0]
        assert asyncio.all_tasks() < before


@pytest.mark.fault("C15")
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_leaving_a_watch_takes_two_seconds_at_most(*, is_cancelled: bool) -> None:
    """A key callable that takes its time when it is cancelled holds up nobody for longer."""
    loop = asyncio.get_running_loop()

    async def stubborn() -> str:
        while loop.time() < 9.0:
            try:
                await asyncio.sleep(100.0)
            except asyncio.CancelledError:
                loop._now += 0.01  # a callback that blocks
        return KEY

    async with RawServer(DONE) as server, client_of(server, api_key=stubborn) as client:
        async with client.watch(["t"]) as watcher:
            await asyncio.sleep(0.5)
            leaving = asyncio.create_task(watcher.__aexit__(None, None, None))
            await asyncio.sleep(0)
            if is_cancelled:
                leaving.cancel()
            await asyncio.wait([leaving])

            assert 2.5 <= now() < 2.6
            assert leaving.cancelled() == is_cancelled
            await asyncio.sleep(20.0)
        assert server.requests == []
        assert client.budget.in_flight == 0


@pytest.mark.fault("C17")
async def test_closing_ends_a_watch() -> None:
    """A watch that runs when its client closes ends at once, with the ids that are open."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=600.0)
        async with client.watch([task_id]) as watcher:
            assert (await anext(watcher)).kind == "status_changed"
            asyncio.get_running_loop().call_later(1.0, asyncio.ensure_future, client.aclose())
            with pytest.raises(ClosedError, match="closed while a watch ran") as raised:
                await anext(watcher)

        assert raised.value.open_ids == (task_id,)
        assert now() == 1.0


async def test_a_client_is_not_entered_from_another_loop() -> None:
    """Entering an entered client elsewhere tells of the loop, not of the second entry."""

    def elsewhere(client: AsyncVideoClient) -> None:
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(client.__aenter__())

    async with AsyncVideoClient(KEY, base_url=LOCAL) as client:
        with pytest.raises(ClosedError, match="belongs to another event loop"):
            await asyncio.to_thread(elsewhere, client)


async def test_leaving_by_an_exception_closes_and_lets_it_pass() -> None:
    """The caller's own exception leaves unchanged."""
    async with RawServer(DONE) as server:
        with pytest.raises(KeyError, match="mine"):
            async with client_of(server) as client:
                raise KeyError("mine")
        with pytest.raises(ClosedError):
            await client.retrieve("t")


async def test_the_count_of_requests_is_what_the_server_saw() -> None:
    """Successes, refusals, resets, stale connections: every send is counted, and nothing else."""
    script = [READ, done, READ, response(b"", status="503 Busy"), READ, RESET]
    async with (
        RawServer(script, [READ, CLOSE], DONE) as server,
        client_of(server, retry=RetryPolicy(attempts=9)) as client,
    ):
        await client.retrieve("a")
        await client.retrieve("b")

        assert client.requests_sent == len(server.requests) == 5
        assert server.connections == 3


async def test_watch_gives_a_watcher_with_its_options() -> None:
    """``watch`` hands ids and options to a ``TaskWatcher`` of this client."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=8.0)
        policy = PollPolicy(interval=3.0, jitter=0.0)
        async with client.watch([task_id], policy=policy, progress=True) as watcher:
            kinds = [event.kind async for event in watcher]

        assert kinds[-1] == "task_completed"
        assert "progress_changed" in kinds
        assert len(server.requests()) == 4


async def test_a_running_task_is_what_retrieve_gives() -> None:
    """``retrieve`` asks once, whatever the state."""
    async with RawServer(replying(running)) as server, client_of(server) as client:
        assert (await client.retrieve("t")).status == "processing"
        assert client.requests_sent == len(server.requests) == 1
