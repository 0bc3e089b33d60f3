"""HTTP proxy of a client: its url is validated, and its login is shown nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp import hdrs
from yarl import URL

from ezvideo_async.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Proxy:
    """
    An HTTP proxy, whose ``repr`` and ``url`` have no login.

    Attributes:
        url: Where to connect to.
        headers: The login, if there is one, for the proxy only.

    Args:
        url: Such as ``http://proxy.example:3128`` or ``http://user:password@proxy.example:3128``.

    Raises:
        ConfigError: It is not the url of an HTTP proxy; the message does not show it.
    """

    __slots__ = ("headers", "url")

    def __init__(self, url: object) -> None:
        self.url: URL
        self.headers: Mapping[str, str]
        try:
            self.url, self.headers = _parse(url)
        except ValueError:
            self.url, self.headers = URL(), {}
        del url  # no traceback shows it
        if not self.url.host:
            raise ConfigError(
                "proxy is not the url of an HTTP proxy; pass one like http://proxy.example:3128, "
                'or "environment" for HTTPS_PROXY, HTTP_PROXY and NO_PROXY'
            )

    def __repr__(self) -> str:
        return f"Proxy({str(self.url)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a proxy with its login is not pickled or copied")

    @property
    def host(self) -> str | None:
        return self.url.host


def choose_proxy(argument: object, *, base_url: str) -> Proxy | None:
    """
    Return the proxy that an argument names; None connects directly.

    ``"environment"`` reads ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` as they are now.
    """
    try:
        if argument == "environment":
            argument = _from_environment(base_url)
        return None if argument is None else Proxy(argument)
    finally:
        del argument  # no traceback shows it


def _from_environment(base_url: str) -> str | None:
    parts = urlsplit(base_url)
    if proxy_bypass(parts.netloc):
        return None
    proxy = getproxies().get(parts.scheme)
    # As curl does, accept a host and port alone.
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _parse(text: object) -> tuple[URL, Mapping[str, str]]:
    """Return the url without its login, and the header with it; raise ValueError if invalid."""
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or parts.port == 0:
        raise ValueError
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError
    url = URL(text)
    headers: dict[str, str] = {}
    if url.user or url.password:
        login = aiohttp.encode_basic_auth(url.user or "", url.password or "")
        headers[hdrs.PROXY_AUTHORIZATION] = login
    return url.with_user(None), headers
