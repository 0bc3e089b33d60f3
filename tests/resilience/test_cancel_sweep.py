"""Cancel sweep: a cancel at any suspension leaves nothing behind and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import stat
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from attrs import evolve, frozen

from ezvideo_async import EzVideoError
from ezvideo_async._transport.connection_pool import PoolBackend
from ezvideo_async.testing import VirtualClockLoop
from tests.resilience.uses import USES, Staged, outcome
from tests.support.cancellation import CancelledAt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.resilience.uses import Stage, Use

IS_FULL = bool(os.environ.get("CANCEL_SWEEP"))
"""True if every point is tried, as in the session ``sweep``; else one in ``SHARE``."""
SHARE = 24
ROUNDS = 30
"""Rounds of the loop until closed connections are gone, on both sides."""
SERVING = ("RawServer.", "Server.", "BaseSelectorEventLoop.", "StreamReaderProtocol.")
"""Prefixes of the names of the server's coroutines."""


def eager_loop() -> asyncio.AbstractEventLoop:
    """Make a loop in virtual time with eager tasks."""
    loop = VirtualClockLoop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def debug_loop() -> asyncio.AbstractEventLoop:
    """Make a loop in virtual time and in debug mode."""
    loop = VirtualClockLoop()
    loop.set_debug(True)
    return loop


def uv_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of uvloop."""
    uvloop = pytest.importorskip("uvloop")
    return uvloop.new_event_loop()


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "virtual": VirtualClockLoop,
    **({"eager": eager_loop} if sys.version_info >= (3, 12) else {}),
    "debug": debug_loop,
    "uvloop": uv_loop,
}

SAMPLE = (
    "retrieve 503 warm", "wait renewed key", "read 429", "hub wait",
    "watch tls", "exit in flight", "aclose busy",
)  # fmt: skip
"""The uses that the default run tries on the other loops."""

CASES = [
    pytest.param(use, loop, marks=pytest.mark.fault("C14", "C15", "C26"))
    for loop in LOOPS
    for use in USES
    if (IS_FULL or loop == "virtual" or use in SAMPLE)
    and not (USES[use].is_timed and loop == "uvloop")
]


# -- leftovers ------------------------------------------------------------------------------------


def tasks_of_ours() -> list[str]:
    """Return the names of all tasks but the running one and those of the server."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    names = [task.get_coro().__qualname__ for task in others]
    return [name for name in names if not name.startswith(SERVING)]


def open_files() -> int:
    """Return the number of open files and sockets of this process."""
    return len(list(Path("/dev/fd").iterdir()))


def connections_to(port: int) -> int:
    """Return the number of sockets of this process that are connected to *port*."""
    count = 0
    for path in Path("/dev/fd").iterdir():
        number = int(path.name)
        with contextlib.suppress(OSError, IndexError):  # closed by now, or not connected
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as copy:
                    count += copy.getpeername()[1] == port
    return count


def timers() -> list[asyncio.TimerHandle]:
    """Return the timers that are set; none for a loop that hides them."""
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return [timer for timer in scheduled if not timer.cancelled()]


def in_use(backend: Any) -> list[Any]:
    """Return the connections with a request in flight."""
    if isinstance(backend, PoolBackend):
        return [each for each in backend._open if each not in backend._idle]
    is_open = backend._session is not None and not backend._session.closed
    return [*backend._session.connector._acquired] if is_open else []


def left(stage: Stage) -> list[str]:
    """Return what the client still does although no call waits for it."""
    engine = stage.client._engine
    admission = engine.admission
    signs = {
        "tasks": tasks_of_ours(),
        "requests": stage.client.budget.in_flight,
        "delays": admission._sleeping,
        "waiters": [
            each for each in (*admission._calls, *admission._polls) if not each.woken.done()
        ],
        "watchers": [*admission._dispatchers, *engine._closing],
        "a timer": admission._timer._handle,
        "connections": in_use(engine._transport._backend),
    }
    return [f"{sign}: {found}" for sign, found in signs.items() if found]


async def settled(is_quiet: Callable[[], bool]) -> bool:
    """Run some rounds of the loop, without virtual time, until *is_quiet* is true."""
    for _ in range(ROUNDS):
        if is_quiet():
            return True
        await asyncio.sleep(0)
    return is_quiet()


# -- one point ------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Cancel:
    """Where a use is cancelled; see ``CancelledAt``."""

    at: int = 0
    again: int = 0
    late: bool = False


async def outcome_of(acting: asyncio.Future[Any]) -> Any:
    """Return the outcome of a use, an error of the library as its name."""
    try:
        return await acting
    except EzVideoError as error:
        return type(error).__name__


async def play(use: Use, second: float, cancel: Cancel) -> tuple[Any, CancelledAt]:
    """Try one point; return the outcome of the use that continued after the cancel."""
    loop = asyncio.get_running_loop()
    async with Staged(use, second) as staged:
        stage = staged.stage
        sweep = CancelledAt(use.act(stage), at=cancel.at, again=cancel.again, late=cancel.late)
        acting = loop.create_task(_awaited(sweep))
        await asyncio.wait([acting])
        if sweep.cancels:
            assert acting.cancelled(), f"left with {acting!r}"
            assert stage.continues or tasks_of_ours() == []
            assert stage.continues or await settled(lambda: not left(stage)), left(stage)
            acting = loop.create_task((use.go_on or use.act)(stage))
        result = await outcome_of(acting)
        await stage.opened.aclose()
        assert await settled(lambda: not left(stage)), left(stage)
        if not use.ends_client:  # the client still works
            assert (await stage.client.retrieve("vid_7")).id == "vid_7"
        await stage.client.aclose()
        port = stage.server.port
        if stage.owns_session:
            assert await settled(lambda: not connections_to(port)), "connections are open"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert timers() == []
    return result, sweep


async def _awaited(sweep: CancelledAt) -> Any:
    return await sweep


# -- all points -----------------------------------------------------------------------------------


async def sweep(use: Use, second: float, *, first: int, step: int) -> int:
    """
    Cancel a use at its suspensions, early and late, and again at those on its way out.

    Returns:
        The number of points that were reached: in real time there may be fewer suspensions.
    """
    expected, calm = await play(use, second, Cancel())
    files = open_files()  # now with those of the loop itself
    points = [
        Cancel(at=at, late=late) for at in range(1, calm.suspensions + 1) for late in (False, True)
    ]
    reached = 0
    for once in points[first % min(step, len(points) or 1) :: step]:
        cancels = [once]
        for cancel in cancels:
            result, cancelled = await play(use, second, cancel)
            assert (cancel, result) == (cancel, expected)
            assert await settled(lambda: open_files() == files), "files are open"
            reached += cancelled.was_reached
            if cancel is once:
                more = cancelled.suspensions - once.at
                cancels += [evolve(once, again=again) for again in range(1, more + 1)]
    return reached


@pytest.mark.parametrize(("use", "loop"), CASES)
def test_cancelled_at_every_suspension(use, loop, record_property):
    """
    A cancel at any suspension is raised unchanged, leaves nothing behind and loses nothing.

    It comes as soon as the coroutine waits, or when what it waits for has just come, and a
    second one may come while the first is handled.
    """
    unhandled: list[Any] = []
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        second = 0.01 if loop == "uvloop" else 1.0
        first = list(USES).index(use)
        points = runner.run(sweep(USES[use], second, first=first, step=1 if IS_FULL else SHARE))
        gc.collect()
    record_property("points", (loop, points))
    # The stream of the scripted server may be collected in a cycle before its protocol, which
    # would have retrieved that writing to a client that left has failed.
    assert [
        context
        for context in unhandled
        if not isinstance(context.get("exception"), BrokenPipeError)
    ] == []


# -- scopes ---------------------------------------------------------------------------------------

LENGTHS = [0.0, *(0.05 * number for number in range(1, 90, 2 if IS_FULL else 7)), 1.0, 2.0, 3.1]
"""Seconds; responses come at 0.1, 1.1, 2.2 and 3.3, and timeouts at and near these instants."""


async def read_in_scopes(stage: Stage, scope: Callable[[float], Any], length: float) -> int:
    """Read all events with a timeout on each read; return how many reads timed out."""
    cut = 0
    while True:
        before = len(stage.events)
        try:
            async with scope(length):
                stage.events.append(await anext(stage.reader))
        except TimeoutError:
            pass
        except StopAsyncIteration:
            return cut
        if len(stage.events) == before:
            cut += 1
            await asyncio.sleep(0.07)


@asynccontextmanager
async def move_on(length: float) -> AsyncIterator[None]:
    """Enter a scope of anyio, which ends without an exception."""
    with anyio.move_on_after(length):
        yield


SCOPES: dict[str, Callable[[float], Any]] = {"asyncio": asyncio.timeout, "anyio": move_on}


async def count_timeouts(use: Use, scope: Callable[[float], Any]) -> list[int]:
    """Read all events once for each timeout; return the numbers of timed out reads."""
    expected, _ = await play(use, 1.0, Cancel())
    cuts = []
    for length in LENGTHS:
        async with Staged(use, 1.0) as staged:
            cuts.append(await read_in_scopes(staged.stage, scope, length))
            assert outcome(staged.stage) == expected
            await staged.stage.opened.aclose()
            assert left(staged.stage) == []
        assert timers() == []
    return cuts


@pytest.mark.fault("C16")
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("use", ["read", "read subscription", "read 503", "read 429"])
def test_a_timeout_of_a_read_loses_no_event(use, scope):
    """Timeouts of any length, also at the instants of events, end reads and lose no event."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        cuts = runner.run(count_timeouts(USES[use], SCOPES[scope]))

    assert cuts[0] == max(cuts) >= 40
    assert 0 in cuts
