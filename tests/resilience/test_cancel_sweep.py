"""Cancelled at every suspension of every coroutine: nothing is left, nothing lost, all goes on."""

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
from tests.resilience.uses import USES, Staged, told
from tests.support.cancellation import CancelledAt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.resilience.uses import Stage, Use

IS_FULL = bool(os.environ.get("CANCEL_SWEEP"))
"""Whether every point is tried, as the session ``sweep`` does; else one in ``SHARE``."""
SHARE = 24
ROUNDS = 30
"""Rounds of the loop in which closed connections are gone, on both sides."""
SERVING = ("RawServer.", "Server.", "BaseSelectorEventLoop.", "StreamReaderProtocol.")
"""How the coroutines of the server's tasks begin."""


def eager_loop() -> asyncio.AbstractEventLoop:
    """Make a loop in virtual time on which tasks begin to run when they are made."""
    loop = VirtualClockLoop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def debug_loop() -> asyncio.AbstractEventLoop:
    """Make a loop in virtual time and in debug mode."""
    loop = VirtualClockLoop()
    loop.set_debug(True)
    return loop


def uv_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of uvloop's."""
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
"""What the default run tries on the other loops."""

CASES = [
    pytest.param(use, loop, marks=pytest.mark.fault("C14", "C15", "C26"))
    for loop in LOOPS
    for use in USES
    if (IS_FULL or loop == "virtual" or use in SAMPLE)
    and not (USES[use].is_timed and loop == "uvloop")
]


# -- what is left ---------------------------------------------------------------------------------


def tasks_of_ours() -> list[str]:
    """All tasks but the running one and those of the server, which is in the same loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    names = [task.get_coro().__qualname__ for task in others]
    return [name for name in names if not name.startswith(SERVING)]


def open_files() -> int:
    """How many files and sockets this process has open."""
    return len(list(Path("/dev/fd").iterdir()))


def connections_to(port: int) -> int:
    """How many sockets of this process are connected to *port*."""
    count = 0
    for path in Path("/dev/fd").iterdir():
        number = int(path.name)
        with contextlib.suppress(OSError, IndexError):  # closed by now, or not connected
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as copy:
                    count += copy.getpeername()[1] == port
    return count


def timers() -> list[asyncio.TimerHandle]:
    """The timers that are set; a loop that does not show its own has none here."""
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return [timer for timer in scheduled if not timer.cancelled()]


def in_use(carrier: Any) -> list[Any]:
    """The connections that carry a request now."""
    if isinstance(carrier, PoolBackend):
        return [line for line in carrier._open if line not in carrier._idle]
    is_open = carrier._session is not None and not carrier._session.closed
    return [*carrier._session.connector._acquired] if is_open else []


def left(stage: Stage) -> list[str]:
    """What of the client's is under way, although nobody waits for it."""
    client = stage.client
    gate = client._gate
    signs = {
        "tasks": tasks_of_ours(),
        "requests": client.budget.in_flight,
        "pauses": gate._pausing,
        "a line": [each for each in (*gate._calls, *gate._looks) if not each.woken.done()],
        "watchers": [*gate._watchers, *gate._on_close],
        "a timer": gate._timer,
        "connections": in_use(client._transport._carrier),
    }
    return [f"{sign}: {found}" for sign, found in signs.items() if found]


async def settled(is_quiet: Callable[[], bool]) -> bool:
    """Give the loop some rounds, in which no virtual time passes."""
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
    """What a use gives, an error of the library's by its name."""
    try:
        return await acting
    except EzVideoError as error:
        return type(error).__name__


async def play(use: Use, second: float, cancel: Cancel) -> tuple[Any, CancelledAt]:
    """Try one point; the outcome is that of the use which went on after the cancel."""
    loop = asyncio.get_running_loop()
    async with Staged(use, second) as staged:
        stage = staged.stage
        sweep = CancelledAt(use.act(stage), at=cancel.at, again=cancel.again, late=cancel.late)
        acting = loop.create_task(_awaited(sweep))
        await asyncio.wait([acting])
        if sweep.cancels:
            assert acting.cancelled(), f"left with {acting!r}"
            assert stage.polls_on or tasks_of_ours() == []
            assert stage.polls_on or await settled(lambda: not left(stage)), left(stage)
            acting = loop.create_task((use.go_on or use.act)(stage))
        outcome = await outcome_of(acting)
        await stage.opened.aclose()
        assert await settled(lambda: not left(stage)), left(stage)
        if not use.ends_client:  # it goes on working
            assert (await stage.client.retrieve("vid_7")).id == "vid_7"
        await stage.client.aclose()
        port = stage.server.port
        if stage.owns_session:
            assert await settled(lambda: not connections_to(port)), "connections are open"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert timers() == []
    return outcome, sweep


async def _awaited(sweep: CancelledAt) -> Any:
    return await sweep


# -- all points -----------------------------------------------------------------------------------


async def sweep(use: Use, second: float, *, first: int, step: int) -> int:
    """
    Cancel a use at its suspensions, early and late, and again at those on its way out.

    Returns:
        How many points were reached: a loop in real time may have fewer suspensions once.
    """
    usual, calm = await play(use, second, Cancel())
    files = open_files()  # by now a loop has opened its own
    points = [
        Cancel(at=at, late=late) for at in range(1, calm.suspensions + 1) for late in (False, True)
    ]
    reached = 0
    for once in points[first % min(step, len(points) or 1) :: step]:
        cancels = [once]
        for cancel in cancels:
            outcome, cancelled = await play(use, second, cancel)
            assert (cancel, outcome) == (cancel, usual)
            assert await settled(lambda: open_files() == files), "files are open"
            reached += cancelled.was_reached
            if cancel is once:
                more = cancelled.suspensions - once.at
                cancels += [evolve(once, again=again) for again in range(1, more + 1)]
    return reached


@pytest.mark.parametrize(("use", "loop"), CASES)
def test_cancelled_at_every_suspension(use, loop, record_property):
    """
    The cancel leaves as it came, leaves nothing behind, and whoever goes on has lost nothing.

    So it is wherever it comes, as soon as there is something to wait for or just as it has come,
    and when another one comes while the first is cleaning up.
    """
    told: list[Any] = []
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: told.append(context))
        second = 0.01 if loop == "uvloop" else 1.0
        first = list(USES).index(use)
        points = runner.run(sweep(USES[use], second, first=first, step=1 if IS_FULL else SHARE))
        gc.collect()
    record_property("points", (loop, points))
    assert told == []


# -- scopes ---------------------------------------------------------------------------------------

LENGTHS = [0.0, *(0.05 * number for number in range(1, 90, 2 if IS_FULL else 7)), 1.0, 2.0, 3.1]
"""Seconds; answers come at 0.1, 1.1, 2.2 and 3.3, which is met exactly and by next to nothing."""


async def read_in_scopes(stage: Stage, scope: Callable[[float], Any], length: float) -> int:
    """Read all events with a time limit on each read; how many limits ended one."""
    cut = 0
    while True:
        before = len(stage.heard)
        try:
            async with scope(length):
                stage.heard.append(await anext(stage.reader))
        except TimeoutError:
            pass
        except StopAsyncIteration:
            return cut
        if len(stage.heard) == before:
            cut += 1
            await asyncio.sleep(0.07)


@asynccontextmanager
async def move_on(length: float) -> AsyncIterator[None]:
    """Enter a scope of anyio's, which ends without an exception."""
    with anyio.move_on_after(length):
        yield


SCOPES: dict[str, Callable[[float], Any]] = {"asyncio": asyncio.timeout, "anyio": move_on}


async def cut_by_limits(use: Use, scope: Callable[[float], Any]) -> list[int]:
    """Read all events once for each length; how many limits ended a read."""
    usual, _ = await play(use, 1.0, Cancel())
    cuts = []
    for length in LENGTHS:
        async with Staged(use, 1.0) as staged:
            cuts.append(await read_in_scopes(staged.stage, scope, length))
            assert told(staged.stage) == usual
            await staged.stage.opened.aclose()
            assert left(staged.stage) == []
        assert timers() == []
    return cuts


@pytest.mark.fault("C16")
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("use", ["read", "read subscription", "read 503", "read 429"])
def test_a_time_limit_on_a_read_loses_no_event(use, scope):
    """Limits of any length, the exact instants of events among them, cut reads and no event."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        cuts = runner.run(cut_by_limits(USES[use], SCOPES[scope]))

    assert cuts[0] == max(cuts) >= 40
    assert 0 in cuts
