"""Connection pool: keep-alive, reuse, closing, TLS; the session it falls back to; timeouts."""

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
from ezvideo_async._transport import connection_pool
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


async def test_idle_connection_is_kept_for_fifteen_seconds() -> None:
    """Just before 15 s it is reused; at 15 s it is closed."""
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


@pytest.mark.fault("N3")
@pytest.mark.parametrize("is_borrowed", [False, True])
async def test_busy_connection_is_renewed_after_300_to_330_seconds(*, is_borrowed: bool) -> None:
    """Between two requests, so that a name's new address is used; no request fails."""
    async with (
        RawServer(DONE) as server,
        aiohttp.ClientSession() as session,
        client_of(server, retry=ONCE, session=session if is_borrowed else None) as client,
    ):
        for _second in range(1000):
            await client.retrieve("t")
            await asyncio.sleep(1.0)
        opened = [seen.at for seen in server.requests if seen.connection > 0]
        starts = {seen.connection: seen.at for seen in reversed(server.requests)}

        assert server.connections in {3, 4}
        assert all(300.0 <= starts[number] - starts[number - 1] <= 331.0 for number in (1, 2))
        assert len(opened) == len(server.requests) - starts[1]
        assert client.requests_sent == 1000


async def test_connection_used_last_is_reused_first() -> None:
    """Connections that are not needed any more stay idle and are closed."""
    script = [READ, 1.0, *DONE[1:]]
    async with RawServer(script) as server, client_of(server) as client:
        await asyncio.gather(*(client.retrieve(name) for name in "abc"))
        assert server.open_connections == 3
        for _second in range(20):
            await client.retrieve("d")
            await asyncio.sleep(1.0)

        assert server.open_connections == 1
        assert len({seen.connection for seen in server.requests[3:]}) == 1


async def test_connection_is_not_kept_after_connection_close() -> None:
    """``Connection: close`` counts, also if the server leaves the connection open."""
    reply = response(task("t"), "Connection: close")
    async with RawServer([READ, reply, STALL], DONE) as server, client_of(server) as client:
        await client.retrieve("t")
        await client.retrieve("t")

        assert server.connections == 2
        assert client.requests_sent == 2


async def test_data_on_an_idle_connection_takes_little_memory() -> None:
    """Unsolicited responses are not parsed, and reading stops."""
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


async def test_aclose_closes_idle_connections_and_their_timer() -> None:
    """After ``async with`` no connection and no timer is left."""
    loop: Any = asyncio.get_running_loop()
    async with RawServer(DONE) as server:
        async with client_of(server) as client:
            await asyncio.gather(*(client.retrieve(name) for name in "abc"))
            assert server.open_connections == 3
        await asyncio.sleep(0.001)

        assert server.open_connections == 0
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_connections_of_an_unclosed_client_are_closed_when_it_is_freed() -> None:
    """No garbage collection is needed; aiohttp reports each to the event loop."""
    messages: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: messages.append(context["message"])
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
    assert messages == ["Unclosed connection"] * 3


@pytest.mark.parametrize("path", ["/v1", "", "/a/b%20c"])
async def test_path_of_the_base_url_is_sent_unchanged(path: str) -> None:
    """It comes before ``/videos``."""
    async with RawServer(DONE) as server:
        base_url = f"http://127.0.0.1:{server.port}{path}"
        async with client_of(server, base_url=base_url) as client:
            await client.retrieve("t 1")

        assert server.requests[0].target == f"{path}/videos/t%201"


async def test_session_is_used_with_an_unsupported_aiohttp(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If aiohttp lacks what the pool needs, the client uses a session of its own."""
    monkeypatch.setattr(connection_pool, "IS_SUPPORTED", False)
    async with (
        RawServer([READ, done, READ, CLOSE], DONE) as server,
        client_of(server, retry=ONCE) as client,
    ):
        for _call in range(3):
            assert (await client.retrieve("t")).succeeded

        assert client.requests_sent == len(server.requests) == 4
        assert client._engine._transport._backend.__class__.__name__ == "SessionBackend"
    await asyncio.sleep(0.001)
    assert server.open_connections == 0


def test_installed_aiohttp_is_supported() -> None:
    """With the tested versions of aiohttp the pool is used."""
    assert connection_pool.IS_SUPPORTED


class _LaterRequest:
    def __init__(self, method: str, url: object, *, loop: object, version: object) -> None: ...


class _LaterConnector:
    pass


@pytest.mark.parametrize(
    ("name", "later"), [("ClientRequest", _LaterRequest), ("BaseConnector", _LaterConnector)]
)
def test_changed_aiohttp_is_not_supported(
    name: str, later: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other arguments or a missing method are detected at import."""
    monkeypatch.setattr(aiohttp, name, later)

    assert not connection_pool._is_supported()


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


async def test_tls_connection_is_kept(certified: ssl.SSLContext) -> None:
    """Consecutive requests share a handshake; on a stale connection the request is resent."""
    script = [*replying(done, done, done), READ, CLOSE]
    async with RawServer(script, DONE, tls=certified) as server, client_of(server) as client:
        for _call in range(4):
            assert (await client.retrieve("t")).succeeded

        assert [seen.connection for seen in server.requests] == [0, 0, 0, 0, 1]
        assert client.requests_sent == 5


class _NotReading(asyncio.Protocol):
    """Reads one request and nothing more."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, _data: bytes) -> None:
        self.transport.pause_reading()


async def test_close_does_not_wait_for_the_end_of_tls(certified: ssl.SSLContext) -> None:
    """A TLS connection whose peer stopped reading leaves no timer and no socket."""
    loop: Any = asyncio.get_running_loop()
    peer = _NotReading()
    server = await loop.create_server(lambda: peer, "127.0.0.1", 0, ssl=certified)
    base_url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with AsyncVideoClient(KEY, base_url=base_url, retry=ONCE, request_timeout=2.0) as client:
        with pytest.raises(TransportError):
            await client.retrieve("t")
    await asyncio.sleep(0.001)

    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []
    peer.transport.abort()
    server.close()


# -- timeouts on one timer ------------------------------------------------------------------------


async def test_each_attempt_has_its_own_timeout() -> None:
    """Attempts that started one after another time out one after another, on one timer."""
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
            timeouts = [timer for timer in timers if timer._callback.__name__ == "_expire_due"]
            assert [timer.when() for timer in timeouts] == [4.0]
            await asyncio.gather(*calls)

        assert ends == {f"t{k}": 4.0 + k * 0.5 for k in range(10)}


async def test_cancellation_at_the_deadline_is_the_callers() -> None:
    """A call that is cancelled when its timeout expires is cancelled, not timed out."""
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
