"""
Raw HTTP streams to the real client: each call ends in time, with the asked task or our error.

A case is a conversation: one client and a few calls one after another, each answered by a valid
stream that was broken somewhere, and at last one that is sound, which must be understood.  Odd
cases borrow their session.  All ends are sockets in one loop in virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import socket
import struct
from collections import defaultdict
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from attrs import define, evolve, field

from ezvideo_async import AsyncVideoClient, EzVideoError, RequestBudget, RetryPolicy, VideoTask
from ezvideo_async._protocol.dialects import ID_FIELDS
from ezvideo_async.testing import VirtualClockLoop
from tests.long.fuzz.http_text import CLOSE, FOREIGN, STALL, Steps, sound, steps
from tests.long.fuzz.subject import MOST_SHOWN, Broken, Report, Subject, chance, shrunk, told
from tests.support.raw_server import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = 5
"""Streams of one conversation, the sound one at the end included."""

_PATIENCE = 15.0  # seconds, the client's per-try limit
_EPSILON = 1e-6  # seconds: sums of floats
_SHRINKING = 100  # trials for one stream, some ms each
_AT_ONCE = 40
_PER_LOOP = 400
_SETTLED = 50.0  # virtual seconds after which nobody writes any more
_BLANK_LINE = re.compile(rb"\n[ \t]*\r?\n")
_REASONS = {"connect", "disconnected", "protocol", "payload", "timeout"}

# -- the server -----------------------------------------------------------------------------------

_RST = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds


@define
class Conversation:
    """
    What the server says in one case, and what it saw.

    Attributes:
        asked: When each id was asked for.
        fresh: Whether the first request for an id came on a new connection.
    """

    index: int
    plans: dict[str, list[Steps]] = field(factory=dict)
    asked: dict[str, list[float]] = field(factory=lambda: defaultdict(list))
    targets: set[str] = field(factory=set)
    fresh: dict[str, bool] = field(factory=dict)
    resets: int = 0

    def next_steps(self, task_id: str) -> Steps:
        """Give the next stream for an id; after the planned ones, sound ones."""
        plans = self.plans.get(task_id, [])
        number = len(self.asked[task_id]) - 1
        return plans[number] if number < len(plans) else [sound(task_id)]


class Host:
    """Plays conversations, told apart by the ids that are asked for, and counts all requests."""

    def __init__(self) -> None:
        self.conversations: dict[str, Conversation] = {}
        self.playing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1000)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for playing in self.playing:
            playing.cancel()
        await asyncio.gather(*self.playing, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        playing = asyncio.current_task()
        assert playing is not None
        self.playing.add(playing)
        playing.add_done_callback(self.playing.discard)
        asked: asyncio.Queue[str | None] = asyncio.Queue()
        reading = asyncio.ensure_future(self._read(reader, asked))
        try:
            with contextlib.suppress(OSError):
                await self._play(asked, writer)
            await reading
        except asyncio.CancelledError:
            pass  # the stream protocol would tell it to the loop as an error
        finally:
            reading.cancel()
            writer.transport.abort()
            with contextlib.suppress(OSError):  # seen: else the loop is told, when gc will have it
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader, asked: asyncio.Queue[str | None]) -> None:
        """Count every request that arrives, whatever is being said meanwhile."""
        is_fresh = True
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ", 2)[1].decode()
                task_id = target.rpartition("/")[2]
                talk = self.conversations[task_id.partition("-")[0]]
                talk.asked[task_id].append(asyncio.get_running_loop().time())
                talk.targets.add(target)
                talk.fresh.setdefault(task_id, is_fresh)
                is_fresh = False
                asked.put_nowait(task_id)
        asked.put_nowait(None)

    async def _play(self, asked: asyncio.Queue[str | None], writer: Any) -> None:
        while (task_id := await asked.get()) is not None:
            talk = self.conversations[task_id.partition("-")[0]]
            for step in talk.next_steps(task_id):
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                elif step is STALL:
                    return
                elif step is CLOSE:
                    writer.write_eof()
                    return
                else:
                    talk.resets += 1
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                    writer.transport.abort()
                    return


# -- the contract ---------------------------------------------------------------------------------


def conversation(seed: int, index: int) -> Conversation:
    """Make one case: the first two streams for each id but the last, which is answered soundly."""
    rand = chance(seed, index)
    talk = Conversation(index)
    for call in range(CALLS - 1):
        task_id = f"{index}-{call}"
        talk.plans[task_id] = [steps(rand, task_id) for _ in range(rand.choice((1, 2)))]
    return talk


async def _hold(talk: Conversation, host: Host, report: Report) -> None:
    """Hold one conversation, and hold what came of it against the promises."""
    host.conversations[str(talk.index)] = talk
    session = aiohttp.ClientSession() if talk.index % 2 else None
    budget = RequestBudget(rate=1_000_000.0)
    client = AsyncVideoClient(
        KEY,
        base_url=host.base_url,
        request_timeout=_PATIENCE,
        retry=RetryPolicy(attempts=1),
        budget=budget,
        session=session,
        rand=lambda: 0.5,
    )
    try:
        async with client:
            for task_id in talk.plans:
                report.counts[await _ask(client, talk, task_id)] += 1
            await _understand(client, talk, f"{talk.index}-{CALLS - 1}")
            assert budget.in_flight == 0, "a permit was kept"
        assert session is None or not session.closed, "the borrowed session was closed"
    finally:
        if session is not None:
            await session.close()
    await asyncio.sleep(_SETTLED)
    seen = sum(map(len, talk.asked.values()))
    # What is sent on a connection that was reset meanwhile arrives nowhere.
    is_counted = seen <= client.requests_sent <= seen + talk.resets
    assert is_counted, f"{client.requests_sent} counted, {seen} seen, {talk.resets} resets"
    for task_id, streams in talk.plans.items():
        is_once = talk.fresh.get(task_id) and not (streams and _has_head(streams[0]))
        assert not is_once or len(talk.asked[task_id]) == 1, "sent again without a reason"
    expected = {f"/v1/videos/{talk.index}-{call}" for call in range(CALLS)}
    assert talk.targets <= expected, "another path"
    del host.conversations[str(talk.index)]


def _has_head(stream: Steps) -> bool:
    """Tell whether a stream can be an answer at all: somewhere is an empty or blank line."""
    whole = b"".join(step for step in stream if isinstance(step, bytes))
    return _BLANK_LINE.search(whole) is not None


async def _ask(client: AsyncVideoClient, talk: Conversation, task_id: str) -> str:
    """Ask for one task and judge how it ends."""
    loop = asyncio.get_running_loop()
    if (cool_down := client.budget.cool_down_left(loop.time())) > 0:
        await asyncio.sleep(cool_down)
    started, before, sent = loop.time(), len(talk.asked[task_id]), client.requests_sent
    outcome = "task"
    try:
        task = await client.retrieve(task_id)
    except EzVideoError as error:
        outcome = type(error).__name__
        reason = getattr(error, "reason", None)
        assert outcome != "TransportError" or reason in _REASONS, f"reason {reason}"
        assert outcome != "RequestTimeoutError" or reason == "timeout", f"reason {reason}"
        assert outcome not in {"ClosedError", "TLSError", "InvalidTaskIdError"}, outcome
        assert error.task_id == task_id, "an error about another task"
        assert str(error).isprintable(), "a message that breaks lines"
        # Whole: one that the fuzzing damaged is nobody's key, and is shown.
        assert KEY not in f"{error!r}{vars(error)!r}", "the key in an error"
    else:
        assert type(task) is VideoTask, task
        assert task.id == task_id, "another task"
        named = [task.raw.get(name) for name in ID_FIELDS]  # elsewhere the fuzzing has put it
        is_foreign = FOREIGN in json.dumps(named)
        assert not is_foreign or client.requests_sent - sent > 1, "somebody else's answer"
        assert KEY not in f"{task!r}{task.to_dict()!r}", "the key in a task"
    sends = client.requests_sent - sent
    assert 1 <= sends <= 4, f"sent {sends} times"
    # The budget may have let the call wait for its turn, until the first request arrived; a stray
    # answer may end the call before it does.
    took = loop.time() - (talk.asked[task_id] + [started])[before]
    assert took <= _PATIENCE * sends + _EPSILON, f"{took} s for {sends} requests"
    return outcome


async def _understand(client: AsyncVideoClient, talk: Conversation, task_id: str) -> None:
    """Whatever went before: what is sound is understood, once stray bytes have done their harm."""
    outcomes = []
    for _ in range(3):
        outcomes.append(await _ask(client, talk, task_id))
        if outcomes[-1] == "task":
            return
    raise AssertionError(f"a sound answer ended as {outcomes}")


async def _hold_some(talks: Iterator[Conversation], host: Host, report: Report) -> None:
    for talk in talks:
        started = perf_counter()
        try:
            await _hold(talk, host, report)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it breaks the promise
            report.counts["BROKEN"] += 1
            report.broken.append(Broken("streams", talk.index, "", told(error)))
        report.took(perf_counter() - started, talk.index)


async def _hold_all(talks: list[Conversation], report: Report) -> None:
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: complaints.append(repr(context)))
    waiting = iter(talks)
    async with Host() as host:
        await asyncio.gather(*(_hold_some(waiting, host, report) for _ in range(_AT_ONCE)))
    await asyncio.sleep(0)
    gc.collect()
    complaints += [f"left: {task!r}" for task in asyncio.all_tasks() - {asyncio.current_task()}]
    for complaint in complaints:
        report.broken.append(
            Broken("streams", talks[0].index, "", f"the loop was told {complaint}")
        )


def _held(talks: list[Conversation]) -> Report:
    report = Report()
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(_hold_all(talks, report))
    return report


def hold(index: int, plans: dict[str, list[Steps]]) -> None:
    """Hold one conversation again, as it was shown; raise what it breaks."""
    for broken in _held([Conversation(index, plans)]).broken:
        raise AssertionError(broken.why)


def _smallest(index: int, plans: dict[str, list[Steps]]) -> str:
    """Write the smallest call found that breaks anything: calls left out, then bytes."""

    def breaks() -> bool:
        return _held([Conversation(index, plans)]).broken != []

    if not breaks():
        return f"breaks among others only: {plans!r}"
    for task_id, streams in plans.items():
        plans[task_id] = []
        plans[task_id] = [] if breaks() else streams
    for stream in (stream for streams in plans.values() for stream in streams):
        for at, step in enumerate(stream):

            def breaks_with(less: bytes, stream: Steps = stream, at: int = at) -> bool:
                stream[at] = less
                return breaks()

            if isinstance(step, bytes):
                stream[at] = shrunk(step, breaks_with, trials=_SHRINKING)
    return f"hold({index}, {plans!r})"


def run(seed: int, indexes: range) -> Report:
    """Hold these conversations, some hundred in a loop."""
    report = Report()
    for start in range(indexes.start, indexes.stop, _PER_LOOP):
        numbers = range(start, min(start + _PER_LOOP, indexes.stop))
        report.add(_held([conversation(seed, index) for index in numbers]))
    del report.broken[MOST_SHOWN:]
    for first in report.broken[:1]:  # a loop for each trial takes its time
        plans = conversation(seed, first.index).plans
        report.broken[0] = evolve(first, call=_smallest(first.index, plans))
    return report


SUBJECT = Subject(
    name="streams",
    full=100_000 // (CALLS - 1),
    few=100,
    run=run,
    kinds=frozenset({"task", "TransportError", "RequestTimeoutError", "BadResponseError"}),
)
