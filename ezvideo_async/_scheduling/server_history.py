"""
What one client has seen of its server: the last valid response, and the failures since then.

All schedulers of a client share it, and ``retrieve()`` adds its valid responses.  A valid response
is a decoded task, or "no such task" in the API's own shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from ezvideo_async._scheduling.failure_kinds import FailureKind, proves_server, what_to_check

if TYPE_CHECKING:
    from ezvideo_async.errors import BadRequestError, EzVideoError

ValidResponse = tuple[float, str]
"""When it came, loop clock, and the id that it was about."""

_REFUSED_ALIKE = 3
"""Distinct ids, the first ones, that one refusal must meet to be about all ids (Q1c)."""

_NO_EVIDENCE = frozenset({FailureKind.TRANSIENT, FailureKind.AMBIGUOUS})
"""Kinds beside which "nothing but ambiguous 404s came" still holds (Q1b)."""


@define(eq=False)
class Repetition:
    """
    The responses of one kind since the last valid response, in a row for the whole client.

    Attributes:
        since: When the first one came, loop clock.
        has_two_ids: Whether they were about two distinct ids.
    """

    since: float
    first_id: str
    count: int = 0
    has_two_ids: bool = False

    def add(self, task_id: str) -> None:
        self.count += 1
        self.has_two_ids = self.has_two_ids or task_id != self.first_id


@define(eq=False)
class _Refusals:
    """The first refusals of ids, while nothing valid came: what they have in common."""

    code: str | None
    message: str | None
    ids: set[str] = field(factory=set)

    def add(self, error: BadRequestError, task_id: str) -> bool:
        """Add one; return True once three distinct ids were refused alike."""
        self.code = self.code if self.code == _own_code(error) else None
        self.message = self.message if self.message == error.message else None
        if len(self.ids) < _REFUSED_ALIKE:
            self.ids.add(task_id)
        is_alike = (self.code or self.message) is not None
        return is_alike and len(self.ids) >= _REFUSED_ALIKE


def _own_code(error: BadRequestError) -> str | None:
    """Return the error code; LiteLLM repeats the status there, which says nothing."""
    return None if error.code == str(error.status) else error.code


class ServerHistory:
    """
    The history of one client; a valid response costs one assignment.

    Attributes:
        last_valid: The last valid response; None before the first one.
    """

    def __init__(self) -> None:
        self.last_valid: ValidResponse | None = None
        self._failing_after: ValidResponse | None = None  # the last one before the failures
        self._failing_since: float | None = None
        self._last_error: EzVideoError | None = None
        self._repetitions: dict[FailureKind, Repetition] = {}
        self._has_other_evidence = False
        self._refusals: _Refusals | None = None
        self._warned: set[str] = set()

    def record_valid(self, task_id: str, now: float) -> None:
        self.last_valid = (now, task_id)

    def record_failure(
        self, kind: FailureKind, error: EzVideoError, *, task_id: str, now: float
    ) -> Repetition:
        """Record a failed poll; return the failures of its kind since the last valid response."""
        if self._failing_after is not self.last_valid:
            self._failing_after, self._failing_since = self.last_valid, None
            self._repetitions.clear()
        if not proves_server(error):
            self._last_error = error
            if self._failing_since is None:
                self._failing_since = now
        if kind not in _NO_EVIDENCE:
            self._has_other_evidence = True
        repetition = self._repetitions.get(kind)
        if repetition is None:
            repetition = self._repetitions[kind] = Repetition(now, task_id)
        repetition.add(task_id)
        return repetition

    def record_refusal(self, error: BadRequestError, *, task_id: str) -> bool:
        """Record a refused id; return True if the first ones were refused alike (Q1c)."""
        if self.last_valid is not None:
            return False
        if self._refusals is None:
            self._refusals = _Refusals(_own_code(error), error.message)
        return self._refusals.add(error, task_id)

    # -- what is known ----------------------------------------------------------------------------

    @property
    def has_only_ambiguous(self) -> bool:
        """True if nothing but ambiguous 404s came; timeouts and 5xx do not count."""
        return self.last_valid is None and not self._has_other_evidence

    def answered_another(self, task_id: str, *, after: ValidResponse | None) -> bool:
        """Return True if a later valid response than *after* is about another id."""
        last = self.last_valid
        return last is not None and last is not after and last[1] != task_id

    def warning_of(self, error: EzVideoError) -> str | None:
        """Return what to check, once for each advice before the first valid response."""
        advice = what_to_check(error) if self.last_valid is None else None
        if advice is None or advice in self._warned:
            return None
        self._warned.add(advice)
        return advice

    @property
    def last_valid_at(self) -> float | None:
        """When the last valid response came, loop clock; None before the first one."""
        return None if self.last_valid is None else self.last_valid[0]

    @property
    def failing_since(self) -> float | None:
        """When the first failed poll since the last valid response ended; None if none did."""
        return self._failing_since if self._is_failing else None

    @property
    def last_error(self) -> EzVideoError | None:
        """The last failure since the last valid response; None if none came."""
        return self._last_error if self._is_failing else None

    @property
    def _is_failing(self) -> bool:
        return self._failing_since is not None and self._failing_after is self.last_valid
