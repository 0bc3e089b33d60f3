"""HTTP proxies: urls, logins, tunnels, plain http, and the variables of the environment."""

from __future__ import annotations

import base64
import copy
from typing import Any

import aiohttp
import pytest

from ezvideo_async import AsyncVideoClient, EzVideoError, RetryPolicy
from ezvideo_async._transport.proxy import Proxy
from ezvideo_async.errors import ConfigError
from tests.support.key_leaks import assert_clean
from tests.support.raw_server import DONE, KEY, RawServer, client_of, replying, response

API = "http://127.0.0.1:9/v1"  # nothing listens there
LOGIN = "user:p%40ss-0123456789"
ONCE = RetryPolicy(attempts=1)
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

over_both_backends = pytest.mark.parametrize("session", ["own", "borrowed"])


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("url", "shown", "login"),
    [
        ("http://proxy.test:3128", "http://proxy.test:3128", None),
        ("https://proxy.test/", "https://proxy.test/", None),
        ("http://[::1]:80", "http://[::1]", None),
        (f"http://{LOGIN}@proxy.test:1", "http://proxy.test:1", "user:p@ss-0123456789"),
        ("http://user@proxy.test", "http://proxy.test", "user:"),
    ],
)
def test_login_is_cut_from_the_url(url: str, shown: str, login: Any) -> None:
    """``repr`` and url have none, and a proxy is not copied."""
    proxy = Proxy(url)

    assert repr(proxy) == f"Proxy('{shown}')"
    sent = proxy.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
    assert (base64.b64decode(sent).decode() or None) == login
    with pytest.raises(TypeError, match="not pickled or copied"):
        copy.copy(proxy)


@pytest.mark.parametrize(
    "url",
    [
        5,
        "",
        "proxy.test:3128",
        "socks5://pw-0123456789@proxy.test:1080",
        "http://",
        "http://pw-0123456789@",
        "http://proxy.test:0",
        "http://proxy.test:99999",
        "http://[::1",
        "http://proxy.test/pw-0123456789",
        "http://proxy.test?pw-0123456789",
        "http://proxy.test#pw-0123456789",
        "http://a b:pw-0123456789@proxy.test",
        "http://a%3Ab:pw-0123456789@proxy.test",
        "http://pröxy.test",
    ],
)
def test_invalid_proxy_is_refused_without_showing_it(url: Any) -> None:
    """The message shows a valid one, and no frame has the login."""
    with pytest.raises(ConfigError, match=r"^proxy is not the url of an HTTP proxy; ") as refused:
        AsyncVideoClient(KEY, base_url=API, proxy=url)

    assert_clean(refused.value, key="pw-0123456789")


@over_both_backends
async def test_plain_http_is_forwarded_with_the_login(session: str) -> None:
    """The proxy gets the whole url; the API key, too, as plain http has no tunnel."""
    async with RawServer(DONE) as proxy, aiohttp.ClientSession() as borrowed:
        options: dict[str, Any] = {"session": borrowed} if session == "borrowed" else {}
        url = f"http://{LOGIN}@127.0.0.1:{proxy.port}"
        async with client_of(proxy, base_url=API, proxy=url, **options) as client:
            await client.retrieve("t")
            await client.retrieve("t")

            assert LOGIN not in repr(client)
        encoded = base64.b64encode(b"user:p@ss-0123456789").decode()
        seen = proxy.requests[1]
        assert seen.target == f"{API}/videos/t"
        assert seen.headers["proxy-authorization"] == f"Basic {encoded}"
        assert (seen.headers["host"], seen.headers["authorization"]) == (
            "127.0.0.1:9",
            f"Bearer {KEY}",
        )
        assert proxy.connections == 1


@pytest.mark.fault("X5")
@over_both_backends
async def test_tunnel_shows_the_proxy_no_api_key(session: str) -> None:
    """CONNECT has the proxy's login only; a refusal shows neither it nor aiohttp's own words."""
    refusal = response(b"", status="407 Login")
    async with RawServer(replying(refusal)) as proxy, aiohttp.ClientSession() as borrowed:
        options: dict[str, Any] = {"session": borrowed} if session == "borrowed" else {}
        url = f"http://{LOGIN}@127.0.0.1:{proxy.port}"
        base_url = "https://api.test/v1"
        async with client_of(proxy, base_url=base_url, proxy=url, **options) as client:
            with pytest.raises(EzVideoError) as raised:
                await client.retrieve("t")

        assert proxy.requests[0].target == "api.test:443"
        assert "authorization" not in proxy.requests[0].headers
        assert "proxy-authorization" in proxy.requests[0].headers
        assert_clean(raised.value, key="p@ss-0123456789")
        assert_clean(raised.value, key="p%40ss-0123456789")
        assert str(raised.value) == "proxy failed (api.test): 407 Login; check the proxy"


@pytest.mark.fault("X17")
@pytest.mark.parametrize("prefix", ["http://", ""])
async def test_environment_is_used_on_request(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``proxy="environment"`` reads the variables when the client is made; a host alone is one."""
    async with RawServer(DONE) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"{prefix}127.0.0.1:{proxy.port}")
        client = client_of(proxy, base_url=API, proxy="environment")
        monkeypatch.delenv("HTTP_PROXY")
        async with client:
            await client.retrieve("t")

        assert proxy.requests[0].target == f"{API}/videos/t"


@pytest.mark.parametrize(
    ("base_url", "no_proxy"),
    [
        ("http://127.0.0.1:{port}/v1", "127.0.0.1"),
        ("http://127.0.0.1:{port}/v1", "127.0.0.1:{port}"),
        ("http://127.0.0.1:{port}/v1", "*"),
        ("http://localhost:{port}/v1", "example.test,localhost"),
    ],
)
async def test_no_proxy_connects_directly(
    base_url: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``NO_PROXY`` names hosts, with or without a port."""
    async with RawServer(DONE) as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", no_proxy.format(port=server.port))
        url = base_url.format(port=server.port)
        async with client_of(server, base_url=url, proxy="environment") as client:
            await client.retrieve("t")

        assert server.requests[0].target == "/v1/videos/t"


def test_each_scheme_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """``HTTPS_PROXY`` does not count for plain http; without variables there is no proxy."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.test:1080")
    AsyncVideoClient(KEY, base_url=API, proxy="environment")
    with pytest.raises(ConfigError, match="proxy is not the url of an HTTP proxy"):
        AsyncVideoClient(KEY, base_url="https://api.test/v1", proxy="environment")


def test_plain_http_by_another_machine_is_refused() -> None:
    """It would read the API key, even if the API is on this one."""
    with pytest.raises(ConfigError, match="pass allow_insecure=True"):
        AsyncVideoClient(KEY, base_url=API, proxy="http://proxy.test:3128")
