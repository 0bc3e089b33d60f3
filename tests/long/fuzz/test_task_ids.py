"""Fuzz of task ids: refused before anything is sent, or sent as one path segment."""

from __future__ import annotations

import asyncio
import unicodedata
from string import ascii_letters, digits
from urllib.parse import unquote

from hypothesis import given, strategies as st
from yarl import URL

from ezvideo_async import InvalidTaskIdError
from ezvideo_async._domain.validation import MAX_ID_CHARACTERS
from ezvideo_async.testing import VirtualClockLoop
from tests.support.raw_server import DONE, RawServer, client_of

SEGMENT = frozenset(ascii_letters + digits + "-._~%")
ODD = (
    *"/\\?#%;:@&=+$,[]!'()*|<>\"{}^`~.- \t\r\n\0\x1b\x7f\x85\xa0",
    *("%2e", "%2E%2e", "%2f", "%00", "..", "../", "/..", "//", "%", "%%", "%zz", "?x=1", "#f"),
    *("\u2028", "\u202e", "\u200d", "\ufeff", "\ufffe", "\ud800", "\udfff", "\U0010ffff", "\ue000"),
    *("\uff0e", "\uff0f", "\u2024", "\u2044", "\u2215", "e\u0301", "\u00e9", "\u0130", "\u00df"),
    *("HTTP/1.1", "\r\nX-Evil: 1\r\n", "http://evil.test/", "@evil.test", "任务", "🎬"),
)
LENGTHS = (MAX_ID_CHARACTERS - 1, MAX_ID_CHARACTERS, MAX_ID_CHARACTERS + 1, 5 * MAX_ID_CHARACTERS)
any_character = st.characters(exclude_categories=())
task_ids = (
    st.lists(st.sampled_from(ODD) | any_character, max_size=12).map("".join)
    | st.text(ascii_letters + digits + "_-.", max_size=60)
    | st.sampled_from(LENGTHS).map("x".__mul__)
)


def is_allowed(text: str) -> bool:
    """Judge an id by the documented rules."""
    is_named = 0 < len(text) <= MAX_ID_CHARACTERS and not text.isspace()
    is_plain = all(unicodedata.category(each) not in {"Cc", "Cs"} for each in text)
    return is_named and is_plain and text not in {".", ".."}


@given(task_id=task_ids)
def test_any_id_is_refused_or_arrives_as_one_segment(task_id):
    """The segment decodes to the id, and the response is read as the task's."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        target = runner.run(requested(task_id))

    assert (target is not None) == is_allowed(task_id)
    if target is not None:
        segment = target.removeprefix("/v1/videos/")
        assert segment != target
        assert segment not in {"", ".", ".."}
        assert set(segment) <= SEGMENT
        assert unquote(segment, errors="strict") == task_id
        assert URL(f"https://h.test{target}", encoded=True).raw_path_qs == target


async def requested(task_id: str) -> str | None:
    """Return the target that a server reads; None when the client refuses the id."""
    async with RawServer(DONE) as server, client_of(server) as client:
        try:
            task = await client.retrieve(task_id)
        except InvalidTaskIdError as error:
            assert str(error).isascii()
            assert str(error).isprintable()
            assert len(str(error)) < 1000
            assert server.requests == []
            return None
        assert task.id == task_id
        (seen,) = server.requests
        return seen.target
