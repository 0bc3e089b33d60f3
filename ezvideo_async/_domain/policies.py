"""
Polling and retry policies: delays between requests, and what users may set of them.

Chance arrives as *rand*, a number in [0, 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from ezvideo_async._domain.validation import (
    describe_value,
    is_number,
    validate_seconds,
    validate_timeout,
)
from ezvideo_async.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import Attribute

_MAX_ATTEMPTS = 100
_MAX_DOUBLINGS = 60
"""2 ** 60 seconds are more than every cap; larger exponents overflow a float."""

_POLL_AFTER_MAX = 60.0
"""Seconds; the longest delay that the server's ``openai-poll-after-ms`` can set."""

_RATE_LIMITED_BASE, _RATE_LIMITED_CAP = 1.0, 20.0
"""Seconds; as *base* and *cap* of ``RetryPolicy``, after a 429 without ``Retry-After``."""


def _seconds(low: float) -> Callable[[object, Attribute[float], float], None]:
    def validate(_instance: object, attribute: Attribute[float], value: float) -> None:
        validate_seconds(attribute.name, value, low=low)

    return validate


def _seconds_or_none(_instance: object, attribute: Attribute[float], value: float | None) -> None:
    validate_timeout(attribute.name, value)


def _boolean(_instance: object, attribute: Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{attribute.name} must be True or False, got {describe_value(value)}")


def _fraction(_instance: object, attribute: Attribute[float], value: float) -> None:
    if not is_number(value) or not 0 <= value < 1:
        raise ConfigError(
            f"{attribute.name} must be 0 or more and below 1, got {describe_value(value)}"
        )


def _attempts(_instance: object, attribute: Attribute[int], value: int) -> None:
    if not is_number(value) or not isinstance(value, int) or not 1 <= value <= _MAX_ATTEMPTS:
        raise ConfigError(
            f"{attribute.name} must be a whole number from 1 to {_MAX_ATTEMPTS}, "
            f"got {describe_value(value)}"
        )


@frozen(kw_only=True)
class PollPolicy:
    """
    Delays between the status requests for one task.

    Attributes:
        interval: Seconds between a response and the next request; 0.001 or more.
        min_interval: Seconds at least between the starts of two requests for one task, whatever
            the server or the caller asks for; at most *interval*.
        jitter: The fraction by which *interval* varies up and down, 0 or more and below 1.
        backoff_max: The longest delay after failed requests, seconds.
        retry_after_max: The longest delay that the server's ``Retry-After`` can set, seconds.
        stalled_after: Seconds without any change until ``TaskStalled``; None means never.
        adaptive: Whether *interval* is adapted to how long tasks of this server and model took:
            to 0.6 to 3 times its length.  Without such experience it has no effect.

    Raises:
        ConfigError: A value is out of its range.

    Source:
        API document, note 1 (3-5 s between requests) and note 4 (retry on network errors).
    """

    interval: float = field(default=5.0, validator=_seconds(0.001))
    min_interval: float = field(default=1.0, validator=_seconds(0.001))
    jitter: float = field(default=0.1, validator=_fraction)
    backoff_max: float = field(default=60.0, validator=_seconds(0.001))
    retry_after_max: float = field(default=600.0, validator=_seconds(0.001))
    stalled_after: float | None = field(default=1800.0, validator=_seconds_or_none)
    adaptive: bool = field(default=False, validator=_boolean)

    def __attrs_post_init__(self) -> None:
        if self.interval < self.min_interval:
            raise ConfigError(
                f"interval ({self.interval:g} s) must not be below min_interval "
                f"({self.min_interval:g} s); lower min_interval too if the server allows it"
            )

    def delay(
        self,
        *,
        rand: float,
        errors: int = 0,
        retry_after: float | None = None,
        poll_after: float | None = None,
        interval: float | None = None,
    ) -> float:
        """
        Return the seconds to wait before the next request for one task.

        Without errors: *retry_after* if the server sent it, else *poll_after*, else
        ``interval * (1 - jitter + 2 * jitter * rand)``.  After the n-th error in a row:
        ``interval + rand * (min(backoff_max, interval * 2 ** n) - interval)``, but not less than
        *retry_after*.  The result is never below ``min_interval``.

        Args:
            rand: A number in [0, 1).
            errors: Errors in a row for this task, 0 or more.
            retry_after: The server's ``Retry-After`` in seconds; at most *retry_after_max* count.
            poll_after: The server's ``openai-poll-after-ms`` in seconds; at most 60 count.
            interval: Replaces the policy's *interval* where there are no errors, seconds.

        """
        server_delay = 0.0 if retry_after is None else min(retry_after, self.retry_after_max)
        if errors:
            longest = min(self.backoff_max, self.interval * 2.0 ** min(errors, _MAX_DOUBLINGS))
            delay = self.interval + rand * max(0.0, longest - self.interval)
        elif retry_after is not None:
            delay = server_delay
        elif poll_after is not None:
            delay = min(poll_after, _POLL_AFTER_MAX)
        else:
            usual = self.interval if interval is None else interval
            delay = usual * (1.0 - self.jitter + 2.0 * self.jitter * rand)
        return max(delay, server_delay, self.min_interval)


@frozen(kw_only=True)
class RetryPolicy:
    """
    Delays between the attempts of one call of ``retrieve()``.

    Attributes:
        attempts: Requests in all, 1 (no retry) to 100.
        base: The longest delay after the first failure, seconds; doubled with each failure.
        cap: The longest delay after any failure, seconds.
        retry_after_max: A ``Retry-After`` of more seconds ends the call.
        deadline: Seconds after the start of the call until which a delay must have ended; None
            means no limit.

    Raises:
        ConfigError: A value is out of its range.
    """

    attempts: int = field(default=3, validator=_attempts)
    base: float = field(default=0.5, validator=_seconds(0.0))
    cap: float = field(default=8.0, validator=_seconds(0.0))
    retry_after_max: float = field(default=60.0, validator=_seconds(0.0))
    deadline: float | None = field(default=120.0, validator=_seconds_or_none)

    def delay(
        self, *, failures: int, rand: float, rate_limited: bool, retry_after: float | None
    ) -> float | None:
        """
        Return the seconds to wait before the next attempt; None if *attempts* are used up.

        After the n-th failure: ``rand * min(cap, base * 2 ** (n - 1))``, but not less than
        *retry_after*.  After a 429 without ``Retry-After``:
        ``(0.5 + rand / 2) * min(20, 2 ** (n - 1))``.

        Args:
            failures: Attempts that failed so far, 1 or more.
            rand: A number in [0, 1).
            rate_limited: The last failure was a 429.
            retry_after: Seconds; None is returned above *retry_after_max*.
        """
        if failures >= self.attempts:
            return None
        if retry_after is not None and retry_after > self.retry_after_max:
            return None
        doubled = 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
        if rate_limited and retry_after is None:
            return (0.5 + rand / 2.0) * min(_RATE_LIMITED_CAP, _RATE_LIMITED_BASE * doubled)
        return max(rand * min(self.cap, self.base * doubled), retry_after or 0.0)
