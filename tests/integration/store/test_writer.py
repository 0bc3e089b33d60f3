"""Writer of a watcher's changes: retries, order, durability, and what it reports."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from ezvideo_async import StoreError
from ezvideo_async.instrumentation import StoreFailed, StoreRecovered
from tests.support.durable import ControlledStore, killed, watching
from tests.support.fake_transport import FakeTask, FakeTransport

pytestmark = pytest.mark.anyio

DISK_FULL = StoreError("the disk is full", reason="full")


@pytest.fixture
def server():
    """A server whose tasks run."""
    return FakeTransport(**dict.fromkeys(["a", "b", "c"], "processing"))


@pytest.fixture
def store():
    """A store in memory."""
    return ControlledStore()


async def written(watcher):
    """Wait until the next attempt has written all."""
    await asyncio.sleep(31.0)
    assert watcher.stats.unsaved == 0


# -- failing writes -------------------------------------------------------------------------------


@pytest.mark.fault("P5")
async def test_a_failed_write_is_retried_after_a_growing_delay(server, store):
    """After 0.5 s, doubling to 30 s; and after a success the delay is short again."""
    async with watching(server, store) as watcher:
        store.error = DISK_FULL
        watcher.add("a")
        await asyncio.sleep(121.0)
        times = [write.at for write in store.attempts]
        store.error = None
        await written(watcher)
        again = len(store.attempts)
        store.error = DISK_FULL
        watcher.add("b")
        await asyncio.sleep(1.0)
        store.error = None

    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert store.attempts[again + 1].at - store.attempts[again].at == 0.5


@pytest.mark.fault("P5")
async def test_each_period_of_failing_writes_is_reported_once(server, store, caplog):
    """One warning, one ``StoreFailed`` and one ``StoreRecovered``, however many writes failed."""
    caplog.set_level("INFO", "ezvideo_async")
    found = []
    reports = (StoreFailed, StoreRecovered)

    options = {"observers": [found.append]}
    async with watching(server, store, client_options=options) as watcher:
        for task_id in ("a", "b"):
            store.error = DISK_FULL
            watcher.add(task_id)
            await asyncio.sleep(10.0)
            store.error = None
            await written(watcher)

    found = [event for event in found if isinstance(event, reports)]
    assert [type(event) for event in found] == [*reports, *reports]
    assert (found[0].error.reason, found[0].unsaved) == ("full", 1)
    assert found[1].outage == 15.5
    assert caplog.text.count("states are not saved: the disk is full") == 2
    assert caplog.text.count("states are saved again, after 15.5 s") == 2


@pytest.mark.fault("P5")
async def test_what_a_disk_raises_stops_no_watch(server, store):
    """Whatever it is; polls continue, and the error of ``save()`` names it."""
    async with watching(server, store, ["a"]) as watcher:
        store.error = OSError(5, "Input/output error")
        server.tasks["a"].status = "completed"
        event = await asyncio.wait_for(anext(watcher), 10.0)
        assert event.kind == "task_completed"
        with pytest.raises(StoreError, match="Input/output error"):
            await watcher.save()
        store.error = None


async def test_save_raises_at_once_while_writes_fail(server, store):
    """It makes an attempt of its own; the changes stay queued."""
    async with watching(server, store) as watcher:
        store.error = DISK_FULL
        watcher.add("a")
        await asyncio.sleep(100.0)
        attempts, now = len(store.attempts), asyncio.get_running_loop().time()
        with pytest.raises(StoreError) as raised:
            await watcher.save()
        assert (raised.value.reason, raised.value.unsaved) == ("full", 1)
        assert len(store.attempts) == attempts + 1
        assert asyncio.get_running_loop().time() == now
        store.error = None
        await watcher.save()
        assert (watcher.stats.unsaved, list(store.rows())) == (0, ["a"])


async def test_a_save_during_a_failing_write_shortens_no_later_delay(server, store):
    """The one that asked has its error already."""
    async with watching(server, store) as watcher:
        store.error, store.delay = DISK_FULL, 0.25
        watcher.add("a")
        await asyncio.sleep(0.1)
        with pytest.raises(StoreError):
            await watcher.save()
        await asyncio.sleep(0.6)
        assert [write.at for write in store.attempts] == [0.0, 0.75]
        store.error = None


# -- what is written ------------------------------------------------------------------------------


async def test_save_waits_for_an_add_whose_row_has_changed_since(server, store):
    """A newer change of the same id owes what the replaced one owed: order and durability."""
    async with killed(server, store) as watcher:
        store.delay = 1.0
        watcher.add("a")
        await asyncio.sleep(0.1)
        watcher.add("b")  # while the first write is in progress
        saving = asyncio.ensure_future(watcher.save())
        await asyncio.sleep(0.0)
        await asyncio.sleep(0.5)  # the first poll of b changes its row
        assert watcher.get("b").task.status == "processing"
        await saving
        assert "b" in store.rows()

    assert [(write.tasks, write.durable) for write in store.attempts[:2]] == [
        (("a",), True),
        (("a", "b"), True),
    ]


async def test_a_change_after_a_failed_write_is_as_durable(server, store):
    """The add that failed is written by the row of the change."""
    async with watching(server, store) as watcher:
        store.error = DISK_FULL
        watcher.add("a")
        await asyncio.sleep(0.3)
        store.error = None
        await written(watcher)
        server.tasks["a"].status = "pending"
        await asyncio.sleep(10.0)
        await written(watcher)

    assert [write.durable for write in store.attempts] == [True, True, False]


async def test_one_transaction_has_at_most_500_rows(server, store):
    """And they are written in the order of recording."""
    ids = [f"vid_{number}" for number in range(1200)]
    async with watching(server, store) as watcher:
        watcher.add(*ids)
        assert watcher.stats.unsaved == 1200
        await watcher.save()
        adds = [write for write in store.attempts if write.durable]

    assert [len(write.tasks) for write in adds] == [500, 500, 200]
    assert [task_id for write in adds for task_id in write.tasks] == ids


async def test_changes_of_one_id_are_one_write(server, store):
    """While a write is in progress, only the newest change waits."""
    async with watching(server, store) as watcher:
        store.delay = 60.0
        watcher.add("a")
        for status in ("pending", "processing", "pending", "processing"):
            server.tasks["a"].status = status
            await asyncio.sleep(10.0)
            assert watcher.stats.unsaved <= 1
        await watcher.save()
        store.delay = 0.0

    assert len(store.attempts) == 2


async def test_a_removed_id_is_forgotten_as_acknowledged_too(server, store):
    """An id that was acknowledged, added again and lost is watched again after a restart."""
    server.tasks["a"].status = "completed"
    async with watching(server, store, ["a"]) as watcher:
        assert [event.kind async for event in watcher] == ["task_completed"]
    async with watching(server, store) as watcher:
        store.error = DISK_FULL
        server.tasks.clear()
        watcher.add("a")
        watcher.discard("a")  # before any write
        store.error = None
    server.tasks["a"] = FakeTask("completed")

    async with watching(server, store, ["a"]) as watcher:
        assert [event.kind async for event in watcher] == ["task_completed"]


# -- leaving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_leaving_with_unwritten_changes_raises_within_2_seconds(server, store, how):
    """With their number; at once if the last write fails."""

    async def leave():
        async with watching(server, store) as watcher:
            watcher.add("a")
            if how == "fails":
                store.error = DISK_FULL
            else:
                store.delay = 3600.0

    with pytest.raises(StoreError) as raised:
        await leave()
    left = asyncio.get_running_loop().time()

    assert raised.value.unsaved == 1
    assert raised.value.reason == ("full" if how == "fails" else "inaccessible")
    assert left == (0.0 if how == "fails" else 2.0)


async def test_the_error_of_the_body_comes_first(server, store, caplog):
    """The error of the store is logged."""

    async def leave():
        async with watching(server, store) as watcher:
            store.error = DISK_FULL
            watcher.add("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await leave()
    assert "the disk is full" in caplog.text
    assert [record.levelname for record in caplog.records][-1] == "ERROR"


async def test_after_leaving_nothing_waits_for_the_store(server, store):
    """``save()`` raises for what was not written, and nothing can be acknowledged."""
    server.tasks["a"].status = "completed"
    left = []

    async def leave():
        async with watching(server, store, ["a"], acknowledge="by_hand") as watcher:
            left.append(watcher)
            final = await anext(watcher)
            await watcher.save()
            store.error = DISK_FULL
            watcher.acknowledge(final)

    with pytest.raises(StoreError):
        await leave()
    (watcher,) = left
    with pytest.raises(StoreError, match="not saved before"):
        await asyncio.wait_for(watcher.save(), 60.0)
    assert not watcher.acknowledge("a")
    async with watching(server, store := ControlledStore()) as watcher:
        pass
    await watcher.save()
