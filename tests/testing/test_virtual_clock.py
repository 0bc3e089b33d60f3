"""Virtual clock: exact jumps, real sockets, an error instead of a hang."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from ezvideo_async.testing import VirtualClockLoop, virtual_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def run_deadlocked(main: Callable[[], Coroutine[Any, Any, None]]) -> str:
    """Run a coroutine that never ends and return the message of the error."""
    with (
        asyncio.Runner(loop_factory=VirtualClockLoop) as runner,
        pytest.raises(RuntimeError, match="deadlock") as caught,
    ):
        runner.run(main())
    return str(caught.value)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the real time that the loop waits for silent peers to 10 ms."""
    monkeypatch.setattr(virtual_clock, "DEADLOCK_GRACE", 0.01)
    monkeypatch.setattr(virtual_clock, "BLOCKED_WRITE_GRACE", 0.01)


async def test_clock_starts_at_zero_and_jumps_exactly() -> None:
    """Sleeping moves the clock by exactly the given time."""
    loop = asyncio.get_running_loop()
    instants = [loop.time()]
    for seconds in (0.1, 3600.0, 86_400.0 * 30):
        await asyncio.sleep(seconds)
        instants.append(loop.time())

    assert instants == [0.0, 0.1, 0.1 + 3600.0, 0.1 + 3600.0 + 86_400.0 * 30]


async def test_timer_in_the_past_fires_now() -> None:
    """A timer set for the past fires at once and never moves the clock back."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(5.0)
    fired = loop.create_future()
    loop.call_at(1.0, lambda: fired.set_result(loop.time()))

    assert await fired == 5.0


@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_real_sockets_take_no_virtual_time(size: int) -> None:
    """Responses of a server in the same loop arrive at the instant of their request."""
    body = b"x" * size

    async def respond(_: web.BaseRequest) -> web.Response:
        return web.Response(body=body)

    loop = asyncio.get_running_loop()
    server = web.Server(respond)
    listener = await loop.create_server(server, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    durations = []

    async def send_requests(session: aiohttp.ClientSession) -> None:
        for _ in range(5):
            started = loop.time()
            async with session.get(url) as response:
                assert await response.read() == body
            durations.append(loop.time() - started)
            await asyncio.sleep(5.0)

    timeout = aiohttp.ClientTimeout(total=1.0)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await asyncio.gather(*(send_requests(session) for _ in range(20)))
    listener.close()
    await server.shutdown()
    await asyncio.sleep(0)

    assert durations == [0.0] * 100
    assert loop.time() == 25.0


async def test_executor_job_takes_no_virtual_time() -> None:
    """The clock stands still while a job runs in the default executor."""
    loop = asyncio.get_running_loop()
    fired: list[str] = []
    timer = loop.call_later(0.001, fired.append, "too early")
    total = await asyncio.to_thread(lambda: sum(range(1_000_000)))
    timer.cancel()

    assert total == 499_999_500_000
    assert fired == []
    assert loop.time() == 0.0


def test_closing_the_runner_waits_for_executor_threads() -> None:
    """Closing the runner waits for the executor's threads and does not move the clock."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        loop = runner.get_loop()
        name = runner.run(asyncio.to_thread(lambda: threading.current_thread().name))

    assert name not in {thread.name for thread in threading.enumerate()}
    assert loop.time() == 0.0


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize(("count", "suffix"), [(5, ""), (9, " and 4 more")])
def test_deadlock_error_names_up_to_five_tasks(count: int, suffix: str) -> None:
    """The error names at most five of the waiting tasks and counts the rest."""

    async def wait_forever() -> None:
        await asyncio.Event().wait()

    async def start_tasks() -> None:
        await asyncio.gather(*(wait_forever() for _ in range(count - 1)))

    message = run_deadlocked(start_tasks)

    assert message.count("wait_forever") + message.count("start_tasks") == 5
    assert message.endswith(suffix or ")")


@pytest.mark.usefixtures("short_grace")
def test_idle_sockets_do_not_hide_a_deadlock() -> None:
    """A listening socket and an idle connection do not prevent the error."""

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


async def test_foreign_thread_can_wake_the_loop() -> None:
    """A call from a thread outside the executor arrives, even without a timer."""
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(called.set,))
    loop.call_soon(thread.start)
    await called.wait()
    thread.join()

    assert loop.time() == 0.0


async def test_full_send_buffer_takes_no_virtual_time() -> None:
    """The clock stands still while a reader in another thread empties a full send buffer."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    near.setblocking(False)  # noqa: FBT003 -- signature of the standard library
    size = 20_000_000

    def read_all() -> None:
        remaining = size
        while remaining:
            remaining -= len(far.recv(1_000_000))

    reader = threading.Thread(target=read_all)
    reader.start()
    with near, far:
        async with asyncio.timeout(0.001):
            await loop.sock_sendall(near, b"x" * size)
        reader.join()

    assert loop.time() == 0.0


@pytest.mark.usefixtures("short_grace")
async def test_blocked_write_does_not_stop_the_clock() -> None:
    """The clock jumps to the next timer if no reader empties the send buffer."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    for end in (near, far):
        end.setblocking(False)  # noqa: FBT003 -- signature of the standard library
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
