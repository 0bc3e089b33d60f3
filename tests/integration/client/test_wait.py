"""``wait``: polls at once, then at intervals; what ends it, what does not, and many at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from ezvideo_async import PollPolicy, RequestBudget
from ezvideo_async._limits.budget import rate_limiter_of
from ezvideo_async.errors import (
    ServerError,
    TaskFailedError,
    WaitTimeoutError,
)
from ezvideo_async.testing import FakeVideoServer
from tests.support.raw_server import (
    READ,
    STALL,
    RawServer,
    client_of,
    now,
    replying,
    response,
)


def times(server: FakeVideoServer) -> list[float]:
    """Return when requests arrived."""
    return [record.at for record in server.requests()]


# -- the result -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", FakeVideoServer.dialects)
async def test_finished_task_needs_one_request_and_no_delay(dialect: str) -> None:
    """In every dialect."""
    async with FakeVideoServer(dialect=dialect) as server, client_of(server) as client:
        await asyncio.sleep(100.0)
        task_id = server.add_task(duration=0.0)
        await asyncio.sleep(20.0)
        found = await client.wait(task_id)

        assert (found.id, found.succeeded) == (task_id, True)
        assert times(server) == [120.0]


async def test_failed_task_is_raised_or_returned() -> None:
    """The error carries the task and its code; ``raise_on_failure=False`` returns the task."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=0.0, outcome="cancelled")
        with pytest.raises(TaskFailedError, match="cancelled") as raised:
            await client.wait(task_id)
        returned = await client.wait(task_id, raise_on_failure=False)

        assert raised.value.task == returned
        assert raised.value.task_id == returned.id == task_id
        assert returned.status == "failed"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, "task 't' failed; the server gives no reason"),
        (
            {"message": "no access to https://cdn.example.test/in.png?sig=s3cr3t"},
            "task 't' failed: 'no access to https://cdn.example.test/in.png?\\u2026'",
        ),
    ],
)
async def test_message_of_a_failed_task_has_its_reason(error: Any, message: str) -> None:
    """Without the query of a signed url, which only ``.task`` has."""
    script = replying(response({"id": "t", "status": "failed", "error": error}))
    async with RawServer(script) as server, client_of(server) as client:
        with pytest.raises(TaskFailedError) as raised:
            await client.wait("t")

        assert str(raised.value) == message
        shown = raised.value.task.error
        assert (shown and shown.message) == (error and error["message"])


# -- the timeout ----------------------------------------------------------------------------------


@pytest.mark.fault("S13")
async def test_timeout_is_exact_and_carries_the_last_task() -> None:
    """Waiting again with the same id continues."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=60.0)
        with pytest.raises(WaitTimeoutError) as raised:
            await client.wait(task_id, timeout=12.5)

        error = raised.value
        assert now() == 12.5
        assert isinstance(error, TimeoutError)
        assert (error.waited, error.task_id, error.last_error) == (12.5, task_id, None)
        assert error.task is not None
        assert error.task.progress == 16
        assert error.retryable
        assert error.__context__ is error.__cause__ is None
        assert (await client.wait(task_id)).succeeded


async def test_timeout_cancels_the_request_in_flight() -> None:
    """A response that does not come delays nobody."""
    async with RawServer([READ, STALL]) as server, client_of(server) as client:
        with pytest.raises(WaitTimeoutError) as raised:
            await client.wait("t", timeout=4.0)

        assert now() == 4.0
        assert (raised.value.task, raised.value.last_error) == (None, None)
        assert client.budget.in_flight == 0


async def test_message_of_a_timeout_has_the_last_error() -> None:
    """And says what to do next."""
    async with RawServer(replying(*[response(b"{}", status="503 Busy")] * 9)) as server:
        async with client_of(server) as client:
            with pytest.raises(WaitTimeoutError) as raised:
                await client.wait("t", timeout=12.0)

    error = raised.value
    assert isinstance(error.last_error, ServerError)
    assert str(error) == (
        f"task 't' did not finish within 12 s (last error: {error.last_error}); "
        "no response has shown a state of it; call wait() again to continue"
    )
    assert error.__cause__ is error.last_error


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["503", "close", "garbage", "429"])
async def test_minutes_of_failures_do_not_end_a_wait(kind: str) -> None:
    """A task that is billed is waited for through an outage of a server that has responded."""
    async with FakeVideoServer() as server, client_of(server) as client:
        await client.retrieve(server.add_task())
        server.fault(kind, seconds=300.0)
        task_id = server.add_task(duration=60.0)
        assert (await client.wait(task_id)).succeeded
        assert 300.0 <= now() < 370.0


# -- many at once ---------------------------------------------------------------------------------

STEADY = PollPolicy(jitter=0.0)


@pytest.mark.fault("C25")
async def test_waits_share_rate_and_slots() -> None:
    """200 waits by ``gather`` keep to one rate and one maximum in flight."""
    budget = RequestBudget(rate=50.0, burst=1, max_in_flight=8)
    async with (
        FakeVideoServer(latency=0.25) as server,
        client_of(server, budget=budget) as client,
    ):
        ids = [server.add_task(duration=0.0) for _ in range(200)]
        found = await asyncio.gather(*(client.wait(task_id) for task_id in ids))

        assert [task.id for task in found] == ids
        assert server.peak_in_flight == 8
        assert max(Counter(int(at) for at in times(server)).values()) <= 33  # 8 per 0.25 s
        assert client.requests_sent == len(server.requests()) == 200
        assert budget.in_flight == 0


@pytest.mark.fault("C25")
async def test_waits_survive_an_outage_with_single_probes() -> None:
    """When everything fails the circuit opens, and closes again."""
    async with FakeVideoServer() as server, client_of(server) as client:
        ids = [server.add_task(duration=30.0) for _ in range(100)]
        server.fault("503", seconds=300.0)
        found = await asyncio.gather(*(client.wait(each, policy=STEADY) for each in ids))

        assert all(task.succeeded for task in found)
        assert not rate_limiter_of(client.budget).is_circuit_open
        probes = [at for at in times(server) if 10.0 < at < 300.0]
        assert len(probes) < 20
        assert all(later - at >= 2.5 for at, later in pairwise(probes))
        assert max(times(server)) < 300.0 + 30.0 + 20.0
