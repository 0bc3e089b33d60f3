"""Fuzz of terminal output: no text of a server reaches the terminal as a command."""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given, strategies as st

from ezvideo_async import (
    BadResponseError,
    ErrorInfo,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskStatus,
    VideoTask,
)
from ezvideo_async.cli.formatting import event_line, task_line
from ezvideo_async.cli.live_view import draw_rows

COMMANDS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
BIDI = frozenset({"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"})
ODD = ("\x1b[31m", "\x1b]8;;http://x\x07", "\u202e", "\u2028", "\ud800", "\u115f", "\r", "\n")
WIDTH = 60  # cells

texts = st.lists(st.sampled_from(ODD) | st.text(st.characters(exclude_categories=()))).map("".join)


def assert_harmless(shown: str) -> None:
    """Check that nothing in a text hides, or commands a terminal."""
    for character in shown:
        assert unicodedata.category(character) not in COMMANDS
        assert unicodedata.bidirectional(character) not in BIDI
    shown.encode("utf-8")


@given(text=texts, is_long=st.booleans())
def test_any_text_of_a_server_is_shown_harmless(text, is_long):
    """Lines, rows of the live view and JSON escape what hides or commands, and have bounds."""
    alive = VideoTask(id=f"v{text}", status=TaskStatus.PROCESSING, raw_status=text, model=text)
    url = f"https://h.test/{text}/v.mp4"
    done = VideoTask(id=text, status=TaskStatus.COMPLETED, url=url, metadata={text: text})
    why = ErrorInfo(code=f"c{text}", message=text * 20 + "x" * 500 * is_long)
    failed = VideoTask(id=f"{text}v", status=TaskStatus.FAILED, error=why, size=text)
    refused = BadResponseError(f"body {text}", task_id=text)
    events = [
        StatusChanged(task_id=alive.id, task=alive, previous=None, current=alive.status),
        TaskCompleted(task_id=done.id, task=done),
        TaskFailed(task_id=failed.id, task=failed),
        TaskLost(task_id=text, task=None, error=refused, reason="refused"),
    ]

    for event in events:
        assert_harmless(event_line(event))
        written = json.dumps(event.to_dict())
        assert written.isascii()
        assert written.isprintable()
    for task in (alive, done, failed):
        assert_harmless(task_line(task))
    for row in draw_rows(events, width=WIDTH, glyph="━"):
        assert_harmless(row.plain)
        assert row.cell_len <= WIDTH
