"""Other event loops and task factories: the same client, in real time for once."""

from __future__ import annotations

import asyncio
import sys

import pytest

from ezvideo_async import PollPolicy
from ezvideo_async.testing import FakeVideoServer, VirtualClockLoop
from tests.raw_server import client_of

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


def test_uvloop_runs_it_too() -> None:
    """Retrieving, waiting and watching on uvloop."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_used())


def test_the_usual_loop_runs_it_in_real_time() -> None:
    """Retrieving, waiting and watching on asyncio's own loop, in debug mode."""
    with asyncio.Runner(debug=True) as runner:
        runner.run(_used())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_run_it_too() -> None:
    """Tasks that begin to run when they are made change nothing."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        runner.run(_used())
