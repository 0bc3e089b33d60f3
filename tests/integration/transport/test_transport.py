"""The wire: resends, stale and poisoned connections, caps, broken HTTP, TLS, time limits."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import tracemalloc
import zlib
from typing import Any

import aiohttp
import pytest
import trustme

from ezvideo_async import AsyncVideoClient, RetryPolicy
from ezvideo_async._transport.backend import MAX_BODY_BYTES
from ezvideo_async.errors import (
    APIStatusError,
    BadResponseError,
    ClosedError,
    ConfigError,
    EzVideoError,
    RequestTimeoutError,
    TLSError,
    TransportError,
)
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
    task,
)

ONCE = RetryPolicy(attempts=1)


async def failed(client: AsyncVideoClient) -> Any:
    """The error that retrieving a task ends with."""
    with pytest.raises(EzVideoError) as raised:
        await client.retrieve("t")
    return raised.value


# -- sends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
async def test_a_fresh_connection_that_ends_is_not_resent_on(end: object, start: bytes) -> None:
    """aiohttp's hidden second send of a failed GET is off: one attempt is one request."""
    async with RawServer([READ, start, end]) as server, client_of(server, retry=ONCE) as client:
        raised = await failed(client)

        assert type(raised) is TransportError
        assert raised.reason == "disconnected"
        assert client.requests_sent == len(server.requests) == server.connections == 1


@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_a_stale_connection_is_resent_on_at_once(end: object) -> None:
    """A kept connection that ends when it is used again costs a resend, no attempt, no time."""
    script = [READ, done, READ, end]
    async with RawServer(script, DONE) as server, client_of(server, retry=ONCE) as client:
        await client.retrieve("a")
        assert (await client.retrieve("b")).id == "b"

        assert [seen.task_id for seen in server.requests] == ["a", "b", "b"]
        assert client.requests_sent == 3
        assert now() == 0.0


async def test_the_resend_goes_on_a_fresh_connection() -> None:
    """With many stale connections in the pool one resend is enough: it uses none of them."""
    stale = [READ, 1.0, done, READ, CLOSE]
    async with (
        RawServer(*[stale] * 5, DONE) as server,
        client_of(server, retry=ONCE) as client,
    ):
        await asyncio.gather(*(client.retrieve(f"t{number}") for number in range(5)))
        assert server.connections == 5
        assert (await client.retrieve("last")).id == "last"

        assert client.requests_sent == len(server.requests) == 7
        assert server.requests[-1].connection == 5


async def test_a_second_disconnection_is_an_attempt() -> None:
    """The resend is one: when it ends badly too, the call has failed once."""
    async with (
        RawServer([READ, done, READ, CLOSE], [READ, CLOSE]) as server,
        client_of(server, retry=ONCE) as client,
    ):
        await client.retrieve("a")
        raised = await failed(client)

        assert raised.reason == "disconnected"
        assert client.requests_sent == len(server.requests) == 3


async def test_a_connection_closed_while_idle_costs_nothing() -> None:
    """A server that hangs up between requests is connected to anew, without a resend."""
    async with RawServer([READ, done], DONE) as server, client_of(server) as client:
        await client.retrieve("a")
        await asyncio.sleep(1.0)
        await client.retrieve("b")

        assert client.requests_sent == len(server.requests) == server.connections == 2


async def test_a_connection_is_kept_for_the_next_request() -> None:
    """Requests one after another share a connection."""
    async with RawServer(DONE) as server, client_of(server) as client:
        for _call in range(5):
            await client.retrieve("t")

        assert server.connections == 1


@pytest.mark.fault("H8")
@pytest.mark.parametrize("status", ["421 Misdirected", "101 Switching", "999 Nine"])
async def test_a_connection_that_leads_elsewhere_is_not_used_again(status: str) -> None:
    """After a 421, or a status that HTTP does not have, the next try goes over another one."""
    stray = [READ, response(b"", status=status), READ, response(b"", status=status)]
    async with RawServer(stray, DONE) as server, client_of(server) as client:
        assert (await client.retrieve("t")).succeeded

        assert [seen.connection for seen in server.requests] == [0, 1]
        assert server.times == [0.0, 0.25]


# -- redirects, cookies, keys ---------------------------------------------------------------------


@pytest.mark.fault("H21")
@pytest.mark.fault("X5")
@pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
@pytest.mark.parametrize(
    "target",
    ["{second}/x?k=secret", "//127.0.0.1:{port}/x", "https://user:pw@127.0.0.1:{port}/", "/login"],
)
async def test_redirects_are_not_followed(status: str, target: str) -> None:
    """A redirect is a wrong base url; nothing goes to its target, and no query is shown."""
    async with RawServer(DONE) as second:
        location = target.format(second=second.base_url, port=second.port)
        reply = response(b"", f"Location: {location}", status=status)
        async with RawServer(replying(reply)) as first, client_of(first) as client:
            raised = await failed(client)

            assert isinstance(raised, ConfigError)
            assert (raised.reason, raised.retryable) == ("redirect", False)
            assert "k=secret" not in str(raised)
            assert "pw" not in str(raised)
            assert len(first.requests) == 1
        assert second.connections == 0


@pytest.mark.fault("X5")
async def test_the_key_goes_to_its_own_origin_only() -> None:
    """A session that rewrites where requests go gets no key for another origin."""
    async with RawServer(DONE) as second, RawServer(DONE) as first:

        class Elsewhere(aiohttp.ClientRequest):
            def __init__(self, method: str, url: Any, **rest: Any) -> None:
                super().__init__(method, url.with_port(second.port), **rest)

        async with (
            aiohttp.ClientSession(
                request_class=Elsewhere, headers={"Authorization": "Bearer theirs"}
            ) as session,
            client_of(first, session=session) as client,
        ):
            await client.retrieve("t")

        assert len(second.requests) == 1
        assert "authorization" not in second.requests[0].headers


@pytest.mark.fault("X23")
async def test_cookies_are_not_kept() -> None:
    """A server cannot make us carry something from request to request."""
    reply = response(task("t"), "Set-Cookie: track=1; Path=/")
    async with RawServer(replying(reply, reply)) as server:
        base_url = server.base_url.replace("127.0.0.1", "localhost")  # numbers get none anyway
        async with client_of(server, base_url=base_url) as client:
            await client.retrieve("t")
            await client.retrieve("t")

        assert "cookie" not in server.requests[1].headers


@pytest.mark.fault("X17")
async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """``HTTP_PROXY`` does not send the key through somebody else's machine."""
    async with RawServer(DONE) as proxy, RawServer(DONE) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with client_of(server) as client:
            await client.retrieve("t")

        assert (proxy.connections, server.connections) == (0, 1)


# -- bodies ---------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    """A task of exactly *size* bytes of JSON."""
    body = json.dumps(task("t", padding="")).encode()
    return body.replace(b'"padding": ""', b'"padding": "' + b"x" * (size - len(body)) + b'"')


def chunked(body: bytes, *headers: str) -> list[bytes]:
    """An answer in chunks of 64 KiB."""
    head = "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers, "", ""])
    parts = [body[start : start + 65536] for start in range(0, len(body), 65536)]
    return [head.encode(), *(b"%x\r\n%b\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


@pytest.mark.fault("H29")
@pytest.mark.fault("X18")
@pytest.mark.parametrize("how", ["declared", "chunked", "until the end"])
@pytest.mark.parametrize("excess", [0, 1])
async def test_a_body_has_at_most_a_mebibyte(how: str, excess: int) -> None:
    """One byte more than the cap is too large, however the server frames it."""
    body = padded(MAX_BODY_BYTES + excess)
    replies: dict[str, list[Any]] = {
        "declared": [response(body)],
        "chunked": chunked(body),
        "until the end": [b"HTTP/1.1 200 OK\r\n\r\n", body],
    }
    script = [READ, *replies[how], CLOSE]
    async with RawServer(script) as server, client_of(server, retry=ONCE) as client:
        if not excess:
            assert (await client.retrieve("t")).succeeded
            return
        raised = await failed(client)

        assert isinstance(raised, BadResponseError)
        assert (raised.reason, raised.status, raised.retryable) == ("too_large", 200, True)
        assert raised.task_id == "t"


async def test_a_too_large_answer_ends_its_connection() -> None:
    """What is left of a large body is not read; the next request gets a fresh connection."""
    endless = [READ, b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"]
    endless += [b"x" * 65536] * 64
    async with RawServer(endless, DONE) as server, client_of(server) as client:
        assert (await client.retrieve("t")).succeeded
        assert [seen.connection for seen in server.requests] == [0, 1]


def bomb(mebibytes: int) -> bytes:
    """Gzip of so many MiB of blanks."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(b" " * (1 << 20)) for _ in range(mebibytes)]
    return b"".join([*parts, packer.flush()])


@pytest.mark.fault("H30")
@pytest.mark.fault("X18")
async def test_a_gzip_bomb_is_defused_with_little_memory() -> None:
    """64 MiB packed into 64 KiB are given up after the first of them."""
    reply = response(bomb(64), "Content-Encoding: gzip")
    async with RawServer([READ, reply, STALL]) as server, client_of(server, retry=ONCE) as client:
        tracemalloc.start()
        raised = await failed(client)
        _size, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert raised.reason == "too_large"
        assert peak < 8 << 20


async def test_a_packed_answer_is_read() -> None:
    """Gzip that nobody asked for is unpacked, also when its length is declared."""
    packed = gzip.compress(json.dumps(task("t")).encode())
    script = replying(response(packed, "Content-Encoding: gzip"))
    async with RawServer(script) as server, client_of(server) as client:
        assert (await client.retrieve("t")).succeeded
        assert len(server.requests) == 1


async def test_headers_sent_twice_are_joined() -> None:
    """Two Retry-After headers contradict each other and count as none."""
    reply = response(b"{}", "Retry-After: 5", "Retry-After: 7", status="503 Busy")
    async with RawServer(replying(reply, done)) as server, client_of(server) as client:
        await client.retrieve("t")

        assert server.times == [0.0, 0.25]


# -- what is not HTTP -----------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
MALFORMED = {
    "no status line": b"hello\r\n\r\n",
    "status letters": b"HTTP/1.1 abc No\r\nContent-Length: 0\r\n\r\n",
    "bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "negative length": HEAD + b"Content-Length: -2\r\n\r\n{}",
    "length and chunks": HEAD
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "long header": HEAD + b"X-A: " + b"a" * 20_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "many headers": HEAD + b"X-A: a\r\n" * 300 + b"Content-Length: 2\r\n\r\n{}",
    "no header": HEAD + b"\x00\x01\x02\r\n\r\n",
}


@pytest.mark.fault("X18")
@pytest.mark.parametrize("kind", MALFORMED)
async def test_broken_http_is_the_wires_fault_not_a_bad_request(kind: str) -> None:
    """aiohttp reports broken HTTP with status 400; we tell it from a refusal, and ask again."""
    async with RawServer([READ, MALFORMED[kind], CLOSE], DONE) as server:
        async with client_of(server, retry=ONCE) as client:
            raised = await failed(client)

            assert not isinstance(raised, APIStatusError)
            assert raised.reason in {"protocol", "payload"}
            assert raised.retryable
            assert str(raised).isprintable()
            assert len(str(raised)) < 400
            assert (await client.retrieve("t")).succeeded


BROKEN_BODIES = {
    "cut": HEAD + b"Content-Length: 50\r\n\r\n{",
    "no last chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "not gzip": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("kind", BROKEN_BODIES)
@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_a_body_that_breaks_off_is_told_as_such(kind: str, end: object) -> None:
    """Half an answer is no answer: the reason is ``payload``, and it is not resent unasked."""
    async with (
        RawServer([READ, BROKEN_BODIES[kind], 0.5, end]) as server,
        client_of(server, retry=ONCE) as client,
    ):
        raised = await failed(client)

        assert type(raised) is TransportError
        assert raised.reason == "payload"
        assert client.requests_sent == len(server.requests) == 1


# -- time -----------------------------------------------------------------------------------------

STALLS: dict[str, list[Any]] = {
    "before the head": [READ, STALL],
    "in the head": [READ, b"HTTP/1.1 200 OK\r\nConte", STALL],
    "in the body": [READ, HEAD, b"Content-Length: 9\r\n\r\n{", STALL],
    "byte by byte": [READ, HEAD, b"Content-Length: 99\r\n\r\n", *[b"x", 0.75] * 50],
    "interim answers": [READ, *[b"HTTP/1.1 103 Hints\r\n\r\n", 0.5] * 50],
}


@pytest.mark.fault("X18")
@pytest.mark.parametrize("kind", STALLS)
async def test_a_try_ends_at_its_time_limit(kind: str) -> None:
    """However slowly a server trickles, one try takes ``request_timeout`` at most."""
    async with (
        RawServer(STALLS[kind]) as server,
        client_of(server, retry=ONCE, request_timeout=7.0) as client,
    ):
        raised = await failed(client)

        assert type(raised) is RequestTimeoutError
        assert (raised.reason, raised.retryable) == ("timeout", True)
        assert now() == 7.0
        assert client.budget.in_flight == 0


async def test_a_connect_that_hangs_ends_sooner() -> None:
    """A TLS handshake that never comes ends with the connection's own limit of 5 s."""
    async with RawServer([STALL]) as server:
        base_url = server.base_url.replace("http", "https")
        async with client_of(server, retry=ONCE, base_url=base_url) as client:
            raised = await failed(client)

            assert type(raised) is RequestTimeoutError
            assert now() == 5.0
            assert client.requests_sent == 0


@pytest.mark.fault("C21")
async def test_a_blocked_loop_is_not_the_servers_fault() -> None:
    """A time-out met while this process was blocked is not counted among the attempts."""
    busy = response(b"{}", status="503 Busy")
    async with (
        RawServer([READ, STALL], replying(busy, done)) as server,
        client_of(server, retry=RetryPolicy(attempts=2), request_timeout=4.0) as client,
    ):
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, lambda: setattr(loop, "_now", 60.0))  # as a long computation would
        assert (await client.retrieve("t")).succeeded
        assert server.times == [0.0, 60.25, 60.5]


@pytest.mark.fault("C21")
@pytest.mark.parametrize(("limit", "end"), [(15.0, 12.0), (2.0, 4.0)])
async def test_a_loop_that_was_blocked_in_a_connect_is_not_the_servers_fault(
    limit: float, end: float
) -> None:
    """Connecting has 5 s at most: 12 s there are no server's doing, nor within 15 s."""
    async with RawServer([STALL]) as server:
        base_url = server.base_url.replace("http", "https")
        options: Any = {"retry": RetryPolicy(deadline=1.0), "request_timeout": limit}
        async with client_of(server, base_url=base_url, **options) as client:
            loop = asyncio.get_running_loop()
            loop.call_later(1.0, lambda: setattr(loop, "_now", end))
            raised = await failed(client)

            assert raised.reason == "local_stall"
            assert now() == end


@pytest.mark.fault("C21")
async def test_a_blocked_loop_is_named_when_it_is_the_last_word() -> None:
    """The error says that this process was too busy."""
    async with (
        RawServer([READ, STALL]) as server,
        client_of(server, retry=RetryPolicy(deadline=1.0), request_timeout=4.0) as client,
    ):
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, lambda: setattr(loop, "_now", 60.0))
        raised = await failed(client)

        assert raised.reason == "local_stall"
        assert "too busy" in str(raised)


# -- names and certificates -----------------------------------------------------------------------


async def test_a_host_name_that_does_not_exist_is_named() -> None:
    """A failed name look-up shows the name; nothing is sent."""
    async with AsyncVideoClient(
        KEY, base_url="http://no-such-host.invalid/v1", retry=ONCE
    ) as client:
        raised = await failed(client)

        assert type(raised) is TransportError
        assert (raised.reason, raised.retryable) == ("dns", True)
        assert "no-such-host.invalid" in str(raised)
        assert client.requests_sent == 0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts."""
    return trustme.CA()


def certified(authority: trustme.CA, host: str) -> ssl.SSLContext:
    """The server's side of TLS with a certificate for a host."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    return context


@pytest.mark.fault("X16")
async def test_an_unknown_authority_is_refused_once(authority: trustme.CA) -> None:
    """A certificate that nobody vouches for: one connection, no request, no retry."""
    async with (
        RawServer(DONE, tls=certified(authority, "127.0.0.1")) as server,
        client_of(server) as client,
    ):
        raised = await failed(client)

        assert type(raised) is TLSError
        assert (raised.reason, raised.retryable) == ("tls", False)
        assert "certificate" in str(raised).lower()
        assert client.requests_sent == len(server.requests) == 0
        assert now() == 0.0


@pytest.mark.parametrize("host", ["127.0.0.1", "other.test"])
async def test_a_trusted_authority_vouches_for_its_host_only(
    authority: trustme.CA, host: str
) -> None:
    """With a borrowed session's own trust the right host is asked, a wrong one refused."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    connector = aiohttp.TCPConnector(ssl=trusting)
    async with (
        RawServer(DONE, tls=certified(authority, host)) as server,
        aiohttp.ClientSession(connector=connector) as session,
        client_of(server, session=session) as client,
    ):
        if host == "127.0.0.1":
            assert (await client.retrieve("t")).succeeded
        else:
            assert type(await failed(client)) is TLSError


async def test_plain_http_on_the_tls_port_is_a_tls_error() -> None:
    """A scheme that does not fit the port is a wrong set-up, not an outage."""
    async with RawServer([b"HTTP/1.1 400 Bad\r\n\r\n", STALL]) as server:
        base_url = server.base_url.replace("http", "https")
        async with client_of(server, base_url=base_url) as client:
            assert type(await failed(client)) is TLSError
            assert client.requests_sent == 0


CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"


@pytest.mark.parametrize("script", [[CLOSE], [RESET], [CLOSE_NOTIFY, STALL]])
async def test_a_handshake_that_is_cut_passes(script: list[Any]) -> None:
    """A connection closed in the handshake is an outage: it is tried again."""
    async with RawServer(script) as server:
        base_url = server.base_url.replace("http", "https")
        async with client_of(server, base_url=base_url) as client:
            raised = await failed(client)

            assert type(raised) is TransportError
            assert (raised.reason, raised.retryable) == ("connect", True)
            assert server.connections == 3


async def test_a_proxy_that_wants_a_login_is_a_wrong_set_up() -> None:
    """A 407 on the way to the server does not heal by asking again."""
    async with RawServer([READ, response(b"", status="407 Login")]) as proxy:
        session = aiohttp.ClientSession(proxy=f"http://127.0.0.1:{proxy.port}")
        async with (
            session,
            AsyncVideoClient(KEY, base_url="https://api.test/v1", session=session) as client,
        ):
            raised = await failed(client)

            assert type(raised) is TransportError
            assert (raised.reason, raised.retryable) == ("proxy", False)
            assert proxy.requests[0].target == "api.test:443"
            assert "authorization" not in proxy.requests[0].headers


async def test_a_proxy_in_trouble_passes() -> None:
    """A proxy that cannot reach the server, or is not there, is asked again."""
    async with RawServer([READ, response(b"", status="502 Bad")]) as proxy:
        session = aiohttp.ClientSession(proxy=f"http://127.0.0.1:{proxy.port}")
        async with (
            session,
            AsyncVideoClient(
                KEY, base_url="https://api.test/v1", session=session, rand=lambda: 0.5
            ) as client,
        ):
            raised = await failed(client)

            assert (raised.reason, raised.retryable) == ("proxy", True)
            assert proxy.connections == 3


async def test_a_transport_that_was_closed_sends_nothing() -> None:
    """After its end the transport makes no new session."""
    async with RawServer(DONE) as server, client_of(server) as client:
        await client.retrieve("t")
        transport = client._transport
        await transport.aclose()
        raised = await failed(client)

        assert isinstance(raised, ClosedError)
        assert len(server.requests) == 1


def test_an_ipv6_server_is_one_too() -> None:
    """The origin of a literal IPv6 address is read with its brackets."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    client = AsyncVideoClient(KEY, base_url="http://[::1]:8080/v1/")

    assert client.base_url == "http://[::1]:8080/v1"
