"""Promises about cool-downs and outages: INV-13, 13b and 13c."""

from __future__ import annotations

from math import exp, inf
from typing import TYPE_CHECKING

from attrs import define, field

from tests.support.oracle.trace import Asked, Closed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.oracle.history import History
    from tests.support.oracle.trace import Limits

EPSILON = 1e-6  # seconds: sums of floats

LONGEST_HINT = 600.0  # seconds of a Retry-After that are obeyed
LONGEST_COOL_DOWN = 60.0  # seconds, without a Retry-After
CUT = 0.7
CUTS_APART = 1.0  # seconds
REGROWTH = 60.0  # seconds
SLOWEST = 1.0  # requests a second
MEASURED_OVER = 5.0  # seconds
UNSEEN = 3
"""Requests that had a permit without being sent; the limiter measures them too."""

SURE_OUTAGE = 20  # failures in a row
VALID_WITHIN = 2.0  # seconds since the last valid response, in which a 503 is no failure
PROBE_GAP = 5.0  # seconds
PROBE_GAP_GROWTH = 1.5
PROBE_GAP_MAX = 30.0  # seconds; a gap is multiplied by a random number from 0.5 to 1


@define
class _CoolDown:
    """The shortest allowed cool-down, and the highest allowed rate after it."""

    limits: Limits
    began: float = -inf
    until: float = -inf
    in_a_row: int = 0
    cut_to: float = inf
    cut_at: float = -inf
    sent: list[float] = field(factory=list)

    def closed(self, closed: Closed) -> None:
        if closed.kind == "ok" and closed.asked.at >= self.until:
            self.in_a_row = 0
        if closed.kind != "rate_limited":
            return
        is_first = closed.asked.at > self.began  # not one sent before the last 429
        self.in_a_row += is_first
        if is_first and closed.at - self.cut_at >= CUTS_APART:
            measured = min(self._measured(closed.at), self.limits.rate)
            self.cut_to, self.cut_at = max(SLOWEST, CUT * measured), closed.at
        self.began = closed.at
        self.until = max(self.until, closed.at + self._seconds(closed.hint))

    def _seconds(self, hint: float | None) -> float:
        if hint is not None:
            return min(hint, LONGEST_HINT)
        return min(LONGEST_COOL_DOWN, 2.0 ** max(0, self.in_a_row - 1))

    def _measured(self, now: float) -> float:
        """Return the mean rate of the last seconds, weighted towards the newest."""
        filled = 1.0 - exp(-(now - self.sent[0]) / MEASURED_OVER) if self.sent else 0.0
        weights = UNSEEN + sum(exp(-(now - at) / MEASURED_OVER) for at in self.sent)
        return weights / MEASURED_OVER / filled if filled else inf

    def allowed_between(self, begin: float, end: float) -> float:
        """Return how many requests the rate allows while it grows back linearly."""
        middle = (begin + end) / 2.0
        share = min(1.0, max(0.0, (middle - self.until) / REGROWTH))
        cut_to = min(self.cut_to, self.limits.rate)
        return (cut_to + (self.limits.rate - cut_to) * share) * (end - begin)


def cool_downs(history: History, limits: Limits) -> Iterator[str]:
    """INV-13, 13b: no request in a shared cool-down; after it the rate is 0.7 and grows."""
    cooling = _CoolDown(limits)
    level, last = 0.0, 0.0
    for record in history.trace.records:
        if isinstance(record, Closed):
            cooling.closed(record)
        if not isinstance(record, Asked) or record.resend:
            continue
        cooling.sent.append(record.at)
        if cooling.began < record.at < cooling.until - EPSILON:
            yield f"INV-13: sent at {record.at}, in a cool-down until {cooling.until}"
        if cooling.cut_to == inf:
            last = record.at
            continue  # INV-12 judges the full rate
        level = max(0.0, level - cooling.allowed_between(last, record.at)) + 1.0
        last = record.at
        if level > limits.burst + 1.0 + EPSILON:
            yield f"INV-13b: sent at {record.at}, too fast after a 429"


@define
class _Outage:
    """
    An outage: failures in a row.

    Attributes:
        since: When the failures were enough to be sure.
        probes: The requests sent since then, each with its result.
    """

    in_a_row: int = 0
    valid_at: float = -inf
    since: float = inf
    probes: dict[Asked, str | None] = field(factory=dict)

    def closed(self, closed: Closed) -> None:
        kind = closed.kind
        if kind == "ok":
            self.valid_at = closed.at
        elif kind == "unavailable":  # between valid responses it is a rate limit
            kind = "cancelled" if closed.at - self.valid_at < VALID_WITHIN else "failure"
        if closed.asked in self.probes:
            self.probes[closed.asked] = kind
        if kind == "failure":
            self.in_a_row += 1
            if self.in_a_row == SURE_OUTAGE:
                self.since = closed.at
        elif kind != "cancelled":
            self.in_a_row, self.since = 0, inf
            self.probes.clear()

    def problem_with(self, asked: Asked) -> str | None:
        """Return why this request should not have been sent; None if it may."""
        if not self.probes:
            return None
        last, kind = list(self.probes.items())[-1]
        if kind is None:
            return f"two probes are in flight at {asked.at}"
        failed = list(self.probes.values()).count("failure")
        gap = min(PROBE_GAP_MAX, PROBE_GAP * PROBE_GAP_GROWTH**failed)
        # A probe with an unclear result is replaced after the shortest gap.
        earliest = last.ended + gap / 2.0 if kind == "failure" else last.at + PROBE_GAP / 2.0
        return f"a probe at {asked.at}, not {earliest}" if asked.at < earliest - EPSILON else None


def probes(history: History, _limits: Limits) -> Iterator[str]:
    """INV-13c: in an outage one probe is in flight at most, and the gaps grow."""
    outage = _Outage()
    for record in history.trace.records:
        if isinstance(record, Closed):
            outage.closed(record)
        elif isinstance(record, Asked) and record.at > outage.since and not record.resend:
            problem = outage.problem_with(record)
            if problem is not None:
                yield f"INV-13c: {problem}"
            outage.probes[record] = None


CHECKS = (cool_downs, probes)
