"""Cancelled at every suspension: nothing is left, and the client goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ezvideo_async import AsyncVideoClient, PollPolicy
from ezvideo_async.testing import FakeVideoServer
from tests.raw_server import client_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MOST = 200
"""More suspensions than any of the calls has."""


class Counted:
    """Runs a coroutine and counts its suspensions, cancelling its task at the k-th."""

    def __init__(self, work: Awaitable[Any], *, cancel_at: int) -> None:
        self._work = work.__await__()
        self._cancel_at = cancel_at
        self.suspensions = 0

    def __await__(self) -> Any:
        step, brought = self._work.send, None
        while True:
            try:
                waited_for = step(brought)
            except StopIteration as end:
                return end.value
            self.suspensions += 1
            if self.suspensions == self._cancel_at:
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                step, brought = self._work.send, (yield waited_for)
            except BaseException as thrown:  # noqa: BLE001 -- handed on
                step, brought = self._work.throw, thrown


async def _run(counted: Counted) -> Any:
    return await counted


async def _settled() -> list[str]:
    """The names of tasks that are left besides our own and the servers'."""
    await asyncio.sleep(3.0)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    return [repr(task) for task in left if "ezvideo_async/_" in repr(task)]


async def _retrieve(client: AsyncVideoClient, task_id: str) -> Any:
    return await client.retrieve(task_id)


async def _wait(client: AsyncVideoClient, task_id: str) -> Any:
    return await client.wait(task_id, policy=PollPolicy(interval=1.0))


CALLS: list[Callable[[AsyncVideoClient, str], Awaitable[Any]]] = [_retrieve, _wait]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("fault", [None, "503", "close"])
async def test_a_call_cancelled_at_any_suspension_leaves_nothing(
    call: Callable[[AsyncVideoClient, str], Awaitable[Any]], *, is_warm: bool, fault: str | None
) -> None:
    """For every k: no task, no place and no pause is left, and the same client still works."""
    cancelled = 0
    for k in range(1, MOST):
        async with FakeVideoServer(latency=0.1) as server, client_of(server) as client:
            task_id = server.add_task(duration=2.0)
            if is_warm:
                await client.retrieve(task_id)
            if fault is not None:
                server.fault(fault, seconds=1.0)
            counted = Counted(call(client, task_id), cancel_at=k)
            running = asyncio.create_task(_run(counted))
            await asyncio.gather(running, return_exceptions=True)
            assert await _settled() == []
            assert client.budget.in_flight == 0
            assert client._gate._pausing == {}
            assert (await client.retrieve(task_id)).id == task_id
            if counted.suspensions < k:
                break
            assert running.cancelled()
            cancelled += 1
    assert 1 <= cancelled < MOST - 1


@pytest.mark.parametrize("is_busy", [False, True])
async def test_closing_cancelled_at_any_suspension_still_closes(*, is_busy: bool) -> None:
    """For every k: the session is closed in the end, and no task is left."""
    for k in range(1, MOST):
        async with FakeVideoServer() as server:
            task_id = server.add_task(duration=0.0)
            client = client_of(server)
            await client.__aenter__()
            await client.retrieve(task_id)
            session = client._transport._session
            if is_busy:
                server.fault("hang")
                hanging = asyncio.create_task(client.retrieve(task_id))
                await asyncio.sleep(1.0)
            counted = Counted(client.aclose(), cancel_at=k)
            await asyncio.wait([asyncio.create_task(_run(counted))])
            await client.aclose()
            if is_busy:
                await asyncio.wait([hanging])
                assert type(hanging.exception()).__name__ == "ClosedError"
            assert await _settled() == []
            assert session is not None
            assert session.closed
            if counted.suspensions < k:
                break
    assert 1 <= k < MOST - 1
