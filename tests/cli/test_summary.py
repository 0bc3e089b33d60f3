"""Tests of ``cli.summary``: counts, open ids, exit code, summary lines."""

from __future__ import annotations

from ezvideo_async.cli.summary import NO_STATUS, Summary
from tests.cli.sample_events import completed, failed, lost, processing, stalled


def test_each_task_counts_with_its_last_state() -> None:
    """A stall changes no count, and a task past the timeout stays open with exit code 4."""
    summary = Summary(["a", "b", "c"])
    summary.record(processing("a", progress=1))
    summary.record(stalled("a"))

    assert (summary.counts["processing"], summary.counts[NO_STATUS]) == (1, 2)
    assert summary.open_ids == ["a", "b", "c"]
    summary.record(completed("a", None))
    assert (summary.ended, summary.exit_code) == (1, 0)
    summary.record(lost("b", "deadline"))
    assert (summary.open_ids, summary.exit_code) == (["b", "c"], 4)
    summary.record(lost("c", "not_found"))
    assert (summary.ended, summary.exit_code) == (3, 4)


def test_lost_tasks_are_exit_code_1() -> None:
    """Tasks lost for another reason than the timeout are exit code 1, like failed ones."""
    summary = Summary(["a", "b"])
    summary.record(completed("a", None))
    summary.record(lost("b", "not_found"))

    assert summary.exit_code == 1


def test_lines_show_the_five_most_frequent_reasons() -> None:
    """Reasons are truncated to a line, and the number of tasks with other reasons is added."""
    summary = Summary(f"vid_{number}" for number in range(10))
    for number in range(9):
        summary.record(failed(f"vid_{number}", f"reason {number % 7} " + "x" * 200))
    head, *lines = summary.lines(elapsed=61.0, requests=1)

    assert head == "10 tasks: 0 completed, 9 failed, 0 lost, 1 still open; 1 request in 1:01"
    assert lines[0].startswith("  2 failed: reason 0 xxx")
    assert len(lines[0]) < 120
    assert lines[-1] == "  2 failed for other reasons"
    assert len(lines) == 6


def test_lines_explain_lost_tasks() -> None:
    """Reasons that differ only in the id are counted together, and a line explains lost."""
    summary = Summary(["vid_1", "vid_2"])
    summary.record(lost("vid_1", "vanished", task=processing("vid_1", progress=1).task))
    summary.record(lost("vid_2", "vanished"))

    assert list(summary.lines(elapsed=0.0, requests=2))[1:] == [
        "  2 lost: the server no longer has this task: no ID",
        "  (lost: no longer polled; the task may still be running and be billed)",
    ]


def test_a_task_never_seen_is_not_called_billed() -> None:
    """Without a state of a lost task, nothing is said about what it may cost."""
    summary = Summary(["vid_1"])
    summary.record(lost("vid_1", "deadline"))

    assert "billed" not in "".join(summary.lines(elapsed=0.0, requests=2))


def test_restored_tasks_count_with_their_stored_state() -> None:
    """A stored final state does not count before its event; given tasks not watched are skipped."""
    summary = Summary(["ended", "new"])
    running, final = processing("a", progress=1).task, completed("b", None)
    summary.set_watched({"a": running, "b": final.task, "new": None}, restored=2)
    head, *lines = summary.lines(elapsed=0.0, requests=0)

    assert (summary.counts["processing"], summary.counts[NO_STATUS], summary.ended) == (1, 2, 0)
    assert head.startswith("3 tasks: 0 completed, 0 failed, 0 lost, 3 still open; ")
    assert lines == [
        "  2 restored from the store",
        "  1 ended in an earlier watch; not watched again",
    ]
    summary.record(final)
    assert (summary.ended, summary.open_ids) == (1, ["a", "new"])
