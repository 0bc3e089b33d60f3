"""
When to ask again: pure functions from what happened to seconds.

No await, no clock, no randomness of its own: chance arrives as a number in [0, 1).
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
from ezvideo_async.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import Attribute

    from ezvideo_async.errors import EzVideoError

_MOST_ATTEMPTS = 100
_MAX_DOUBLINGS = 60
"""Beyond this, 2 ** n is past every cap, and would overflow a float in the end."""

_LONGEST_PAUSE = 3.0
"""Intervals: no pause that comes of learning is longer, so no end is found later than this."""

_QUICKER = 0.96
"""
Intervals between looks after a quiet time.

One task in 50 ends in the quiet time and is found later by (3 - 1) / 2 intervals in the mean; the
others are found earlier by (1 - 0.96) / 2: together, no later.
"""

_CLOSEST = 0.6
"""Intervals between looks near a reckoned end: 3 s of 5 s, the least the API document asks for."""


def _seconds(low: float) -> Callable[[object, Attribute[float], float], None]:
    def check(_instance: object, attribute: Attribute[float], value: float) -> None:
        validate_seconds(attribute.name, value, low=low)

    return check


def _seconds_or_none(_instance: object, attribute: Attribute[float], value: float | None) -> None:
    validate_timeout(attribute.name, value)


def _yes_or_no(_instance: object, attribute: Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        message = f"{attribute.name} must be True or False, got {describe_value(value)}"
        raise ConfigError(message)


def _share(_instance: object, attribute: Attribute[float], value: float) -> None:
    if not is_number(value) or not 0 <= value < 1:
        message = f"{attribute.name} must be 0 or more and below 1, got {describe_value(value)}"
        raise ConfigError(message)


def _attempts(_instance: object, attribute: Attribute[int], value: int) -> None:
    if not is_number(value) or not isinstance(value, int) or not 1 <= value <= _MOST_ATTEMPTS:
        message = (
            f"{attribute.name} must be a whole number from 1 to {_MOST_ATTEMPTS}, "
            f"got {describe_value(value)}"
        )
        raise ConfigError(message)


@frozen(kw_only=True)
class PollPolicy:
    """
    How often one task is asked for.

    Attributes:
        interval: Seconds between an answer and the next request; 0.001 or more.
        min_interval: Never are two requests for one task started closer than this, whatever
            the server or the caller says; seconds, at most *interval*.
        jitter: The share by which *interval* varies up and down, 0 or more and below 1.
        backoff_max: The longest pause after failed requests, seconds.
        poll_after_max: The longest pause the server's ``openai-poll-after-ms`` gets, seconds.
        retry_after_max: The longest pause the server's ``Retry-After`` gets, seconds.
        stalled_after: Seconds without any change until ``TaskStalled``; None for never.
        adaptive: Whether what ended tasks taught about this server and model changes the pause:
            see :meth:`delay`.  It never makes a pause longer than 3 intervals, and as long as
            nothing has been learned it changes nothing.

    Raises:
        ConfigError: A value is out of its range.

    Source:
        API document, note 1 (3-5 s between requests) and note 4 (retry on network errors); the
        numbers of *adaptive* are those of the simulation ``tests/long/bench/policy.py``.
    """

    interval: float = field(default=5.0, validator=_seconds(0.001))
    min_interval: float = field(default=1.0, validator=_seconds(0.001))
    jitter: float = field(default=0.1, validator=_share)
    backoff_max: float = field(default=60.0, validator=_seconds(0.001))
    poll_after_max: float = field(default=60.0, validator=_seconds(0.001))
    retry_after_max: float = field(default=600.0, validator=_seconds(0.001))
    stalled_after: float | None = field(default=1800.0, validator=_seconds_or_none)
    adaptive: bool = field(default=False, validator=_yes_or_no)

    def __attrs_post_init__(self) -> None:
        if self.interval < self.min_interval:
            message = (
                f"interval ({self.interval:g} s) must not be below min_interval "
                f"({self.min_interval:g} s); lower min_interval too if the server allows it"
            )
            raise ConfigError(message)

    def delay(
        self,
        *,
        rand: float,
        errors: int = 0,
        retry_after: float | None = None,
        poll_after: float | None = None,
        age: float | None = None,
        quiet_until: float | None = None,
        ends_at: float | None = None,
    ) -> float:
        """
        Seconds to wait before the next request for one task.

        Without errors: *retry_after* if the server sent it, else *poll_after*, else
        ``pause * (1 - jitter + 2 * jitter * rand)``.  After the n-th error in a row:
        ``interval + rand * (min(backoff_max, interval * 2 ** n) - interval)``, and never
        less than *retry_after*.  The result is never below ``min_interval``.

        The *pause* is *interval*, unless the policy is *adaptive* and something is known:

        - *ends_at*: half the way to it, ``(ends_at - age) / 2``, but at least
          ``0.6 * interval`` and at most ``3 * interval``;
        - else *quiet_until*, if it is ``3 * interval`` or more: up to it, ``quiet_until - age``,
          but at least ``0.96 * interval`` and at most ``3 * interval``.

        Args:
            rand: A number in [0, 1); the only source of chance.
            errors: Errors in a row for this task, 0 or more.
            retry_after: What the server asked for, any status, seconds.
            poll_after: The server's polling hint, seconds.
            age: Seconds since the task was created; None when unknown.
            quiet_until: The age, seconds, that all but one in 50 tasks like it reach; None when
                that has not been learned.
            ends_at: The age, seconds, at which its progress says that it ends; None when there
                is no progress that has earned trust.

        Returns:
            Seconds, finite, at least ``min_interval`` and at most the largest of the caps.
        """
        asked = 0.0 if retry_after is None else min(retry_after, self.retry_after_max)
        if errors:
            longest = min(self.backoff_max, self.interval * 2.0 ** min(errors, _MAX_DOUBLINGS))
            pause = self.interval + rand * max(0.0, longest - self.interval)
        elif retry_after is not None:
            pause = asked
        elif poll_after is not None:
            pause = min(poll_after, self.poll_after_max)
        else:
            usual = self.interval
            if self.adaptive and age is not None:
                usual = self._learned_pause(age, quiet_until, ends_at)
            pause = usual * (1.0 - self.jitter + 2.0 * self.jitter * rand)
        return max(pause, asked, self.min_interval)

    def _learned_pause(self, age: float, quiet_until: float | None, ends_at: float | None) -> float:
        longest = _LONGEST_PAUSE * self.interval
        if ends_at is not None:
            return min(longest, max(_CLOSEST * self.interval, (ends_at - age) / 2.0))
        if quiet_until is None or quiet_until < longest:
            return self.interval
        return min(longest, max(_QUICKER * self.interval, quiet_until - age))


@frozen(kw_only=True)
class RetryPolicy:
    """
    How often one call of ``retrieve()`` is sent again after passing trouble.

    Attributes:
        attempts: Requests in all, 1 (no retry) to 100.
        base: The longest first pause after trouble, seconds; doubled each time.
        cap: The longest pause after trouble, seconds.
        throttle_base: The longest first pause after a 429 without ``Retry-After``, seconds.
        throttle_cap: The longest pause after such a 429, seconds.
        retry_after_max: A ``Retry-After`` beyond this is not waited for, seconds.
        deadline: No pause is begun that would end later than this after the call, seconds;
            None for no limit.

    Raises:
        ConfigError: A value is out of its range.
    """

    attempts: int = field(default=3, validator=_attempts)
    base: float = field(default=0.5, validator=_seconds(0.0))
    cap: float = field(default=8.0, validator=_seconds(0.0))
    throttle_base: float = field(default=1.0, validator=_seconds(0.0))
    throttle_cap: float = field(default=20.0, validator=_seconds(0.0))
    retry_after_max: float = field(default=60.0, validator=_seconds(0.0))
    deadline: float | None = field(default=120.0, validator=_seconds_or_none)

    def delay(
        self, *, failures: int, rand: float, throttled: bool, retry_after: float | None
    ) -> float | None:
        """
        Seconds to wait before the next attempt, or None to give up.

        With full jitter, after the n-th failure: ``rand * min(cap, base * 2 ** (n - 1))``;
        after a 429 without ``Retry-After``:
        ``(0.5 + rand / 2) * min(throttle_cap, throttle_base * 2 ** (n - 1))``; with one:
        never less than it.

        Args:
            failures: Attempts that failed so far, 1 or more.
            rand: A number in [0, 1); the only source of chance.
            throttled: The last failure was a 429.
            retry_after: What the server asked for, seconds.

        Returns:
            None when *attempts* are used up or *retry_after* is beyond *retry_after_max*.
        """
        if failures >= self.attempts:
            return None
        if retry_after is not None and retry_after > self.retry_after_max:
            return None
        doubled = 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
        if throttled and retry_after is None:
            return (0.5 + rand / 2.0) * min(self.throttle_cap, self.throttle_base * doubled)
        return max(rand * min(self.cap, self.base * doubled), retry_after or 0.0)


def is_local_stall(error: EzVideoError) -> bool:
    """Tell a time-out that is our own doing: the loop was blocked while the answer lay there."""
    return isinstance(error, TransportError) and error.reason == "local_stall"
