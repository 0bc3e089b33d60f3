"""Durable watch set: reading the files that ``client.watch(store=...)`` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezvideo_async._domain.stored_task import StoredTask

if TYPE_CHECKING:
    import os

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
