"""Watches with a store that are killed: fault row P3."""

from __future__ import annotations

import sys

import pytest

from tests.long.crashes.judge import Judge
from tests.long.crashes.plan import Plan
from tests.support.subprocesses import run

CRASHES = """
import runpy, sys
sys.argv[0] = "crashes"
runpy.run_module("tests.long.crashes", run_name="__main__")
"""


@pytest.mark.fault("P3")
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_40_kills_lose_no_final_event() -> None:
    """After each kill a watch of the same file continues, and at most one event comes again."""
    printed = run(CRASHES, "--kills", "40", "--ids", "400", "--seed", "7", options=())

    assert printed.startswith("kills 40, ids 400, final events 400, missing 0, repeated ")
    assert printed.endswith(", wrong kind 0\n")


@pytest.mark.parametrize(
    ("events", "problems"),
    [
        ("0 vid_0 failed,0 vid_1 completed,1 vid_1 completed", []),
        ("0 vid_0 failed", ["missing: vid_1"]),
        ("0 vid_0 completed,0 vid_1 completed", ["wrong kind: vid_0 task_completed"]),
        (
            "0 vid_0 failed,0 vid_1 completed,1 vid_0 failed",
            ["repeated, although read on: vid_0"],
        ),
        (
            "0 vid_0 failed,1 vid_0 failed,1 vid_0 failed,1 vid_1 completed",
            ["repeated, although read on: vid_0", "more than one repeat per kill"],
        ),
    ],
)
def test_the_judge_finds_what_must_not_be(events: str, problems: list[str]) -> None:
    """Missing events, wrong kinds, and repeats that no kill explains are problems."""
    rows = [row.split() for row in events.split(",")]
    text = "".join(f"{life} {task_id} task_{kind}\n" for life, task_id, kind in rows)

    assert Judge(Plan(kills=1, ids=2, seed=0), text).problems == problems
