"""The manners of 1,000 ids towards a server that is out, throttled, or ill every second time."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from ezvideo_async.instrumentation import CircuitOpened
from tests.resilience.outage_behaviour import (
    IDS,
    LATENCY,
    OUTAGES,
    STAGES,
    WINDOW,
    WithoutSockets,
    manners,
    peak,
    watching,
)
from tests.support.fake_transport import fake_client

EPSILON = 1e-6  # seconds: sums of floats
INTERVAL = 5.0


def now():
    return asyncio.get_running_loop().time()


@pytest.mark.fault("H20")
@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("stage", STAGES)
async def test_an_outage_costs_little_and_loses_nothing(stage, outage):
    """Out for 300 s: 5 % of the polls at most, no peak on return, every id back in a minute."""
    found = await manners(STAGES[stage](), outage)

    assert len(found.again) == 1000
    assert found.steady == pytest.approx(1000 / INTERVAL, rel=0.05)
    assert found.share <= 0.05
    assert found.peak <= 1.2
    assert found.again_by(0.99) <= 60.0
    assert found.lost == 0
    assert found.client_count == found.server_count


@pytest.mark.fault("H13")
@pytest.mark.parametrize("stage", STAGES)
async def test_nothing_is_sent_before_retry_after_is_over(stage):
    """Nobody sends for the 20 s of a 429, a single call neither; then ids come over 10 s."""
    server = STAGES[stage]()
    async with watching(server, seed=2) as (_, client, polls):
        usual = len(polls.between(now() - WINDOW, now())) / WINDOW
        await server.meet_with("429, 20 s")
        await asyncio.sleep(2 * LATENCY)
        await server.meet_with(None)
        await asyncio.sleep(INTERVAL)
        await client.retrieve(IDS[0])
        ((cooled, cool_down),) = polls.cool_downs
        over = cooled + 20.0
        await polls.seen_again(over)
        await asyncio.sleep(WINDOW)
        firsts = polls.again_after(over)

    assert cool_down.seconds == 20.0
    assert cool_down.rate == pytest.approx(0.7 * usual, rel=0.1)
    assert polls.between(cooled + EPSILON, over - EPSILON) == []
    assert firsts[-1] - firsts[0] >= 2 * INTERVAL - 1.0
    assert peak(firsts, 1.0) <= 1.5 * len(IDS) / (2 * INTERVAL)
    assert peak(polls.between(over, now()), WINDOW) <= 1.2 * usual * WINDOW
    assert client.requests_sent == server.requests


@pytest.mark.fault("H12")
@pytest.mark.parametrize("stage", STAGES)
async def test_a_429_without_a_word_stops_everybody_for_longer_each_time(stage):
    """U(1, 2) * 2**k seconds for all, 60 at most; when it is over, all are seen in a minute."""
    server = STAGES[stage]()
    async with watching(server, seed=3) as (_, client, polls):
        usual = len(polls.between(now() - WINDOW, now())) / WINDOW
        await server.meet_with("429")
        await asyncio.sleep(200.0)
        await server.meet_with(None)
        over = max(at + cool_down.seconds for at, cool_down in polls.cool_downs)
        await polls.seen_again(over)
        sent = polls.between(0.0, now())
        again = polls.again_after(over)

    pauses = [cool_down.seconds for _, cool_down in polls.cool_downs]
    assert all(min(60, 2**k) <= seconds <= min(60, 2 * 2**k) for k, seconds in enumerate(pauses))
    assert pauses[-1] == 60.0
    assert polls.cool_downs[0][1].rate == pytest.approx(0.7 * usual, rel=0.1)
    for at, cool_down in polls.cool_downs:
        assert [t for t in sent if at + EPSILON < t < at + cool_down.seconds - EPSILON] == []
    assert again[-1] <= 60.0
    assert client.requests_sent == server.requests


class EverySecond(WithoutSockets):
    """Every second request is answered with 503."""

    async def send(self, request, secret, **options):
        await self.meet_with("503" if self.sends % 2 else None)
        return await super().send(request, secret, **options)


@pytest.mark.fault("H19")
async def test_a_server_that_fails_every_second_time_is_no_outage():
    """No breaker opens, and each id's failures in a row are all that keeps it waiting."""
    server = EverySecond()
    async with watching(server, seed=4) as (watcher, client, polls):
        await asyncio.sleep(120.0)

        assert client.budget.pauses == 0
        assert watcher.stats.open == 1000
    history = {task_id: [] for task_id in IDS}
    for at, task_id, is_answered in polls.ended:
        history[task_id].append((at, is_answered))

    for ended in history.values():
        failures = 0
        for (one, is_answered), (two, _) in pairwise(ended):
            failures = 0 if is_answered else failures + 1
            longest = min(60.0, 5.0 * 2.0**failures) if failures else 5.5
            assert two - one <= longest + 0.2


@pytest.mark.fault("H19")
async def test_calls_to_a_server_that_fails_every_second_time_all_succeed():
    """Each retry that is answered pays for itself: the retry budget never runs dry."""
    server, signals = EverySecond(), []
    server.sends = 1
    async with fake_client(server, observers=[signals.append]) as client:
        for task_id in IDS[:200]:
            await client.retrieve(task_id)

    assert server.sends == 1 + 2 * 200
    assert not any(isinstance(signal, CircuitOpened) for signal in signals)
