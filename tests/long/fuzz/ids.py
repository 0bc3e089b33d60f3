"""Texts as task ids: refused before anything is built, or one segment that reads back."""

from __future__ import annotations

import asyncio
import unicodedata
from string import ascii_letters, digits
from typing import TYPE_CHECKING
from urllib.parse import unquote

from yarl import URL

from ezvideo_async import InvalidTaskIdError, RequestBudget
from ezvideo_async._domain.validation import validate_task_id
from ezvideo_async._protocol.requests import retrieve_request
from ezvideo_async.testing import VirtualClockLoop
from tests.long.fuzz.subject import Broken, Report, Subject, chance, each, told
from tests.support.raw_server import DONE, RawServer, client_of
from tests.support.response_bodies import BASE_URL

if TYPE_CHECKING:
    from random import Random

    from ezvideo_async import AsyncVideoClient

_ON_WIRE_EVERY = 50
_UNRESERVED = frozenset(ascii_letters + digits + "-._~")
_SEGMENT = _UNRESERVED | {"%"}
_ODD = [
    *"/\\?#%;:@&=+$,[]!'()*|<>\"{}^`~.- \t\r\n\0\x1b\x7f\x85\xa0",
    *("%2e", "%2E%2e", "%2f", "%00", "..", "../", "/..", "//", "%", "%%", "%zz", "?x=1", "#f"),
    *("\u2028", "\u202e", "\u200d", "\ufeff", "\ufffe", "\ud800", "\udfff", "\U0010ffff", "\ue000"),
    *("\uff0e", "\uff0f", "\u2024", "\u2044", "\u2215", "e\u0301", "\u00e9", "\u0130", "\u00df"),
    *("HTTP/1.1", "\r\nX-Evil: 1\r\n", "http://evil.test/", "@evil.test", "任务", "🎬"),
]
_PLANES = (0x80, 0x100, 0x800, 0xD800, 0x10000, 0x110000)
_LENGTHS = (0, 1, 1, 2, 3, 3, 5, 8, 12, 36, 100, 511, 512, 513, 2000)


def made(rand: Random, _index: int) -> tuple[str]:
    """Make one text."""
    pieces = rand.choice((_ODD, ascii_letters, digits + ascii_letters + "_-", ".", " .", _ODD))
    length = rand.choice(_LENGTHS)
    text = "".join(rand.choice(pieces) for _ in range(length))
    for _ in range(rand.choice((0, 0, 0, 1, 3))):
        at = rand.randrange(len(text) + 1)
        text = text[:at] + chr(rand.randrange(rand.choice(_PLANES))) + text[at:]
    return (text,)


def check_id(text: str) -> str:
    """Ask for a text as an id, without a network."""
    try:
        checked = validate_task_id(text)
    except InvalidTaskIdError as error:
        assert not _is_allowed(text), "refused for no reason"
        assert str(error).isascii(), "a message that is no ASCII"
        assert str(error).isprintable(), "a message that breaks lines"
        assert len(str(error)) < 1000, "a message without end"
        return "refused"
    assert _is_allowed(text), "let pass"
    assert checked == text, "changed"
    request = retrieve_request(BASE_URL, text)
    assert request.task_id == text, "another id"
    target = request.url.removeprefix("https://api.example.test")
    assert URL(request.url, encoded=True).raw_path_qs == target, "another path for yarl"
    _check_target(target, text)
    return "allowed"


def _is_allowed(text: str) -> bool:
    is_named = 0 < len(text) <= 512 and not text.isspace() and text not in {".", ".."}
    return is_named and all(unicodedata.category(each) not in {"Cc", "Cs"} for each in text)


def _check_target(target: str, text: str) -> None:
    segment = target.removeprefix("/v1/videos/")
    assert segment != target, "another route"
    assert set(segment) <= _SEGMENT, "a segment that is none"
    assert segment not in {"", ".", ".."}, "a segment that is none"
    assert unquote(segment, errors="strict") == text, "reads back otherwise"


async def _asked(texts: dict[int, str], report: Report) -> None:
    budget = RequestBudget(rate=1_000_000.0)
    async with RawServer(DONE) as server, client_of(server, budget=budget) as client:
        for index, text in texts.items():
            try:
                await _check_on_wire(client, server, text)
                report.counts["on the wire"] += 1
            except Exception as error:  # noqa: BLE001 -- whatever it is, it breaks the promise
                report.counts["BROKEN"] += 1
                report.broken.append(Broken("ids", index, ascii(text), told(error)))


async def _check_on_wire(client: AsyncVideoClient, server: RawServer, text: str) -> None:
    before = len(server.requests)
    try:
        task = await client.retrieve(text)
    except InvalidTaskIdError:
        assert not _is_allowed(text), "refused for no reason"
        assert len(server.requests) == before, "refused after asking"
        return
    assert task.id == text, "another task"
    [seen] = server.requests[before:]
    _check_target(seen.target, text)
    assert seen.lines == server.requests[0].lines, "other header lines"


_pure = each("ids", made, check_id)


def run(seed: int, indexes: range) -> Report:
    """Check each id, and ask a server for every fiftieth."""
    report = _pure(seed, indexes)
    sample = {index: made(chance(seed, index), index)[0] for index in indexes[::_ON_WIRE_EVERY]}
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(_asked(sample, report))
    return report


SUBJECT = Subject(
    name="ids",
    full=100_000,
    few=4_000,
    run=run,
    kinds=frozenset({"refused", "allowed", "on the wire"}),
)
