"""Texts as keys and headers: refused before anything is sent, or sent as one line each."""

from __future__ import annotations

import asyncio
from string import ascii_letters, digits
from typing import TYPE_CHECKING

from ezvideo_async import ConfigError, RequestBudget
from ezvideo_async.testing import VirtualClockLoop
from tests.long.fuzz.subject import MOST_SHOWN, Broken, Report, Subject, chance, told
from tests.support.raw_server import DONE, RawServer, client_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

_PER_LOOP = 500
_TOKEN = frozenset(ascii_letters + digits + "!#$%&'*+-.^_`|~")
_OURS = {"authorization", "host", "content-length", "transfer-encoding"}
_FIXED = ("Accept", "Accept-Encoding", "Cache-Control", "User-Agent")
_ODD = [
    *("\r\n", "\n", "\r", "\0", "\x0b", "\x85", "\u2028", "\x7f", "\x1b", "\t", " ", ":", "\xa0"),
    *(
        "\r\nX-Evil: 1",
        "\nX-Evil: 1\n",
        "\r\n\r\nGET / HTTP/1.1",
        "\u010d\u010aX-Evil: 1",
        "\ud800",
    ),
    *("é", "任", "%0d%0a", "\\r\\n", '"', ",", ";", "\ufeff"),
]
_NAMES = ["X-A", "x-a", "X_B", "user-agent", "User-Agent", "ACCEPT", "Cookie", "Referer", "X-C", ""]
_NAMES += ["Authorization", "host", "Content-Length", "transfer-encoding", "x" * 100, "x" * 101]


def _text(rand: Random, pieces: str, longest: int) -> str:
    text = "".join(rand.choice(pieces) for _ in range(rand.randrange(longest)))
    for _ in range(rand.choice((0, 0, 0, 0, 1, 2))):
        at = rand.randrange(len(text) + 1)
        text = text[:at] + rand.choice(_ODD) + text[at:]
    return text


def made(rand: Random) -> tuple[str, dict[str, str]]:
    """Make a key and some headers."""
    key = _text(rand, ascii_letters + digits + "-_.", 40)
    headers = {}
    for _ in range(rand.choice((0, 1, 1, 2, 3))):
        name = rand.choice(_NAMES) if rand.random() < 0.5 else _text(rand, ascii_letters + "-", 12)
        if name.lower() in map(str.lower, headers):
            continue  # which of two spellings wins is nobody's business
        longest = rand.choice((20, 20, 20, 20, 4_002))
        headers[name] = _text(rand, ascii_letters + digits + " ;=/\"'", longest)
    return key, headers


def _is_allowed(key: str, headers: Mapping[str, str]) -> bool:
    plain = key.strip()
    return (
        0 < len(plain) == sum("\x21" <= each <= "\x7e" for each in plain)
        and all(set(name) <= _TOKEN and 0 < len(name) <= 100 for name in headers)
        and all(name.lower() not in _OURS for name in headers)
        and all(len(text) <= 4_000 for text in headers.values())
        and all(each == "\t" or "\x20" <= each <= "\x7e" for each in "".join(headers.values()))
    )


async def check_headers(server: RawServer, key: str, headers: Mapping[str, str]) -> str:
    """Make a client with them, ask once, and compare every line that arrived."""
    before = len(server.requests)
    budget = RequestBudget(rate=1_000_000.0)
    try:
        client = client_of(server, api_key=key, headers=headers, budget=budget)
    except ConfigError as error:
        assert not _is_allowed(key, headers), "refused for no reason"
        assert str(error).isprintable(), "a message that breaks lines"
        return "refused"
    async with client:
        await client.retrieve("t")
    assert _is_allowed(key, headers), "let pass"
    [seen] = server.requests[before:]
    given = {name.lower(): text for name, text in headers.items()}
    found = [line.partition(": ")[::2] for line in seen.lines]
    names = sorted(name.lower() for name, _ in found)
    expected = {"host", "authorization", *map(str.lower, _FIXED), *given}
    assert names == sorted(expected), f"{names} arrived"
    arrived = {name.lower(): text for name, text in found}
    assert arrived["authorization"] == f"Bearer {key.strip()}", "another key"
    assert all(arrived[name] == text for name, text in given.items()), "another value"
    return "sent"


async def _checked(seed: int, indexes: range, report: Report) -> None:
    async with RawServer(DONE) as server:
        for index in indexes:
            case = made(chance(seed, index))
            try:
                report.counts[await check_headers(server, *case)] += 1
            except Exception as error:  # noqa: BLE001 -- whatever it is, it breaks the promise
                report.counts["BROKEN"] += 1
                call = f"check_headers(server, *{case!r})"
                report.broken.append(Broken("headers", index, call, told(error)))


def run(seed: int, indexes: range) -> Report:
    """Check these cases, some hundred in a loop."""
    report = Report()
    for start in range(indexes.start, indexes.stop, _PER_LOOP):
        numbers = range(start, min(start + _PER_LOOP, indexes.stop))
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(_checked(seed, numbers, report))
    del report.broken[MOST_SHOWN:]
    return report


SUBJECT = Subject(
    name="headers",
    full=20_000,
    few=200,
    run=run,
    kinds=frozenset({"refused", "sent"}),
)
