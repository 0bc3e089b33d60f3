"""Histories of a watcher that is killed and resumed, and what must hold in each of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from ezvideo_async import StoreError
from tests.support.durable import KilledError, watching
from tests.support.fake_transport import FakeTask, FakeTransport

if TYPE_CHECKING:
    from ezvideo_async import TaskWatcher
    from ezvideo_async._domain.events import FinalEvent
    from tests.support.durable import ControlledStore

IDS = ("a", "b", "c", "d")
_FINAL = {"completed", "failed"}
_ids = st.sampled_from(IDS)
_operations = st.one_of(
    st.tuples(st.just("add"), _ids, st.booleans()),
    st.tuples(st.just("add"), _ids),
    st.tuples(st.just("discard"), _ids),
    st.tuples(st.just("show"), _ids, st.sampled_from(["pending", "processing", *_FINAL])),
    st.tuples(st.just("show"), _ids, st.sampled_from([*_FINAL])),
    st.tuples(st.just("forget"), _ids),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.2, 5.0, 20.0, 400.0])),
    st.tuples(st.just("wait"), st.just(20.0)),
    st.tuples(st.just("read"), st.integers(1, 4)),
    st.tuples(st.just("cancel"), st.integers(0, 4)),
    st.tuples(st.just("slow"), st.sampled_from([0.0, 0.0, 3.0])),
    st.tuples(st.just("fail"), st.booleans()),
    st.tuples(st.just("acknowledge"), st.integers(0, 3)),
    st.tuples(st.just("save")),
)
_ends = st.sampled_from(["kill", "kill", "kill", "leave", "raise"])
histories = st.lists(st.tuples(st.lists(_operations, max_size=12), _ends), min_size=1, max_size=5)
"""Lives of a process: what happens in each, and how it ends."""

Watch = tuple[str, Any]
"""An id and its tag, which is the number of the add."""


class History:
    """
    Plays a history, and checks each final event as it comes.

    Attributes:
        added: The watches whose add was written.
        excused: Those that need not end: discarded, restarted, or acknowledged.
        gone: Those whose discard was written.
        received: The kind of each final event that was received.
        unacknowledged: Final events received, whose acknowledgement need not be on the disk.
        repeats: How many final events were received again.
    """

    def __init__(self, store: ControlledStore, *, by_hand: bool) -> None:
        self.store = store
        self.by_hand = by_hand
        self.server = FakeTransport()
        self.number = 0
        self.open: dict[str, Watch] = {}
        self.unwritten: set[Watch] = set()
        self.added: set[Watch] = set()
        self.excused: set[Watch] = set()
        self.discarded: set[Watch] = set()
        self.gone: set[Watch] = set()
        self.received: dict[Watch, str] = {}
        self.unacknowledged: set[Watch] = set()
        self.acknowledging: set[Watch] = set()
        self.waiting: dict[Watch, FinalEvent] = {}
        self.repeats = 0

    async def play(self, lives: list[tuple[list[Any], str]]) -> None:
        """Play all lives, and one more in which every task finishes."""
        for operations, end in lives:
            await self._live(operations, end)
        for task in self.server.tasks.values():
            task.status = task.status if task.status in _FINAL else "completed"
        received = await self._last_life()
        missing = self.added - self.excused - received
        assert missing == set()

    async def _live(self, operations: list[Any], end: str) -> None:
        kills: Any = suppress(StoreError, KilledError)
        self.waiting.clear()
        self.unwritten, self.discarded, self.acknowledging = set(), set(), set()
        acknowledge = "by_hand" if self.by_hand else "on_next"
        with kills:
            async with watching(self.server, self.store, acknowledge=acknowledge) as watcher:
                for name, *arguments in operations:
                    await getattr(self, f"_{name}")(watcher, *arguments)
                    self._note(watcher)
                self._end(end)
            self.unacknowledged -= self.acknowledging  # it was left, and all is written
        self.store.error, self.store.delay = None, 0.0

    def _end(self, end: str) -> None:
        if end == "leave":
            self._acknowledge_waiting()
            return
        if end == "kill":
            self.store.crash()
        raise KilledError

    async def _last_life(self) -> set[Watch]:
        self.store.error, self.store.delay = None, 0.0
        found = set()
        self.waiting.clear()
        async with watching(self.server, self.store) as watcher:
            watcher.finish_adding()
            async for event in watcher:
                if event.is_final:
                    found.add(self._receive(event))
        return found

    def _note(self, watcher: TaskWatcher) -> None:
        """Record what is on the disk now, if nothing is unwritten."""
        if watcher.stats.unsaved:
            return
        self.added |= self.unwritten
        self.gone |= self.discarded
        self.unwritten = set()
        self.unacknowledged -= self.acknowledging
        self.acknowledging = set()

    # -- what happens -----------------------------------------------------------------------------

    async def _add(self, watcher: TaskWatcher, task_id: str, restart_ended: bool = False) -> None:  # noqa: FBT001, FBT002
        self.number += 1
        self.server.tasks.setdefault(task_id, FakeTask())
        watcher.add(task_id, tag=self.number, restart_ended=restart_ended)
        known = watcher.get(task_id)
        if known is not None and known.tag == self.number and known.final_event is None:
            watch = task_id, self.number
            self.excused |= {each for each in self.added | self.unwritten if each[0] == task_id}
            self.unwritten = {each for each in self.unwritten if each[0] != task_id} | {watch}

    async def _discard(self, watcher: TaskWatcher, task_id: str) -> None:
        known = watcher.get(task_id)
        if watcher.discard(task_id):
            assert known is not None
            self.excused.add((task_id, known.tag))
            self.unwritten.discard((task_id, known.tag))
            self.discarded.add((task_id, known.tag))

    async def _show(self, _: TaskWatcher, task_id: str, status: str) -> None:
        task = self.server.tasks.get(task_id)
        if task is not None and task.status not in _FINAL:
            task.status = status

    async def _forget(self, _: TaskWatcher, task_id: str) -> None:
        task = self.server.tasks.get(task_id)
        if task is not None and task.status not in _FINAL:
            task.fault = "not-found"

    async def _wait(self, _: TaskWatcher, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _slow(self, _: TaskWatcher, seconds: float) -> None:
        self.store.delay = seconds

    async def _fail(self, _: TaskWatcher, fails: bool) -> None:  # noqa: FBT001
        self.store.error = StoreError("the disk is full", reason="full") if fails else None

    async def _save(self, watcher: TaskWatcher) -> None:
        added, discarded = set(self.unwritten), set(self.discarded)
        acknowledging = set(self.acknowledging)
        with suppress(StoreError):
            await watcher.save()
            self.added |= added
            self.gone |= discarded
            self.unacknowledged -= acknowledging

    async def _read(self, watcher: TaskWatcher, count: int) -> None:
        for _ in range(min(count, watcher.stats.unread)):
            await self._next(watcher)

    async def _cancel(self, watcher: TaskWatcher, rounds: int) -> None:
        """Cancel a read while it waits for a write, or for an event."""
        reading = asyncio.ensure_future(self._next(watcher))
        for _ in range(rounds):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])

    async def _next(self, watcher: TaskWatcher) -> None:
        self._acknowledge_waiting()
        event = await anext(watcher)
        if self.store.error is None and not self.by_hand:
            self._note_acknowledged(watcher)
        if event.is_final:
            self._receive(event)

    def _note_acknowledged(self, watcher: TaskWatcher) -> None:
        """Record that a read has waited for the acknowledgement before it."""
        if self.store.attempts and not watcher._persistence._failing_since:  # type: ignore[union-attr]
            self.unacknowledged -= self.acknowledging
            self.acknowledging = set()

    def _acknowledge_waiting(self) -> None:
        if not self.by_hand:
            self.acknowledging |= self.waiting.keys()
            self.excused |= self.waiting.keys()
            self.waiting.clear()

    async def _acknowledge(self, watcher: TaskWatcher, place: int) -> None:
        if not self.by_hand or place >= len(self.waiting):
            return
        watch, event = list(self.waiting.items())[place]
        del self.waiting[watch]
        if watcher.acknowledge(event):
            self.acknowledging.add(watch)
            self.excused.add(watch)
        assert not watcher.acknowledge(event)

    def _receive(self, event: Any) -> Watch:
        watch = event.task_id, event.tag
        assert watch not in self.gone
        if watch in self.received:
            self.repeats += 1
            assert watch in self.unacknowledged, watch
            assert self.received[watch] == event.dedup_key
        self.received[watch] = event.dedup_key
        self.unacknowledged.add(watch)
        self.waiting[watch] = event
        return watch
