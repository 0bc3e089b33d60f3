"""``retrieve``: when it sends again, after which delay, and when it raises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ezvideo_async import AsyncVideoClient, RequestBudget, RetryPolicy
from ezvideo_async.errors import (
    BadRequestError,
    EzVideoError,
    InvalidTaskIdError,
    RateLimitError,
    ServerError,
)
from tests.support.raw_server import (
    CLOSE,
    DONE,
    READ,
    RawServer,
    client_of,
    done,
    now,
    replying,
    response,
    running,
)


def error(status: str, *headers: str, code: str = "x") -> bytes:
    """Return an error response in the API document's shape."""
    return response({"error": {"code": code, "message": "m"}}, *headers, status=status)


async def failed(client: AsyncVideoClient, task_id: str = "t") -> Any:
    """Return the error that retrieving a task raises."""
    with pytest.raises(EzVideoError) as raised:
        await client.retrieve(task_id)
    return raised.value


@pytest.mark.parametrize("reply", [running, done])
async def test_valid_response_needs_one_request(reply: Any) -> None:
    """Whatever the status, and without a delay."""
    async with RawServer(replying(reply)) as server, client_of(server) as client:
        found = await client.retrieve("t")

        assert (found.id, found.succeeded) == ("t", reply is done)
        assert server.times == [0.0]
        assert client.requests_sent == 1


# -- transient failures ---------------------------------------------------------------------------

TRANSIENT: dict[str, list[Any]] = {
    "status": [READ, error("503 Busy")],
    "connection": [READ, CLOSE],
    "body": [READ, response(b"{not json")],
}


@pytest.mark.parametrize("kind", TRANSIENT)
async def test_transient_failure_is_retried_twice(kind: str) -> None:
    """With full jitter, and doubled delays; then the last error is raised."""
    async with RawServer([*TRANSIENT[kind], CLOSE]) as server, client_of(server) as client:
        raised = await failed(client)

        assert (raised.retryable, raised.task_id) == (True, "t")
        assert server.times == [0.0, 0.25, 0.75]
        assert client.requests_sent == 3


@pytest.mark.parametrize(
    "reply",
    [
        error("400 Bad"),
        error("404 Gone", code="task_not_found"),
        error("503 Busy", "x-should-retry: false"),
        error("429 Many", code="insufficient_quota"),
        response(b"", "Location: https://login.test/?k=1", status="302 Found"),
    ],
)
async def test_permanent_failure_is_raised_at_once(reply: bytes) -> None:
    """After one request."""
    async with RawServer(replying(reply, done)) as server, client_of(server) as client:
        raised = await failed(client)

        assert not raised.retryable
        assert now() == 0.0
        assert client.requests_sent == len(server.requests) == 1


@pytest.mark.parametrize("second", ["400 Bad", "503 Busy"])
async def test_400_with_retry_after_is_retried_once(second: str) -> None:
    """Azure sends it with some 400s."""
    bad = error("400 Bad", "Retry-After: 2")
    script = replying(*([bad] * 3 if second == "400 Bad" else [bad, done]))
    async with RawServer(script) as server, client_of(server) as client:
        if second == "400 Bad":
            assert isinstance(await failed(client), BadRequestError)
        else:
            assert (await client.retrieve("t")).succeeded

        assert server.times == [0.0, 2.0]


# -- Retry-After, cool-downs and deadlines --------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "header", "delay"),
    [
        ("429 Many", "Retry-After: 1", 1.0),
        ("429 Many", "Retry-After: 60", 60.0),
        ("503 Busy", "Retry-After: 60", 60.0),
        ("503 Busy", "retry-after-ms: 100", 0.25),  # less than our own delay
    ],
)
async def test_retry_after_is_obeyed_up_to_a_minute(status: str, header: str, delay: float) -> None:
    """It lengthens the delay, and never shortens it."""
    async with RawServer(replying(error(status, header), done)) as server:
        async with client_of(server) as client:
            assert (await client.retrieve("t")).succeeded
            assert server.times == [0.0, delay]


async def test_longer_retry_after_is_raised_to_all_calls_of_the_cool_down() -> None:
    """The error has the seconds that are left; nothing is sent meanwhile."""
    script = replying(error("429 Many", "Retry-After: 61"), done)
    async with RawServer(script) as server, client_of(server) as client:
        first = await failed(client)
        await asyncio.sleep(0.5)
        second = await failed(client, "u")

        assert (type(first), type(second)) == (RateLimitError, RateLimitError)
        assert (first.retry_after, second.retry_after) == (61.0, 60.5)
        assert (second.status, second.task_id, second.retryable) == (429, "u", True)
        assert now() == 0.5
        await asyncio.sleep(0.5)
        assert (await client.retrieve("u")).succeeded
        assert server.times == [0.0, 61.0]


async def test_429_without_retry_after_is_delayed_by_the_cool_down() -> None:
    """By the longer of the call's delay and the cool-down of all."""
    async with RawServer(replying(*[error("429 Many")] * 3)) as server, client_of(server) as client:
        assert isinstance(await failed(client), RateLimitError)
        assert server.times == [0.0, 1.5, 4.5]  # cool-downs of (1 + 0.5) * 2 ** k seconds


async def test_delay_beyond_the_deadline_is_not_begun() -> None:
    """The error is raised at once."""
    script = replying(error("503 Busy", "Retry-After: 11"))
    async with RawServer(script) as server:
        async with client_of(server, retry=RetryPolicy(deadline=10.0)) as client:
            assert isinstance(await failed(client), ServerError)
            assert now() == 0.0


# -- attempts and the retry quota -----------------------------------------------------------------


@pytest.mark.fault("H19")
async def test_successful_retry_gets_its_cost_back() -> None:
    """The quota lasts although every second request fails; after a 429 it gets less."""
    rate_limited = [error("429 Many", "Retry-After: 1"), done]
    busy = error("503 Busy")
    script = replying(*[busy, done] * 30, *[busy] * 3, *rate_limited * 9, *[busy] * 99)
    async with RawServer(script) as server:
        async with client_of(server, budget=RequestBudget(rate=1000.0)) as client:
            for _call in range(30):
                await client.retrieve("t")
            assert len(server.requests) == 60
            await failed(client)  # two retries of seven
            for _call in range(9):
                await client.retrieve("t")
            before = len(server.requests)
            for _call in range(9):
                await failed(client)

            assert len(server.requests) - before == 9 + 5


# -- the caller -----------------------------------------------------------------------------------


async def test_call_cancelled_before_a_retry_sends_nothing_more() -> None:
    """It leaves nothing behind."""
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
            assert client._engine.admission._sleeping == set()


@pytest.mark.parametrize("task_id", ["", "..", "a\nb", b"t", None])
@pytest.mark.parametrize("how", ["retrieve", "wait"])
async def test_invalid_id_is_refused_before_anything_is_sent(task_id: Any, how: str) -> None:
    """It could change the path of the url."""
    async with RawServer(DONE) as server, client_of(server) as client:
        with pytest.raises(InvalidTaskIdError):
            await getattr(client, how)(task_id)

        assert server.connections == client.requests_sent == 0
