"""
Trace of one run: the records, in order, that the oracle checks.

A *watch* is one id from ``add()`` to its end: ``(task_id, number)``, with numbers from 1 (or any
other) per id.  Events carry the number of their watch as the tag.  A *reader* is a loop over
events: 0 is the first watcher's own.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Literal

from attrs import define, field, frozen

if TYPE_CHECKING:
    from ezvideo_async import Event

WatchKey = tuple[str, object]

Kind = Literal["ok", "refusal", "rate_limited", "unavailable", "failure", "unclear", "cancelled"]
"""
Result of a request: a task's state; a refusal by a healthy server; a 429; a failure as in an
outage; a response that shows neither; cancelled.
"""


@define
class Added:
    """Watch number *number* of an id began; *deadline* is an instant of the loop clock."""

    task_id: str
    number: object
    at: float
    deadline: float = inf


@define
class AddedAgain:
    """``add()`` of a watched id, with a tag that no event may have."""

    task_id: str
    tag: object
    at: float


@define
class Discarded:
    """``discard()`` returned True."""

    task_id: str
    number: object
    at: float


@define
class Left:
    """The watcher was left, which ends every watch."""

    at: float


@define(eq=False)
class Asked:
    """
    A request was sent; *ended* is when it was answered, failed or cancelled.

    Attributes:
        number: The newest watch of the id; None if there is none.
        resend: True if it repeats another one at once, as part of it.
    """

    task_id: str
    at: float
    ended: float | None = None
    number: object = None
    resend: bool = False

    @property
    def key(self) -> WatchKey:
        return self.task_id, self.number


@define
class Closed:
    """A request had a result; *hint* is how long the server asked to wait, in seconds."""

    asked: Asked
    at: float
    kind: Kind
    hint: float | None = None

    @property
    def key(self) -> WatchKey:
        return self.asked.key


@define
class Answered:
    """The server, or ``apply()``, showed this state of a watch."""

    task_id: str
    at: float
    status: str
    progress: int | None = None
    number: object = None

    @property
    def key(self) -> WatchKey:
        return self.task_id, self.number


@define
class Ended:
    """The watcher decided the end of an id; its final event may not be delivered yet."""

    task_id: str
    at: float
    number: object = None

    @property
    def key(self) -> WatchKey:
        return self.task_id, self.number


@define
class Joined:
    """
    A reader began.

    Attributes:
        watches: The open watches it gets.
        later: True if it also gets watches that begin later.
        replay: True if it gets the current states first.
    """

    reader: int
    at: float
    watches: frozenset[WatchKey] = frozenset()
    later: bool = True
    replay: bool = True


@define
class Delivered:
    """A reader got an event."""

    event: Event
    at: float
    reader: int = 0


@define
class Waits:
    """A reader has no unread event and waits."""

    at: float
    reader: int = 0


@define
class Unread:
    """A reader has *count* unread events."""

    count: int
    at: float
    reader: int = 0


@define
class Finished:
    """A reader's iteration ended by itself."""

    at: float
    reader: int = 0


@define
class Raised:
    """A reader's iteration ended by an exception."""

    error: BaseException
    at: float
    reader: int = 0


@define
class Stalled:
    """The loop or the machine stood still for *seconds* until now."""

    seconds: float
    at: float


@define
class Woke:
    """The loop has had *count* rounds since the run began, for *calls* calls of users."""

    count: int
    at: float
    calls: int = 0


@define
class Complained:
    """The event loop reported an unhandled exception or task."""

    message: str
    at: float


Record = (
    Added
    | AddedAgain
    | Discarded
    | Left
    | Asked
    | Closed
    | Answered
    | Ended
    | Joined
    | Delivered
    | Waits
    | Unread
    | Finished
    | Raised
    | Stalled
    | Woke
    | Complained
)


@define
class Trace:
    """The records of a run, in order; the methods append to it."""

    records: list[Record] = field(factory=list)
    numbers: dict[str, object] = field(factory=dict)
    _read: int = 0

    def added(self, task_id: str, at: float, *, deadline: float = inf) -> int:
        """Record that a watch begins; return its number, to be used as the tag."""
        last = self.numbers.get(task_id)
        number = last + 1 if isinstance(last, int) else 1
        self.numbers[task_id] = number
        self.records.append(Added(task_id, number, at, deadline))
        return number

    def asked(self, task_id: str, at: float, *, resend: bool = False) -> Asked:
        """Record a request; ``closed`` sets its end."""
        record = Asked(task_id, at, number=self._newest(task_id), resend=resend)
        self.records.append(record)
        return record

    def closed(self, asked: Asked, at: float, kind: Kind, *, hint: float | None = None) -> None:
        """Record the result of a request."""
        asked.ended = at
        self.records.append(Closed(asked, at, kind, hint))

    def answered(
        self,
        task_id: str,
        at: float,
        status: str,
        progress: int | None = None,
        *,
        asked: Asked | None = None,
    ) -> None:
        """Record the state in the response to *asked*, or from ``apply()``."""
        number = self._newest(task_id) if asked is None else asked.number
        self.records.append(Answered(task_id, at, status, progress, number))

    def ended(self, task_id: str, at: float) -> None:
        """Record that an observer got an end."""
        self.records.append(Ended(task_id, at, self._newest(task_id)))

    def delivered(self, event: Event, at: float, *, reader: int = 0) -> None:
        """Record the event that a reader got."""
        self.records.append(Delivered(event, at, reader))

    def _newest(self, task_id: str) -> object:
        for record in self.records[self._read :]:
            if isinstance(record, Added):
                self.numbers[record.task_id] = record.number
        self._read = len(self.records)
        return self.numbers.get(task_id)


@frozen(kw_only=True)
class Limits:
    """
    What the run was allowed.

    Attributes:
        longest_gap: Seconds between two polls of an open id in a backoff, a cool-down, an outage,
            or when the budget is exhausted.
        timeout: Seconds after which one request times out.
        wakes: Rounds of the loop for each request, event and call of a user.
    """

    min_interval: float = 1.0
    max_in_flight: int = 64
    rate: float = 100.0
    burst: float = 5.0
    interval: float = 5.0
    jitter: float = 0.1
    longest_gap: float = inf
    timeout: float = 15.0
    wakes: float = 40.0
