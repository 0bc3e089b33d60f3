"""
Writer of one watcher's changes to its store.

1. One pending change per id, the newest: memory is bounded by the number of ids.
2. At most one write is in progress; it starts in the next iteration of the event loop.
3. A write that fails stops nothing: the changes stay pending, and the write is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import Context
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ezvideo_async._domain.events import FinalEvent, StatusChanged
from ezvideo_async._domain.telemetry import StoreFailed, StoreRecovered
from ezvideo_async._engine.persistence import check_account
from ezvideo_async._scheduling.restoring import from_stored, stored_final_event, to_stored
from ezvideo_async.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezvideo_async._domain.events import AnyFinalEvent, Event
    from ezvideo_async._domain.stored_task import OpenedStore, StoredTask, TaskStore
    from ezvideo_async._engine.persistence import WatcherHandle
    from ezvideo_async._scheduling.tracked_task import TrackedTask

_log = logging.getLogger("ezvideo_async")

_ROWS_MAX = 500  # rows of one transaction: more of them would hold the interpreter for too long
_RETRY_MIN, _RETRY_MAX = 0.5, 30.0  # seconds between two attempts of a write that fails
_LAST_WRITE = 2.0  # seconds
_RESTORED_AT_ONCE = 1000  # rows made records between two iterations of the event loop


class _Change(NamedTuple):
    """
    What is to be written about one id.

    Attributes:
        number: Changes are numbered in the order of recording; one that replaces another keeps
            the number of that.
        row: The new row; None removes it.
        is_acknowledged: Whether a removed id is remembered.
        is_durable: Whether the change must survive a power cut.
    """

    number: int
    row: StoredTask | None
    is_acknowledged: bool = False
    is_durable: bool = False


class StoreWriter:
    """
    The persistence of a watcher with a store.

    Args:
        store: The store, not yet open.
        iterates: Whether final events wait until the watcher's own iteration acknowledges them.
    """

    def __init__(self, store: TaskStore, *, iterates: bool) -> None:
        self._store = store
        self._iterates = iterates
        self._watcher: WatcherHandle
        self._pending: dict[str, _Change] = {}
        self._writing: dict[str, _Change] = {}
        self._changes = 0
        self._waiting: dict[str, FinalEvent] = {}  # final events that were not acknowledged
        self._acknowledged: str | None = None  # the last id
        self._task: asyncio.Task[None] | None = None
        self._is_wanted = asyncio.Event()
        self._is_asked = asyncio.Event()
        self._attempt: asyncio.Future[StoreError | None] | None = None
        self._failing_since: float | None = None
        self._retry_after = _RETRY_MIN

    @property
    def unsaved(self) -> int:
        """Changes that are not written yet."""
        return len(self._pending.keys() | self._writing.keys())

    # -- opening --------------------------------------------------------------------------------

    async def start(self, watcher: WatcherHandle, task_ids: Sequence[str]) -> Sequence[str]:
        """
        Open the store and restore its ids.

        Returns:
            Those of *task_ids* that are to be added: neither stored nor acknowledged lately.
        """
        self._watcher = watcher
        opened = await self._store.open(
            base_url=watcher.base_url, fingerprint=watcher.fingerprint, task_ids=task_ids
        )
        try:
            await self._check_account(opened)
            await self._restore(opened.tasks)
        except BaseException:
            await self._store.aclose()
            raise
        if opened.acknowledged:
            _log.info(
                "%d tasks have finished and were acknowledged; they are not watched again",
                len(opened.acknowledged),
            )
        known = opened.acknowledged.union(task.task_id for task in opened.tasks)
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name="ezvideo_async store", context=Context()
        )
        return [task_id for task_id in task_ids if task_id not in known]

    async def _check_account(self, opened: OpenedStore) -> None:
        if opened.is_same_key or not opened.tasks:
            return
        is_same = await check_account(self._watcher.retrieve, opened.tasks)
        if is_same:
            await self._store.accept_key()
        elif is_same is None:
            _log.warning("the store was last used with another API key; its account is unknown")
        else:
            path = getattr(self._store, "path", None)
            name = "the store" if path is None else f"store {path!r}"
            raise StoreError(
                f"{name} belongs to another account (its last stored tasks were not found with "
                "this key); use that key, or pass its ids to a new file",
                reason="wrong_account",
                path=path,
            )

    async def _restore(self, tasks: Sequence[StoredTask]) -> None:
        watcher = self._watcher
        restored: list[TrackedTask] = []
        finals: dict[TrackedTask, AnyFinalEvent] = {}
        rows = iter(tasks)
        while bundle := list(islice(rows, _RESTORED_AT_ONCE)):
            for row in bundle:
                tracked = from_stored(row, epoch=watcher.epoch, now=watcher.now())
                restored.append(tracked)
                if (final := stored_final_event(row, tracked)) is not None:
                    finals[tracked] = final
            await asyncio.sleep(0)
        watcher.scheduler.restore(
            restored,
            finals,
            now=watcher.now(),
            rand=watcher.rand(),
            over=watcher.first_polls_over(len(restored)),
        )
        if restored:
            _log.info("%d tasks restored from the store", len(restored))

    # -- recording ------------------------------------------------------------------------------

    def record_added(self, tracked: Sequence[TrackedTask]) -> None:
        """Record new ids."""
        for each in tracked:
            self._waiting.pop(each.task_id, None)
            self._record(each.task_id, self._row_of(each), is_durable=True)

    def publish(self, tracked: TrackedTask, event: Event) -> None:
        """Record an event and deliver it."""
        if isinstance(event, FinalEvent):
            self._waiting[tracked.task_id] = event
            if self._iterates:
                self._record(tracked.task_id, self._row_of(tracked))
            else:
                self.acknowledge(tracked.task_id)
        elif isinstance(event, StatusChanged):
            self._record(tracked.task_id, self._row_of(tracked))
        self._watcher.deliver(tracked, event)

    def record_discarded(self, tracked: TrackedTask) -> None:
        """Record that an id is no longer watched."""
        self._record(tracked.task_id, None, is_durable=True)

    def is_waiting(self, task_id: str) -> bool:
        """Return True if a final event of this id waits to be acknowledged."""
        return task_id in self._waiting

    def acknowledge(self, event: FinalEvent | str) -> bool:
        """Record that a final event, or that of an id, need not come again; see the protocol."""
        task_id = event if isinstance(event, str) else event.task_id
        final = self._waiting.get(task_id)
        if final is None or (isinstance(event, FinalEvent) and event.at != final.at):
            return False
        del self._waiting[task_id]
        self._acknowledged = task_id
        self._record(task_id, None, is_acknowledged=final.kind != "task_lost")
        return True

    def _row_of(self, tracked: TrackedTask) -> StoredTask:
        return to_stored(tracked, epoch=self._watcher.epoch)

    def _record(
        self,
        task_id: str,
        row: StoredTask | None,
        *,
        is_acknowledged: bool = False,
        is_durable: bool = False,
    ) -> None:
        self._changes += 1
        self._replace(task_id, _Change(self._changes, row, is_acknowledged, is_durable))
        self._is_wanted.set()

    def _replace(self, task_id: str, change: _Change) -> None:
        """Make a change the one to be written; it owes what the one that it replaces owed."""
        earlier = self._pending.get(task_id)
        if earlier is not None:
            is_durable = earlier.is_durable or change.is_durable
            change = change._replace(number=earlier.number, is_durable=is_durable)
        self._pending[task_id] = change

    # -- waiting --------------------------------------------------------------------------------

    async def wait_acknowledged(self) -> None:
        """Wait until the last acknowledgement is written, or writing it has failed."""
        task_id = self._acknowledged
        while (
            (task_id in self._writing or task_id in self._pending)
            and self._failing_since is None
            and self._is_running
        ):
            await self._next_attempt()

    async def save(self) -> None:
        """Write all that is recorded; raise StoreError as soon as that fails."""
        last = self._changes
        while any(
            change.number <= last
            for changes in (self._writing, self._pending)
            for change in changes.values()
        ):
            if not self._is_running:
                raise self._failure(_closed_error())
            self._is_wanted.set()
            self._is_asked.set()
            error = await self._next_attempt()
            if error is not None:
                raise self._failure(error)

    @property
    def _is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _next_attempt(self) -> StoreError | None:
        """Wait until a write has ended; return its error."""
        if self._attempt is None:
            self._attempt = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._attempt)

    def _failure(self, error: StoreError) -> StoreError:
        return StoreError(str(error), reason=error.reason, path=error.path, unsaved=self.unsaved)

    async def stop(self) -> None:
        """Write what is recorded within 2 s, and close; raise StoreError if changes remain."""
        if self._task is None:
            return
        error: StoreError | None = None
        try:
            async with asyncio.timeout(_LAST_WRITE):
                await self.save()
        except StoreError as raised:
            error = raised
        except TimeoutError:
            error = StoreError(
                "states could not be saved within 2 s", path=getattr(self._store, "path", None)
            )
        finally:
            self._waiting.clear()  # nothing is recorded any more
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            await self._close()
        if error is not None and self.unsaved:
            raise self._failure(error)

    async def _close(self) -> None:
        """Close the store; a disk that hangs is waited for no longer than 2 s."""
        closing = asyncio.ensure_future(self._store.aclose())
        await asyncio.wait([closing], timeout=_LAST_WRITE)

    # -- writing --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            while self._pending:
                error = await self._write()
                self._report(error)
                if error is not None:
                    await self._wait_to_retry()

    async def _write(self) -> StoreError | None:
        """Write up to 500 changes; what could not be written becomes pending again."""
        task_ids = list(islice(self._pending, _ROWS_MAX))
        self._writing = {task_id: self._pending.pop(task_id) for task_id in task_ids}
        changes = self._writing.items()
        error: StoreError | None = None
        try:
            await self._store.write(
                [change.row for _, change in changes if change.row is not None],
                acknowledged=[task_id for task_id, change in changes if change.is_acknowledged],
                removed=[
                    task_id
                    for task_id, change in changes
                    if change.row is None and not change.is_acknowledged
                ],
                durable=any(change.is_durable for _, change in changes),
            )
        except StoreError as raised:
            error = raised.with_traceback(None)
        except Exception as raised:  # noqa: BLE001 -- whatever the disk does stops no watch
            error = StoreError(f"states cannot be written: {raised!r}")
        unwritten, self._writing = self._writing, {}
        if error is not None:
            newer, self._pending = self._pending, unwritten
            for task_id, change in newer.items():
                self._replace(task_id, change)
        if self._attempt is not None:
            self._attempt.set_result(error)
            self._attempt = None
        return error

    def _report(self, error: StoreError | None) -> None:
        """Say once that writes fail, and once that they succeed again."""
        now = self._watcher.now()
        if error is not None and self._failing_since is None:
            self._failing_since = now
            _log.warning("states are not saved: %s; polls continue, and it is tried again", error)
            self._watcher.emit(StoreFailed(error=error, unsaved=self.unsaved))
        elif error is None and self._failing_since is not None:
            outage, self._failing_since = now - self._failing_since, None
            self._retry_after = _RETRY_MIN
            _log.info("states are saved again, after %.1f s", outage)
            self._watcher.emit(StoreRecovered(outage=outage))

    async def _wait_to_retry(self) -> None:
        """Wait after a failure, or until ``save()`` asks for an attempt."""
        delay, self._retry_after = self._retry_after, min(2.0 * self._retry_after, _RETRY_MAX)
        self._is_asked.clear()  # earlier callers have the error of the last attempt
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._is_asked.wait()


def _closed_error() -> StoreError:
    return StoreError("states were not saved before the watcher was left")
