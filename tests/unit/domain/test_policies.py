"""When to ask again: exact points of the formulas, their bounds, and what is refused."""

from __future__ import annotations

from math import inf, isfinite, nan

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from ezvideo_async._domain.policies import PollPolicy, RetryPolicy
from ezvideo_async._domain.validation import validate_seconds, validate_timeout
from ezvideo_async.errors import ConfigError

rands = st.floats(0, 1, exclude_max=True)
waits = st.none() | st.floats(0, 1e9)
policies = st.builds(
    PollPolicy,
    interval=st.floats(1.0, 1000.0),
    min_interval=st.floats(0.001, 1.0),
    jitter=st.floats(0, 0.99),
    backoff_max=st.floats(0.001, 5000.0),
    poll_after_max=st.floats(0.001, 5000.0),
    retry_after_max=st.floats(0.001, 5000.0),
)


@pytest.mark.parametrize(
    ("given_values", "seconds"),
    [
        ({"rand": 0.0}, 4.5),
        ({"rand": 0.5}, 5.0),
        ({"rand": 0.75}, 5.25),
        ({"rand": 0.0, "errors": 1}, 5.0),
        ({"rand": 0.5, "errors": 1}, 7.5),
        ({"rand": 0.5, "errors": 2}, 12.5),
        ({"rand": 0.5, "errors": 3}, 22.5),
        ({"rand": 0.5, "errors": 4}, 32.5),
        ({"rand": 0.5, "errors": 1_000_000}, 32.5),
        ({"rand": 0.5, "poll_after": 2.5}, 2.5),
        ({"rand": 0.5, "poll_after": 0.0}, 1.0),
        ({"rand": 0.5, "poll_after": 900.0}, 60.0),
        ({"rand": 0.5, "retry_after": 20.0}, 20.0),
        ({"rand": 0.5, "retry_after": 0.1}, 1.0),
        ({"rand": 0.5, "retry_after": 1e9}, 600.0),
        ({"rand": 0.5, "retry_after": 3.0, "poll_after": 40.0}, 3.0),
        ({"rand": 0.5, "errors": 1, "poll_after": 40.0}, 7.5),
        ({"rand": 0.5, "errors": 1, "retry_after": 3.0}, 7.5),
        ({"rand": 0.5, "errors": 1, "retry_after": 30.0}, 30.0),
        ({"rand": 0.5, "errors": 9, "retry_after": 1e9}, 600.0),
    ],
)
def test_the_pause_between_polls_is_what_the_formula_says(given_values, seconds):
    """Retry-After, then the server's hint, then the own schedule; backoff after errors."""
    assert seconds == PollPolicy().delay(**given_values)


ADAPTIVE = PollPolicy(adaptive=True)


@pytest.mark.parametrize(
    ("known", "seconds"),
    [
        ({}, 5.0),
        ({"age": 10.0}, 5.0),
        ({"quiet_until": 60.0, "ends_at": 90.0}, 5.0),
        ({"age": 10.0, "quiet_until": 60.0}, 15.0),
        ({"age": 52.0, "quiet_until": 60.0}, 8.0),
        ({"age": 57.0, "quiet_until": 60.0}, 4.8),
        ({"age": 600.0, "quiet_until": 60.0}, 4.8),
        ({"age": 2.0, "quiet_until": 15.0}, 13.0),
        ({"age": 2.0, "quiet_until": 14.9}, 5.0),
        ({"age": 10.0, "ends_at": 90.0}, 15.0),
        ({"age": 70.0, "ends_at": 90.0}, 10.0),
        ({"age": 88.0, "ends_at": 90.0}, 3.0),
        ({"age": 95.0, "ends_at": 90.0}, 3.0),
        ({"age": 88.0, "ends_at": 90.0, "quiet_until": 600.0}, 3.0),
        ({"age": 10.0, "quiet_until": 60.0, "errors": 1}, 7.5),
        ({"age": 10.0, "quiet_until": 60.0, "retry_after": 2.0}, 2.0),
        ({"age": 10.0, "quiet_until": 60.0, "poll_after": 2.0}, 2.0),
        ({"age": 88.0, "ends_at": 90.0, "poll_after": 30.0}, 30.0),
        ({"age": 88.0, "ends_at": 90.0, "retry_after": 30.0}, 30.0),
    ],
)
def test_what_was_learned_changes_the_pause_as_the_formula_says(known, seconds):
    """Up to the quiet time's end, half the way to a reckoned end; the server's hints win."""
    assert seconds == pytest.approx(ADAPTIVE.delay(rand=0.5, **known), abs=1e-12)


@pytest.mark.parametrize(
    "known", [{"quiet_until": 60.0}, {"ends_at": 90.0}], ids=["quiet", "reckoned"]
)
def test_learned_pauses_vary_too(known):
    """Tasks that were created together are not asked for together."""
    delays = [ADAPTIVE.delay(rand=rand, age=10.0, **known) for rand in (0.0, 0.5, 0.75)]

    assert delays == [13.5, 15.0, 15.75]


numbers = st.none() | st.floats(-1e6, 1e6)


@given(policy=policies, rand=rands, age=numbers, quiet=numbers, end=numbers, poll=waits)
def test_without_adaptive_nothing_that_was_learned_counts(policy, rand, age, quiet, end, poll):
    """The pause is the very same number."""
    plain = policy.delay(rand=rand, poll_after=poll)

    assert plain == policy.delay(
        rand=rand, poll_after=poll, age=age, quiet_until=quiet, ends_at=end
    )


@given(policy=policies, rand=rands, age=numbers, quiet=numbers, end=numbers)
def test_a_learned_pause_has_its_bounds(policy, rand, age, quiet, end):
    """Never below *min_interval*, nor 0.6 intervals, and never above 3, each with its jitter."""
    adaptive = evolve(policy, adaptive=True)
    delay = adaptive.delay(rand=rand, age=age, quiet_until=quiet, ends_at=end)

    least = max(policy.min_interval, 0.6 * policy.interval * (1.0 - policy.jitter))
    assert least * (1 - 1e-9) <= delay
    assert delay <= max(policy.min_interval, 3.0 * policy.interval * (1.0 + policy.jitter))


def test_a_long_interval_is_no_shorter_after_errors():
    """When *backoff_max* is below *interval*, the interval stays."""
    assert PollPolicy(interval=100.0).delay(rand=0.9, errors=5) == 100.0


@given(policy=policies, rand=rands, errors=st.integers(0, 10**6), retry=waits, poll=waits)
def test_the_pause_has_its_bounds(policy, rand, errors, retry, poll):
    """Finite, never below *min_interval*, never above the largest of the caps."""
    delay = policy.delay(rand=rand, errors=errors, retry_after=retry, poll_after=poll)

    assert isfinite(delay)
    assert policy.min_interval <= delay
    longest = policy.interval * (1 + policy.jitter)
    caps = (longest, policy.backoff_max, policy.poll_after_max, policy.retry_after_max, 1.0)
    assert delay <= max(caps) * (1 + 1e-9)


@given(policy=policies, rand=rands, errors=st.integers(1, 200), more=st.integers(0, 10**6))
def test_more_errors_never_mean_a_shorter_pause(policy, rand, errors, more):
    """For the same chance the pause only grows, up to *backoff_max*."""
    assert policy.delay(rand=rand, errors=errors) <= policy.delay(rand=rand, errors=errors + more)


@pytest.mark.parametrize(
    ("given_values", "seconds"),
    [
        ({"failures": 1, "rand": 0.5, "throttled": False, "retry_after": None}, 0.25),
        ({"failures": 2, "rand": 0.5, "throttled": False, "retry_after": None}, 0.5),
        ({"failures": 9, "rand": 0.5, "throttled": False, "retry_after": None}, 4.0),
        ({"failures": 1, "rand": 0.0, "throttled": False, "retry_after": None}, 0.0),
        ({"failures": 1, "rand": 0.5, "throttled": True, "retry_after": None}, 0.75),
        ({"failures": 2, "rand": 0.5, "throttled": True, "retry_after": None}, 1.5),
        ({"failures": 9, "rand": 0.5, "throttled": True, "retry_after": None}, 15.0),
        ({"failures": 1, "rand": 0.5, "throttled": True, "retry_after": 7.0}, 7.0),
        ({"failures": 1, "rand": 0.5, "throttled": False, "retry_after": 7.0}, 7.0),
        ({"failures": 9, "rand": 0.5, "throttled": False, "retry_after": 1.0}, 4.0),
        ({"failures": 1, "rand": 0.5, "throttled": True, "retry_after": 60.0}, 60.0),
        ({"failures": 1, "rand": 0.5, "throttled": True, "retry_after": 60.5}, None),
        ({"failures": 10, "rand": 0.5, "throttled": False, "retry_after": None}, None),
        ({"failures": 11, "rand": 0.5, "throttled": True, "retry_after": 1.0}, None),
    ],
)
def test_the_pause_between_attempts_is_what_the_formula_says(given_values, seconds):
    """Full jitter after trouble, half after a 429, Retry-After obeyed up to its cap."""
    assert seconds == RetryPolicy(attempts=10).delay(**given_values)


def test_the_attempts_are_counted_in_all():
    """Three by default: two pauses and no third."""
    policy = RetryPolicy()

    pauses = [
        policy.delay(failures=n, rand=0.5, throttled=False, retry_after=None) for n in (1, 2, 3)
    ]

    assert pauses == [0.25, 0.5, None]


@given(rand=rands, failures=st.integers(1, 99), throttled=st.booleans(), retry=waits)
def test_a_pause_between_attempts_has_its_bounds(rand, failures, throttled, retry):
    """Finite, not negative, at most the caps, and never less than Retry-After."""
    policy = RetryPolicy(attempts=100)

    delay = policy.delay(failures=failures, rand=rand, throttled=throttled, retry_after=retry)

    if retry is not None and retry > 60.0:
        assert delay is None
    else:
        assert (retry or 0.0) <= delay <= 60.0


# -- what is refused ------------------------------------------------------------------------

NO_SECONDS = [
    nan,
    inf,
    -inf,
    -1,
    -0.5,
    True,
    False,
    "5",
    None,
    b"5",
    [5],
    5j,
    1e9,
    10**400,
    10**5000,
]


def _ids(value):
    is_huge = isinstance(value, int) and value > 10**18
    return f"a number of {value.bit_length()} bits" if is_huge else repr(value)


@pytest.mark.fault("C24")
@pytest.mark.parametrize("value", [*NO_SECONDS, 0], ids=_ids)
@pytest.mark.parametrize(
    "name", ["interval", "min_interval", "backoff_max", "poll_after_max", "retry_after_max"]
)
def test_a_poll_policy_refuses_what_is_no_seconds(name, value):
    """With a sentence that names the option."""
    with pytest.raises(ConfigError, match=rf"^{name} must be "):
        PollPolicy(**{name: value})


@pytest.mark.fault("C24")
@pytest.mark.parametrize("value", NO_SECONDS, ids=_ids)
@pytest.mark.parametrize(
    "name", ["base", "cap", "throttle_base", "throttle_cap", "retry_after_max"]
)
def test_a_retry_policy_refuses_what_is_no_seconds(name, value):
    """Zero is allowed here: no pause."""
    with pytest.raises(ConfigError, match=rf"^{name} must be "):
        RetryPolicy(**{name: value})
    assert getattr(RetryPolicy(**{name: 0}), name) == 0


@pytest.mark.fault("C24")
@pytest.mark.parametrize("value", [nan, inf, -0.1, 1, 1.0, 2, True, "0.1", None, 10**400], ids=_ids)
def test_a_jitter_is_a_share(value):
    """From 0 up to but not including 1."""
    with pytest.raises(ConfigError, match=r"^jitter must be a share"):
        PollPolicy(jitter=value)


@pytest.mark.fault("C24")
@pytest.mark.parametrize("value", [0, 1, None, "yes", nan], ids=_ids)
def test_adaptive_is_yes_or_no(value):
    """Nothing else, however true it looks."""
    with pytest.raises(ConfigError, match=r"^adaptive must be True or False, got "):
        PollPolicy(adaptive=value)


@pytest.mark.fault("C24")
@pytest.mark.parametrize("value", [0, -1, 101, 1.0, nan, True, "3", None, 10**5000], ids=_ids)
def test_attempts_are_a_whole_number(value):
    """At least the first, at most a hundred."""
    with pytest.raises(ConfigError, match=r"^attempts must be a whole number from 1 to 100"):
        RetryPolicy(attempts=value)


@pytest.mark.parametrize(
    ("kind", "name"), [(PollPolicy, "stalled_after"), (RetryPolicy, "deadline")]
)
@pytest.mark.parametrize("value", [nan, inf, -1, 0, 0.0, True, "5", 1e9], ids=_ids)
def test_a_limit_is_more_than_nothing_or_none(kind, name, value):
    """None means no limit; 0 would mean at once, which nobody wants."""
    with pytest.raises(ConfigError, match=rf"^{name} must be "):
        kind(**{name: value})
    assert getattr(kind(**{name: None}), name) is None


def test_the_interval_is_not_below_the_floor():
    """The sentence names both options and their values."""
    with pytest.raises(
        ConfigError, match=r"interval \(0.5 s\) must not be below min_interval \(1 s\)"
    ):
        PollPolicy(interval=0.5)
    assert PollPolicy(interval=0.5, min_interval=0.5).interval == 0.5


@pytest.mark.parametrize(
    ("value", "shown"),
    [(nan, "nan"), (-1, "-1"), ("sk-secret", "str"), (True, "bool"), (10**5000, "int")],
    ids=["NaN", "a number", "a text", "a boolean", "a huge number"],
)
def test_a_refusal_shows_numbers_and_no_texts(value, shown):
    """A key that got into the wrong argument is not shown."""
    with pytest.raises(ConfigError) as refused:
        validate_seconds("timeout", value, low=0.0)

    assert str(refused.value).endswith(f"got {shown}")


def test_checked_seconds_are_floats():
    """Whole numbers and the bounds themselves are let pass."""
    assert validate_seconds("x", 5, low=5, high=5) == 5.0
    assert type(validate_seconds("x", 5, low=0)) is float
    assert validate_seconds("x", 31_536_000, low=0) == 31_536_000.0
    assert validate_timeout("x", None) is None
    assert validate_timeout("x", 3) == 3.0
