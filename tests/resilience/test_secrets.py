"""
The key through every fault: it is in no error, value, frame, log, warning, signal or output.

Servers also send the key back, as many ways as they can.
"""

from __future__ import annotations

import asyncio
import base64
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
from urllib.parse import quote

import aiohttp
import pytest

from ezvideo_async import AsyncVideoClient, EzVideoError, RetryPolicy, TaskLost, VideoTask
from ezvideo_async._transport.credentials import ApiKey
from tests.resilience.catalog import CATALOG
from tests.support.cancellation import CancelledAt
from tests.support.key_leaks import (
    Listener,
    assert_clean,
    assert_clean_frames,
    assert_keyless,
    assert_untold,
    is_traced,
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


# -- what hears -----------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Hear every record of every logger at DEBUG; it must not have found the key in the end."""
    listener, root = Listener(KEY), logging.getLogger()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    yield listener
    root.removeHandler(listener)
    root.setLevel(level)
    assert listener.found == []


@contextlib.asynccontextmanager
async def talkative_loop() -> AsyncIterator[None]:
    """Let asyncio's debug mode log every callback that the loop runs."""
    loop = asyncio.get_running_loop()
    slow = loop.slow_callback_duration
    loop.set_debug(enabled=True)
    loop.slow_callback_duration = -1.0
    yield
    loop.slow_callback_duration = slow
    loop.set_debug(enabled=False)


class Signals:
    """An observer that searches what it hears."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, signal: Any) -> None:
        self.heard += 1
        assert_keyless(signal, key=KEY)
        error = getattr(signal, "error", None)
        if error is not None:
            assert_clean(error, key=KEY)


# -- what is used ---------------------------------------------------------------------------------


async def given_key() -> str:
    """Give the key, as a callable does."""
    return KEY


async def retrieved(client: AsyncVideoClient, ids: list[str]) -> None:
    """Ask once for each; search the tasks, raise the last error."""
    left: EzVideoError | None = None
    for task_id in ids:
        try:
            validate_task(await client.retrieve(task_id))
        except EzVideoError as error:
            assert_clean(error, key=KEY)
            left = error
    if left is not None:
        raise left


async def waited(client: AsyncVideoClient, ids: list[str]) -> None:
    """Wait for two looks or so."""
    found = await client.wait(ids[0], timeout=7.0, raise_on_failure=False, not_found_grace=0.0)
    validate_task(found)


async def watched(client: AsyncVideoClient, ids: list[str]) -> None:
    """Watch for two polls or so; search events, snapshot, statistics and the watcher itself."""
    async with client.watch(ids, timeout=7.0, not_found_grace=0.0) as watcher:
        try:
            async for event in watcher:
                assert_keyless(event, key=KEY)
                assert_untold(json.dumps(event.to_dict()), key=KEY)
                if isinstance(event, TaskLost):
                    assert_clean(event.error, key=KEY)
        finally:
            assert_keyless(dict(watcher.snapshot()), key=KEY)
            assert_untold(f"{watcher!r} {watcher.stats!r}", key=KEY)
            assert_keyless(watcher, key=KEY)


def validate_task(found: VideoTask) -> None:
    """Search a task, also as it is written and as it came."""
    assert_keyless(found, key=KEY)
    assert_untold(json.dumps([found.to_dict(), dict(found.raw)]), key=KEY)


USES: dict[str, tuple[Any, dict[str, Any], bool]] = {
    # what is done, how the client is made, whether it borrows its session
    "retrieve": (retrieved, {"retry": ONCE}, False),
    "retrieve, borrowed": (retrieved, {"api_key": given_key, "retry": ONCE}, True),
    "wait, borrowed": (waited, {}, True),
    "watch": (watched, {"api_key": given_key}, False),
}


async def search(server: RawServer, use: str, ids: list[str]) -> None:
    """Use a client, and search what comes of it."""
    act, options, is_borrowing = USES[use]
    signals = Signals()
    async with contextlib.AsyncExitStack() as stack:
        if is_borrowing:
            options = options | {"session": await stack.enter_async_context(own_session())}
        options = {"request_timeout": 3.0, "observers": [signals], **options}
        client = await stack.enter_async_context(client_of(server, **options))
        try:
            await act(client, ids)
        except EzVideoError as error:
            assert_clean(error, key=KEY)
        assert signals.heard > 0
        assert client._gate._observers.failures == 0
        assert_keyless(client, key=KEY)


def own_session() -> aiohttp.ClientSession:
    """A session of the caller's."""
    return aiohttp.ClientSession()


# -- every fault ----------------------------------------------------------------------------------


@pytest.mark.fault("X1", "X2", "X3")
@pytest.mark.parametrize("name", CATALOG)
async def test_no_fault_shows_the_key(name: str, listener: Listener) -> None:
    """Whatever goes wrong, and in whatever use: nothing that a caller can get at holds the key."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with RawServer(CATALOG[name].script) as server:
            async with talkative_loop():
                await search(server, "retrieve", ["t"])
            for use in USES.keys() - {"retrieve"}:
                await search(server, use, ["t"])

    assert listener.heard["asyncio"] > 0
    assert listener.heard["ezvideo_async"] > 0
    assert_untold(" ".join(str(each.message) for each in warned), key=KEY)
    assert all(seen.headers["authorization"] == f"Bearer {KEY}" for seen in server.requests)


# -- servers that send it back --------------------------------------------------------------------


def escaped(form: str) -> Callable[[str], str]:
    """Escape every character."""
    return lambda text: "".join(form.format(ord(character)) for character in text)


def in_base_64(before: str) -> Callable[[str], str]:
    """Pack it, after so many other bytes; the pieces of the key then come out differently."""
    return lambda text: base64.b64encode(f"{before}{text}/tail".encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": escaped("\\u{:04x}"),
    "json, capitals": escaped("\\u{:04X}"),
    "url": escaped("%{:02X}"),
    "url-twice": escaped("%25{:02x}"),
    "html": escaped("&#{};"),
    "html-hex": escaped("&#x{:X};"),
    "base64": in_base_64(""),
    "base64-1": in_base_64("x"),
    "base64-2": in_base_64("xy"),
}


ECHO = "echo-echo-echo"
"""Where a body says this, the key is sent back."""
ERROR = {"error": {"message": f"bad {ECHO}!", "code": ECHO, "type": ECHO, "param": ECHO}}
HTML = "Content-Type: text/html"
STATUSES = ("400", "401", "402", "403", "404", "410", "429", "500", "501", "203", "200")


def body(shape: Any, sent: str) -> bytes:
    """Write a body as text, or as JSON in which the echo's own escapes stand as they are."""
    text = shape if isinstance(shape, str) else json.dumps(shape)
    return text.replace(ECHO, sent).encode()


def saying(shape: Any, *headers: str, status: str = "200 O") -> Callable[[Seen, str], bytes]:
    """Answer with an echo in the body."""
    return lambda _, sent: response(body(shape, sent), *headers, status=status)


def telling(**fields: Any) -> Callable[[Seen, str], bytes]:
    """Answer with a task that has an echo in its fields."""
    return lambda seen, sent: response(
        body({"id": seen.task_id, "status": "processing", **fields}, sent)
    )


def heading(*names: str, status: str) -> Callable[[Seen, str], bytes]:
    """Answer with an echo in headers."""
    return lambda seen, sent: response(
        body({"id": seen.task_id, "status": "processing"}, sent),
        *[f"{name}: {sent}" for name in names],
        f"X-{sent.rpartition(' ')[2]}: 1",
        status=status,
    )


def breaking(text: str) -> Callable[[Seen, str], bytes]:
    """Send what is no HTTP."""
    return lambda _, sent: text.replace(ECHO, sent).replace("\n", "\r\n").encode()


PLACES: dict[str, Callable[[Seen, str], bytes]] = {
    **{f"an error with {status}": saying(ERROR, status=f"{status} S") for status in STATUSES},
    "a flat error": saying({"code": ECHO, "msg": f"no {ECHO}"}, status="400 B"),
    "a list of faults": saying(
        {"detail": [{"loc": ["header", ECHO], "msg": ECHO}]}, status="422 U"
    ),
    "a text": saying(f"no {ECHO}", status="400 B"),
    "a text under 200": saying(f"no {ECHO}"),
    "a page": saying(f"<html>{ECHO}</html>", HTML),
    "a firewall's page": saying(f"<html>{ECHO}</html>", HTML, status="403 F"),
    "a broken JSON": saying(f'{{"id": "{ECHO}", "status'),
    "a text that will be cut": saying("x" * 485 + f" {ECHO}", status="500 S"),
    "the reason": lambda _, sent: response(b"", status=f"500 {sent}"),
    "an error's headers": heading("X-Request-Id", "Retry-After", "Date", status="500 S"),
    "a task's headers": heading("X-Oneapi-Request-Id", "Openai-Poll-After-Ms", status="200 O"),
    "a redirect": lambda _, sent: response(
        b"", f"Location: https://{sent}/?{sent}", status="302 F"
    ),
    "the word": telling(status=f"status of {ECHO}"),
    "a failure": telling(status="failed", **ERROR),
    "a failure's text": telling(status="failed", error=f"no {ECHO}"),
    "urls": telling(status="completed", url=f"https://cdn.test/{ECHO}?k={ECHO}", video_url=ECHO),
    "all other fields": telling(
        model=ECHO, size=ECHO, seconds=ECHO, created_at=ECHO, progress=ECHO,
        metadata={ECHO: [ECHO, {"deep": ECHO}]}, **{ECHO: ECHO},
    ),
    "another id": telling(id=ECHO),
    "ever other ids": lambda seen, sent: telling(id=f"{ECHO}{seen.connection}")(seen, sent),
    "a bad status line": breaking(f"HTTP/1.1 2x0 {ECHO}\n\n"),
    "another protocol": breaking(f"SSH-2.0-{ECHO}\n\n"),
    "a header without a colon": breaking(f"HTTP/1.1 200 OK\n{ECHO}\n\n"),
    "a header with NUL": breaking(f"HTTP/1.1 200 OK\nX: \0{ECHO}\0\n\n"),
    "a bad length": breaking(f"HTTP/1.1 200 OK\nContent-Length: {ECHO}\n\n"),
    "a bad chunk": breaking(f"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n{ECHO}\n"),
    "an encoding": breaking(f"HTTP/1.1 200 OK\nContent-Encoding: {ECHO}\nContent-Length: 1\n\n1"),
}  # fmt: skip


@pytest.mark.fault("X1", "X2", "X3", "X22")
@pytest.mark.parametrize("name", PLACES)
async def test_no_echo_shows_the_key(name: str, listener: Listener) -> None:
    """Wherever a server sends the key back, and however it is escaped, it is masked."""

    def echo(seen: Seen) -> bytes:
        return PLACES[name](seen, FORMS[seen.task_id](seen.headers["authorization"]))

    async with RawServer(replying(*[echo] * 100)) as server:
        for use in ("retrieve", "watch"):
            await search(server, use, list(FORMS))

    assert {seen.task_id for seen in server.requests} == set(FORMS)


@pytest.mark.fault("X1", "X22")
@pytest.mark.parametrize("filling", range(60, 101, 4))
async def test_no_torn_echo_shows_the_key(filling: int, listener: Listener) -> None:
    """aiohttp cuts lines that are too long, and quotes the part that came last: pieces of it."""
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


@pytest.mark.fault("X22")
@pytest.mark.parametrize(
    "key",
    [KEY, "k" * 8, 'q"u\\o/t<e&s%25;', "eyJhbGciOi.J9" * 90],
    ids=ascii,
)
def test_masking_leaves_the_rest_as_it_is(key: str) -> None:
    """What stands around an echo stays; a body of JSON stays JSON."""
    secret = ApiKey(key)
    forms = {name: form(key) for name, form in FORMS.items() if "base64" not in name}
    written = [key, json.dumps(key)[1:-1], json.dumps(json.dumps(key))[3:-3], quote(key, safe="")]
    for text in (*forms.values(), *written):
        assert secret.scrub(f"before {text} after") == "before *** after"
    shape = {"a": key, key: [f"\\{key}", f'"{key}"', "\\" * 3 + key], "z": "\\\\ \\u0073 %73"}
    for ascii_only in (True, False):
        masked = json.loads(secret.scrub_body(json.dumps(shape, ensure_ascii=ascii_only).encode()))
        assert masked["z"] == shape["z"]
        assert not is_traced(repr(masked), key) or len(key) < 11


@pytest.mark.fault("X22")
@pytest.mark.parametrize(
    "escape", ["\\u{:04x}", "\\u{:04X}", "%{:02x}", "%25{:02X}", "&#{};", "&#x{:x};"]
)
@pytest.mark.parametrize("place", range(12))
def test_one_escaped_character_hides_no_key(escape: str, place: int) -> None:
    """Most bodies are passed by a quick look at them; none of those holds an echo."""
    echo = f"{KEY[:place]}{escape.format(ord(KEY[place]))}{KEY[place + 1 :]}"

    assert ApiKey(KEY).scrub_body(f'{{"a": "{echo}"}}'.encode()) == b'{"a": "***"}'


@pytest.mark.fault("X22")
@pytest.mark.parametrize("before", ["", "B", "Be", "Bearer ", "key="])
def test_no_base64_hides_a_key(before: str) -> None:
    """Base64 takes three characters at a time: where the key begins, it looks otherwise."""
    packed = base64.b64encode(f"{before}{KEY}".encode())

    masked = ApiKey(KEY).scrub_body(b'{"a": "' + packed + b'"}')
    assert b"***" in masked
    assert packed[8:-8] not in masked


@pytest.mark.fault("X22")
@pytest.mark.parametrize("key", ["\\" * 20, "%" * 20, "%25" * 9])
def test_a_key_of_escapes_is_masked_as_it_is(key: str) -> None:
    """What no server gives is found verbatim, and costs no more than that."""
    secret = ApiKey(key)

    assert secret.scrub(f"a {key} b") == "a *** b"
    assert secret.scrub(f"a {key[:-1]} b") == f"a {key[:-1]} b"
    assert secret.scrub(key[0] * 100_000 + "x").endswith("x")


# -- where else it might be -----------------------------------------------------------------------


@pytest.mark.fault("X4")
async def test_nothing_that_holds_the_key_shows_it() -> None:
    """Client, watcher and key: repr, vars, copies and pickles of them show nothing."""
    async with RawServer(DONE) as server, client_of(server) as client:
        async with client.watch(["t"]) as watcher:
            await anext(watcher)
            secret = await client._credentials.secret()
            for holder in (client, watcher, client._credentials, client._transport, secret):
                assert_keyless(holder, key=KEY)
                assert_untold(f"{holder!r} {holder!s} {getattr(holder, '__dict__', '')!r}", key=KEY)
                with pytest.raises(TypeError):
                    pickle.dumps(holder)
            for holder in (client, secret):
                for copied in (copy.copy, copy.deepcopy):
                    with pytest.raises(TypeError):
                        copied(holder)

        assert any(isinstance(value, VideoTask) for _, value in walk(watcher))


@pytest.mark.fault("X2", "X3")
async def test_no_frame_of_a_cancelled_call_shows_the_key() -> None:
    """Cancelled at any await: whoever reports local variables reports no key."""
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


class Bug(aiohttp.abc.AbstractResolver):
    """A resolver that fails in a way nobody converts."""

    async def resolve(self, *_: Any, **__: Any) -> Any:
        raise LookupError("a bug")

    async def close(self) -> None:
        """Close nothing."""


@pytest.mark.fault("X2")
async def test_no_frame_of_a_bug_shows_the_key(listener: Listener) -> None:
    """An error of somebody else's leaves as it is, from deep below: its frames hold no key."""
    connector = aiohttp.TCPConnector(resolver=Bug())
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        AsyncVideoClient(KEY, base_url="http://api.test/v1", session=session) as client,
    ):
        for use in (retrieved, waited, watched):
            with pytest.raises(LookupError, match="a bug") as raised:
                await use(client, ["t"])
            assert_clean_frames(raised.value, key=KEY)
            # The watcher takes the frames off what it raises to any number of readers.
            assert use is watched or list(locals_of(raised.value, "aiohttp"))


@pytest.mark.fault("X3")
async def test_an_observer_that_raises_gets_no_key_into_the_log(listener: Listener) -> None:
    """The log of its error has our frames on it, and no key in them."""

    def broken(signal: Any) -> None:
        raise KeyError(signal)

    async with RawServer(DONE) as server, client_of(server, observers=[broken]) as client:
        await retrieved(client, ["t"])

    assert listener.heard["ezvideo_async"] == 2


# -- the command ----------------------------------------------------------------------------------


class ServerInThread:
    """A server that echoes, with a loop and a thread of its own; ids choose form and status."""

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


PASSING = ["a failure", "urls", "all other fields", "the word", "a text", "a bad status line"]
WORDS = "a key of two words"
WATCH = ["watch", "-vv", "--interval", "0.2", "--timeout", "3"]
COMMANDS: dict[str, list[str]] = {
    "status": ["status", "-vv", *[f"{place}!{form}" for place in PASSING for form in FORMS]],
    "status as JSON": ["status", "--json", *[f"{place}!json" for place in PASSING]],
    "status of a refused key": ["status", "-vv", "an error with 401!json"],
    "watch": [*WATCH, *[f"{place}!url" for place in PASSING]],
    "watch as JSON": [*WATCH, "--json", *[f"{place}!base64" for place in PASSING]],
    "watch, redirected": ["watch", "-v", "a redirect!plain"],
}


@pytest.mark.fault("X3", "X22")
def test_no_output_of_the_command_shows_the_key(tmp_path: Path) -> None:
    """Neither stream shows it, however much is logged, in development mode and debug mode."""
    ours = {"PYTHONPATH": ROOT, "PYTHONASYNCIODEBUG": "1", "EZVIDEO_API_KEY": KEY}
    odd = {"EZVIDEO_API_KEY": f"{KEY} {KEY}"}
    with ServerInThread() as server, contextlib.ExitStack() as stack:
        ours["EZVIDEO_BASE_URL"] = server.base_url
        running = {}
        for name, arguments in {**COMMANDS, WORDS: ["status", "t"]}.items():
            process = subprocess.Popen(
                [sys.executable, "-X", "dev", "-m", "ezvideo_async.cli", *arguments],
                env=os.environ | ours | (odd if name == WORDS else {}),
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            running[name] = stack.enter_context(process)
            stack.callback(process.kill)
        ended = {name: process.communicate(timeout=50)[0] for name, process in running.items()}

    for name, output in ended.items():
        assert output, name
        assert_untold(output, key=KEY)
        assert (b"***" in output) != (name == WORDS), name
    assert [file.name for file in tmp_path.iterdir()] == []
