"""
Network faults (rows N) on real sockets, over the connection pool and over a borrowed session.

Time is virtual; faults that need real time or a network namespace are tested elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from ezvideo_async.errors import (
    BadResponseError,
    EzVideoError,
    RequestTimeoutError,
    ServerError,
    TLSError,
    TransportError,
)
from ezvideo_async.testing import FakeVideoServer
from tests.resilience.catalog import NETWORK
from tests.resilience.wires import (
    IDS,
    ONCE,
    Resolver,
    WiredLoop,
    client_at,
    client_for,
    completed,
    failed,
    over_both_sessions,
    refused,
    wires,
)
from tests.support.raw_server import (
    CLOSE,
    CUT,
    DONE,
    READ,
    RESET,
    STALL,
    RawServer,
    Script,
    done,
    now,
    replying,
    response,
    running,
    task,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ezvideo_async import AsyncVideoClient


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run every test of this module on a loop that resolves names itself and counts connects."""
    return "asyncio", {"loop_factory": WiredLoop}


FAULTS = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.fault(each.row)) for name, each in NETWORK.items()],
)


# -- scripts of bytes (N8-N11, N13, N14) ----------------------------------------------------------


def arrived(server: RawServer, script: Script, plays: int) -> int:
    """Count the requests sent to the server, including those that it closed on without reading."""
    return len(server.requests) + (0 if READ in script else min(plays, server.connections))


@over_both_sessions
@FAULTS
async def test_retrieve_raises_the_error_of_the_fault(name: str, session: str) -> None:
    """One attempt is one request, within its timeout; the next call works."""
    fault = NETWORK[name]
    async with (
        RawServer(fault.script, DONE) as server,
        client_for(server.base_url, session, retry=ONCE) as client,
    ):
        raised = await failed(client)

        assert type(raised) is fault.kind
        assert raised.reason == fault.reason
        assert raised.retryable
        assert str(raised).isprintable()
        assert client.requests_sent == arrived(server, fault.script, 1) == 1
        assert now() == 15.0 if fault.reason == "timeout" else now() < 1.0
        assert client.budget.in_flight == 0

        assert (await client.retrieve("t")).succeeded
        assert client.requests_sent == arrived(server, fault.script, 1) == 2


@over_both_sessions
@FAULTS
async def test_fault_on_a_kept_connection_is_resent_if_stale(name: str, session: str) -> None:
    """An end without a response costs one resend; any other fault fails the attempt."""
    fault = NETWORK[name]
    script = [READ, running, *fault.script]
    async with (
        RawServer(script, DONE) as server,
        client_for(server.base_url, session, retry=ONCE) as client,
    ):
        await client.retrieve("t")
        if fault.reason == "disconnected":
            assert (await client.retrieve("t")).succeeded
        else:
            raised = await failed(client)

            assert (type(raised), raised.reason) == (fault.kind, fault.reason)
        assert client.requests_sent == len(server.requests) + (READ not in fault.script)
        assert client.requests_sent <= 3
        assert (await client.retrieve("t")).succeeded


@over_both_sessions
@FAULTS
async def test_watcher_polls_again_after_the_fault(name: str, session: str) -> None:
    """Three ids meet the fault at their first poll: each ends once, every request is counted."""
    fault = NETWORK[name]
    async with (
        RawServer(*[fault.script] * 3, DONE) as server,
        client_for(server.base_url, session) as client,
    ):
        assert await completed(client) == list(IDS)
        assert client.requests_sent == arrived(server, fault.script, 3) == 6
        polls = Counter(seen.task_id for seen in server.requests)
        assert polls == dict.fromkeys(IDS, 2 if READ in fault.script else 1)


# -- DNS (N1, N2) ---------------------------------------------------------------------------------


@pytest.mark.fault("N1")
@over_both_sessions
async def test_unknown_host_name_is_in_the_error(session: str) -> None:
    """``retrieve`` fails after three attempts, and nothing is sent."""
    async with client_for("http://no-such-host.invalid/v1", session) as client:
        raised = await failed(client)

        assert type(raised) is TransportError
        assert (raised.reason, raised.retryable) == ("dns", True)
        assert "no-such-host.invalid" in str(raised)
        assert now() == 0.75  # three attempts
        assert client.requests_sent == 0


@pytest.mark.fault("N1")
@over_both_sessions
async def test_watcher_outlives_a_dns_outage(session: str) -> None:
    """When the name exists again, each id gets its final event."""
    async with RawServer(DONE) as server, client_for("http://api.test/v1", session) as client:
        wires().call_later(60.0, wires().names.update, {"api.test": [("127.0.0.1", server.port)]})

        assert await completed(client) == list(IDS)
        assert now() > 60.0
        assert client.requests_sent == len(server.requests) == 3


@pytest.mark.fault("N2")
@over_both_sessions
async def test_hanging_dns_lookup_times_out_after_five_seconds(session: str) -> None:
    """The attempt ends after 5 s, and other clients are not delayed."""
    wires().lookup_seconds = 30.0
    async with (
        RawServer(DONE) as server,
        client_for(server.base_url, session) as other,
        client_for("http://api.test/v1", session, retry=ONCE) as client,
    ):
        hanging = asyncio.ensure_future(failed(client))
        await asyncio.sleep(1.0)
        assert (await other.retrieve("t")).succeeded
        assert now() == 1.0
        raised = await hanging

        assert type(raised) is RequestTimeoutError
        assert (raised.reason, raised.retryable) == ("timeout", True)
        assert now() == 5.0
        assert client.requests_sent == 0


@pytest.mark.fault("N2")
@over_both_sessions
async def test_result_of_a_slow_dns_lookup_is_used(session: str) -> None:
    """A lookup that takes longer than an attempt is not started again by the next one."""
    wires().lookup_seconds = 30.0
    async with RawServer(DONE) as server, client_for("http://api.test/v1", session) as client:
        wires().names["api.test"] = [("127.0.0.1", server.port)]

        assert await completed(client) == list(IDS)
        assert now() < 60.0
        assert client.requests_sent == len(server.requests) == 3


async def test_waiting_for_a_small_pool_is_no_connect() -> None:
    """The connect timeout does not count the wait for a borrowed session's pool."""
    slow = [READ, 4.0, done] * 3
    async with (
        RawServer(slow) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session,
        client_at(server.base_url, session=session, retry=ONCE) as client,
    ):
        await asyncio.gather(*(client.retrieve(name) for name in IDS))

        assert now() == 12.0
        assert server.connections == 1


# -- connects (N4, N5) ----------------------------------------------------------------------------


@pytest.mark.fault("N4")
@over_both_sessions
async def test_refused_connection_costs_one_connect_per_attempt(session: str) -> None:
    """Three attempts are three connects, and nothing is sent."""
    async with RawServer(DONE) as server:
        pass
    async with client_for(server.base_url, session) as client:
        raised = await failed(client)

        assert type(raised) is TransportError
        assert (raised.reason, raised.retryable) == ("connect", True)
        assert wires().connects == [("127.0.0.1", server.port)] * 3
        assert now() == 0.75
        assert client.requests_sent == 0


@pytest.mark.fault("N4")
@over_both_sessions
async def test_watcher_waits_for_a_server_that_starts_late(session: str) -> None:
    """Each id gets its final event from a server that starts 30 s later."""
    async with RawServer(DONE) as server:
        pass
    async with client_for(server.base_url, session) as client, client.watch(IDS) as watcher:
        await asyncio.sleep(30.0)
        async with FakeVideoServer(port=server.port) as late:
            for task_id in IDS:
                late.add_task(task_id, duration=0.0)
            finals = [event.task_id async for event in watcher if event.is_final]

            assert sorted(finals) == list(IDS)
            assert client.requests_sent == len(late.requests()) == 3


@pytest.mark.fault("N5")
async def test_black_hole_times_out_after_five_seconds() -> None:
    """A host that accepts no connection ends the attempt after 5 s."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with contextlib.ExitStack() as crowd:
            for _connection in range(2):  # with a backlog of 0, Linux accepts one
                waiting = crowd.enter_context(socket.socket())
                waiting.settimeout(0.0)
                waiting.connect_ex(address)
            base_url = f"http://127.0.0.1:{address[1]}/v1"
            async with (
                client_at(base_url, retry=ONCE) as own,
                aiohttp.ClientSession() as session,
                client_at(base_url, retry=ONCE, session=session) as lent,
            ):
                raised = await asyncio.gather(failed(own), failed(lent))

                assert {type(error) for error in raised} == {RequestTimeoutError}
                assert all(error.retryable for error in raised)
                assert now() == 5.0
                assert own.requests_sent == lent.requests_sent == 0


# -- kept connections (N15-N17) -------------------------------------------------------------------


@pytest.mark.fault("N15")
@over_both_sessions
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["fin", "rst"])
async def test_connection_closed_while_idle_costs_nothing(end: object, session: str) -> None:
    """The client connects again without a resend; the server sees each request once."""
    async with (
        RawServer([READ, done, 0.5, end], DONE) as server,
        client_for(server.base_url, session, retry=ONCE) as client,
    ):
        await client.retrieve("a")
        await asyncio.sleep(1.0)
        await client.retrieve("b")

        assert [seen.task_id for seen in server.requests] == ["a", "b"]
        assert client.requests_sent == server.connections == 2
        assert now() == 1.0


@pytest.mark.fault("N16")
@over_both_sessions
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["fin", "rst"])
async def test_request_is_resent_once(end: object, session: str) -> None:
    """When the fresh connection ends too, the attempt has failed."""
    script = [READ, done, READ, end]
    async with (
        RawServer(script, [READ, end], DONE) as server,
        client_for(server.base_url, session, retry=ONCE) as client,
    ):
        await client.retrieve("a")
        raised = await failed(client, "b")

        assert (type(raised), raised.reason) == (TransportError, "disconnected")
        assert raised.retryable
        assert [seen.task_id for seen in server.requests] == ["a", "b", "b"]
        assert client.requests_sent == 3
        assert now() == 0.0


def _refusal(status: str, code: str) -> bytes:
    return response({"error": {"code": code, "message": "m"}}, status=status)


STRAYS: dict[str, bytes] = {
    "another task": response(task("EVIL", "failed")),
    "the same task": response(task("a", "failed")),
    "key refused": _refusal("401 No", "invalid_api_key"),
    "payment": _refusal("402 Pay", "quota"),
    "task unknown": _refusal("404 No", "task_not_found"),
    "bad request": _refusal("400 No", "task_not_exist"),
    "cool-down": response(b"{}", "Retry-After: 600", status="429 Many"),
    "elsewhere": response(b"", "Location: https://evil.test/", status="302 Found"),
    "idle too long": response(b"", "Connection: close", status="408 Request Timeout"),
    "part of a response": b"HTTP/1.1 401 No\r\nContent-Length: 99\r\n\r\n{",
    "part of a head": b"HTTP/1.1 401 No\r\nContent-Le",
    "an interim response": b"HTTP/1.1 103 Hints\r\n\r\n",
    "garbage": b"\x00\xff garbage\r\n\r\n",
    "line ends": b"\r\n\r\n",
}
NO_HTTP = {"garbage", "line ends"}


@pytest.mark.fault("N17")
@over_both_sessions
@pytest.mark.parametrize(
    ("kind", "delay"),
    [
        *[pytest.param(kind, [0.5], id=f"{kind}, later") for kind in STRAYS],
        # what is no HTTP right behind a response spoils it for one of aiohttp's parsers
        *[pytest.param(kind, [], id=kind) for kind in STRAYS if kind not in NO_HTTP],
    ],
)
async def test_data_on_an_idle_connection_is_no_response(
    kind: str, delay: Script, session: str
) -> None:
    """Bytes that arrived before the request are discarded with their connection."""
    script = [READ, running, *delay, STRAYS[kind], READ, running, READ, running]
    async with (
        RawServer(script, replying(running, running)) as server,
        client_for(server.base_url, session, retry=ONCE) as client,
    ):
        for _poll in range(3):
            found = await client.retrieve("a")
            await asyncio.sleep(1.0)

            assert found.raw["status"] == "processing"
        assert [seen.task_id for seen in server.requests] == ["a"] * 3
        assert client.requests_sent == 3


# -- TLS (N18-N20) --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that only borrowed sessions trust."""
    return trustme.CA()


def certified(authority: trustme.CA, host: str, **options: Any) -> ssl.SSLContext:
    """Return a server's TLS context with a certificate for a host."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host, **options).configure_cert(context)
    return context


@asynccontextmanager
async def trusting(
    base_url: str, authority: trustme.CA, *, session: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[AsyncVideoClient]:
    """Enter a client with a borrowed session that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    connector = aiohttp.TCPConnector(ssl=context, resolver=Resolver(), use_dns_cache=False)
    async with (
        aiohttp.ClientSession(connector=connector, **(session or {})) as lent,
        client_at(base_url, session=lent, **options) as client,
    ):
        yield client


PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
BAD_CERTIFICATES: dict[str, tuple[str, dict[str, Any], str]] = {
    "wrong host": ("other.test", {}, "mismatch"),
    "expired": ("127.0.0.1", {"not_after": PAST}, "expired"),
}


@asynccontextmanager
async def with_bad_certificate(
    kind: str, authority: trustme.CA
) -> AsyncIterator[tuple[RawServer, AsyncVideoClient, str]]:
    """Enter a server with a bad certificate, and a client; give a word of the error too."""
    host, options, word = BAD_CERTIFICATES.get(
        kind, ("127.0.0.1", {}, "unable to get local issuer")
    )
    async with RawServer(DONE, tls=certified(authority, host, **options)) as server:
        if kind in BAD_CERTIFICATES:
            async with trusting(server.base_url, authority) as client:
                yield server, client, word
        else:
            async with client_for(server.base_url, kind.rpartition(" ")[2]) as client:
                yield server, client, word


@pytest.mark.fault("N18")
@pytest.mark.parametrize("use", [failed, refused])
@pytest.mark.parametrize(
    "kind", [*BAD_CERTIFICATES, "unknown authority, own", "unknown authority, borrowed"]
)
async def test_bad_certificate_is_fatal(kind: str, use: Any, authority: trustme.CA) -> None:
    """One connect, no request; the error says why, and a watcher ends with its open ids."""
    async with with_bad_certificate(kind, authority) as (server, client, word):
        raised = await use(client)

        assert type(raised) is TLSError
        assert (raised.reason, raised.retryable) == ("tls", False)
        assert word in str(raised)
        assert len(wires().connects) == 1
        assert client.requests_sent == len(server.requests) == 0


@pytest.mark.fault("N19")
@over_both_sessions
async def test_stalled_tls_handshake_times_out_after_five_seconds(session: str) -> None:
    """``retrieve`` makes three attempts of 5 s."""
    async with RawServer([STALL]) as server:
        base_url = server.base_url.replace("http", "https")
        async with client_for(base_url, session) as client:
            raised = await failed(client)

            assert type(raised) is RequestTimeoutError
            assert (raised.reason, raised.retryable) == ("timeout", True)
            assert now() == 15.75
            assert len(wires().connects) == server.connections == 3
            assert client.requests_sent == 0


@pytest.mark.fault("N19")
async def test_watcher_outlives_a_stalled_tls_handshake(authority: trustme.CA) -> None:
    """When the name leads to a working server again, each id gets its final event."""
    async with (
        RawServer([STALL]) as stalling,
        RawServer(DONE, tls=certified(authority, "api.test")) as working,
        trusting("https://api.test/v1", authority) as client,
    ):
        wires().names["api.test"] = [("127.0.0.1", stalling.port)]
        back = {"api.test": [("127.0.0.1", working.port)]}
        wires().call_later(20.0, wires().names.update, back)

        assert await completed(client) == list(IDS)
        assert stalling.connections > 3
        assert client.requests_sent == len(working.requests) == 3


@pytest.mark.fault("N19")
@over_both_sessions
@pytest.mark.parametrize("use", [failed, refused])
async def test_plain_http_on_the_tls_port_is_fatal(use: Any, session: str) -> None:
    """A wrong scheme is a configuration error: one connect, no retry."""
    async with RawServer([b"HTTP/1.1 400 Bad\r\n\r\n", STALL]) as server:
        base_url = server.base_url.replace("http", "https")
        async with client_for(base_url, session) as client:
            raised = await use(client)

            assert type(raised) is TLSError
            assert not raised.retryable
            assert len(wires().connects) == 1
            assert client.requests_sent == 0


HEAD = b"HTTP/1.1 200 OK\r\n"
TLS_CUTS: dict[str, tuple[list[bytes], type[EzVideoError], str]] = {
    "before the head": ([], TransportError, "disconnected"),
    "in the head": ([HEAD], TransportError, "disconnected"),
    "in the body": ([HEAD, b"Content-Length: 99\r\n\r\n{"], TransportError, "payload"),
    "in a chunk": (
        [HEAD, b"Transfer-Encoding: chunked\r\n\r\n9\r\n{"],
        TransportError,
        "payload",
    ),
    "in a body without length": ([HEAD, b"\r\n", b'{"id": "t"'], BadResponseError, "not_json"),
    "before a body without length": ([HEAD, b"\r\n"], BadResponseError, "empty"),
}


@pytest.mark.fault("N20")
@pytest.mark.parametrize("kind", TLS_CUTS)
async def test_cut_tls_connection_is_retried(kind: str, authority: trustme.CA) -> None:
    """TLS that ends without close_notify gives an error, and a watcher polls again."""
    parts, error, reason = TLS_CUTS[kind]
    script = [READ, *parts, 0.1, CUT]
    async with (
        RawServer(*[script] * 4, DONE, tls=certified(authority, "127.0.0.1")) as server,
        trusting(server.base_url, authority, retry=ONCE) as client,
    ):
        raised = await failed(client)

        assert type(raised) is error
        assert (raised.reason, raised.retryable) == (reason, True)
        assert client.requests_sent == len(server.requests) == 1

        assert await completed(client) == list(IDS)
        assert client.requests_sent == len(server.requests) == 7


# -- proxies (N21) --------------------------------------------------------------------------------


@asynccontextmanager
async def tunnel(port: int, *refusals: bytes) -> AsyncIterator[str]:
    """Run a proxy that first refuses, then connects to a local port; yield its url."""
    waiting = list(refusals)
    piping: list[asyncio.Task[None]] = []

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while part := await source.read(65536):
            sink.write(part)
        sink.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if waiting:
            writer.write(waiting.pop(0))
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        pairs = (reader, far_writer), (far_reader, writer)
        piping.extend(asyncio.ensure_future(pipe(*pair)) for pair in pairs)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*piping)


@asynccontextmanager
async def behind(
    proxy: str, base_url: str = "https://api.test/v1", **options: Any
) -> AsyncIterator[AsyncVideoClient]:
    """Enter a client whose borrowed session uses a proxy."""
    async with (
        aiohttp.ClientSession(proxy=proxy) as session,
        client_at(base_url, session=session, **options) as client,
    ):
        yield client


BAD_GATEWAY = response(b"", status="502 Bad Gateway")
LOGIN = response(b"", "Proxy-Authenticate: Basic", status="407 Login")


@pytest.mark.fault("N21")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_refused_connection_to_a_proxy_is_retried(scheme: str) -> None:
    """One connect per attempt, and nothing is sent."""
    async with RawServer(DONE) as server:
        pass
    async with behind(
        f"http://127.0.0.1:{server.port}", base_url=f"{scheme}://api.test/v1"
    ) as client:
        raised = await failed(client)

        assert type(raised) is TransportError
        assert (raised.reason, raised.retryable) == ("proxy", True)
        assert len(wires().connects) == 3
        assert client.requests_sent == 0


@pytest.mark.fault("N21")
@pytest.mark.parametrize("use", [failed, refused])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_requires_a_login_is_fatal(scheme: str, use: Any) -> None:
    """A 407 to CONNECT, which shows the proxy no key, or to a plain request: no retry."""
    async with (
        RawServer(replying(LOGIN)) as proxy,
        behind(f"http://127.0.0.1:{proxy.port}", base_url=f"{scheme}://api.test/v1") as client,
    ):
        raised = await use(client)

        assert type(raised) is TransportError
        assert (raised.reason, raised.retryable) == ("proxy", False)
        assert proxy.connections == len(proxy.requests) == 1
        if scheme == "https":
            assert proxy.requests[0].target == "api.test:443"
            assert "authorization" not in proxy.requests[0].headers
        assert client.requests_sent == (scheme == "http")


@pytest.mark.fault("N21")
async def test_502_to_connect_is_retried(authority: trustme.CA) -> None:
    """A watcher gets its final events through the tunnel afterwards."""
    async with (
        RawServer(DONE, tls=certified(authority, "127.0.0.1")) as server,
        tunnel(server.port, *[BAD_GATEWAY] * 4) as proxy,
        trusting(server.base_url, authority, session={"proxy": proxy}, retry=ONCE) as client,
    ):
        raised = await failed(client)

        assert type(raised) is TransportError
        assert (raised.reason, raised.retryable) == ("proxy", True)
        assert client.requests_sent == 0

        assert await completed(client) == list(IDS)
        assert client.requests_sent == len(server.requests) == 3


@pytest.mark.fault("N21")
async def test_502_of_a_proxy_for_plain_http_is_a_server_error() -> None:
    """It looks as if the server had sent it, and is retried."""
    script = [READ, BAD_GATEWAY]
    async with (
        RawServer(*[script] * 4, DONE) as proxy,
        behind(f"http://127.0.0.1:{proxy.port}", base_url="http://a.test/v1", retry=ONCE) as client,
    ):
        assert type(await failed(client)) is ServerError
        assert await completed(client) == list(IDS)
        assert client.requests_sent == len(proxy.requests) == 7


@pytest.mark.fault("N21")
@pytest.mark.parametrize("use", [failed, refused])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["certificate", "plain"])
async def test_bad_tls_to_the_proxy_is_fatal(
    kind: str, scheme: str, use: Any, authority: trustme.CA
) -> None:
    """A proxy with a bad certificate, or without TLS, is a configuration error: one connect."""
    tls = certified(authority, "127.0.0.1") if kind == "certificate" else None
    script = DONE if tls is not None else [b"HTTP/1.1 400 Bad\r\n\r\n", STALL]
    async with (
        RawServer(script, tls=tls) as proxy,
        behind(f"https://127.0.0.1:{proxy.port}", base_url=f"{scheme}://api.test/v1") as client,
    ):
        raised = await use(client)

        assert type(raised) is TLSError
        assert not raised.retryable
        assert len(wires().connects) == 1
        assert client.requests_sent == len(proxy.requests) == 0
