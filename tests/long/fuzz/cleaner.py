"""Every code point on its way to a terminal: shown, or escaped when it hides or commands."""

from __future__ import annotations

import json
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

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
from ezvideo_async.cli import live_view
from ezvideo_async.cli.formatting import clean, event_line, task_line
from tests.long.fuzz.subject import Subject, each

if TYPE_CHECKING:
    from random import Random

    from ezvideo_async import Event

ALL = 0x110000
_STRIDE = 40_507
"""Has no divisor in common with ALL: any few steps meet all planes, ALL steps meet all."""

_COMMANDS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BIDI = frozenset({"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"})
_EMOJI_STYLES = range(0xFE00, 0xFE10)
_IGNORABLE = frozenset(
    {
        *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
        *range(0xFFF0, 0xFFF9),
        *range(0x1BCA0, 0x1BCA4),
        *range(0x1D173, 0x1D17B),
        *range(0xE0000, 0xE1000),
    }
)
"""Unicode's Default_Ignorable_Code_Point, but for the styles of emoji, which people write."""

_FIRST = (
    *range(0xA0),
    *sorted(number for number in _IGNORABLE if number < 0xE0000),
    *(0x2028, 0x2029, 0xD800, 0xDFFF, 0xE000, 0xFFFE, 0xE0001, 0xE0041, 0xE0100, 0xE01EF, ALL - 1),
    *(0x20, 0xA0, 0x3000, 0xFE0F, 0x301, 0x4EFB, 0xAC00, 0x1F3AC, 0x1F1E8, 0xE9, 0xDF),
)
"""Where things go wrong, if anywhere: they are in the slice."""

_LONGEST_ESCAPE = len(r"\U0010ffff")
_LONGEST_LINE = 2 * 500 + 100
_WIDTH = 60  # cells


def made(_rand: Random, index: int) -> tuple[str]:
    """Give one code point: there is no chance in it."""
    if index < len(_FIRST):
        return (chr(_FIRST[index]),)
    return (chr((index - len(_FIRST)) * _STRIDE % ALL),)


@lru_cache(maxsize=1024)
def _hides(character: str) -> bool:
    return (
        unicodedata.category(character) in _COMMANDS
        or unicodedata.bidirectional(character) in _BIDI
        or ord(character) in _IGNORABLE
    )


def _check_shown(shown: str) -> None:
    assert not any(map(_hides, shown)), f"{shown!a} reaches the terminal"
    shown.encode("utf-8")


def check_code_point(text: str) -> str:
    """Send a text of one code point everywhere a server's texts are shown."""
    for told in (text, f"a{text}b", text * 3, f"\x1b[{text}m"):
        shown = clean(told)
        _check_shown(shown)
        assert clean(shown) == shown, "cleaned otherwise the second time"
        assert len(shown) <= _LONGEST_ESCAPE * len(told), "grown beyond bounds"
    is_hidden = _hides(text)
    assert is_hidden or clean(text) == text, "escaped for no reason"
    events = _events(text)
    for event in events:
        line = event_line(event)
        _check_shown(line)
        assert len(line) <= _LONGEST_LINE, "a line without end"
        written = json.dumps(event.to_dict())
        assert written.isascii(), "JSON that is no ASCII"
        assert written.isprintable(), "JSON that breaks lines"
    for row in live_view.draw_rows(events, width=_WIDTH, glyph="━"):
        _check_shown(row.plain)
        assert row.cell_len <= _WIDTH, "a row too wide"
    return "escaped" if is_hidden else "as it is"


def _events(text: str) -> list[Event]:
    alive = VideoTask(id=f"v{text}", status=TaskStatus.PROCESSING, raw_status=text, model=text)
    url = f"https://h.test/{text}/v.mp4"
    done = VideoTask(id=text, status=TaskStatus.COMPLETED, url=url, metadata={text: text})
    why = ErrorInfo(code=f"c{text}", message=text * 20 + "x" * (500 if ord(text) % 16 == 0 else 0))
    failed = VideoTask(id=f"{text}v", status=TaskStatus.FAILED, error=why, size=text)
    refused = BadResponseError(f"told {text}", task_id=text)
    _check_shown(task_line(done) + task_line(failed) + task_line(alive))
    return [
        StatusChanged(task_id=alive.id, task=alive, previous=None, current=alive.status),
        TaskCompleted(task_id=done.id, task=done),
        TaskFailed(task_id=failed.id, task=failed),
        TaskLost(task_id=text, task=None, error=refused, reason="refused"),
    ]


SUBJECT = Subject(
    name="cleaner",
    full=ALL + len(_FIRST),
    few=800,
    run=each("cleaner", made, check_code_point),
    kinds=frozenset({"escaped", "as it is"}),
)
