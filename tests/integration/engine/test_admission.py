"""Admission queue: rotation, requests in flight, pauses, shared budgets and closing."""

from __future__ import annotations

import asyncio
import gc
from math import inf

import pytest
from hypothesis import given, settings, strategies as st

from ezvideo_async import RequestBudget
from ezvideo_async._engine.admission import AdmissionQueue
from ezvideo_async._engine.telemetry import TelemetryEmitter
from ezvideo_async._limits.budget import rate_limiter_of
from ezvideo_async._limits.rate_limiter import RateLimiter
from ezvideo_async.errors import ClosedError, RateLimitError, RequestTimeoutError, ServerError
from ezvideo_async.testing import FakeVideoServer, VirtualClockLoop
from tests.support.clients import make_client
from tests.support.fake_transport import FakeTransport, fake_client
from tests.support.raw_server import DONE, READ, STALL, RawServer, client_of, now

POLL_OR_CALL = pytest.mark.parametrize("poll", [True, False], ids=["poll", "call"])


class Queue(AdmissionQueue):
    """Open admission queue on a limiter of its own, with a constant in place of chance."""

    def __init__(self, rate: float = 1.0, burst: float = 1.0, max_in_flight: int = 64) -> None:
        self.limiter = RateLimiter(rate, burst=burst, max_in_flight=max_in_flight)
        super().__init__(self.limiter, TelemetryEmitter(()), lambda: 0.5)
        self.open()

    async def admit(self, *, poll: bool = False) -> float:
        """Admit a poll, or a call without a deadline; return when it was admitted."""
        await (self.admit_poll() if poll else self.admit_call("t", deadline=inf, cool_down_max=60))
        return now()

    async def send(self, *, poll: bool = False) -> float:
        """Send a request that gets its response at once; return when."""
        started = await self.admit(poll=poll)
        self.finish(None, started=started, poll=poll)
        return started


async def started(*coroutines: object) -> list[asyncio.Task[float]]:
    """Start tasks and let each run until it waits."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return tasks


# -- rotation -------------------------------------------------------------------------------------


async def test_calls_polls_and_dispatchers_are_admitted_in_rotation() -> None:
    """With one request per second, each kind of sender gets every third."""
    queue = Queue()
    sent: list[str] = []

    async def send(kind: str) -> float:
        at = await queue.send(poll=kind == "poll")
        sent.append(kind)
        return at

    def send_one(_now: float) -> int:
        left = 5 - sent.count("dispatcher")
        sent.append("dispatcher")
        asyncio.get_running_loop().call_soon(lambda: queue.finish(None, started=now()))
        return left

    await queue.send()
    waiting = await started(*(send(kind) for kind in ["call"] * 5 + ["poll"] * 5))
    queue.request_polls(send_one)
    await asyncio.gather(*waiting)
    await asyncio.sleep(10.0)

    assert len(sent) == 15
    for first in (0, 3, 6):
        assert sorted(sent[first : first + 3]) == ["call", "dispatcher", "poll"]
    assert queue.limiter.in_flight == 0


async def test_unused_permit_of_a_dispatcher_admits_the_next_request() -> None:
    """A dispatcher that has nothing to send returns 0."""
    queue = Queue(rate=1000.0, burst=50.0, max_in_flight=1)
    await queue.admit()
    queue.request_polls(lambda _now: 0)
    waiting = await started(*(queue.send(poll=poll) for poll in (True, False) * 3))
    await asyncio.sleep(5.0)
    queue.finish(None, started=0.0)

    assert await asyncio.gather(*waiting) == [5.0] * 6
    assert queue.limiter.in_flight == 0


async def test_request_polls_is_idempotent_and_can_be_cancelled() -> None:
    """The function is called once per permit, until it has no more polls."""
    queue = Queue()
    calls: list[float] = []

    def send_one(_now: float) -> int:
        calls.append(now())
        return max(0, 3 - len(calls))

    await queue.admit()
    for _ in range(2):
        queue.request_polls(send_one)
    await asyncio.sleep(10.0)
    assert calls == [1.0, 2.0]

    await queue.admit()
    queue.request_polls(send_one)
    for _ in range(2):
        queue.cancel_polls(send_one)
    await asyncio.sleep(10.0)
    assert len(calls) == 2


async def test_new_requests_do_not_overtake_waiting_ones() -> None:
    """Not even when the event loop was blocked beyond the due time of a waiting one."""
    queue = Queue()
    assert queue.try_admit(now())
    assert not queue.try_admit(now())
    (first,) = await started(queue.admit())
    await asyncio.sleep(0.5)
    vars(asyncio.get_running_loop())["_now"] = 1.5  # as a long computation would

    assert not queue.try_admit(now())
    assert await queue.admit() == 2.5
    assert first.result() == 1.5


# -- cancellation ---------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.booleans()), max_size=12))
async def test_cancelled_requests_leave_nothing_in_flight(
    script: list[tuple[bool, int, bool]],
) -> None:
    """Whether they were waiting, just admitted, or sent."""
    queue = Queue(rate=10.0, max_in_flight=2)

    async def send(*, poll: bool) -> None:
        at = await queue.admit(poll=poll)
        try:
            await asyncio.sleep(0.25)
        except asyncio.CancelledError:
            queue.abandon(started=at, poll=poll)
            raise
        queue.finish(None, started=at, poll=poll)

    senders = [asyncio.create_task(send(poll=poll)) for poll, _steps, _is_cancelled in script]
    for sender, (_poll, steps, is_cancelled) in zip(senders, script, strict=True):
        for _step in range(steps % 7):
            await asyncio.sleep(0)
        await asyncio.sleep(steps / 40)
        if is_cancelled:
            sender.cancel()
    await asyncio.wait_for(asyncio.gather(*senders, return_exceptions=True), 60.0)

    assert queue.limiter.in_flight == 0
    assert queue._timer.at == inf


@pytest.mark.parametrize("is_cancelled_first", [True, False])
async def test_request_cancelled_while_it_is_admitted_admits_the_next(
    *, is_cancelled_first: bool
) -> None:
    """Cancellation and admission in the same iteration of the event loop, in either order."""
    queue = Queue(burst=2.0 if is_cancelled_first else 3.0, max_in_flight=1)
    await queue.admit()
    first, second = await started(queue.admit(), queue.admit())
    if is_cancelled_first:
        first.cancel()
    queue.finish(None, started=0.0)
    first.cancel()

    assert await second == 0.0
    assert first.cancelled()
    assert queue.limiter.in_flight == 1


async def test_probe_cancelled_while_it_is_admitted_is_followed_by_another() -> None:
    """The circuit breaker does not wait for its response."""
    queue = Queue(burst=10.0)
    for _ in range(10):
        await queue.admit(poll=True)
    (probe,) = await started(queue.admit(poll=True))
    await asyncio.sleep(0.5)
    for _ in range(10):
        queue.finish(ServerError(retryable=True), started=0.0)
    asyncio.get_running_loop().call_at(0.5 + 3.75, probe.cancel)  # at the queue's own due time
    await asyncio.wait([probe])

    assert probe.cancelled()
    assert await asyncio.wait_for(queue.admit(poll=True), 60.0) == 6.75


@POLL_OR_CALL
async def test_last_waiting_request_cancels_the_timer(*, poll: bool) -> None:
    """In whatever order the waiting requests are cancelled."""
    queue = Queue()
    await queue.admit(poll=poll)
    waiting = await started(*(queue.admit(poll=poll) for _ in range(3)))
    for place in (1, 0, 2):
        assert queue._timer.at == 1.0
        waiting[place].cancel()
        await asyncio.wait([waiting[place]])

    assert not queue.has_waiters
    assert queue._timer.at == inf


async def test_cancelled_dispatcher_cancels_the_timer() -> None:
    """When nothing else waits."""
    queue = Queue()
    await queue.admit()
    queue.request_polls(send_one := lambda _now: 0)
    assert queue._timer.at == 1.0
    queue.cancel_polls(send_one)

    assert queue._timer.at == inf


# -- deadlines and pauses -------------------------------------------------------------------------


async def test_call_not_admitted_by_its_deadline_fails() -> None:
    """The error says how long it waited, and what to do."""
    queue = Queue(max_in_flight=1)
    await queue.admit()
    await asyncio.sleep(0.5)

    with pytest.raises(RequestTimeoutError, match=r"^request not sent within 29\.5 s: ") as raised:
        await queue.admit_call("t", deadline=30.0, cool_down_max=60.0)

    assert (now(), raised.value.reason, raised.value.task_id) == (30.0, "budget", "t")
    assert queue.limiter.in_flight == 1


@pytest.mark.parametrize(
    ("deadline", "cool_down_max", "is_admitted"),
    [(inf, 20.0, True), (inf, 19.9, False), (22.0, 60.0, True), (20.9, 60.0, False)],
)
async def test_calls_wait_for_a_cool_down_only_within_their_limits(
    deadline: float, cool_down_max: float, *, is_admitted: bool
) -> None:
    """Waiting and new calls fail at once when it lasts longer than they may wait."""
    queue = Queue(rate=100.0, burst=2.0, max_in_flight=1)
    limits = {"deadline": deadline, "cool_down_max": cool_down_max}
    await queue.admit()
    waiting = await started(queue.admit_call("t", **limits))
    await asyncio.sleep(1.0)
    queue.finish(RateLimitError(retry_after=20.0), started=0.0)
    if not is_admitted:
        waiting += await started(queue.admit_call("t", **limits))
    results = await asyncio.gather(*waiting, return_exceptions=True)

    if is_admitted:
        assert (now(), results) == (21.0, [None])
    else:
        assert {type(result) for result in results} == {RateLimitError}
        assert [(result.status, result.retry_after) for result in results] == [(429, 20.0)] * 2
        assert now() == 1.0


async def test_polls_are_spread_after_a_cool_down() -> None:
    """Those that waited when it began evenly, a new one at random."""
    queue = Queue(rate=100.0, max_in_flight=1)
    await queue.admit(poll=True)
    waiting = await started(*(queue.send(poll=True) for _ in range(4)))
    await asyncio.sleep(1.0)
    queue.finish(RateLimitError(retry_after=20.0), started=0.0)
    waiting += await started(queue.send(poll=True))

    assert await asyncio.gather(*waiting) == [22.25, 24.75, 27.25, 29.75, 26.0]


async def test_polls_are_spread_after_an_outage() -> None:
    """A call is admitted during it; its response closes the circuit."""
    queue = Queue(rate=1000.0, burst=100.0)
    for _ in range(10):
        await queue.admit(poll=True)
    for _ in range(10):
        queue.finish(ServerError(retryable=True), started=0.0)
    waiting = await started(*(queue.send(poll=True) for _ in range(4)))
    await asyncio.sleep(1.0)

    assert await queue.send() == 1.0
    assert await asyncio.gather(*waiting) == [2.25, 4.75, 7.25, 9.75]


# -- sharing and closing --------------------------------------------------------------------------


async def test_two_clients_share_one_budget() -> None:
    """Rate and requests in flight are those of the budget, for both together."""
    budget = RequestBudget(rate=10.0, burst=1, max_in_flight=3)
    async with (
        FakeVideoServer(latency=1.0) as server,
        client_of(server, budget=budget) as one,
        client_of(server, budget=budget) as other,
    ):
        task_id = server.add_task(duration=0.0)
        await asyncio.gather(*(client.retrieve(task_id) for client in (one, other) * 6))

        assert server.peak_in_flight == 3
        assert one.requests_sent == other.requests_sent == 6
        assert now() == pytest.approx(4.2)


async def test_closing_one_client_admits_requests_of_the_other() -> None:
    """The closed client's request in flight no longer counts."""
    budget = RequestBudget(max_in_flight=1)
    async with RawServer([READ, STALL], DONE) as server, client_of(server, budget=budget) as open_:
        async with client_of(server, budget=budget) as closed:
            (in_flight,) = await started(closed.retrieve("t"))
            await asyncio.sleep(1.0)
            (waiting,) = await started(open_.retrieve("t"))
        with pytest.raises(ClosedError):
            await in_flight
        assert (await waiting).succeeded
        assert now() == 1.0


async def test_close_ends_all_that_waits() -> None:
    """Waiting and new calls, polls and sleeps raise ClosedError; dispatchers are forgotten."""
    queue = Queue()
    await queue.admit()
    queue.request_polls(lambda _now: 1)
    waits = (queue.admit, lambda: queue.admit(poll=True), lambda: queue.sleep(100.0))
    waiting = await started(*(wait() for wait in waits))
    for _ in range(2):
        queue.close()

    assert queue._timer.at == inf
    assert queue.limiter.queues == ()
    for wait in (*waiting, *(wait() for wait in waits)):
        with pytest.raises(ClosedError, match="the client was closed"):
            await wait
    assert (now(), queue.limiter.in_flight) == (0.0, 1)


def test_budget_belongs_to_one_event_loop() -> None:
    """Until all its clients are closed, or their loop is."""
    limiter = RateLimiter(1.0, burst=None, max_in_flight=1)
    queues = [AdmissionQueue(limiter, TelemetryEmitter(()), lambda: 0.5) for _ in range(4)]

    async def open_queue(place: int) -> None:
        queues[place].open()

    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(open_queue(0))
        one.run(open_queue(1))
        with pytest.raises(ClosedError, match="in use in another event loop"):
            other.run(open_queue(2))
        queues[0].close()
        queues[1].close()
        other.run(open_queue(2))
        assert limiter.queues == (queues[2],)
    with asyncio.Runner() as last:
        last.run(open_queue(3))
        assert limiter.queues == (queues[3],)


@pytest.mark.filterwarnings("ignore:.*was never closed:ResourceWarning")
@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "collected"])
def test_client_never_closed_does_not_keep_its_budget(*, is_kept: bool) -> None:
    """The next event loop, whose clock is hours behind, sends at once."""
    budget = RequestBudget(rate=1.0, max_in_flight=1)
    clients = []

    async def leave_open() -> None:
        client = make_client("key", transport=FakeTransport(t="processing"), budget=budget)
        await asyncio.sleep(7200.0)
        for _ in range(3):
            await client.retrieve("t")
        await started(client.retrieve("t"), client.wait("t"))
        if is_kept:
            clients.append(client)

    async def use() -> float:
        async with fake_client(FakeTransport(t="processing"), budget=budget) as client:
            await client.retrieve("t")
        return now()

    for run in (leave_open, use):
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            assert runner.run(run()) in {None, 0.0}
    clients.clear()
    gc.collect()  # or the warning comes in another test


@pytest.mark.filterwarnings("ignore:.*was never closed:ResourceWarning")
async def test_collected_client_leaves_its_budget_at_once() -> None:
    """Its event loop is still in use."""
    budget = RequestBudget()
    client = make_client("key", transport=FakeTransport(t="processing"), budget=budget)
    await client.retrieve("t")
    assert len(rate_limiter_of(budget).queues) == 1

    del client
    gc.collect()

    assert rate_limiter_of(budget).queues == ()
