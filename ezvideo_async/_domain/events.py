"""
What a watcher tells: one class per kind of change.

No await, no clock, no randomness, no I/O.  Per task, events come in order and end with exactly
one final event; between tasks no order is promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, get_args

from attrs import field, fields_dict, frozen

from ezvideo_async._domain.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async.errors import EzVideoError


@frozen(kw_only=True)
class TaskEvent:
    """
    The base of all events.

    Attributes:
        kind: The name of the kind in snake case, such as ``task_completed``.
        is_final: True for the last event of a task.
        task_id: The id as it was added.
        task: The task's state with this event; None when no answer ever came.
        seq: The number of this event among those this reader received: 1, 2, 3 without gaps.
        at: When the change was seen, Unix seconds.
        tag: What was given to ``add(..., tag=...)``.
    """

    kind: ClassVar[str] = "task_event"
    is_final: ClassVar[bool] = False

    task_id: str
    task: VideoTask | None
    seq: int = 0
    at: float = 0.0
    tag: Any = None

    def to_dict(self) -> dict[str, Any]:
        """
        The event as plain data for JSON.

        Shape:
            ``event``, ``task_id``, ``seq``, ``at`` (Unix seconds, float), ``final``, ``task``
            (:meth:`VideoTask.to_dict` or None), ``tag`` when there is one, and the kind's own
            fields.  A tag goes in as it is.
        """
        shape: dict[str, Any] = {
            "event": self.kind,
            "task_id": self.task_id,
            "seq": self.seq,
            "at": self.at,
            "final": self.is_final,
            "task": None if self.task is None else self.task.to_dict(),
            **self._details(),
        }
        return shape if self.tag is None else shape | {"tag": self.tag}

    def _details(self) -> dict[str, Any]:
        return {}


@frozen(kw_only=True)
class StatusChanged(TaskEvent):
    """
    The task is alive and its status is another one, or was seen for the first time.

    Attributes:
        previous: The status this reader saw before; None the first time.
        current: ``pending`` or ``processing``: an end is an event of its own.
    """

    kind: ClassVar[str] = "status_changed"

    previous: TaskStatus | None
    current: TaskStatus

    @property
    def regressed(self) -> bool:
        """True when a task went from processing back to pending, as after being requeued."""
        return self.previous is TaskStatus.PROCESSING and self.current is TaskStatus.PENDING

    def _details(self) -> dict[str, Any]:
        return {
            "previous": None if self.previous is None else str(self.previous),
            "current": str(self.current),
        }


@frozen(kw_only=True)
class ProgressChanged(TaskEvent):
    """
    Same status, other progress; only told to readers who asked for progress.

    Where nothing else had changed, the task is read when it is first asked for, from the answer
    that this event tells of.

    Attributes:
        previous: Whole percent this reader saw before; None when unknown.
        current: Whole percent, 0-100; None when the server stopped telling.
    """

    kind: ClassVar[str] = "progress_changed"

    previous: int | None
    current: int | None
    _read: Callable[[], VideoTask | None] | None = field(
        init=False, default=None, eq=False, repr=False
    )

    if not TYPE_CHECKING:  # a type checker would let any name pass

        def __getattr__(self, name: str) -> Any:
            if name != "task":
                message = f"{type(self).__name__!r} object has no attribute {name!r}"
                raise AttributeError(message)
            task = self._read()
            object.__setattr__(self, "task", task)
            return task

    @property
    def regressed(self) -> bool:
        """True when the percentage went down."""
        return (
            self.previous is not None and self.current is not None and self.current < self.previous
        )

    def _details(self) -> dict[str, Any]:
        return {"previous": self.previous, "current": self.current}


@frozen(kw_only=True)
class TaskStalled(TaskEvent):
    """
    The task is alive, but neither its status nor its progress has changed for long.

    Told once per stall; how long is long: ``PollPolicy.stalled_after``.  Gateways exist that
    never admit a failure, so a stalled task may never end.

    Attributes:
        since: When the last change was seen, Unix seconds.
    """

    kind: ClassVar[str] = "task_stalled"

    since: float

    def _details(self) -> dict[str, Any]:
        return {"since": self.since}


@frozen(kw_only=True)
class FinalEvent(TaskEvent):
    """The base of the events that end a watch: a test for it takes 0.04 us, for a union 0.11."""

    is_final: ClassVar[bool] = True


@frozen(kw_only=True)
class TaskCompleted(FinalEvent):
    """The task ended well; ``task.url`` is where the video is, if the server says so."""

    kind: ClassVar[str] = "task_completed"

    task: VideoTask


@frozen(kw_only=True)
class TaskFailed(FinalEvent):
    """The task ended without a video; ``task.error`` says why, as far as the server did."""

    kind: ClassVar[str] = "task_failed"

    task: VideoTask


@frozen(kw_only=True)
class TaskLost(FinalEvent):
    """
    We stopped looking; the remote task may still run, and be billed.

    Attributes:
        error: Why: ``TaskNotFoundError``, ``WaitTimeoutError`` for the deadline, or the error
            with which the server refuses this one task.
        reason: ``not_found`` (never seen), ``vanished`` (seen before), ``deadline`` or
            ``refused``.
    """

    kind: ClassVar[str] = "task_lost"

    error: EzVideoError = field(eq=False)
    reason: str

    def _details(self) -> dict[str, Any]:
        return {
            "reason": self.reason,
            "error": {"type": type(self.error).__name__, "message": str(self.error)},
        }


Final = TaskCompleted | TaskFailed | TaskLost
"""The events that end a watch."""

Event = StatusChanged | ProgressChanged | TaskStalled | TaskCompleted | TaskFailed | TaskLost
"""Every event a watcher yields; ``match`` over its six classes is exhaustive."""


def numbered(event: Event, seq: int) -> Event:
    """
    Give an event its number among those of one reader.

    The first reader gets the event itself, which nobody has seen before: a copy takes 1.8 us, with
    ``attrs.evolve`` 3.7, and most events have one reader.
    """
    if event.seq == 0:
        object.__setattr__(event, "seq", seq)
        return event
    copy = object.__new__(type(event))
    for name in _NAMES[type(event)]:
        object.__setattr__(copy, name, getattr(event, name))
    object.__setattr__(copy, "seq", seq)
    return copy


def progress_changed(
    read: Callable[[], VideoTask | None],
    *,
    task_id: str,
    at: float,
    tag: Any,
    previous: int | None,
    current: int,
) -> ProgressChanged:
    """
    Make an event whose task is read on demand: over a quarter of a poll, which few readers need.

    Args:
        read: Gives the task, at any time the same.
        task_id: As of all events, like the rest.
        at: Unix seconds.
        tag: What was given to ``add``.
        previous: Whole percent.
        current: Whole percent.
    """
    event = object.__new__(ProgressChanged)
    fields = (task_id, 0, at, tag, previous, current, read)
    for set_field, value in zip(_SETTERS_BUT_TASK, fields, strict=True):
        set_field(event, value)
    return event


_SETTERS_BUT_TASK = tuple(
    getattr(ProgressChanged, name).__set__
    for name in ("task_id", "seq", "at", "tag", "previous", "current", "_read")
)
"""The slots' own, past what keeps others from setting: in two thirds of the time."""

_NAMES = {kind: tuple(fields_dict(kind)) for kind in get_args(Event)}
