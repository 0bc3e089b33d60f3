"""The virtual clock: exact jumps, real sockets, no hang."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from ezvideo_async.testing import VirtualClockLoop, virtual_clock as _loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def run_deadlocked(main: Callable[[], Coroutine[Any, Any, None]]) -> str:
    """Run a coroutine function that can never end, and give the message of the error."""
    with (
        asyncio.Runner(loop_factory=VirtualClockLoop) as runner,
        pytest.raises(RuntimeError, match="deadlock") as caught,
    ):
        runner.run(main())
    return str(caught.value)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loop give up on silent peers after real milliseconds."""
    monkeypatch.setattr(_loop, "DEADLOCK_GRACE", 0.01)
    monkeypatch.setattr(_loop, "BLOCKED_WRITE_GRACE", 0.01)


async def test_the_clock_starts_at_zero_and_jumps_exactly() -> None:
    """Sleeping moves the clock by exactly the time asked for."""
    loop = asyncio.get_running_loop()
    seen = [loop.time()]
    for seconds in (0.1, 3600.0, 86_400.0 * 30):
        await anyio.sleep(seconds)
        seen.append(loop.time())

    assert seen == [0.0, 0.1, 0.1 + 3600.0, 0.1 + 3600.0 + 86_400.0 * 30]


async def test_timers_fire_in_order_at_their_own_instants() -> None:
    """Each timer sees the clock at the instant for which it was set."""
    loop = asyncio.get_running_loop()
    seen: list[tuple[float, float]] = []

    def note(delay: float) -> None:
        seen.append((delay, loop.time()))

    for delay in (3.0, 1.0, 2.0):
        loop.call_later(delay, note, delay)
    await asyncio.sleep(10.0)

    assert seen == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]


async def test_a_timer_in_the_past_does_not_turn_the_clock_back() -> None:
    """A timer set for an instant that has passed fires now."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(5.0)
    fired = loop.create_future()
    loop.call_at(1.0, lambda: fired.set_result(loop.time()))

    assert await fired == 5.0


async def test_a_deadline_ends_at_its_instant() -> None:
    """A wait that never ends is cut at exactly its deadline."""
    with anyio.move_on_after(600) as scope:
        await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert anyio.current_time() == 600.0


@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_requests_over_real_sockets_take_no_virtual_time(size: int) -> None:
    """Answers of a server in the same loop arrive at the instant of their request."""
    body = b"x" * size

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=body)

    loop = asyncio.get_running_loop()
    server = web.Server(answer)
    listener = await loop.create_server(server, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    drifts = []

    async def ask(session: aiohttp.ClientSession) -> None:
        for _ in range(5):
            begun = loop.time()
            async with session.get(url) as response:
                assert await response.read() == body
            drifts.append(loop.time() - begun)
            await asyncio.sleep(5.0)

    timeout = aiohttp.ClientTimeout(total=1.0)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await asyncio.gather(*(ask(session) for _ in range(20)))
    listener.close()
    await server.shutdown()
    await asyncio.sleep(0)

    assert drifts == [0.0] * 100
    assert loop.time() == 25.0


async def test_the_clock_stands_still_while_a_thread_works() -> None:
    """A job in the default executor takes no virtual time, however long it really takes."""
    loop = asyncio.get_running_loop()
    fired: list[str] = []
    timer = loop.call_later(0.001, fired.append, "too early")
    total = await asyncio.to_thread(lambda: sum(range(1_000_000)))
    timer.cancel()

    assert total == 499_999_500_000
    assert fired == []
    assert loop.time() == 0.0


async def test_a_name_is_looked_up_in_no_virtual_time() -> None:
    """A name look-up ends before the shortest timeout."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(0.001):
        addresses = await loop.getaddrinfo("localhost", 80)

    assert addresses
    assert loop.time() == 0.0


def test_threads_of_the_executor_end_with_the_loop() -> None:
    """Closing the runner waits for the executor's threads without moving the clock."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        loop = runner.get_loop()
        name = runner.run(asyncio.to_thread(lambda: threading.current_thread().name))

    assert name not in {thread.name for thread in threading.enumerate()}
    assert loop.time() == 0.0


@pytest.mark.usefixtures("impatient")
def test_a_deadlock_names_the_waiting_tasks() -> None:
    """Waiting for what nobody can bring is an error that says who waits."""

    async def wait_for_nothing() -> None:
        await asyncio.Event().wait()

    message = run_deadlocked(wait_for_nothing)

    assert "wait_for_nothing" in message
    assert "more" not in message


@pytest.mark.usefixtures("impatient")
def test_a_deadlock_of_many_names_a_few() -> None:
    """The message of a deadlock names five tasks and counts the others."""

    async def wait_for_many() -> None:
        await asyncio.gather(*(asyncio.Event().wait() for _ in range(9)))

    assert run_deadlocked(wait_for_many).endswith(" and 5 more")


@pytest.mark.usefixtures("impatient")
def test_open_sockets_do_not_hide_a_deadlock() -> None:
    """A listening socket and an idle connection are no reason to wait for ever."""

    async def wait_beside_sockets() -> None:
        writers = []
        server = await asyncio.start_server(
            lambda _, writer: writers.append(writer), "127.0.0.1", 0
        )
        writers.append((await asyncio.open_connection(*server.sockets[0].getsockname()))[1])
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for writer in writers:
                writer.close()
            await asyncio.sleep(0)

    assert "wait_beside_sockets" in run_deadlocked(wait_beside_sockets)


async def test_another_thread_can_wake_the_loop() -> None:
    """A call from a thread that the loop does not know arrives, even with no timer set."""
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(called.set,))
    loop.call_soon(thread.start)
    await called.wait()
    thread.join()

    assert loop.time() == 0.0


async def test_a_full_send_buffer_empties_in_no_virtual_time() -> None:
    """Data that a reader elsewhere takes at its own pace is sent without a jump of the clock."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    near.setblocking(False)  # noqa: FBT003 -- the standard library has it so
    size = 20_000_000

    def read_all() -> None:
        left = size
        while left:
            left -= len(far.recv(1_000_000))

    reader = threading.Thread(target=read_all)
    reader.start()
    with near, far:
        async with asyncio.timeout(0.001):
            await loop.sock_sendall(near, b"x" * size)
        reader.join()

    assert loop.time() == 0.0


@pytest.mark.usefixtures("impatient")
async def test_a_reader_that_pauses_does_not_stop_the_clock() -> None:
    """When nobody takes the data, the clock moves on to the timer that will."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    for end in (near, far):
        end.setblocking(False)  # noqa: FBT003 -- the standard library has it so
    data = b"x" * 5_000_000

    async def read_late() -> int:
        for _ in range(10):
            await asyncio.sleep(1.0)
        received = 0
        while received < len(data):
            received += len(await loop.sock_recv(far, 1_000_000))
        return received

    with near, far:
        sending = asyncio.ensure_future(loop.sock_sendall(near, data))
        received = await read_late()
        await sending

    assert received == len(data)
    assert loop.time() == 10.0
