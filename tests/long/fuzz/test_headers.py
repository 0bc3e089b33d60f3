"""Fuzz of API keys and headers: refused before anything is sent, or sent as one line each."""

from __future__ import annotations

import asyncio
from string import ascii_letters, digits

from hypothesis import given, strategies as st

from ezvideo_async import ConfigError
from ezvideo_async.testing import VirtualClockLoop
from tests.support.raw_server import DONE, RawServer, client_of

TOKEN = frozenset(ascii_letters + digits + "!#$%&'*+-.^_`|~")
RESERVED = {"authorization", "host", "content-length", "transfer-encoding"}
SENT_ALWAYS = {"host", "authorization", "accept", "accept-encoding", "cache-control", "user-agent"}
ODD = (
    *("\r\n", "\n", "\r", "\0", "\x0b", "\x85", "\u2028", "\x7f", "\x1b", "\t", " ", ":", "\xa0"),
    *(
        "\r\nX-Evil: 1",
        "\nX-Evil: 1\n",
        "\r\n\r\nGET / HTTP/1.1",
        "\u010d\u010aX-Evil: 1",
        "\ud800",
    ),
    *("é", "任", "%0d%0a", "\\r\\n", '"', ",", ";", "\ufeff"),
)
NAMES = ("X-A", "X_B", "user-agent", "ACCEPT", "Cookie", "Referer", "", "x" * 100, "x" * 101)


def texts(alphabet: str, longest: int) -> st.SearchStrategy[str]:
    """Texts of an alphabet, often with an odd part."""
    plain = st.text(alphabet, max_size=longest)
    odd = st.tuples(plain, st.sampled_from(ODD), plain).map("".join)
    return st.one_of(plain, plain, plain, odd)


keys = texts(ascii_letters + digits + "-_.", 40)
names = st.sampled_from((*NAMES, *map(str.title, RESERVED))) | texts(ascii_letters + "-", 12)
values = texts(ascii_letters + digits + " ;=/\"'", 20) | st.sampled_from(("x" * 4000, "x" * 4001))
headers = st.lists(st.tuples(names, values), max_size=3, unique_by=lambda pair: pair[0].lower())


def is_allowed(key: str, headers: dict[str, str]) -> bool:
    """Judge key and headers by the rules of HTTP and our limits."""
    plain = key.strip()
    return (
        0 < len(plain) == sum("\x21" <= each <= "\x7e" for each in plain)
        and all(set(name) <= TOKEN and 0 < len(name) <= 100 for name in headers)
        and all(name.lower() not in RESERVED for name in headers)
        and all(len(text) <= 4_000 for text in headers.values())
        and all(each == "\t" or "\x20" <= each <= "\x7e" for each in "".join(headers.values()))
    )


@given(key=keys, headers=headers.map(dict))
def test_any_headers_are_refused_or_arrive_as_given(key, headers):
    """Each header is one line at the server, and nothing else is added."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        lines = runner.run(arrived(key, headers))

    assert (lines is not None) == is_allowed(key, headers)
    if lines is not None:
        found = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
        given_headers = {name.lower(): text.strip(" \t") for name, text in headers.items()}
        assert len(found) == len(lines)
        assert found.keys() == SENT_ALWAYS | given_headers.keys()
        assert found["authorization"] == f"Bearer {key.strip()}"
        assert {name: found[name].strip(" \t") for name in given_headers} == given_headers


async def arrived(key: str, headers: dict[str, str]) -> tuple[str, ...] | None:
    """Return the header lines that a server reads; None when the client refuses them."""
    async with RawServer(DONE) as server:
        try:
            client = client_of(server, api_key=key, headers=headers)
        except ConfigError as error:
            assert str(error).isprintable()
            return None
        async with client:
            await client.retrieve("t")
        (seen,) = server.requests
        return seen.lines
