"""Tests of the live view: drawing, and the choice between it and line output."""

from __future__ import annotations

import json
import sys
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, strategies as st
from rich.cells import cell_len
from rich.console import Console

from ezvideo_async.cli import main
from ezvideo_async.cli.formatting import clean
from ezvideo_async.cli.live_view import draw_bar, draw_frame, draw_rows, fit, fit_id
from ezvideo_async.cli.summary import Summary
from tests.cli.sample_events import completed, failed, lost, pending, processing, stalled

if TYPE_CHECKING:
    from ezvideo_async import Event

WATCH = ("watch", "--interval", "0.05", "--rate", "1000")
TEXT = st.text(st.characters(), max_size=40)


# --- drawing -------------------------------------------------------------------------------------


@given(TEXT, st.integers(0, 60))
def test_fit_gives_the_exact_width(text: str, width: int) -> None:
    """Any text is padded or truncated to the width, and a truncated one ends with an ellipsis."""
    visible = clean(text).replace("\ufe0f", "")
    fitted = fit(clean(text), width)

    assert cell_len(fitted) == width
    if 0 < width < cell_len(visible):
        assert fitted.endswith("…")


@example("\uaac3 ", 4)
@given(TEXT, st.integers(0, 60))
def test_ids_are_truncated_in_the_middle(text: str, width: int) -> None:
    """An id has the exact width, and keeps its start and its end around the ellipsis."""
    task_id = clean(text).replace("\ufe0f", "").replace("…", "").rstrip()
    fitted = fit_id(task_id, width)

    assert cell_len(fitted) == width
    if 2 < width < cell_len(task_id):
        start, _, end = fitted.rstrip().partition("…")
        assert task_id.startswith(start)
        assert task_id.endswith(end)


def test_ids_with_a_common_start_have_different_rows() -> None:
    """Two ids of 210 characters that differ only in their last part have different rows."""
    ids = [f"video_{'x' * 190}{number:014}" for number in (1, 2)]
    rows = draw_rows([processing(task_id, progress=1) for task_id in ids], width=80, glyph="#")

    assert [row.plain[:26] for row in rows] == [
        f"video_xxxxxx…000000000000{number}" for number in (1, 2)
    ]


@given(st.lists(st.tuples(TEXT, TEXT), max_size=4), st.sampled_from([10, 20, 80, 200]))
def test_no_line_is_wider_than_the_terminal(texts: list[tuple[str, str]], width: int) -> None:
    """No id, message or number of tasks breaks a line of the frame."""
    summary = Summary(f"vid_{number}" for number in range(2_000))
    summary.record(failed("vid_1", "x"))
    console = Console(file=StringIO(), width=width + 1, color_system=None, legacy_windows=False)
    events = [failed(*pair) for pair in texts]
    frame = draw_frame(summary, events, width=width, elapsed=3_723.0, rate="99.9 requests/s")
    with console.capture() as capture:
        console.print(frame)
    lines = capture.get().split("\n")

    assert len(lines) - 1 == 1 + len(texts) + 2
    assert all(cell_len(line) <= width for line in lines)
    if width >= 80:
        assert lines[-3].endswith(" 1/2,000 ended  1:02:03  99.9 requests/s")
        assert lines[-2].startswith("0 completed  1 failed  0 lost  1,999 without status")


@pytest.mark.parametrize(
    ("event", "row"),
    [
        (processing("vid_1", progress=50), "vid_1      processing  50% ##########"),
        (processing("vid_1", progress=None), "vid_1      processing"),
        (completed("vid_1", "https://x/1?token=s"), "vid_1      completed  https://x/1"),
        (completed("vid_1", None), "vid_1      completed  no url; try GET /videos/ID/content"),
        (pending("vid_1", progress=98), "vid_1      pending    98%, still reported as pending"),
        (failed("vid_1", None), "vid_1      failed     the server gave no reason"),
        (lost("vid_1", "vanished"), "vid_1      lost       the server no longer has this task: no"),
        (stalled("vid_1"), "vid_1      stalled    no change since 19"),
    ],
)
def test_row_shows_progress_or_reason(event: Event, row: str) -> None:
    """A row holds id, state, and progress, reason, or the url without its query."""
    (line,) = draw_rows([event], width=80, glyph="#")

    assert line.plain.rstrip().startswith(row)


def test_the_bar_has_at_most_100_columns() -> None:
    """On a wide terminal the line of the bar ends at column 100."""
    summary = Summary(["vid_1", "vid_2"])
    summary.record(completed("vid_1", None))
    line = draw_bar(summary, width=200, elapsed=1.0, rate="1.0 requests/s", glyphs=("#", "."))

    assert line.cell_len == 100
    assert line.plain.startswith(f"{'#' * 34}{'.' * 34} 1/2 ended")


# --- on a terminal -------------------------------------------------------------------------------


def test_final_events_are_printed_above_a_shared_view(server: Any, terminal: Any) -> None:
    """On a shared terminal each final event is printed once, above the view."""
    screen = terminal(shared=True)
    (task_id,) = server.add("completed", duration=0.8)

    assert main([*WATCH, task_id]) == 0
    assert "0/1 ended" in screen.text
    assert "requests/s" in screen.text
    assert screen.text.count(f"{task_id} completed https://") == 1
    assert screen.text.index(f"{task_id} processing") < screen.text.index(f"{task_id} completed")


@pytest.mark.parametrize(("no_color", "rest"), [("", "━"), ("1", ".")])
def test_the_bar_without_colors(
    server: Any, terminal: Any, monkeypatch: pytest.MonkeyPatch, no_color: str, rest: str
) -> None:
    """With NO_COLOR the part of the bar that is not done has another character."""
    screen = terminal(shared=True, kind="xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)

    assert main([*WATCH, "--timeout", "0.1", *server.add("never")]) == 4
    assert f"{rest * 10} 0/1 ended" in screen.text


def test_lines_beside_the_view_omit_progress(
    server: Any, terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stdout that is not the terminal gets the plain lines, without progress."""
    screen = terminal(shared=False, encoding="ascii")
    ids = server.add(*["completed"] * 12, duration=0.5)
    code = main([*WATCH, *ids])
    lines = capsys.readouterr().out.splitlines()

    assert code == 0
    assert "12/12 ended" not in "".join(lines)
    assert len(lines) <= 3 * len(ids)
    assert sorted(line.split()[2] for line in lines if " completed " in line) == ids
    assert "#" in screen.text


def test_json_beside_the_view_has_no_gaps(
    server: Any, terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the live view the JSON events are numbered without gaps."""
    terminal(shared=False)

    assert main([*WATCH, "--json", *server.add("completed", duration=0.4)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))


@pytest.mark.parametrize(
    ("fault", "text"), [("429", "rate limited, "), ("503", "server not responding, probing")]
)
def test_view_shows_why_no_requests_are_sent(
    server: Any, terminal: Any, fault: str, text: str
) -> None:
    """A cool-down or an outage is shown in place of the request rate."""
    screen = terminal(shared=True)
    details = {"retry_after": 1} if fault == "429" else {}
    server.call("fault", fault, seconds=1.0, **details)
    ids = server.add(*["never"] * (40 if fault == "503" else 1))

    assert main([*WATCH, "--timeout", "1.5", *ids]) == 4
    assert text in screen.text


@pytest.mark.parametrize("cause", ["json", "dumb terminal", "no rich"])
def test_plain_lines_without_the_view(
    server: Any, terminal: Any, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """JSON on the terminal, a dumb terminal, or a missing rich gives plain lines."""
    screen = terminal(shared=True, kind="dumb" if cause == "dumb terminal" else "xterm")
    if cause == "no rich":
        for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, "rich", None)
        monkeypatch.delitem(sys.modules, "ezvideo_async.cli.live_view", raising=False)
    (task_id,) = server.add("completed")

    assert main([*WATCH, *(["--json"] if cause == "json" else []), task_id]) == 0
    assert "\x1b" not in screen.text
    assert task_id in screen.text


def test_other_import_errors_of_the_view_are_raised(
    server: Any, terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import error that is not about rich is not hidden."""
    terminal(shared=True)
    monkeypatch.setitem(sys.modules, "ezvideo_async.cli.live_view", None)

    with pytest.raises(ModuleNotFoundError, match="live_view"):
        main([*WATCH, *server.add("completed")])
