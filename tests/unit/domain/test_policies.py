"""Polling and retry policies: formulas, bounds, and refused values."""

from __future__ import annotations

from math import inf, isfinite, nan

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._domain.policies import PollPolicy, RetryPolicy
from ezvideo_async.errors import ConfigError

rands = st.floats(0, 1, exclude_max=True)
server_delays = st.none() | st.floats(0, 1e9)
poll_policies = st.builds(
    PollPolicy,
    interval=st.floats(1.0, 1000.0),
    min_interval=st.floats(0.001, 1.0),
    jitter=st.floats(0, 0.99),
    backoff_max=st.floats(0.001, 5000.0),
    retry_after_max=st.floats(0.001, 5000.0),
)


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ({"rand": 0.0}, 4.5),
        ({"rand": 0.5}, 5.0),
        ({"rand": 0.75}, 5.25),
        ({"rand": 0.0, "interval": 20.0}, 18.0),
        ({"rand": 0.5, "interval": 0.5}, 1.0),
        ({"rand": 0.0, "errors": 1}, 5.0),
        ({"rand": 0.5, "errors": 1}, 7.5),
        ({"rand": 0.5, "errors": 1, "interval": 20.0}, 7.5),
        ({"rand": 0.5, "errors": 2}, 12.5),
        ({"rand": 0.5, "errors": 3}, 22.5),
        ({"rand": 0.5, "errors": 4}, 32.5),
        ({"rand": 0.5, "errors": 1_000_000}, 32.5),
        ({"rand": 0.5, "poll_after": 2.5}, 2.5),
        ({"rand": 0.5, "poll_after": 2.5, "interval": 20.0}, 2.5),
        ({"rand": 0.5, "poll_after": 0.0}, 1.0),
        ({"rand": 0.5, "poll_after": 900.0}, 60.0),
        ({"rand": 0.5, "retry_after": 20.0}, 20.0),
        ({"rand": 0.5, "retry_after": 2.0, "interval": 20.0}, 2.0),
        ({"rand": 0.5, "retry_after": 0.1}, 1.0),
        ({"rand": 0.5, "retry_after": 1e9}, 600.0),
        ({"rand": 0.5, "retry_after": 3.0, "poll_after": 40.0}, 3.0),
        ({"rand": 0.5, "errors": 1, "poll_after": 40.0}, 7.5),
        ({"rand": 0.5, "errors": 1, "retry_after": 3.0}, 7.5),
        ({"rand": 0.5, "errors": 1, "retry_after": 30.0}, 30.0),
        ({"rand": 0.5, "errors": 9, "retry_after": 1e9}, 600.0),
    ],
)
def test_poll_delay_follows_its_formula(arguments, seconds):
    """Retry-After wins over the polling hint, and that over the interval; errors back off."""
    assert PollPolicy().delay(**arguments) == seconds


def test_backoff_max_below_interval_has_no_effect():
    """Errors do not make a long interval shorter."""
    assert PollPolicy(interval=100.0).delay(rand=0.9, errors=5) == 100.0


@given(
    policy=poll_policies,
    rand=rands,
    errors=st.integers(0, 10**6),
    retry=server_delays,
    poll=server_delays,
)
def test_poll_delay_has_bounds(policy, rand, errors, retry, poll):
    """It is finite, at least *min_interval*, and at most the largest cap."""
    delay = policy.delay(rand=rand, errors=errors, retry_after=retry, poll_after=poll)

    caps = (policy.interval * (1 + policy.jitter), policy.backoff_max, policy.retry_after_max, 60.0)
    assert isfinite(delay)
    assert policy.min_interval <= delay <= max(caps) * (1 + 1e-9)


@given(policy=poll_policies, rand=rands, errors=st.integers(1, 200), more=st.integers(0, 10**6))
def test_more_errors_never_shorten_the_delay(policy, rand, errors, more):
    """For the same *rand* it grows up to *backoff_max*."""
    assert policy.delay(rand=rand, errors=errors) <= policy.delay(rand=rand, errors=errors + more)


@pytest.mark.parametrize(
    ("failures", "rand", "rate_limited", "retry_after", "seconds"),
    [
        (1, 0.5, False, None, 0.25),
        (2, 0.5, False, None, 0.5),
        (9, 0.5, False, None, 4.0),
        (1, 0.0, False, None, 0.0),
        (1, 0.5, True, None, 0.75),
        (2, 0.5, True, None, 1.5),
        (9, 0.5, True, None, 15.0),
        (1, 0.5, True, 7.0, 7.0),
        (1, 0.5, False, 7.0, 7.0),
        (9, 0.5, False, 1.0, 4.0),
        (1, 0.5, True, 60.0, 60.0),
        (1, 0.5, True, 60.5, None),
        (10, 0.5, False, None, None),
        (11, 0.5, True, 1.0, None),
    ],
)
def test_retry_delay_follows_its_formula(failures, rand, rate_limited, retry_after, seconds):
    """Full jitter, half of it after a 429; Retry-After is obeyed up to its cap."""
    delay = RetryPolicy(attempts=10).delay(
        failures=failures, rand=rand, rate_limited=rate_limited, retry_after=retry_after
    )

    assert delay == seconds


def test_three_attempts_have_two_delays():
    """*attempts* counts the first request too."""
    delays = [
        RetryPolicy().delay(failures=n, rand=0.5, rate_limited=False, retry_after=None)
        for n in (1, 2, 3)
    ]

    assert delays == [0.25, 0.5, None]


@given(rand=rands, failures=st.integers(1, 99), rate_limited=st.booleans(), retry=server_delays)
def test_retry_delay_has_bounds(rand, failures, rate_limited, retry):
    """It is between Retry-After and the caps, or None."""
    delay = RetryPolicy(attempts=100).delay(
        failures=failures, rand=rand, rate_limited=rate_limited, retry_after=retry
    )

    if retry is not None and retry > 60.0:
        assert delay is None
    else:
        assert (retry or 0.0) <= delay <= 60.0


# -- refused values -------------------------------------------------------------------------

NOT_SECONDS = [nan, inf, -1, True, "5", None, 1e9, 10**5000]


def value_id(value):
    return f"{value.bit_length()} bits" if value == NOT_SECONDS[-1] else repr(value)


@pytest.mark.fault("C24")
@pytest.mark.parametrize("value", NOT_SECONDS, ids=value_id)
@pytest.mark.parametrize(
    ("kind", "name", "allows_zero"),
    [
        (PollPolicy, "interval", False),
        (PollPolicy, "min_interval", False),
        (PollPolicy, "backoff_max", False),
        (PollPolicy, "retry_after_max", False),
        (RetryPolicy, "base", True),
        (RetryPolicy, "cap", True),
        (RetryPolicy, "retry_after_max", True),
    ],
)
def test_option_in_seconds_refuses_other_values(kind, name, allows_zero, value):
    """The message names the option."""
    with pytest.raises(ConfigError, match=rf"^{name} must be "):
        kind(**{name: value})
    if allows_zero:
        assert getattr(kind(**{name: 0}), name) == 0
    else:
        with pytest.raises(ConfigError, match=rf"^{name} must be "):
            kind(**{name: 0})


@pytest.mark.fault("C24")
@pytest.mark.parametrize(
    ("kind", "name"), [(PollPolicy, "stalled_after"), (RetryPolicy, "deadline")]
)
@pytest.mark.parametrize("value", [nan, inf, -1, 0, True, "5", 1e9], ids=value_id)
def test_optional_seconds_are_above_zero_or_none(kind, name, value):
    """None means no limit."""
    with pytest.raises(ConfigError, match=rf"^{name} must be "):
        kind(**{name: value})
    assert getattr(kind(**{name: None}), name) is None


@pytest.mark.fault("C24")
@pytest.mark.parametrize("value", [nan, -0.1, 1, True, "0.1", None, 10**5000], ids=value_id)
def test_jitter_is_a_fraction(value):
    """From 0 up to but not including 1."""
    with pytest.raises(ConfigError, match=r"^jitter must be 0 or more and below 1, got "):
        PollPolicy(jitter=value)


@pytest.mark.fault("C24")
@pytest.mark.parametrize("value", [0, 1, None, "yes", nan], ids=value_id)
def test_adaptive_is_a_boolean(value):
    """No other value is accepted for its truth."""
    with pytest.raises(ConfigError, match=r"^adaptive must be True or False, got "):
        PollPolicy(adaptive=value)


@pytest.mark.fault("C24")
@pytest.mark.parametrize("value", [0, -1, 101, 1.0, nan, True, "3", None, 10**5000], ids=value_id)
def test_attempts_are_a_whole_number(value):
    """From 1 to 100."""
    with pytest.raises(ConfigError, match=r"^attempts must be a whole number from 1 to 100"):
        RetryPolicy(attempts=value)


def test_interval_is_not_below_min_interval():
    """The message names both options and their values."""
    with pytest.raises(
        ConfigError, match=r"interval \(0.5 s\) must not be below min_interval \(1 s\)"
    ):
        PollPolicy(interval=0.5)
    assert PollPolicy(interval=0.5, min_interval=0.5).interval == 0.5
