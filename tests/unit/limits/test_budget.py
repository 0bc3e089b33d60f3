"""How much may be asked: rate, places, cool-down, breaker and retry tokens, in exact seconds."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._domain.telemetry import CircuitClosed, CircuitOpened, RateLimited
from ezvideo_async._limits.budget import RequestBudget
from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ClosedError,
    ConfigError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
    TLSError,
    TransportError,
)

OUT = ServerError("HTTP 503", status=503, retryable=True)
LIMITED = RateLimitError("HTTP 429", status=429, retryable=True)


def limited(retry_after):
    return RateLimitError("HTTP 429", status=429, retryable=True, retry_after=retry_after)


def send(budget, error=None, *, at, rand=0.0, started=None):
    """One request that is answered at once."""
    budget.start(at)
    return budget.finish(error, started=at if started is None else started, now=at, rand=rand)


def opened(at=100.0, rand=0.0):
    """A budget whose breaker has just opened, by ten failures in a row."""
    budget = RequestBudget(rate=1000.0)
    for _ in range(9):
        send(budget, OUT, at=at - 1)
    assert send(budget, OUT, at=at, rand=rand) == (CircuitOpened(failures=10),)
    return budget


# -- rate and places ------------------------------------------------------------------------


def test_a_burst_starts_at_once_and_the_rest_at_the_rate():
    """Three at once, then one each tenth of a second."""
    budget = RequestBudget(rate=10.0, burst=3)
    starts = []

    now = 100.0
    for _ in range(6):
        now = budget.start_at(now)
        budget.start(now)
        starts.append(round(now, 9))

    assert starts == [100.0, 100.0, 100.0, 100.1, 100.2, 100.3]


@pytest.mark.parametrize(("rate", "burst"), [(1.0, 1), (20.0, 1), (100.0, 5), (1000.0, 50)])
def test_the_default_burst_is_what_the_rate_allows_in_50_ms(rate, burst):
    """At least one; no peak that a server would notice."""
    budget = RequestBudget(rate=rate)

    for _ in range(burst):
        assert budget.start_at(0.0) == pytest.approx(0.0, abs=1e-9)
        budget.start(0.0)

    assert budget.start_at(0.0) == pytest.approx(1 / rate, abs=1e-9)


def test_a_quiet_time_saves_up_no_more_than_the_burst():
    """An hour without requests is no credit for an hour's worth of them."""
    budget = RequestBudget(rate=10.0, burst=2)
    send(budget, at=0.0)

    for _ in range(2):
        assert budget.start_at(3600.0) == 3600.0
        send(budget, at=3600.0)
    assert budget.start_at(3600.0) == 3600.1


def test_requests_in_flight_are_capped():
    """The next may start only when one has ended, however it ended."""
    budget = RequestBudget(rate=1000.0, burst=10, max_in_flight=2)
    budget.start(0.0)
    budget.start(0.0)

    assert (budget.in_flight, budget.max_in_flight) == (2, 2)
    assert budget.start_at(0.0) == inf
    assert budget.start_at(0.0, poll=False) == inf
    budget.finish(None, started=0.0, now=0.0, rand=0.0)
    assert budget.start_at(0.0) == 0.0
    budget.start(0.0)
    budget.abandon(started=0.0)
    assert (budget.in_flight, budget.start_at(0.0)) == (1, 0.0)


def test_the_rate_may_be_set_while_running():
    """From then on it is the new one, up and down."""
    budget = RequestBudget(rate=10.0, burst=1)
    budget.start(0.0)

    budget.rate = 2
    budget.start(1.0)
    assert budget.start_at(1.0) == 1.5
    assert (budget.rate, budget.current_rate(1.0)) == (2.0, 2.0)
    budget.rate = 100.0
    budget.start(2.0)
    assert budget.start_at(2.0) == 2.01
    with pytest.raises(ConfigError, match=r"^rate must be"):
        budget.rate = 0
    assert budget.rate == 100.0


@pytest.mark.fault("C24")
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rate", [0, -1, nan, inf, -inf, 1_000_001, True, "5", None, 10**400, 10**5000]),
        ("burst", [0, 0.5, -1, nan, inf, 1_000_001, True, "5", 10**400]),
        ("max_in_flight", [0, -1, 10_001, 1.0, nan, True, "5", None, 10**5000]),
    ],
)
def test_unusable_limits_are_refused(name, values):
    """With a sentence that names the option."""
    for value in values:
        with pytest.raises(ConfigError, match=rf"^{name} must be "):
            RequestBudget(**{name: value})


def test_repr_tells_the_limits():
    """As they were given."""
    assert (
        repr(RequestBudget(rate=20, max_in_flight=3)) == "RequestBudget(rate=20, max_in_flight=3)"
    )


class Waiting:
    """Waits for a budget, for a number of turns."""

    def __init__(self, name, log, *, turns=0):
        self.name, self.log, self.turns = name, log, turns

    is_waiting = False

    def serve(self, due):
        assert due == -inf
        self.log.append(self.name)
        self.turns -= 1
        return self.turns >= 0

    def hear(self, signal):
        raise AssertionError(signal)


def test_listeners_are_served_until_they_take_it_back():
    """Each once, in the order in which they came; taking back twice is nothing."""
    budget, log = RequestBudget(), []
    first, second = Waiting(1, log), Waiting(2, log)

    for listener in (first, second, first):
        budget.listen(listener)
    budget.notify()
    budget.unlisten(first)
    budget.unlisten(first)
    budget.notify()

    assert log == [1, 2, 2]
    assert budget.listeners == (second,)


def test_who_was_served_is_served_last_the_next_time():
    """Clients that share a budget take turns, also when there is one place for all."""
    budget, log = RequestBudget(), []
    for listener in (Waiting(1, log, turns=1), Waiting(2, log), Waiting(3, log)):
        budget.listen(listener)

    budget.notify()
    budget.notify()

    assert log == [1, 2, 3, 2, 3, 1]


def test_a_rate_that_is_set_is_told_at_once():
    """Who waits for a slow budget need not wait for the old turn."""
    budget, log = RequestBudget(rate=1.0), []
    budget.listen(Waiting(1, log))

    budget.rate = 100.0

    assert log == [1]


def test_a_raised_rate_counts_for_what_was_sent_before():
    """What was sent is so many requests, not so many seconds of the old rate."""
    budget = RequestBudget(rate=1.0, burst=50)
    for _ in range(50):
        budget.start(0.0)
    assert budget.start_at(0.0) == 1.0

    budget.rate = 100.0

    assert budget.start_at(0.0) == pytest.approx(0.01)


def test_a_call_that_fails_paces_no_probe():
    """While polls are parked, single calls for a bad task neither probe nor hold probes up."""
    budget = RequestBudget()
    for _ in range(20):
        budget.start(0.0)
        budget.finish(OUT, started=0.0, now=0.0, rand=0.0)
    probe_at = budget.start_at(0.0)

    for now in (0.5, 1.0, 1.5):
        budget.start(now, poll=False)
        assert budget.start_at(now) == probe_at
        budget.finish(OUT, started=now, now=now, rand=0.0, poll=False)
    budget.start(2.0, poll=False)
    budget.abandon(started=2.0, poll=False)
    budget.start(2.1, poll=False)
    budget.finish(
        BadResponseError("x", reason="not_json"), started=2.1, now=2.1, rand=0.0, poll=False
    )

    assert (budget.is_server_out, budget.start_at(2.2), budget.in_flight) == (True, probe_at, 0)


@pytest.mark.parametrize("ours", [ClosedError("closed"), ConfigError("no key")])
def test_trouble_of_our_own_tells_nothing_about_the_server(ours):
    """A client that is closed, or a key that can't be had, neither opens nor ends an outage."""
    budget = RequestBudget()
    for _ in range(20):
        budget.start(0.0)
        budget.finish(OUT, started=0.0, now=0.0, rand=0.0)
    budget.start(10.0)

    assert budget.finish(ours, started=10.0, now=10.0, rand=0.0) == ()
    assert budget.is_server_out


def test_a_call_that_goes_well_ends_the_outage():
    """A server that answers one caller is back for all."""
    budget = RequestBudget()
    for _ in range(20):
        budget.start(0.0)
        budget.finish(OUT, started=0.0, now=0.0, rand=0.0)
    budget.start(1.0, poll=False)
    (signal,) = budget.finish(None, started=1.0, now=1.5, rand=0.0, poll=False)

    assert (type(signal), signal.outage, budget.is_server_out) == (CircuitClosed, 1.5, False)


steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.3, 1.0, 7.0]),
        st.sampled_from([None, None, None, LIMITED, limited(0.1), limited(5.0), OUT]),
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
def test_the_sends_in_any_window_are_bounded(rate, burst, cap, steps):
    """At most burst + rate * w in w seconds, at most *cap* in flight, none in a cool-down."""
    budget = RequestBudget(rate=rate, burst=burst, max_in_flight=cap)
    allowance = max(1.0, rate * 0.05) if burst is None else burst
    now, sends, running, cool_until = 100.0, [], [], -inf

    for gap, outcome, rand, eager in steps:
        now += gap
        at = budget.start_at(now, poll=False)
        if eager and at < inf:
            now = max(now, at)
        if at <= now:
            assert now >= cool_until
            budget.start(now)
            sends.append(now)
            running.append(now)
        elif running:
            for signal in budget.finish(outcome, started=running.pop(0), now=now, rand=rand):
                if isinstance(signal, RateLimited):
                    cool_until = now + signal.seconds
        assert 0 <= budget.in_flight == len(running) <= cap

    for first, start in enumerate(sends):
        for count, end in enumerate(sends[first:], start=1):
            assert count <= allowance + rate * (end - start) + 1e-6


# -- cool-down ------------------------------------------------------------------------------


@pytest.mark.fault("H12")
@pytest.mark.parametrize(
    ("retry_after", "rand", "seconds"),
    [(None, 0.0, 1.0), (None, 0.5, 1.5), (20.0, 0.9, 20.0), (0.5, 0.0, 0.5), (1e9, 0.0, 600.0)],
)
def test_a_429_stops_everybody(retry_after, rand, seconds):
    """For Retry-After, capped at ten minutes, or else for one to two seconds."""
    budget = RequestBudget(rate=100.0)

    (signal,) = send(budget, limited(retry_after), at=10.0, rand=rand)

    assert signal.seconds == seconds
    assert budget.start_at(10.0) == 10.0 + seconds
    assert budget.start_at(10.0, poll=False) == 10.0 + seconds
    assert budget.cool_down_left(10.0) == seconds
    assert budget.cool_down_left(10.0 + seconds) == 0.0
    assert budget.pauses == 1


@pytest.mark.fault("H12")
def test_every_further_429_doubles_the_pause_up_to_a_minute():
    """Until an answer comes, sent after the pause."""
    budget, now, pauses = RequestBudget(rate=100.0), 0.0, []

    for _ in range(8):
        pauses.append(send(budget, LIMITED, at=now)[0].seconds)
        now = budget.start_at(now)

    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    send(budget, at=now)
    assert send(budget, LIMITED, at=now + 1)[0].seconds == 1.0


def test_an_answer_sent_before_the_429_does_not_shorten_the_next_pause():
    """It was in flight already: it says nothing about the time after."""
    budget = RequestBudget(rate=100.0)
    budget.start(0.0)

    send(budget, LIMITED, at=0.1)
    budget.finish(None, started=0.0, now=0.2, rand=0.0)

    assert send(budget, LIMITED, at=5.0)[0].seconds == 2.0


def test_twenty_429s_of_one_burst_count_once():
    """One signal, one cut; a longer Retry-After among them still holds."""
    budget = RequestBudget(rate=100.0, burst=20)
    for _ in range(20):
        budget.start(0.0)

    signals = [
        budget.finish(limited(after), started=0.0, now=0.01 * place, rand=0.0)
        for place, after in enumerate([5.0] * 19 + [9.0])
    ]

    assert [len(each) for each in signals] == [1] + [0] * 19
    assert budget.start_at(1.0) == 0.19 + 9.0
    assert budget.current_rate(1.0) == 70.0
    assert budget.pauses == 1


def steady(rate, *, seconds, until):
    """A budget of 100 requests a second that was used at *rate*."""
    budget = RequestBudget(rate=100.0)
    for place in range(int(rate * seconds)):
        send(budget, at=until - seconds + place / rate)
    return budget


def test_a_429_cuts_to_a_share_of_what_was_measured():
    """0.7 of the rate lately used, not of the rate allowed; it grows back within a minute."""
    budget = steady(10.0, seconds=60, until=100.0)

    (signal,) = send(budget, limited(20.0), at=100.0)

    assert signal.rate == pytest.approx(7.0, rel=0.05)
    assert budget.current_rate(100.0) == budget.current_rate(120.0) == signal.rate
    assert budget.current_rate(150.0) == pytest.approx((signal.rate + 100.0) / 2)
    assert budget.current_rate(180.0) == 100.0
    assert budget.rate == 100.0


def test_a_young_budget_measures_right():
    """The average is corrected for its empty beginning."""
    budget = steady(50.0, seconds=2, until=100.0)

    (signal,) = send(budget, limited(1.0), at=100.0)

    assert signal.rate == pytest.approx(35.0, rel=0.05)


def test_a_429_after_the_pause_cuts_again():
    """A server that allows much less is found at last, but not below one a second."""
    budget, now = steady(80.0, seconds=20, until=100.0), 100.0
    rates = []

    for _ in range(20):
        rates.append(send(budget, limited(1.0), at=now)[0].rate)
        now += 1.1

    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(56.0, rel=0.05)
    assert rates[-1] == 1.0


def test_cuts_are_a_second_apart():
    """A Retry-After of a few milliseconds does not drive the rate to the floor."""
    budget = steady(80.0, seconds=20, until=100.0)

    rates = [send(budget, limited(0.01), at=100.0 + 0.1 * place)[0].rate for place in range(10)]

    assert min(rates) == rates[0]


def test_a_slow_rate_is_not_cut_to_nothing():
    """Nor raised by a cut."""
    budget = RequestBudget(rate=0.5)

    assert send(budget, limited(1.0), at=0.0)[0].rate == 0.5
    assert budget.current_rate(0.5) == 0.5


def test_lowering_the_rate_below_the_cut_takes_the_lower():
    """A cut never allows more than the rate that was set."""
    budget = steady(80.0, seconds=20, until=100.0)
    send(budget, limited(1.0), at=100.0)

    budget.rate = 5.0

    assert budget.current_rate(100.0) == 5.0


@pytest.mark.parametrize(("count", "seconds"), [(0, 10.0), (1000, 10.0), (5000, 50.0)])
def test_polls_come_back_over_ten_seconds_or_as_the_rate_allows(count, seconds):
    """The end of a pause is no starting gun."""
    assert seconds == RequestBudget(rate=100.0).release_over(0.0, count)


@pytest.mark.parametrize("now", [1000.0, 1020.0])
@pytest.mark.parametrize(
    ("count", "seconds"), [(0, 10.0), (1000, 34.21), (3030, 60.0), (5030, 80.0)]
)
def test_polls_come_back_as_fast_as_the_rate_grows_back(now, count, seconds):
    """After a cut to 1 a second: over the time in which the growing rate lets so many through."""
    budget = RequestBudget(rate=100.0)
    send(budget, at=0.0)
    send(budget, limited(20.0), at=1000.0)

    assert budget.current_rate(1020.0) == 1.0
    assert budget.release_over(now, count) == pytest.approx(seconds, abs=0.01)


# -- breaker --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "opens"),
    [
        (OUT, True),
        (TransportError("x", reason="dns"), True),
        (RequestTimeoutError("x"), True),
        (TLSError("x"), True),
        (BadResponseError("x", reason="html"), True),
        (PermissionDeniedError("x", retryable=True), True),
        (None, False),
        (LIMITED, False),
        (BadRequestError("x"), False),
        (TaskNotFoundError("x"), False),
        (AuthenticationError("x"), False),
        (ConfigError("x"), False),
        (PermissionDeniedError("x"), False),
        (ServerError("x", status=501), False),
        (BadResponseError("x", reason="schema"), False),
        (BadResponseError("x", reason="id_mismatch"), False),
        (RequestTimeoutError("x", reason="local_stall"), False),
        (TransportError("x", reason="resources"), False),
    ],
    ids=lambda value: (
        f"{type(value).__name__} {getattr(value, 'reason', '')}".strip()
        if not isinstance(value, bool)
        else None
    ),
)
def test_only_trouble_of_the_server_opens_the_breaker(error, opens):
    """What is about one id, about us or about our key never counts."""
    for repeated in range(2):
        budget = RequestBudget(rate=1000.0)
        for _ in range(40):
            send(budget, error, at=5.0 * repeated)
        assert budget.is_server_out is opens


def test_twenty_failures_in_a_row_open_it():
    """At once, whatever was before."""
    budget = RequestBudget(rate=1000.0)
    for _ in range(500):
        send(budget, at=0.0)

    signals = [send(budget, OUT, at=1.0) for _ in range(20)]

    assert signals == [()] * 19 + [(CircuitOpened(failures=20),)]
    assert (budget.is_server_out, budget.pauses) == (True, 1)


def test_ten_in_a_row_open_it_when_there_are_few_outcomes():
    """A handful of tasks must not wait for twenty failures."""
    budget = RequestBudget(rate=1000.0)
    for _ in range(5):
        send(budget, at=0.0)

    signals = [send(budget, OUT, at=1.0) for _ in range(10)]

    assert signals == [()] * 9 + [(CircuitOpened(failures=10),)]


def test_nine_in_ten_failing_open_it():
    """Of at least twenty outcomes within half a minute."""
    budget = RequestBudget(rate=1000.0)
    for place in range(20):
        send(budget, None if place in {3, 12} else OUT, at=1.0)

    assert budget.is_server_out


def test_fewer_than_nine_in_ten_do_not():
    """85 % trouble is no outage yet."""
    budget = RequestBudget(rate=1000.0)
    for place in range(200):
        send(budget, None if place % 20 in {3, 9, 15} else OUT, at=1.0 + place / 100)

    assert not budget.is_server_out


@pytest.mark.fault("H19")
def test_every_second_answer_failing_never_opens_it():
    """Polling goes on through a half-broken server."""
    budget = RequestBudget(rate=1000.0)

    for place in range(1000):
        assert send(budget, OUT if place % 2 else None, at=place / 10) == ()
    assert not budget.is_server_out


def test_answers_older_than_half_a_minute_do_not_count():
    """A good past does not hide an outage."""
    budget = RequestBudget(rate=1000.0)
    for _ in range(500):
        send(budget, at=0.0)
    for place in range(19):
        send(budget, None if place == 9 else OUT, at=31.0 + place / 100)

    assert not budget.is_server_out
    assert send(budget, OUT, at=32.0) == (CircuitOpened(failures=10),)


@pytest.mark.parametrize(("rand", "share"), [(0.0, 0.5), (0.5, 0.75)])
def test_probes_are_sent_one_by_one_with_growing_gaps(rand, share):
    """5 s growing by half to 30 s at most, each times U(0.5, 1); one in flight at a time."""
    budget, now, gaps = opened(rand=rand), 100.0, []

    for _ in range(7):
        at = budget.start_at(now)
        gaps.append(at - now)
        now = at
        budget.start(now)
        assert budget.start_at(now) == inf
        assert budget.finish(OUT, started=now, now=now, rand=rand) == ()

    assert [gap / share for gap in gaps] == pytest.approx(
        [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0]
    )
    assert budget.pauses == 1


@pytest.mark.parametrize(
    "answer", [None, LIMITED, TaskNotFoundError("x"), AuthenticationError("x")]
)
def test_an_answer_to_a_probe_closes_it(answer):
    """Also a 429 or a refusal: the server is there again."""
    budget = opened()

    signals = send(budget, answer, at=102.5)

    assert CircuitClosed(outage=2.5) in signals
    assert not budget.is_server_out
    if answer is not LIMITED:
        assert budget.start_at(102.5) == 102.5


def test_it_opens_anew_only_after_new_failures():
    """What was counted before the outage is forgotten with it."""
    budget = opened()
    send(budget, at=102.5)

    signals = [send(budget, OUT, at=103.0) for _ in range(10)]

    assert signals == [()] * 9 + [(CircuitOpened(failures=10),)]
    assert budget.start_at(103.0) == 105.5


@pytest.mark.parametrize("straggler", [OUT, None, LIMITED, BadResponseError("x", reason="schema")])
def test_stragglers_do_not_disturb(straggler):
    """What was sent before it opened neither closes it, nor moves the probe, nor counts as one."""
    budget = opened()
    for _ in range(2):
        budget.start(99.0)

    before = budget.start_at(101.0)
    signals = budget.finish(straggler, started=99.0, now=101.0, rand=0.9)
    budget.abandon(started=99.0)

    assert not any(isinstance(signal, CircuitClosed) for signal in signals)
    assert budget.is_server_out
    assert budget.start_at(101.0) == before or straggler is LIMITED


@pytest.mark.parametrize("answer", ["abandoned", BadResponseError("x", reason="schema")])
def test_a_probe_without_a_verdict_is_followed_by_another_after_half_a_gap(answer):
    """A cancelled one, or an answer that is about one id, says nothing about the server."""
    budget = opened()
    budget.start(102.5)

    if answer == "abandoned":
        budget.abandon(started=102.5)
    else:
        budget.finish(answer, started=102.5, now=102.5, rand=0.0)

    assert budget.is_server_out
    assert budget.start_at(102.5) == 105.0


def test_single_calls_pass_an_open_breaker():
    """A user who asks is not made to wait for a probe; his answer closes it."""
    budget = opened()

    assert budget.start_at(101.0) == 102.5
    assert budget.start_at(101.0, poll=False) == 101.0
    assert send(budget, at=101.0) == (CircuitClosed(outage=1.0),)


# -- retries within one call ----------------------------------------------------------------


@pytest.mark.parametrize(("throttled", "count"), [(False, 7), (True, 20)])
def test_a_full_budget_pays_for_so_many_retries(throttled, count):
    """Seven after trouble, twenty after a 429; then none until answers pay in."""
    budget = RequestBudget()

    assert [budget.take_retry(throttled=throttled) for _ in range(count + 2)] == (
        [True] * count + [False] * 2
    )


@pytest.mark.parametrize(("throttled", "answers"), [(False, 14), (True, 5)])
def test_answers_pay_for_retries(throttled, answers):
    """Fourteen first tries for a retry after trouble, five for one after a 429."""
    budget = RequestBudget()
    while budget.take_retry(throttled=True):
        pass

    for _ in range(answers - 1):
        budget.credit_retry(retried=False)
    assert not budget.take_retry(throttled=throttled)
    budget.credit_retry(retried=False)
    assert budget.take_retry(throttled=throttled)


@pytest.mark.parametrize("throttled", [False, True])
def test_a_successful_retry_gets_its_cost_back(throttled):
    """So a retry that helps is free, and the budget never holds more than it began with."""
    budget = RequestBudget()

    for _ in range(100):
        assert budget.take_retry(throttled=throttled)
        budget.credit_retry(retried=True, throttled=throttled)
    for _ in range(100):
        budget.credit_retry(retried=False)
    assert [budget.take_retry(throttled=False) for _ in range(8)] == [True] * 7 + [False]
