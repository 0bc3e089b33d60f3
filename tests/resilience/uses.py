"""
Uses of the library for the cancel sweep: preparation, the cancelled part, and the continuation.

A use that is cancelled and continued has the same outcome as one that is not: the sweep compares
them.  The unit of time is ``Stage.second``: a second of a virtual clock, or a hundredth of a real
one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import trustme
from attrs import define, evolve, field, frozen

from ezvideo_async import EzVideoError, PollPolicy, RequestBudget, RetryPolicy, VideoTask
from tests.support.raw_server import (
    CLOSE,
    KEY,
    READ,
    RESET,
    STALL,
    RawServer,
    Script,
    client_of,
    response,
    task,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ezvideo_async import AsyncVideoClient
    from tests.support.raw_server import Seen

IDS = ("vid_1", "vid_2", "vid_3")
STATES = (("pending", 0), ("processing", 30), ("processing", 60), ("completed", 100))


class Progress:
    """A server's reply that shows each task one state further at every poll."""

    def __init__(self) -> None:
        self._polls: Counter[str] = Counter()

    def __call__(self, seen: Seen) -> bytes:
        status, progress = STATES[min(self._polls[seen.task_id], len(STATES) - 1)]
        self._polls[seen.task_id] += 1
        return response(task(seen.task_id, status, progress=progress))


@functools.cache
def certificate() -> tuple[trustme.LeafCert, ssl.SSLContext]:
    """Make a certificate for a server, and a TLS context for a client that trusts it."""
    authority, client = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return authority.issue_cert("127.0.0.1"), client


class SilentFirst(ssl.SSLContext):
    """TLS context of a server that never answers the first handshake."""

    _was_silent = False

    def wrap_bio(self, incoming: ssl.MemoryBIO, *rest: Any, **options: Any) -> ssl.SSLObject:
        """Let the first connection read from an empty buffer."""
        if not self._was_silent:
            self._was_silent, incoming = True, ssl.MemoryBIO()
        return super().wrap_bio(incoming, *rest, **options)


@define
class Stage:
    """
    A server, a client of it, and what a use has opened.

    Attributes:
        events: Delivered events, of all readers one after another.
        owns_session: True unless the client has a borrowed session.
        called: Number of plain calls that were made, before and after a cancel.
        opened: Closed before the client; what is open here continues to poll after a cancel.
    """

    second: float
    server: RawServer
    client: AsyncVideoClient
    owns_session: bool
    events: list[Any] = field(factory=list)
    called: int = 0
    opened: AsyncExitStack = field(factory=AsyncExitStack)
    reader: Any = None
    watcher: Any = None

    @property
    def continues(self) -> bool:
        """True if something that the stage has opened continues after a cancel."""
        return bool(self.opened._exit_callbacks)

    @property
    def policy(self) -> PollPolicy:
        """The poll policy of all watches."""
        return PollPolicy(interval=self.second, min_interval=self.second / 5, jitter=0.0)

    async def sleep(self, seconds: float) -> None:
        """Sleep for a number of the stage's seconds."""
        await asyncio.sleep(seconds * self.second)

    async def watch(self, **options: Any) -> Any:
        """Enter a watcher that the stage closes."""
        watcher = self.client.watch(IDS, policy=self.policy, progress=True, **options)
        self.watcher = self.reader = await self.opened.enter_async_context(watcher)
        return watcher


@frozen(kw_only=True)
class Fault:
    """
    A fault of the first request, or a delay.

    Attributes:
        scripts: Makes the scripts of the first connections from second, delay and usual reply.
        options: Makes options of the client from the second.
        hangs: True if the request timeout ends the request.
        tls: Class of the server's TLS context; None for plain HTTP.
    """

    scripts: Callable[[float, float, Progress], list[Script]] = lambda *_: []
    options: Callable[[float], dict[str, Any]] = lambda _: {}
    hangs: bool = False
    tls: type[ssl.SSLContext] | None = None


def script(delay: float, *replies: Any) -> Script:
    """Make a script that replies to requests on one connection, each after a delay."""
    return [step for reply in replies for step in (READ, delay, reply)]


def interleaved(delay: float, *steps: Any) -> Script:
    """Make a script of steps with a delay after each."""
    return [each for step in steps for each in (step, delay)]


def refusal(status: int, *headers: str) -> bytes:
    """Make an error response."""
    return response({"error": {"code": "x", "message": "m"}}, *headers, status=f"{status} S")


def running(seen: Seen) -> bytes:
    """Reply that the task is processing, without a change of state."""
    return response(task(seen.task_id, "processing"))


def in_two_parts(reply: Progress, *, is_chunked: bool = False) -> list[Callable[[Seen], bytes]]:
    """Make two steps of a script that send one response in two parts."""
    rest = b""

    def begin(seen: Seen) -> bytes:
        nonlocal rest
        whole = reply(seen)
        if is_chunked:
            content = whole.partition(b"\r\n\r\n")[2]
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            whole = head + b"%x\r\n" % len(content) + content + b"\r\n0\r\n\r\n"
        rest = whole[60:]
        return whole[:60]

    return [begin, lambda _: rest]


def key_source(*delays: float) -> Callable[[], Awaitable[str]]:
    """Make a key source that gives another key each time, after the next of the delays."""
    calls = 0

    async def key() -> str:
        nonlocal calls
        calls += 1
        await asyncio.sleep(delays[min(calls, len(delays)) - 1])
        return f"{KEY}{calls}"

    return key


def missing_key(delay: float) -> Callable[[], Awaitable[str]]:
    """Make a key source that fails the first time, with an error of the caller."""
    is_missing = True

    async def key() -> str:
        nonlocal is_missing
        await asyncio.sleep(delay)
        if is_missing:
            is_missing = False
            raise KeyError
        return KEY

    return key


def foreign(name: str) -> bytes:
    """Make a response about another task."""
    return response(task(name, "processing"))


FAULTS: dict[str, Fault] = {
    "": Fault(),
    "503": Fault(scripts=lambda _s, delay, _: [script(delay, refusal(503))]),
    "503 wait": Fault(
        scripts=lambda second, delay, _: [script(delay, refusal(503, f"Retry-After: {second}"))]
    ),
    "429": Fault(
        scripts=lambda second, delay, _: [script(delay, refusal(429, f"Retry-After: {second}"))]
    ),
    "no bytes": Fault(scripts=lambda *_: [[CLOSE]]),
    "close": Fault(scripts=lambda *_: [[READ, CLOSE]]),
    "reset": Fault(scripts=lambda *_: [[READ, RESET]]),
    "hang": Fault(scripts=lambda *_: [[READ, STALL]], hangs=True),
    "cut": Fault(
        scripts=lambda _s, delay, _: [[READ, lambda seen: running(seen)[:-3], delay, CLOSE]]
    ),
    "drip": Fault(
        scripts=lambda _s, delay, reply: [
            [*interleaved(delay, READ, *in_two_parts(reply)), *script(delay, *[reply] * 99)]
        ]
    ),
    "chunks": Fault(
        scripts=lambda _s, delay, reply: [
            [
                *interleaved(delay, READ, *in_two_parts(reply, is_chunked=True)),
                *script(delay, *[reply] * 99),
            ]
        ]
    ),
    "stale": Fault(scripts=lambda _s, delay, reply: [[*script(delay, reply), READ, CLOSE]]),
    "mismatch": Fault(scripts=lambda _s, delay, _: [script(delay, foreign("vid_8"))]),
    "renewed key": Fault(
        scripts=lambda _s, delay, _: [script(delay, refusal(401))],
        options=lambda second: {"api_key": key_source(0.3 * second)},
    ),
    "tls": Fault(tls=ssl.SSLContext),
    "stalled tls": Fault(tls=SilentFirst, hangs=True),
}
"""Faults for calls and watchers; the final outcome is the same with each of them."""

ALIAS = Fault(scripts=lambda _s, delay, _: [script(delay, foreign("vid_9"))] * 2)
"""A server with an alias for a task; for one task only, as the alias would be shared."""

FATAL = Fault(
    scripts=lambda _s, delay, reply: (
        [[*script(delay, reply, reply, refusal(401)), CLOSE]] * len(IDS)
    )
)
"""An API key that is refused during a watch."""

NO_KEY = Fault(options=lambda second: {"api_key": missing_key(0.3 * second)})
"""A key source that fails the first time."""

STALLED = Fault(scripts=lambda *_: [[READ, STALL]])
"""A server that never responds."""

CROWDED = Fault(
    scripts=lambda *_: [[READ, STALL]],
    options=lambda _: {"budget": RequestBudget(rate=10_000.0, max_in_flight=1)},
    hangs=True,
)
"""A first request that hangs and occupies the only slot."""

PACED = Fault(options=lambda second: {"budget": RequestBudget(rate=0.5 / second, burst=1.0)})
"""A rate of one request in two seconds."""

SLOW_KEY = Fault(options=lambda second: {"api_key": key_source(3600.0, 0.0)})
"""A key source that hangs the first time."""


@frozen(kw_only=True)
class Use:
    """
    One use of the library.

    Attributes:
        act: The part that is cancelled.
        prepare: The part before, which is not cancelled.
        go_on: Continues the cancelled use to its end; None for *act* once more.
        fault: The fault of the first request.
        is_warm: True if there is a connection already.
        ends_client: True if the client is closed at the end.
        is_timed: True if the outcome depends on timing, and is reproducible in virtual time only.
    """

    act: Callable[[Stage], Awaitable[Any]]
    prepare: Callable[[Stage], Awaitable[Any]] | None = None
    go_on: Callable[[Stage], Awaitable[Any]] | None = None
    fault: Fault = field(factory=Fault)
    is_warm: bool = False
    ends_client: bool = False
    is_timed: bool = False


class Staged:
    """Context manager that makes the stage of a use."""

    def __init__(self, use: Use, second: float) -> None:
        self._use = use
        self._second = second
        self._around = AsyncExitStack()

    async def __aenter__(self) -> Self:
        fault, second, reply = self._use.fault, self._second, Progress()
        delay = second / 10
        scripts = [*fault.scripts(second, delay, reply), script(delay, *[reply] * 99)]
        if self._use.is_warm:
            scripts[0] = [*script(delay, running), *scripts[0]]
        tls = fault.tls and fault.tls(ssl.PROTOCOL_TLS_SERVER)
        if tls is not None:
            certificate()[0].configure_cert(tls)
        enter = self._around.enter_async_context
        server = await enter(RawServer(*scripts, tls=tls))
        options: dict[str, Any] = {
            "base_url": server.base_url,
            "budget": RequestBudget(rate=10_000.0),
            "request_timeout": 15.0 * (second if fault.hangs else 1.0),
            "retry": RetryPolicy(base=second),
        }
        if tls is not None:
            connector = aiohttp.TCPConnector(ssl=certificate()[1])
            options["session"] = await enter(aiohttp.ClientSession(connector=connector))
        client = client_of(server, **{**options, **fault.options(second)})
        await self._around.enter_async_context(client)
        self.stage = Stage(
            second=second, server=server, client=client, owns_session="session" not in options
        )
        if self._use.is_warm:
            await client.retrieve("vid_0")
        if self._use.prepare is not None:
            await self._use.prepare(self.stage)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._around.aclose()


# -- calls ----------------------------------------------------------------------------------------


async def retrieve(stage: Stage) -> Any:
    """Retrieve one task."""
    return (await stage.client.retrieve("vid_1")).id


async def wait(stage: Stage) -> Any:
    """Wait for one task, without a watcher."""
    return (await stage.client.wait("vid_1", policy=stage.policy)).status


async def occupy(stage: Stage) -> None:
    """Occupy the only slot with a call that hangs."""
    held = asyncio.ensure_future(stage.client.retrieve("vid_0"))
    stage.opened.push_async_callback(ended, held)
    await stage.sleep(0.5)


async def ended(running: asyncio.Future[Any]) -> None:
    """Cancel a call, and wait until it has ended."""
    running.cancel()
    await asyncio.wait([running])


def calls() -> dict[str, Use]:
    """Make every call with every fault, over a new and over a kept connection."""
    uses: dict[str, Use] = {}
    for call in (retrieve, wait):
        for name, fault in {**FAULTS, "alias": ALIAS}.items():
            cold = Use(act=call, fault=fault)
            uses[f"{call.__name__} {name}".strip()] = cold
            if name != "stalled tls":  # makes no connection
                uses[f"{call.__name__} {name} warm".replace("  ", " ")] = evolve(cold, is_warm=True)
        uses[f"{call.__name__} paced"] = Use(act=call, is_warm=True, fault=PACED)
        uses[f"{call.__name__} queued"] = Use(act=call, prepare=occupy, fault=CROWDED)
    return uses


# -- watchers -------------------------------------------------------------------------------------


def outcome(stage: Stage, end: object = None) -> Any:
    """Return the delivered events of each task, in order, and what ended the reading."""
    assert [event.seq for event in stage.events] == list(range(1, len(stage.events) + 1))
    steps = [
        (
            event.task_id,
            event.kind,
            getattr(event, "previous", None),
            getattr(event, "current", None),
        )
        for event in stage.events
    ]
    return sorted(steps, key=lambda step: step[0]), end


async def read(stage: Stage) -> Any:
    """Read until the iteration ends or raises."""
    try:
        async for event in stage.reader:
            stage.events.append(event)
    except (EzVideoError, KeyError) as error:
        return outcome(stage, (type(error), error.open_ids))
    return outcome(stage)


async def read_slowly(stage: Stage) -> Any:
    """Read with a suspension after every event."""
    async for event in stage.reader:
        stage.events.append(event)
        await asyncio.sleep(0)
    return outcome(stage)


async def watch(stage: Stage) -> None:
    """Watch all tasks."""
    await stage.watch()


async def watch_for_a_while(stage: Stage) -> None:
    """Watch until there are unread events."""
    await stage.watch()
    await stage.sleep(2.0)
    assert stage.watcher.stats.unread


async def watch_to_the_end(stage: Stage) -> None:
    """Watch until every final event is unread."""
    await stage.watch()
    while stage.watcher.open_ids:
        await stage.sleep(1.0)


async def enter_and_read(stage: Stage) -> Any:
    """Enter a watcher, read all events, leave."""
    async with stage.client.watch(IDS, policy=stage.policy, progress=True) as watcher:
        return sorted([event.task_id async for event in watcher if event.is_final])


async def subscribe(stage: Stage) -> None:
    """Subscribe to three tasks of a hub."""
    await stage.watch(keep_open=True)
    stage.reader = await stage.opened.enter_async_context(stage.watcher.subscribe(*IDS))


async def subscribe_to_all(stage: Stage) -> None:
    """Subscribe to all tasks of a watcher."""
    await stage.watch()
    stage.reader = await stage.opened.enter_async_context(stage.watcher.subscribe())


async def hub(stage: Stage) -> None:
    """Watch in a hub without a reader."""
    await stage.watch(keep_open=True)


async def enter_a_subscription(stage: Stage) -> Any:
    """Subscribe, read all events, leave the subscription."""
    async with stage.watcher.subscribe(*IDS) as events:
        return sorted([event.task_id async for event in events if event.is_final])


async def hub_wait(stage: Stage) -> Any:
    """Wait in a hub, for a watched id and for another one."""
    first = await stage.watcher.wait("vid_1")
    return first.status, (await stage.watcher.wait("vid_5")).status


async def call_plainly(stage: Stage) -> Any:
    """Call every method that is no coroutine, with a suspension after each."""
    watcher = stage.watcher
    calls: list[Callable[[], Any]] = [
        lambda: watcher.add("vid_4", "vid_5", tag="new"),
        lambda: watcher.poll_now("vid_4"),
        lambda: watcher.apply(VideoTask.from_dict({"id": "vid_4", "status": "completed"})),
        lambda: watcher.discard("vid_5"),
        lambda: watcher.add("vid_5"),
        lambda: watcher.poll_now("vid_5"),
        lambda: watcher.discard("vid_5"),
        watcher.snapshot,
        watcher.finish_adding,
    ]
    for call in calls[stage.called :]:
        stage.called += 1
        call()
        await stage.sleep(0.05)
    await read(stage)
    return sorted(event.task_id for event in stage.events if event.is_final)


async def leave(stage: Stage) -> Any:
    """Leave the watcher that the preparation entered."""
    await stage.watcher.__aexit__(None, None, None)


async def enter_only(stage: Stage) -> None:
    """Enter a watcher that only the use leaves; its workers have not begun."""
    stage.watcher = stage.client.watch(IDS, policy=stage.policy)
    await stage.watcher.__aenter__()


async def enter_and_poll(stage: Stage) -> None:
    """Enter a watcher that only the use leaves, and let its polls be sent."""
    await enter_only(stage)
    await stage.sleep(0.03)


async def watch_and_poll(stage: Stage) -> None:
    """Enter a watcher, and let its polls be sent."""
    await stage.watch()
    await stage.sleep(0.03)


async def enter_and_sleep(stage: Stage) -> None:
    """Enter a watcher that only the use leaves, and wait until it is between two polls."""
    await enter_only(stage)
    await stage.sleep(1.0)


async def enter_and_wait_for_keys(stage: Stage) -> None:
    """Enter a watcher whose polls wait for a key."""
    await enter_only(stage)
    await stage.sleep(5.0)


async def enter_and_leave(stage: Stage) -> Any:
    """Enter a watcher, and leave it soon."""
    async with stage.client.watch(IDS, policy=stage.policy):
        await asyncio.sleep(0)
        await stage.sleep(0.03)


async def enter_and_fail(stage: Stage) -> Any:
    """Leave a watcher by an exception of the caller."""
    with contextlib.suppress(KeyError):
        async with stage.client.watch(IDS, policy=stage.policy) as watcher:
            await anext(watcher)
            raise KeyError


async def discard_in_flight(stage: Stage) -> Any:
    """Discard an id whose poll is in flight, and read the others."""
    stage.watcher.discard("vid_2")
    return await read(stage)


def watches() -> dict[str, Use]:
    """Make every use of a watcher."""
    uses = {
        f"read {name}".strip(): Use(act=read, prepare=watch, fault=fault)
        for name, fault in FAULTS.items()
    }
    return {
        **uses,
        "read refused": Use(act=read, prepare=watch, fault=FATAL, is_timed=True),
        "read without a key": Use(act=read, prepare=watch, fault=NO_KEY),
        "read late": Use(act=read_slowly, prepare=watch_for_a_while, is_timed=True),
        "read at the end": Use(act=read_slowly, prepare=watch_to_the_end),
        "read subscription": Use(act=read, prepare=subscribe),
        "read subscription 503": Use(act=read, prepare=subscribe, fault=FAULTS["503"]),
        "read subscription refused": Use(act=read, prepare=subscribe, fault=FATAL, is_timed=True),
        "read subscription to all": Use(act=read, prepare=subscribe_to_all),
        "subscribe": Use(act=enter_a_subscription, prepare=hub),
        "hub wait": Use(act=hub_wait, prepare=hub),
        "hub wait 503": Use(act=hub_wait, prepare=hub, fault=FAULTS["503"]),
        "hub wait hang": Use(act=hub_wait, prepare=hub, fault=FAULTS["hang"]),
        "plain calls": Use(act=call_plainly, prepare=hub),
        "discard": Use(act=discard_in_flight, prepare=watch),
        "watch": Use(act=enter_and_read),
        "watch 503": Use(act=enter_and_read, fault=FAULTS["503"]),
        "watch 429": Use(act=enter_and_read, fault=FAULTS["429"]),
        "watch tls": Use(act=enter_and_read, fault=FAULTS["tls"]),
        "leave soon": Use(act=enter_and_leave),
        "leave by an error": Use(act=enter_and_fail),
        "exit at once": Use(act=leave, prepare=enter_only),
        "exit between polls": Use(act=leave, prepare=enter_and_sleep),
        "exit paced": Use(act=leave, prepare=enter_and_sleep, fault=PACED),
        "read paced": Use(act=read, prepare=watch, fault=PACED),
        "exit in flight": Use(act=leave, prepare=enter_and_poll),
        "exit hanging": Use(act=leave, prepare=enter_and_poll, fault=STALLED),
        "exit in a handshake": Use(act=leave, prepare=enter_and_poll, fault=FAULTS["stalled tls"]),
        "exit without a key": Use(act=leave, prepare=enter_and_wait_for_keys, fault=SLOW_KEY),
    }


# -- lifetimes ------------------------------------------------------------------------------------


async def use_another_client(stage: Stage) -> Any:
    """Enter a second client, retrieve a task, leave it."""
    async with client_of(stage.server) as client:
        return (await client.retrieve("vid_1")).id


async def watch_with_another_client(stage: Stage) -> Any:
    """Enter client and watcher, read all events, leave both."""
    async with client_of(stage.server) as client:
        async with client.watch(IDS, policy=stage.policy) as watcher:
            return sorted([event.task_id async for event in watcher if event.is_final])


async def close(stage: Stage) -> Any:
    """Close the client."""
    await stage.client.aclose()


async def go_through_exit(stage: Stage) -> Any:
    """Leave the client as ``async with`` does."""
    await stage.client.__aexit__(None, None, None)


async def leave_three_idle(stage: Stage) -> None:
    """Make three idle connections."""
    await asyncio.gather(*map(stage.client.retrieve, IDS))


async def have_calls(stage: Stage) -> None:
    """Start calls that end with the client."""
    calls = [stage.client.retrieve("vid_1"), stage.client.wait("vid_2", policy=stage.policy)]
    for call in calls:
        stage.opened.push_async_callback(ended, asyncio.ensure_future(call))
    await stage.sleep(0.05)


def lifetimes() -> dict[str, Use]:
    """Make every way to enter and to leave a client."""
    closing = Use(act=close, ends_client=True)
    return {
        "client": Use(act=use_another_client),
        "client 503": Use(act=use_another_client, fault=FAULTS["503"]),
        "client and watcher": Use(act=watch_with_another_client),
        "aclose idle": evolve(closing, prepare=leave_three_idle),
        "aclose warm": evolve(closing, is_warm=True),
        "aclose tls": evolve(closing, is_warm=True, fault=FAULTS["tls"]),
        "aclose busy": evolve(closing, prepare=have_calls),
        "aclose hanging": evolve(closing, prepare=have_calls, fault=STALLED),
        "aclose in a delay": evolve(closing, prepare=have_calls, fault=FAULTS["503 wait"]),
        "aclose watched": evolve(closing, prepare=watch_and_poll),
        "exit client": evolve(closing, act=go_through_exit, prepare=leave_three_idle),
    }


USES: dict[str, Use] = {**calls(), **watches(), **lifetimes()}
