"""Outages, rate limits and partial failures, with 1,000 watched ids: fault rows H12 to H20."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest

from ezvideo_async._limits.budget import rate_limiter_of
from tests.resilience.outage_behaviour import (
    IDS,
    LATENCY,
    OUTAGES,
    WINDOW,
    OutageServer,
    measure,
    peak,
    watching,
)

EPSILON = 1e-6  # seconds: sums of floats
INTERVAL = 5.0


def now():
    return asyncio.get_running_loop().time()


@pytest.mark.fault("H20")
@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_causes_few_polls_no_peak_and_no_loss(outage):
    """In 300 s at most 5 % of the polls are sent; then no peak, and every id within a minute."""
    found = await measure(OutageServer(), outage)

    assert len(found.again) == 1000
    assert found.steady == pytest.approx(1000 / INTERVAL, rel=0.05)
    assert found.share <= 0.05
    assert found.peak <= 1.2
    assert found.again_by(0.99) <= 60.0
    assert found.lost == 0
    assert found.client_count == found.server_count


@pytest.mark.fault("H13")
async def test_no_request_is_sent_before_retry_after_has_passed():
    """No poll and no call is sent for the 20 s of a 429; then the ids are spread over 10 s."""
    server = OutageServer()
    async with watching(server, seed=2) as (_, client, polls):
        steady = len(polls.between(now() - WINDOW, now())) / WINDOW
        server.outage = "429, 20 s"
        await asyncio.sleep(2 * LATENCY)
        server.outage = None
        await asyncio.sleep(INTERVAL)
        await client.retrieve(IDS[0])
        ((cooled, cool_down),) = polls.cool_downs
        over = cooled + 20.0
        await polls.seen_again(over)
        await asyncio.sleep(WINDOW)
        firsts = polls.again_after(over)

    assert cool_down.seconds == 20.0
    assert cool_down.rate == pytest.approx(0.7 * steady, rel=0.1)
    assert polls.between(cooled + EPSILON, over - EPSILON) == []
    assert firsts[-1] - firsts[0] >= 2 * INTERVAL - 1.0
    assert peak(firsts, 1.0) <= 1.5 * len(IDS) / (2 * INTERVAL)
    assert peak(polls.between(over, now()), WINDOW) <= 1.2 * steady * WINDOW
    assert client.requests_sent == server.sends


@pytest.mark.fault("H12")
async def test_cool_downs_of_429s_without_retry_after_grow():
    """They take U(1, 2) * 2**k seconds, at most 60; then all ids are seen within a minute."""
    server = OutageServer()
    async with watching(server, seed=3) as (_, client, polls):
        steady = len(polls.between(now() - WINDOW, now())) / WINDOW
        server.outage = "429"
        await asyncio.sleep(200.0)
        server.outage = None
        over = max(at + cool_down.seconds for at, cool_down in polls.cool_downs)
        await polls.seen_again(over)
        sent = polls.between(0.0, now())
        again = polls.again_after(over)

    lengths = [cool_down.seconds for _, cool_down in polls.cool_downs]
    assert all(min(60, 2**k) <= seconds <= min(60, 2 * 2**k) for k, seconds in enumerate(lengths))
    assert lengths[-1] == 60.0
    assert polls.cool_downs[0][1].rate == pytest.approx(0.7 * steady, rel=0.1)
    for at, cool_down in polls.cool_downs:
        assert [t for t in sent if at + EPSILON < t < at + cool_down.seconds - EPSILON] == []
    assert again[-1] <= 60.0
    assert client.requests_sent == server.sends


class FailingEverySecond(OutageServer):
    """Answers every second request with an error."""

    def __init__(self, outage):
        super().__init__()
        self.every_second = outage

    async def send(self, request, secret, **options):
        self.outage = self.every_second if self.sends % 2 else None
        return await super().send(request, secret, **options)


class Limiting(OutageServer):
    """Answers more than *rate* requests per second with 503, as nginx's ``limit_req`` does."""

    def __init__(self, rate):
        super().__init__()
        self.rate, self.excess, self.at, self.refused = rate, 0.0, 0.0, 0

    async def send(self, request, secret, **options):
        excess = max(0.0, self.excess - (now() - self.at) * self.rate) + 1.0
        is_refused = excess > 10.0
        if not is_refused:
            self.excess, self.at = excess, now()
        self.refused += is_refused
        self.outage = "503" if is_refused else None
        return await super().send(request, secret, **options)


@pytest.mark.fault("Q21")
async def test_503s_of_a_rate_limit_slow_the_client_down():
    """Most of the limit is used, few requests are refused, and no id starves."""
    server = Limiting(100.0)
    async with watching(server, seed=5) as (watcher, client, polls):
        began, sent, refused = now(), server.sends, server.refused
        await asyncio.sleep(120.0)

        assert not rate_limiter_of(client.budget).is_circuit_open
        assert watcher.stats.open == 1000
    seen = [task_id for at, task_id, is_success in polls.ended if at > began and is_success]

    assert all(cool_down.seconds <= 2.0 for _, cool_down in polls.cool_downs)
    assert server.refused - refused <= 0.1 * (server.sends - sent)
    assert len(seen) >= 0.75 * 100.0 * 120.0
    assert set(seen) == set(IDS)


@pytest.mark.fault("H19", "Q21")
async def test_503_of_every_second_request_opens_no_circuit():
    """It is a rate limit: a cool-down begins every 5 s or so, and every id is still polled."""
    server = FailingEverySecond("503")
    async with watching(server, seed=4) as (watcher, client, polls):
        for _ in range(120):
            await asyncio.sleep(1.0)
            assert not rate_limiter_of(client.budget).is_circuit_open
        assert watcher.stats.open == 1000
    gaps = [later - at for (at, _), (later, _) in pairwise(polls.cool_downs)]

    assert 5.0 <= min(gaps) <= max(gaps) <= 10.0
    assert polls.cool_downs[-1][1].rate <= 40.0


@pytest.mark.fault("H19")
async def test_failures_of_every_second_request_open_no_circuit():
    """Only the failure streak of an id delays its polls."""
    server = FailingEverySecond("500")
    async with watching(server, seed=4) as (watcher, client, polls):
        await asyncio.sleep(120.0)

        assert rate_limiter_of(client.budget).pauses == 0
        assert watcher.stats.open == 1000
    history = {task_id: [] for task_id in IDS}
    for at, task_id, is_success in polls.ended:
        history[task_id].append((at, is_success))

    for ended in history.values():
        failures = 0
        for (one, is_success), (two, _) in pairwise(ended):
            failures = 0 if is_success else failures + 1
            longest = min(60.0, 5.0 * 2.0**failures) if failures else 5.5
            assert two - one <= longest + 0.2


@pytest.mark.fault("Q10", "Q21")
async def test_failed_tasks_under_a_503_open_no_circuit():
    """A task that was read is a valid response, so that nothing is refused and nothing is out."""
    server, failed = OutageServer(), []
    async with watching(server, seed=6) as (watcher, client, polls):
        for task_id in IDS[:500]:
            body = {"id": task_id, "status": "failed", "error": {"code": "c", "message": "m"}}
            server.tasks[task_id].fault = 503, {}, json.dumps(body).encode()
        async for event in watcher:
            failed += [event.task_id] if event.kind == "task_failed" else []
            if len(failed) == 500:
                break

        assert rate_limiter_of(client.budget).pauses == 0
    assert polls.cool_downs == []
    assert sorted(failed) == sorted(IDS[:500])
