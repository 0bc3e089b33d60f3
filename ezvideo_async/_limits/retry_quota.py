"""
Retry quota that keeps the retries of single calls from amplifying an outage.

Sizes follow AWS's retry quota of 2026, at a fifth.
"""

from __future__ import annotations

_CAPACITY = 100.0  # tokens
_RETRY_COST = 14.0  # tokens
_RATE_LIMITED_RETRY_COST = 5.0  # tokens
_FIRST_ATTEMPT_CREDIT = 1.0  # tokens


class RetryQuota:
    """
    Tokens that retries spend and successful requests earn.

    A full quota pays for 7 retries after a failure, or for 20 after a 429.  When all requests
    fail, no tokens are earned and each call is sent once.
    """

    def __init__(self) -> None:
        self._tokens = _CAPACITY

    def take(self, *, rate_limited: bool) -> bool:
        """
        Take the tokens for one retry if there are enough.

        Args:
            rate_limited: True for a retry after a 429, which is cheaper.

        Returns:
            True if the call may be retried.
        """
        cost = _cost(rate_limited=rate_limited)
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True

    def credit(self, *, retried: bool, rate_limited: bool = False) -> None:
        """
        Add tokens for a successful request, up to the quota's capacity.

        Args:
            retried: True for a retry, which gets its cost back; a first attempt earns 1 token.
            rate_limited: True if the retry followed a 429.
        """
        credit = _cost(rate_limited=rate_limited) if retried else _FIRST_ATTEMPT_CREDIT
        self._tokens = min(_CAPACITY, self._tokens + credit)


def _cost(*, rate_limited: bool) -> float:
    return _RATE_LIMITED_RETRY_COST if rate_limited else _RETRY_COST
