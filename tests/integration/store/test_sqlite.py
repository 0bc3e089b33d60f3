"""SQLite file of the durable watch set: lock, checks, and errors."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ezvideo_async import StoreError, TaskStatus
from ezvideo_async._domain.stored_task import StoredTask
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async.store import read_store
from ezvideo_async.store.sqlite import SqliteStore
from ezvideo_async.testing import MemoryStore

BASE_URL = "https://api.example.test/v1"
TASKS = [
    StoredTask(
        task_id=f"视频_{number}",
        added_at=float(number),
        status=TaskStatus.PROCESSING,
        body=b'{"status": "processing"}',
    )
    for number in range(40)
]
IDS = [task.task_id for task in TASKS]

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path):
    """The path of a store that does not exist yet."""
    return tmp_path / "watch.db"


@pytest.fixture(params=["file", "memory"])
def reopened(request, path):
    """Make a store, the same one at every call."""
    memory = MemoryStore()
    return (lambda: SqliteStore(path)) if request.param == "file" else (lambda: memory)


async def opened(store, *, key=b"key", base_url=BASE_URL, task_ids=()):
    """Open a store with an API key."""
    return await store.open(
        base_url=base_url, fingerprint=lambda salt: key and key + salt, task_ids=task_ids
    )


async def refusal(store, **options):
    """The error with which a store refuses to be opened."""
    with pytest.raises(StoreError) as raised:
        await opened(store, **options)
    await store.aclose()
    return raised.value


async def filled(path, tasks=TASKS):
    """Make a file with these rows, and close it."""
    store = SqliteStore(path)
    await opened(store)
    await store.write(tasks, durable=True)
    await store.aclose()


async def test_rows_come_back_in_the_order_of_adding(reopened):
    """Written rows replace those of the same id; removed ones are gone."""
    store = reopened()
    assert (await opened(store)).tasks == []
    await store.write(TASKS[::-1], durable=True)
    changed = StoredTask(task_id=IDS[3], added_at=3.0, final_kind="task_completed")
    await store.write([changed], removed=IDS[5:], durable=False)
    await store.aclose()
    store = reopened()

    assert (await opened(store)).tasks == [*TASKS[:3], changed, TASKS[4]]
    await store.aclose()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tag", '"\\ud800 \\u0000"'),
        ("request_id", "\udcff"),
        ("loss", '{"message":"\\ud800 https://h/v?…"}'),
        ("body", b'{"a":"\\ud800 https://h/v?k"}'),
    ],
)
async def test_no_text_of_a_server_keeps_rows_from_being_written(reopened, field, value):
    """Lone surrogates and odd bytes of headers are not in UTF-8; the body is decodable again."""
    store = reopened()
    await opened(store)
    await store.write([StoredTask(task_id="a", added_at=1.0, **{field: value})], durable=False)
    await store.aclose()
    store = reopened()
    (task,) = (await opened(store)).tasks
    await store.aclose()

    found = getattr(task, field)
    assert found == {"request_id": "?"}.get(field, found)
    if field == "body":
        assert decode_json(found) == {"a": "\ud800 https://h/v?…"}
    elif field != "request_id":
        assert json.loads(found) == json.loads(value)


async def test_a_cancelled_opening_leaves_no_lock(path):
    """The file can be opened again at once."""
    opening = asyncio.ensure_future(opened(SqliteStore(path)))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    store = SqliteStore(path)

    assert (await opened(store)).tasks == []
    await store.aclose()


async def test_acknowledged_ids_are_remembered_for_seven_days(reopened, monkeypatch):
    """Those that were removed are not; one that is added again is forgotten."""
    store = reopened()
    await opened(store)
    await store.write(TASKS[:3], durable=True)
    await store.write(
        [], acknowledged=[IDS[0], IDS[1], "never added"], removed=[IDS[2]], durable=False
    )
    await store.write([TASKS[1]], durable=True)
    await store.aclose()
    asked = [*IDS[:3], "never added", "other"]
    store = reopened()

    assert (await opened(store, task_ids=asked)).acknowledged == {IDS[0], "never added"}
    await store.aclose()
    later = time.time() + 7 * 86_400 + 1
    monkeypatch.setattr("time.time", lambda: later)
    store = reopened()
    assert (await opened(store, task_ids=asked)).acknowledged == frozenset()
    await store.aclose()


async def test_the_key_is_compared_by_its_fingerprint(reopened):
    """Another key is another one until it is accepted; the file never holds a key."""
    store = reopened()
    assert (await opened(store)).is_same_key
    await store.aclose()
    store = reopened()
    assert not (await opened(store, key=b"other")).is_same_key
    await store.aclose()
    store = reopened()
    assert not (await opened(store, key=None)).is_same_key
    await store.aclose()
    store = reopened()
    assert not (await opened(store, key=b"other")).is_same_key
    await store.accept_key()
    await store.aclose()
    store = reopened()

    assert (await opened(store, key=b"other")).is_same_key
    await store.aclose()


async def test_another_base_url_is_refused(reopened):
    """The message names the stored one."""
    store = reopened()
    await opened(store)
    await store.aclose()

    error = await refusal(reopened(), base_url="https://other.example.test/v1")

    assert error.reason == "wrong_account"
    assert BASE_URL in str(error)


@pytest.mark.fault("P6")
async def test_a_second_one_is_refused_at_once(reopened):
    """And the first keeps its lock; after closing, the store can be opened again."""
    store = reopened()
    await opened(store)

    for _ in range(2):
        second = SqliteStore(store.path) if isinstance(store, SqliteStore) else store
        with pytest.raises(StoreError, match="in use") as raised:
            await opened(second)
        assert (raised.value.reason, raised.value.retryable) == ("locked", True)
        if second is not store:
            await second.aclose()
    await store.write(TASKS, durable=True)
    await store.aclose()
    assert len((await opened(reopened())).tasks) == len(TASKS)
    if isinstance(store, MemoryStore):
        await store.aclose()


HOLDER = """
import asyncio, sys
from ezvideo_async.store.sqlite import SqliteStore
async def main():
    store = SqliteStore(sys.argv[1])
    await store.open(base_url=sys.argv[2], fingerprint=lambda salt: salt, task_ids=[])
    print("open", flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


@pytest.mark.fault("P6")
async def test_a_killed_process_frees_its_lock(path):
    """Another process is refused while it lives, and gets in at once after the kill."""
    holder = subprocess.Popen(  # noqa: ASYNC220 -- answers at once
        [sys.executable, "-c", HOLDER, str(path), BASE_URL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"open\n"
        assert (await refusal(SqliteStore(path))).reason == "locked"
        assert (await refusal(SqliteStore(path))).reason == "locked"
    finally:
        holder.kill()
        holder.communicate(timeout=30)
    store = SqliteStore(path)
    await opened(store)
    await store.aclose()


@pytest.mark.fault("P7")
async def test_the_file_is_for_its_owner_only(path):
    """Mode 0600, also of the journal; nothing else is left in the folder."""
    store = SqliteStore(path)
    await opened(store)
    await store.write(TASKS, durable=True)

    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {"watch.db": 0o600, "watch.db-wal": 0o600}
    await store.aclose()
    assert [each.name for each in path.parent.iterdir()] == ["watch.db"]


@pytest.mark.fault("P7")
@pytest.mark.parametrize("planted", ["link", "folder", "no folder"])
async def test_what_is_no_plain_file_is_refused(path, planted):
    """No symbolic link is followed, whatever it names."""
    await filled(path)
    wrong = path.with_name("other.db")
    if planted == "link":
        wrong.symlink_to(path)
    elif planted == "folder":
        wrong.mkdir()
    else:
        wrong = path.parent / "missing" / "watch.db"

    error = await refusal(SqliteStore(wrong))

    assert (error.reason, error.path) == ("inaccessible", str(wrong))


async def test_a_half_made_file_of_a_killed_process_is_replaced(path):
    """It has the name of this process, which can have been given twice."""
    path.with_name(f"watch.db.new-{os.getpid()}").write_bytes(b"half")
    await filled(path)

    assert len(read_store(path)) == len(TASKS)
    assert [each.name for each in path.parent.iterdir()] == ["watch.db"]


@pytest.mark.fault("STORE-D3")
@pytest.mark.parametrize("how", ["deleted", "renamed", "replaced"])
async def test_a_moved_file_is_found_at_the_next_write(path, how):
    """Writing continues when the file is back."""
    store = SqliteStore(path)
    await opened(store)
    elsewhere = path.with_name("elsewhere.db")
    path.rename(elsewhere)
    if how == "deleted":
        elsewhere.unlink()
    elif how == "replaced":
        path.write_bytes(b"")

    with pytest.raises(StoreError) as raised:
        await store.write(TASKS, durable=True)
    assert raised.value.reason == "moved"
    if how != "deleted":
        elsewhere.rename(path)
        await store.write(TASKS, durable=True)
    await store.aclose()
    assert how == "deleted" or len(read_store(path)) == len(TASKS)


def change(path, statement):
    """Change the file as another program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


# -- damage ---------------------------------------------------------------------------------------


def outcome(path):
    """The rows of a file, or the reason why it is refused."""
    try:
        return read_store(path)
    except StoreError as error:
        return error.reason


def outcome_of(path, content, journal):
    """The outcome of a file with this content and journal."""
    path.write_bytes(content)
    Path(f"{path}-wal").write_bytes(journal)
    return outcome(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A closed file with rows."""
    path = tmp_path_factory.mktemp("store") / "watch.db"
    asyncio.run(filled(path))
    return path


@pytest.mark.fault("P4")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_unharmed(whole, tmp_path, data):
    """Never fewer or other ids: bits flipped, pages swapped or zeroed, cut anywhere."""
    content = bytearray(whole.read_bytes())
    page = 4096
    kind = data.draw(st.sampled_from(["bit", "cut", "zero", "swap"]))
    place = data.draw(st.integers(0, len(content) - 1))
    if kind == "bit":
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del content[place:]
    elif kind == "zero":
        start = place // page * page
        content[start : start + page] = bytes(page)
    else:
        first, second = (
            place // page * page,
            data.draw(st.integers(0, len(content) // page - 1)) * page,
        )
        content[first : first + page], content[second : second + page] = (
            content[second : second + page],
            content[first : first + page],
        )
    copy = tmp_path / "copy.db"
    copy.write_bytes(content)

    found = outcome(copy)

    assert found == TASKS or found in {"damaged", "newer_version"}


@pytest.mark.fault("P4")
@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"", "is empty; delete it"),
        (b"garbage" * 2000, "is not a store"),
        (b"{}", "is not a store"),
    ],
)
async def test_a_file_that_is_no_store_is_refused(path, content, phrase):
    """And it stays as it is."""
    path.write_bytes(content)

    error = await refusal(SqliteStore(path))

    assert error.reason == "damaged"
    assert phrase in str(error)
    assert path.read_bytes() == content


@pytest.mark.fault("P4")
async def test_a_file_of_another_program_or_version_is_refused(path):
    """The application id and the version are read before anything is written."""
    change(path, "CREATE TABLE notes(text)")
    assert (await refusal(SqliteStore(path))).reason == "damaged"
    path.unlink()
    await filled(path)
    change(path, "PRAGMA user_version=99")

    assert (await refusal(SqliteStore(path))).reason == "newer_version"


@pytest.mark.fault("P4")
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM task WHERE added_at = 3.0",
        "UPDATE task SET deadline_at = 1.0",
        "UPDATE task SET status = 'unheard-of'",
        "UPDATE meta SET value = 'https://evil.example.test/v1' WHERE name = 'base_url'",
        "DELETE FROM meta WHERE name = 'row_count'",
    ],
)
async def test_rows_that_were_altered_are_found(path, statement):
    """By their checksums and their number."""
    await filled(path)
    change(path, statement)

    assert (await refusal(SqliteStore(path))).reason == "damaged"


@pytest.mark.fault("STORE-P4b")
async def test_a_cut_journal_gives_an_older_whole_state(path, tmp_path):
    """SQLite drops the journal from its first bad frame on."""
    store = SqliteStore(path)
    await opened(store)
    for task in TASKS:
        await store.write([task], durable=False)
    journal = path.with_name("watch.db-wal").read_bytes()
    content = path.read_bytes()
    states = [TASKS[:count] for count in range(len(TASKS) + 1)]
    lengths = set()
    for number, end in enumerate(range(0, len(journal), 997 * 8)):
        copy = tmp_path / f"copy-{number}.db"
        found = outcome_of(copy, content, journal[:end])

        assert found in states
        lengths.add(len(found))
    await store.aclose()
    assert len(lengths) > 3


# -- what the system refuses ----------------------------------------------------------------------


@pytest.mark.fault("P5")
async def test_a_read_only_file_is_inaccessible(path):
    """Opening fails with the reason of the system."""
    await filled(path)
    path.chmod(0o400)
    if os.access(path, os.W_OK):
        pytest.skip("root may write any file")

    assert (await refusal(SqliteStore(path))).reason == "inaccessible"


@pytest.mark.fault("P5")
async def test_a_full_disk_is_named_and_passes(path):
    """A write that fails changes nothing; the next one succeeds when there is room."""
    store = SqliteStore(path)
    await opened(store)
    await store.write(TASKS[:1], durable=True)
    await store._run(store._file._connection.execute, "PRAGMA max_page_count=6")
    many = [
        StoredTask(task_id=f"{number}", added_at=1.0, body=b'"' + b"x" * 900 + b'"')
        for number in range(100)
    ]

    with pytest.raises(StoreError) as raised:
        await store.write(many, durable=True)
    assert (raised.value.reason, raised.value.retryable) == ("full", True)
    await store._run(store._file._connection.execute, "PRAGMA max_page_count=1000000")
    await store.write(many, durable=False)
    await store.aclose()
    assert len(read_store(path)) == 101


async def test_the_system_may_know_no_hard_links(path, monkeypatch):
    """Then the error says so, and nothing is left behind."""

    def link(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", link)

    error = await refusal(SqliteStore(path))

    assert error.reason == "inaccessible"
    assert "Operation not permitted" in str(error)
    assert list(path.parent.iterdir()) == []


FORKED = """
import asyncio, gc, os, sys
from ezvideo_async._domain.stored_task import StoredTask
from ezvideo_async.store import read_store
from ezvideo_async.store.sqlite import SqliteStore
async def main():
    store = SqliteStore(sys.argv[1])
    await store.open(base_url="u", fingerprint=lambda salt: salt, task_ids=[])
    await store.write([StoredTask(task_id="a", added_at=1.0)], durable=False)
    child = os.fork()
    if not child:
        vars(store).clear()
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    await store.write([StoredTask(task_id="b", added_at=2.0)], durable=False)
    os._exit(0)
asyncio.run(main())
"""


@pytest.mark.fault("STORE-D5")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_forked_child_does_not_close_the_file(path):
    """What the parent has written since is there after its kill."""
    subprocess.run(  # noqa: ASYNC221 -- ends at once
        [sys.executable, "-W", "ignore", "-c", FORKED, str(path)], check=True, timeout=60
    )

    assert [task.task_id for task in read_store(path)] == ["a", "b"]


async def test_a_network_file_system_is_warned_of(path, monkeypatch, caplog):
    """Its locks may not keep a second process out."""
    table = f"1 0 0:1 / / rw - ext4 none rw\n2 1 0:2 / {path.parent} rw - nfs4 server rw\n"
    read_text = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self, *args: table if str(self).startswith("/proc") else read_text(self, *args),
    )
    await filled(path)

    assert "network file system (nfs4)" in caplog.text


async def test_a_copy_of_a_closed_file_is_a_store(path, tmp_path):
    """Closing leaves one file without a journal."""
    await filled(path)
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)

    assert read_store(copy) == TASKS
