"""
API key leaks: in errors, values, frames, logs, warnings, telemetry events and output.

Every fault of the catalog is played, and servers echo the key in every place of a response.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import pytest

from ezvideo_async import AsyncVideoClient, EzVideoError, RetryPolicy, TaskLost, VideoTask
from tests.resilience.catalog import CATALOG
from tests.support.cancellation import CancelledAt
from tests.support.key_leaks import (
    LeakHandler,
    assert_clean,
    assert_clean_frames,
    assert_keyless,
    assert_no_key,
    locals_of,
    walk,
)
from tests.support.raw_server import (
    DONE,
    KEY,
    READ,
    RawServer,
    client_of,
    replying,
    response,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.raw_server import Seen

ONCE = RetryPolicy(attempts=1)
ROOT = str(Path(__file__).parents[2])


# -- what is searched ------------------------------------------------------------------------------


@pytest.fixture
def leak_handler() -> Iterator[LeakHandler]:
    """Search every log record at DEBUG; fail at the end if one holds the key."""
    handler, root = LeakHandler(KEY), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)
    assert handler.leaks == []


@contextlib.asynccontextmanager
async def verbose_loop() -> AsyncIterator[None]:
    """Let asyncio's debug mode log every callback that the loop runs."""
    loop = asyncio.get_running_loop()
    slow = loop.slow_callback_duration
    loop.set_debug(enabled=True)
    loop.slow_callback_duration = -1.0
    yield
    loop.slow_callback_duration = slow
    loop.set_debug(enabled=False)


class SearchingObserver:
    """An observer that searches telemetry events, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: Any) -> None:
        self.count += 1
        assert_keyless(event, key=KEY)
        error = getattr(event, "error", None)
        if error is not None:
            assert_clean(error, key=KEY)


# -- uses of a client ------------------------------------------------------------------------------


async def provide_key() -> str:
    """Return the key, as an ``api_key`` callable."""
    return KEY


async def retrieve(client: AsyncVideoClient, ids: list[str]) -> None:
    """Retrieve each task once; search the tasks, raise the last error."""
    last_error: EzVideoError | None = None
    for task_id in ids:
        try:
            assert_task_keyless(await client.retrieve(task_id))
        except EzVideoError as error:
            assert_clean(error, key=KEY)
            last_error = error
    if last_error is not None:
        raise last_error


async def wait(client: AsyncVideoClient, ids: list[str]) -> None:
    """Wait for about two polls."""
    found = await client.wait(ids[0], timeout=7.0, raise_on_failure=False, not_found_grace=0.0)
    assert_task_keyless(found)


async def watch(client: AsyncVideoClient, ids: list[str]) -> None:
    """Watch for about two polls; search events, snapshot, statistics and the watcher itself."""
    async with client.watch(ids, timeout=7.0, not_found_grace=0.0) as watcher:
        try:
            async for event in watcher:
                assert_keyless(event, key=KEY)
                assert_no_key(json.dumps(event.to_dict()), key=KEY)
                if isinstance(event, TaskLost):
                    assert_clean(event.error, key=KEY)
        finally:
            assert_keyless(dict(watcher.snapshot()), key=KEY)
            assert_no_key(f"{watcher!r} {watcher.stats!r}", key=KEY)
            assert_keyless(watcher, key=KEY)


def assert_task_keyless(found: VideoTask) -> None:
    """Search a task, its ``to_dict()`` and its ``raw``."""
    assert_keyless(found, key=KEY)
    assert_no_key(json.dumps([found.to_dict(), dict(found.raw)]), key=KEY)


USES: dict[str, tuple[Any, dict[str, Any], bool]] = {
    # function, options of the client, whether its session is borrowed
    "retrieve": (retrieve, {"retry": ONCE}, False),
    "retrieve, borrowed": (retrieve, {"api_key": provide_key, "retry": ONCE}, True),
    "wait, borrowed": (wait, {}, True),
    "watch": (watch, {"api_key": provide_key}, False),
}


async def search(server: RawServer, use: str, ids: list[str]) -> None:
    """Use a client, and search its results, errors and telemetry."""
    act, options, is_borrowed = USES[use]
    observer = SearchingObserver()
    async with contextlib.AsyncExitStack() as stack:
        if is_borrowed:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            options = options | {"session": session}
        options = {"request_timeout": 3.0, "observers": [observer], **options}
        client = await stack.enter_async_context(client_of(server, **options))
        try:
            await act(client, ids)
        except EzVideoError as error:
            assert_clean(error, key=KEY)
        assert observer.count > 0
        assert client._engine.telemetry.failures == 0
        assert_keyless(client, key=KEY)


# -- every fault -----------------------------------------------------------------------------------


@pytest.mark.fault("X1", "X2", "X3")
@pytest.mark.parametrize("name", CATALOG)
async def test_no_fault_shows_the_key(name: str, leak_handler: LeakHandler) -> None:
    """Nothing that a caller can reach holds the key, whatever fails and however it is used."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with RawServer(CATALOG[name].script) as server:
            async with verbose_loop():
                await search(server, "retrieve", ["t"])
            for use in USES.keys() - {"retrieve"}:
                await search(server, use, ["t"])

    assert leak_handler.counts["asyncio"] > 0
    assert leak_handler.counts["ezvideo_async"] > 0
    assert_no_key(" ".join(str(each.message) for each in warned), key=KEY)
    assert all(seen.headers["authorization"] == f"Bearer {KEY}" for seen in server.requests)


# -- servers that echo the key ---------------------------------------------------------------------


def escaped(form: str) -> Callable[[str], str]:
    """Escape every character."""
    return lambda text: "".join(form.format(ord(character)) for character in text)


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": escaped("\\u{:04X}"),
    "url": escaped("%{:02x}"),
}


ECHO = "echo-echo-echo"
"""Placeholder for the echoed header."""
ERROR = {"error": {"message": f"bad {ECHO}!", "code": ECHO, "type": ECHO, "param": ECHO}}
HTML = "Content-Type: text/html"
STATUSES = ("400", "401", "402", "403", "404", "410", "429", "500", "501", "203", "200")


def body(shape: Any, sent: str) -> bytes:
    """Build a body of text, or of JSON in which the echo is not escaped again."""
    text = shape if isinstance(shape, str) else json.dumps(shape)
    return text.replace(ECHO, sent).encode()


def echo_body(shape: Any, *headers: str, status: str = "200 O") -> Callable[[Seen, str], bytes]:
    """Respond with an echo in the body."""
    return lambda _, sent: response(body(shape, sent), *headers, status=status)


def echo_fields(**fields: Any) -> Callable[[Seen, str], bytes]:
    """Respond with a task that has an echo in its fields."""
    return lambda seen, sent: response(
        body({"id": seen.task_id, "status": "processing", **fields}, sent)
    )


def echo_headers(*names: str, status: str) -> Callable[[Seen, str], bytes]:
    """Respond with an echo in headers."""
    return lambda seen, sent: response(
        body({"id": seen.task_id, "status": "processing"}, sent),
        *[f"{name}: {sent}" for name in names],
        f"X-{sent.rpartition(' ')[2]}: 1",
        status=status,
    )


def echo_bytes(text: str) -> Callable[[Seen, str], bytes]:
    """Respond with broken HTTP that has an echo in it."""
    return lambda _, sent: text.replace(ECHO, sent).replace("\n", "\r\n").encode()


PLACES: dict[str, Callable[[Seen, str], bytes]] = {
    **{f"an error with {status}": echo_body(ERROR, status=f"{status} S") for status in STATUSES},
    "a flat error": echo_body({"code": ECHO, "msg": f"no {ECHO}"}, status="400 B"),
    "a list of errors": echo_body(
        {"detail": [{"loc": ["header", ECHO], "msg": ECHO}]}, status="422 U"
    ),
    "a text": echo_body(f"no {ECHO}", status="400 B"),
    "a text under 200": echo_body(f"no {ECHO}"),
    "a page": echo_body(f"<html>{ECHO}</html>", HTML),
    "a firewall's page": echo_body(f"<html>{ECHO}</html>", HTML, status="403 F"),
    "a broken JSON": echo_body(f'{{"id": "{ECHO}", "status'),
    "a text that will be cut": echo_body("x" * 485 + f" {ECHO}", status="500 S"),
    "the reason": lambda _, sent: response(b"", status=f"500 {sent}"),
    "an error's headers": echo_headers("X-Request-Id", "Retry-After", "Date", status="500 S"),
    "a task's headers": echo_headers("X-Oneapi-Request-Id", "Openai-Poll-After-Ms", status="200 O"),
    "a redirect": lambda _, sent: response(
        b"", f"Location: https://{sent}/?{sent}", status="302 F"
    ),
    "the status value": echo_fields(status=f"status of {ECHO}"),
    "a failure": echo_fields(status="failed", **ERROR),
    "a failure's text": echo_fields(status="failed", error=f"no {ECHO}"),
    "urls": echo_fields(
        status="completed", url=f"https://cdn.test/{ECHO}?k={ECHO}", video_url=ECHO
    ),
    "all other fields": echo_fields(
        model=ECHO, size=ECHO, seconds=ECHO, created_at=ECHO, progress=ECHO,
        metadata={ECHO: [ECHO, {"deep": ECHO}]}, **{ECHO: ECHO},
    ),
    "another id": echo_fields(id=ECHO),
    "a new id each time": lambda seen, sent: echo_fields(id=f"{ECHO}{seen.connection}")(seen, sent),
    "a bad status line": echo_bytes(f"HTTP/1.1 2x0 {ECHO}\n\n"),
    "another protocol": echo_bytes(f"SSH-2.0-{ECHO}\n\n"),
    "a header without a colon": echo_bytes(f"HTTP/1.1 200 OK\n{ECHO}\n\n"),
    "a header with NUL": echo_bytes(f"HTTP/1.1 200 OK\nX: \0{ECHO}\0\n\n"),
    "a bad length": echo_bytes(f"HTTP/1.1 200 OK\nContent-Length: {ECHO}\n\n"),
    "a bad chunk": echo_bytes(f"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n{ECHO}\n"),
    "an encoding": echo_bytes(f"HTTP/1.1 200 OK\nContent-Encoding: {ECHO}\nContent-Length: 1\n\n1"),
}  # fmt: skip


@pytest.mark.fault("X1", "X2", "X3", "X22")
@pytest.mark.parametrize("name", PLACES)
async def test_echoed_key_is_masked(name: str, leak_handler: LeakHandler) -> None:
    """Wherever a server echoes the key, verbatim or escaped, it is masked."""

    def echo(seen: Seen) -> bytes:
        return PLACES[name](seen, FORMS[seen.task_id](seen.headers["authorization"]))

    async with RawServer(replying(*[echo] * 100)) as server:
        for use in ("retrieve", "watch"):
            await search(server, use, list(FORMS))

    assert {seen.task_id for seen in server.requests} == set(FORMS)


@pytest.mark.fault("X1", "X22")
@pytest.mark.parametrize("filling", range(60, 101, 4))
async def test_torn_echo_is_masked(filling: int, leak_handler: LeakHandler) -> None:
    """aiohttp cuts lines that are too long, and quotes the last part."""
    line = "x" * filling
    scripts = (
        [READ, f"HTTP/1.1 200 OK\r\nX-Long: {line}{KEY}{'y' * 9000}\r\n\r\n".encode()],
        [READ, f"HTTP/1.1 200 {line}{KEY}{'y' * 9000}\r\n\r\n".encode()],
        [
            READ,
            f"HTTP/1.1 200 {KEY[: filling // 4]}".encode(),
            0.1,
            f"{KEY[filling // 4 :]}\0\r\n\r\n".encode(),
        ],
    )
    for script in scripts:
        async with RawServer(script) as server:
            await search(server, "retrieve", ["t"])


# -- objects and frames ----------------------------------------------------------------------------


@pytest.mark.fault("X4")
async def test_objects_that_hold_the_key_do_not_show_it() -> None:
    """``repr``, ``vars`` and copies of client, watcher and key show nothing; pickling fails."""
    async with (
        RawServer(DONE) as server,
        AsyncVideoClient(KEY, base_url=server.base_url) as client,
    ):
        engine = client._engine
        credentials = engine.requester._credentials
        async with client.watch(["t"]) as watcher:
            await anext(watcher)
            api_key = await credentials.api_key()
            for holder in (client, watcher, engine, credentials, engine._transport, api_key):
                assert_keyless(holder, key=KEY)
                assert_no_key(f"{holder!r} {holder!s} {getattr(holder, '__dict__', '')!r}", key=KEY)
                with pytest.raises(TypeError):
                    pickle.dumps(holder)
            for holder in (client, api_key):
                for copied in (copy.copy, copy.deepcopy):
                    with pytest.raises(TypeError):
                        copied(holder)

        assert any(isinstance(value, VideoTask) for _, value in walk(watcher))


@pytest.mark.fault("X2", "X3")
async def test_frames_of_a_cancelled_call_do_not_show_the_key() -> None:
    """A report of local variables shows no key, at whichever await the call is cancelled."""
    reply = [READ, b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n", 1.0, b"\r\n{", 1.0, b'"id": 5']
    frames = 0
    async with RawServer(reply) as server:
        for at in range(1, 100):
            async with client_of(server, retry=ONCE) as client:
                call = CancelledAt(client.retrieve("t"), at=at)
                try:
                    await call
                except asyncio.CancelledError as cancelled:
                    task = asyncio.current_task()
                    assert task is not None
                    task.uncancel()
                    assert_clean_frames(cancelled, key=KEY)
                    frames += sum(1 for _ in locals_of(cancelled, "aiohttp"))
                except EzVideoError:
                    assert not call.was_reached
                    break
    assert at > 5
    assert frames > 50


class BrokenResolver(aiohttp.abc.AbstractResolver):
    """A resolver that raises an exception which is not mapped."""

    async def resolve(self, *_: Any, **__: Any) -> Any:
        raise LookupError("a bug")

    async def close(self) -> None:
        """Close nothing."""


@pytest.mark.fault("X2")
async def test_frames_of_an_unmapped_exception_do_not_show_the_key(
    leak_handler: LeakHandler,
) -> None:
    """An exception of a caller's resolver is raised, by a watcher as a cause; it holds no key."""
    connector = aiohttp.TCPConnector(resolver=BrokenResolver())
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        AsyncVideoClient(KEY, base_url="https://api.test/v1", session=session) as client,
    ):
        for use in (retrieve, wait, watch):
            with pytest.raises((LookupError, EzVideoError)) as raised:
                await use(client, ["t"])
            bug = raised.value.__cause__ if use is watch else raised.value
            assert (type(bug), str(bug)) == (LookupError, "a bug")
            for error in (raised.value, bug):
                assert_clean_frames(error, key=KEY)
            assert list(locals_of(bug, "aiohttp"))


@pytest.mark.fault("X3")
async def test_log_of_a_broken_observer_does_not_show_the_key(leak_handler: LeakHandler) -> None:
    """The logged error has frames of the library, without the key."""

    def broken(event: Any) -> None:
        raise KeyError(event)

    async with RawServer(DONE) as server, client_of(server, observers=[broken]) as client:
        await retrieve(client, ["t"])

    assert leak_handler.counts["ezvideo_async"] == 2


# -- command line ----------------------------------------------------------------------------------


class ServerInThread:
    """An echoing server in a thread; the task id chooses place and form."""

    def __init__(self) -> None:
        self.base_url = ""
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with RawServer(replying(*[self._reply] * 1000)) as server:
            self.base_url = server.base_url
            self._started.set()
            await self._stop.wait()

    @staticmethod
    def _reply(seen: Seen) -> bytes:
        place, _, form = seen.task_id.partition("!")
        return PLACES[place](seen, FORMS[form](seen.headers["authorization"]))


ECHOING = [
    "a failure",
    "urls",
    "all other fields",
    "the status value",
    "a text",
    "a bad status line",
]
ODD_KEY = "a key of two words"
WATCH = ["watch", "-vv", "--interval", "0.2", "--timeout", "3"]
COMMANDS: dict[str, list[str]] = {
    "status": ["status", "-vv", *[f"{place}!{form}" for place in ECHOING for form in FORMS]],
    "status as JSON": ["status", "--json", *[f"{place}!json" for place in ECHOING]],
    "status of a refused key": ["status", "-vv", "an error with 401!json"],
    "watch": [*WATCH, *[f"{place}!url" for place in ECHOING]],
    "watch as JSON": [*WATCH, "--json", *[f"{place}!plain" for place in ECHOING]],
    "watch, redirected": ["watch", "-v", "a redirect!plain"],
}


@pytest.mark.fault("X3", "X22")
def test_output_of_the_command_does_not_show_the_key(tmp_path: Path) -> None:
    """Stdout and stderr do not show it, at any log level, in development and debug mode."""
    ours = {"PYTHONPATH": ROOT, "PYTHONASYNCIODEBUG": "1", "EZVIDEO_API_KEY": KEY}
    odd = {"EZVIDEO_API_KEY": f"{KEY} {KEY}"}
    with ServerInThread() as server, contextlib.ExitStack() as stack:
        ours["EZVIDEO_BASE_URL"] = server.base_url
        running = {}
        for name, arguments in {**COMMANDS, ODD_KEY: ["status", "t"]}.items():
            process = subprocess.Popen(
                [sys.executable, "-X", "dev", "-m", "ezvideo_async.cli", *arguments],
                env=os.environ | ours | (odd if name == ODD_KEY else {}),
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            running[name] = stack.enter_context(process)
            stack.callback(process.kill)
        ended = {name: process.communicate(timeout=50)[0] for name, process in running.items()}

    for name, output in ended.items():
        assert output, name
        assert_no_key(output, key=KEY)
        assert (b"***" in output) != (name == ODD_KEY), name
    assert [file.name for file in tmp_path.iterdir()] == []
