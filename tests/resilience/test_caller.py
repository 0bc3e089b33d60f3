"""Ids, readers, loops, clocks and processes of the caller: fault rows C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from ezvideo_async import (
    ClosedError,
    InvalidTaskIdError,
    PollPolicy,
    RequestTimeoutError,
    TaskStatus,
    VideoTask,
)
from ezvideo_async._domain.validation import validate_task_id
from ezvideo_async._protocol.messages import Response
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async.testing import VirtualClockLoop
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client
from tests.support.oracle import Asked
from tests.support.subprocesses import run

STEADY = PollPolicy(jitter=0.0)
ALIVE = VideoTask(id="t", status=TaskStatus.PROCESSING)
RUNNING = Response(status=200, headers={}, body=b"{}")


def server_of(count: int, status: str = "processing") -> FakeTransport:
    """Make a scripted server with *count* tasks."""
    server = FakeTransport()
    server.tasks.update({task_id: FakeTask(status) for task_id in ids(count)})
    return server


def ids(count: int) -> list[str]:
    """Make *count* ids."""
    return [f"vid_{number}" for number in range(count)]


# -- ids ------------------------------------------------------------------------------------------


@pytest.mark.fault("C1", "C2")
def test_an_id_may_hold_all_but_control_characters_and_surrogates() -> None:
    """Over all code points; the error shows the refused ones escaped."""
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        is_odd = unicodedata.category(character) in {"Cc", "Cs"}
        with pytest.raises(InvalidTaskIdError) if is_odd else contextlib.nullcontext() as refused:
            validate_task_id(f"vid_{character}")
        if refused is not None:
            assert str(refused.value).isascii()
            assert str(refused.value).isprintable()


class OnlyMeasured(str):
    """A text that fails when all of its characters are read."""

    __slots__ = ()

    def __iter__(self) -> Any:
        raise AssertionError("all characters are read")

    isascii = isprintable = strip = encode = __iter__


@pytest.mark.fault("C3")
def test_a_long_id_is_refused_by_its_length() -> None:
    """Ten million characters are neither read one by one nor shown in the error."""
    with pytest.raises(InvalidTaskIdError, match="has 10000000 characters") as refused:
        validate_task_id(OnlyMeasured("x" * 10_000_000))

    assert len(str(refused.value)) < 200
    assert refused.value.task_id is None


@pytest.mark.fault("C7")
async def test_ids_may_be_added_while_iterating() -> None:
    """From the loop body or another task; the iteration continues with them."""
    server = server_of(4, "completed")
    async with fake_client(server) as client, client.watch(["vid_0"]) as watcher:

        async def add_later() -> None:
            watcher.add("vid_2", "vid_3")

        events = []
        async for event in watcher:
            events.append(event)
            if event.task_id == "vid_0":
                watcher.add("vid_1")
                await asyncio.create_task(add_later())

    assert [event.task_id for event in events] == ids(4)


@pytest.mark.fault("C8")
async def test_the_response_for_a_discarded_id_is_dropped() -> None:
    """An id discarded while its poll is in flight has no event."""
    for tenths in range(11):
        server = server_of(2, "completed")
        for served in server.tasks.values():
            served.latency = 1.0
        async with fake_client(server) as client, client.watch(ids(2), policy=STEADY) as watcher:
            async with watcher.subscribe() as subscription:
                await asyncio.sleep(tenths / 10)
                assert watcher.discard("vid_0")
                events_of = [
                    [event async for event in reader] for reader in (watcher, subscription)
                ]

        assert [[event.task_id for event in events] for events in events_of] == [["vid_1"]] * 2
        assert client.budget.in_flight == 0


# -- readers --------------------------------------------------------------------------------------


# -- loops and clocks -----------------------------------------------------------------------------


@pytest.mark.fault("C20")
@given(
    st.lists(
        st.tuples(st.sampled_from(["respond", "fail", "spread"]), st.floats(-4e7, 4e7)), max_size=12
    )
)
def test_wall_clock_jumps_do_not_move_polls(steps: list[tuple[str, float]]) -> None:
    """The due times are the same as with a steady wall clock."""
    assert _due_times(steps) == _due_times([(step, 0.0) for step, _jump in steps])


def _due_times(steps: list[tuple[str, float]]) -> list[float]:
    scheduler = Scheduler(STEADY)
    scheduler.add({"t": None}, now=0.0, rand=0.5, timeout=1000.0)
    times = []
    for step, jump in steps:
        at = scheduler.next_at()
        times.append(at)
        moment: dict[str, Any] = {"now": at, "unix_now": 1e9 + jump, "rand": 0.5}
        tick = scheduler.tick(
            at,
            unix_now=1e9 + jump,
            rand=lambda: 0.5,
            permit=lambda: True,
            release=lambda _ready, seconds=5.0 * (step == "spread"): seconds,
        )
        for tracked in tick.to_poll:
            if step == "fail":
                scheduler.fail(tracked, RequestTimeoutError("late"), url="", **moment)
            else:
                scheduler.observe(tracked, RUNNING, lambda *_: ALIVE, **moment)
    return times


@pytest.mark.fault("C22")
async def test_a_blocking_observer_only_delays_polls() -> None:
    """With three seconds in every call polls are late, and every task ends."""
    loop: Any = asyncio.get_running_loop()
    emitted: list[Any] = []

    def block(event: object) -> None:
        loop._now += 3.0
        emitted.append(event)

    server = server_of(5)
    async with fake_client(server, observers=[block]) as client:
        async with client.watch(ids(5)) as watcher:
            await asyncio.sleep(30.0)
            server.tasks.update({task_id: FakeTask("completed") for task_id in ids(5)})
            finals = [event async for event in watcher if event.is_final]

    assert sorted(event.task_id for event in finals) == ids(5)
    assert len(emitted) >= 10


@pytest.mark.fault("C23")
async def test_first_polls_of_many_new_ids_are_spread_over_the_rate() -> None:
    """Ids added at once are polled one by one at the budget's rate, from the first moment on."""
    server = server_of(0)
    many = ids(5_000)
    async with fake_client(server) as client, client.watch(many, not_found_grace=60.0) as watcher:
        assert len(watcher.open_ids) == 5_000
        await asyncio.sleep(10.0)
        gaps = [later - earlier for earlier, later in pairwise(server.request_times())]

        assert 990 <= len(gaps) <= 1005
        assert sum(gap == 0.0 for gap in gaps) <= 10
        assert max(gaps) == pytest.approx(0.01, abs=1e-9)
        asked = [record for record in server.trace.records if isinstance(record, Asked)]
        assert len({record.task_id for record in asked}) == len(asked) == len(gaps) + 1


@pytest.mark.fault("C18")
async def test_a_watcher_is_read_in_the_loop_that_entered_it() -> None:
    """Watcher and subscription raise ClosedError in another event loop."""

    def elsewhere(reading: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(reading)

    async def read(reader: Any) -> None:
        with pytest.raises(ClosedError, match="belongs to another event loop"):
            await anext(reader)

    async def enter(subscription: Any) -> None:
        with pytest.raises(ClosedError, match="belongs to another event loop"):
            await subscription.__aenter__()

    async with fake_client(server_of(1)) as client, client.watch(ids(1)) as watcher:
        async with watcher.subscribe() as subscription:
            await asyncio.to_thread(elsewhere, read(watcher))
            await asyncio.to_thread(elsewhere, read(subscription))
            await asyncio.to_thread(elsewhere, enter(watcher.subscribe()))
            assert (await anext(watcher)).task_id == "vid_0"
            assert (await anext(subscription)).task_id == "vid_0"


# -- processes ------------------------------------------------------------------------------------


FORKING = """
import asyncio, os, warnings
from ezvideo_async import AsyncVideoClient, ClosedError
from ezvideo_async.testing import FakeVideoServer

async def child(client, watcher):
    uses = (client.retrieve("t"), client.wait("t"), watcher.wait("t"), anext(watcher))
    for use in uses:
        try:
            await use
            return 1
        except ClosedError as refused:
            if "parent process" not in str(refused):
                return 2
    return 0

async def main():
    async with FakeVideoServer() as server:
        async with AsyncVideoClient(base_url=server.base_url) as client:
            task_id = server.add_task()
            async with client.watch([task_id]) as watcher:
                await anext(watcher)
                asked = len(server.requests())
                pid = os.fork()
                if pid == 0:
                    code = 9
                    try:
                        code = await child(client, watcher)
                    finally:
                        os._exit(code)
                _, status = os.waitpid(pid, 0)
                print(os.waitstatus_to_exitcode(status), len(server.requests()) - asked)
                print((await client.retrieve(task_id)).id == task_id)

asyncio.run(main())
"""


@pytest.mark.fault("C18")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_cannot_use_its_parents_client() -> None:
    """After ``os.fork`` each use in the child raises ClosedError; the parent continues."""
    assert run(FORKING) == "0 0\nTrue\n"


WATCHING = """
import asyncio, os, pathlib, time
from ezvideo_async import AsyncVideoClient, PollPolicy
from ezvideo_async.testing import FakeVideoServer

YEAR = 365 * 86400

async def jump():
    file, began = pathlib.Path(os.environ["FAKETIME_TIMESTAMP_FILE"]), time.time()
    for offset in ("+365d", "-365d", "+0"):
        await asyncio.sleep(0.1)
        file.write_text(offset)
        print(round((time.time() - began) / YEAR))

async def main():
    policy = PollPolicy(interval=0.05, min_interval=0.05)
    began = time.monotonic()
    events = []

    def finish(event):
        events.append(event)
        if len(events) == 24:  # eight rounds, however fast the machine is
            for task in tasks:
                server.finish(task)

    async with FakeVideoServer() as server:
        async with AsyncVideoClient(base_url=server.base_url, observers=[finish]) as client:
            tasks = [server.add_task() for _ in range(3)]
            jumping = asyncio.create_task(jump())
            async with client.watch(tasks, policy=policy) as watcher:
                finals = [event.kind async for event in watcher if event.is_final]
            await jumping
            polls = len(server.requests())
    print(*finals, 27 <= polls <= 30 or polls, time.monotonic() - began > 0.3)

asyncio.run(main())
"""
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.mark.fault("C20")
@pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime")
def test_setting_the_wall_clock_moves_no_poll(tmp_path: Path) -> None:
    """A year ahead and two back in a running process: the polls keep their interval."""
    offset = tmp_path / "offset"
    offset.write_text("+0")
    printed = run(
        WATCHING,
        LD_PRELOAD=str(FAKETIME),
        FAKETIME_TIMESTAMP_FILE=str(offset),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )

    completed = " ".join(["task_completed"] * 3)
    assert printed == f"1\n-1\n0\n{completed} True True\n"
