"""What a client has seen of its server: the last valid response, and the failures since then."""

from __future__ import annotations

import pytest

from ezvideo_async._scheduling.failure_kinds import kind_of
from ezvideo_async._scheduling.server_history import ServerHistory
from ezvideo_async.errors import BadResponseError, ServerError, TaskNotFoundError, TransportError

BUSY = ServerError("HTTP 503", status=503)
REFUSED = TransportError("connection refused")
NOT_FOUND = TaskNotFoundError("x", status=404, code="task_not_found")


def fail(history, error, *, now):
    """Record a failed poll."""
    return history.record_failure(kind_of(error), error, task_id="a", now=now)


@pytest.mark.fault("Q17")
def test_history_is_failing_since_the_first_failure_after_a_valid_response():
    """Until the next valid one."""
    history = ServerHistory()
    assert (history.last_valid_at, history.failing_since, history.last_error) == (None, None, None)

    fail(history, REFUSED, now=1.0)
    fail(history, BUSY, now=2.0)
    assert (history.last_valid_at, history.failing_since) == (None, 1.0)
    assert history.last_error is BUSY

    history.record_valid("a", 3.0)
    assert (history.last_valid_at, history.failing_since, history.last_error) == (3.0, None, None)

    fail(history, BUSY, now=4.0)
    assert (history.last_valid_at, history.failing_since, history.last_error) == (3.0, 4.0, BUSY)


@pytest.mark.fault("Q17")
def test_a_task_that_is_not_found_is_no_failing_server():
    """The server responded as the API does."""
    history = ServerHistory()
    history.record_valid("a", 1.0)

    fail(history, NOT_FOUND, now=1.0)

    assert (history.failing_since, history.last_error) == (None, None)


@pytest.mark.fault("Q3", "Q16")
def test_a_warning_is_given_once_for_each_advice_before_a_valid_response():
    """Afterwards an outage is no reason to check the configuration."""
    history = ServerHistory()
    page, schema = (BadResponseError("x", reason=reason) for reason in ("html", "schema"))

    warnings = [history.warning_of(error) for error in (BUSY, REFUSED, REFUSED, page, schema)]

    assert warnings == [
        None,
        "check base_url, the network and the proxy",
        None,
        "check that base_url leads to the API",
        None,
    ]
    proven = ServerHistory()
    proven.record_valid("a", 0.0)
    assert proven.warning_of(REFUSED) is None
