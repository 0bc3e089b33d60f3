"""What the benchmarks make of their samples: medians, ratios, verdicts, and the page of figures."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.long.bench import (
    growth,
    harness,
    lateness,
    memory,
    poll_cost,
    report,
    schedule_cost,
    startup,
)
from tests.long.bench.__main__ import PROGRAMS, told
from tests.long.bench.harness import Goal, Options, Samples, Spread
from tests.long.bench.mock import tasks
from tests.long.bench.policy import KINDS
from tests.long.bench.responder import body_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("values", "low", "middle", "high"),
    [
        ([3.0], 3.0, 3.0, 3.0),
        ([5.0, 1.0, 3.0], 1.0, 3.0, 5.0),
        ([1.0, 2.0, 3.0, 4.0, 100.0], 2.0, 3.0, 4.0),
    ],
)
def test_spread(values: list[float], low: float, middle: float, high: float) -> None:
    """A spread is the median with its quartiles, or with the extremes of fewer than four."""
    assert Spread(middle, low, high) == Spread.of(values)


def test_spread_is_shown() -> None:
    """A spread is shown with as many digits as asked, thousands apart."""
    assert Spread(1234.5, 0.25, 2000.0).shown(1) == "1,234.5 (0.2-2,000.0)"


def test_ratios_are_taken_within_a_round() -> None:
    """A noisy round counts for both sides of a ratio."""
    samples: Samples = {
        "ours": [{"us": 10.0}, {"us": 100.0}, {"us": 20.0}],
        "theirs": [{"us": 20.0}, {"us": 200.0}, {"us": 40.0}],
    }

    assert Spread(0.5, 0.5, 0.5) == harness.ratio(samples, "ours", "theirs", "us")


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [(range(1, 101), 99, 99), (range(1, 101), 100, 100), ([7.0], 50, 7.0), ([], 99, 0.0)],
)
def test_percentile(values: Any, percent: int, expected: float) -> None:
    """A percentile is one of the values: the least that so many percent do not exceed."""
    assert expected == harness.percentile(values, percent)


def test_markdown() -> None:
    """A table has a line for its heads, one of rules, and one for each row."""
    assert harness.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


@pytest.mark.parametrize(
    ("found", "options", "verdict"),
    [
        (0.85, {}, "met"),
        (0.8501, {}, "**missed**"),
        (0.6, {"stretch": 0.5}, "met"),
        (0.5, {"stretch": 0.5}, "met, better too"),
        (0.9, {"at_least": True}, "met"),
        (0.8, {"at_least": True}, "**missed**"),
    ],
)
def test_verdict(found: float, options: dict[str, Any], verdict: str) -> None:
    """The median is judged, exactly, and a harder bar is told of as well."""
    goal = Goal("a", "a poll", Spread(found, 0.0, 9.0), 0.85, **options)

    assert verdict == goal.verdict


def test_goal_tells_all() -> None:
    """A row of goals holds the aim, the figure, and whether a quiet machine is needed."""
    goal = Goal("g", "stalls", Spread(3.04, 2.0, 4.0), 20, stretch=5, unit="ms", digits=1,
                needs_quiet=True)  # fmt: skip

    assert goal.row == [
        "g", "stalls (quiet machine)", "≤ 20 ms, better ≤ 5", "3.0 (2.0-4.0) ms", "met, better too",
    ]  # fmt: skip


def test_result_is_kept(tmp_path: Path) -> None:
    """A result of as many rounds is not measured again; any other is."""
    measured: list[int] = []

    def run(options: Options) -> dict[str, int]:
        measured.append(options.rounds)
        return {"rounds": options.rounds}

    def found(rounds: int, *, quick: bool) -> Any:
        options = Options(rounds=rounds, quick=quick, into=tmp_path)
        return harness.kept("one", run, options)["found"]

    assert [found(3, quick=True), found(3, quick=True), found(7, quick=True)] == [
        {"rounds": 3}, {"rounds": 3}, {"rounds": 7},
    ]  # fmt: skip
    assert found(7, quick=False) == {"rounds": 7}
    assert measured == [3, 7, 7]
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


def test_cases_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each round begins with another case, and a case may have fewer rounds."""
    order: list[str] = []

    def sampled(case: harness.Case) -> harness.Sample:
        order.append(case.name)
        return {"us": 1.0}

    monkeypatch.setattr(harness, "sampled", sampled)
    cases = [harness.Case(name, sampled, rounds=1 if name == "c" else None) for name in "abc"]
    samples = harness.interleaved(cases, Options(rounds=3, quick=False, into=tmp_path))

    assert "".join(order) == "abcbaab"
    assert {name: len(taken) for name, taken in samples.items()} == {"a": 3, "b": 3, "c": 1}


def test_answers_of_the_responder() -> None:
    """The responder's answer is a running task, of the size that servers send."""
    body = body_of(b"task_%032d" % 1, 42)

    assert json.loads(body)["progress"] == 42
    assert 320 <= len(body) <= 340
    assert len({task.progress for task in tasks()}) == len(tasks())


# -- the page -------------------------------------------------------------------------------------


def results() -> dict[str, Any]:
    """Results as the benchmarks would give them, each figure a 1."""
    sizes = (10, 100)
    verdict = {"requests": 1.0, "detection": 1.0, "later": 0.0, "is_better": True}
    verdicts = {kind.name: verdict for kind in KINDS}
    found: dict[str, Any] = {
        "poll_cost": {
            **ones(poll_cost.ROWS), "ids": 10, "interval": 5.0, "openai_ids": 10,
        },
        "schedule_cost": {
            **ones(f"{kind}, {ids}" for kind in (*schedule_cost.STATES_LAST, schedule_cost.WHOLE)
                   for ids in sizes),
            "sizes": sizes,
        },
        "memory": {
            **ones([*(f"{how}, {ids}" for how in ("RSS", "tracemalloc") for ids in sizes),
                    "adding"]),
            "sizes": sizes, "adding": 100,
        },
        "lateness": ones(lateness.ROWS),
        "startup": ones(startup.PROGRAMS),
        "growth": {
            **ones(f"{kind}, {ids}" for kind in growth.TOLD for ids in sizes),
            "sizes": dict.fromkeys(growth.TOLD, sizes),
        },
        "policy": {"tasks": 10, "verdicts": {"fixed 5 s": verdicts, "built in": verdicts}},
    }  # fmt: skip
    return {
        name: {"found": each, "quick": False, "rounds": 7, "seconds": 60.0,
               "machine": {"cores": "2"}}
        for name, each in found.items()
    }  # fmt: skip


class Ones(dict[str, float]):
    """A sample in which every figure is a 1."""

    def __missing__(self, name: str) -> float:
        return 1.0

    def __contains__(self, name: object) -> bool:
        return True


def ones(cases: Any) -> dict[str, Any]:
    """Samples of so many cases."""
    return {"samples": {case: [Ones()] for case in cases}}


def test_page_holds_every_part() -> None:
    """The page has a part for each benchmark, and tells what was missed."""
    text = report.page(results(), PROGRAMS)

    assert set(PROGRAMS) == set(report.PARTS)
    assert text.count("\n## ") == len(report.PARTS) + 3
    assert "**missed**" in text
    assert "are not (a, b, " in text
    assert "costs 1.00 times the CPU time" in text
    assert "quick run" not in text
    assert "7 rounds, 7 minutes in all." in text


def test_page_tells_what_is_missing() -> None:
    """A page of few results, or of a quick run, says so."""
    few = {"startup": {**results()["startup"], "quick": True}}
    text = report.page(few, PROGRAMS)

    assert "**This is a quick run** (all of it)" in text
    assert "Not measured this time: poll_cost, schedule_cost" in text
    assert "This time neither was measured." in text
    assert "## The start" in text
    assert "## One poll" not in text


@pytest.mark.parametrize("program", [poll_cost, schedule_cost, memory, lateness, startup, growth])
def test_tables_of_one(program: Any) -> None:
    """Each benchmark writes its tables, and its verdicts where it has targets."""
    name = program.__name__.rpartition(".")[2]
    text = told(program, results()[name]["found"])

    assert "| --- |" in text
    assert ("| verdict |" in text) == hasattr(program, "goals")


def test_no_plot_is_drawn_without_need() -> None:
    """Tables and verdicts need no plotting library."""
    report.page(results(), PROGRAMS)

    assert "matplotlib" not in sys.modules
