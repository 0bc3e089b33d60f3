"""Tests of ``cli.formatting``: cleaning for terminals, lines of tasks and events."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from ezvideo_async import ErrorInfo, TaskStatus, VideoTask
from ezvideo_async.cli.formatting import (
    clean,
    duration_text,
    event_detail,
    event_line,
    failure_reason,
    state_of,
    task_line,
)
from tests.cli.sample_events import completed, failed, lost, pending

if TYPE_CHECKING:
    from ezvideo_async._domain.events import LossReason

INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
ZERO_WIDTH_LETTERS = "\u034f\u115f\u1160\u3164\uffa0\U000e0100\U000e01ef"
TEXT = st.text(st.characters(), max_size=40)


@pytest.mark.fault("X19")
def test_code_points_are_shown_or_escaped() -> None:
    """Of all code points, those that a terminal executes or hides are escaped."""
    for number in range(0x110000):
        character = chr(number)
        shown = clean(character)
        is_hidden = unicodedata.category(character) in INVISIBLE_CATEGORIES
        if is_hidden or character in ZERO_WIDTH_LETTERS:
            assert shown.startswith("\\"), hex(number)
            assert shown.isascii(), hex(number)
            assert shown.isprintable(), hex(number)
        elif shown != character:
            assert shown == ascii(character)[1:-1], hex(number)
            assert unicodedata.category(character) in {"Mn", "Lo"}, hex(number)


KEPT = ("vid_1", "视频生成失败。请重试", "実行中", "실패", "🎬🇨🇳❤\ufe0f", "é e\u0301", "a b\u3000c")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        *zip(KEPT, KEPT, strict=True),
        ("\x1b]8;;http://x\x07", "\\x1b]8;;http://x\\x07"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("a\r\nb\t", "a\\r\\nb\\t"),
        ("\u202eevil\u2069\u200f\u061c", "\\u202eevil\\u2069\\u200f\\u061c"),
        ("\u200b\ufeff\u2028\u2029", "\\u200b\\ufeff\\u2028\\u2029"),
        ("\ud800\ue000\U000e0041", "\\ud800\\ue000\\U000e0041"),
    ],
)
def test_clean_escapes_as_python_does(text: str, shown: str) -> None:
    """Escapes are those of Python; CJK, emoji, accents and spaces are kept."""
    assert clean(text) == shown


@given(TEXT, TEXT)
def test_clean_is_idempotent_and_per_character(first: str, second: str) -> None:
    """Each character is cleaned on its own, and cleaned text is not changed again."""
    assert clean(first + second) == clean(first) + clean(second)
    assert clean(clean(first)) == clean(first)


@given(st.text(st.characters(), min_size=1, max_size=4), st.integers(0, 600))
def test_reasons_are_cleaned_before_truncation(text: str, length: int) -> None:
    """At most 500 characters of the cleaned reason are shown, the last of which is an ellipsis."""
    message = (text * length)[:length] or text

    cleaned = clean(message)

    expected = cleaned if len(cleaned) <= 500 else cleaned[:499] + "…"
    assert failure_reason(failed("vid_1", message).task) == expected


def test_lines_start_with_the_local_time() -> None:
    """An event line starts with date and time, or only the time; a task line has neither."""
    event = failed("vid_1", "no\x07", at=1_767_225_600.0)

    assert event_line(event)[19:] == " vid_1 failed no\\x07"
    assert event_line(event, with_date=False) == event_line(event)[11:]
    assert task_line(event.task) == "vid_1 failed no\\x07"


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        ("not_found", "HTTP 404: no vid_1"),
        ("vanished", "the server no longer has this task: no vid_1"),
        ("deadline", "not finished before the timeout; last error: cannot connect"),
        ("refused", "HTTP 404: no vid_1"),
    ],
)
def test_a_lost_task_shows_what_the_server_wrote(reason: LossReason, detail: str) -> None:
    """The reason of a lost task contains the server's sentence, or the last error of a wait."""
    assert event_detail(lost("vid_1", reason)) == f"{reason}: {detail}"
    assert state_of(lost("vid_1", reason)) == "lost"


def test_a_code_that_is_also_the_message_is_shown_once() -> None:
    """A server that sends one text as code and message gets it printed once."""
    error = ErrorInfo(code="task_not_exist", message="task_not_exist")
    task = VideoTask(id="vid_1", status=TaskStatus.FAILED, error=error)

    assert failure_reason(task) == "task_not_exist"


def test_odd_states_are_explained() -> None:
    """Progress of a pending task, and a completed task without a url, are explained."""
    assert event_detail(pending("vid_1", progress=0)) == "0%"
    assert event_detail(pending("vid_1", progress=98)).startswith("98%, still reported as pending")
    assert event_detail(completed("vid_1", "https://x/1")) == "https://x/1"
    assert event_detail(completed("vid_1", None)).startswith("no url; ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9, "0:00"), (61.0, "1:01"), (3_599.9, "59:59"), (3_600.0, "1:00:00")]
)
def test_durations_show_hours_when_needed(seconds: float, text: str) -> None:
    """A duration below an hour is minutes and seconds."""
    assert duration_text(seconds) == text
