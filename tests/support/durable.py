"""Stores whose writes a test slows down, fails and counts, and watchers that are killed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ezvideo_async import PollPolicy
from ezvideo_async.store import read_store
from ezvideo_async.store.rows import from_row
from ezvideo_async.store.sqlite import SqliteStore
from ezvideo_async.testing import MemoryStore
from tests.support.fake_transport import fake_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from ezvideo_async import TaskWatcher
    from ezvideo_async._domain.stored_task import OpenedStore, StoredTask, TaskStore
    from tests.support.fake_transport import FakeTransport

KINDS = ("file", "memory")
STEADY = PollPolicy(jitter=0.0)


class Write(NamedTuple):
    """One attempt to write."""

    at: float
    tasks: tuple[str, ...]
    acknowledged: tuple[str, ...]
    removed: tuple[str, ...]
    durable: bool


class ControlledStore:
    """
    A ``TaskStore`` that is opened again after each restart.

    Attributes:
        path: The file; None in memory.
        delay: Seconds that each write takes.
        error: What each write raises; None for no error.
        attempts: All attempts to write.
        before, after: Called around each write that succeeds, with its number from 1.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._memory = MemoryStore()
        self._inner: TaskStore
        self._is_crashed = False
        self.delay = 0.0
        self.error: BaseException | None = None
        self.attempts: list[Write] = []
        self.before: Callable[[int], None] = lambda _: None
        self.after: Callable[[int], None] = lambda _: None
        self._count = 0

    def crash(self) -> None:
        """Behave as if the process was killed."""
        self._is_crashed = True
        self._memory.crash()

    def rows(self) -> dict[str, StoredTask]:
        """Return the rows that are stored; of a file, while it is closed."""
        if self.path is not None:
            return {task.task_id: task for task in read_store(self.path)}
        return {task_id: from_row(row) for task_id, row in self._memory._rows.items()}

    async def open(self, **options: Any) -> OpenedStore:
        """Open a file anew, or the same memory."""
        self._inner = self._memory if self.path is None else SqliteStore(self.path)
        self._is_crashed = False
        return await self._inner.open(**options)

    async def write(
        self,
        tasks: Sequence[StoredTask],
        *,
        acknowledged: Sequence[str] = (),
        removed: Sequence[str] = (),
        durable: bool,
    ) -> None:
        """Write, after the delay, unless there is an error."""
        now = asyncio.get_running_loop().time()
        ids = tuple(task.task_id for task in tasks)
        self.attempts.append(Write(now, ids, tuple(acknowledged), tuple(removed), durable))
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        if self._is_crashed:
            return
        self._count += 1
        self.before(self._count)
        await self._inner.write(tasks, acknowledged=acknowledged, removed=removed, durable=durable)
        self.after(self._count)

    async def accept_key(self) -> None:
        """Accept the key."""
        await self._inner.accept_key()

    async def aclose(self) -> None:
        """Close the store."""
        await self._inner.aclose()


@contextmanager
def fresh_store(kind: str) -> Iterator[ControlledStore]:
    """Make an empty store in a file or in memory."""
    with TemporaryDirectory() as folder:
        yield ControlledStore(Path(folder) / "watch.db" if kind == "file" else None)


class KilledError(Exception):
    """Raised where a process would be killed."""


@asynccontextmanager
async def watching(
    server: FakeTransport,
    store: Any,
    tasks: Any = (),
    *,
    client_options: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> AsyncIterator[TaskWatcher]:
    """Enter a watcher with a client of its own, as a process does."""
    async with (
        fake_client(server, **client_options) as client,
        client.watch(tasks, store=store, **{"policy": STEADY, **options}) as watcher,
    ):
        yield watcher


@asynccontextmanager
async def killed(
    server: FakeTransport, store: ControlledStore, tasks: Any = (), **options: Any
) -> AsyncIterator[TaskWatcher]:
    """Enter a watcher whose process is killed at the end of the block."""
    try:
        async with watching(server, store, tasks, **options) as watcher:
            yield watcher
            _kill(store)
    except KilledError:
        pass


def _kill(store: ControlledStore) -> None:
    store.crash()
    raise KilledError
