"""Refusal meter: which 503s are a rate limit, and which an outage."""

from __future__ import annotations

from math import inf

import pytest

from ezvideo_async._limits.circuit_breaker import CircuitBreaker
from ezvideo_async._limits.refusal_meter import RefusalMeter, is_refusal
from ezvideo_async.errors import BadRequestError, RateLimitError, ServerError, TransportError

VALID = None
UNAVAILABLE = ServerError("HTTP 503", status=503, retryable=True)
OTHER_FAILURE = ServerError("HTTP 502", status=502, retryable=True)
LIMITED = RateLimitError("HTTP 429", status=429, retryable=True)
REFUSED = BadRequestError("HTTP 400", status=400)
NO_RESPONSE = TransportError("x", reason="connect")


class Meter:
    """Records outcomes as the rate limiter does."""

    def __init__(self):
        self.breaker = CircuitBreaker()
        self.meter = RefusalMeter(self.breaker)
        self.valid_at = -inf

    def reports(self, outcomes, *, at, every=1e-6):
        """Record outcomes one after another; return when a rate limit was reported."""
        reported = []
        for place, error in enumerate(outcomes):
            now = at + place * every
            if error is VALID:
                self.valid_at = now
            elif self.meter.record(error, now, valid_at=self.valid_at):
                reported.append(now)
            if error is VALID or not is_refusal(error, now - self.valid_at):
                self.breaker.finish(error, poll=True, started=now, now=now, rand=0.5)
        return reported


@pytest.mark.fault("Q21")
@pytest.mark.parametrize(
    ("outcomes", "is_limiting"),
    [
        ([UNAVAILABLE] * 2 + [VALID] * 5 + [UNAVAILABLE], True),
        ([UNAVAILABLE, LIMITED, VALID, UNAVAILABLE], True),
        ([UNAVAILABLE, VALID, UNAVAILABLE], False),
        ([UNAVAILABLE] * 2 + [VALID] * 26 + [UNAVAILABLE], True),
        ([UNAVAILABLE] * 2 + [VALID] * 27 + [UNAVAILABLE], False),
        ([UNAVAILABLE] * 2 + [VALID] * 20 + [REFUSED] * 7 + [UNAVAILABLE], False),
        ([UNAVAILABLE] * 2 + [VALID] * 26 + [NO_RESPONSE] * 9 + [UNAVAILABLE], True),
        ([VALID] * 9 + [UNAVAILABLE] * 50, False),
        ([OTHER_FAILURE, VALID] * 20, False),
        ([LIMITED, VALID] * 20, False),
        ([VALID, NO_RESPONSE] * 20, False),
    ],
    ids=[
        "some pass and some do not",
        "429s are refusals",
        "two of three",
        "more than one in ten",
        "one in ten",
        "one in ten with other errors",
        "requests without a response",
        "an outage begins",
        "502",
        "429 alone",
        "no response",
    ],
)
def test_refusals_between_valid_responses_are_a_rate_limit(outcomes, is_limiting):
    """Three and more than one in ten, with a valid response between them."""
    assert bool(Meter().reports(outcomes, at=100.0)) is is_limiting


@pytest.mark.fault("Q21")
def test_rate_limit_is_reported_once_in_5_seconds():
    """However many refusals there are."""
    assert Meter().reports([VALID, UNAVAILABLE] * 60, at=0.0, every=0.125) == [
        0.625,
        5.625,
        10.625,
    ]


@pytest.mark.fault("Q21")
def test_refusals_of_5_seconds_are_counted():
    """Older ones do not count, nor do older responses."""
    assert Meter().reports([UNAVAILABLE, VALID, UNAVAILABLE] * 3, at=0.0, every=2.0) == []

    meter = Meter()
    meter.reports([VALID] * 1000, at=90.0)

    outcomes = [UNAVAILABLE, VALID, UNAVAILABLE, UNAVAILABLE]
    assert meter.reports(outcomes, at=100.0, every=0.5) == [101.5]


@pytest.mark.fault("Q21")
@pytest.mark.parametrize(
    ("error", "since_valid", "refused"),
    [
        (UNAVAILABLE, 1.9, True),
        (UNAVAILABLE, 2.0, False),
        (UNAVAILABLE, inf, False),
        (OTHER_FAILURE, 0.0, False),
        (NO_RESPONSE, 0.0, False),
    ],
)
def test_503_within_2_seconds_of_a_valid_response_is_a_refusal(error, since_valid, refused):
    """Later, and before any valid response, it may be an outage."""
    assert is_refusal(error, since_valid) is refused
