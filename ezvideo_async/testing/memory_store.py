"""Durable watch set in memory, for tests of restarts."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from ezvideo_async._domain.stored_task import OpenedStore
from ezvideo_async.errors import StoreError
from ezvideo_async.store.rows import forget_before, from_row, to_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezvideo_async._domain.stored_task import StoredTask
    from ezvideo_async.store.rows import Row


class MemoryStore:
    """
    A store for ``client.watch(store=...)`` that keeps the rows of a file in memory.

    Pass the same one to a second watcher to resume.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._acknowledged: dict[str, float] = {}
        self._base_url: str | None = None
        self._salt = secrets.token_bytes(16)
        self._fingerprint: bytes | None = None  # stored
        self._current_fingerprint: bytes | None = None
        self._is_open = False
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._rows)} tasks>"

    def crash(self) -> None:
        """Behave as if the process was killed: forget what is unwritten, until opened again."""
        self._is_open = False

    def fail(self, error: BaseException | None) -> None:
        """Make writes raise *error* from now on; None ends that."""
        self._error = error

    async def open(
        self,
        *,
        base_url: str,
        fingerprint: Callable[[bytes], bytes | None],
        task_ids: Sequence[str],
    ) -> OpenedStore:
        """Lock the store and read it; see ``TaskStore``."""
        if self._is_open:
            raise StoreError("the store is in use by another watcher", reason="locked")
        if self._base_url not in {None, base_url}:
            raise StoreError(
                f"the store belongs to another base_url, {self._base_url!a}",
                reason="wrong_account",
            )
        self._current_fingerprint = fingerprint(self._salt)
        if self._base_url is None:
            self._base_url, self._fingerprint = base_url, self._current_fingerprint
        self._is_open = True
        since = forget_before()
        self._acknowledged = {key: at for key, at in self._acknowledged.items() if at >= since}
        tasks = [from_row(row) for row in self._rows.values()]
        return OpenedStore(
            tasks=sorted(tasks, key=lambda task: (task.added_at, task.task_id)),
            acknowledged=frozenset(task_ids) & self._acknowledged.keys(),
            is_same_key=None is not self._fingerprint == self._current_fingerprint,
        )

    async def write(
        self,
        tasks: Sequence[StoredTask],
        *,
        acknowledged: Sequence[str] = (),
        removed: Sequence[str] = (),
        durable: bool,  # noqa: ARG002 -- memory is as durable as it gets
    ) -> None:
        """Write changes in one transaction; see ``TaskStore``."""
        if self._error is not None:
            raise self._error
        if not self._is_open:
            return
        for task in tasks:
            self._rows[task.task_id] = to_row(task)
            self._acknowledged.pop(task.task_id, None)
        for task_id in (*acknowledged, *removed):
            self._rows.pop(task_id, None)
            self._acknowledged.pop(task_id, None)
        self._acknowledged.update(dict.fromkeys(acknowledged, time.time()))

    async def accept_key(self) -> None:
        """Store the fingerprint of the API key of today."""
        self._fingerprint = self._current_fingerprint

    async def aclose(self) -> None:
        """Unlock the store.  Idempotent."""
        self._is_open = False
