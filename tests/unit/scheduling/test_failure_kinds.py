"""Kinds of failed polls: each error is one kind, and what users are advised to check."""

from __future__ import annotations

import pytest

from ezvideo_async._scheduling.failure_kinds import (
    FailureKind,
    is_local_stall,
    kind_of,
    proves_server,
    what_to_check,
)
from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ClosedError,
    ConfigError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
    TLSError,
    TransportError,
)

Kind = FailureKind

KINDS = [
    (Kind.NOT_FOUND, TaskNotFoundError("x", status=404, code="task_not_found")),
    (Kind.NOT_FOUND, TaskNotFoundError("x", status=400, code="task_not_exist")),
    (Kind.GONE, TaskNotFoundError("x", status=410)),
    (Kind.AMBIGUOUS, TaskNotFoundError("x", status=404, is_ambiguous=True)),
    (Kind.CONFIGURATION, ConfigError("no key")),
    (Kind.REDIRECT, ConfigError("x", reason="redirect", status=302)),
    (Kind.ROUTE, ConfigError("x", reason="route", status=404, retryable=True)),
    (Kind.KEY, AuthenticationError("x", status=401)),
    (Kind.NO_CREDIT, PermissionDeniedError("x", status=402)),
    (Kind.FORBIDDEN, PermissionDeniedError("x", status=403, server_message="banned")),
    (Kind.FIREWALL, PermissionDeniedError("x", status=403, retryable=True, code="1010")),
    (Kind.FIREWALL, PermissionDeniedError("x", status=403)),
    (Kind.REFUSED, BadRequestError("x", status=400, code="bad")),
    (Kind.REFUSED, BadRequestError("x", status=422, server_message="no", retryable=True)),
    (Kind.TRANSIENT, BadRequestError("x", status=400, retryable=True, body_excerpt="<html>")),
    (Kind.REFUSED, ServerError("x", status=501, server_message="not_implemented")),
    (Kind.TRANSIENT, ServerError("x", status=501)),
    (Kind.TRANSIENT, ServerError("x", status=503, server_message="busy")),
    (Kind.TRANSIENT, RateLimitError("x", status=429)),
    (Kind.UNTRUSTED, TLSError("x")),
    (Kind.UNTRUSTED, TransportError("x", reason="proxy", retryable=False)),
    (Kind.TRANSIENT, TransportError("x", reason="proxy")),
    (Kind.TRANSIENT, TransportError("x", reason="dns", retryable=False)),
    (Kind.PAGE, BadResponseError("x", status=200, reason="html")),
    (Kind.PAGE, BadResponseError("x", status=200, reason="not_json")),
    (Kind.PAGE, BadResponseError("x", status=200, reason="empty")),
    (Kind.NO_TASK, BadResponseError("x", status=204, reason="empty")),
    (Kind.NO_TASK, BadResponseError("x", status=200, reason="schema")),
    (Kind.NO_TASK, BadResponseError("x", status=200, reason="id_mismatch")),
    (Kind.TOO_LARGE, BadResponseError("x", status=200, reason="too_large")),
    (Kind.TRANSIENT, BadResponseError("x", status=503, reason="too_large")),
    (Kind.TRANSIENT, ClosedError("x")),
]


@pytest.mark.parametrize(
    ("kind", "error"),
    KINDS,
    ids=[f"{kind.name}-{number}" for number, (kind, _) in enumerate(KINDS)],
)
def test_each_error_is_one_kind(kind, error):
    """By class, status, reason, and whether the body is the API's."""
    assert kind_of(error) is kind


@pytest.mark.parametrize(
    ("error", "is_proof"),
    [
        (TaskNotFoundError("x", status=404, code="task_not_found"), True),
        (TaskNotFoundError("x", status=404, server_message="Video not found"), True),
        (TaskNotFoundError("x", status=404, server_message="Not Found", is_ambiguous=True), False),
        (TaskNotFoundError("x", status=410), False),
        (BadRequestError("x", status=400, code="bad"), False),
    ],
)
def test_only_not_found_in_the_shape_of_the_api_proves_the_server(error, is_proof):
    """It shows that key and base_url are right, as a task does."""
    assert proves_server(error) is is_proof


def test_only_our_own_timeout_is_a_local_stall():
    """The reason is given by the transport."""
    assert is_local_stall(RequestTimeoutError("x", reason="local_stall"))
    assert not is_local_stall(RequestTimeoutError("x"))
    assert not is_local_stall(ServerError("x", status=503))


@pytest.mark.fault("Q16")
@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (TransportError("x", reason="dns"), "check base_url, the network and the proxy"),
        (RequestTimeoutError("x", reason="local_stall"), None),
        (BadResponseError("x", reason="html"), "check that base_url leads to the API"),
        (BadResponseError("x", reason="schema"), "check that base_url leads to the API"),
        (ConfigError("x", reason="redirect"), "check that base_url leads to the API"),
        (PermissionDeniedError("x", status=403), "check the API key, base_url and the ids"),
        (BadRequestError("x", code="bad"), "check the API key, base_url and the ids"),
        (RateLimitError("x", status=429), None),
        (ServerError("x", status=503), None),
        (TaskNotFoundError("x", status=404), None),
    ],
)
def test_advice_is_by_kind(error, advice):
    """None where only waiting helps."""
    assert what_to_check(error) == advice
