"""The gate: fair turns, permits that come back, shared budgets, what observers hear."""

from __future__ import annotations

import asyncio
import logging
from math import inf

import pytest
from hypothesis import given, settings, strategies as st

from ezvideo_async import PollPolicy, RequestBudget, RetryPolicy
from ezvideo_async._domain.telemetry import (
    CircuitClosed,
    CircuitOpened,
    PollFailed,
    PollSucceeded,
    RateLimited,
    RetryScheduled,
    TaskEnded,
    TelemetryEvent,
)
from ezvideo_async._engine.admission import AdmissionQueue
from ezvideo_async._engine.telemetry import TelemetryEmitter
from ezvideo_async.errors import ClosedError, RateLimitError, ServerError
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
)


def gate_of(**options: float) -> AdmissionQueue:
    """A gate on a budget of its own."""
    return AdmissionQueue(RequestBudget(**options), TelemetryEmitter(()), lambda: 0.5)  # type: ignore[arg-type]


# -- turns ----------------------------------------------------------------------------------------


async def test_calls_looks_and_watchers_take_turns() -> None:
    """With one request a second, each kind of sender gets every third."""
    gate = gate_of(rate=1.0, burst=1)
    sent: list[str] = []

    async def enter(kind: str) -> None:
        await gate.enter(poll=kind == "look")
        sent.append(kind)
        gate.finish(None, started=now())

    def send_one() -> int:
        left = 5 - sent.count("watcher")
        if left:
            sent.append("watcher")
            asyncio.get_running_loop().call_soon(lambda: gate.finish(None, started=now()))
        return left

    await gate.enter(poll=False)
    gate.finish(None, started=now())
    waiting = [asyncio.create_task(enter(kind)) for kind in ["call"] * 5 + ["look"] * 5]
    await asyncio.sleep(0)
    gate.want(send_one)
    await asyncio.gather(*waiting)
    await asyncio.sleep(10.0)
    gate.close()

    assert sorted(sent[:3]) == sorted(sent[3:6]) == sorted(sent[6:9]) == ["call", "look", "watcher"]
    assert len(sent) == 15
    assert gate.budget.in_flight == 0


async def test_a_watcher_does_not_starve_calls_nor_they_it() -> None:
    """Real watchers, waits and calls on a narrow budget all get on."""
    budget = RequestBudget(rate=3.0, burst=1)
    async with FakeVideoServer() as server, client_of(server, budget=budget) as client:
        watched = [server.add_task(duration=600.0) for _ in range(60)]
        ended = server.add_task(duration=0.0)
        async with client.watch(watched, policy=PollPolicy(interval=1.0)) as watcher:
            await asyncio.sleep(30.0)
            before = now()
            for _call in range(10):
                await client.retrieve(ended)
                await client.wait(ended)
            assert now() - before <= 20.0
            assert watcher.stats.polls > 60
    assert budget.in_flight == 0


async def test_a_watcher_with_nothing_to_send_gives_its_place_back() -> None:
    """A turn that is not used is free for the next one at once."""
    gate = gate_of(rate=1.0, burst=1, max_in_flight=1)
    await gate.enter(poll=False)
    gate.want(lambda: False)
    gate.want(lambda: False)
    look = asyncio.create_task(gate.enter(poll=True))
    await asyncio.sleep(5.0)
    gate.finish(None, started=0.0)
    await look

    assert gate.budget.in_flight == 1
    gate.close()


async def test_a_want_is_one_and_can_be_taken_back() -> None:
    """Asking twice gives one turn; a want taken back gives none."""
    gate = gate_of(rate=1.0, burst=1)
    heard: list[float] = []

    def send_one() -> int:
        heard.append(now())
        return max(0, 3 - len(heard))

    await gate.enter(poll=False)
    gate.want(send_one)
    gate.want(send_one)
    await asyncio.sleep(10.0)
    assert heard == [1.0, 2.0]

    gate.want(send_one)
    gate.unwant(send_one)
    gate.unwant(send_one)
    await asyncio.sleep(10.0)
    assert len(heard) == 2 + 1  # at once, as the rate allowed it
    gate.close()


async def test_nobody_overtakes_those_who_wait() -> None:
    """A poll that could be sent at once lets those pass who came before."""
    gate = gate_of(rate=1.0, burst=1)
    assert gate.try_start(now())
    assert not gate.try_start(now())
    waiting = asyncio.create_task(gate.enter(poll=False))
    await asyncio.sleep(0)
    await asyncio.sleep(0.5)
    assert not gate.try_start(now())
    await waiting
    assert now() == 1.0
    gate.close()


async def test_a_late_timer_lets_nobody_overtake() -> None:
    """When the loop was blocked past somebody's turn, newcomers still come after them."""
    gate = gate_of(rate=1.0, burst=1)
    turns: list[str] = []

    async def enter(name: str) -> None:
        assert await gate.enter(poll=False) == 0
        turns.append(name)

    await gate.enter(poll=False)
    first = asyncio.create_task(enter("first"))
    await asyncio.sleep(0.5)
    vars(asyncio.get_running_loop())["_now"] = 1.5  # as a long computation would
    assert not gate.try_start(now())
    await asyncio.gather(enter("second"), first)

    assert turns == ["first", "second"]
    gate.close()


# -- permits --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.booleans()), max_size=12))
async def test_cancelled_waiters_return_their_places(
    script: list[tuple[bool, int, bool]],
) -> None:
    """Whoever is cancelled, whenever, in line or just let through: no place is lost."""
    gate = gate_of(rate=10.0, burst=1, max_in_flight=2)

    async def send(*, poll: bool) -> None:
        if await gate.enter(poll=poll) == 0:
            started = now()
            try:
                await asyncio.sleep(0.25)
            except asyncio.CancelledError:
                gate.abandon(started=started)
                raise
            gate.finish(None, started=started)

    senders = [asyncio.create_task(send(poll=poll)) for poll, _steps, _is_cancelled in script]
    for sender, (_poll, steps, is_cancelled) in zip(senders, script, strict=True):
        for _step in range(steps % 7):
            await asyncio.sleep(0)
        await asyncio.sleep(steps / 40)
        if is_cancelled:
            sender.cancel()
    await asyncio.wait_for(asyncio.gather(*senders, return_exceptions=True), 60.0)

    assert gate.budget.in_flight == 0
    assert await gate.enter(poll=True) == 0
    gate.close()


async def test_a_waiter_cancelled_as_it_is_let_through_returns_its_place() -> None:
    """Permit and cancellation in the same turn of the loop: the place goes to the next."""
    gate = gate_of(rate=1000.0, burst=10, max_in_flight=1)
    await gate.enter(poll=False)
    first = asyncio.create_task(gate.enter(poll=False))
    second = asyncio.create_task(gate.enter(poll=False))
    await asyncio.sleep(1.0)
    gate.finish(None, started=0.0)
    first.cancel()
    assert await second == 0
    assert first.cancelled()
    assert gate.budget.in_flight == 1
    gate.close()


async def test_a_probe_cancelled_as_it_is_let_through_is_not_awaited_for_ever() -> None:
    """A look from before an outage that becomes the probe, and is cancelled: others probe."""
    gate = gate_of(rate=1.0, burst=10)
    for _request in range(10):
        await gate.enter(poll=True)
    look = asyncio.create_task(gate.enter(poll=True))
    await asyncio.sleep(0.5)
    for _request in range(10):
        gate.finish(ServerError(retryable=True), started=0.0)
    assert gate.budget.is_server_out
    asyncio.get_running_loop().call_at(0.5 + 3.75, look.cancel)  # with the gate's own timer
    await asyncio.wait([look])
    assert look.cancelled()
    assert now() == 4.25
    assert await asyncio.wait_for(gate.enter(poll=True), 60.0) == 0
    gate.close()


@pytest.mark.parametrize("poll", [False, True])
async def test_who_leaves_the_line_leaves_no_timer(*, poll: bool) -> None:
    """The last one in line that is cancelled, whoever stood in front, takes the timer along."""
    gate = gate_of(rate=1.0, burst=1)
    await gate.enter(poll=poll)
    waiting = [asyncio.create_task(gate.enter(poll=poll)) for _ in range(3)]
    await asyncio.sleep(0)
    for waiter in (waiting[1], waiting[0], waiting[2]):
        assert gate.is_waiting
        assert gate._timer is not None
        waiter.cancel()
        await asyncio.wait([waiter])

    assert not gate.is_waiting
    assert gate._timer is None
    gate.close()


async def test_a_watcher_that_wants_no_more_leaves_no_timer() -> None:
    """What was set for a watcher that is closed is set no more."""
    gate = gate_of(rate=1.0, burst=1)
    await gate.enter(poll=True)
    gate.want(send_one := lambda: 0)
    assert gate._timer is not None
    gate.unwant(send_one)

    assert gate._timer is None
    gate.close()


# -- sharing and closing --------------------------------------------------------------------------


async def test_two_clients_share_one_budget() -> None:
    """Rate and places are the budget's: two clients together get what one would."""
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


@pytest.mark.parametrize("how", ["retrieve", "wait"])
async def test_closing_wakes_those_who_wait_in_line(how: str) -> None:
    """Calls and looks that wait for a place when the client closes get ``ClosedError``."""
    budget = RequestBudget(max_in_flight=1)
    async with RawServer([READ, STALL]) as server, client_of(server, budget=budget) as client:
        waiting = [asyncio.create_task(getattr(client, how)("t")) for _ in range(5)]
        await asyncio.sleep(1.0)
        await client.aclose()
        ended = await asyncio.gather(*waiting, return_exceptions=True)

        assert {type(each) for each in ended} == {ClosedError}
        assert now() == 1.0
        assert len(server.requests) == 1
        assert budget.in_flight == 0


async def test_a_closed_client_leaves_a_shared_budget_to_the_other() -> None:
    """The place of a closed client's request goes to the client that lives."""
    budget = RequestBudget(max_in_flight=1)
    async with RawServer([READ, STALL], DONE) as server, client_of(server, budget=budget) as lives:
        async with client_of(server, budget=budget) as closes:
            hanging = asyncio.create_task(closes.retrieve("t"))
            await asyncio.sleep(1.0)
            waiting = asyncio.create_task(lives.retrieve("t"))
            await asyncio.sleep(1.0)
        with pytest.raises(ClosedError):
            await hanging
        assert (await waiting).succeeded
        assert now() == 2.0


async def test_a_closed_gate_lets_nobody_in() -> None:
    """After closing there is no place and no pause."""
    gate = gate_of()
    gate.close()

    assert gate.budget._listeners == {}
    assert await gate.enter(poll=True) == inf
    assert await gate.enter(poll=False) == inf
    with pytest.raises(ClosedError):
        await gate.pause(100.0)
    assert now() == 0.0


async def test_looks_in_line_are_spread_after_a_cool_down() -> None:
    """A 429 sends the looks in line home; they come back one after another."""
    gate = gate_of(rate=100.0, burst=1, max_in_flight=1)
    await gate.enter(poll=True)
    looks = [asyncio.create_task(gate.enter(poll=True)) for _ in range(4)]
    await asyncio.sleep(1.0)
    gate.finish(RateLimitError(retry_after=20.0), started=0.0)
    delays = await asyncio.gather(*looks)

    assert delays == [21.25, 23.75, 26.25, 28.75]
    assert await gate.enter(poll=True) == 25.0
    assert gate.budget.in_flight == 0
    gate.close()


async def test_looks_in_line_are_spread_after_an_outage() -> None:
    """When the breaker closes, the looks that it held back come one after another."""
    gate = gate_of(rate=1000.0, burst=100)
    for _request in range(10):
        await gate.enter(poll=True)
    for _request in range(10):
        gate.finish(ServerError(retryable=True), started=0.0)
    looks = [asyncio.create_task(gate.enter(poll=True)) for _ in range(4)]
    await asyncio.sleep(1.0)
    assert await gate.enter(poll=False) == 0  # a call passes the breaker
    gate.finish(None, started=1.0)
    delays = await asyncio.gather(*looks)

    assert delays == [1.25, 3.75, 6.25, 8.75]
    assert gate.budget.in_flight == 0
    gate.close()


async def test_calls_in_line_learn_of_a_cool_down() -> None:
    """A call that waits for a place fails at once when the cool-down is longer than it waits."""
    slow_429 = [READ, 1.0, response(b"{}", "Retry-After: 100", status="429 Many")]
    budget = RequestBudget(max_in_flight=1)
    async with RawServer(slow_429) as server, client_of(server, budget=budget) as client:
        calls = [asyncio.create_task(client.retrieve("t")) for _ in range(3)]
        ended = await asyncio.gather(*calls, return_exceptions=True)

        assert {type(each) for each in ended} == {RateLimitError}
        assert now() == 1.001
        assert len(server.requests) == 1


async def test_calls_in_line_wait_through_a_short_cool_down() -> None:
    """A call that has the time is sent as soon as the cool-down is over."""
    slow_429 = response(b"{}", "Retry-After: 20", status="429 Many")
    budget = RequestBudget(max_in_flight=1)
    async with (
        RawServer([READ, 1.0, slow_429, *DONE]) as server,
        client_of(server, budget=budget) as client,
    ):
        await asyncio.gather(*(client.retrieve("t") for _ in range(2)))

        assert server.times[:2] == [0.0, 21.0]
        assert len(server.requests) == 3


# -- observers ------------------------------------------------------------------------------------


async def test_observers_hear_of_requests_and_retries() -> None:
    """A failed request, the pause after it, and the answer, each with its numbers."""
    heard: list[TelemetryEvent] = []
    async with (
        RawServer([READ, response(b"{}", status="503 Busy"), READ, 0.5, done]) as server,
        client_of(server, observers=[heard.append]) as client,
    ):
        await client.retrieve("t")

    failed, due, ended = heard
    assert isinstance(failed, PollFailed)
    assert isinstance(failed.error, ServerError)
    assert (failed.task_id, failed.elapsed) == ("t", 0.0)
    assert due == RetryScheduled(task_id="t", failures=1, delay=0.25)
    assert isinstance(ended, PollSucceeded)
    assert (ended.task_id, ended.status, ended.elapsed) == ("t", "completed", 0.5)


async def test_observers_hear_of_pauses_of_a_wait() -> None:
    """A failed look is told with the pause that follows; its end is not a retry."""
    heard: list[TelemetryEvent] = []
    script = replying(response(b"{}", status="503 Busy"), response(b"{}", status="410 Gone"))
    async with RawServer(script) as server, client_of(server, observers=[heard.append]) as client:
        with pytest.raises(Exception, match="410"):
            await client.wait("t")

    assert [type(signal) for signal in heard] == [PollFailed, RetryScheduled, PollFailed]
    assert heard[1] == RetryScheduled(task_id="t", failures=1, delay=7.5)


async def test_observers_hear_of_cool_downs() -> None:
    """A 429 is told with how long nobody sends and how fast it goes on."""
    heard: list[TelemetryEvent] = []
    script = replying(response(b"{}", "Retry-After: 20", status="429 Many"), done)
    async with RawServer(script) as server, client_of(server, observers=[heard.append]) as client:
        await client.retrieve("t")

    (cool_down,) = [signal for signal in heard if isinstance(signal, RateLimited)]
    assert cool_down.seconds == 20.0
    assert 1.0 <= cool_down.rate <= 70.0


async def test_observers_hear_of_an_outage_and_its_end() -> None:
    """The breaker's opening and closing are told, once each, with their numbers."""
    heard: list[TelemetryEvent] = []
    async with (
        FakeVideoServer() as server,
        client_of(server, observers=[heard.append], retry=RetryPolicy(attempts=1)) as client,
    ):
        task_id = server.add_task(duration=0.0)
        server.fault("503")
        for _call in range(12):
            with pytest.raises(ServerError):
                await client.retrieve(task_id)
        opened = now()
        await asyncio.sleep(60.0)
        server.heal()
        await client.retrieve(task_id)

    changes = [signal for signal in heard if isinstance(signal, CircuitOpened | CircuitClosed)]
    assert changes[0] == CircuitOpened(failures=10)
    assert isinstance(changes[1], CircuitClosed)
    assert len(changes) == 2
    assert 60.0 <= changes[1].outage <= 60.0 + opened


async def test_observers_hear_of_ends() -> None:
    """A watcher tells how each task ended."""
    heard: list[TelemetryEvent] = []
    async with FakeVideoServer() as server, client_of(server, observers=[heard.append]) as client:
        task_id = server.add_task(duration=0.0)
        async with client.watch([task_id]) as watcher:
            assert [event.kind async for event in watcher] == ["task_completed"]

    assert TaskEnded(task_id=task_id, kind="task_completed") in heard


@pytest.mark.fault("C22")
async def test_an_observer_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, counted, still called, and the others hear everything."""
    heard: list[TelemetryEvent] = []
    raised: list[TelemetryEvent] = []

    def broken(signal: TelemetryEvent) -> None:
        raised.append(signal)
        raise ValueError("mine")

    async with RawServer(DONE) as server:
        async with client_of(server, observers=[broken, heard.append]) as client:
            for _call in range(3):
                await client.retrieve("t")

            assert len(heard) == len(raised) == client._observers.failures == 3
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "an observer raised" in errors[0].message


async def test_nothing_is_made_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without observers no record of a request is built."""

    def forbidden(**_fields: object) -> None:
        raise AssertionError("a record was made for nobody")

    for module in (
        "_engine.requester.PollSucceeded",
        "_engine.requester.PollFailed",
        "_client.RetryScheduled",
    ):
        monkeypatch.setattr(f"ezvideo_async.{module}", forbidden)
    monkeypatch.setattr("ezvideo_async._engine.poller.RetryScheduled", forbidden)
    busy = response(b"{}", status="503 Busy")
    async with RawServer(replying(busy, done, busy, done)) as server, client_of(server) as client:
        await client.retrieve("t")
        await client.wait("t")

        assert len(server.requests) == 4
