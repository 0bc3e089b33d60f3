"""Request budget: validation of its options and the shared rate limiter."""

from __future__ import annotations

from math import inf, nan

import pytest

from ezvideo_async._limits.budget import RequestBudget, rate_limiter_of
from ezvideo_async.errors import ConfigError, RateLimitError


@pytest.mark.fault("C24")
@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "rate",
            [
                0,
                -1,
                5e-324,
                1e-7,
                1e12,
                nan,
                inf,
                -inf,
                1_000_001,
                True,
                "5",
                None,
                10**400,
                10**5000,
            ],
        ),
        ("burst", [0, 0.5, -1, nan, inf, 1_000_001, True, "5", 10**400]),
        ("max_in_flight", [0, -1, 10_001, 1.0, nan, True, "5", None, 10**5000]),
    ],
)
def test_unusable_options_are_refused(name, values):
    """The error names the option."""
    for value in values:
        with pytest.raises(ConfigError, match=rf"^{name} must be "):
            RequestBudget(**{name: value})


def test_repr_shows_rate_and_max_in_flight():
    """As they were given."""
    budget = RequestBudget(rate=20, max_in_flight=3)

    assert repr(budget) == "RequestBudget(rate=20, max_in_flight=3)"


def test_rate_may_be_set_at_any_time():
    """An unusable rate is refused and changes nothing."""
    budget = RequestBudget(rate=10.0, max_in_flight=3)

    budget.rate = 200
    with pytest.raises(ConfigError, match=r"^rate must be"):
        budget.rate = 0

    assert (budget.rate, budget.burst, budget.max_in_flight) == (200.0, 10.0, 3)
    assert rate_limiter_of(budget).rate == 200.0


def test_budget_shows_the_state_of_its_limiter():
    """Requests in flight, and the rate that a 429 has cut."""
    budget = RequestBudget(rate=100.0, burst=7)
    limiter = rate_limiter_of(budget)

    for _ in range(2):
        limiter.start(0.0)
    limiter.finish(RateLimitError("HTTP 429", retry_after=1.0), started=0.0, now=0.0, rand=0.0)

    assert (budget.burst, budget.in_flight) == (7.0, 1)
    assert (budget.current_rate(0.0), budget.current_rate(61.0)) == (70.0, 100.0)
