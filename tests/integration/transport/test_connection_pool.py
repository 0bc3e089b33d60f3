"""Connections of our own: kept, let go, closed; and a session where aiohttp does not allow them."""

from __future__ import annotations

import asyncio
import gc
import ssl
import tracemalloc
from functools import partial
from typing import Any

import aiohttp
import pytest
import trustme

from ezvideo_async import AsyncVideoClient, RetryPolicy
from ezvideo_async._transport import connection_pool as _line
from ezvideo_async.errors import TransportError
from tests.support.raw_server import (
    CLOSE,
    DONE,
    KEY,
    READ,
    STALL,
    RawServer,
    client_of,
    done,
    now,
    replying,
    response,
    task,
)

ONCE = RetryPolicy(attempts=1)


async def test_a_connection_is_kept_for_fifteen_seconds() -> None:
    """A moment before it is used again, at fifteen seconds it is closed."""
    async with RawServer(DONE) as server, client_of(server) as client:
        await client.retrieve("t")
        await asyncio.sleep(14.999)
        await client.retrieve("t")
        assert server.connections == 1
        await asyncio.sleep(15.0)
        await asyncio.sleep(0.001)
        assert server.open_connections == 0
        await client.retrieve("t")

        assert server.connections == 2


async def test_the_connection_used_last_is_used_next() -> None:
    """So that those which few requests do not need grow old and are closed."""
    script = [READ, 1.0, *DONE[1:]]
    async with RawServer(script) as server, client_of(server) as client:
        await asyncio.gather(*(client.retrieve(name) for name in "abc"))
        assert server.open_connections == 3
        for _second in range(20):
            await client.retrieve("d")
            await asyncio.sleep(1.0)

        assert server.open_connections == 1
        assert len({seen.connection for seen in server.requests[3:]}) == 1


async def test_a_connection_that_says_close_is_not_kept() -> None:
    """``Connection: close`` is believed, also when the server leaves it open."""
    reply = response(task("t"), "Connection: close")
    async with RawServer([READ, reply, STALL], DONE) as server, client_of(server) as client:
        await client.retrieve("t")
        await client.retrieve("t")

        assert server.connections == 2
        assert client.requests_sent == 2


async def test_a_connection_with_a_stray_answer_is_not_used() -> None:
    """What comes on an idle connection closes it; nothing is sent on it."""
    script = [READ, done, 0.5, response(task("EVIL")), READ, CLOSE]
    async with RawServer(script, DONE) as server, client_of(server, retry=ONCE) as client:
        await client.retrieve("a")
        await asyncio.sleep(1.0)
        found = await client.retrieve("b")

        assert "EVIL" not in str(found.raw)
        assert [seen.connection for seen in server.requests] == [0, 1]


async def test_a_flood_of_stray_answers_takes_little_memory() -> None:
    """What is pushed on an idle connection is neither read on nor parsed."""
    flood = [b"HTTP/1.1 204 No\r\n\r\n" * 3000] * 40
    async with RawServer([READ, done, 0.5, *flood, STALL], DONE) as server:
        async with client_of(server, retry=ONCE) as client:
            await client.retrieve("a")
            tracemalloc.start()
            await asyncio.sleep(1.0)
            _size, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            await client.retrieve("b")

        assert peak < 2 << 20
        assert [seen.connection for seen in server.requests] == [0, 1]


async def test_leaving_closes_idle_connections_and_their_timer() -> None:
    """After ``async with`` neither a connection nor a timer is left."""
    loop: Any = asyncio.get_running_loop()
    async with RawServer(DONE) as server:
        async with client_of(server) as client:
            await asyncio.gather(*(client.retrieve(name) for name in "abc"))
            assert server.open_connections == 3
        await asyncio.sleep(0.001)

        assert server.open_connections == 0
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_the_connections_of_a_forgotten_client_are_closed_at_once() -> None:
    """Also where garbage is never collected; aiohttp tells the loop of each."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: told.append(context["message"])
    )
    gc.collect()
    gc.disable()
    try:
        async with RawServer(DONE) as server:
            client = client_of(server)
            await client.__aenter__()
            await asyncio.gather(*(client.retrieve(name) for name in "abc"))
            del client
            await asyncio.sleep(0.001)

            assert server.open_connections == 0
    finally:
        gc.enable()
    assert told == ["Unclosed connection"] * 3


async def test_headers_of_the_caller_take_the_place_of_ours() -> None:
    """A name stands once in a request, whatever its case."""
    async with (
        RawServer(DONE) as server,
        client_of(server, headers={"accept": "text/json", "X-Team": "a"}) as client,
    ):
        await client.retrieve("t")

        (seen,) = server.requests
        assert [line for line in seen.lines if line.lower().startswith("accept:")] == [
            "accept: text/json"
        ]
        assert seen.headers["x-team"] == "a"
        assert seen.headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("path", ["/v1", "", "/a/b%20c"])
async def test_the_path_of_the_base_url_is_sent_as_it_is(path: str) -> None:
    """Whatever stands before ``/videos`` comes first."""
    async with RawServer(DONE) as server:
        base_url = f"http://127.0.0.1:{server.port}{path}"
        async with client_of(server, base_url=base_url) as client:
            await client.retrieve("t 1")

        assert server.requests[0].target == f"{path}/videos/t%201"


async def test_another_aiohttp_is_gone_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where aiohttp has not what lines are made of, a session of our own serves as well."""
    monkeypatch.setattr(_line, "IS_SUPPORTED", False)
    async with (
        RawServer([READ, done, READ, CLOSE], DONE) as server,
        client_of(server, retry=ONCE) as client,
    ):
        for _call in range(3):
            assert (await client.retrieve("t")).succeeded

        assert client.requests_sent == len(server.requests) == 4
        assert client._transport._carrier.__class__.__name__ == "SessionBackend"
    await asyncio.sleep(0.001)
    assert server.open_connections == 0


def test_this_aiohttp_is_supported() -> None:
    """With the versions of aiohttp that we know, lines are made."""
    assert _line.IS_SUPPORTED


class _LaterRequest:
    def __init__(self, method: str, url: object, *, loop: object, version: object) -> None: ...


class _LaterConnector:
    pass


@pytest.mark.parametrize(
    ("name", "later"), [("ClientRequest", _LaterRequest), ("BaseConnector", _LaterConnector)]
)
def test_an_aiohttp_that_asks_for_more_is_not(
    name: str, later: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class that takes other arguments, or lacks a method, is told at import, not in use."""
    monkeypatch.setattr(aiohttp, name, later)

    assert not _line._is_supported()


# -- with TLS -------------------------------------------------------------------------------------


@pytest.fixture
def certified(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The server's side of TLS; connections of our own trust its certificate for 127.0.0.1."""
    authority, trusting = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr(aiohttp, "TCPConnector", partial(aiohttp.TCPConnector, ssl=trusting))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_with_tls_a_connection_is_kept_too(certified: ssl.SSLContext) -> None:
    """Requests one after another share a handshake; a closed connection is resent on once."""
    script = [*replying(done, done, done), READ, CLOSE]
    async with RawServer(script, DONE, tls=certified) as server, client_of(server) as client:
        for _call in range(4):
            assert (await client.retrieve("t")).succeeded

        assert [seen.connection for seen in server.requests] == [0, 0, 0, 0, 1]
        assert client.requests_sent == 5


class _Deaf(asyncio.Protocol):
    """Takes one request, and hears nothing any more."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, _data: bytes) -> None:
        self.transport.pause_reading()


async def test_a_peer_that_says_no_goodbye_is_not_waited_for(certified: ssl.SSLContext) -> None:
    """A TLS connection whose peer has gone leaves no timer, and so no socket, behind."""
    loop: Any = asyncio.get_running_loop()
    peer = _Deaf()
    server = await loop.create_server(lambda: peer, "127.0.0.1", 0, ssl=certified)
    base_url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with AsyncVideoClient(KEY, base_url=base_url, retry=ONCE, request_timeout=2.0) as client:
        with pytest.raises(TransportError):
            await client.retrieve("t")
    await asyncio.sleep(0.001)

    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []
    peer.transport.abort()
    server.close()


# -- one timer for all tries ----------------------------------------------------------------------


async def test_each_try_has_its_own_limit() -> None:
    """Tries that began one after another end one after another, on one timer."""
    loop: Any = asyncio.get_running_loop()
    ends: dict[str, float] = {}
    async with RawServer([READ, STALL]) as server:
        async with client_of(server, retry=ONCE, request_timeout=4.0) as client:

            async def one(name: str, after: float) -> None:
                await asyncio.sleep(after)
                with pytest.raises(TransportError) as raised:
                    await client.retrieve(name)
                assert raised.value.reason == "timeout"
                ends[name] = now()

            calls = [asyncio.create_task(one(f"t{k}", k * 0.5)) for k in range(10)]
            await asyncio.sleep(3.0)
            timers = [timer for timer in loop._scheduled if not timer.cancelled()]
            limits = [timer for timer in timers if timer._callback.__name__ == "_fired"]
            assert [timer.when() for timer in limits] == [4.0]
            await asyncio.gather(*calls)

        assert ends == {f"t{k}": 4.0 + k * 0.5 for k in range(10)}


async def test_a_callers_cancellation_at_the_very_end_of_a_limit_is_the_callers() -> None:
    """Cancelled in the moment in which the time is up, a call is cancelled, not timed out."""
    loop = asyncio.get_running_loop()
    async with (
        RawServer([READ, STALL]) as server,
        client_of(server, retry=ONCE, request_timeout=4.0) as client,
    ):
        call = asyncio.create_task(client.retrieve("t"))
        await asyncio.sleep(1.0)
        loop.call_at(4.0, call.cancel)
        await asyncio.wait([call])

        assert call.cancelled()
        assert client.budget.in_flight == 0
