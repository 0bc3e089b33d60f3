"""
Verdicts on failed polls: whether an error ends an id, the whole watch, or nothing.

An error that no rule names is a failed poll: the next poll decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigError,
    EzVideoError,
    PermissionDeniedError,
    ServerError,
    TaskNotFoundError,
    TLSError,
    TransportError,
)

if TYPE_CHECKING:
    from ezvideo_async._domain.events import LossReason

_NOT_FOUND_AFTER_SEEN = 3  # in a row: a stale replica may respond so, too
_FIREWALL_PAGES, _FIREWALL_SECONDS = 5, 60.0  # 5 pages in a row over a minute are permanent
_GONE, _NOT_IMPLEMENTED = 410, 501


@define(eq=False, weakref_slot=False)
class FailureStreak:
    """
    The failed polls of one id since its last valid response.

    Attributes:
        errors: Failures in a row that count for the backoff.
        not_found: Responses "not found" in a row, after the task was seen.
    """

    errors: int = 0
    not_found: int = 0
    last_error: EzVideoError | None = None

    def loss_by(
        self, error: EzVideoError, *, is_seen: bool, is_in_grace: bool
    ) -> LossReason | None:
        """
        Record a failure; return the reason why it ends the id, None if it does not.

        Args:
            error: The failure.
            is_seen: Whether a response has shown a state of this id.
            is_in_grace: Whether "not found" may still mean "not yet".
        """
        self.last_error = error
        if isinstance(error, TaskNotFoundError):
            return self._loss_by_not_found(error, is_seen=is_seen, is_in_grace=is_in_grace)
        if isinstance(error, BadRequestError):
            return None if error.retryable and self.errors == 0 else "refused"
        if isinstance(error, ServerError) and error.status == _NOT_IMPLEMENTED and error.message:
            return "refused"  # new-api: about the task's channel; a proxy's page names no task
        return None

    def _loss_by_not_found(
        self, error: TaskNotFoundError, *, is_seen: bool, is_in_grace: bool
    ) -> LossReason | None:
        is_gone = error.status == _GONE
        if not is_seen:
            return None if is_in_grace and not is_gone else "not_found"
        self.not_found += 1
        return "vanished" if is_gone or self.not_found >= _NOT_FOUND_AFTER_SEEN else None


class FirewallPages:
    """Web pages under 403 in a row, from a firewall in front of the API; one client's."""

    def __init__(self) -> None:
        self._count = 0
        self._since = 0.0

    def reset(self) -> None:
        self._count = 0

    def is_permanent(self, error: EzVideoError, now: float) -> bool:
        """Record an error; return True if the firewall refuses for too long to be temporary."""
        if not isinstance(error, PermissionDeniedError) or not error.retryable:
            self.reset()
            return False
        if self._count == 0:
            self._since = now
        self._count += 1
        return self._count >= _FIREWALL_PAGES and now - self._since >= _FIREWALL_SECONDS


def is_fatal(error: EzVideoError) -> bool:
    """Return True for an error of key or configuration, which ends a whole watch."""
    if isinstance(error, TransportError) and error.reason == "proxy":
        return not error.retryable
    kinds = (AuthenticationError, PermissionDeniedError, ConfigError, TLSError)
    return isinstance(error, kinds) and not error.retryable


def is_local_stall(error: EzVideoError) -> bool:
    """Return True for a timeout of our own: the loop was blocked while the response waited."""
    return isinstance(error, TransportError) and error.reason == "local_stall"
