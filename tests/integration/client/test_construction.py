"""Construction of a client: the API key, the base url, the options, and what is refused."""

from __future__ import annotations

import copy
import pickle
import string
from typing import Any

import aiohttp
import pytest
from hypothesis import given, strategies as st

from ezvideo_async import AsyncVideoClient, RequestBudget, RetryPolicy
from ezvideo_async._transport.credentials import ApiKey
from ezvideo_async.errors import ConfigError
from tests.support.key_leaks import assert_clean, our_locals
from tests.support.raw_server import DONE, KEY, RawServer, client_of, replying, response, task

LOCAL = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EZVIDEO_API_KEY", raising=False)
    monkeypatch.delenv("EZVIDEO_BASE_URL", raising=False)


@pytest.mark.parametrize("value", [None, ""])
def test_missing_api_key_is_a_config_error(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key, or with an empty variable, the error names both ways to pass one."""
    if value is not None:
        monkeypatch.setenv("EZVIDEO_API_KEY", value)
    with pytest.raises(ConfigError) as refused:
        AsyncVideoClient()

    assert str(refused.value) == "no API key; pass api_key=... or set EZVIDEO_API_KEY"


async def test_environment_is_read_when_the_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variables are used for arguments left out."""
    async with RawServer(DONE) as server:
        monkeypatch.setenv("EZVIDEO_API_KEY", KEY)
        monkeypatch.setenv("EZVIDEO_BASE_URL", server.base_url)
        client = AsyncVideoClient()
        monkeypatch.setenv("EZVIDEO_API_KEY", "another")
        async with client:
            await client.retrieve("t")

        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_arguments_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without both, the base url is that of the API document."""
    assert AsyncVideoClient(KEY).base_url == "https://www.ezmodel.cloud/v1"
    monkeypatch.setenv("EZVIDEO_BASE_URL", "https://env.test/v1")

    assert AsyncVideoClient(KEY).base_url == "https://env.test/v1"
    assert AsyncVideoClient(KEY, base_url=LOCAL).base_url == LOCAL


def test_empty_argument_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment does not replace an empty key or url that was passed."""
    monkeypatch.setenv("EZVIDEO_API_KEY", KEY)
    with pytest.raises(ConfigError, match="the api_key is empty"):
        AsyncVideoClient("")
    with pytest.raises(ConfigError, match="base_url is empty"):
        AsyncVideoClient(base_url="")


@pytest.mark.fault("X7")
@given(
    st.text(string.printable + "\u00e9[]", max_size=30),
    st.sampled_from(["", "http://", "https://h", "http://[::1]:8", "http://h/"]),
)
def test_base_url_is_any_valid_url_or_a_config_error(text: str, start: str) -> None:
    """No text leads to another exception."""
    try:
        client = AsyncVideoClient(KEY, base_url=start + text)
    except ConfigError as refused:
        assert_clean(refused, key=KEY)
    else:
        assert not client.base_url.endswith("/")


@pytest.mark.fault("C24", "X8")
@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ({"request_timeout": 0.0}, "request_timeout must be"),
        ({"request_timeout": None}, "request_timeout must be"),
        ({"headers": {"Authorization": "x"}}, "is set by the client itself"),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "must be printable ASCII text"),
        ({"headers": [("X-A", "1")]}, "headers must be a mapping from names to texts, got list"),
        ({"headers": ()}, "headers must be a mapping from names to texts, got tuple"),
        ({"query": "a=b"}, "query must be a mapping from names to texts, got str"),
        ({"status_path": "/videos"}, "status_path must begin with / and contain"),
        ({"max_response_bytes": 0}, "max_response_bytes must be a whole number of bytes"),
        ({"allow_insecure": "no"}, "allow_insecure must be a bool, got str"),
        ({"session": 5}, "session must be a ClientSession, got int"),
        ({"session": aiohttp.ClientSession}, "session must be a ClientSession, got the class"),
        ({"observers": print}, "observers must be a sequence of callables, got builtin_function"),
        ({"budget": 5}, "budget must be a RequestBudget, got int"),
        ({"retry": RetryPolicy}, "retry must be a RetryPolicy, got the class RetryPolicy"),
    ],
)
def test_invalid_option_is_refused_at_once(option: Any, problem: str) -> None:
    """Also an object of another class."""
    with pytest.raises(ConfigError, match=problem):
        AsyncVideoClient(KEY, base_url=LOCAL, **option)


@pytest.mark.fault("X7")
def test_plain_http_to_another_machine_needs_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """``allow_insecure=True``; a url of the environment is no exception."""
    lan = "http://gateway.example.test:3000/v1"
    monkeypatch.setenv("EZVIDEO_BASE_URL", lan)
    with pytest.raises(ConfigError, match="pass allow_insecure=True"):
        AsyncVideoClient(KEY)

    assert AsyncVideoClient(KEY, allow_insecure=True).base_url == lan


async def test_status_path_and_query_are_sent() -> None:
    """The query is percent-encoded, and the id stands in the place of the path."""
    options = {"status_path": "/video/generations/{task_id}", "query": {"api-version": "1 a"}}
    reply = response(task("t/1"))
    async with RawServer(replying(reply)) as server, client_of(server, **options) as client:
        await client.retrieve("t/1")

        assert server.requests[0].target == "/v1/video/generations/t%2F1?api-version=1%20a"


async def test_header_of_the_caller_replaces_ours() -> None:
    """Names are compared without regard to case, so that no header is sent twice."""
    headers = {"user-agent": "mine", "X-Team": "video"}
    async with RawServer(DONE) as server, client_of(server, headers=headers) as client:
        await client.retrieve("t")
        lines = [line.lower() for line in server.requests[0].lines]

    assert [line for line in lines if line.startswith("user-agent")] == ["user-agent: mine"]
    assert "x-team: video" in lines
    assert "accept-encoding: identity" in lines
    assert "cache-control: no-cache" in lines


@pytest.mark.fault("X8")
@pytest.mark.parametrize(
    "key", ["", "  ", "a b", "a\r\nX: y", "a\nb", "a\x00b", "\u00e9", "a\u2028b", 5, b"k", object()]
)
def test_invalid_api_key_is_refused_without_showing_it(key: Any) -> None:
    """Blanks, line ends and non-ASCII characters are refused."""
    with pytest.raises(ConfigError, match="api_key") as refused:
        AsyncVideoClient(key, base_url=LOCAL)

    assert key not in [value for _name, value in our_locals(refused.value)]


@pytest.mark.fault("X2")
def test_no_frame_of_a_refused_client_has_the_key() -> None:
    """Neither a bad key nor a good one beside a bad option is in a local variable."""
    for bad in ({"api_key": f"{KEY[:-3]} x"}, {"api_key": KEY, "request_timeout": -1.0}):
        with pytest.raises(ConfigError) as refused:
            AsyncVideoClient(base_url=LOCAL, **bad)  # type: ignore[arg-type]
        assert_clean(refused.value, key=KEY[:-3])


async def test_blanks_around_a_key_are_removed() -> None:
    """A key that was read from a file with its line end is sent without it."""
    async with RawServer(DONE) as server, client_of(server, api_key=f" {KEY}\n") as client:
        await client.retrieve("t")

        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.fault("X4")
@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("make", [ApiKey, lambda key: AsyncVideoClient(key, base_url=LOCAL)])
def test_keys_and_clients_are_not_shown_or_copied(copied: Any, make: Any) -> None:
    """Their reprs have no key; pickling and copying are refused."""
    made = make(KEY)
    with pytest.raises(TypeError, match="pickled or copied"):
        copied(made)

    assert repr(made) in {"ApiKey('***')", f"AsyncVideoClient(base_url='{LOCAL}')"}


def test_equal_keys_are_equal() -> None:
    """A key does not equal its text."""
    assert len({ApiKey(KEY), ApiKey(KEY), ApiKey("other")}) == 2
    assert ApiKey(KEY) != KEY


def test_budget_is_shared_only_on_request() -> None:
    """A client without *budget* has its own."""
    budget = RequestBudget()
    first, second = (AsyncVideoClient(KEY, base_url=LOCAL) for _ in range(2))

    assert first.budget is not second.budget
    assert AsyncVideoClient(KEY, base_url=LOCAL, budget=budget).budget is budget
