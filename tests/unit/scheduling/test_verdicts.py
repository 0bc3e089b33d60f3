"""Verdicts on failed polls: what ends an id, what ends the watch, and what ends nothing."""

from __future__ import annotations

import pytest

from ezvideo_async._scheduling.verdicts import (
    FailureStreak,
    FirewallPages,
    is_fatal,
    is_local_stall,
)
from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ConfigError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
    TLSError,
    TransportError,
)

NOT_FOUND = TaskNotFoundError("no such task", status=404)
GONE = TaskNotFoundError("no such task", status=410)
OUTAGE = ServerError("HTTP 503", status=503, retryable=True)
REFUSED = BadRequestError("no", status=400)
TEMPORARY_REFUSAL = BadRequestError("wait", status=400, retryable=True, retry_after=7.0)


def loss_by(error, *, streak=None, is_seen=False, is_in_grace=False):
    """Give the verdict of a streak, a new one by default."""
    streak = FailureStreak() if streak is None else streak
    return streak.loss_by(error, is_seen=is_seen, is_in_grace=is_in_grace)


@pytest.mark.parametrize(
    ("error", "is_in_grace", "reason"),
    [
        (NOT_FOUND, True, None),  # a task just created may not be known everywhere yet
        (NOT_FOUND, False, "not_found"),
        (GONE, True, "not_found"),
        (GONE, False, "not_found"),
    ],
)
def test_unseen_id_that_is_not_found_is_lost_after_the_grace(error, is_in_grace, reason):
    """A 410 says that it will not come back."""
    assert loss_by(error, is_in_grace=is_in_grace) == reason


def test_seen_id_is_lost_at_the_third_not_found():
    """A stale replica may not know it; other failures in between do not count."""
    streak = FailureStreak()

    errors = (NOT_FOUND, OUTAGE, NOT_FOUND, NOT_FOUND)
    verdicts = [loss_by(error, streak=streak, is_seen=True) for error in errors]

    assert verdicts == [None, None, None, "vanished"]
    assert streak.last_error is NOT_FOUND
    assert loss_by(GONE, is_seen=True) == "vanished"


@pytest.mark.parametrize(
    "error",
    [REFUSED, ServerError("no", status=501, server_message="not_implemented")],
    ids=["400", "501 with a message"],
)
def test_refused_id_is_lost(error):
    """The same request fails again, and the response is about this id alone."""
    assert loss_by(error) == "refused"


def test_temporary_refusal_ends_an_id_the_second_time():
    """Azure sends Retry-After with some 400s."""
    assert loss_by(TEMPORARY_REFUSAL) is None
    assert loss_by(TEMPORARY_REFUSAL, streak=FailureStreak(errors=1)) == "refused"


@pytest.mark.parametrize(
    "error",
    [
        OUTAGE,
        BadResponseError("x"),
        TransportError("x"),
        RequestTimeoutError("x"),
        AuthenticationError("x", status=401),
        ConfigError("x"),
        RateLimitError("x", status=429),
        ServerError("x", status=501),
    ],
    ids=lambda error: type(error).__name__ + str(getattr(error, "status", "")),
)
def test_other_failures_end_no_id(error):
    """They are temporary, or end the whole watch."""
    streak = FailureStreak(errors=100, not_found=100)

    assert loss_by(error, streak=streak) is None
    assert streak.last_error is error


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (AuthenticationError("x"), True),
        (AuthenticationError("x", retryable=True), False),
        (PermissionDeniedError("x"), True),
        (PermissionDeniedError("x", retryable=True), False),
        (ConfigError("x"), True),
        (ConfigError("x", retryable=True), False),
        (TLSError("x"), True),
        (TransportError("x", reason="proxy"), False),
        (TransportError("x", reason="proxy", retryable=False), True),
        (TransportError("x"), False),
        (TransportError("x", retryable=False), False),
        (RateLimitError("x"), False),
        (BadRequestError("x"), False),
        (ServerError("x"), False),
        (NOT_FOUND, False),
    ],
)
def test_errors_of_key_and_configuration_are_fatal(error, fatal):
    """API key, account, base url, certificate and proxy concern every id."""
    assert is_fatal(error) is fatal


def test_only_our_own_timeout_is_a_local_stall():
    """The reason is given by the transport."""
    assert is_local_stall(RequestTimeoutError("x", reason="local_stall"))
    assert not is_local_stall(RequestTimeoutError("x"))
    assert not is_local_stall(OUTAGE)


# -- pages of a firewall ------------------------------------------------------------------------

PAGE = PermissionDeniedError("web page", status=403, retryable=True)


@pytest.mark.parametrize(
    ("instants", "is_permanent"),
    [
        ((0.0, 1.0, 2.0, 3.0, 59.9), False),
        ((0.0, 20.0, 60.0, 100.0), False),
        ((0.0, 1.0, 2.0, 3.0, 60.0), True),
    ],
    ids=["not a minute", "four", "five in a minute"],
)
def test_five_pages_over_a_minute_are_permanent(instants, is_permanent):
    """Fewer or faster ones may be temporary; instants are those of the loop clock."""
    pages = FirewallPages()

    verdicts = [pages.is_permanent(PAGE, 100.0 + instant) for instant in instants]

    assert verdicts == [False] * (len(instants) - 1) + [is_permanent]


@pytest.mark.parametrize(
    "interrupt",
    [
        lambda pages: pages.reset(),
        lambda pages: pages.is_permanent(OUTAGE, 50.0),
        lambda pages: pages.is_permanent(PermissionDeniedError("x", status=403), 50.0),
    ],
    ids=["valid response", "other error", "refusal by the API"],
)
def test_pages_are_counted_in_a_row(interrupt):
    """Any other outcome starts the count again."""
    pages = FirewallPages()
    for now in (0.0, 10.0, 20.0, 30.0):
        pages.is_permanent(PAGE, now)
    interrupt(pages)

    verdicts = [pages.is_permanent(PAGE, now) for now in (70.0, 80.0, 90.0, 100.0, 130.0)]

    assert verdicts == [False, False, False, False, True]
