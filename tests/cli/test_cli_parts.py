"""The parts of the command line that only compute: cleaning, drawing, counting, going on."""

from __future__ import annotations

import asyncio
import inspect
import shlex
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len

from ezvideo_async import (
    ErrorInfo,
    InvalidTaskIdError,
    PollPolicy,
    RequestBudget,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskNotFoundError,
    TaskStalled,
    TaskStatus,
    TaskWatcher,
    TransportError,
    VideoTask,
)
from ezvideo_async._domain.validation import validate_task_id
from ezvideo_async.cli import frame as _frame
from ezvideo_async.cli.arguments import INTERVAL, RATE, TIMEOUT, parsed
from ezvideo_async.cli.clean import clean
from ezvideo_async.cli.connection import FailureStreak
from ezvideo_async.cli.exit_codes import UsageError
from ezvideo_async.cli.formatting import (
    detail_of,
    duration,
    event_line,
    failed_because,
    task_line,
    word_of,
)
from ezvideo_async.cli.summary import Tally
from ezvideo_async.cli.task_ids import ids_of, resume_command
from ezvideo_async.instrumentation import PollFailed, PollSucceeded

if TYPE_CHECKING:
    from argparse import Namespace

    from ezvideo_async import Event

UNSEEN_CATEGORIES = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
ZERO_WIDTH_LETTERS = "\u034f\u115f\u1160\u3164\uffa0\U000e0100\U000e01ef"
TEXT = st.text(st.characters(), max_size=40)


def failed(task_id: str, message: str | None, *, at: float = 0.0) -> TaskFailed:
    error = ErrorInfo(message=message)
    task = VideoTask(id=task_id, status=TaskStatus.FAILED, error=error)
    return TaskFailed(task_id=task_id, task=task, at=at)


def changed(task_id: str, *, progress: int | None) -> StatusChanged:
    status = TaskStatus.PROCESSING
    task = VideoTask(id=task_id, status=status, progress=progress)
    return StatusChanged(task_id=task_id, task=task, previous=None, current=status)


def completed(task_id: str, url: str | None) -> TaskCompleted:
    task = VideoTask(id=task_id, status=TaskStatus.COMPLETED, url=url)
    return TaskCompleted(task_id=task_id, task=task)


def lost(task_id: str, reason: str) -> TaskLost:
    return TaskLost(task_id=task_id, task=None, error=TaskNotFoundError("refused"), reason=reason)


# --- cleaning ------------------------------------------------------------------------------------


@pytest.mark.fault("X19")
def test_every_code_point_is_seen_or_escaped() -> None:
    """Over all code points: what a terminal obeys or hides is escaped, all else passes."""
    for number in range(0x110000):
        character = chr(number)
        shown = clean(character)
        is_hidden = unicodedata.category(character) in UNSEEN_CATEGORIES
        if is_hidden or character in ZERO_WIDTH_LETTERS:
            assert shown.startswith("\\"), hex(number)
            assert shown.isascii(), hex(number)
            assert shown.isprintable(), hex(number)
        elif shown != character:
            assert shown == ascii(character)[1:-1], hex(number)
            assert unicodedata.category(character) in {"Mn", "Lo"}, hex(number)


@pytest.mark.parametrize(
    "text",
    ["vid_1", "视频生成失败。请重试", "実行中", "실패", "🎬🇨🇳❤\ufe0f", "é e\u0301", "a b\u3000c"],
)
def test_what_people_write_passes(text: str) -> None:
    """CJK, emoji, accents and blanks are left as they are."""
    assert text == clean(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]8;;http://x\x07", "\\x1b]8;;http://x\\x07"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("a\r\nb\t", "a\\r\\nb\\t"),
        ("\u202eevil\u2069\u200f\u061c", "\\u202eevil\\u2069\\u200f\\u061c"),
        ("\u200b\ufeff\u2028\u2029", "\\u200b\\ufeff\\u2028\\u2029"),
        ("\ud800\ue000\U000e0041", "\\ud800\\ue000\\U000e0041"),
    ],
)
def test_escapes(text: str, shown: str) -> None:
    """Escapes look as in Python source."""
    assert shown == clean(text)


@given(TEXT, TEXT)
def test_cleaning_goes_by_character(first: str, second: str) -> None:
    """Cleaning is a matter of single characters, and cleaning again changes nothing."""
    assert clean(first) + clean(second) == clean(first + second)
    assert clean(first) == clean(clean(first))


# --- drawing -------------------------------------------------------------------------------------


@given(TEXT, st.integers(0, 60))
def test_fit_is_exact(text: str, width: int) -> None:
    """Whatever the text, it takes exactly the cells it was given."""
    assert width == cell_len(_frame.fit(clean(text), width))


@given(st.lists(st.tuples(TEXT, TEXT), max_size=4), st.sampled_from([20, 80, 200]))
def test_rows_stay_in_the_frame(texts: list[tuple[str, str]], width: int) -> None:
    """No id and no message makes a row wider than the terminal, or two lines of it."""
    lines = _frame.rows([failed(*pair) for pair in texts], width=width, mark="━")

    assert all(line.cell_len <= width for line in lines)
    assert not any("\n" in line.plain for line in lines)


@given(st.text(st.characters(), min_size=1, max_size=4), st.integers(0, 600))
def test_a_long_reason_is_cut_as_if_all_of_it_were_clean(text: str, length: int) -> None:
    """At most 500 characters are shown, the last of which then is an ellipsis."""
    told = (text * length)[:length] or text

    shown = clean(told)

    expected = shown if len(shown) <= 500 else shown[:499] + "…"
    assert expected == failed_because(failed("vid_1", told).task)


@pytest.mark.parametrize("width", [80, 200])
def test_a_chinese_reason_is_cut(width: int) -> None:
    """A CJK reason is cut at a whole character, with a mark that it was."""
    (line,) = _frame.rows([failed("vid_1", "视频生成失败" * 40)], width=width, mark="━")

    assert width - 1 <= line.cell_len <= width
    assert line.plain.endswith("…")


@pytest.mark.parametrize(
    ("event", "row"),
    [
        (changed("vid_1", progress=50), "vid_1      processing  50% ##########"),
        (changed("vid_1", progress=None), "vid_1      processing"),
        (completed("vid_1", "https://x/1?token=s"), "vid_1      completed  https://x/1"),
        (completed("vid_1", None), "vid_1      completed"),
        (failed("vid_1", None), "vid_1      failed     the server does not say why"),
        (lost("vid_1", "vanished"), "vid_1      lost       the server no longer knows this task"),
        (
            TaskStalled(task_id="vid_1", task=None, since=0.0),
            "vid_1      stalled    no change since 19",
        ),
    ],
)
def test_rows(event: Event, row: str) -> None:
    """A row is id, word, and how far or why; the query of a url is left out."""
    (line,) = _frame.rows([event], width=80, mark="#")

    assert line.plain.rstrip().startswith(row)


@pytest.mark.parametrize("width", [10, 80, 200])
def test_bar_and_counts_stay_in_the_frame(width: int) -> None:
    """With a hundred thousand tasks both lines still fit."""
    tally = Tally(f"vid_{number}" for number in range(100_000))
    tally.count(failed("vid_1", "x"))
    drawn = _frame.bar(tally, width=width, mark="#", elapsed=3_723.0, pace="99.9 requests/s")

    assert drawn.cell_len <= width
    assert _frame.counts(tally, width=width).cell_len <= width
    if width > 10:
        assert drawn.plain.endswith(". 1/100,000 ended  1:02:03  99.9 requests/s")


# --- words ---------------------------------------------------------------------------------------


def test_lines() -> None:
    """A line of an event begins with its instant; without the date where it is seen at once."""
    event = failed("vid_1", "no\x07", at=1_767_225_600.0)

    assert event_line(event)[19:] == " vid_1 failed no\\x07"
    assert event_line(event, with_date=False) == event_line(event)[11:]
    assert task_line(event.task) == "vid_1 failed no\\x07"


def test_long_messages_are_cut() -> None:
    """No server fills the screen with one message."""
    assert len(event_line(failed("vid_1", "x" * 100_000))) < 600


def test_other_losses() -> None:
    """A loss without a sentence of its own tells the server's."""
    assert detail_of(lost("vid_1", "refused")) == "refused: refused"
    assert word_of(lost("vid_1", "refused")) == "lost"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.9, "0:00"), (61.0, "1:01"), (3_599.9, "59:59"), (3_600.0, "1:00:00")]
)
def test_durations(seconds: float, shown: str) -> None:
    """Durations are hours, minutes, seconds; the hours only when there are any."""
    assert shown == duration(seconds)


# --- counting ------------------------------------------------------------------------------------


def test_tally() -> None:
    """Each task counts once, with its last word; a stall is no state, our time limit no end."""
    tally = Tally(["a", "b", "c"])
    tally.count(changed("a", progress=1))
    tally.count(TaskStalled(task_id="a", task=changed("a", progress=1).task, since=0.0))

    assert (tally.counts["processing"], tally.counts["unseen"]) == (1, 2)
    assert tally.open_ids == ["a", "b", "c"]
    tally.count(completed("a", None))
    assert (tally.ended, tally.exit_code) == (1, 0)
    tally.count(lost("b", "deadline"))
    assert (tally.open_ids, tally.exit_code) == (["b", "c"], 4)
    tally.count(lost("c", "not_found"))
    assert (tally.ended, tally.exit_code) == (3, 1)


def test_summary_of_many_reasons() -> None:
    """The five most frequent reasons are told, cut to a line, and how many others there are."""
    tally = Tally(f"{number}" for number in range(10))
    for number in range(9):
        tally.count(failed(f"{number}", f"reason {number % 7} " + "x" * 200))
    head, *lines = tally.summary(elapsed=61.0, requests=1)

    assert head == "10 tasks: 0 completed, 9 failed, 0 lost, 1 still open; 1 request in 1:01"
    assert lines[0].startswith("  2 failed: reason 0 xxx")
    assert len(lines[0]) < 120
    assert lines[-1] == "  2 failed for other reasons"
    assert len(lines) == 6


# --- going on ------------------------------------------------------------------------------------


@pytest.fixture
def args(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """The arguments of a plain watch, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return parsed(["watch", "x"])


def resumed_ids(command: str) -> list[str]:
    """The ids that a printed command line would watch."""
    words = shlex.split(command)
    assert words[:2] == ["ezvideo", "watch"]
    return ids_of(parsed(words[1:]))


def test_going_on_with_a_few(args: Namespace) -> None:
    """A few ids stand in the command itself, quoted for a shell."""
    assert resume_command(args, ["vid_1", "vid 2"]) == "ezvideo watch vid_1 'vid 2'"
    assert resume_command(args, ["-1"]) == "ezvideo watch -- -1"


def test_going_on_keeps_options(args: Namespace) -> None:
    """The options that were given are given again."""
    options = (
        "--base-url http://x/v1 --api-key-file key --rate 7 --interval 2 --timeout 60 "
        "--json --progress"
    )
    command = resume_command(parsed(["watch", *options.split(), "x"]), ["vid_1"])

    assert command == f"ezvideo watch {options} vid_1"


def test_going_on_with_many(args: Namespace) -> None:
    """Many ids go to a new file; one that is there already is never overwritten."""
    ids = [f"vid_{number}" for number in range(1_000)]

    assert resume_command(args, ids) == "ezvideo watch --from ezvideo-open-ids.txt"
    again = resume_command(args, ids[1:])
    assert again == "ezvideo watch --from ezvideo-open-ids-2.txt"
    assert ids == resumed_ids("ezvideo watch --from ezvideo-open-ids.txt")
    assert ids[1:] == resumed_ids(again)


def test_going_on_with_odd_ids(args: Namespace) -> None:
    """Ids that a line can't show go to the file, those a file can't hold to the line."""
    ids = ["vid\u202e1", "#2", " 3", "视频4", "-5", "-"]

    assert sorted(ids) == sorted(resumed_ids(resume_command(args, ids)))


@given(ids=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True))
def test_going_on_with_any_ids(ids: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever ids the server gave out, the command line goes on with the same ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        usable = [task_id for task_id in ids if is_usable(task_id)]
        if usable:
            command = resume_command(parsed(["watch", "x"]), usable)
            assert sorted(usable) == sorted(resumed_ids(command))


def is_usable(task_id: str) -> bool:
    """An id that can be watched, and for which one of the two ways is good."""
    try:
        validate_task_id(task_id)
    except InvalidTaskIdError:
        return False
    is_listable = task_id == task_id.strip() and not task_id.startswith("#")
    return is_listable or clean(task_id) == task_id


def test_going_on_where_nothing_can_be_written(
    args: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no file can be written, the command line is long."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    ids = [f"vid_{number}" for number in range(100)]

    assert resume_command(args, ids) == f"ezvideo watch {' '.join(ids)}"


def test_going_on_where_all_names_are_taken(
    args: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all names taken, the command line is long."""

    def taken(*_: object, **__: object) -> None:
        raise FileExistsError

    monkeypatch.setattr(Path, "open", taken)
    ids = [f"vid_{number}" for number in range(100)]

    assert resume_command(args, ids).endswith(" vid_99")


def test_defaults_are_the_library_s() -> None:
    """The command and the library agree on how often to ask, and for how long."""
    timeout = inspect.signature(TaskWatcher).parameters["timeout"].default

    assert (PollPolicy().interval, RequestBudget().rate) == (INTERVAL, RATE)
    assert timeout == TIMEOUT


# --- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    """The completion script names the commands, and no option that is refused."""
    with pytest.raises(SystemExit, match="0"):
        parsed(["--print-completion", shell])

    script = capsys.readouterr().out
    assert "serve-fake" in script
    assert "--api-key-file" in script
    assert "--api-key " not in script.replace("'", " ").replace('"', " ")


def test_completion_without_shtab(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shtab the sentence says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)

    with pytest.raises(UsageError, match=r"pip install 'ezvideo_async\[cli\]'"):
        parsed(["--print-completion", "bash"])


# --- trouble -------------------------------------------------------------------------------------


async def test_trouble_is_said_at_once_and_then_once_a_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistyped host does not look like a slow task; a task of its own trouble is no trouble."""
    trouble = FailureStreak()
    dead = PollFailed(task_id="vid_1", error=TransportError("no \x1bconnection"), elapsed=0.0)
    gone = PollFailed(task_id="vid_2", error=TaskNotFoundError("not found"), elapsed=0.0)
    for _ in range(25):
        trouble(gone)
        trouble(PollSucceeded(task_id="vid_3", status=TaskStatus.PENDING, elapsed=0.0))
        trouble(dead)
        await asyncio.sleep(5.0)

    said = capsys.readouterr()

    assert said.out == ""
    assert said.err.splitlines() == [f"ezvideo: {clean(str(dead.error))}; still trying"] * 3
