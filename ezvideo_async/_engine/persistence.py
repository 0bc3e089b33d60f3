"""Seam between a watcher and what keeps its ids: a store, or the replicas of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from ezvideo_async.errors import EzVideoError, TaskNotFoundError

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Literal

    from ezvideo_async._delivery.broadcaster import Broadcaster
    from ezvideo_async._domain.events import Event, FinalEvent
    from ezvideo_async._domain.stored_task import StoredTask, TaskStore
    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async._domain.telemetry import TelemetryEvent
    from ezvideo_async._engine.dispatcher import Dispatcher
    from ezvideo_async._limits.budget import RequestBudget
    from ezvideo_async._scheduling.scheduler import Scheduler
    from ezvideo_async._scheduling.tracked_task import TrackedTask

    StoreArgument = str | os.PathLike[str] | TaskStore | None
    Acknowledge = Literal["on_next", "by_hand"]

_CHECKED_IDS = 3  # the most recently added ones; one that is found proves the account


@frozen(kw_only=True)
class WatcherHandle:
    """
    All that a persistence may use of its watcher.

    Attributes:
        deliver: Delivers an event to the readers.
        fail: Ends the watch with an error.
        emit: Emits a telemetry event.
        first_polls_over: Returns the seconds over which first polls of a number of ids are spread.
        retrieve: Requests the state of one id, in one attempt.
        fingerprint: Returns the fingerprint of the API key with a salt; None if there is no key.
        now: Returns the loop clock, in seconds.
        unix_now: Returns the wall clock, Unix seconds.
        epoch: The wall clock less the loop clock when the watcher was entered.
        rand: Returns a number in [0, 1).
    """

    scheduler: Scheduler
    broadcaster: Broadcaster
    dispatcher: Dispatcher
    budget: RequestBudget
    deliver: Callable[[TrackedTask, Event], None]
    fail: Callable[[BaseException], None]
    emit: Callable[[TelemetryEvent], None]
    first_polls_over: Callable[[int], float]
    retrieve: Callable[[str], Awaitable[VideoTask]]
    base_url: str
    fingerprint: Callable[[bytes], bytes | None]
    now: Callable[[], float]
    unix_now: Callable[[], float]
    epoch: float
    rand: Callable[[], float]


class Persistence(Protocol):
    """
    Keeps the ids of one watcher.

    Attributes:
        unsaved: Changes that are not written yet.
    """

    @property
    def unsaved(self) -> int: ...

    async def start(self, watcher: WatcherHandle, task_ids: Sequence[str]) -> Sequence[str]:
        """Restore what is stored; return those of *task_ids* that are still to be added."""
        ...

    def record_added(self, tracked: Sequence[TrackedTask]) -> None:
        """Record new ids, before the dispatcher polls them."""

    def publish(self, tracked: TrackedTask, event: Event) -> None:
        """Record an event and deliver it."""

    def record_discarded(self, tracked: TrackedTask) -> None:
        """Record that an id is no longer watched."""

    def is_waiting(self, task_id: str) -> bool:
        """Return True if a final event of this id waits to be acknowledged."""
        ...

    def acknowledge(self, event: FinalEvent | str) -> bool:
        """
        Record that a final event, or that of an id, need not come again.

        False if none of this id waits, or another one than *event*, because the id was restarted.
        """
        ...

    async def wait_acknowledged(self) -> None:
        """Wait until the last acknowledgement is written, or writing it has failed."""

    async def save(self) -> None:
        """Write what is recorded; raise StoreError as soon as that fails."""

    async def stop(self) -> None:
        """Write what is recorded within 2 s, and close; raise StoreError if changes remain."""


async def check_account(
    retrieve: Callable[[str], Awaitable[VideoTask]], tasks: Sequence[StoredTask]
) -> bool | None:
    """
    Return whether stored ids belong to the account of the API key; None if that is unknown.

    The most recently added ids that were seen are requested; one that is found proves it.
    """
    seen = [task for task in tasks if task.status is not None][-_CHECKED_IDS:]
    not_found = 0
    for task in reversed(seen):
        try:
            await retrieve(task.task_id)
        except TaskNotFoundError:
            not_found += 1
        except EzVideoError:
            continue
        else:
            return True
    return False if seen and not_found == len(seen) else None
