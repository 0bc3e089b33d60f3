"""
Verdicts on failed polls: whether an error ends an id, the whole watch, or nothing.

1. A verdict is confirmed by repetition over time, never by a single response; how much it takes
   depends on what the client has seen before.  An error that no rule names is a failed poll.
2. A valid response starts every count again; timeouts and 5xx neither count nor reset.
3. Evidence about one id is its ``FailureStreak``, evidence about the server ``ServerHistory``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from attrs import define

from ezvideo_async._scheduling.failure_kinds import FailureKind, has_api_shape, kind_of
from ezvideo_async.errors import (
    APIStatusError,
    BadRequestError,
    BadResponseError,
    ConfigError,
)

if TYPE_CHECKING:
    from ezvideo_async._domain.events import LossReason
    from ezvideo_async._scheduling.server_history import Repetition, ServerHistory, ValidResponse
    from ezvideo_async.errors import ConfigReason, EzVideoError

    Verdict = LossReason | EzVideoError | None
    """The reason why the id is lost, the error that ends the watch, or None to continue."""

_IN_A_ROW = 3
"""Responses about one id: a single odd one comes from a stale replica or a passing attack."""

_REFUSED_SECONDS = 10.0
"""Between the first and the last refusal of an id that was never seen: two intervals."""

_SEEN_SECONDS = 60.0
"""The same for an id that was seen: it existed, and a rolling deploy answers both ways."""

_RETURNED_SECONDS = 600.0
"""The same for an id that came back after "not found": the server's replicas share no state."""

_GONE_IN_A_ROW = 2
"""A 410 says that the task will not come back; one may still be a proxy's mistake."""

_CONFIRMED_COUNT = 5
"""Responses of the client in a row, after a valid one, or pages before the first one."""

_PAGE_SECONDS = 30.0
"""For pages before any valid response: a server that starts shows some for seconds."""

_KEY_SECONDS = 60.0
"""For key, account, firewall and TLS after a valid response: one replica's odd minute."""

_ROUTE_SECONDS = 300.0
"""For redirects and routes after a valid response: rollouts of an ingress take minutes."""

_URL_MAX = 300  # characters of the url in a message; an id may have thousands

_PLAIN_ID = re.compile(r"[A-Za-z0-9._~:=@+-]+")
"""Ids that no proxy rewrites; any other may be the cause of a redirect, 403, 404 or page."""

_CONFIRMATION_SECONDS = {
    FailureKind.KEY: _KEY_SECONDS,
    FailureKind.NO_CREDIT: _KEY_SECONDS,
    FailureKind.FORBIDDEN: _KEY_SECONDS,
    FailureKind.FIREWALL: _KEY_SECONDS,
    FailureKind.UNTRUSTED: _KEY_SECONDS,
    FailureKind.REDIRECT: _ROUTE_SECONDS,
    FailureKind.ROUTE: _ROUTE_SECONDS,
    FailureKind.AMBIGUOUS: _ROUTE_SECONDS,
    FailureKind.PAGE: _PAGE_SECONDS,
}

_BY_PATH = frozenset(
    {
        FailureKind.FORBIDDEN,
        FailureKind.FIREWALL,
        FailureKind.REDIRECT,
        FailureKind.ROUTE,
        FailureKind.AMBIGUOUS,
        FailureKind.PAGE,
    }
)
"""Kinds that the path of one id may cause (Q18b)."""

_REFUSALS = frozenset(
    {
        FailureKind.REFUSED,
        FailureKind.KEY,
        FailureKind.NO_CREDIT,
        FailureKind.FORBIDDEN,
        FailureKind.REDIRECT,
        FailureKind.ROUTE,
    }
)
"""Kinds that count together as refusals of one id (Q5)."""

_NOT_FOUND = frozenset({FailureKind.NOT_FOUND, FailureKind.GONE, FailureKind.AMBIGUOUS})
_COUNTED_ALONE = _NOT_FOUND | {FailureKind.TOO_LARGE}


@define(eq=False, weakref_slot=False)
class FailureStreak:
    """
    The failed polls of one id since its last valid response.

    Attributes:
        has_returned: Whether the id came back after "not found" before.
        errors: Failures in a row that count for the backoff.
        kind: The kind that is counted: of the last failure that can end the id.
        count: Failures of that kind in a row.
        since: When the first of them came, loop clock.
        decisive: The last of them.
        valid_before: The client's last valid response before the first of them.
    """

    has_returned: bool = False
    errors: int = 0
    last_error: EzVideoError | None = None
    kind: FailureKind | None = None
    count: int = 0
    since: float = 0.0
    decisive: EzVideoError | None = None
    valid_before: ValidResponse | None = None

    @property
    def is_not_found(self) -> bool:
        return self.kind in _NOT_FOUND

    def record(
        self,
        kind: FailureKind,
        error: EzVideoError,
        *,
        last_valid: ValidResponse | None,
        now: float,
    ) -> None:
        """Record a failure; one of another kind that can end the id starts the count again."""
        self.last_error = error
        counted = FailureKind.REFUSED if kind in _REFUSALS else kind
        if counted is not FailureKind.REFUSED and kind not in _COUNTED_ALONE:
            return
        if counted is not self.kind:
            self.kind, self.count, self.since, self.valid_before = counted, 0, now, last_valid
        self.count += 1
        self.decisive = error

    def lasts(self, seconds: float, *, now: float) -> bool:
        """Return True after three in a row over at least these seconds."""
        return self.count >= _IN_A_ROW and now - self.since >= seconds


class FailedPoll(NamedTuple):
    """
    One failed poll.

    Attributes:
        url: The url of the request.
        is_seen: Whether a response or ``apply()`` has shown a state of this id.
        is_in_grace: Whether "not found" may still mean "not yet".
        is_in_hub: Whether the ids of its watch may come from visitors.
        at: When it ended, loop clock.
    """

    error: EzVideoError
    task_id: str
    url: str
    is_seen: bool
    is_in_grace: bool
    is_in_hub: bool
    at: float


def judge(poll: FailedPoll, streak: FailureStreak, history: ServerHistory) -> Verdict:
    """Record a failed poll in both histories, and return what it ends."""
    error, kind, now = poll.error, kind_of(poll.error), poll.at
    streak.record(kind, error, last_valid=history.last_valid, now=now)
    repetition = history.record_failure(kind, error, task_id=poll.task_id, now=now)
    match kind:
        case FailureKind.TRANSIENT | FailureKind.NO_TASK:
            return None
        case FailureKind.CONFIGURATION:
            return error
        case FailureKind.NOT_FOUND | FailureKind.GONE:
            return _judge_not_found(poll, kind, streak)
        case FailureKind.TOO_LARGE:
            return "too_large" if streak.lasts(0.0, now=now) else None  # it will not shrink
        case FailureKind.REFUSED:
            return _judge_refused(poll, streak, history)
        case FailureKind.PAGE:
            is_proven = history.last_valid is not None  # then it is maintenance
            is_fatal = not is_proven and _is_confirmed(poll, kind, repetition)
            return _not_the_api(poll) if is_fatal else None
        case FailureKind.AMBIGUOUS:
            return _judge_ambiguous(poll, streak, history, repetition)
        case _:
            return _judge_configuration(poll, kind, streak, history, repetition)


# -- about one id ---------------------------------------------------------------------------------


def _judge_not_found(poll: FailedPoll, kind: FailureKind, streak: FailureStreak) -> Verdict:
    """Q8 and Q9."""
    if not poll.is_seen:
        return None if poll.is_in_grace else "not_found"
    if kind is FailureKind.GONE:
        return "vanished" if streak.count >= _GONE_IN_A_ROW else None
    seconds = _RETURNED_SECONDS if streak.has_returned else _SEEN_SECONDS
    return "vanished" if streak.lasts(seconds, now=poll.at) else None


def _judge_refused(poll: FailedPoll, streak: FailureStreak, history: ServerHistory) -> Verdict:
    """Q1c and Q6."""
    error = poll.error
    if (
        isinstance(error, BadRequestError)
        and not poll.is_in_hub
        and history.record_refusal(error, task_id=poll.task_id)
    ):
        return _refused_alike(poll)
    return "refused" if _is_lost(poll, streak) else None


def _is_lost(poll: FailedPoll, streak: FailureStreak) -> bool:
    """Return True if the id was refused for long enough (Q5)."""
    return streak.lasts(_SEEN_SECONDS if poll.is_seen else _REFUSED_SECONDS, now=poll.at)


# -- about the server -----------------------------------------------------------------------------


def _judge_configuration(
    poll: FailedPoll,
    kind: FailureKind,
    streak: FailureStreak,
    history: ServerHistory,
    repetition: Repetition,
) -> Verdict:
    """Q1, Q2, Q5 and Q7, for everything that key, account, firewall or base_url may cause."""
    if history.last_valid is None:
        if kind is FailureKind.FIREWALL:
            return None  # it may admit the next request
        if _is_about_server(poll, kind, repetition):
            return _permanent(poll.error)
        return "refused" if _is_lost(poll, streak) else None
    if _is_confirmed(poll, kind, repetition):
        return _permanent(poll.error)
    is_about_id = kind in _REFUSALS and _is_in_shape(poll.error)
    is_odd = is_about_id and _are_others_answered(poll, streak, history)
    return "refused" if is_odd and _is_lost(poll, streak) else None


def _judge_ambiguous(
    poll: FailedPoll, streak: FailureStreak, history: ServerHistory, repetition: Repetition
) -> Verdict:
    """Q1b: a 404 that may be about the id or about the route."""
    kind = FailureKind.AMBIGUOUS
    lost: LossReason = "vanished" if poll.is_seen else "not_found"
    if history.last_valid is None:
        if poll.is_in_grace or not history.has_only_ambiguous:
            return None
        if _is_about_server(poll, kind, repetition):
            return _wrong_route(poll)
        return lost if not poll.is_seen or _is_lost(poll, streak) else None
    if _is_confirmed(poll, kind, repetition):
        return _wrong_route(poll)
    is_odd = _are_others_answered(poll, streak, history) and _is_lost(poll, streak)
    return lost if is_odd else None


def _are_others_answered(poll: FailedPoll, streak: FailureStreak, history: ServerHistory) -> bool:
    return history.answered_another(poll.task_id, after=streak.valid_before)


def _is_confirmed(poll: FailedPoll, kind: FailureKind, repetition: Repetition) -> bool:
    """Return True if the client met this kind for so long that it is no passing fault (Q2, Q3)."""
    return (
        repetition.count >= _CONFIRMED_COUNT
        and poll.at - repetition.since >= _CONFIRMATION_SECONDS[kind]
        and _is_about_server(poll, kind, repetition)
    )


def _is_about_server(poll: FailedPoll, kind: FailureKind, repetition: Repetition) -> bool:
    """Return False if the path of this one id may be the cause (Q18b)."""
    if kind not in _BY_PATH or repetition.has_two_ids:
        return True
    return not poll.is_in_hub and _PLAIN_ID.fullmatch(poll.task_id) is not None


def _is_in_shape(error: EzVideoError) -> bool:
    return isinstance(error, ConfigError) or has_api_shape(error)


# -- fatal errors ---------------------------------------------------------------------------------


def _permanent(error: EzVideoError) -> EzVideoError:
    error.retryable = False
    return error


def _wrong_route(poll: FailedPoll) -> ConfigError:
    phrase = f"HTTP 404 from {_shown(poll.url)}: no such route; does base_url end with /v1?"
    return _config_error(phrase, poll, "route")


def _not_the_api(poll: FailedPoll) -> ConfigError:
    got = "text/html" if getattr(poll.error, "reason", None) == "html" else "no JSON"
    phrase = f"got {got} from {_shown(poll.url)}; does base_url end with /v1?"
    return _config_error(phrase, poll, "not_the_api")


def _refused_alike(poll: FailedPoll) -> ConfigError:
    phrase = f"{poll.error}; every task is refused alike: check base_url and the API key"
    return _config_error(phrase, poll, "refused")


def _config_error(phrase: str, poll: FailedPoll, reason: ConfigReason) -> ConfigError:
    error = poll.error
    assert isinstance(error, APIStatusError | BadResponseError), "there was a response"
    return ConfigError(
        phrase,
        reason=reason,
        task_id=poll.task_id,
        status=error.status,
        code=error.code,
        server_message=error.message,
        error_type=error.error_type,
        request_id=error.request_id,
        body_excerpt=error.body_excerpt,
    )


def _shown(url: str) -> str:
    """Return a url without its query, cut."""
    return url.partition("?")[0][:_URL_MAX]
