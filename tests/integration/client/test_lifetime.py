"""Lifetime of a client: entering, closing, forgetting; borrowed sessions."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import warnings
from typing import Any

import aiohttp
import pytest

from ezvideo_async import AsyncVideoClient, RetryPolicy
from ezvideo_async.errors import ClosedError, TaskNotFoundError
from ezvideo_async.testing import VirtualClockLoop
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
)

LOCAL = "http://127.0.0.1:9/v1"


async def _use(client: AsyncVideoClient, how: str) -> None:
    if how == "watch":
        async with client.watch(["t"]):
            pass
    elif how == "enter":
        await client.__aenter__()
    else:
        await getattr(client, how)("t")


# -- opening and closing --------------------------------------------------------------------------


@pytest.mark.fault("C18")
@pytest.mark.parametrize("how", ["retrieve", "wait", "watch", "enter"])
@pytest.mark.parametrize("was_used", [True, False])
async def test_closed_client_is_refused(how: str, *, was_used: bool) -> None:
    """Every use, and entering it again, tells to make a new one."""
    client = AsyncVideoClient(KEY, base_url=LOCAL)
    if was_used:
        await client.__aenter__()
    await client.aclose()
    with pytest.raises(ClosedError, match="this client was closed; make a new one"):
        await _use(client, how)


@pytest.mark.fault("C17")
async def test_entering_and_closing_are_idempotent() -> None:
    """Entering twice opens nothing twice; ``aclose`` may be called again, or concurrently."""
    async with RawServer(DONE) as server, client_of(server) as client:
        await client.__aenter__()
        await client.retrieve("t")
        await asyncio.gather(client.aclose(), client.aclose())
        await client.aclose()

        assert server.connections == 1


@pytest.mark.fault("C19")
async def test_unclosed_client_warns_once() -> None:
    """One ``ResourceWarning`` without the key when a client that was used is forgotten."""
    client = AsyncVideoClient(KEY, base_url=LOCAL)
    await client.__aenter__()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        gc.collect()

    assert [(each.category, str(each.message)) for each in caught] == [
        (ResourceWarning, f"AsyncVideoClient(base_url='{LOCAL}') was never closed")
    ]


def test_unused_client_needs_no_closing() -> None:
    """Neither does one that could not be made."""
    AsyncVideoClient(KEY, base_url=LOCAL)
    with pytest.raises(ValueError, match="base_url"):
        AsyncVideoClient(KEY, base_url="nonsense")
    gc.collect()


async def test_connection_is_opened_by_the_first_request() -> None:
    """Entering opens none."""
    async with RawServer(DONE) as server, client_of(server) as client:
        await asyncio.sleep(1.0)
        assert server.connections == 0
        await client.retrieve("t")

        assert server.connections == 1


async def test_exception_of_the_caller_closes_the_client() -> None:
    """It leaves unchanged."""
    async with RawServer(DONE) as server:
        with pytest.raises(KeyError, match="mine"):
            async with client_of(server) as client:
                raise KeyError("mine")
        with pytest.raises(ClosedError):
            await client.retrieve("t")


async def test_requests_sent_is_what_the_server_received() -> None:
    """Successes, refusals, resets and resends on stale connections are counted."""
    script = [READ, done, READ, response(b"", status="503 Busy"), READ, RESET]
    async with (
        RawServer(script, [READ, CLOSE], DONE) as server,
        client_of(server, retry=RetryPolicy(attempts=9)) as client,
    ):
        await client.retrieve("a")
        await client.retrieve("b")

        assert client.requests_sent == len(server.requests) == 5
        assert server.connections == 3


# -- borrowed sessions ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of aiohttp, on logins
async def test_borrowed_session_stays_open_and_keeps_its_credentials() -> None:
    """Its default key or login is not sent; its other headers are."""
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


async def test_options_of_a_borrowed_session_have_no_effect() -> None:
    """``raise_for_status`` and ``auto_decompress`` are set for each of our requests."""
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
async def test_borrowed_session_that_was_closed_is_not_retried(how: str) -> None:
    """The call ends at once with ``ClosedError``."""
    async with RawServer(DONE) as server, aiohttp.ClientSession() as session:
        async with client_of(server, session=session) as client:
            await session.close()
            with pytest.raises(ClosedError, match="the borrowed session was closed"):
                await _use(client, how)

            assert now() == 0.0
            assert client.requests_sent == 0


# -- closing during a call ------------------------------------------------------------------------

HALVES = {
    "nothing": b"",
    "a head": b"HTTP/1.1 200 OK\r\nConte",
    "a declared body": b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"',
    "a body in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "a body until the end": b'HTTP/1.1 200 OK\r\n\r\n{"id": "t", "status": "completed"}',
}


@pytest.mark.fault("C17")
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("is_borrowed", [False, True])
async def test_closing_ends_a_request_in_flight(half: str, *, is_borrowed: bool) -> None:
    """The call ends at once, whatever part of the response has come."""
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
    """It does not wait for a TLS handshake that never comes."""
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
async def test_closing_ends_a_delay_before_the_next_request(how: str) -> None:
    """Nothing is sent or opened after it."""
    refusal = response(b"{}", "Retry-After: 50", status="503 Busy")
    async with RawServer([READ, refusal]) as server, client_of(server) as client:
        call = asyncio.create_task(_use(client, how))
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
def test_client_of_an_ended_loop_can_be_closed() -> None:
    """With a request in flight that nothing can end any more."""

    async def start_call(base_url: str) -> tuple[AsyncVideoClient, Any]:
        client = AsyncVideoClient(KEY, base_url=base_url)
        call = asyncio.create_task(client.retrieve("t"))
        await asyncio.sleep(1.0)
        return client, call

    loop = VirtualClockLoop()
    with socket.create_server(("127.0.0.1", 0)) as deaf, asyncio.Runner() as other:
        base_url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        client, call = loop.run_until_complete(start_call(base_url))
        loop.close()
        other.run(client.aclose())

    assert client._engine._transport._backend.open_transports == []
    call._log_destroy_pending = False
    del client, call
    gc.collect()


async def test_cancelled_aclose_still_closes_everything() -> None:
    """Also when it is cancelled again and again."""
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
async def test_aclose_takes_two_seconds_at_most(*, is_cancelled: bool) -> None:
    """A connection to a peer that never reads is aborted after 2 s."""
    # More than the kernel buffers for a peer.
    headers = {f"X-Padding-{number}": "x" * 4000 for number in range(4000)}
    async with RawServer([STALL]) as server, client_of(server, headers=headers) as client:
        call = asyncio.create_task(client.retrieve("t"))
        await asyncio.sleep(1.0)
        before = asyncio.all_tasks()
        transports = client._engine._transport._backend.open_transports
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
async def test_leaving_a_watcher_takes_two_seconds_at_most(*, is_cancelled: bool) -> None:
    """A key callable that ignores its cancellation delays nobody for longer."""
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
