"""Other event loops and task factories: the same client, in real time for once; trio: an error."""

from __future__ import annotations

import asyncio
import sys

import pytest

from ezvideo_async import AsyncVideoClient, ClosedError, ConfigError, PollPolicy
from ezvideo_async.testing import FakeVideoServer, VirtualClockLoop
from tests.support.raw_server import KEY, client_of

POLICY = PollPolicy(interval=0.02, min_interval=0.01)


async def _used() -> None:
    async with FakeVideoServer() as server, client_of(server) as client:
        assert not (await client.retrieve(server.add_task(duration=60.0))).is_terminal
        task_id = server.add_task(duration=0.05)
        assert (await client.wait(task_id, policy=POLICY)).succeeded
        async with client.watch([server.add_task(duration=0.05)], policy=POLICY) as watcher:
            assert [event async for event in watcher][-1].is_final
        assert client.requests_sent == len(server.requests())
        assert client.budget.in_flight == 0


@pytest.mark.fault("C26")
def test_uvloop_runs_it_too() -> None:
    """Retrieving, waiting and watching on uvloop."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_used())


@pytest.mark.fault("C26")
def test_the_usual_loop_runs_it_in_real_time() -> None:
    """Retrieving, waiting and watching on asyncio's own loop, in debug mode."""
    with asyncio.Runner(debug=True) as runner:
        runner.run(_used())


@pytest.mark.fault("C26")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_run_it_too() -> None:
    """Tasks that begin to run when they are made change nothing."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        runner.run(_used())


@pytest.mark.fault("C26")
def test_without_a_loop_of_asyncios_it_says_so() -> None:
    """On trio, as anywhere else without asyncio's loop, entering is an error that names it."""
    client = AsyncVideoClient(KEY, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match="no asyncio event loop runs here; trio can't be used"):
        client.__aenter__().send(None)
    with pytest.raises(ClosedError, match="enter the client first"):
        client.retrieve("t").send(None)
    with pytest.raises(ClosedError, match="enter the client first"):
        client.watch(["t"]).__aenter__().send(None)


@pytest.mark.fault("C26")
def test_an_entered_client_is_not_for_trio() -> None:
    """What was entered on asyncio tells everybody without a loop where it belongs."""

    async def enter() -> None:
        client = AsyncVideoClient(KEY, base_url="http://127.0.0.1:9/v1")
        async with client:
            call = client.retrieve("t")
            with pytest.raises(ClosedError, match="belongs to another event loop"):
                await asyncio.to_thread(call.send, None)

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(enter())
