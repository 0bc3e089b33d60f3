"""Making a client: the key, the base url, the options, and what is refused."""

from __future__ import annotations

import copy
import math
import pickle
import string

import pytest
from hypothesis import given, strategies as st

from ezvideo_async import AsyncVideoClient, RequestBudget, RetryPolicy
from ezvideo_async._transport.credentials import ApiKey
from ezvideo_async.errors import ConfigError
from tests.support.key_leaks import assert_clean, our_locals
from tests.support.raw_server import DONE, KEY, RawServer, client_of

LOCAL = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EZVIDEO_API_KEY", raising=False)
    monkeypatch.delenv("EZVIDEO_BASE_URL", raising=False)


@pytest.mark.parametrize("value", [None, ""])
def test_no_key_anywhere_is_a_config_error(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key, or with an empty variable, the error names both ways to give one."""
    if value is not None:
        monkeypatch.setenv("EZVIDEO_API_KEY", value)
    with pytest.raises(ConfigError) as refused:
        AsyncVideoClient()

    assert str(refused.value) == "no API key; pass api_key=... or set EZVIDEO_API_KEY"


async def test_key_and_base_url_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables stand in for arguments left out; they are read when the client is made."""
    async with RawServer(DONE) as server:
        monkeypatch.setenv("EZVIDEO_API_KEY", KEY)
        monkeypatch.setenv("EZVIDEO_BASE_URL", server.base_url)
        client = AsyncVideoClient()
        monkeypatch.setenv("EZVIDEO_API_KEY", "another")
        async with client:
            await client.retrieve("t")

        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A given base url is used, whatever the variable says; without both it is the document's."""
    assert AsyncVideoClient(KEY).base_url == "https://www.ezmodel.cloud/v1"
    monkeypatch.setenv("EZVIDEO_BASE_URL", "https://env.test/v1")

    assert AsyncVideoClient(KEY).base_url == "https://env.test/v1"
    assert AsyncVideoClient(KEY, base_url=LOCAL).base_url == LOCAL


def test_an_empty_argument_is_not_taken_for_one_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty key or url given on purpose is refused, not replaced by the environment's."""
    monkeypatch.setenv("EZVIDEO_API_KEY", KEY)
    with pytest.raises(ConfigError, match="the api_key is empty"):
        AsyncVideoClient("")
    with pytest.raises(ConfigError, match="base_url is empty"):
        AsyncVideoClient(base_url="")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[fe80::1%25x]", "a-b.c1.", "local_host"])
def test_hosts_that_can_be_looked_up_pass(host: str) -> None:
    """Addresses and names, also one with the dot of the root."""
    client = AsyncVideoClient(KEY, base_url=f"http://{host}:80/v1")

    assert client.base_url == f"http://{host}:80/v1"


@pytest.mark.fault("X7")
@pytest.mark.parametrize(
    ("base_url", "trouble"),
    [
        (" ", "is empty"),
        (5, "is empty"),
        ("www.ezmodel.cloud/v1", "does not begin with http:// or https:// and a host"),
        ("ftp://host/v1", "does not begin with http:// or https:// and a host"),
        ("https:///v1", "does not begin with http:// or https:// and a host"),
        ("http://host:0/v1", "does not begin with http:// or https:// and a host"),
        ("http://host:99999/v1", "has a host or port that can't be read"),
        ("http://[::1/v1", "has a host or port that can't be read"),
        ("http://256.1.1.1/v1", "has a host or port that can't be read"),
        ("http://2130706433/v1", "has a host or port that can't be read"),
        ("http://127.0.0.1./v1", "has a host or port that can't be read"),
        ("http://api..host/v1", "has a host or port that can't be read"),
        (f"http://{'a' * 64}.host/v1", "has a host or port that can't be read"),
        ("http://./v1", "has a host or port that can't be read"),
        ("http://user:pw@host/v1", "holds a user or password; pass the key as api_key"),
        ("http://host/v1?key=1", "holds a query or fragment"),
        ("http://host/v1#", "holds a query or fragment"),
        ("http://host/v1/../admin", "holds . or .. in its path"),
        ("http://ho st/v1", "holds characters that no url may hold"),
        ("http://host\r\nX: y/v1", "holds characters that no url may hold"),
        ("http://\u4e2d\u6587/v1", "holds characters that no url may hold"),
    ],
)
def test_a_bad_base_url_is_one_clear_sentence(base_url: str, trouble: str) -> None:
    """Whatever is wrong with a base url is said once, with an example of a good one."""
    with pytest.raises(ConfigError) as refused:
        AsyncVideoClient(KEY, base_url=base_url)

    assert str(refused.value) == f"base_url {trouble}; give one like https://www.ezmodel.cloud/v1"
    assert_clean(refused.value, key=KEY)


@given(
    st.text(string.printable + "\u00e9[]", max_size=30),
    st.sampled_from(["", "http://", "https://h", "http://[::1]:8", "http://h/"]),
)
def test_any_text_is_a_base_url_or_a_config_error(text: str, start: str) -> None:
    """No text given as a base url makes anything but a client or a ``ConfigError``."""
    try:
        client = AsyncVideoClient(KEY, base_url=start + text)
    except ConfigError:
        return
    assert not client.base_url.endswith("/")


@pytest.mark.parametrize("slashes", ["", "/", "//"])
async def test_a_slash_at_the_end_changes_nothing(slashes: str) -> None:
    """The same path is asked for with and without slashes at the base url's end."""
    async with (
        RawServer(DONE) as server,
        client_of(server, base_url=server.base_url + slashes) as client,
    ):
        await client.retrieve("t")

        assert server.requests[0].target == "/v1/videos/t"


@pytest.mark.fault("C24")
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "15", None, True, 1e9])
def test_a_request_timeout_that_is_no_time_is_refused(value: object) -> None:
    """A time limit must be a finite number of seconds above 0."""
    with pytest.raises(ConfigError, match="request_timeout must be"):
        AsyncVideoClient(KEY, base_url=LOCAL, request_timeout=value)  # type: ignore[arg-type]


@pytest.mark.fault("X8")
@pytest.mark.parametrize(
    ("name", "value", "trouble"),
    [
        ("Authorization", "Bearer x", "is set by the client itself"),
        ("host", "x", "is set by the client itself"),
        ("X-A\r\nX-B", "x", "is no header name"),
        ("", "x", "is no header name"),
        (5, "x", "is no header name"),
        ("X-A", "1\r\nAuthorization: x", "must be printable ASCII text"),
        ("X-A", "\x00", "must be printable ASCII text"),
        ("X-A", "\u00e9", "must be printable ASCII text"),
        ("X-A", 5, "must be printable ASCII text"),
        ("X-A", "x\n", "must be printable ASCII text"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused(name: str, value: str, trouble: str) -> None:
    """A header that would inject lines, or replace what is ours, is refused when given."""
    with pytest.raises(ConfigError, match=trouble):
        AsyncVideoClient(KEY, base_url=LOCAL, headers={name: value})


async def test_a_header_given_replaces_ours_of_that_name() -> None:
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
def test_a_key_that_no_server_gave_is_refused_without_showing_it(key: object) -> None:
    """Blanks, line ends and non-ASCII letters in a key are refused; the message shows none."""
    with pytest.raises(ConfigError, match="api_key") as refused:
        AsyncVideoClient(key, base_url=LOCAL)  # type: ignore[arg-type]

    assert key not in [value for _name, value in our_locals(refused.value)]


@pytest.mark.fault("X2")
def test_no_frame_of_ours_holds_the_key_of_a_client_that_was_refused() -> None:
    """Neither a bad key nor a good one beside a bad option is in a local variable."""
    for bad in ({"api_key": f"{KEY} "[:-3] + " x"}, {"api_key": KEY, "request_timeout": -1.0}):
        with pytest.raises(ConfigError) as refused:
            AsyncVideoClient(base_url=LOCAL, **bad)  # type: ignore[arg-type]
        assert_clean(refused.value, key=KEY[:-2])


async def test_blanks_round_a_key_are_cut_off() -> None:
    """A key read from a file, with its line end, is the key."""
    async with RawServer(DONE) as server, client_of(server, api_key=f" {KEY}\n") as client:
        await client.retrieve("t")

        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.fault("X4")
def test_repr_shows_the_server_and_no_key() -> None:
    """Neither the client nor its secret shows the key."""
    client = AsyncVideoClient(KEY, base_url=LOCAL)

    assert repr(client) == f"AsyncVideoClient(base_url='{LOCAL}')"
    assert repr(ApiKey(KEY)) == "ApiKey('***')"
    assert KEY not in repr(vars(client))


@pytest.mark.fault("X4")
@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("made", [ApiKey, lambda key: AsyncVideoClient(key, base_url=LOCAL)])
def test_keys_and_clients_are_not_copied(copied: object, made: object) -> None:
    """Pickling or copying a key or a client is refused."""
    with pytest.raises(TypeError, match="not pickled or copied"):
        copied(made(KEY))  # type: ignore[operator]


def test_equal_keys_are_equal() -> None:
    """Two secrets of one key are one; a secret is not its text."""
    assert len({ApiKey(KEY), ApiKey(KEY), ApiKey("other")}) == 2
    assert ApiKey(KEY) != KEY


def test_a_client_has_its_own_budget_unless_given_one() -> None:
    """No budget is shared by accident."""
    budget = RequestBudget()
    first, second = (AsyncVideoClient(KEY, base_url=LOCAL) for _ in range(2))
    shared = AsyncVideoClient(KEY, base_url=LOCAL, budget=budget, retry=RetryPolicy(attempts=1))

    assert first.budget is not second.budget
    assert shared.budget is budget
