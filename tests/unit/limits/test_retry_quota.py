"""Retry quota: how many retries a full quota pays for, and what earns tokens."""

from __future__ import annotations

import pytest

from ezvideo_async._limits.retry_quota import RetryQuota


@pytest.mark.parametrize(("rate_limited", "count"), [(False, 7), (True, 20)])
def test_full_quota_pays_for_7_retries_or_20_after_a_429(rate_limited, count):
    """After that, retries are refused."""
    quota = RetryQuota()

    taken = [quota.take(rate_limited=rate_limited) for _ in range(count + 2)]

    assert taken == [True] * count + [False] * 2


@pytest.mark.parametrize(("rate_limited", "responses"), [(False, 14), (True, 5)])
def test_first_attempts_earn_retries(rate_limited, responses):
    """14 successful first attempts pay for a retry, 5 for one after a 429."""
    quota = RetryQuota()
    while quota.take(rate_limited=True):
        pass

    for _ in range(responses - 1):
        quota.credit(retried=False)

    assert not quota.take(rate_limited=rate_limited)
    quota.credit(retried=False)
    assert quota.take(rate_limited=rate_limited)


@pytest.mark.parametrize("rate_limited", [False, True])
def test_successful_retry_gets_its_cost_back(rate_limited):
    """The quota never exceeds its capacity."""
    quota = RetryQuota()

    for _ in range(100):
        assert quota.take(rate_limited=rate_limited)
        quota.credit(retried=True, rate_limited=rate_limited)
    for _ in range(100):
        quota.credit(retried=False)

    assert [quota.take(rate_limited=False) for _ in range(8)] == [True] * 7 + [False]
