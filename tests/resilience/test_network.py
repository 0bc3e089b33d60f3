"""
The faults of the network, on real sockets, each over an own and over a borrowed session.

Virtual time; what needs the real one, or a network of its own, is played elsewhere.
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
from ezvideo_async.instrumentation import PollFailed
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
    """Every test of this module runs on a loop with a network of its own."""
    return "asyncio", {"loop_factory": WiredLoop}


SESSIONS = pytest.mark.parametrize("owner", ["own", "lent"])
TROUBLES = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.fault(each.row)) for name, each in NETWORK.items()],
)


# -- scripts of bytes (N8-N11, N13, N14) ----------------------------------------------------------


def arrived(server: RawServer, script: Script, plays: int) -> int:
    """How many requests the server was sent, those too that it closed upon without reading."""
    return len(server.requests) + (0 if READ in script else min(plays, server.connections))


@SESSIONS
@TROUBLES
async def test_retrieve_tells_what_happened(name: str, owner: str) -> None:
    """One attempt is one request, in its limit, with the right error; the next call works."""
    trouble = NETWORK[name]
    async with (
        RawServer(trouble.script, DONE) as server,
        client_for(server.base_url, owner, retry=ONCE) as client,
    ):
        raised = await failed(client)

        assert type(raised) is trouble.kind
        assert raised.reason == trouble.reason
        assert raised.retryable
        assert str(raised).isprintable()
        assert client.requests_sent == arrived(server, trouble.script, 1) == 1
        assert now() == 15.0 if trouble.reason == "timeout" else now() < 1.0
        assert client.budget.in_flight == 0

        assert (await client.retrieve("t")).succeeded
        assert client.requests_sent == arrived(server, trouble.script, 1) == 2


@SESSIONS
@TROUBLES
async def test_a_kept_connection_meets_it_too(name: str, owner: str) -> None:
    """On a kept connection an end without an answer costs one resend, other trouble the try."""
    trouble = NETWORK[name]
    script = [READ, running, *trouble.script]
    async with (
        RawServer(script, DONE) as server,
        client_for(server.base_url, owner, retry=ONCE) as client,
    ):
        await client.retrieve("t")
        if trouble.reason == "disconnected":
            assert (await client.retrieve("t")).succeeded
        else:
            raised = await failed(client)

            assert (type(raised), raised.reason) == (trouble.kind, trouble.reason)
        assert client.requests_sent == len(server.requests) + (READ not in trouble.script)
        assert client.requests_sent <= 3
        assert (await client.retrieve("t")).succeeded


@SESSIONS
@TROUBLES
async def test_a_watcher_asks_again(name: str, owner: str) -> None:
    """Three ids meet the trouble at their first look: each ends once, no request is hidden."""
    trouble = NETWORK[name]
    async with (
        RawServer(*[trouble.script] * 3, DONE) as server,
        client_for(server.base_url, owner) as client,
    ):
        assert await completed(client) == list(IDS)
        assert client.requests_sent == arrived(server, trouble.script, 3) == 6
        looks = Counter(seen.task_id for seen in server.requests)
        assert looks == dict.fromkeys(IDS, 2 if READ in trouble.script else 1)


@pytest.mark.fault("N10")
@SESSIONS
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["fin", "rst"])
@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 \x1b[31m\xff\x00", b"HTTP/1.1 200 OK\r\nX-\x1b]0;owned\x07: \x9b1"]
)
async def test_bytes_of_a_broken_head_are_escaped(start: bytes, end: object, owner: str) -> None:
    """What a server sends before it ends cannot write on a terminal."""
    async with (
        RawServer([READ, start, 0.1, end]) as server,
        client_for(server.base_url, owner, retry=ONCE) as client,
    ):
        raised = await failed(client)

        assert type(raised) is TransportError
        assert raised.reason in {"disconnected", "protocol"}  # as soon as the parser looks
        assert raised.retryable
        assert str(raised).isascii()
        assert str(raised).isprintable()
        assert client.requests_sent == len(server.requests) == 1


# -- names (N1-N3) --------------------------------------------------------------------------------


@pytest.mark.fault("N1")
@SESSIONS
async def test_a_name_that_does_not_exist_is_told(owner: str) -> None:
    """The first call of a client shows the name that was not found; nothing is sent."""
    async with client_for("http://no-such-host.invalid/v1", owner) as client:
        raised = await failed(client)

        assert type(raised) is TransportError
        assert (raised.reason, raised.retryable) == ("dns", True)
        assert "no-such-host.invalid" in str(raised)
        assert now() == 0.75  # three attempts
        assert client.requests_sent == 0


@pytest.mark.fault("N1")
@SESSIONS
async def test_a_name_may_come_into_being(owner: str) -> None:
    """Watched ids outlive a name server's trouble."""
    async with RawServer(DONE) as server, client_for("http://api.test/v1", owner) as client:
        wires().call_later(60.0, wires().names.update, {"api.test": [("127.0.0.1", server.port)]})

        assert await completed(client) == list(IDS)
        assert now() > 60.0
        assert client.requests_sent == len(server.requests) == 3


@pytest.mark.fault("N2")
@SESSIONS
async def test_a_name_server_that_hangs_is_left_after_the_connects_limit(owner: str) -> None:
    """A look-up of 30 s ends the try after 5, and keeps nobody else waiting."""
    wires().patience = 30.0
    async with (
        RawServer(DONE) as server,
        client_for(server.base_url, owner) as other,
        client_for("http://api.test/v1", owner, retry=ONCE) as client,
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
@SESSIONS
async def test_a_late_answer_of_the_name_server_is_used(owner: str) -> None:
    """A look-up that takes longer than a try is not begun anew by the next one."""
    wires().patience = 30.0
    async with RawServer(DONE) as server, client_for("http://api.test/v1", owner) as client:
        wires().names["api.test"] = [("127.0.0.1", server.port)]

        assert await completed(client) == list(IDS)
        assert now() < 60.0
        assert client.requests_sent == len(server.requests) == 3


async def test_a_small_pool_may_keep_requests_waiting_longer() -> None:
    """The wait for a place in a lent session's pool is not taken for a connect that hangs."""
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
@SESSIONS
async def test_a_refused_connect_is_one_connect_an_attempt(owner: str) -> None:
    """Nothing listens: three attempts are three connects, and nothing is sent."""
    async with RawServer(DONE) as server:
        pass
    async with client_for(server.base_url, owner) as client:
        raised = await failed(client)

        assert type(raised) is TransportError
        assert (raised.reason, raised.retryable) == ("connect", True)
        assert wires().connects == [("127.0.0.1", server.port)] * 3
        assert now() == 0.75
        assert client.requests_sent == 0


@pytest.mark.fault("N4")
@SESSIONS
async def test_a_server_that_begins_late_is_found(owner: str) -> None:
    """Watched ids outlive a server that is not there yet."""
    async with RawServer(DONE) as server:
        pass
    async with client_for(server.base_url, owner) as client, client.watch(IDS) as watcher:
        await asyncio.sleep(30.0)
        async with FakeVideoServer(port=server.port) as late:
            for task_id in IDS:
                late.add_task(task_id, duration=0.0)
            finals = [event.task_id async for event in watcher if event.is_final]

            assert sorted(finals) == list(IDS)
            assert client.requests_sent == len(late.requests()) == 3


@pytest.mark.fault("N5")
async def test_a_black_hole_is_left_after_five_seconds() -> None:
    """A host that answers no connect ends the try at its limit of 5 s, whoever has the session."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with contextlib.ExitStack() as crowd:
            for _place in range(2):  # of 0: Linux has room for one more
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
@SESSIONS
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["fin", "rst"])
async def test_a_connection_that_ended_while_idle_costs_nothing(end: object, owner: str) -> None:
    """A server that hangs up between requests is connected to anew; it sees each request once."""
    async with (
        RawServer([READ, done, 0.5, end], DONE) as server,
        client_for(server.base_url, owner, retry=ONCE) as client,
    ):
        await client.retrieve("a")
        await asyncio.sleep(1.0)
        await client.retrieve("b")

        assert [seen.task_id for seen in server.requests] == ["a", "b"]
        assert client.requests_sent == server.connections == 2
        assert now() == 1.0


@pytest.mark.fault("N15", "N16")
@SESSIONS
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["fin", "rst"])
@pytest.mark.parametrize("resends", [0, 1], ids=["idle", "at reuse"])
async def test_a_watcher_does_not_feel_stale_connections(
    resends: int, end: object, owner: str
) -> None:
    """Three connections end between two rounds, or as the second begins: no id waits for it."""
    # One resend serves all: its fresh connection is the one that the next ids are given.
    stale = [READ, 1.0, running, *([READ] if resends else []), end]
    trouble: list[object] = []
    async with (
        RawServer(*[stale] * 3, DONE) as server,
        client_for(server.base_url, owner, observers=[trouble.append]) as client,
    ):
        assert await completed(client) == list(IDS)
        assert client.requests_sent == len(server.requests) == 6 + resends
        assert not [signal for signal in trouble if isinstance(signal, PollFailed)]


@pytest.mark.fault("N16")
@SESSIONS
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["fin", "rst"])
async def test_a_connection_that_ends_at_reuse_is_resent_on_once(end: object, owner: str) -> None:
    """The server sees the request twice at most: the second end is the attempt's."""
    script = [READ, done, READ, end]
    async with (
        RawServer(script, [READ, end], DONE) as server,
        client_for(server.base_url, owner, retry=ONCE) as client,
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
    "half an answer": b"HTTP/1.1 401 No\r\nContent-Length: 99\r\n\r\n{",
    "half a head": b"HTTP/1.1 401 No\r\nContent-Le",
    "an interim answer": b"HTTP/1.1 103 Hints\r\n\r\n",
    "garbage": b"\x00\xff garbage\r\n\r\n",
    "line ends": b"\r\n\r\n",
}
NO_HTTP = {"garbage", "line ends"}


@pytest.mark.fault("N17")
@SESSIONS
@pytest.mark.parametrize(
    ("kind", "pause"),
    [
        *[pytest.param(kind, [0.5], id=f"{kind}, later") for kind in STRAYS],
        # what is no HTTP right behind an answer spoils it for one of aiohttp's parsers
        *[pytest.param(kind, [], id=kind) for kind in STRAYS if kind not in NO_HTTP],
    ],
)
async def test_what_lies_in_an_idle_connection_is_nobodys_answer(
    kind: str, pause: Script, owner: str
) -> None:
    """Bytes that were there before the request are not taken for its answer."""
    script = [READ, running, *pause, STRAYS[kind], READ, running, READ, running]
    async with (
        RawServer(script, replying(running, running)) as server,
        client_for(server.base_url, owner, retry=ONCE) as client,
    ):
        for _look in range(3):
            found = await client.retrieve("a")
            await asyncio.sleep(1.0)

            assert found.raw["status"] == "processing"
        assert [seen.task_id for seen in server.requests] == ["a"] * 3
        assert client.requests_sent == 3


@pytest.mark.fault("N17")
@SESSIONS
@pytest.mark.parametrize("kind", STRAYS)
async def test_no_watch_ends_by_a_stray_answer(kind: str, owner: str) -> None:
    """Pushed on three idle connections: no id is lost, nobody is stopped, nothing is resent."""
    script = [READ, 1.0, running, 1.0, STRAYS[kind], READ, done]
    async with (
        RawServer(*[script] * 3, DONE) as server,
        client_for(server.base_url, owner) as client,
    ):
        assert await completed(client) == list(IDS)
        assert client.requests_sent == len(server.requests) == 6
        assert now() < 12.0


# -- TLS (N18-N20) --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that only lent sessions may trust."""
    return trustme.CA()


def certified(authority: trustme.CA, host: str, **options: Any) -> ssl.SSLContext:
    """The server's side of TLS with a certificate for a host."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host, **options).configure_cert(context)
    return context


@asynccontextmanager
async def trusting(
    base_url: str, authority: trustme.CA, *, session: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[AsyncVideoClient]:
    """Enter a client with a lent session that trusts the authority."""
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
async def mistrusting(
    kind: str, authority: trustme.CA
) -> AsyncIterator[tuple[RawServer, AsyncVideoClient, str]]:
    """Enter a server with a bad certificate, and a client; tell what is wrong, too."""
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
    "kind", [*BAD_CERTIFICATES, "unknown authority, own", "unknown authority, lent"]
)
async def test_a_bad_certificate_is_final(kind: str, use: Any, authority: trustme.CA) -> None:
    """One connect, no request; the error says why, a watcher ends with its open ids."""
    async with mistrusting(kind, authority) as (server, client, word):
        raised = await use(client)

        assert type(raised) is TLSError
        assert (raised.reason, raised.retryable) == ("tls", False)
        assert word in str(raised)
        assert len(wires().connects) == 1
        assert client.requests_sent == len(server.requests) == 0


@pytest.mark.fault("N19")
@SESSIONS
async def test_a_handshake_that_stalls_is_left_at_the_connects_limit(owner: str) -> None:
    """A TLS handshake that never comes passes: three tries of 5 s."""
    async with RawServer([STALL]) as server:
        base_url = server.base_url.replace("http", "https")
        async with client_for(base_url, owner) as client:
            raised = await failed(client)

            assert type(raised) is RequestTimeoutError
            assert (raised.reason, raised.retryable) == ("timeout", True)
            assert now() == 15.75
            assert len(wires().connects) == server.connections == 3
            assert client.requests_sent == 0


@pytest.mark.fault("N19")
async def test_a_watcher_outlives_a_handshake_that_stalls(authority: trustme.CA) -> None:
    """When the name leads to a working server again, each id gets its ending."""
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
@SESSIONS
@pytest.mark.parametrize("use", [failed, refused])
async def test_plain_http_on_the_tls_port_is_final(use: Any, owner: str) -> None:
    """A scheme that does not fit the port is a wrong set-up: one connect, and the end."""
    async with RawServer([b"HTTP/1.1 400 Bad\r\n\r\n", STALL]) as server:
        base_url = server.base_url.replace("http", "https")
        async with client_for(base_url, owner) as client:
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
async def test_a_tls_connection_that_is_cut_passes(kind: str, authority: trustme.CA) -> None:
    """TLS that ends without saying so gives no task, one request an attempt, and is outlived."""
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
    """Run a proxy that first refuses, then connects to a local port; give its url."""
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
    """Enter a client whose lent session goes through a proxy."""
    async with (
        aiohttp.ClientSession(proxy=proxy) as session,
        client_at(base_url, session=session, **options) as client,
    ):
        yield client


BAD_GATEWAY = response(b"", status="502 Bad Gateway")
LOGIN = response(b"", "Proxy-Authenticate: Basic", status="407 Login")


@pytest.mark.fault("N21")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_not_there_is_tried_again(scheme: str) -> None:
    """A refused connect to the proxy passes: one connect an attempt, nothing sent."""
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
async def test_a_tunnel_that_wants_a_login_is_final(use: Any) -> None:
    """A 407 on CONNECT: one connect, no key shown to the proxy, a watcher ends."""
    async with (
        RawServer([READ, LOGIN]) as proxy,
        behind(f"http://127.0.0.1:{proxy.port}") as client,
    ):
        raised = await use(client)

        assert type(raised) is TransportError
        assert (raised.reason, raised.retryable) == ("proxy", False)
        assert proxy.connections == len(proxy.requests) == 1
        assert "authorization" not in proxy.requests[0].headers
        assert client.requests_sent == 0


@pytest.mark.fault("N21")
@pytest.mark.parametrize("use", [failed, refused])
async def test_a_proxy_for_plain_http_that_wants_a_login_is_final(use: Any) -> None:
    """A 407 in the place of the answer: one request, a watcher ends."""
    async with (
        RawServer(replying(LOGIN)) as proxy,
        behind(f"http://127.0.0.1:{proxy.port}", base_url="http://api.test/v1") as client,
    ):
        raised = await use(client)

        assert not raised.retryable
        assert client.requests_sent == len(proxy.requests) == 1


@pytest.mark.fault("N21")
async def test_a_tunnel_that_fails_is_tried_again(authority: trustme.CA) -> None:
    """A 502 on CONNECT passes: a watcher gets its endings through the tunnel afterwards."""
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
async def test_a_proxy_for_plain_http_that_fails_is_tried_again() -> None:
    """A 502 in the place of the answer is trouble of some server on the way."""
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
async def test_bad_tls_to_the_proxy_is_final(
    kind: str, scheme: str, use: Any, authority: trustme.CA
) -> None:
    """A proxy that cannot be trusted, or speaks no TLS, is a wrong set-up: one connect."""
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
