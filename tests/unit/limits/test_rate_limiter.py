"""Rate limiter: starts, requests in flight, cool-down, rate cut and regrowth, in exact seconds."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._domain.telemetry import CircuitClosed, CircuitOpened, RateLimited
from ezvideo_async._limits.rate_limiter import RateLimiter
from ezvideo_async.errors import RateLimitError, ServerError

FAILURE = ServerError("HTTP 500", status=500, retryable=True)
UNAVAILABLE = ServerError("HTTP 503", status=503, retryable=True)
EPSILON = 1e-6  # seconds: sums of floats


def limited(retry_after=None):
    """Return the error of a 429."""
    return RateLimitError("HTTP 429", status=429, retryable=True, retry_after=retry_after)


def limiter_of(rate=100.0, *, burst=None, max_in_flight=64):
    """Return a limiter with the defaults of a budget."""
    return RateLimiter(rate, burst=burst, max_in_flight=max_in_flight)


def send(limiter, error=None, *, at, rand=0.0, poll=True):
    """Send one request that gets its response at once."""
    limiter.start(at, poll=poll)
    return limiter.finish(error, started=at, now=at, rand=rand, poll=poll)


def steady(rate, *, seconds):
    """Return a limiter of 100 requests per second that was used at *rate* until 100 s."""
    limiter = limiter_of()
    for place in range(int(rate * seconds)):
        send(limiter, at=100.0 - seconds + place / rate)
    return limiter


# -- rate and requests in flight ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "given", "burst"), [(10.0, 3.0, 3), (1.0, None, 1), (20.0, None, 1), (100.0, None, 5)]
)
def test_burst_starts_at_once_and_the_rest_at_the_rate(rate, given, burst):
    """By default what the rate allows in 50 ms, at least 1; an idle hour saves no more."""
    limiter = limiter_of(rate, burst=given)

    for begin in (0.0, 3600.0):
        starts = [begin]
        for _ in range(burst + 2):
            starts.append(limiter.start_at(starts[-1]))
            limiter.start(starts[-1])
        late = [begin + 1 / rate, begin + 2 / rate]
        assert starts[1:] == pytest.approx([begin] * burst + late, abs=1e-9)


def test_requests_in_flight_are_capped():
    """The next may start only when one has finished or was abandoned."""
    limiter = limiter_of(1000.0, burst=10.0, max_in_flight=2)
    limiter.start(0.0)
    limiter.start(0.0)

    assert limiter.start_at(0.0) == limiter.start_at(0.0, poll=False) == inf
    limiter.finish(None, started=0.0, now=0.0, rand=0.0)
    assert limiter.start_at(0.0) == 0.0
    limiter.start(0.0)
    limiter.abandon(started=0.0)
    assert (limiter.in_flight, limiter.start_at(0.0)) == (1, 0.0)


def test_set_rate_counts_requests_already_sent():
    """As requests, not as seconds of the old rate."""
    limiter = limiter_of(1.0, burst=50.0)
    for _ in range(50):
        limiter.start(0.0)
    assert limiter.start_at(0.0) == 1.0

    limiter.set_rate(100.0)
    assert limiter.start_at(0.0) == pytest.approx(0.01)
    limiter.start(1.0)
    limiter.set_rate(2.0)
    limiter.start(1.0)
    assert limiter.start_at(26.0) == pytest.approx(26.0)
    assert (limiter.rate, limiter.current_rate(1.0)) == (2.0, 2.0)


def test_lower_rate_spaces_requests_from_now_on():
    """The burst that a higher rate has allowed is neither waited for nor forgotten."""
    limiter = limiter_of(1000.0)
    for _ in range(50):
        limiter.start(0.0)

    limiter.set_rate(1.0)
    for second in (1.0, 2.0, 3.0):
        assert limiter.start_at(second - 1.0) == pytest.approx(second)
        limiter.start(second)
    limiter.set_rate(1000.0)
    assert limiter.start_at(3.0) == pytest.approx(3.001)
    limiter.set_rate(1.0)
    for second in (90.0, 91.0):
        assert limiter.start_at(90.0) == second
        limiter.start(second)


steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.3, 1.0, 7.0]),
        st.sampled_from([None, None, None, limited(), limited(0.1), limited(5.0), FAILURE]),
        st.floats(0, 1, exclude_max=True),
        st.booleans(),
    ),
    max_size=80,
)


@given(
    rate=st.floats(0.5, 200.0),
    burst=st.none() | st.floats(1.0, 30.0),
    cap=st.integers(1, 20),
    steps=steps,
)
def test_starts_in_any_window_are_bounded(rate, burst, cap, steps):
    """At most burst + rate * w in w seconds, at most *cap* in flight, none in a cool-down."""
    limiter = limiter_of(rate, burst=burst, max_in_flight=cap)
    allowance = max(1.0, rate * 0.05) if burst is None else burst
    now, starts, running, cool_until = 100.0, [], [], -inf

    for gap, error, rand, is_eager in steps:
        now += gap
        at = limiter.start_at(now, poll=False)
        if is_eager and at < inf:
            now = max(now, at)
        if at <= now:
            assert now >= cool_until
            limiter.start(now)
            starts.append(now)
            running.append(now)
        elif running:
            for event in limiter.finish(error, started=running.pop(0), now=now, rand=rand):
                if isinstance(event, RateLimited):
                    cool_until = now + event.seconds
        assert 0 <= limiter.in_flight == len(running) <= cap

    for first, start in enumerate(starts):
        for count, end in enumerate(starts[first:], start=1):
            assert count <= allowance + rate * (end - start) + 1e-6


rates = st.sampled_from([0.01, 1.0, 100.0, 10_000.0])
changes = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.3, 20.0]),
        st.sampled_from(["start", "start", "429", "valid"]) | rates,
    ),
    min_size=20,
    max_size=60,
)


@given(rate=rates, burst=st.none() | st.sampled_from([1.0, 7.0, 50.0]), changes=changes)
def test_rate_may_be_set_at_any_time(rate, burst, changes):
    """A request may start within 1 / rate then, or of the cool-down; bursts do not add up."""
    limiter = limiter_of(rate, burst=burst, max_in_flight=1000)
    now, cool_until, allowed = 100.0, -inf, 0.0  # allowed: by the rates until now
    spans = [(limiter.burst, [])]  # of one rate each: its burst, and what is allowed at a start

    for gap, change in changes:
        now, allowed = now + gap, allowed + gap * limiter.rate
        if change == limiter.rate:
            limiter.set_rate(change)  # changes nothing: the rate that a 429 has cut stays
        elif isinstance(change, float):
            limiter.set_rate(change)
            spans.append((limiter.burst, []))
            assert limiter.start_at(now) <= max(now, cool_until) + 1.0 / change + EPSILON
        elif change == "start":
            at = limiter.start_at(now)
            now, allowed = at, allowed + (at - now) * limiter.rate
            assert now >= cool_until
            limiter.start(now)
            spans[-1][1].append(allowed)
        elif limiter.in_flight:
            error = limited() if change == "429" else None
            limiter.finish(error, started=now, now=now, rand=0.0)
            cool_until = now + limiter.cool_down_left(now)

    together = max(spans)[0], [start for _, starts in spans for start in starts]
    for allowance, starts in (*spans, together):
        for first, begin in enumerate(starts):
            for count, end in enumerate(starts[first:], start=1):
                assert count <= allowance + end - begin + 0.001  # requests: sums of floats


# -- admission queues -----------------------------------------------------------------------------


class Queue:
    """Admission queue with a number of requests that can be admitted."""

    loop = None
    is_abandoned = False

    def __init__(self, name, log, *, waiters=1, admitted=0):
        self.name, self.log, self.waiters, self.admitted = name, log, waiters, admitted

    @property
    def has_waiters(self):
        return self.waiters > 0

    def spread_again(self):
        self.log.append(f"spread {self.name}")

    def serve(self, now):
        assert now is None
        self.log.append(self.name)
        self.admitted -= 1
        return self.admitted >= 0


def test_set_rate_serves_queues_with_waiters():
    """A raised one spreads polls again; removing a queue is idempotent."""
    limiter, log = limiter_of(), []
    first, second, idle = Queue(1, log), Queue(2, log), Queue(3, log, waiters=0)
    for queue in (first, second, idle):
        limiter.add_queue(queue, 0.0)

    limiter.set_rate(10.0)
    for _ in range(2):
        limiter.remove_queue(first)
    limiter.set_rate(20.0)

    assert log == [1, 2, "spread 2", "spread 3", 2]
    assert limiter.queues == (second, idle)
    assert limiter.has_waiters
    limiter.remove_queue(second)
    assert not limiter.has_waiters


def test_queue_that_admitted_a_request_is_served_last_next_time():
    """Clients that share a budget are served in rotation."""
    limiter, log = limiter_of(), []
    queues = [Queue(1, log, admitted=1), Queue(2, log), Queue(3, log)]
    for queue in queues:
        limiter.add_queue(queue, 0.0)

    limiter.serve()
    limiter.serve()

    assert log == [1, 2, 3, 2, 3, 1]
    only, last = limiter_of(), Queue(4, log, admitted=1)
    only.add_queue(last, 0.0)
    only.serve()
    assert log[6:] == [4]


def test_queue_of_a_client_that_was_never_closed_is_removed():
    """When it is collected, or its event loop was closed."""
    limiter, log = limiter_of(), []
    collected, abandoned, used = (Queue(number, log) for number in range(3))
    for queue in (collected, abandoned, used):
        limiter.add_queue(queue, 0.0)

    del collected, queue
    assert limiter.queues == (abandoned, used)
    abandoned.is_abandoned = True
    limiter.set_rate(10.0)

    assert limiter.queues == (used,)
    assert log == [2]


@pytest.mark.parametrize(("now", "is_kept"), [(100.0, True), (99.9, True), (5.0, False)])
def test_limiter_does_not_wait_by_another_clock(now, is_kept):
    """The first queue of a loop whose clock is behind starts afresh; another one does not."""
    limiter = limiter_of(1.0)
    for _ in range(10):
        limiter.start(100.0)
        limiter.finish(FAILURE, started=100.0, now=100.0, rand=0.0)
    limiter.start(100.0)
    limiter.finish(limited(20.0), started=100.0, now=100.0, rand=0.0)
    limiter.set_rate(100.0)
    queue, other = Queue(1, []), Queue(2, [])

    limiter.add_queue(queue, now)
    assert limiter.start_at(now) == (120.0 if is_kept else now)
    assert limiter.current_rate(now) == (1.0 if is_kept else 100.0)
    limiter.start(120.0)
    limiter.finish(limited(20.0), started=120.0, now=120.0, rand=0.0)
    limiter.add_queue(other, 5.0)
    assert limiter.start_at(120.0) == 140.0


# -- cool-down ------------------------------------------------------------------------------------


@pytest.mark.fault("H12")
@pytest.mark.parametrize(
    ("retry_after", "rand", "seconds"),
    [(None, 0.0, 1.0), (None, 0.5, 1.5), (20.0, 0.9, 20.0), (0.5, 0.0, 0.5), (1e9, 0.0, 600.0)],
)
def test_429_stops_polls_and_calls(retry_after, rand, seconds):
    """For Retry-After, at most 600 s; without one for 1 to 2 s."""
    limiter = limiter_of()

    (event,) = send(limiter, limited(retry_after), at=10.0, rand=rand)

    assert event.seconds == limiter.cool_down_left(10.0) == seconds
    assert limiter.start_at(10.0) == limiter.start_at(10.0, poll=False) == 10.0 + seconds
    assert limiter.cool_down_left(10.0 + seconds) == 0.0


@pytest.mark.fault("H12")
def test_each_429_in_a_row_doubles_the_cool_down_up_to_60_seconds():
    """Until a valid response to a request sent after the cool-down."""
    limiter, now, seconds = limiter_of(), 0.0, []

    for _ in range(8):
        seconds.append(send(limiter, limited(), at=now)[0].seconds)
        now = limiter.start_at(now)

    assert seconds == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    send(limiter, at=now)
    assert send(limiter, limited(), at=now + 1)[0].seconds == 1.0


def test_response_to_a_request_sent_before_the_429_does_not_reset_the_cool_down():
    """It was in flight already and says nothing about the time after."""
    limiter = limiter_of()
    limiter.start(0.0)

    send(limiter, limited(), at=0.1)
    limiter.finish(None, started=0.0, now=0.2, rand=0.0)

    assert send(limiter, limited(), at=5.0)[0].seconds == 2.0


def test_20_429s_of_one_burst_count_once():
    """One event and one cut; the longest Retry-After among them holds."""
    limiter = limiter_of(burst=20.0)
    for _ in range(20):
        limiter.start(0.0)

    events = [
        limiter.finish(limited(after), started=0.0, now=0.1 * place, rand=0.0)
        for place, after in enumerate([5.0] * 10 + [9.0] + [5.0] * 9)
    ]

    assert [len(each) for each in events] == [1] + [0] * 19
    assert limiter.start_at(2.0) == 1.0 + 9.0
    assert limiter.current_rate(2.0) == 70.0
    assert limiter.pauses == 1


@pytest.mark.fault("Q21")
def test_503s_between_valid_responses_count_as_one_429():
    """They cut the rate and begin a cool-down, and open no circuit."""
    limiter = steady(10.0, seconds=60)
    for place in range(10):
        assert send(limiter, UNAVAILABLE, at=100.0 + place / 10) == ()
    assert send(limiter, at=101.0) == ()

    (event,) = send(limiter, UNAVAILABLE, at=101.1, rand=0.5)
    assert event == RateLimited(seconds=1.5, rate=pytest.approx(7.0, rel=0.05))
    assert send(limiter, UNAVAILABLE, at=101.1, rand=0.5) == ()
    assert limiter.start_at(102.0) == limiter.start_at(102.0, poll=False) == 102.6
    assert (limiter.is_circuit_open, limiter.pauses) == (False, 1)


@pytest.mark.fault("Q21")
def test_503s_open_the_circuit_2_seconds_after_the_last_valid_response():
    """Until then they are refusals; a failed task under a 503 is a valid response."""
    limiter = limiter_of(1000.0)
    send(limiter, at=100.0)  # as of a task that was read, whatever the status
    early = [send(limiter, UNAVAILABLE, at=101.9, poll=place > 9) for place in range(30)]
    late = [send(limiter, UNAVAILABLE, at=102.0) for _ in range(10)]

    assert early == [()] * 30
    assert late == [()] * 9 + [(CircuitOpened(failures=10),)]


@pytest.mark.fault("Q21")
def test_refused_probe_is_repeated_after_half_an_interval():
    """A response of before the outage came late, so that the 503 shows nothing."""
    limiter = limiter_of(1000.0)
    limiter.start(99.0)
    for _ in range(10):
        send(limiter, FAILURE, at=100.0)
    limiter.start(102.5)
    limiter.finish(None, started=99.0, now=102.6, rand=0.0)
    limiter.finish(UNAVAILABLE, started=102.5, now=102.7, rand=0.0)

    assert limiter.is_circuit_open
    assert limiter.start_at(102.7) == 105.0


# -- rate cut -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "seconds"), [(10.0, 60), (50.0, 2)])
def test_429_cuts_the_rate_to_a_share_of_the_measured_rate(rate, seconds):
    """To 0.7 of it, with a smaller burst; it grows back within a minute."""
    limiter = steady(rate, seconds=seconds)

    (event,) = send(limiter, limited(20.0), at=100.0)

    assert event.rate == pytest.approx(0.7 * rate, rel=0.05)
    assert limiter.current_rate(100.0) == limiter.current_rate(120.0) == event.rate
    assert limiter.current_rate(150.0) == pytest.approx((event.rate + 100.0) / 2)
    assert limiter.current_rate(180.0) == limiter.rate == 100.0
    limiter.start(120.0)
    burst_seconds = (limiter.burst - 1) / limiter.rate
    assert limiter.start_at(120.0) == max(120.0, 120.0 + 1 / event.rate - burst_seconds)


@pytest.mark.parametrize(("interval", "least"), [(1.1, 1.0), (0.1, 56.0)])
def test_further_429s_cut_again_after_a_second(interval, least):
    """Down to 1 request per second; not within a second of the last cut."""
    limiter = steady(80.0, seconds=20)

    starts = [100.0 + interval * place for place in range(20 if interval > 1.0 else 10)]
    rates = [send(limiter, limited(0.9 * interval), at=at)[0].rate for at in starts]

    assert rates[0] == pytest.approx(56.0, rel=0.05)
    assert min(rates) == pytest.approx(least, rel=0.05)


def test_cut_leaves_no_more_than_the_rate():
    """A rate below 1 per second is not cut, and one set below a cut holds."""
    slow, limiter = limiter_of(0.5), steady(80.0, seconds=20)

    assert send(slow, limited(1.0), at=0.0)[0].rate == slow.current_rate(0.5) == 0.5
    send(limiter, limited(1.0), at=100.0)
    limiter.set_rate(5.0)
    assert limiter.current_rate(100.0) == 5.0


# -- release after a pause ------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "seconds"), [(0, 10.0), (1000, 10.0), (5000, 50.0)])
def test_release_takes_10_seconds_or_what_the_rate_needs(count, seconds):
    """Delayed polls do not start as a burst."""
    assert limiter_of().release_over(0.0, count) == seconds


@pytest.mark.parametrize(
    ("count", "seconds"), [(0, 10.0), (1000, 34.21), (3030, 60.0), (5030, 80.0)]
)
def test_release_counts_with_the_growing_rate(count, seconds):
    """After a cut to 1 per second, in and after the cool-down."""
    limiter = limiter_of()
    send(limiter, at=0.0)
    send(limiter, limited(20.0), at=1000.0)

    for now in (1000.0, 1020.0):
        assert limiter.release_over(now, count) == pytest.approx(seconds, abs=0.01)


# -- circuit breaker ------------------------------------------------------------------------------


def test_open_circuit_holds_back_polls_but_not_calls():
    """An abandoned call frees no probe; a call's valid response closes the circuit."""
    limiter = limiter_of(1000.0)
    events = [send(limiter, FAILURE, at=100.0) for _ in range(10)]

    assert events == [()] * 9 + [(CircuitOpened(failures=10),)]
    assert (limiter.start_at(101.0), limiter.start_at(101.0, poll=False)) == (102.5, 101.0)
    limiter.start(102.5)
    limiter.start(103.0, poll=False)
    limiter.abandon(started=103.0, poll=False)
    assert (limiter.start_at(103.0), limiter.is_circuit_open) == (inf, True)
    limiter.abandon(started=102.5)
    assert (limiter.start_at(103.0), limiter.in_flight) == (105.0, 0)
    assert send(limiter, at=104.0, poll=False) == (CircuitClosed(outage=4.0),)
    assert (limiter.is_circuit_open, limiter.pauses) == (False, 1)
