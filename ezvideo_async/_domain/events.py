"""
Events that a watcher delivers: one class per kind of change.

Per task, events come in order and end with exactly one final event; between tasks no order is
promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from attrs import evolve, field, fields, frozen

from ezvideo_async._domain.fresh_errors import fresh_error
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async.errors import EzVideoError  # noqa: TC001 -- cattrs reads the annotations

FinalKind = Literal["task_completed", "task_failed", "task_lost"]
EventKind = Literal["status_changed", "progress_changed", "task_stalled"] | FinalKind
LossReason = Literal["not_found", "vanished", "deadline", "refused", "too_large"]


class EncodedTask(Protocol):
    """A task that is decoded on demand, since few readers of progress need it."""

    @property
    def is_large(self) -> bool:
        """True if the decoded task may take far more memory than most."""
        ...

    def decode(self) -> VideoTask | None:
        """Return the task; None when no response ever showed one."""


def _decoded(state: VideoTask | EncodedTask | None) -> VideoTask | None:
    return state if state is None or isinstance(state, VideoTask) else state.decode()


@frozen(kw_only=True, repr=False)
class TaskEvent:
    """
    The base of all events.

    Attributes:
        kind: The name of the kind in snake case, such as ``task_completed``.
        is_final: True for the last event of a task.
        task_id: The id as it was added.
        seq: The number of this event among those that this reader received: 1, 2, 3 without gaps.
        at: When the change was seen, Unix seconds.
        tag: The value given to ``add(..., tag=...)``.
    """

    kind: ClassVar[EventKind]
    is_final: ClassVar[bool] = False

    task_id: str
    _state: VideoTask | EncodedTask | None = field(alias="task", eq=_decoded)
    seq: int = 0
    at: float = 0.0
    tag: Any = None

    @property
    def task(self) -> VideoTask | None:
        """The task's state with this event; None when no response ever showed one."""
        task = _decoded(self._state)
        if task is not self._state:
            object.__setattr__(self, "_state", task)
        return task

    @property
    def dedup_key(self) -> str:
        """
        The id and the kind, for readers that must act once.

        The same event has the same key when it is delivered again after a restart; so has that of
        an id that is watched again later and finishes the same way.
        """
        return f"{self.task_id}:{self.kind}"

    def __repr__(self) -> str:
        names = [each.alias for each in fields(type(self))]
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({shown})"

    def to_dict(self) -> dict[str, Any]:
        """
        Return the event as plain data for JSON.

        Shape:
            ``event``, ``task_id``, ``seq``, ``at`` (Unix seconds, float), ``final``, ``task``
            (:meth:`VideoTask.to_dict` or None), ``tag`` when there is one, and the kind's own
            fields.  A tag is not converted.
        """
        from ezvideo_async._domain.serialization import plain_data  # noqa: PLC0415 -- loads cattrs

        return plain_data(self)


@frozen(kw_only=True, repr=False)
class StatusChanged(TaskEvent):
    """
    The task has not finished, and its status changed or was seen for the first time.

    Attributes:
        previous: The status that this reader saw before; None the first time.
        current: ``pending`` or ``processing``: a final status is an event of its own.
    """

    kind: ClassVar[Literal["status_changed"]] = "status_changed"

    previous: TaskStatus | None
    current: TaskStatus

    @property
    def regressed(self) -> bool:
        """True when a task went from processing back to pending, as after being requeued."""
        return self.previous is TaskStatus.PROCESSING and self.current is TaskStatus.PENDING


@frozen(kw_only=True, repr=False)
class ProgressChanged(TaskEvent):
    """
    Same status, other progress; delivered only to readers that asked for progress.

    Attributes:
        previous: Whole percent that this reader saw before; None when unknown.
        current: Whole percent, 0-100; None when the server stopped sending it.
    """

    kind: ClassVar[Literal["progress_changed"]] = "progress_changed"

    previous: int | None
    current: int | None

    @property
    def regressed(self) -> bool:
        """True when the percentage went down."""
        return (
            self.previous is not None and self.current is not None and self.current < self.previous
        )


@frozen(kw_only=True, repr=False)
class TaskStalled(TaskEvent):
    """
    The task has not finished, and its status and progress have not changed for a long time.

    Delivered once per stall, after ``PollPolicy.stalled_after`` seconds.  Gateways exist that
    never report a failure, so a stalled task may never finish.

    Attributes:
        since: When the last change was seen, Unix seconds; when the id was added if no response
            ever showed a state, and ``task`` is None.
        error: The error of the last poll; None when it showed the same state.
    """

    kind: ClassVar[Literal["task_stalled"]] = "task_stalled"

    since: float
    error: EzVideoError | None = field(default=None, eq=False)


@frozen(kw_only=True, repr=False)
class FinalEvent(TaskEvent):
    """The base of the events that end an id: the last one about it."""

    kind: ClassVar[FinalKind]
    is_final: ClassVar[bool] = True


@frozen(kw_only=True, repr=False)
class _FinishedEvent(FinalEvent):
    """The base of the two that carry a final state."""

    if TYPE_CHECKING:

        @property
        def task(self) -> VideoTask: ...


@frozen(kw_only=True, repr=False)
class TaskCompleted(_FinishedEvent):
    """The video is ready: ``task.url`` is its address, if the server sends one."""

    kind: ClassVar[Literal["task_completed"]] = "task_completed"


@frozen(kw_only=True, repr=False)
class TaskFailed(_FinishedEvent):
    """The task finished without a video; ``task.error`` says why, as far as the server did."""

    kind: ClassVar[Literal["task_failed"]] = "task_failed"


@frozen(kw_only=True, repr=False)
class TaskLost(FinalEvent):
    """
    The id is no longer polled; the remote task may still be running and be billed.

    Attributes:
        error: ``TaskNotFoundError``, ``WaitTimeoutError`` for the deadline, or the error with
            which the server refuses this one task.
        reason: ``not_found`` (never seen), ``vanished`` (seen before), ``deadline``,
            ``refused`` or ``too_large`` (its response exceeds ``max_response_bytes``).
    """

    kind: ClassVar[Literal["task_lost"]] = "task_lost"

    error: EzVideoError = field(eq=False)
    reason: LossReason


AnyFinalEvent = TaskCompleted | TaskFailed | TaskLost
"""Every event that ends an id, for annotations; ``FinalEvent`` is their base class."""

Event = StatusChanged | ProgressChanged | TaskStalled | TaskCompleted | TaskFailed | TaskLost
"""Every event a watcher yields; ``match`` over its six classes is exhaustive."""


def numbered(event: Event, seq: int) -> Event:
    """
    Give an event its number among those of one reader.

    The first reader of a change gets the event itself, which nobody else has read; others get a
    copy.  So does every reader of an event that is kept, has an error, or has a large task, which
    would stay decoded for all.
    """
    state = event._state  # noqa: SLF001 -- the same module
    is_large = state is not None and not isinstance(state, VideoTask) and state.is_large
    if event.seq or is_large or isinstance(event, FinalEvent | TaskStalled):
        return evolve(own_event(event), seq=seq)
    object.__setattr__(event, "seq", seq)
    return event


E = TypeVar("E", bound=Event)


def own_event(event: E) -> E:
    """Return a copy for one reader: nobody sees its error raised, or keeps what it decodes."""
    if isinstance(event, TaskLost | TaskStalled) and event.error is not None:
        return evolve(event, error=fresh_error(event.error))
    return evolve(event)
