"""Event loops: uvloop, asyncio's own in real time, eager tasks, and what is refused."""

from __future__ import annotations

import asyncio
import os
import sys

import aiohttp
import pytest

from ezvideo_async import (
    AsyncVideoClient,
    ClosedError,
    ConfigError,
    PollPolicy,
)
from ezvideo_async.testing import FakeVideoServer, VirtualClockLoop
from tests.support.raw_server import KEY, client_of

LOCAL = "http://127.0.0.1:9/v1"
POLICY = PollPolicy(interval=0.02, min_interval=0.01)


async def _use_all() -> None:
    async with FakeVideoServer() as server, client_of(server) as client:
        assert not (await client.retrieve(server.add_task(duration=60.0))).is_terminal
        task_id = server.add_task(duration=0.05)
        assert (await client.wait(task_id, policy=POLICY)).succeeded
        async with client.watch([server.add_task(duration=0.05)], policy=POLICY) as watcher:
            assert [event async for event in watcher][-1].is_final
        assert client.requests_sent == len(server.requests())
        assert client.budget.in_flight == 0


async def _use(client: AsyncVideoClient, how: str) -> None:
    if how == "watch":
        async with client.watch(["t"]):
            pass
    elif how == "enter":
        await client.__aenter__()
    else:
        await getattr(client, how)("t")


async def _watch(client: AsyncVideoClient) -> None:
    async with client.watch(["t"]) as watcher:
        await anext(watcher)


@pytest.mark.fault("C26")
def test_uvloop_is_supported() -> None:
    """Retrieving, waiting and watching."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_use_all())


@pytest.mark.fault("C26")
def test_asyncio_loop_is_supported_in_real_time() -> None:
    """Retrieving, waiting and watching, in debug mode."""
    with asyncio.Runner(debug=True) as runner:
        runner.run(_use_all())


@pytest.mark.fault("C26")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_are_supported() -> None:
    """Tasks may begin to run when they are made."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        runner.run(_use_all())


USES = pytest.mark.parametrize("how", ["retrieve", "wait", "watch", "enter"])


@pytest.mark.fault("C26")
@USES
def test_trio_is_refused(how: str) -> None:
    """Without a running asyncio loop every first use is a ``ConfigError``."""
    client = AsyncVideoClient(KEY, base_url=LOCAL)
    with pytest.raises(ConfigError, match="no asyncio event loop is running; trio is not"):
        _use(client, how).send(None)


@pytest.mark.fault("C18", "C26")
@USES
async def test_another_event_loop_is_refused(how: str) -> None:
    """A client belongs to the loop of its first use; a thread without one is refused too."""

    def use_elsewhere() -> None:
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(_use(client, how))

    client = AsyncVideoClient(KEY, base_url=LOCAL)
    async with client:
        for call in (use_elsewhere, lambda: _use(client, how).send(None)):
            with pytest.raises(ClosedError, match="belongs to another event loop"):
                await asyncio.to_thread(call)


@pytest.mark.fault("C18")
@pytest.mark.parametrize("how", ["retrieve", "wait", "watch"])
def test_session_of_a_finished_event_loop_is_refused(how: str) -> None:
    """At once, without a request, whether the session was closed or not."""

    async def borrow() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    async def use(session: aiohttp.ClientSession) -> None:
        async with FakeVideoServer() as server:
            client = client_of(server, session=session)
            with pytest.raises(ClosedError, match="session belongs to another event loop; make"):
                await (_watch(client) if how == "watch" else _use(client, how))
            assert asyncio.get_running_loop().time() == 0.0
            assert not server.requests()
            await client.aclose()

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        session = runner.run(borrow())
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(use(session))
        runner.run(session.close())


@pytest.mark.fault("C18")
@USES
async def test_forked_child_is_refused(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process must not write into its parent's connections."""
    async with AsyncVideoClient(KEY, base_url=LOCAL) as client:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(ClosedError, match="belongs to the parent process"):
            await _use(client, how)
        monkeypatch.undo()


@pytest.mark.fault("C18")
@pytest.mark.parametrize("how", ["retrieve", "wait", "watch"])
async def test_client_is_bound_by_its_first_use(how: str) -> None:
    """It is usable without ``async with``, and then refused in another loop."""

    def enter_elsewhere() -> None:
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(_use(client, "enter"))

    async with FakeVideoServer() as server:
        client = client_of(server)
        if how == "watch":
            async with client.watch([server.add_task(duration=0.0)]) as watcher:
                assert [event.kind async for event in watcher] == ["task_completed"]
        else:
            assert (await getattr(client, how)(server.add_task(duration=0.0))).succeeded
        with pytest.raises(ClosedError, match="belongs to another event loop"):
            await asyncio.to_thread(enter_elsewhere)
        await client.aclose()
