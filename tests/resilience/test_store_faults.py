"""Faults of the disk, the account and the clock of a durable watch set."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from contextlib import asynccontextmanager, suppress

import pytest

from ezvideo_async import AsyncVideoClient, ClosedError, PollPolicy, RequestBudget, StoreError
from ezvideo_async.store import read_store
from ezvideo_async.testing import FakeVideoServer
from tests.support.durable import KINDS, ControlledStore, fresh_store, killed, watching
from tests.support.fake_transport import FakeTransport
from tests.support.subprocesses import run

STEADY = PollPolicy(jitter=0.0)
DISK_FULL = StoreError("the disk is full", reason="full")

pytestmark = pytest.mark.anyio


@pytest.fixture(params=KINDS)
def store(request):
    """An empty store, in a file or in memory."""
    with fresh_store(request.param) as made:
        yield made


def now():
    return asyncio.get_running_loop().time()


# -- P3b: kills around each write -----------------------------------------------------------------

SWEEP = """
import asyncio, itertools, json, os, random, sys
from pathlib import Path
from ezvideo_async.testing import VirtualClockLoop
from tests.support.durable import ControlledStore, watching
from tests.support.fake_transport import FakeTransport

IDS = [f"vid_{number}" for number in range(20)]

async def finish(server):
    for task_id in random.Random(5).sample(IDS, 20):
        server.tasks[task_id].status = "completed"
        await asyncio.sleep(0.7)

async def live(folder, place, instant):
    store = ControlledStore(folder / "watch.db")
    setattr(store, instant, lambda number: os._exit(7) if number == place else None)
    server = FakeTransport(**dict.fromkeys(IDS, "processing"))
    with open(folder / "received", "a", buffering=1) as received:
        async with watching(server, store, IDS) as watcher:
            finishing = asyncio.ensure_future(finish(server))
            async for event in watcher:
                if event.is_final:
                    received.write(event.dedup_key + "\\n")
            await finishing
        received.write("left\\n")

def was_killed(folder, place, instant):
    child = os.fork()
    if not child:
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(live(folder, place, instant))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, 7}, code
    return code == 7

for instant in ("before", "after"):
    for place in itertools.count(1):
        case = Path(sys.argv[1]) / f"{instant}-{place}"
        case.mkdir()
        if not was_killed(case, place, instant):
            break  # there are fewer writes
        assert not was_killed(case, None, instant)
print(json.dumps("done"))
"""


@pytest.mark.fault("STORE-P3b")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_around_each_write_loses_nothing(tmp_path):
    """Before and after every write of a watch of 20 ids; one final event comes again at most."""
    assert json.loads(run(SWEEP, str(tmp_path), options=())) == "done"

    cases = sorted(tmp_path.iterdir())
    assert len(cases) > 40
    for case in cases:
        *keys, last = (case / "received").read_text().splitlines()
        assert (last, len(set(keys))) == ("left", 20), case.name
        assert len(keys) <= 21, case.name
        assert read_store(case / "watch.db") == []


# -- P5: a full disk ------------------------------------------------------------------------------

FULL = """
import asyncio, json, subprocess, sys
from pathlib import Path
from ezvideo_async import StoreError
from ezvideo_async.instrumentation import StoreFailed, StoreRecovered
from ezvideo_async.testing import VirtualClockLoop
from ezvideo_async.store import read_store
from tests.support.durable import watching
from tests.support.fake_transport import FakeTransport

folder = Path(sys.argv[1])
def mount(*options):
    subprocess.run(["mount", *options, str(folder)], check=True)

async def main():
    mount("-t", "tmpfs", "-o", "size=512k", "tmpfs")
    path = folder / "watch.db"
    reports = []
    def observe(event):
        if isinstance(event, StoreFailed | StoreRecovered):
            reports.append(event.kind if hasattr(event, "kind") else type(event).__name__)
    ids = [f"vid_{number}" for number in range(20)]
    server = FakeTransport(**dict.fromkeys(ids, "processing"))
    found = {"reason": None}
    async with watching(server, path, ids, client_options={"observers": [observe]}) as watcher:
        await watcher.save()
        (folder / "filling").write_bytes(b"")
        try:
            with open(folder / "filling", "wb", buffering=0) as filling:
                while True:
                    filling.write(bytes(4096))
        except OSError:
            pass
        many = [f"new_{number}" for number in range(2000)]
        server.tasks.update(FakeTransport(**dict.fromkeys(many, "processing")).tasks)
        watcher.add(*many)
        try:
            await watcher.save()
        except StoreError as error:
            found["reason"] = error.reason
        polls = watcher.stats.polls
        await asyncio.sleep(60.0)
        found["polls"] = watcher.stats.polls > polls
        found["unsaved"] = watcher.stats.unsaved > 0
        mount("-o", "remount,size=8m")
        await asyncio.sleep(31.0)
        await watcher.save()
        found["left"] = watcher.stats.unsaved
        found["reports"] = reports
    found["rows"] = len(read_store(path))
    print(json.dumps(found))

with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
    runner.run(main())
"""


def can_mount():
    """Return True if a file system can be mounted in a namespace of its own."""
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    return tried.returncode == 0


@pytest.mark.fault("P5")
def test_a_full_disk_stops_no_poll_and_loses_nothing(tmp_path):
    """Writes fail once loudly, and all is written when there is space again."""
    if not can_mount():
        pytest.skip("no file system can be mounted here; see the test with max_page_count")
    found = json.loads(run(FULL, str(tmp_path), options=(), wrapper=("unshare", "--mount")))

    assert found == {
        "reason": "full",
        "polls": True,
        "unsaved": True,
        "left": 0,
        "reports": ["StoreFailed", "StoreRecovered"],
        "rows": 2020,
    }


@pytest.mark.fault("P5")
async def test_a_file_that_cannot_grow_stops_no_watch(tmp_path):
    """As on a full disk; the changes left at the end are the error of leaving."""
    path = tmp_path / "watch.db"
    ids = [f"vid_{number}" for number in range(2000)]
    server = FakeTransport(**dict.fromkeys(ids, "processing"))

    async def leave():
        async with watching(server, path) as watcher:
            file = watcher._persistence._store
            await file._run(file._file._connection.execute, "PRAGMA max_page_count=20")
            watcher.add(*ids)
            await asyncio.sleep(60.0)
            assert watcher.stats.polls >= 2000
            assert watcher.stats.unsaved > 0

    with pytest.raises(StoreError) as raised:
        await leave()
    assert (raised.value.reason, raised.value.path) == ("full", str(path))
    assert 0 < raised.value.unsaved <= 2000
    async with watching(server, path, ids) as watcher:
        assert len(watcher.open_ids) == 2000


# -- D2: other accounts ---------------------------------------------------------------------------


@asynccontextmanager
async def stored_watch(path):
    """Watch four tasks with a key, and leave; return the server and how to enter again."""
    server = FakeVideoServer()

    @asynccontextmanager
    async def enter(key, tasks=(), **options):
        async with (
            AsyncVideoClient(key, base_url=server.base_url, **options) as client,
            client.watch(tasks, store=path, policy=STEADY) as watcher,
        ):
            yield watcher

    async with server:
        ids = [server.add_task(duration=1000.0) for _ in range(4)]
        async with enter("first", ids):
            await asyncio.sleep(20.0)
        yield server, ids, enter


@pytest.mark.fault("STORE-D2")
async def test_a_renewed_key_finds_its_tasks_and_is_accepted(tmp_path, caplog):
    """One request proves it; after that it is the key of the store."""
    async with stored_watch(tmp_path / "watch.db") as (server, ids, enter):
        for expected in (1, 0):
            sends = len(server.requests())
            async with enter("second") as watcher:
                assert len(server.requests()) - sends == expected
                assert watcher.open_ids == tuple(ids)
    assert "API key" not in caplog.text


@pytest.mark.fault("STORE-D2")
async def test_another_account_is_refused_and_nothing_changes(tmp_path):
    """Three ids are asked for; the error says what to do, and the first account continues."""
    path = tmp_path / "watch.db"
    async with stored_watch(path) as (server, ids, enter):
        before = read_store(path)
        server.fault("404")
        sends = len(server.requests())

        async def refused():
            async with enter("other"):
                pass

        with pytest.raises(StoreError, match="use that key") as raised:
            await refused()
        assert (raised.value.reason, len(server.requests()) - sends) == ("wrong_account", 3)
        assert [record.task_id for record in server.requests()[-3:]] == ids[:0:-1]
        assert read_store(path) == before
        server.heal()
        async with enter("first") as watcher:
            assert watcher.open_ids == tuple(ids)


@pytest.mark.fault("STORE-D2")
async def test_one_found_task_proves_the_account(tmp_path):
    """The others may be forgotten by now."""
    async with stored_watch(tmp_path / "watch.db") as (server, ids, enter):
        for task_id in ids[2:]:
            server.forget(task_id)
        async with enter("second") as watcher:
            assert watcher.open_ids == tuple(ids)


@pytest.mark.fault("STORE-D2")
@pytest.mark.parametrize("fault", ["503", "401"])
async def test_an_outage_at_the_start_proves_nothing(tmp_path, caplog, fault):
    """The watch continues with a warning, and the old key stays that of the store."""
    async with stored_watch(tmp_path / "watch.db") as (server, ids, enter):
        server.fault(fault)
        async with enter("second") as watcher:
            assert watcher.open_ids == tuple(ids)
        assert "used with another API key" in caplog.text
        server.heal()
        caplog.clear()
        sends = len(server.requests())
        async with enter("first"):
            assert len(server.requests()) == sends
        assert "API key" not in caplog.text


@pytest.mark.fault("STORE-D2")
async def test_a_callable_key_is_called_once_before_the_store_is_opened(tmp_path, caplog):
    """The same key needs no request; one that cannot be had is another key."""
    keys = ["first"]

    async def key():
        return keys.pop()

    async def no_key():
        raise LookupError("no key today")

    async with stored_watch(tmp_path / "watch.db") as (server, ids, enter):
        sends = len(server.requests())
        async with enter(key) as watcher:
            assert watcher.open_ids == tuple(ids)
            assert (keys, len(server.requests())) == ([], sends)
        with suppress(LookupError):
            async with enter(no_key) as watcher:
                assert watcher.open_ids == tuple(ids)
    assert len(read_store(tmp_path / "watch.db")) == 4


@pytest.mark.fault("STORE-D2")
async def test_another_base_url_is_refused(store):
    """The message names the stored one."""
    server = FakeTransport(a="processing")
    async with killed(server, store, ["a"]) as watcher:
        await watcher.save()

    async def refused():
        options = {"base_url": "https://other.example.test/v1"}
        async with watching(server, store, client_options=options):
            pass

    with pytest.raises(StoreError, match=r"api\.example\.test") as raised:
        await refused()
    assert raised.value.reason == "wrong_account"


# -- D4 and D9: slow and full disks ---------------------------------------------------------------


@pytest.mark.fault("STORE-D9")
async def test_an_hour_of_a_full_disk_delays_no_reader_and_all_is_written(caplog):
    """10,000 final events are read meanwhile; pending changes are one for each id."""
    ids = [f"vid_{number}" for number in range(10_000)]
    store, server = ControlledStore(), FakeTransport(**dict.fromkeys(ids, "processing"))
    budget = RequestBudget(rate=1000.0, max_in_flight=256)
    options = {"client_options": {"budget": budget}, "policy": PollPolicy(interval=60.0)}
    async with watching(server, store, ids, **options) as watcher:
        await asyncio.sleep(60.0)
        await watcher.save()
        store.error = DISK_FULL
        for task in server.tasks.values():
            task.status = "completed"
        kinds = Counter()
        async for event in watcher:
            kinds[event.kind] += 1
            assert watcher.stats.unsaved <= 10_000
        assert kinds["task_completed"] == 10_000
        assert now() < 300.0
        await asyncio.sleep(3600.0 - now())
        assert watcher.stats.unsaved == 10_000
        store.error = None
        await watcher.save()
        assert store.rows() == {}
    assert caplog.text.count("states are not saved") == 1


# -- D8: the server forgot ------------------------------------------------------------------------


@pytest.mark.fault("STORE-D8")
async def test_the_stored_final_event_comes_when_the_server_forgot_the_task(tmp_path):
    """Its url has no query then; the poll is one only."""
    path = tmp_path / "watch.db"
    async with FakeVideoServer() as server:
        task_id = server.add_task(duration=10.0)

        @asynccontextmanager
        async def enter():
            async with (
                AsyncVideoClient("key", base_url=server.base_url) as client,
                client.watch([task_id], store=path, policy=STEADY) as watcher,
            ):
                yield watcher

        with suppress(LookupError):
            async with enter() as watcher:
                async for event in watcher:
                    if event.is_final:
                        url = event.task.url
                        raise LookupError
        server.forget(task_id)
        sends = len(server.requests())
        async with enter() as watcher:
            events = [event async for event in watcher]

        assert [event.kind for event in events] == ["task_completed"]
        assert events[0].task.url.partition("?")[0] == url.partition("?")[0]
        assert events[0].task.url.partition("?")[2] in {"", "…"}
        assert len(server.requests()) == sends + 1


# -- D5 and D11 -----------------------------------------------------------------------------------


@pytest.mark.fault("STORE-D5")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_forked_child_cannot_use_the_watcher(tmp_path):
    """It gets ``ClosedError``; the parent continues to write."""
    path = tmp_path / "watch.db"
    server = FakeTransport(a="processing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads and fork
        async with killed(server, ControlledStore(path)) as watcher:
            watcher.add("a")
            await watcher.save()
            child = os.fork()
            if not child:
                try:
                    watcher.add("b")
                except ClosedError:
                    os._exit(7)
                finally:
                    os._exit(1)
            _, status = os.waitpid(child, 0)  # noqa: ASYNC222 -- ends at once
            assert os.waitstatus_to_exitcode(status) == 7
            watcher.add("c")
            await watcher.save()
    assert [row.task_id for row in read_store(path)] == ["a", "c"]


@pytest.mark.fault("STORE-D11")
async def test_a_hub_that_nobody_iterates_over_keeps_all_and_warns_once(store, caplog):
    """No final event is dropped by time; the warning names ``iterate=False``."""
    ids = [f"vid_{number}" for number in range(30)]
    server = FakeTransport(**dict.fromkeys(ids, "completed"))
    async with killed(server, store, retain_ended=60.0) as watcher:
        for task_id in ids:
            assert (await watcher.wait(task_id)).status == "completed"
        await asyncio.sleep(3600.0)
        assert watcher.stats.unread == 30
        assert caplog.text.count("iterate=False") == 1
        await watcher.save()

    async with watching(server, store) as watcher:
        watcher.finish_adding()
        events = [event async for event in watcher if event.is_final]
    assert {event.task_id for event in events} == set(ids)
