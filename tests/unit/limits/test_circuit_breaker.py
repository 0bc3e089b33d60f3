"""Circuit breaker: which outcomes open it, how probes are paced, and what closes it."""

from __future__ import annotations

from math import inf

import pytest

from ezvideo_async._domain.telemetry import CircuitClosed, CircuitOpened
from ezvideo_async._limits.circuit_breaker import CircuitBreaker, health_of
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

FAILURE = ServerError("HTTP 503", status=503, retryable=True)
NO_RESULT = BadResponseError("x", reason="schema")


def finish(breaker, error=None, *, at, started=None, rand=0.0, poll=True):
    """Finish one request, without a delay unless *started* is given."""
    started = at if started is None else started
    return breaker.finish(error, poll=poll, started=started, now=at, rand=rand)


def opened(*, at=100.0, rand=0.0):
    """Return a breaker that ten failures in a row have just opened."""
    breaker = CircuitBreaker()
    for _ in range(9):
        finish(breaker, FAILURE, at=at - 1)
    assert finish(breaker, FAILURE, at=at, rand=rand) == CircuitOpened(failures=10)
    return breaker


@pytest.mark.parametrize(
    ("error", "health"),
    [
        (FAILURE, False),
        (TransportError("x", reason="dns"), False),
        (RequestTimeoutError("x"), False),
        (TLSError("x"), False),
        (BadResponseError("x", reason="html"), False),
        (PermissionDeniedError("x", retryable=True), False),
        (None, True),
        (RateLimitError("x", status=429), True),
        (BadRequestError("x"), True),
        (TaskNotFoundError("x"), True),
        (AuthenticationError("x"), True),
        (ConfigError("x", status=301), True),
        (PermissionDeniedError("x"), True),
        (ServerError("x", status=501), True),
        (ClosedError("x"), None),
        (ConfigError("x"), None),
        (BadResponseError("x", reason="schema"), None),
        (BadResponseError("foreign id", reason="id_mismatch"), None),
        (RequestTimeoutError("x", reason="local_stall"), None),
        (TransportError("no key", reason="key"), None),
        (TransportError("x", reason="resources"), None),
    ],
    ids=repr,
)
def test_health_is_read_from_the_outcome(error, health):
    """Errors of one id, of the API key and of this process are no failures of the server."""
    assert health_of(error) is health


# -- opening --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "failures"), [(500, 20), (5, 10)])
def test_failures_in_a_row_open_it(successes, failures):
    """20 in any case, 10 when the window has fewer than 20 outcomes."""
    breaker = CircuitBreaker()
    for _ in range(successes):
        finish(breaker, at=0.0)

    events = [finish(breaker, FAILURE, at=1.0) for _ in range(failures)]

    assert events == [None] * (failures - 1) + [CircuitOpened(failures=failures)]
    assert breaker.is_open


@pytest.mark.parametrize(
    ("successes", "outcomes", "is_open"), [({3, 12}, 20, True), ({3, 9, 15}, 200, False)]
)
def test_share_of_90_percent_failures_opens_it(successes, outcomes, is_open):
    """Of at least 20 outcomes; 85 % are not enough."""
    breaker = CircuitBreaker()
    for place in range(outcomes):
        finish(breaker, None if place % 20 in successes else FAILURE, at=1.0 + place / 100)

    assert breaker.is_open is is_open


@pytest.mark.fault("H19")
def test_every_second_response_failing_never_opens_it():
    """Polling continues on a server that fails half of the requests."""
    breaker = CircuitBreaker()

    for place in range(1000):
        assert finish(breaker, FAILURE if place % 2 else None, at=place / 10) is None


def test_outcomes_older_than_30_seconds_do_not_count():
    """Old successes do not hide an outage."""
    breaker = CircuitBreaker()
    for _ in range(500):
        finish(breaker, at=0.0)
    for place in range(19):
        finish(breaker, None if place == 9 else FAILURE, at=31.0 + place / 100)

    assert not breaker.is_open
    assert finish(breaker, FAILURE, at=32.0) == CircuitOpened(failures=10)


def test_outcomes_without_a_result_do_not_count():
    """They neither open it nor interrupt a failure streak."""
    breaker = CircuitBreaker()

    for _ in range(10):
        assert not breaker.is_open
        for _ in range(4):
            finish(breaker, NO_RESULT, at=1.0)
        finish(breaker, FAILURE, at=1.0)

    assert breaker.is_open


# -- open -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rand", "share"), [(0.0, 0.5), (0.5, 0.75)])
def test_probes_are_sent_one_by_one_at_growing_intervals(rand, share):
    """5 s, growing by half to 30 s at most, each times U(0.5, 1)."""
    breaker, now, intervals = opened(rand=rand), 100.0, []

    for _ in range(7):
        at = breaker.next_poll_at()
        intervals.append(at - now)
        now = at
        breaker.start_poll()
        assert breaker.next_poll_at() == inf
        assert finish(breaker, FAILURE, at=now, rand=rand) is None

    assert [interval / share for interval in intervals] == pytest.approx(
        [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0]
    )


@pytest.mark.parametrize("poll", [True, False])
@pytest.mark.parametrize("error", [None, RateLimitError("x"), TaskNotFoundError("x")])
def test_response_from_a_healthy_server_closes_it(error, poll):
    """To a probe or to a single call, also a 429 or a refusal."""
    breaker = opened()

    assert finish(breaker, error, at=102.5, poll=poll) == CircuitClosed(outage=2.5)
    assert not breaker.is_open
    assert breaker.next_poll_at() == -inf


def test_reopening_takes_new_failures():
    """Outcomes from before the outage are forgotten, and probes begin at 5 s again."""
    breaker = CircuitBreaker()
    for place in range(50):
        finish(breaker, FAILURE if place >= 30 else None, at=100.0)
    finish(breaker, FAILURE, at=102.5)
    finish(breaker, at=106.25)

    events = [finish(breaker, FAILURE, at=107.0) for _ in range(10)]

    assert events == [None] * 9 + [CircuitOpened(failures=10)]
    assert breaker.next_poll_at() == 109.5


@pytest.mark.parametrize("error", [FAILURE, None, RateLimitError("x"), NO_RESULT])
def test_requests_from_before_the_outage_change_nothing(error):
    """They neither close the circuit, nor move the probe, nor count as one."""
    breaker = opened()
    breaker.start_poll()

    assert finish(breaker, error, at=101.0, started=99.0, rand=0.9) is None
    breaker.abandon_poll(99.0)
    assert breaker.is_open
    assert breaker.next_poll_at() == inf


@pytest.mark.parametrize("error", [FAILURE, NO_RESULT])
def test_failed_single_call_does_not_delay_the_probe(error):
    """Nor does it end one in flight: the call may have failed for a reason of its own."""
    breaker = opened()

    finish(breaker, error, at=101.0, poll=False)
    assert breaker.next_poll_at() == 102.5
    breaker.start_poll()
    finish(breaker, error, at=102.6, poll=False)
    assert breaker.next_poll_at() == inf


def test_probe_without_a_result_is_repeated_after_half_an_interval():
    """A response about one id only shows nothing of the server."""
    breaker = opened()
    breaker.start_poll()

    finish(breaker, NO_RESULT, at=102.5)

    assert breaker.is_open
    assert breaker.next_poll_at() == 105.0
