"""What callers do wrong, and what they are told."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ezvideo_async import (
    AsyncVideoClient,
    AuthenticationError,
    ClosedError,
    InvalidTaskIdError,
    PermissionDeniedError,
    TaskFailedError,
    TaskNotFoundError,
    TaskWatcher,
    VideoTask,
    WaitTimeoutError,
)
from ezvideo_async.testing import FakeVideoServer
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client


def server_of(**statuses):
    server = FakeTransport()
    server.tasks.update({name: FakeTask(status=status) for name, status in statuses.items()})
    return server


async def read_all(reader):
    return [event async for event in reader]


# -- adding ---------------------------------------------------------------------------------------


@pytest.mark.fault("C1", "C4")
@pytest.mark.parametrize(
    "task_ids", ["vid_1", b"bytes", [""], ["a", "."], [None], [["vid_1"]]], ids=ascii
)
async def test_unusable_ids_are_refused_at_once(task_ids):
    """A bad id, or one text where a list belongs, is refused before anything is sent."""
    server = server_of()
    async with fake_client(server) as client:
        with pytest.raises(InvalidTaskIdError):
            client.watch(task_ids)

    assert server.asked() == []


@pytest.mark.fault("C1")
async def test_one_bad_id_keeps_all_of_an_add_out():
    """``add`` takes all ids or none."""
    async with fake_client(server_of()) as client, client.watch() as watcher:
        with pytest.raises(InvalidTaskIdError, match="control characters"):
            watcher.add("vid_1", "vid\n2")

        assert watcher.open_ids == ()


@pytest.mark.fault("C5", "C9")
async def test_the_callers_list_is_copied():
    """Changing the list afterwards changes nothing."""
    task_ids = ["vid_1", "vid_2", "vid_1"]
    async with fake_client(server_of()) as client:
        watcher = client.watch(task_ids)
        task_ids.clear()
        async with watcher:
            assert watcher.open_ids == ("vid_1", "vid_2")


@pytest.mark.fault("C5")
async def test_adding_a_watched_id_again_changes_nothing():
    """``add`` is idempotent: same watch, same tag, no request more."""
    server = server_of(vid_1="processing")
    async with fake_client(server) as client, client.watch() as watcher:
        watcher.add("vid_1", tag="first")
        await asyncio.sleep(1)
        watcher.add("vid_1", tag="second")
        await asyncio.sleep(1)
        event = await anext(watcher)

    assert event.tag == "first"
    assert len(server.asked()) == 1


# -- the wrong time and place ---------------------------------------------------------------------


async def test_a_watcher_is_entered_before_use():
    """Every call before ``async with`` says so."""
    async with fake_client(server_of()) as client:
        watcher = client.watch(["vid_1"])
        for call in (
            lambda: watcher.add("vid_2"),
            lambda: watcher.discard("vid_1"),
            lambda: watcher.poll_now("vid_1"),
            watcher.subscribe,
            lambda: watcher.apply(VideoTask.from_dict({"id": "vid_1", "status": "failed"})),
        ):
            with pytest.raises(ClosedError, match="enter the watcher first"):
                call()
        with pytest.raises(ClosedError, match="enter the watcher first"):
            await anext(watcher)
        with pytest.raises(ClosedError, match="enter the watcher first"):
            await watcher.wait("vid_1")
        assert watcher.stats.polls == 0


async def test_a_watcher_is_entered_once():
    """Entering again, at the same time or later, is refused."""
    async with fake_client(server_of()) as client:
        watcher = client.watch()
        async with watcher:
            with pytest.raises(ClosedError, match="entered once"):
                await watcher.__aenter__()
        with pytest.raises(ClosedError, match="entered once"):
            await watcher.__aenter__()


async def test_a_closed_watcher_is_closed_for_everybody():
    """After ``async with`` calls and reads say that it was closed; endings can still be read."""
    server = server_of(vid_1="completed", vid_2="processing")
    async with fake_client(server) as client:
        async with client.watch(["vid_1", "vid_2"]) as watcher:
            subscription = watcher.subscribe("vid_2")
            await asyncio.sleep(1)
        kinds = {(await anext(watcher)).kind for _ in range(2)}
        with pytest.raises(ClosedError, match="the watcher was closed") as caught:
            await anext(watcher)
        with pytest.raises(ClosedError, match="the watcher was closed"):
            watcher.add("vid_3")
        with pytest.raises(ClosedError, match="the watcher was closed"):
            async with subscription:
                pass

    assert kinds == {"task_completed", "status_changed"}
    assert caught.value.open_ids == ("vid_2",)


async def test_a_watcher_needs_an_entered_client():
    """The client comes first; a closed one does not do."""
    client = AsyncVideoClient("key")
    with pytest.raises(ClosedError, match="enter the client first"):
        await TaskWatcher(client).__aenter__()
    async with client:
        pass
    with pytest.raises(ClosedError, match="closed"):
        await client.watch().__aenter__()


@pytest.mark.fault("C7")
async def test_another_thread_is_told_how_to_add():
    """A call from another thread names ``call_soon_threadsafe``."""
    caught = []

    def add_from_here():
        try:
            watcher.add("vid_1")
        except ClosedError as error:
            caught.append(str(error))

    async with fake_client(server_of()) as client, client.watch() as watcher:
        thread = threading.Thread(target=add_from_here)
        thread.start()
        thread.join()

    assert len(caught) == 1
    assert "call_soon_threadsafe" in caught[0]


# -- discard, feed --------------------------------------------------------------------------------


@pytest.mark.fault("C8")
async def test_discard_stops_the_watch_and_its_events():
    """After ``discard`` nobody hears of the id, even of what was unread; the answer is dropped."""
    server = server_of(vid_1="processing", vid_2="completed")
    async with fake_client(server) as client:
        async with client.watch(["vid_1"], keep_open=True) as watcher:
            async with watcher.subscribe("vid_1", replay=False) as events:
                waiting = asyncio.ensure_future(watcher.wait("vid_1"))
                await asyncio.sleep(4.9)
                server.tasks["vid_1"].latency = 1.0
                await asyncio.sleep(1)  # in flight
                assert watcher.discard("vid_1")
                assert not watcher.discard("vid_1")
                with pytest.raises(ClosedError, match="discarded"):
                    await waiting
                assert await read_all(events) == []
            await asyncio.sleep(60)
            watcher.add("vid_2")
            assert (await anext(watcher)).task_id == "vid_2"

    assert len(server.asked("vid_1")) == 2


async def test_discarding_the_last_id_ends_the_iteration():
    """A loop that waits for nothing more ends."""
    server = server_of(vid_1="processing")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        await anext(watcher)
        reading = asyncio.ensure_future(read_all(watcher))
        await asyncio.sleep(1)
        watcher.discard("vid_1")

        assert await reading == []


async def test_fed_states_count_as_seen():
    """A webhook's state is told at once, ends the watch if it is an end, and stops the polls."""
    server = server_of(vid_1="pending")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        await anext(watcher)
        assert watcher.apply(VideoTask.from_dict({"id": "vid_1", "status": "in_progress"}))
        changed = await anext(watcher)
        assert watcher.apply(VideoTask.from_dict({"id": "vid_1", "status": "SUCCESS"}))
        events = await read_all(watcher)
        assert not watcher.apply(VideoTask.from_dict({"id": "vid_1", "status": "failed"}))
        assert not watcher.apply(VideoTask.from_dict({"id": "vid_9", "status": "failed"}))
        with pytest.raises(TypeError, match="feed\\(\\) takes a VideoTask, got dict"):
            watcher.apply({"id": "vid_1"})
        with pytest.raises(TypeError, match="status of a VideoTask is a TaskStatus, got str"):
            watcher.apply(VideoTask(id="vid_1", status="completed"))
        await asyncio.sleep(60)

    assert changed.current == "processing"
    assert [event.kind for event in events] == ["task_completed"]
    assert len(server.asked()) == 1


# -- wait -----------------------------------------------------------------------------------------


async def test_waits_share_the_polls():
    """Ten waiters and the loop cost the requests of one."""
    server = server_of(vid_1="processing")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        waiting = [asyncio.ensure_future(watcher.wait("vid_1")) for _ in range(10)]
        await asyncio.sleep(12)
        server.tasks["vid_1"].status = "completed"
        tasks = await asyncio.gather(*waiting)

    assert {task.status for task in tasks} == {"completed"}
    assert len(server.asked()) == 4


async def test_waiting_for_an_unknown_id_adds_it():
    """``wait`` on an id nobody added watches it, also beyond a time-out."""
    server = server_of(vid_1="processing")
    async with fake_client(server) as client, client.watch(keep_open=True) as watcher:
        with pytest.raises(WaitTimeoutError) as caught:
            await watcher.wait("vid_1", timeout=12.0)
        assert caught.value.waited == 12.0
        assert caught.value.task.raw_status == "processing"
        assert watcher.open_ids == ("vid_1",)
        server.tasks["vid_1"].status = "failed"
        with pytest.raises(TaskFailedError, match="does not say why") as failed:
            await watcher.wait("vid_1")
        task = await watcher.wait("vid_1", raise_on_failure=False)

    assert task is failed.value.task


async def test_a_waiter_hears_why_a_task_was_lost():
    """A lost task raises the error that made us stop looking."""
    async with fake_client(server_of()) as client, client.watch(keep_open=True) as watcher:
        with pytest.raises(TaskNotFoundError):
            await watcher.wait("vid_1")


async def test_a_cancelled_wait_leaves_the_watch():
    """Cancelling one waiter disturbs neither the others nor the polls."""
    server = server_of(vid_1="processing")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        one, two = (asyncio.ensure_future(watcher.wait("vid_1")) for _ in range(2))
        await asyncio.sleep(7)
        one.cancel()
        await asyncio.wait([one])
        server.tasks["vid_1"].status = "completed"

        assert (await two).succeeded
        assert one.cancelled()


# -- keys and firewalls ---------------------------------------------------------------------------


async def test_a_refused_key_ends_the_watch_on_real_sockets():
    """401 from a real server: one exception with all open ids, no request after it."""
    async with FakeVideoServer(api_key="right") as server:
        ids = [server.add_task() for _ in range(10)]
        async with AsyncVideoClient("wrong", base_url=server.base_url) as client:
            async with client.watch(ids) as watcher:
                with pytest.raises(AuthenticationError) as caught:
                    await read_all(watcher)
                sent = len(server.requests())
                await asyncio.sleep(60)

        assert len(server.requests()) == sent

    assert caught.value.open_ids == tuple(ids)


@pytest.mark.fault("H4")
async def test_a_firewalls_page_is_not_believed_at_once():
    """A 403 page is trouble that passes; five in a row over a minute are fatal."""
    server = server_of(vid_1="processing")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        await anext(watcher)
        server.outage = "firewall"
        await asyncio.sleep(30)
        server.outage = None
        await asyncio.sleep(120)
        assert watcher.open_ids == ("vid_1",)
        server.outage, began = "firewall", asyncio.get_running_loop().time()
        with pytest.raises(PermissionDeniedError) as caught:
            await anext(watcher)
        lasted = asyncio.get_running_loop().time() - began

    assert caught.value.open_ids == ("vid_1",)
    assert lasted >= 60.0


# -- subscriptions --------------------------------------------------------------------------------


@pytest.mark.parametrize("replay", [True, False])
async def test_a_subscription_whose_id_ended_before_it_was_entered_ends(replay):
    """Between ``subscribe`` and ``async with`` an id may end: told if wanted, and over."""
    server = server_of(vid_1="completed")
    async with fake_client(server) as client, client.watch(keep_open=True) as watcher:
        watcher.add("vid_1")
        subscription = watcher.subscribe("vid_1", replay=replay)
        await asyncio.sleep(1)
        async with subscription as events:
            kinds = [event.kind for event in await read_all(events)]

    assert kinds == (["task_completed"] if replay else [])


async def test_a_subscription_whose_id_was_discarded_before_it_was_entered_ends():
    """There is nothing to tell of an id that is no longer watched."""
    server = server_of(vid_1="processing")
    async with fake_client(server) as client, client.watch(keep_open=True) as watcher:
        watcher.add("vid_1")
        subscription = watcher.subscribe("vid_1")
        await asyncio.sleep(1)
        watcher.discard("vid_1")
        async with subscription as events:
            assert await read_all(events) == []


async def test_a_subscription_is_entered_once_and_read_inside():
    """Reading outside of ``async with``, and entering again, are refused."""
    server = server_of(vid_1="processing")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        subscription = watcher.subscribe()
        with pytest.raises(ClosedError, match="enter the subscription first"):
            await anext(subscription)
        async with subscription:
            await anext(subscription)
            reading = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(1)
        with pytest.raises(ClosedError, match="the subscription was left"):
            await reading
        with pytest.raises(ClosedError, match="entered once"):
            await subscription.__aenter__()


# -- stray cancellations --------------------------------------------------------------------------


async def test_a_poll_cancelled_from_below_is_no_silent_end():
    """A key provider that awaits a cancelled task of its own ends the watch with an exception."""
    server = server_of(vid_1="processing")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        await anext(watcher)

        async def cancelled(_request, _secret, **_options):
            raise asyncio.CancelledError

        server.send = cancelled
        with pytest.raises(ClosedError, match="cancelled by something else") as caught:
            await anext(watcher)
        assert client.budget.in_flight == 0

    assert caught.value.open_ids == ("vid_1",)


async def test_a_runner_cancelled_by_the_application_is_no_silent_end():
    """A shutdown that cancels every task but its own is told to the reader."""
    server = server_of(vid_1="processing")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        await anext(watcher)
        for task in asyncio.all_tasks():
            if task.get_name() == "ezvideo_async watcher":
                task.cancel()
        with pytest.raises(ClosedError, match="cancelled by something else"):
            await anext(watcher)

        assert client.budget.in_flight == 0


@pytest.mark.fault("C22")
async def test_an_observer_that_is_cancelled_breaks_nothing():
    """Whatever an observer raises, the watch goes on."""

    def observe(_signal):
        raise asyncio.CancelledError

    server = server_of(vid_1="processing")
    async with fake_client(server, observers=[observe]) as client:
        async with client.watch(["vid_1"]) as watcher:
            await asyncio.sleep(12)
            server.tasks["vid_1"].status = "completed"
            kinds = [event.kind for event in await read_all(watcher)]

    assert kinds[-1] == "task_completed"


async def test_a_raised_error_does_not_grow_with_its_readers():
    """A thousand waits for one lost task leave no trail in its exception."""
    async with fake_client(server_of()) as client, client.watch(keep_open=True) as watcher:
        depths = []
        for _ in range(10):
            with pytest.raises(TaskNotFoundError) as caught:
                await watcher.wait("vid_1")
            depths.append(len(caught.traceback))

    assert len(set(depths[1:])) == 1
