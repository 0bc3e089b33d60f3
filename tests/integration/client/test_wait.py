"""``wait``: looks first, sleeps after; what ends it, what does not, and many at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from ezvideo_async import PollPolicy, RequestBudget, RetryPolicy, VideoTask
from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigError,
    EzVideoError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TaskFailedError,
    TaskNotFoundError,
    WaitTimeoutError,
)
from ezvideo_async.testing import FakeVideoServer
from tests.support.raw_server import (
    DONE,
    READ,
    STALL,
    RawServer,
    client_of,
    done,
    now,
    replying,
    response,
    running,
)


def times(server: FakeVideoServer) -> list[float]:
    """When requests arrived."""
    return [record.at for record in server.requests()]


# -- the good way ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", FakeVideoServer.dialects)
async def test_a_finished_task_costs_one_request_and_no_time(dialect: str) -> None:
    """``wait`` looks first: a task that has ended is given at once."""
    async with FakeVideoServer(dialect=dialect) as server, client_of(server) as client:
        await asyncio.sleep(100.0)
        task_id = server.add_task(duration=0.0)
        await asyncio.sleep(20.0)
        found = await client.wait(task_id)

        assert (found.id, found.succeeded) == (task_id, True)
        assert times(server) == [120.0]
        assert client.requests_sent == 1


async def test_a_running_task_is_asked_for_at_the_policys_pace() -> None:
    """A look every five seconds, until the end is seen."""
    async with FakeVideoServer() as server, client_of(server) as client:
        found = await client.wait(server.add_task(duration=12.0))

        assert found.succeeded
        assert times(server) == [0.0, 5.0, 10.0, 15.0]


async def test_the_policy_of_a_call_is_used() -> None:
    """A policy given to ``wait`` sets its pace."""
    policy = PollPolicy(interval=2.0, jitter=0.0)
    async with FakeVideoServer() as server, client_of(server) as client:
        await client.wait(server.add_task(duration=3.0), policy=policy)

        assert times(server) == [0.0, 2.0, 4.0]


@pytest.mark.fault("S3", "S6")
async def test_words_that_nobody_knows_never_end_a_wait() -> None:
    """Only ``completed`` and ``failed``, in any dialect's words: not progress, not a url."""
    words = ["musing", "pending", "queued", "almost_completed"]
    replies = [
        response({"id": "t", "status": word, "progress": 100, "url": "https://x.test/v"})
        for word in words
    ]
    async with RawServer(replying(*replies, done)) as server, client_of(server) as client:
        assert (await client.wait("t")).succeeded
        assert len(server.requests) == len(words) + 1


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "expired"])
async def test_a_failed_task_is_raised_or_given(outcome: str) -> None:
    """A failed task is an error that carries the task, or the task itself on request."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=0.0, outcome=outcome)
        with pytest.raises(TaskFailedError) as raised:
            await client.wait(task_id)
        given = await client.wait(task_id, raise_on_failure=False)

        assert raised.value.task == given
        assert raised.value.task_id == given.id == task_id
        assert given.status == "failed"
        assert given.error is not None
        assert str(given.error.code) in str(raised.value)


async def test_a_failure_without_a_reason_says_so() -> None:
    """The sentence of the error is whole, whatever the server left out."""
    script = replying(response({"id": "t", "status": "failed"}))
    async with RawServer(script) as server, client_of(server) as client:
        with pytest.raises(TaskFailedError) as raised:
            await client.wait("t")

        assert str(raised.value) == "task 't' failed, and the server does not say why"


async def test_a_failure_tells_no_query_of_a_signed_url() -> None:
    """Where the video was is told, the key to it is not; ``.task`` has all."""
    told = "no access to https://cdn.example.test/in.png?sig=s3cr3t"
    script = replying(response({"id": "t", "status": "failed", "error": {"message": told}}))
    async with RawServer(script) as server, client_of(server) as client:
        with pytest.raises(TaskFailedError, match=r"cdn\.example\.test/in\.png\?") as raised:
            await client.wait("t")

        assert "s3cr3t" not in str(raised.value)
        assert raised.value.task.error.message == told


# -- the deadline ---------------------------------------------------------------------------------


@pytest.mark.fault("S13")
async def test_the_deadline_is_exact_and_tells_what_was_seen() -> None:
    """When the time is up the error has the last task, the time, and the id to wait again."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=60.0)
        with pytest.raises(WaitTimeoutError) as raised:
            await client.wait(task_id, timeout=12.5)

        error = raised.value
        assert now() == 12.5
        assert isinstance(error, TimeoutError)
        assert (error.waited, error.task_id, error.last_error) == (12.5, task_id, None)
        assert isinstance(error.task, VideoTask)
        assert error.task.progress == 16
        assert error.retryable
        assert error.__context__ is error.__cause__ is None
        assert (await client.wait(task_id)).succeeded


async def test_the_deadline_cancels_the_request_in_flight() -> None:
    """A hanging answer does not hold the caller longer than the deadline."""
    async with RawServer([READ, STALL]) as server, client_of(server) as client:
        with pytest.raises(WaitTimeoutError) as raised:
            await client.wait("t", timeout=4.0)

        assert now() == 4.0
        assert (raised.value.task, raised.value.last_error) == (None, None)
        assert client.budget.in_flight == 0


async def test_the_deadline_tells_the_last_trouble() -> None:
    """After failed requests the error says what the last one met."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=600.0)
        await asyncio.sleep(100.0)
        server.fault("503")
        with pytest.raises(WaitTimeoutError) as raised:
            await client.wait(task_id, timeout=30.0)

        assert isinstance(raised.value.last_error, ServerError)
        assert raised.value.task is None


async def test_without_a_time_limit_it_waits_for_ever() -> None:
    """``timeout=None`` waits as long as the task takes."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=5_000.0)
        assert (await client.wait(task_id, timeout=None)).succeeded
        assert now() == 5_000.0


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), "9"])
async def test_a_time_limit_that_is_none_is_refused(limit: Any) -> None:
    """A deadline must be a number of seconds above 0."""
    async with RawServer(DONE) as server, client_of(server) as client:
        with pytest.raises(ConfigError, match="timeout must be"):
            await client.wait("t", timeout=limit)
        with pytest.raises(ConfigError, match="not_found_grace must be"):
            await client.wait("t", not_found_grace=-1.0)

        assert server.connections == 0


# -- trouble --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["503", "html", "close", "garbage", "truncated", "429"])
async def test_minutes_of_trouble_do_not_end_a_wait(kind: str) -> None:
    """Whatever passes, passes: a paid task is waited for through an outage."""
    async with FakeVideoServer() as server, client_of(server) as client:
        server.fault(kind, seconds=300.0)
        task_id = server.add_task(duration=60.0)
        assert (await client.wait(task_id)).succeeded
        assert 300.0 <= now() < 370.0


async def test_failed_looks_back_off_exactly() -> None:
    """After the n-th failure the pause lies half-way between 5 and min(60, 5 * 2 ** n) seconds."""
    script = replying(*[response(b"{}", status="503 Busy")] * 6, done)
    async with RawServer(script) as server, client_of(server) as client:
        await client.wait("t")
        pauses = [after - before for before, after in pairwise(server.times)]

        assert pauses == [7.5, 12.5, 22.5, 32.5, 32.5, 32.5]


async def test_an_answer_ends_the_backing_off() -> None:
    """One good answer, and the pace is the policy's again."""
    busy = response(b"{}", status="503 Busy")
    script = replying(busy, busy, running, running, busy, done)
    async with RawServer(script) as server, client_of(server) as client:
        await client.wait("t")

        assert server.times == [0.0, 7.5, 20.0, 25.0, 30.0, 37.5]


async def test_not_found_is_not_yet_for_ten_seconds() -> None:
    """A task just made may not be known everywhere; within the grace it is asked for again."""
    async with FakeVideoServer() as server, client_of(server) as client:
        wait = asyncio.create_task(client.wait("late"))
        await asyncio.sleep(7.0)
        server.add_task("late", duration=0.0)
        assert (await wait).succeeded
        assert times(server) == [0.0, 5.0, 10.0]


@pytest.mark.parametrize(("grace", "looks"), [(10.0, [0.0, 5.0, 10.0]), (0.0, [0.0])])
async def test_not_found_after_the_grace_ends_it(grace: float, looks: list[float]) -> None:
    """An id that nobody knows is given up when the grace is over."""
    async with FakeVideoServer() as server, client_of(server) as client:
        with pytest.raises(TaskNotFoundError):
            await client.wait("never", not_found_grace=grace)

        assert times(server) == looks


@pytest.mark.fault("S12")
async def test_a_task_that_vanishes_gets_two_more_looks() -> None:
    """A task that was seen is not given up for one stale replica."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=60.0)
        wait = asyncio.create_task(client.wait(task_id))
        await asyncio.sleep(12.0)
        server.forget(task_id)
        with pytest.raises(TaskNotFoundError):
            await wait

        assert times(server) == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]


LASTING: dict[str, tuple[bytes, type[EzVideoError]]] = {
    "401": (response(b"{}", status="401 No"), AuthenticationError),
    "402": (response(b"{}", status="402 Pay"), PermissionDeniedError),
    "403": (response(b"{}", status="403 No"), PermissionDeniedError),
    "400": (response(b"{}", status="400 Bad"), BadRequestError),
    "302": (response(b"", "Location: /login", status="302 Found"), ConfigError),
}


@pytest.mark.parametrize("trouble", LASTING)
async def test_trouble_that_lasts_ends_a_wait_at_once(trouble: str) -> None:
    """What waiting does not heal is raised after one request."""
    reply, kind = LASTING[trouble]
    async with RawServer(replying(reply, done)) as server, client_of(server) as client:
        with pytest.raises(kind):
            await client.wait("t")

        assert server.times == [0.0]


@pytest.mark.fault("H4")
async def test_a_firewalls_page_is_borne_for_a_minute() -> None:
    """HTML with 403 passes, unless five in a row over a minute say that we are meant."""
    page = response(b"<html>", "Content-Type: text/html", status="403 No")
    async with RawServer(replying(*[page] * 4, running, *[page] * 9)) as server:
        async with client_of(server) as client:
            with pytest.raises(PermissionDeniedError) as raised:
                await client.wait("t")

            assert not raised.value.retryable
            assert len(server.requests) == 5 + 5
            assert server.times[-1] - server.times[5] == 7.5 + 12.5 + 22.5 + 32.5


async def test_many_pages_of_a_firewall_at_once_are_borne() -> None:
    """Ten refused looks in the same moment are one refusal, not ten."""
    page = response(b"<html>", "Content-Type: text/html", status="403 No")
    met: set[str] = set()

    def refusing_once(seen: Any) -> bytes:
        is_first = seen.task_id not in met
        met.add(seen.task_id)
        return page if is_first else done(seen)

    async with RawServer(replying(*[refusing_once] * 20)) as server, client_of(server) as client:
        found = await asyncio.gather(*(client.wait(f"t{number}") for number in range(10)))

        assert all(each.succeeded for each in found)
        assert len(server.requests) == 20


@pytest.mark.fault("H4")
async def test_few_pages_of_a_firewall_over_long_are_borne() -> None:
    """Four refusals in a row are not enough, however long they take."""
    page = response(b"<html>", "Content-Type: text/html", "Retry-After: 100", status="403 No")
    async with RawServer(replying(*[page] * 4, done)) as server, client_of(server) as client:
        assert (await client.wait("t")).succeeded
        assert server.times == [0.0, 100.0, 200.0, 300.0, 400.0]


# -- what the server asks for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        (["Retry-After: 20"], 20.0),
        (["openai-poll-after-ms: 2500"], 2.5),
        (["openai-poll-after-ms: 10"], 1.0),
        (["openai-poll-after-ms: 999000"], 60.0),
        (["Retry-After: 5000"], 600.0),
        (["Retry-After: 20", "openai-poll-after-ms: 2500"], 20.0),
        (["openai-poll-after-ms: soon"], 5.0),
    ],
)
async def test_hints_of_a_good_answer_are_obeyed_within_bounds(
    headers: list[str], pause: float
) -> None:
    """Retry-After before openai-poll-after-ms before the policy; each clamped."""
    reply = response({"id": "t", "status": "processing"}, *headers)
    async with RawServer(replying(reply, done)) as server, client_of(server) as client:
        await client.wait("t")

        assert server.times == [0.0, pause]


async def test_retry_after_of_a_failed_look_is_a_floor() -> None:
    """A 503 with Retry-After is not asked again before, and not before the usual pause."""
    first = response(b"{}", "Retry-After: 100", status="503 Busy")
    second = response(b"{}", "Retry-After: 1", status="503 Busy")
    async with RawServer(replying(first, second, done)) as server, client_of(server) as client:
        await client.wait("t")

        assert server.times == [0.0, 100.0, 112.5]


# -- many at once ---------------------------------------------------------------------------------

QUICK = PollPolicy(interval=5.0, jitter=0.0)


@pytest.mark.fault("C25")
async def test_many_waits_share_rate_and_places() -> None:
    """200 waits by ``gather`` keep to one rate and one cap; all end."""
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


async def test_a_rate_is_kept_over_every_window() -> None:
    """A second never sees more sends than the rate and the burst allow."""
    budget = RequestBudget(rate=20.0, burst=1)
    async with FakeVideoServer() as server, client_of(server, budget=budget) as client:
        ids = [server.add_task(duration=0.0) for _ in range(200)]
        await asyncio.gather(*(client.wait(task_id) for task_id in ids))
        sent = times(server)

        assert all(later - at >= 0.999 for at, later in zip(sent, sent[21:], strict=False))
        assert sent[-1] == pytest.approx(199 / 20)


@pytest.mark.fault("C25")
async def test_a_cool_down_stops_everybody_and_ends_slowly() -> None:
    """After a 429 no wait sends within its Retry-After; then all come back over ten seconds."""
    budget = RequestBudget(rate=1000.0, burst=1000, max_in_flight=1000)
    async with FakeVideoServer() as server:
        ids = [server.add_task(duration=60.0) for _ in range(200)]
        async with client_of(server, budget=budget, rand=Random(7).random) as client:
            waits = [asyncio.create_task(client.wait(each, policy=QUICK)) for each in ids]
            await asyncio.sleep(12.0)
            server.fault("429", task_id=ids[0], seconds=5.0, retry_after=20)
            await asyncio.gather(*waits)

        (refused,) = [record.at for record in server.requests() if record.status == 429]
        after = [at for at in times(server) if at > refused]
        assert min(after) >= refused + 20.0
        returned = [at for at in after if at < refused + 32.0]
        assert max(Counter(int(at) for at in returned).values()) <= 50  # steady: 40
        assert len({int(at) for at in returned}) >= 9


@pytest.mark.fault("C25")
async def test_an_outage_is_met_with_single_probes() -> None:
    """When everything fails the breaker opens: one probe at a time, and every wait survives."""
    async with FakeVideoServer() as server, client_of(server) as client:
        ids = [server.add_task(duration=30.0) for _ in range(100)]
        server.fault("503", seconds=300.0)
        found = await asyncio.gather(*(client.wait(each, policy=QUICK) for each in ids))

        assert all(task.succeeded for task in found)
        assert not client.budget.is_server_out
        probes = [at for at in times(server) if 10.0 < at < 300.0]
        assert len(probes) < 20
        assert all(later - at >= 2.5 for at, later in pairwise(probes))
        assert max(times(server)) < 300.0 + 30.0 + 20.0


async def test_calls_pass_the_breaker_and_close_it() -> None:
    """A person who asks for one task is not made to wait for a probe."""
    async with (
        FakeVideoServer() as server,
        client_of(server, retry=RetryPolicy(attempts=1)) as client,
    ):
        task_id = server.add_task(duration=0.0)
        server.fault("503")
        for _call in range(10):
            with pytest.raises(ServerError):
                await client.retrieve(task_id)
        assert client.budget.is_server_out
        server.heal()
        assert (await client.retrieve(task_id)).succeeded
        assert not client.budget.is_server_out
        assert now() < 0.1


async def test_a_call_waits_for_a_short_cool_down() -> None:
    """A 429 met by somebody else delays a call until it is over, not longer."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=0.0)
        server.fault("429", task_id="other", retry_after=5)
        with pytest.raises(RateLimitError):
            async with client_of(
                server, budget=client.budget, retry=RetryPolicy(attempts=1)
            ) as one:
                await one.retrieve("other")
        assert (await client.retrieve(task_id)).succeeded
        assert times(server) == [0.0, 5.0]
