"""
The uses that the cancel sweep tries: what is prepared, what may be cancelled, what goes on after.

A use gives the same outcome whether it ran through at once, or was cancelled and went on: the
sweep compares the two.  Seconds are counted in ``Stage.second``, which is one second of a virtual
clock, and a hundredth of it on a loop that really waits.
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


class Story:
    """Lets every task be one state further at every look, whatever the time."""

    def __init__(self) -> None:
        self._looks: Counter[str] = Counter()

    def __call__(self, seen: Seen) -> bytes:
        status, progress = STATES[min(self._looks[seen.task_id], len(STATES) - 1)]
        self._looks[seen.task_id] += 1
        return response(task(seen.task_id, status, progress=progress))


@functools.cache
def certified() -> tuple[trustme.LeafCert, ssl.SSLContext]:
    """Give a certificate for a server, and TLS for a client that trusts it."""
    authority, client = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return authority.issue_cert("127.0.0.1"), client


class SilentFirst(ssl.SSLContext):
    """TLS for a server that never answers the first handshake."""

    _has_been_silent = False

    def wrap_bio(self, incoming: ssl.MemoryBIO, *rest: Any, **options: Any) -> ssl.SSLObject:
        """Let the first connection listen where nobody speaks."""
        if not self._has_been_silent:
            self._has_been_silent, incoming = True, ssl.MemoryBIO()
        return super().wrap_bio(incoming, *rest, **options)


@define
class Stage:
    """
    One server, one client of it, and what a use has opened besides.

    Attributes:
        heard: What readers were told, over all that read one after another.
        owns_session: Whether the client's connections are its own.
        called: How many plain calls were made, before a cancel and after.
        opened: Left before the client is; what stays open here polls on after a cancel.
    """

    second: float
    server: RawServer
    client: AsyncVideoClient
    owns_session: bool
    heard: list[Any] = field(factory=list)
    called: int = 0
    opened: AsyncExitStack = field(factory=AsyncExitStack)
    reader: Any = None
    watcher: Any = None

    @property
    def polls_on(self) -> bool:
        """Whether a cancel leaves something at work: what the stage itself has opened."""
        return bool(self.opened._exit_callbacks)

    @property
    def policy(self) -> PollPolicy:
        """When the watches of all uses poll."""
        return PollPolicy(interval=self.second, min_interval=self.second / 5, jitter=0.0)

    async def sleep(self, seconds: float) -> None:
        """Wait for a number of the stage's seconds."""
        await asyncio.sleep(seconds * self.second)

    async def watch(self, **options: Any) -> Any:
        """Enter a watcher that the stage leaves."""
        watcher = self.client.watch(IDS, policy=self.policy, progress=True, **options)
        self.watcher = self.reader = await self.opened.enter_async_context(watcher)
        return watcher


@frozen(kw_only=True)
class Fault:
    """
    What goes wrong at the first look, or takes longer than usual.

    Attributes:
        scripts: The first connections, made from seconds, the pause before answers and the story.
        options: Of the client, made from seconds.
        hangs: Whether the request's time limit is what ends it.
        tls: How the server speaks TLS, if it does.
    """

    scripts: Callable[[float, float, Story], list[Script]] = lambda *_: []
    options: Callable[[float], dict[str, Any]] = lambda _: {}
    hangs: bool = False
    tls: type[ssl.SSLContext] | None = None


def talk(pause: float, *replies: Any) -> Script:
    """Answer requests on one connection, each after a pause."""
    return [step for reply in replies for step in (READ, pause, reply)]


def interleaved(pause: float, *steps: Any) -> Script:
    """Play steps with a pause after each."""
    return [each for step in steps for each in (step, pause)]


def refusal(status: int, *headers: str) -> bytes:
    """Write an answer that holds no task."""
    return response({"error": {"code": "x", "message": "m"}}, *headers, status=f"{status} S")


def running(seen: Seen) -> bytes:
    """Write one answer without any progress of the story."""
    return response(task(seen.task_id, "processing"))


def parted(story: Story, *, is_chunked: bool = False) -> list[Callable[[Seen], bytes]]:
    """Write an answer in two parts, which are two steps of a script."""
    rest = b""

    def begin(seen: Seen) -> bytes:
        nonlocal rest
        whole = story(seen)
        if is_chunked:
            content = whole.partition(b"\r\n\r\n")[2]
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            whole = head + b"%x\r\n" % len(content) + content + b"\r\n0\r\n\r\n"
        rest = whole[60:]
        return whole[:60]

    return [begin, lambda _: rest]


def key_source(*delays: float) -> Callable[[], Awaitable[str]]:
    """Give another key at every question, after the next of the delays, or the last."""
    given = 0

    async def key() -> str:
        nonlocal given
        given += 1
        await asyncio.sleep(delays[min(given, len(delays)) - 1])
        return f"{KEY}{given}"

    return key


def missing_key(delay: float) -> Callable[[], Awaitable[str]]:
    """Fail at the first question, with an error of the caller's."""
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
    """Write an answer about somebody else's task."""
    return response(task(name, "processing"))


TROUBLES: dict[str, Fault] = {
    "": Fault(),
    "503": Fault(scripts=lambda _s, pause, _: [talk(pause, refusal(503))]),
    "503 wait": Fault(
        scripts=lambda second, pause, _: [talk(pause, refusal(503, f"Retry-After: {second}"))]
    ),
    "429": Fault(
        scripts=lambda second, pause, _: [talk(pause, refusal(429, f"Retry-After: {second}"))]
    ),
    "no bytes": Fault(scripts=lambda *_: [[CLOSE]]),
    "close": Fault(scripts=lambda *_: [[READ, CLOSE]]),
    "reset": Fault(scripts=lambda *_: [[READ, RESET]]),
    "hang": Fault(scripts=lambda *_: [[READ, STALL]], hangs=True),
    "cut": Fault(
        scripts=lambda _s, pause, _: [[READ, lambda seen: running(seen)[:-3], pause, CLOSE]]
    ),
    "drip": Fault(
        scripts=lambda _s, pause, story: [
            [*interleaved(pause, READ, *parted(story)), *talk(pause, *[story] * 99)]
        ]
    ),
    "chunks": Fault(
        scripts=lambda _s, pause, story: [
            [
                *interleaved(pause, READ, *parted(story, is_chunked=True)),
                *talk(pause, *[story] * 99),
            ]
        ]
    ),
    "stale": Fault(scripts=lambda _s, pause, story: [[*talk(pause, story), READ, CLOSE]]),
    "mismatch": Fault(scripts=lambda _s, pause, _: [talk(pause, foreign("vid_8"))]),
    "renewed key": Fault(
        scripts=lambda _s, pause, _: [talk(pause, refusal(401))],
        options=lambda second: {"api_key": key_source(0.3 * second)},
    ),
    "tls": Fault(tls=ssl.SSLContext),
    "stalled tls": Fault(tls=SilentFirst, hangs=True),
}
"""The same for calls and for watchers: what comes of it in the end is always the same."""

ALIAS = Fault(scripts=lambda _s, pause, _: [talk(pause, foreign("vid_9"))] * 2)
"""A server that has a name of its own for a task; for one task, as the name would be shared."""

FATAL = Fault(
    scripts=lambda _s, pause, story: [[*talk(pause, story, story, refusal(401)), CLOSE]] * len(IDS)
)
"""A key that is refused in the middle of a watch."""

NO_KEY = Fault(options=lambda second: {"api_key": missing_key(0.3 * second)})
"""A source of keys that fails when it is asked first."""

STALLED = Fault(scripts=lambda *_: [[READ, STALL]])
"""A server that never answers, to nobody."""

CROWDED = Fault(
    scripts=lambda *_: [[READ, STALL]],
    options=lambda _: {"budget": RequestBudget(rate=10_000.0, max_in_flight=1)},
    hangs=True,
)
"""A first request, the only one that is allowed, that hangs."""

PACED = Fault(options=lambda second: {"budget": RequestBudget(rate=0.5 / second, burst=1.0)})
"""A rate that lets one request through in two seconds."""

SLOW_KEY = Fault(options=lambda second: {"api_key": key_source(3600.0, 0.0)})
"""A key that does not come when it is asked for first."""


@frozen(kw_only=True)
class Use:
    """
    One use of the library.

    Attributes:
        act: What is cancelled.
        prepare: What comes before, undisturbed.
        go_on: What brings the cancelled use to its end; None for *act* once more.
        trouble: What it meets.
        is_warm: Whether there is a connection already.
        ends_client: Whether the client is closed in the end.
        is_timed: Whether the outcome depends on when things happen, so that only virtual time
            gives the same one each time.
    """

    act: Callable[[Stage], Awaitable[Any]]
    prepare: Callable[[Stage], Awaitable[Any]] | None = None
    go_on: Callable[[Stage], Awaitable[Any]] | None = None
    trouble: Fault = field(factory=Fault)
    is_warm: bool = False
    ends_client: bool = False
    is_timed: bool = False


class Staged:
    """Builds the stage of a use, and takes it down; *stage* is what stands between."""

    def __init__(self, use: Use, second: float) -> None:
        self._use = use
        self._second = second
        self._around = AsyncExitStack()

    async def __aenter__(self) -> Self:
        trouble, second, story = self._use.trouble, self._second, Story()
        pause = second / 10
        scripts = [*trouble.scripts(second, pause, story), talk(pause, *[story] * 99)]
        if self._use.is_warm:
            scripts[0] = [*talk(pause, running), *scripts[0]]
        tls = trouble.tls and trouble.tls(ssl.PROTOCOL_TLS_SERVER)
        if tls is not None:
            certified()[0].configure_cert(tls)
        enter = self._around.enter_async_context
        server = await enter(RawServer(*scripts, tls=tls))
        options: dict[str, Any] = {
            "base_url": server.base_url,
            "budget": RequestBudget(rate=10_000.0),
            "request_timeout": 15.0 * (second if trouble.hangs else 1.0),
            "retry": RetryPolicy(base=second, throttle_base=second),
        }
        if tls is not None:
            connector = aiohttp.TCPConnector(ssl=certified()[1])
            options["session"] = await enter(aiohttp.ClientSession(connector=connector))
        client = client_of(server, **{**options, **trouble.options(second)})
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
    """One question."""
    return (await stage.client.retrieve("vid_1")).id


async def wait(stage: Stage) -> Any:
    """One task, without a watcher."""
    return (await stage.client.wait("vid_1", policy=stage.policy)).status


async def occupy(stage: Stage) -> None:
    """Take the only place with a call that hangs."""
    held = asyncio.ensure_future(stage.client.retrieve("vid_0"))
    stage.opened.push_async_callback(ended, held)
    await stage.sleep(0.5)


async def ended(running: asyncio.Future[Any]) -> None:
    """Cancel a call, and wait until it is over."""
    running.cancel()
    await asyncio.wait([running])


def calls() -> dict[str, Use]:
    """Every call with every trouble, over a new connection and over a used one."""
    uses: dict[str, Use] = {}
    for call in (retrieve, wait):
        for name, trouble in {**TROUBLES, "alias": ALIAS}.items():
            cold = Use(act=call, trouble=trouble)
            uses[f"{call.__name__} {name}".strip()] = cold
            if name != "stalled tls":  # no connection comes of it
                uses[f"{call.__name__} {name} warm".replace("  ", " ")] = evolve(cold, is_warm=True)
        uses[f"{call.__name__} paced"] = Use(act=call, is_warm=True, trouble=PACED)
        uses[f"{call.__name__} in line"] = Use(act=call, prepare=occupy, trouble=CROWDED)
    return uses


# -- watchers -------------------------------------------------------------------------------------


def told(stage: Stage, end: object = None) -> Any:
    """All that readers heard of each task, in order, and what ended the reading."""
    assert [event.seq for event in stage.heard] == list(range(1, len(stage.heard) + 1))
    steps = [
        (
            event.task_id,
            event.kind,
            getattr(event, "previous", None),
            getattr(event, "current", None),
        )
        for event in stage.heard
    ]
    return sorted(steps, key=lambda step: step[0]), end


async def read(stage: Stage) -> Any:
    """Read on until nothing more can come."""
    try:
        async for event in stage.reader:
            stage.heard.append(event)
    except (EzVideoError, KeyError) as error:
        return told(stage, (type(error), error.open_ids))
    return told(stage)


async def read_slowly(stage: Stage) -> Any:
    """Read with a suspension of the caller's own after every event."""
    async for event in stage.reader:
        stage.heard.append(event)
        await asyncio.sleep(0)
    return told(stage)


async def watch(stage: Stage) -> None:
    """Watch all tasks."""
    await stage.watch()


async def watch_for_a_while(stage: Stage) -> None:
    """Let events wait to be read."""
    await stage.watch()
    await stage.sleep(2.0)
    assert stage.watcher.stats.unread


async def watch_to_the_end(stage: Stage) -> None:
    """Let every event wait to be read, the final ones too."""
    await stage.watch()
    while stage.watcher.open_ids:
        await stage.sleep(1.0)


async def enter_and_read(stage: Stage) -> Any:
    """Enter a watcher, read everything, leave."""
    async with stage.client.watch(IDS, policy=stage.policy, progress=True) as watcher:
        return sorted([event.task_id async for event in watcher if event.is_final])


async def subscribe(stage: Stage) -> None:
    """Subscribe to all three tasks in a hub."""
    await stage.watch(keep_open=True)
    stage.reader = await stage.opened.enter_async_context(stage.watcher.subscribe(*IDS))


async def subscribe_to_all(stage: Stage) -> None:
    """Subscribe to whatever a watcher watches."""
    await stage.watch()
    stage.reader = await stage.opened.enter_async_context(stage.watcher.subscribe())


async def hub(stage: Stage) -> None:
    """Watch in a hub that nobody reads."""
    await stage.watch(keep_open=True)


async def enter_a_subscription(stage: Stage) -> Any:
    """Subscribe, read everything, leave the subscription."""
    async with stage.watcher.subscribe(*IDS) as events:
        return sorted([event.task_id async for event in events if event.is_final])


async def hub_wait(stage: Stage) -> Any:
    """Wait within a hub, for an id that it watches and for one that it does not."""
    first = await stage.watcher.wait("vid_1")
    return first.status, (await stage.watcher.wait("vid_5")).status


async def call_plainly(stage: Stage) -> Any:
    """Call everything that is no coroutine, with a suspension after each."""
    watcher = stage.watcher
    calls: list[Callable[[], Any]] = [
        lambda: watcher.add("vid_4", "vid_5", tag="new"),
        lambda: watcher.refresh("vid_4"),
        lambda: watcher.feed(VideoTask.from_dict({"id": "vid_4", "status": "completed"})),
        lambda: watcher.discard("vid_5"),
        lambda: watcher.add("vid_5"),
        lambda: watcher.refresh("vid_5"),
        lambda: watcher.discard("vid_5"),
        watcher.snapshot,
        watcher.close,
    ]
    for call in calls[stage.called :]:
        stage.called += 1
        call()
        await stage.sleep(0.05)
    await read(stage)
    return sorted(event.task_id for event in stage.heard if event.is_final)


async def leave(stage: Stage) -> Any:
    """Leave the watcher that the preparation entered."""
    await stage.watcher.__aexit__(None, None, None)


async def enter_only(stage: Stage) -> None:
    """Enter a watcher, which only the use leaves; its workers have not begun."""
    stage.watcher = stage.client.watch(IDS, policy=stage.policy)
    await stage.watcher.__aenter__()


async def enter_and_poll(stage: Stage) -> None:
    """Enter a watcher, which only the use leaves, and let its polls leave."""
    await enter_only(stage)
    await stage.sleep(0.03)


async def watch_and_poll(stage: Stage) -> None:
    """Enter a watcher, and let its polls leave."""
    await stage.watch()
    await stage.sleep(0.03)


async def enter_and_rest(stage: Stage) -> None:
    """Enter a watcher, which only the use leaves, between two polls."""
    await enter_only(stage)
    await stage.sleep(1.0)


async def enter_and_ask_for_keys(stage: Stage) -> None:
    """Enter a watcher whose polls wait for a key."""
    await enter_only(stage)
    await stage.sleep(5.0)


async def enter_and_leave(stage: Stage) -> Any:
    """Enter a watcher, and leave it soon."""
    async with stage.client.watch(IDS, policy=stage.policy):
        await asyncio.sleep(0)
        await stage.sleep(0.03)


async def enter_and_fail(stage: Stage) -> Any:
    """Leave a watcher by an exception of the caller's own."""
    with contextlib.suppress(KeyError):
        async with stage.client.watch(IDS, policy=stage.policy) as watcher:
            await anext(watcher)
            raise KeyError


async def discard_in_flight(stage: Stage) -> Any:
    """Discard an id whose poll is under way, and read the others."""
    stage.watcher.discard("vid_2")
    return await read(stage)


def watches() -> dict[str, Use]:
    """Every use of a watcher."""
    uses = {
        f"read {name}".strip(): Use(act=read, prepare=watch, trouble=trouble)
        for name, trouble in TROUBLES.items()
    }
    return {
        **uses,
        "read refused": Use(act=read, prepare=watch, trouble=FATAL, is_timed=True),
        "read without a key": Use(act=read, prepare=watch, trouble=NO_KEY),
        "read late": Use(act=read_slowly, prepare=watch_for_a_while, is_timed=True),
        "read at the end": Use(act=read_slowly, prepare=watch_to_the_end),
        "read subscription": Use(act=read, prepare=subscribe),
        "read subscription 503": Use(act=read, prepare=subscribe, trouble=TROUBLES["503"]),
        "read subscription refused": Use(act=read, prepare=subscribe, trouble=FATAL, is_timed=True),
        "read subscription to all": Use(act=read, prepare=subscribe_to_all),
        "subscribe": Use(act=enter_a_subscription, prepare=hub),
        "hub wait": Use(act=hub_wait, prepare=hub),
        "hub wait 503": Use(act=hub_wait, prepare=hub, trouble=TROUBLES["503"]),
        "hub wait hang": Use(act=hub_wait, prepare=hub, trouble=TROUBLES["hang"]),
        "plain calls": Use(act=call_plainly, prepare=hub),
        "discard": Use(act=discard_in_flight, prepare=watch),
        "watch": Use(act=enter_and_read),
        "watch 503": Use(act=enter_and_read, trouble=TROUBLES["503"]),
        "watch 429": Use(act=enter_and_read, trouble=TROUBLES["429"]),
        "watch tls": Use(act=enter_and_read, trouble=TROUBLES["tls"]),
        "leave soon": Use(act=enter_and_leave),
        "leave by an error": Use(act=enter_and_fail),
        "exit at once": Use(act=leave, prepare=enter_only),
        "exit between polls": Use(act=leave, prepare=enter_and_rest),
        "exit paced": Use(act=leave, prepare=enter_and_rest, trouble=PACED),
        "read paced": Use(act=read, prepare=watch, trouble=PACED),
        "exit in flight": Use(act=leave, prepare=enter_and_poll),
        "exit hanging": Use(act=leave, prepare=enter_and_poll, trouble=STALLED),
        "exit in a handshake": Use(
            act=leave, prepare=enter_and_poll, trouble=TROUBLES["stalled tls"]
        ),
        "exit without a key": Use(act=leave, prepare=enter_and_ask_for_keys, trouble=SLOW_KEY),
    }


# -- lifetimes ------------------------------------------------------------------------------------


async def use_another_client(stage: Stage) -> Any:
    """Enter a second client, ask, leave it."""
    async with client_of(stage.server) as client:
        return (await client.retrieve("vid_1")).id


async def watch_with_another_client(stage: Stage) -> Any:
    """Enter client and watcher, read everything, leave both."""
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
    """Keep three connections."""
    await asyncio.gather(*map(stage.client.retrieve, IDS))


async def have_calls(stage: Stage) -> None:
    """Have calls under way, of which each ends with the client."""
    calls = [stage.client.retrieve("vid_1"), stage.client.wait("vid_2", policy=stage.policy)]
    for call in calls:
        stage.opened.push_async_callback(ended, asyncio.ensure_future(call))
    await stage.sleep(0.05)


def lifetimes() -> dict[str, Use]:
    """Every way to enter and to leave a client."""
    closing = Use(act=close, ends_client=True)
    return {
        "client": Use(act=use_another_client),
        "client 503": Use(act=use_another_client, trouble=TROUBLES["503"]),
        "client and watcher": Use(act=watch_with_another_client),
        "aclose idle": evolve(closing, prepare=leave_three_idle),
        "aclose warm": evolve(closing, is_warm=True),
        "aclose tls": evolve(closing, is_warm=True, trouble=TROUBLES["tls"]),
        "aclose busy": evolve(closing, prepare=have_calls),
        "aclose hanging": evolve(closing, prepare=have_calls, trouble=STALLED),
        "aclose in a pause": evolve(closing, prepare=have_calls, trouble=TROUBLES["503 wait"]),
        "aclose watched": evolve(closing, prepare=watch_and_poll),
        "exit client": evolve(closing, act=go_through_exit, prepare=leave_three_idle),
    }


USES: dict[str, Use] = {**calls(), **watches(), **lifetimes()}
