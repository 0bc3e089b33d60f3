"""API key: the caller's callable, renewal after a 401, and masking of echoed keys."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, strategies as st

from ezvideo_async import AsyncVideoClient, RequestBudget
from ezvideo_async._transport.credentials import ApiKey
from ezvideo_async.errors import APIStatusError, AuthenticationError, ConfigError
from tests.support.key_leaks import has_key
from tests.support.raw_server import (
    DONE,
    KEY,
    READ,
    STALL,
    KeyProvider,
    RawServer,
    client_of,
    done,
    replying,
    response,
    task,
)


def guarded(good: str) -> Any:
    """Reply with the task if the key is good, else with a 401."""

    def reply(seen: Any) -> bytes:
        if seen.headers["authorization"] == f"Bearer {good}":
            return done(seen)
        return response({"error": {"code": "invalid_api_key"}}, status="401 No")

    return reply


def keys_of(server: RawServer) -> list[str]:
    """The keys that arrived, without their scheme."""
    return [seen.headers["authorization"].removeprefix("Bearer ") for seen in server.requests]


# -- the caller's callable ------------------------------------------------------------------------


async def test_concurrent_first_requests_share_one_call() -> None:
    """A hundred first requests wait for one key; before them the callable is not called."""
    provider = KeyProvider("good")
    async with RawServer(replying(*[guarded("good")] * 200)) as server:
        async with client_of(server, api_key=provider) as client:
            assert provider.calls == 0
            await asyncio.gather(*(client.retrieve("t") for _ in range(100)))

            assert provider.calls == 1
            assert len(server.requests) == client.requests_sent == 100


@pytest.mark.fault("H2")
@pytest.mark.parametrize("keys", [("old", "new"), ("old",)])
async def test_concurrent_401s_share_one_renewal(keys: tuple[str, ...]) -> None:
    """After a hundred 401s the callable is called once; each request sends each key once."""
    provider = KeyProvider(*keys)
    script = [1.0, *replying(*[guarded("new")] * 200)]
    budget = RequestBudget(rate=100_000, burst=1000, max_in_flight=1000)
    async with (
        RawServer(script) as server,
        client_of(server, api_key=provider, budget=budget) as client,
    ):
        outcomes = await asyncio.gather(
            *(client.retrieve("t") for _ in range(100)), return_exceptions=True
        )

        is_refused = {isinstance(outcome, AuthenticationError) for outcome in outcomes}
        assert is_refused == {"new" not in keys}
        assert provider.calls == 2
        assert sorted(keys_of(server)) == sorted(keys * 100)


async def test_second_401_is_raised() -> None:
    """One renewal per request: when the new key is refused too, the error is raised."""
    provider = KeyProvider("old", "new", "newer")
    async with RawServer(replying(*[guarded("good")] * 9)) as server:
        async with client_of(server, api_key=provider) as client:
            with pytest.raises(AuthenticationError):
                await client.retrieve("t")

            assert keys_of(server) == ["old", "new"]


async def test_refused_text_key_is_sent_once() -> None:
    """A text cannot be renewed: its 401 is raised after one request."""
    async with RawServer(replying(guarded("good"))) as server, client_of(server) as client:
        with pytest.raises(AuthenticationError):
            await client.retrieve("t")

        assert keys_of(server) == [KEY]


@pytest.mark.parametrize("key", ["", "a b", None, 5])
async def test_unusable_key_of_the_callable_is_a_config_error(key: object) -> None:
    """The callable's result is validated as a text argument is."""
    async with RawServer([READ, STALL]) as server:
        async with client_of(server, api_key=KeyProvider(key)) as client:
            with pytest.raises(ConfigError, match=r"api_key|API key"):
                await client.retrieve("t")

            assert server.connections == client.budget.in_flight == 0


@pytest.mark.parametrize("method", ["retrieve", "wait"])
async def test_exception_of_the_callable_is_raised_unchanged(method: str) -> None:
    """The next request calls the callable again."""
    provider = KeyProvider(TimeoutError("vault"), "good")
    async with RawServer(replying(guarded("good"))) as server:
        async with client_of(server, api_key=provider) as client:
            with pytest.raises(TimeoutError, match="vault"):
                await getattr(client, method)("t")
            assert client.budget.in_flight == 0

            assert (await client.retrieve("t")).succeeded


async def watch(client: AsyncVideoClient) -> None:
    """Watch one id with ``async for``."""
    async with client.watch(["t"]) as watcher:
        async for _event in watcher:
            pass


class Raising:
    """A callable that raises when called, or when what it returned is awaited."""

    def __init__(self, error: BaseException, *, at_call: bool) -> None:
        self._error = error
        self._at_call = at_call

    def __call__(self) -> Any:
        """Raise, or return something to await."""
        if self._at_call:
            raise self._error
        failed = asyncio.get_running_loop().create_future()
        if isinstance(self._error, asyncio.CancelledError):
            failed.cancel()
        else:
            failed.set_exception(self._error)
        return failed


@pytest.mark.parametrize("method", ["retrieve", "wait", "watch"])
@pytest.mark.parametrize(
    ("error", "at_call"),
    [
        (StopIteration(), True),
        (StopAsyncIteration(), True),
        (StopAsyncIteration(), False),
        (asyncio.CancelledError(), True),
        (asyncio.CancelledError(), False),
    ],
)
async def test_exception_that_ends_loops_is_a_config_error(
    error: BaseException, method: str, *, at_call: bool
) -> None:
    """It would silently end the caller's ``async for``, or a task."""
    provider = Raising(error, at_call=at_call)
    async with AsyncVideoClient(provider, base_url="https://api.example.test/v1") as client:
        with pytest.raises(ConfigError, match=f"callable raised {type(error).__name__}; raise"):
            await (watch(client) if method == "watch" else getattr(client, method)("t"))
        assert client.budget.in_flight == 0


async def test_cancelled_request_cancels_the_callable() -> None:
    """A cancellation of the request is no error of the callable."""
    async with AsyncVideoClient(KeyProvider("k"), base_url="https://api.example.test/v1") as client:
        call = asyncio.create_task(client.retrieve("t"))
        await asyncio.sleep(0.5)
        call.cancel()
        await asyncio.wait([call])

        assert call.cancelled()


@pytest.mark.fault("Q2")
async def test_key_is_renewed_at_most_once_in_a_minute() -> None:
    """A server that refuses every key costs one call of the callable in 60 s."""
    provider = KeyProvider(*(f"key {number}".replace(" ", "-") for number in range(9)))
    async with RawServer(replying(*[guarded("good")] * 99)) as server:
        async with client_of(server, api_key=provider) as client:
            for _second in range(30):
                with pytest.raises(AuthenticationError):
                    await client.retrieve("t")
                await asyncio.sleep(4.0)

        # The first key, and renewals at 1 s and 61 s (each call takes a second).
        assert provider.calls == 3
        assert len(server.requests) == 30 + 2


async def test_cancelled_renewal_is_done_by_the_next_request() -> None:
    """When the request that renews the key is cancelled, the next one renews it."""
    provider = KeyProvider("old", "new")
    async with RawServer([1.0, *replying(*[guarded("new")] * 9)]) as server:
        async with client_of(server, api_key=provider) as client:
            first, second = (asyncio.create_task(client.retrieve("t")) for _ in range(2))
            await asyncio.sleep(2.5)
            first.cancel()
            assert (await second).succeeded
            assert first.cancelled()
            assert client.budget.in_flight == 0


# -- masking --------------------------------------------------------------------------------------

ECHO = {"error": {"code": "x", "message": f"Incorrect API key: {KEY}."}}
ODD_KEY = 'q"u\\o/t<e&s%;'


@pytest.mark.fault("X22")
async def test_echoed_key_is_masked_in_body_and_headers() -> None:
    """An error that quotes the request shows a mask in the key's place."""
    reply = response(ECHO, f"X-Request-Id: {KEY}", status="400 Bad")
    async with RawServer(replying(reply)) as server, client_of(server) as client:
        with pytest.raises(APIStatusError) as raised:
            await client.retrieve("t")

    assert raised.value.message == "Incorrect API key: ***."
    assert raised.value.request_id == "***"


@pytest.mark.fault("X22")
@pytest.mark.parametrize("key", [KEY, "k" * 8, ODD_KEY, "eyJhbGciOi.J9" * 90], ids=ascii)
def test_masking_changes_nothing_else(key: str) -> None:
    """Verbatim, JSON-escaped or percent-encoded: the key is masked, the rest stays."""
    api_key = ApiKey(key)
    escapes = ("\\u{:04x}", "\\u{:04X}", "%{:02x}", "%{:02X}")
    forms = ["".join(form.format(ord(each)) for each in key) for form in escapes]
    forms += [key, json.dumps(key)[1:-1], quote(key, safe=""), key.replace("/", "\\/")]
    for text in forms:
        assert api_key.mask(f"before {text} after") == "before *** after"
    shape = {"a": key, key: [f"\\{key}", f'"{key}"', "\\" * 3 + key], "z": "\\\\ \\u0073 %73"}
    body = api_key.mask_body(json.dumps(shape).encode(), task_id="t")
    masked = json.loads(body)
    assert masked["z"] == shape["z"]
    assert masked["***"] == ["\\***", '"***"', "\\\\\\***"]


@pytest.mark.fault("X22")
@pytest.mark.parametrize("escape", ["\\u{:04x}", "\\u{:04X}", "%{:02x}", "%{:02X}"])
@pytest.mark.parametrize("place", [0, 1, 11, len(KEY) - 1])
def test_key_with_one_escaped_character_is_masked(escape: str, place: int) -> None:
    """A body without the key's text is searched for escapes."""
    echo = f"{KEY[:place]}{escape.format(ord(KEY[place]))}{KEY[place + 1 :]}"

    assert ApiKey(KEY).mask_body(f'{{"a": "{echo}"}}'.encode(), task_id="t") == b'{"a": "***"}'


@pytest.mark.fault("X22")
def test_escaped_backslash_starts_no_escape() -> None:
    """In JSON ``\\\\u0073`` is a backslash and a text; the body stays JSON."""
    shape = {"a": f"\\u0073{KEY[1:]} {KEY}"}

    masked = json.loads(ApiKey(KEY).mask_body(json.dumps(shape).encode(), task_id="t"))
    assert masked == {"a": f"\\u0073{KEY[1:]} ***"}


@pytest.mark.fault("X22", "X27")
@pytest.mark.parametrize("key", ["\\" * 20, "%" * 20, "%25" * 9])
def test_key_of_escape_characters_is_masked_in_linear_time(key: str) -> None:
    """Its characters can be read in many ways, but the search does not try them all."""
    api_key = ApiKey(key)

    assert api_key.mask(f"a {key} b") == "a *** b"
    assert api_key.mask(f"a {key[:-1]} b") == f"a {key[:-1]} b"
    assert api_key.mask(key[0] * 100_000 + "x").endswith("x")


@pytest.mark.fault("X22", "X27")
def test_key_of_32000_backslashes_costs_nothing_special() -> None:
    """It is no pattern to compile, and a cut text is not searched for longer pieces."""
    key = "\\" * 32_000
    api_key = ApiKey(key)

    assert api_key.mask(f"a%{key * 2}b") == "a%***b"
    assert api_key.mask_torn("\\" * 100) == "***"
    assert not hasattr(api_key, "__dict__")


_NEIGHBOURS = st.lists(st.sampled_from(["a", "%", "=", "\\\\", '\\"', "\\n", "\r", "\n", "é"]))


@pytest.mark.fault("X22")
@given(st.data(), st.sampled_from([KEY, "a/b\\c%dEf", "k=\\\\x/=1="]), _NEIGHBOURS, _NEIGHBOURS)
def test_key_is_masked_however_its_characters_are_escaped(
    data: st.DataObject, key: str, before: list[str], after: list[str]
) -> None:
    """Each character in another way, beside texts that look like escapes."""
    forms = ("{}", "\\u{:04x}", "\\u{:04X}", "%{:02x}", "%{:02X}")
    echo = "".join(
        "\\\\"
        if each == "\\" and form == "{}"
        else form.format(each if form == "{}" else ord(each))
        for each in key
        for form in [data.draw(st.sampled_from(forms))]
    )
    start, end = "".join(before), "".join(after)

    assert ApiKey(key).mask(f"{start}{echo}{end}") == f"{start}***{end}"


def test_text_that_starts_like_the_key_is_not_masked() -> None:
    """Only the whole key counts."""
    text = f'{{"a": "{KEY[:-1]}X \\u0073{KEY[1:-1]}"}}'

    assert ApiKey(KEY).mask(text) == text
    assert ApiKey(KEY).mask_body(text.encode(), task_id="t") == text.encode()


@pytest.mark.parametrize("key", ["e", "id", "t", "status"])
async def test_short_key_is_not_masked(key: str) -> None:
    """Masking a made-up key of a few letters would garble every response."""
    async with RawServer(replying(done)) as server, client_of(server, api_key=key) as client:
        found = await client.retrieve("status")

        assert found.raw == task("status")


@pytest.mark.parametrize(
    ("key", "task_id"),
    [
        (KEY, KEY),
        (KEY, f"vid-{KEY}"),
        (ODD_KEY, ODD_KEY),
        (KEY, f"%73{KEY[1:]}"),
        (f"sk-vid_0123{KEY}", "vid_0123"),
    ],
)
async def test_task_id_is_compared_unmasked(key: str, task_id: str) -> None:
    """A task whose id contains the key, or is contained in it, costs one request."""
    async with RawServer(DONE) as server, client_of(server, api_key=key) as client:
        found = await client.retrieve(task_id)

        assert (found.id, found.raw["id"]) == (task_id, task_id)
        assert len(server.requests) == 1


@pytest.mark.fault("X1")
def test_torn_key_is_masked() -> None:
    """A text that was cut within the key shows less than 8 characters of it."""
    for length in range(8, len(KEY)):
        for piece in (KEY[:length], KEY[-length:]):
            assert not has_key(ApiKey(KEY).mask_torn(f"a {piece} b"), KEY)
