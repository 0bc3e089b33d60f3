"""Durable watch set: reading the files that ``client.watch(store=...)`` writes."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from ezvideo_async._domain.redaction import redact_query
from ezvideo_async._domain.stored_task import StoredTask
from ezvideo_async.errors import ConfigError

if TYPE_CHECKING:
    import os

    from ezvideo_async._domain.stored_task import TaskStore
    from ezvideo_async._engine.persistence import Persistence

__all__ = ["StoredTask", "read_store"]


def read_store(path: str | os.PathLike[str]) -> list[StoredTask]:
    """
    Read the rows of a store that no watcher has open, in the order in which they were added.

    The file is checked as when a watcher opens it, but may belong to any account.

    Raises:
        StoreError: The file is missing, in use, damaged, or not a store.
    """
    from ezvideo_async.store.sqlite import read_file  # noqa: PLC0415 -- it loads sqlite3

    return read_file(path)


def persistence_of(store: str | os.PathLike[str] | TaskStore, *, iterates: bool) -> Persistence:
    """Return what keeps the ids of one watcher in a store; for ``TaskWatcher``."""
    from ezvideo_async.store.sqlite import SqliteStore  # noqa: PLC0415 -- it loads sqlite3
    from ezvideo_async.store.writer import StoreWriter  # noqa: PLC0415 -- see above

    if isinstance(store, str) and "://" in store:
        raise ConfigError(f"store {redact_query(store)!a} is a url; name a file")
    if isinstance(store, str | PathLike):
        if not str(store):
            raise ConfigError("store is an empty text; name a file")
        return StoreWriter(SqliteStore(store), iterates=iterates)
    if not callable(getattr(store, "write", None)) or isinstance(store, type):
        raise ConfigError(f"store must be the path of a file, got {type(store).__name__}")
    return StoreWriter(store, iterates=iterates)
