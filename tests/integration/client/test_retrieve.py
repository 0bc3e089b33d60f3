"""``retrieve``: when it asks again, after how long, and when it gives up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ezvideo_async import AsyncVideoClient, RequestBudget, RetryPolicy
from ezvideo_async.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ConfigError,
    EzVideoError,
    InvalidTaskIdError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
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
)


def error(status: str, *headers: str, code: str = "x") -> bytes:
    """One error answer in the API document's shape."""
    return response({"error": {"code": code, "message": "m"}}, *headers, status=status)


async def failed(client: AsyncVideoClient, task_id: str = "t") -> EzVideoError:
    """The error that retrieving a task ends with."""
    with pytest.raises(EzVideoError) as raised:
        await client.retrieve(task_id)
    return raised.value


async def test_a_success_is_one_request() -> None:
    """A good answer needs one request on one connection, and no time."""
    async with RawServer(DONE) as server, client_of(server) as client:
        found = await client.retrieve("t")

        assert (found.id, found.succeeded) == ("t", True)
        assert server.times == [0.0]
        assert client.requests_sent == 1


TRANSIENT: dict[str, tuple[list[Any], type[EzVideoError], str | None]] = {
    "500": ([READ, error("500 Oops")], ServerError, None),
    "502": ([READ, error("502 Bad Gateway")], ServerError, None),
    "503": ([READ, error("503 Busy")], ServerError, None),
    "408": ([READ, error("408 Slow")], ServerError, None),
    "409": ([READ, error("409 Conflict")], ServerError, None),
    "425": ([READ, error("425 Early")], ServerError, None),
    "520": ([READ, error("520 Unknown")], ServerError, None),
    "close": ([READ, CLOSE], TransportError, "disconnected"),
    "reset": ([READ, RESET], TransportError, "disconnected"),
    "reset in the head": ([READ, b"HTTP/1.1 200 O", RESET], TransportError, "disconnected"),
    "cut body": (
        [READ, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"],
        TransportError,
        "payload",
    ),
    "no HTTP": ([READ, b"SSH-2.0-OpenSSH\r\n\r\n"], TransportError, "protocol"),
    "not JSON": ([READ, response(b"{not json")], BadResponseError, "not_json"),
    "web page": ([READ, response(b"<html>", "Content-Type: text/html")], BadResponseError, "html"),
    "empty": ([READ, response(b"")], BadResponseError, "empty"),
    "no task": ([READ, response(b"[]")], BadResponseError, "schema"),
    "firewall": (
        [READ, response(b"<html>", "Content-Type: text/html", status="403 No")],
        PermissionDeniedError,
        None,
    ),
}


@pytest.mark.parametrize("trouble", TRANSIENT)
async def test_passing_trouble_is_met_three_times(trouble: str) -> None:
    """Three requests with full jitter between them, doubling; then the last error is raised."""
    script, kind, reason = TRANSIENT[trouble]
    async with RawServer([*script, CLOSE]) as server, client_of(server) as client:
        raised = await failed(client)

        assert type(raised) is kind
        assert raised.retryable
        assert reason is None or raised.reason == reason  # type: ignore[attr-defined]
        assert raised.task_id == "t"
        assert server.times == [0.0, 0.25, 0.75]
        assert client.requests_sent == server.connections == 3


@pytest.mark.parametrize("trouble", TRANSIENT)
async def test_trouble_that_passes_is_not_seen(trouble: str) -> None:
    """After one bad try the second one's task is given."""
    script, _kind, _reason = TRANSIENT[trouble]
    async with RawServer([*script, CLOSE], DONE) as server, client_of(server) as client:
        assert (await client.retrieve("t")).succeeded
        assert server.times == [0.0, 0.25]


async def test_a_refused_connection_is_tried_three_times_and_counts_no_send() -> None:
    """Nothing listens: nothing is sent, and the host and port are named."""
    async with RawServer(DONE) as server:
        base_url, port = server.base_url, server.port
    async with AsyncVideoClient(KEY, base_url=base_url, rand=lambda: 0.5) as client:
        raised = await failed(client)

        assert raised.reason == "connect"  # type: ignore[attr-defined]
        assert f"(127.0.0.1:{port})" in str(raised)
        assert now() == 0.75
        assert client.requests_sent == 0


async def test_each_stalled_try_ends_at_its_time_limit() -> None:
    """A server that says nothing is left after exactly ``request_timeout`` seconds."""
    async with (
        RawServer([READ, STALL]) as server,
        client_of(server, request_timeout=4.0) as client,
    ):
        raised = await failed(client)

        assert isinstance(raised, RequestTimeoutError)
        assert isinstance(raised, TimeoutError)
        assert raised.reason == "timeout"
        assert server.times == [0.0, 4.25, 8.75]
        assert now() == 12.75


FINAL: dict[str, tuple[bytes, type[EzVideoError]]] = {
    "400": (error("400 Bad"), BadRequestError),
    "400 of new-api": (error("400 Bad", code="task_not_exist"), TaskNotFoundError),
    "401": (error("401 No"), AuthenticationError),
    "402": (error("402 Pay"), PermissionDeniedError),
    "403": (error("403 No"), PermissionDeniedError),
    "404": (error("404 Gone", code="task_not_found"), TaskNotFoundError),
    "410": (error("410 Gone"), TaskNotFoundError),
    "413": (error("413 Big"), BadRequestError),
    "501": (error("501 No"), ServerError),
    "505": (error("505 No"), ServerError),
    "302": (response(b"", "Location: https://login.test/?k=1", status="302 Found"), ConfigError),
    "no route": (response(b"<html>", "Content-Type: text/html", status="404 No"), ConfigError),
    "told not to": (error("503 Busy", "x-should-retry: false"), ServerError),
    "quota": (error("429 Many", code="insufficient_quota"), RateLimitError),
}


@pytest.mark.parametrize("trouble", FINAL)
async def test_trouble_that_lasts_is_raised_at_once(trouble: str) -> None:
    """What asking again does not heal costs one request and no time."""
    reply, kind = FINAL[trouble]
    async with RawServer(replying(reply, done)) as server, client_of(server) as client:
        raised = await failed(client)

        assert type(raised) is kind
        assert not raised.retryable
        assert now() == 0.0
        assert client.requests_sent == len(server.requests) == 1


async def test_x_should_retry_true_is_obeyed() -> None:
    """A server that knows better may ask for what we would not do."""
    script = replying(error("400 No", "x-should-retry: true"), done)
    async with RawServer(script) as server, client_of(server) as client:
        assert (await client.retrieve("t")).succeeded
        assert server.times == [0.0, 0.25]


@pytest.mark.parametrize("second", ["400 Bad", "503 Busy"])
async def test_a_400_with_retry_after_is_tried_once_more(second: str) -> None:
    """Azure says Retry-After with some 400s: then once, and only once, more."""
    bad = error("400 Bad", "Retry-After: 2")
    script = replying(*([bad] * 3 if second == "400 Bad" else [bad, done]))
    async with RawServer(script) as server, client_of(server) as client:
        if second == "400 Bad":
            assert isinstance(await failed(client), BadRequestError)
        else:
            assert (await client.retrieve("t")).succeeded

        assert server.times == [0.0, 2.0]


@pytest.mark.parametrize("status", ["429 Many", "503 Busy"])
@pytest.mark.parametrize("seconds", [1, 20, 60])
async def test_retry_after_is_obeyed_to_the_second(status: str, seconds: int) -> None:
    """Up to a minute the next request starts exactly when the server asked for it."""
    script = replying(error(status, f"Retry-After: {seconds}"), done)
    async with RawServer(script) as server, client_of(server) as client:
        assert (await client.retrieve("t")).succeeded
        assert server.times == [0.0, float(seconds)]


async def test_retry_after_is_a_floor_not_the_pause() -> None:
    """A Retry-After shorter than our own pause does not shorten it."""
    script = replying(error("503 Busy", "retry-after-ms: 100"), done)
    async with RawServer(script) as server, client_of(server) as client:
        await client.retrieve("t")

        assert server.times == [0.0, 0.25]


async def test_a_long_retry_after_is_raised_and_remembered() -> None:
    """Beyond a minute nobody waits: the error tells how long, to later calls without sending."""
    script = replying(error("429 Many", "Retry-After: 61"), done)
    async with RawServer(script) as server, client_of(server) as client:
        first = await failed(client)
        await asyncio.sleep(0.5)
        second = await failed(client, "u")

        assert isinstance(first, RateLimitError)
        assert isinstance(second, RateLimitError)
        assert (first.retry_after, second.retry_after) == (61.0, 60.5)
        assert (second.status, second.task_id, second.retryable) == (429, "u", True)
        assert now() == 0.5
        await asyncio.sleep(0.5)
        assert (await client.retrieve("u")).succeeded
        assert server.times == [0.0, 61.0]


async def test_a_cool_down_beyond_the_deadline_is_not_waited_for() -> None:
    """A call with less time than the cool-down takes fails at once, without sending."""
    script = replying(error("429 Many", "Retry-After: 30"), done)
    async with RawServer(script) as server, client_of(server) as patient:
        hasty = client_of(server, budget=patient.budget, retry=RetryPolicy(deadline=10.0))
        async with hasty:
            first = asyncio.create_task(patient.retrieve("t"))
            await asyncio.sleep(5.0)
            raised = await failed(hasty)
            assert isinstance(raised, RateLimitError)
            assert raised.retry_after == 25.0
            assert now() == 5.0
            assert (await first).succeeded

        assert server.times == [0.0, 30.0]


async def test_a_429_without_retry_after_has_its_own_pauses() -> None:
    """Throttling is met with the longer of the call's pause and the shared cool-down."""
    script = replying(*[error("429 Many")] * 3)
    async with RawServer(script) as server, client_of(server) as client:
        raised = await failed(client)

        assert isinstance(raised, RateLimitError)
        assert server.times == [0.0, 1.5, 4.5]  # cool-downs of (1 + 0.5) * 2 ** k seconds


async def test_no_pause_is_begun_that_ends_after_the_deadline() -> None:
    """A pause that would pass the call's deadline is not begun; the error is raised now."""
    retry = RetryPolicy(deadline=10.0)
    async with (
        RawServer(replying(error("503 Busy", "Retry-After: 11"))) as server,
        client_of(server, retry=retry) as client,
    ):
        assert isinstance(await failed(client), ServerError)
        assert now() == 0.0


async def test_attempts_of_one_means_no_retry() -> None:
    """The policy given to the client is the one used."""
    async with (
        RawServer(replying(error("503 Busy"), done)) as server,
        client_of(server, retry=RetryPolicy(attempts=1)) as client,
    ):
        await failed(client)

        assert len(server.requests) == 1


async def test_an_outage_is_not_amplified() -> None:
    """The retry budget pays for seven retries; from then on a call is one request."""
    async with (
        RawServer(replying(*[error("503 Busy")] * 99)) as server,
        client_of(server) as client,
    ):
        for _call in range(10):
            await failed(client)

        assert client.requests_sent == len(server.requests) == 10 + 7


@pytest.mark.fault("H19")
async def test_a_retry_that_helped_is_paid_back() -> None:
    """Half the requests failing never uses the retry budget up."""
    script = replying(*[error("503 Busy"), done] * 30)
    async with RawServer(script) as server, client_of(server) as client:
        for _call in range(30):
            await client.retrieve("t")

        assert len(server.requests) == 60


async def test_a_throttled_retry_pays_back_what_it_cost() -> None:
    """Successes after a 429 must not fill the budget for outages."""
    throttled = [error("429 Many", "Retry-After: 1"), done]
    outage = [error("503 Busy")]
    async with (
        RawServer(replying(*outage * 3, *throttled * 9, *outage * 99)) as server,
        client_of(server, budget=RequestBudget(rate=1000.0)) as client,
    ):
        await failed(client)  # two retries of seven
        for _call in range(9):
            await client.retrieve("t")
        before = len(server.requests)
        for _call in range(9):
            await failed(client)

        assert len(server.requests) - before == 9 + 5


async def test_a_call_cancelled_between_tries_leaves_nothing() -> None:
    """A cancelled pause sends no more and holds no place."""
    async with RawServer([READ, error("503 Busy", "Retry-After: 30")]) as server:
        async with client_of(server) as client:
            call = asyncio.create_task(client.retrieve("t"))
            await asyncio.sleep(10.0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.sleep(100.0)

            assert len(server.requests) == 1
            assert client.budget.in_flight == 0
            assert client._gate._pausing == {}


@pytest.mark.parametrize("task_id", ["", " ", ".", "..", "a\nb", "\ud800", "x" * 513, b"t", None])
@pytest.mark.parametrize("how", ["retrieve", "wait"])
async def test_an_id_that_is_none_is_refused_before_anything_is_sent(
    task_id: str, how: str
) -> None:
    """A text that would escape its place in the url never reaches the wire."""
    async with RawServer(DONE) as server, client_of(server) as client:
        with pytest.raises(InvalidTaskIdError):
            await getattr(client, how)(task_id)

        assert server.connections == client.requests_sent == 0


async def test_the_answers_details_are_on_the_error() -> None:
    """Status, code, message and request id of the server are attributes."""
    reply = error("400 Bad", "X-Request-Id: r-1", code="bad_size")
    async with RawServer(replying(reply)) as server, client_of(server) as client:
        raised = await failed(client)

        assert isinstance(raised, APIStatusError)
        assert (raised.status, raised.code, raised.message) == (400, "bad_size", "m")
        assert raised.request_id == "r-1"
