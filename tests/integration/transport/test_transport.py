"""HTTP transport: resends, origins, cookies, body size, timeouts, closing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from ezvideo_async import AsyncVideoClient, RetryPolicy
from ezvideo_async._protocol.messages import MAX_BODY_BYTES, NOT_DECODED, Response
from ezvideo_async._protocol.requests import retrieve_request
from ezvideo_async.errors import BadResponseError, ClosedError, EzVideoError, TransportError
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
over_both_backends = pytest.mark.parametrize("is_borrowed", [False, True], ids=["own", "borrowed"])


async def failed(client: AsyncVideoClient) -> Any:
    """Return the error that retrieving a task raises."""
    with pytest.raises(EzVideoError) as raised:
        await client.retrieve("t")
    return raised.value


# -- connections ----------------------------------------------------------------------------------


async def test_resend_uses_a_fresh_connection() -> None:
    """With many stale connections in the pool, one resend is enough."""
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


@pytest.mark.fault("H8")
@pytest.mark.parametrize("status", ["421 Misdirected", "101 Switching", "999 Nine"])
async def test_connection_is_closed_after_a_misdirected_request(status: str) -> None:
    """After a 421, or a status that HTTP does not have, the next attempt uses another one."""
    stray = replying(*[response(b"", status=status)] * 2)
    async with RawServer(stray, DONE) as server, client_of(server) as client:
        assert (await client.retrieve("t")).succeeded

        assert [seen.connection for seen in server.requests] == [0, 1]
        assert server.times == [0.0, 0.25]


@pytest.mark.parametrize("script", [[CLOSE], [RESET], [b"\x15\x03\x03\x00\x02\x01\x00", STALL]])
async def test_cut_tls_handshake_is_retried(script: list[Any]) -> None:
    """A connection closed in the handshake, also by a close_notify, is an outage."""
    async with RawServer(script) as server:
        base_url = server.base_url.replace("http", "https")
        async with client_of(server, base_url=base_url) as client:
            raised = await failed(client)

            assert type(raised) is TransportError
            assert (raised.reason, raised.retryable) == ("connect", True)
            assert server.connections == 3


async def test_closed_transport_sends_nothing() -> None:
    """After ``aclose`` the transport opens no connection."""
    async with RawServer(DONE) as server, client_of(server) as client:
        await client._engine._transport.aclose()

        assert isinstance(await failed(client), ClosedError)
        assert server.connections == 0


# -- API key, cookies, proxies --------------------------------------------------------------------


@pytest.mark.fault("X5")
async def test_api_key_goes_to_its_own_origin_only() -> None:
    """A session that rewrites the target of requests gets no key for another origin."""
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
    """A cookie that the server sets is not sent with the next request."""
    reply = response(task("t"), "Set-Cookie: track=1; Path=/")
    async with RawServer(replying(reply, reply)) as server:
        base_url = server.base_url.replace("127.0.0.1", "localhost")  # no cookies for addresses
        async with client_of(server, base_url=base_url) as client:
            await client.retrieve("t")
            await client.retrieve("t")

        assert "cookie" not in server.requests[1].headers


@pytest.mark.fault("X17")
async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """``HTTP_PROXY`` does not send the key through another machine."""
    async with RawServer(DONE) as proxy, RawServer(DONE) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with client_of(server) as client:
            await client.retrieve("t")

        assert (proxy.connections, server.connections) == (0, 1)


# -- body size ------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    """A task of exactly *size* bytes of JSON."""
    body = json.dumps(task("t", padding="")).encode()
    return body.replace(b'"padding": ""', b'"padding": "' + b"x" * (size - len(body)) + b'"')


def chunked(body: bytes) -> list[bytes]:
    """A response in chunks of 64 KiB."""
    parts = [body[start : start + 65536] for start in range(0, len(body), 65536)]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%b\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


@pytest.mark.fault("H29", "X18")
@pytest.mark.parametrize("framing", ["length", "chunked", "until the end"])
@pytest.mark.parametrize("excess", [0, 1])
async def test_body_over_the_limit_is_refused(framing: str, excess: int) -> None:
    """The limit is read, one byte more is too large, however the server frames it."""
    limit = 100_000
    body = padded(limit + excess)
    replies: dict[str, list[Any]] = {
        "length": [response(body)],
        "chunked": chunked(body),
        "until the end": [b"HTTP/1.1 200 OK\r\n\r\n", body],
    }
    script = [READ, *replies[framing], CLOSE]
    options: dict[str, Any] = {"retry": ONCE, "max_response_bytes": limit}
    async with RawServer(script) as server, client_of(server, **options) as client:
        if not excess:
            assert (await client.retrieve("t")).succeeded
            return
        raised = await failed(client)

        assert isinstance(raised, BadResponseError)
        assert (raised.reason, raised.status, raised.retryable) == ("too_large", 200, True)
        assert raised.task_id == "t"
        assert str(raised) == (
            "the response body is larger than 100000 bytes; raise max_response_bytes to read it"
        )


@pytest.mark.fault("H29")
async def test_body_of_an_error_is_at_most_a_mebibyte() -> None:
    """``max_response_bytes`` is for tasks; the message does not name it."""
    body = b" " * (MAX_BODY_BYTES + 1)
    script = [READ, response(body, status="500 Oops"), CLOSE]
    async with RawServer(script) as server, client_of(server, retry=ONCE) as client:
        raised = await failed(client)

        assert (raised.reason, raised.status) == ("too_large", 500)
        assert str(raised) == "the response body is larger than 1048576 bytes"


# -- bodies over 1 MiB ----------------------------------------------------------------------------

LARGE: dict[str, Any] = {"retry": ONCE, "max_response_bytes": 64 << 20}


async def sent(client: AsyncVideoClient) -> Response:
    """Send one request without reading its response as a task."""
    engine = client._engine
    engine.bind()
    key = await engine.requester._credentials.api_key()
    found, _ = await engine._transport.send(retrieve_request(engine.route, "t"), key)
    return found


@pytest.mark.fault("Q11")
@over_both_backends
@pytest.mark.parametrize("size", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1, 5 << 20])
async def test_body_over_a_mebibyte_is_decoded_before_it_is_read(
    size: int, *, is_borrowed: bool
) -> None:
    """In a thread; up to 1 MiB that is left to the reader."""
    body = padded(size)
    async with (
        RawServer(replying(response(body), response(body))) as server,
        aiohttp.ClientSession() as session,
        client_of(server, session=session if is_borrowed else None, **LARGE) as client,
    ):
        found = await sent(client)
        assert found.body == body
        assert found.json()["id"] == "t"
        assert (found.decoded is NOT_DECODED) == (size == MAX_BODY_BYTES)
        assert (await client.retrieve("t")).succeeded


@pytest.mark.fault("Q11")
@pytest.mark.parametrize(
    "body", [b"x" * (2 << 20), b'{"a": "\xff"}' + b" " * (2 << 20), b"[" + b"0," * (1 << 20)]
)
async def test_large_body_that_is_no_json_is_a_bad_response(body: bytes) -> None:
    """What decoding raised is raised by the reader, each time."""
    async with RawServer(replying(response(body), response(body))) as server:
        async with client_of(server, **LARGE) as client:
            found = await sent(client)
            for _read in range(2):
                with pytest.raises(ValueError, match=r".") as raised:
                    found.json()
                assert raised.value is found.decoded

            assert isinstance(await failed(client), BadResponseError)


@pytest.mark.fault("Q11", "X22")
async def test_key_in_a_large_body_is_masked() -> None:
    """Before it is decoded."""
    body = padded(2 << 20).replace(b"xxx", KEY.encode(), 1)
    async with RawServer(replying(response(body))) as server, client_of(server, **LARGE) as client:
        found = await sent(client)

        assert KEY.encode() not in found.body
        assert found.json()["padding"].startswith("***xxx")


@pytest.mark.fault("Q11")
async def test_large_bodies_are_read_one_after_another() -> None:
    """The second waits until the first has failed; a small one does not wait."""
    body = padded(3 << 20)
    stalled = [READ, response(body)[: 2 << 20], STALL]
    async with (
        RawServer(stalled, replying(response(body)), DONE) as server,
        client_of(server, **LARGE) as client,
    ):
        first = asyncio.create_task(failed(client))
        await asyncio.sleep(1.0)
        second = asyncio.create_task(client.retrieve("t"))
        await asyncio.sleep(1.0)
        assert (await client.retrieve("small")).succeeded
        assert now() == 2.0
        assert (await first).reason == "timeout"
        assert (await second).succeeded

        assert now() == 15.0


@pytest.mark.fault("Q11")
async def test_cancelled_large_body_leaves_room_for_the_next() -> None:
    """A cancellation while it is read or decoded ends its turn."""
    body = padded(3 << 20)
    stalled = [READ, response(body)[: 2 << 20], STALL]
    async with (
        RawServer(stalled, replying(response(body))) as server,
        client_of(server, **LARGE) as client,
    ):
        call = asyncio.create_task(client.retrieve("t"))
        await asyncio.sleep(1.0)
        call.cancel()
        await asyncio.wait([call])

        assert call.cancelled()
        assert (await client.retrieve("t")).succeeded


# -- bounded work ---------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.fault("X18")
@over_both_backends
async def test_body_in_tiny_chunks_is_read_no_further(*, is_borrowed: bool) -> None:
    """After 4,096 of them, chunks must carry 128 bytes on average."""
    script = [READ, CHUNKED, *[b"1\r\nx\r\n" * 2000] * 500, STALL]
    async with (
        RawServer(script, DONE) as server,
        aiohttp.ClientSession() as session,
        client_of(server, retry=ONCE, session=session if is_borrowed else None) as client,
    ):
        raised = await failed(client)

        assert (raised.reason, raised.retryable) == ("protocol", True)
        assert "4129 pieces for 4129 bytes of a body" in str(raised)
        assert (await client.retrieve("t")).succeeded


@pytest.mark.parametrize(("chunk", "is_read"), [(128, True), (60, False)])
async def test_body_in_many_chunks_is_read_if_they_carry_data(chunk: int, *, is_read: bool) -> None:
    """A large body may come in any number of chunks of 128 bytes."""
    body = padded(1_000_000 // chunk * chunk)
    parts = [body[start : start + chunk] for start in range(0, len(body), chunk)]
    wire = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    async with (
        RawServer([READ, CHUNKED, wire, STALL]) as server,
        client_of(server, retry=ONCE) as client,
    ):
        if is_read:
            assert (await client.retrieve("t")).succeeded
        else:
            assert "pieces for" in str(await failed(client))


@pytest.mark.fault("X18", "H25")
@over_both_backends
@pytest.mark.parametrize("interim", [1000, 1001])
async def test_interim_responses_are_counted(interim: int, *, is_borrowed: bool) -> None:
    """1,000 of them are skipped, one more is an invalid response."""
    reply = b"HTTP/1.1 103 Hints\r\n\r\n" * interim
    script = [READ, reply, done, READ, reply, done]
    async with (
        RawServer(script, DONE) as server,
        aiohttp.ClientSession() as session,
        client_of(server, retry=ONCE, session=session if is_borrowed else None) as client,
    ):
        if interim == 1000:
            assert (await client.retrieve("t")).succeeded
            assert (await client.retrieve("t")).succeeded
            assert server.connections == 1
            return
        raised = await failed(client)

        assert raised.reason == "protocol"
        assert "more than 1000 interim responses" in str(raised)


# -- blocked event loop ---------------------------------------------------------------------------


@pytest.mark.fault("C21")
async def test_timeout_in_a_blocked_event_loop_is_no_attempt() -> None:
    """A timeout that fires while this process is blocked does not use up an attempt."""
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
@pytest.mark.parametrize(
    ("scheme", "request_timeout", "end"),
    [("http", 4.0, 60.0), ("https", 15.0, 12.0), ("https", 2.0, 4.0)],
)
async def test_late_timeout_is_a_local_stall(
    scheme: str, request_timeout: float, end: float
) -> None:
    """A timeout much later than due, of the request or of the connect (5 s), is ours."""
    async with RawServer([READ, STALL] if scheme == "http" else [STALL]) as server:
        base_url = server.base_url.replace("http", scheme)
        options: Any = {"retry": RetryPolicy(deadline=1.0), "request_timeout": request_timeout}
        async with client_of(server, base_url=base_url, **options) as client:
            loop = asyncio.get_running_loop()
            loop.call_later(1.0, lambda: setattr(loop, "_now", end))
            raised = await failed(client)

            assert raised.reason == "local_stall"
            assert "too busy" in str(raised)
            assert now() == end
