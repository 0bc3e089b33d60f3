"""
SQLite file of a durable watch set.

1. The connection is used in one thread of its own; callers await it.
2. The lock is SQLite's own, in exclusive mode: no lock file, free again when the process ends.
3. The file is never opened and closed outside SQLite, which would release its lock.
4. Every row has a checksum, and the file the number of its rows: damage is found at opening.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import secrets
import sqlite3
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from ezvideo_async._domain.stored_task import OpenedStore
from ezvideo_async.errors import StoreError
from ezvideo_async.store.rows import (
    COLUMNS,
    DamagedRowError,
    checksum,
    forget_before,
    from_row,
    to_row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ezvideo_async._domain.stored_task import StoredTask
    from ezvideo_async.errors import StoreReason

    T = TypeVar("T")

_log = logging.getLogger("ezvideo_async")

_APPLICATION_ID = 0x455A5653  # "EZVS"
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE task({", ".join(COLUMNS)}, crc, PRIMARY KEY (task_id)) WITHOUT ROWID;
CREATE TABLE acknowledged(task_id PRIMARY KEY, at) WITHOUT ROWID;
CREATE TABLE meta(name PRIMARY KEY, value, crc) WITHOUT ROWID;
"""
_UPSERT = f"INSERT OR REPLACE INTO task VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"  # noqa: S608 -- a constant
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"})
_REASONS: tuple[tuple[str, StoreReason], ...] = (
    ("SQLITE_BUSY", "locked"),
    ("SQLITE_LOCKED", "locked"),
    ("SQLITE_FULL", "full"),
    ("SQLITE_CORRUPT", "damaged"),
    ("SQLITE_NOTADB", "damaged"),
    ("SQLITE_ERROR", "damaged"),  # an unknown file format, no such table
)


class SqliteStore:
    """A ``TaskStore`` in the file at *path*, which is made at the first use."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = _File(Path(os.path.abspath(path)))  # noqa: PTH100 -- no symlink is followed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ezvideo_async store")

    @property
    def path(self) -> str:
        """The file, as an absolute path."""
        return str(self._file.path)

    async def open(
        self,
        *,
        base_url: str,
        fingerprint: Callable[[bytes], bytes | None],
        task_ids: Sequence[str],
    ) -> OpenedStore:
        """Lock the file, check it, and read it; see ``TaskStore``."""
        try:
            return await self._run(self._file.open, base_url, fingerprint, task_ids)
        except BaseException:  # a cancellation too: the thread may still be opening the file
            await self.aclose()
            raise

    async def write(
        self,
        tasks: Sequence[StoredTask],
        *,
        acknowledged: Sequence[str] = (),
        removed: Sequence[str] = (),
        durable: bool,
    ) -> None:
        """Write changes in one transaction; see ``TaskStore``."""
        await self._run(self._file.write, tasks, acknowledged, removed, durable)

    async def accept_key(self) -> None:
        """Store the fingerprint of the API key of today."""
        await self._run(self._file.accept_key)

    async def aclose(self) -> None:
        """Close the file and unlock it.  Idempotent."""
        with suppress(RuntimeError):  # the thread has stopped
            await self._run(self._file.close)
        self._thread.shutdown(wait=False)

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


def read_file(path: str | os.PathLike[str]) -> list[StoredTask]:
    """Read all rows of a file that nobody has open, in the order in which they were added."""
    file = _File(Path(os.path.abspath(path)))  # noqa: PTH100 -- no symlink is followed
    with closing(file):
        return file.read()


class _File:
    """The file and its connection, in the thread of the store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection
        self._is_open = False
        self._inode: tuple[int, int] | None = None
        self._ids: set[str] = set()
        self._fingerprint: bytes | None = None

    # -- opening --------------------------------------------------------------------------------

    def open(
        self,
        base_url: str,
        fingerprint: Callable[[bytes], bytes | None],
        task_ids: Sequence[str],
    ) -> OpenedStore:
        with self._errors("opened"):
            if not os.path.lexists(self.path):
                self._create(base_url, fingerprint)
            self._connect()
            with self._transaction():
                meta = self._check()
                if meta.get("base_url") != base_url:
                    raise self._error(
                        f"belongs to another base_url, {meta.get('base_url')!a}; use that one, or "
                        "another file",
                        "wrong_account",
                    )
                tasks = self._read_rows(meta)
                acknowledged = self._acknowledged(task_ids)
                old = (forget_before(),)
                self._connection.execute("DELETE FROM acknowledged WHERE at < ?", old)
            self._ids = {task.task_id for task in tasks}
            self._fingerprint = fingerprint(meta["salt"])
            stored = meta.get("fingerprint")
        is_same_key = stored is not None and stored == self._fingerprint
        _warn_of_network(self.path)
        return OpenedStore(tasks=tasks, acknowledged=acknowledged, is_same_key=is_same_key)

    def read(self) -> list[StoredTask]:
        with self._errors("read"):
            self._connect()
            with self._transaction():
                return self._read_rows(self._check())

    def _create(self, base_url: str, fingerprint: Callable[[bytes], bytes | None]) -> None:
        """Make the file under another name, and give it its name when it is whole."""
        new = self.path.with_name(f"{self.path.name}.new-{os.getpid()}")
        new.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        os.close(os.open(new, flags, 0o600))
        try:
            with closing(sqlite3.connect(new, isolation_level=None)) as connection:
                connection.executescript(
                    f"PRAGMA application_id={_APPLICATION_ID};PRAGMA user_version={_VERSION};"
                    f"PRAGMA synchronous=FULL;BEGIN;{_SCHEMA}"
                )
                salt = secrets.token_bytes(16)
                meta = {
                    "base_url": base_url,
                    "salt": salt,
                    "fingerprint": fingerprint(salt),
                    "row_count": 0,
                }
                for name, value in meta.items():
                    _set_meta(connection, name, value)
                connection.execute("COMMIT")
            with suppress(FileExistsError):  # another process was quicker; its file is opened
                os.link(new, self.path)
        finally:
            new.unlink(missing_ok=True)
        _sync_folder(self.path.parent)

    def _connect(self) -> None:
        """Open the file, and lock it; nothing is written before it is known to be ours."""
        self._inode = self._inode_of_path()
        uri = f"{self.path.as_uri()}?mode=rw"
        self._connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=0.0, check_same_thread=False
        )
        self._is_open = True
        _abandon_at_fork(ref(self))
        if self._inode_of_path() != self._inode:
            raise self._error("was replaced while it was opened; try again", "moved")
        execute = self._connection.execute
        execute("PRAGMA locking_mode=EXCLUSIVE")
        application_id, version = self._pragma("application_id"), self._pragma("user_version")
        if application_id != _APPLICATION_ID:
            is_empty = self.path.stat().st_size == 0
            what = "is empty; delete it" if is_empty else "is not a store of this library"
            raise self._error(f"{what}, or use another file", "damaged")
        if version > _VERSION:
            raise self._error(
                f"was written by a newer version (format {version}, known is {_VERSION}); upgrade "
                "ezvideo_async, or use another file",
                "newer_version",
            )
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA cell_size_check=ON")

    def _check(self) -> dict[str, Any]:
        """Check the file; return its meta values."""
        if self._pragma("quick_check") != "ok":
            raise self._damaged()
        meta = {}
        for name, value, expected in self._connection.execute("SELECT * FROM meta"):
            if checksum((name, value)) != expected:
                raise self._damaged()
            meta[name] = value
        if not {"base_url", "salt", "row_count"} <= meta.keys():
            raise self._damaged()
        return meta

    def _read_rows(self, meta: dict[str, Any]) -> list[StoredTask]:
        # An open cursor in the frames of an error would keep the file locked.
        select = "SELECT * FROM task ORDER BY added_at, task_id"
        rows = self._connection.execute(select).fetchall()
        try:
            tasks = [from_row(row) for row in rows]
        except (DamagedRowError, ValueError):
            raise self._damaged() from None
        if len(tasks) != meta["row_count"]:
            raise self._damaged()
        return tasks

    def _acknowledged(self, task_ids: Sequence[str]) -> frozenset[str]:
        query = "SELECT 1 FROM acknowledged WHERE task_id = ? AND at >= ?"
        since = forget_before()
        execute = self._connection.execute
        return frozenset(each for each in task_ids if execute(query, (each, since)).fetchone())

    # -- writing --------------------------------------------------------------------------------

    def write(
        self,
        tasks: Sequence[StoredTask],
        acknowledged: Sequence[str],
        removed: Sequence[str],
        durable: bool,  # noqa: FBT001 -- called by run_in_executor
    ) -> None:
        rows = [to_row(task) for task in tasks]
        with self._errors("written"):
            self._check_place()
            self._connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            ids = self._ids.union(task.task_id for task in tasks)
            ids.difference_update(acknowledged, removed)
            with self._transaction():
                self._write(rows, acknowledged, removed)
                _set_meta(self._connection, "row_count", len(ids))
            self._ids = ids

    def _write(
        self, rows: Sequence[Sequence[Any]], acknowledged: Sequence[str], removed: Sequence[str]
    ) -> None:
        now, many = time.time(), self._connection.executemany
        many(_UPSERT, rows)
        forgotten = [(task_id,) for task_id in (*(row[0] for row in rows), *removed)]
        many("DELETE FROM acknowledged WHERE task_id = ?", forgotten)
        gone = [(task_id,) for task_id in (*acknowledged, *removed)]
        many("DELETE FROM task WHERE task_id = ?", gone)
        remembered = [(task_id, now) for task_id in acknowledged]
        many("INSERT OR REPLACE INTO acknowledged VALUES (?, ?)", remembered)

    def accept_key(self) -> None:
        with self._errors("written"), self._transaction():
            _set_meta(self._connection, "fingerprint", self._fingerprint)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            with suppress(sqlite3.Error):  # what was committed is in the file already
                self._connection.close()

    def __del__(self) -> None:
        """Close a file that nobody closed, in whatever thread: nobody else uses it any more."""
        self.close()

    def abandon(self) -> None:
        """Keep this child process from closing the file, which would end the parent's journal."""
        if self._is_open:
            self._is_open = False
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    # -- helpers --------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _pragma(self, name: str) -> Any:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    def _inode_of_path(self) -> tuple[int, int]:
        found = os.lstat(self.path)
        if not stat.S_ISREG(found.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
            raise self._error(f"is {kind}; name the file itself", "inaccessible")
        return found.st_dev, found.st_ino

    def _check_place(self) -> None:
        with suppress(OSError):
            if self._inode_of_path() == self._inode:
                return
        raise self._error("was moved, deleted or replaced while open; put it back", "moved")

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn what SQLite and the system raise into ``StoreError``; close if opening failed."""
        error: StoreError | None = None
        try:
            yield
        except StoreError as raised:
            error = raised
        except sqlite3.Error as raised:
            error = self._mapped(raised, what)
        except UnicodeDecodeError:  # some texts of a damaged file
            error = self._damaged()
        except OSError as raised:
            error = self._error(f"cannot be {what}: {raised.strerror or raised}", "inaccessible")
        if error is None:
            return
        if what != "written":
            self.close()
        raise error

    def _mapped(self, error: sqlite3.Error, what: str) -> StoreError:
        # Text that is no UTF-8 has no name.
        name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
        reasons = (reason for start, reason in _REASONS if name.startswith(start))
        match next(reasons, "inaccessible"):
            case "locked":
                return self._error(
                    "is in use by another process; stop it or use another file", "locked"
                )
            case "full":
                return self._error("cannot be written: the disk or quota is full", "full")
            case "damaged" if name.startswith("SQLITE_NOTADB"):
                return self._error("is not a store of this library; use another file", "damaged")
            case "damaged":
                return self._damaged()
        return self._error(f"cannot be {what}: {error} ({name})", "inaccessible")

    def _damaged(self) -> StoreError:
        return self._error(
            "is damaged; restore a copy, or delete it and pass the ids again", "damaged"
        )

    def _error(self, problem: str, reason: StoreReason) -> StoreError:
        shown = ascii(str(self.path)) if not str(self.path).isprintable() else f"'{self.path}'"
        return StoreError(f"store {shown} {problem}", reason=reason, path=str(self.path))


def _abandon_at_fork(file: ref[_File]) -> None:
    def abandon() -> None:
        if (parents := file()) is not None:
            parents.abandon()

    os.register_at_fork(after_in_child=abandon)


def _set_meta(connection: sqlite3.Connection, name: str, value: Any) -> None:
    row = (name, value, checksum((name, value)))
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", row)


def _sync_folder(folder: Path) -> None:
    """Write the folder's entries to the disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _warn_of_network(path: Path) -> None:
    """Warn once if the file lies on a network file system, whose locks may not hold."""
    with suppress(OSError):
        mounts = [line.split(" ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        kinds = {mount[4]: mount[mount.index("-") + 1] for mount in mounts}
        for folder in path.parents:
            kind = kinds.get(str(folder))
            if kind is None:
                continue
            if kind in _NETWORK_FILE_SYSTEMS:
                _log.warning(
                    "store %s lies on a network file system (%s), whose locks may not keep a "
                    "second process out; use a local disk",
                    path,
                    kind,
                )
            return
