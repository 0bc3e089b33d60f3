"""
Retry quota that keeps the retries of single calls from amplifying an outage.

Sizes follow AWS's retry quota of 2026, at a fifth.
"""

from __future__ import annotations

_CAPACITY = 100.0  # tokens
_RETRY_COST = 14.0  # tokens
_RATE_LIMITED_RETRY_COST = 5.0  # tokens


class RetryQuota:
    """
    Tokens that retries spend and successful requests earn.

    A full quota pays for 7 retries after a failure, or for 20 after a 429.  When all requests
    fail, no tokens are earned and each call is sent once.  A retry is *rate_limited* after a 429.
    """

    def __init__(self) -> None:
        self._tokens = _CAPACITY

    def take(self, *, rate_limited: bool) -> bool:
        """Take the tokens for one retry; return False if there are not enough."""
        cost = _RATE_LIMITED_RETRY_COST if rate_limited else _RETRY_COST
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True

    def credit(self, *, retried: bool, rate_limited: bool = False) -> None:
        """Add 1 token for a successful first attempt, or the cost of a successful retry."""
        cost = _RATE_LIMITED_RETRY_COST if rate_limited else _RETRY_COST
        self._tokens = min(_CAPACITY, self._tokens + (cost if retried else 1.0))
