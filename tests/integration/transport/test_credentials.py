"""Keys that change, are refused, or are echoed; and where no key may be found."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ezvideo_async import AsyncVideoClient, RequestBudget, RetryPolicy
from ezvideo_async._transport.credentials import ApiKey
from ezvideo_async.errors import APIStatusError, AuthenticationError, ConfigError, EzVideoError
from ezvideo_async.testing import FakeVideoServer
from tests.support.key_leaks import assert_clean
from tests.support.raw_server import (
    CLOSE,
    KEY,
    READ,
    RESET,
    STALL,
    RawServer,
    client_of,
    done,
    now,
    replying,
    response,
    task,
)

ONCE = RetryPolicy(attempts=1)


class Provider:
    """Gives keys one after another, the last for ever, and counts how often it was asked."""

    def __init__(self, *keys: Any) -> None:
        self.keys = list(keys)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        await asyncio.sleep(1.0)
        key = self.keys.pop(0) if len(self.keys) > 1 else self.keys[0]
        if isinstance(key, BaseException):
            raise key
        return key


def guarded(good: str) -> Any:
    """Answer with the task when the key is good, else with 401."""

    def reply(seen: Any) -> bytes:
        if seen.headers["authorization"] == f"Bearer {good}":
            return done(seen)
        return response({"error": {"code": "invalid_api_key"}}, status="401 No")

    return reply


def keys_of(server: RawServer) -> list[str]:
    """The keys that came, without their scheme."""
    return [seen.headers["authorization"].removeprefix("Bearer ") for seen in server.requests]


async def test_a_provider_is_asked_at_the_first_request_and_once() -> None:
    """A hundred first calls wait for one key."""
    provider = Provider("good")
    async with RawServer(replying(*[guarded("good")] * 200)) as server:
        async with client_of(server, api_key=provider) as client:
            assert provider.asked == 0
            await asyncio.gather(*(client.retrieve("t") for _ in range(100)))

            assert provider.asked == 1
            assert len(server.requests) == client.requests_sent == 100


@pytest.mark.fault("H2")
async def test_a_hundred_refused_calls_ask_for_one_new_key() -> None:
    """After a 401 one call renews the key for all; each asks again with the new one."""
    provider = Provider("old", "new")
    script = [1.0, *replying(*[guarded("new")] * 200)]
    budget = RequestBudget(rate=100_000, burst=1000, max_in_flight=1000)
    async with (
        RawServer(script) as server,
        client_of(server, api_key=provider, budget=budget) as client,
    ):
        found = await asyncio.gather(*(client.retrieve("t") for _ in range(100)))

        assert all(each.succeeded for each in found)
        assert provider.asked == 2
        assert keys_of(server).count("old") == 100
        assert keys_of(server).count("new") == 100
        assert client.requests_sent == 200


@pytest.mark.fault("H2")
async def test_the_same_key_again_is_not_sent_again() -> None:
    """A provider that has no other key is asked once for all; no key is refused twice."""
    provider = Provider("old")
    script = [1.0, *replying(*[guarded("new")] * 200)]
    budget = RequestBudget(rate=100_000, burst=1000, max_in_flight=1000)
    async with (
        RawServer(script) as server,
        client_of(server, api_key=provider, budget=budget) as client,
    ):
        ended = await asyncio.gather(
            *(client.retrieve("t") for _ in range(100)), return_exceptions=True
        )

        assert {type(each) for each in ended} == {AuthenticationError}
        assert provider.asked == 2
        assert len(server.requests) == 100


async def test_a_new_key_that_is_refused_too_is_told() -> None:
    """One renewal per request: the second 401 is the caller's."""
    provider = Provider("old", "new", "newer")
    async with RawServer(replying(*[guarded("good")] * 9)) as server:
        async with client_of(server, api_key=provider) as client:
            with pytest.raises(AuthenticationError):
                await client.retrieve("t")

            assert keys_of(server) == ["old", "new"]


async def test_a_fixed_key_is_not_sent_twice() -> None:
    """A text has no successor: a 401 is raised after one request."""
    async with RawServer(replying(guarded("good"))) as server, client_of(server) as client:
        with pytest.raises(AuthenticationError):
            await client.retrieve("t")

        assert keys_of(server) == [KEY]


@pytest.mark.parametrize("key", ["", "a b", None, 5])
async def test_a_provider_without_a_usable_key_is_a_config_error(key: object) -> None:
    """What a provider gives is checked as if it had been given at once."""
    async with RawServer([READ, STALL]) as server:
        async with client_of(server, api_key=Provider(key)) as client:
            with pytest.raises(ConfigError, match=r"api_key|API key"):
                await client.retrieve("t")

            assert server.connections == client.budget.in_flight == 0


@pytest.mark.parametrize("how", ["retrieve", "wait"])
async def test_a_providers_own_error_leaves_unchanged(how: str) -> None:
    """What the caller's callable raises is the caller's; the next call asks it again."""
    provider = Provider(TimeoutError("vault"), "good")
    async with RawServer(replying(guarded("good"))) as server:
        async with client_of(server, api_key=provider) as client:
            with pytest.raises(TimeoutError, match="vault"):
                await getattr(client, how)("t")
            assert client.budget.in_flight == 0

            assert (await client.retrieve("t")).succeeded


async def test_a_cancelled_renewal_is_taken_over() -> None:
    """When the call that renews the key is cancelled, the next one renews it."""
    provider = Provider("old", "new")
    async with RawServer([1.0, *replying(*[guarded("new")] * 9)]) as server:
        async with client_of(server, api_key=provider) as client:
            first, second = (asyncio.create_task(client.retrieve("t")) for _ in range(2))
            await asyncio.sleep(2.5)
            first.cancel()
            assert (await second).succeeded
            assert first.cancelled()
            assert client.budget.in_flight == 0


# -- where no key may be found --------------------------------------------------------------------

ECHO = {"error": {"code": "x", "message": f"Incorrect API key: {KEY}."}}


@pytest.mark.fault("X22")
@pytest.mark.parametrize("status", ["400 Bad", "401 No", "500 Oops", "200 OK"])
@pytest.mark.parametrize("form", ["json", "text"])
async def test_a_key_echoed_in_a_body_is_masked(status: str, form: str) -> None:
    """A server that quotes the key gets it masked in every text of the error."""
    body: Any = ECHO if form == "json" else f"bad key {KEY}!".encode()
    reply = response(body, status=status)
    async with RawServer(replying(reply)) as server, client_of(server, retry=ONCE) as client:
        with pytest.raises(EzVideoError) as raised:
            await client.retrieve("t")

        assert_clean(raised.value, key=KEY)
        assert "***" in f"{raised.value}{vars(raised.value)}"


@pytest.mark.fault("X22")
async def test_a_key_echoed_in_headers_is_masked() -> None:
    """Request ids and redirects quote requests too."""
    echoing = [f"X-Request-Id: {KEY}", f"Location: https://{KEY}.test/"]
    script = replying(
        response(b"", *echoing, status="302 Found"),
        response(b"{}", *echoing, status="400 Bad"),
        done,
    )
    async with RawServer(script) as server, client_of(server) as client:
        for _reply in range(2):
            with pytest.raises(EzVideoError) as raised:
                await client.retrieve("t")
            assert_clean(raised.value, key=KEY)
            assert raised.value.request_id == "***"  # type: ignore[attr-defined]


@pytest.mark.fault("X22")
@pytest.mark.parametrize("filling", range(116, 146, 3))
async def test_a_key_echoed_in_broken_http_is_masked(filling: int) -> None:
    """aiohttp quotes the broken bytes: the key in them is masked, also where the text is cut."""
    line = b"HTTP/1.1 " + b"x" * filling + KEY.encode() + b"\r\n\r\n"
    async with RawServer([READ, line]) as server, client_of(server, retry=ONCE) as client:
        with pytest.raises(EzVideoError) as raised:
            await client.retrieve("t")

        assert_clean(raised.value, key=KEY[:6])


@pytest.mark.parametrize("key", ["e", "id", "t", "status"])
async def test_a_short_key_of_a_local_server_breaks_no_answer(key: str) -> None:
    """A made-up key of a few letters is not masked: it would garble every answer."""
    async with RawServer(replying(done)) as server, client_of(server, api_key=key) as client:
        found = await client.retrieve("status")

        assert found.succeeded
        assert found.raw == task("status")


def test_what_begins_like_a_key_is_left_alone() -> None:
    """A body is searched for the key's start first; that alone is no echo."""
    key = "sk-0123456789abcdef"
    secret = ApiKey(key)
    likeness, echo = b'{"a": "sk-0123456789ABCDEF"}', b'{"a": "sk-0123456789ABCDEF sk-\\u0030%s"}'

    assert secret.scrub_body(likeness) == likeness
    assert secret.scrub(likeness.decode()) == likeness.decode()
    assert secret.scrub_body(echo % key[4:].encode()) == echo.replace(b"sk-\\u0030%s", b"***")


HTML = "Content-Type: text/html"
FAILING: dict[str, list[Any]] = {
    "close": [READ, CLOSE],
    "reset": [READ, RESET],
    "protocol": [READ, b"HTTP/1.1 2x0 OK\r\n\r\n"],
    "many headers": [READ, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n"],
    "payload": [READ, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"],
    "timeout": [READ, STALL],
    "too large": [READ, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (2 << 20)],
    "redirect": [READ, response(b"", "Location: /x", status="302 Found")],
    "html": [READ, response(b"<html>", HTML)],
    "mismatch": [READ, lambda seen: response(task(f"x{seen.connection}"))],
    **{code: [READ, response(ECHO, status=f"{code} No")] for code in ("400", "401", "403", "404")},
    **{code: [READ, response(ECHO, status=f"{code} No")] for code in ("429", "500", "501", "503")},
}


@pytest.mark.fault("X1", "X2", "X3")
@pytest.mark.parametrize("how", ["retrieve", "wait"])
@pytest.mark.parametrize("trouble", FAILING)
async def test_no_error_and_no_log_shows_the_key(
    trouble: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Key and objects of aiohttp are in no text, chain, attribute or frame of ours."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(enabled=True)
    async with RawServer(FAILING[trouble]) as server:
        async with client_of(server, request_timeout=3.0) as client:
            waits = {"timeout": 20.0} if how == "wait" else {}
            with pytest.raises(EzVideoError) as raised:
                await getattr(client, how)("t", **waits)
            assert_clean(raised.value, key=KEY)
            last = getattr(raised.value, "last_error", None)
            if last is not None:
                assert_clean(last, key=KEY)
            assert KEY not in repr(client)
    asyncio.get_running_loop().set_debug(enabled=False)
    assert KEY not in caplog.text
    assert not any(KEY in repr(vars(record)) for record in caplog.records)


@pytest.mark.fault("X1", "X2")
async def test_no_error_of_the_connection_shows_the_key() -> None:
    """As above, where no request was sent: a refused connection, an unknown host."""
    async with RawServer([READ]) as server:
        base_url = server.base_url
    for url in (base_url, "http://no-such-host.invalid/v1"):
        async with AsyncVideoClient(KEY, base_url=url, retry=ONCE) as client:
            with pytest.raises(EzVideoError) as raised:
                await client.retrieve("t")
            assert_clean(raised.value, key=KEY)


async def test_the_fake_server_knows_the_key() -> None:
    """The key arrives as a bearer token, once per request."""
    async with FakeVideoServer(api_key=KEY) as server, client_of(server) as client:
        await client.retrieve(server.add_task(duration=0.0))

        assert server.requests()[0].authorization == "correct"
        assert now() == 0.0


async def test_a_fork_of_the_error_needs_no_client() -> None:
    """An error outlives its client: nothing in it is closed with it."""
    async with RawServer(replying(response(ECHO, status="400 Bad"))) as server:
        async with client_of(server) as client:
            with pytest.raises(APIStatusError) as raised:
                await client.retrieve("t")

    assert raised.value.message == "Incorrect API key: ***."


async def test_a_provider_cannot_end_a_loop_without_a_word() -> None:
    """StopAsyncIteration from a key provider is an error, not the end of the caller's loop."""

    async def exhausted() -> str:
        raise StopAsyncIteration

    async with AsyncVideoClient(exhausted, base_url="https://api.example.test/v1") as client:
        with pytest.raises(ConfigError, match="StopAsyncIteration"):
            await client.retrieve("t")
