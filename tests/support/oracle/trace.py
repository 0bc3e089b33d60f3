"""
What happened in one run, in order: the records that the oracle judges.

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

Kind = Literal["ok", "well", "throttled", "trouble", "neither", "cancelled"]
"""
How a request ended: a task's state; a refusal that shows the server well; a 429; trouble of an
outage; an answer that tells neither; cancelled.
"""


@define
class Added:
    """Watch number *number* of an id began; it is given up at *deadline*, loop clock."""

    task_id: str
    number: object
    at: float
    deadline: float = inf


@define
class AddedAgain:
    """``add()`` of an id that was being watched, with a tag that no event may carry."""

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
    """The watcher was left: every watch that began is over."""

    at: float


@define(eq=False)
class Asked:
    """
    A request left; *ended* is when it was answered, failed or cancelled.

    Attributes:
        number: The newest watch of the id; None when there never was one.
        resend: Sent at once after another one, as a part of it.
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
    """A request had a result; *hint* is what the server asked to wait, seconds."""

    asked: Asked
    at: float
    kind: Kind
    hint: float | None = None

    @property
    def key(self) -> WatchKey:
        return self.asked.key


@define
class Answered:
    """The server showed, or a webhook fed, this status word about a watch."""

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
    """The watcher gave an id its end, told or not yet told."""

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
        watches: Those that were open.
        later: Whether watches that begin later are told too.
        replay: Whether the state that is known is told first.
    """

    reader: int
    at: float
    watches: frozenset[WatchKey] = frozenset()
    later: bool = True
    replay: bool = True


@define
class ErrorBody:
    """A reader got an event."""

    event: Event
    at: float
    reader: int = 0


@define
class Waits:
    """A reader has nothing unread and waits."""

    at: float
    reader: int = 0


@define
class Unread:
    """A reader has so many events before it."""

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
    """The loop stood still, or the machine slept, for so many seconds until now."""

    seconds: float
    at: float


@define
class Woke:
    """The loop has gone round so many times since the run began, for so many *calls* of users."""

    count: int
    at: float
    calls: int = 0


@define
class Complained:
    """The event loop told of a task or exception that nobody looked after."""

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
    | ErrorBody
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
    """What happened, in order; the methods note it."""

    records: list[Record] = field(factory=list)
    numbers: dict[str, object] = field(factory=dict)
    _read: int = 0

    def added(self, task_id: str, at: float, *, deadline: float = inf) -> int:
        """Note that a new watch begins; its number, to be used as the tag."""
        last = self.numbers.get(task_id)
        number = last + 1 if isinstance(last, int) else 1
        self.numbers[task_id] = number
        self.records.append(Added(task_id, number, at, deadline))
        return number

    def asked(self, task_id: str, at: float, *, resend: bool = False) -> Asked:
        """Note a request; its end is filled in later."""
        record = Asked(task_id, at, number=self._newest(task_id), resend=resend)
        self.records.append(record)
        return record

    def closed(self, asked: Asked, at: float, kind: Kind, *, hint: float | None = None) -> None:
        """Note the result of a request."""
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
        """Note what the server showed to *asked*, or what was fed."""
        number = self._newest(task_id) if asked is None else asked.number
        self.records.append(Answered(task_id, at, status, progress, number))

    def ended(self, task_id: str, at: float) -> None:
        """Note that an observer heard of an end."""
        self.records.append(Ended(task_id, at, self._newest(task_id)))

    def told(self, event: Event, at: float, *, reader: int = 0) -> None:
        """Note what a reader got."""
        self.records.append(ErrorBody(event, at, reader))

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
        patience: Seconds for which an open id may be left unasked when something is in the way:
            back-off, cool-down, an outage, a full house.
        timeout: Seconds after which one request is given up.
        wakes: Rounds of the loop for each request, event and call of a user.
    """

    min_interval: float = 1.0
    max_in_flight: int = 64
    rate: float = 100.0
    burst: float = 5.0
    interval: float = 5.0
    jitter: float = 0.1
    patience: float = inf
    timeout: float = 15.0
    wakes: float = 40.0
