"""
The page of figures, out of the results of all benchmarks: text, tables and one plot.

``write(folder)`` makes the page and the plot anew from the result files in the folder; a
benchmark without a result leaves its part out, and the page says so.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tests.long.bench.harness import ROOT, markdown, ratio, result_in, spread, verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PAGE = ROOT / "docs" / "explanation" / "performance.md"
PLOT = PAGE.with_suffix(".png")

Results = dict[str, Any]
"""What ``harness.kept`` has kept, by the name of the benchmark."""

HEAD = """\
# What does a poll cost, and what does a watched id take?

{answer}

This page is written by `tests/long/bench/`: every figure is measured, none is typed.
{how_far}
Figures are medians with their quartiles (of fewer than four rounds: the least and the greatest).
CPU time is user and system time of the client's process.
Each sample comes from a fresh process, and the cases take turns, so that a noisy neighbour meets \
all alike: read the ratios, which are taken within a round, before the microseconds.

## What was aimed at, and was it met?

{verdicts}

{missed}
"""

PARTS = {
    "poll_cost": """
## One poll

A responder in another process on the other core gives one answer of 330 bytes, on connections \
that are kept.
"Nothing new" are answers of the same bytes as the last one, which are not read again; where \
only the progress moves, it is all that is read.
With `progress=True` each such answer becomes an event, and its task is read when it is asked for.

{tables}
""",
    "schedule_cost": """
## Scheduling alone

No network and no decoding: who is due, what changed, the event, the mailbox, the reader.

{tables}
""",
    "memory": """
## A watched id

The whole watcher on a transport without a network; every answer is a body of its own of 330 bytes.
"Seen" is after the first answer, with its event read.

{tables}
""",
    "growth": """
## As their number grows

![CPU time per poll, and memory per id, by the number of ids](performance.png)

Always 64 requests in flight, progress moving, and more polls asked for than can be done.
Few ids share what the watcher needs for itself, so that each seems to take more.

{tables}
""",
    "lateness": """
## Late polls and a busy loop

Real sockets and real time: this part needs a quiet machine, and is the first to suffer from \
neighbours.
A loop with nothing to do, and one that does the same with aiohttp, stand beside it.

{tables}
""",
    "startup": """
## The start

{tables}
""",
    "instructions": """
## Instructions

CPU instructions of the client's process, without the kernel, counted by valgrind: unlike \
microseconds, they hardly depend on the machine.
64 requests are in flight on real sockets, and 64 responses arrive per wake-up of the loop.

{tables}
""",
    "policy": """
## When to ask

The cheapest poll is the one that is not sent.
`PollPolicy(adaptive=True)` was simulated with the library's own classes on {tasks:,} tasks of \
each kind of server, beside a fixed interval of 5 seconds.
{saving}
[How it is chosen](polling.md#what-ended-tasks-teach) has the table and the reasons.
""",
}

TAIL = """
## Where, and with what

{machine}

{when}

## How to repeat it

```console
$ python3 noxfile.py -s bench                           # all, in half an hour; writes this page
$ python3 noxfile.py -s bench -- --quick                # a look, in minutes; writes it too
$ python3 noxfile.py -s bench -- poll_cost memory       # some of it, tables on the screen
$ python3 noxfile.py -s bench -- instructions           # needs valgrind; counts in 5 minutes
$ python3 noxfile.py -s bench -- --into results         # an interrupted run goes on from there
$ python3 noxfile.py -s bench -- --into results report  # this page from what is there
```
"""


def write(folder: Path, programs: tuple[str, ...]) -> None:
    """Write page and plot from the results in a folder."""
    results = {name: found for name in programs if (found := result_in(folder / f"{name}.json"))}
    PAGE.write_text(page(results, programs), "utf-8")
    if "growth" in results:
        plot(results["growth"]["found"])
    print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)


# -- the page -------------------------------------------------------------------------------------


def page(results: Results, programs: tuple[str, ...]) -> str:
    """Put the page together."""
    parts = [
        _part(name, result["found"]) for name in PARTS if (result := results.get(name)) is not None
    ]
    head = HEAD.format(
        answer=_answer(results),
        how_far=_how_far(results, programs),
        verdicts=verdicts(_goals(results)),
        missed=_missed(results),
    )
    tail = TAIL.format(machine=_machine(results), when=_when(results))
    return "".join((head, *parts, tail))


def _part(name: str, found: Mapping[str, Any]) -> str:
    program = import_module(f"tests.long.bench.{name}")
    if name == "policy":
        return PARTS[name].format(tasks=found["tasks"], saving=program.saving(found))
    return PARTS[name].format(tables=program.tables(found))


def _goals(results: Results) -> list[Any]:
    programs = {
        name: import_module(f"tests.long.bench.{name}") for name in PARTS if name in results
    }
    goals = [
        goal
        for name, program in programs.items()
        if hasattr(program, "goals")
        for goal in program.goals(results[name]["found"])
    ]
    return sorted(goals, key=lambda goal: goal.letter)


def _missed(results: Results) -> str:
    goals = _goals(results)
    missed = [goal.letter for goal in goals if not goal.meets(goal.bar)]
    if not missed:
        return f"All {len(goals)} are met."
    letters = ", ".join(dict.fromkeys(missed))
    met = len(goals) - len(missed)
    return f"Of {len(goals)}, {met} are met and {len(missed)} are not ({letters})."


def _answer(results: Results) -> str:
    """Answer the question of the page in a sentence, as far as it was measured."""
    told = []
    if "poll_cost" in results:
        samples = results["poll_cost"]["found"]["samples"]
        same = ratio(samples, "watcher", "bare", "us").median
        news = ratio(samples, "watcher, moving", "bare, moving", "us").median
        told.append(
            f"a poll of the watcher costs {same:.2f} times the CPU time of a plain loop on aiohttp "
            f"when nothing is new, and {news:.2f} times when the progress moves"
        )
    if "memory" in results:
        found = results["memory"]["found"]
        size = spread(found["samples"], f"RSS, {found['sizes'][-1]}", "seen").median
        told.append(f"a watched id takes {size:.2f} KiB")
    sentence = "; ".join(told) or "this time neither was measured"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _how_far(results: Results, programs: tuple[str, ...]) -> str:
    lines = []
    if quick := [name for name, result in results.items() if result["quick"]]:
        which = "all of it" if len(quick) == len(results) else ", ".join(quick)
        lines.append(
            f"**This is a quick run** ({which}): few rounds of small size, to be looked at and "
            "not to be told."
        )
    if missing := [name for name in programs if name not in results]:
        lines.append(f"Not measured this time: {', '.join(missing)}.")
    return "\n".join(lines)


def _machine(results: Results) -> str:
    told: dict[str, list[str]] = {}
    for result in results.values():
        for name, value in result["machine"].items():
            told.setdefault(name, [])
            if value not in told[name]:
                told[name].append(value)
    return markdown(["", ""], [[name, " or ".join(values)] for name, values in told.items()])


def _when(results: Results) -> str:
    minutes = sum(result["seconds"] for result in results.values()) / 60.0
    rounds = sorted({result["rounds"] for result in results.values()})
    return f"{' or '.join(map(str, rounds))} rounds, {minutes:.0f} minutes in all."


# -- the plot -------------------------------------------------------------------------------------


def plot(found: Mapping[str, Any]) -> None:
    """Draw cost and size by the number of ids."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from tests.long.bench.growth import TOLD

    plt.rcParams.update({"font.size": 11, "axes.titlesize": 12})
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for kind, (colour, mark) in _LOOKS.items():
        for panel, name in zip(panels, ("us", "kib"), strict=True):
            sizes = found["sizes"][kind]
            spreads = [spread(found["samples"], f"{kind}, {ids}", name) for ids in sizes]
            middle = [each.median for each in spreads]
            error = [
                [each.median - each.low for each in spreads],
                [each.high - each.median for each in spreads],
            ]
            panel.errorbar(sizes, middle, yerr=error, label=TOLD[kind], color=colour, marker=mark,
                           markersize=6, linewidth=1.8, capsize=3)  # fmt: skip
    for panel, title, unit in zip(
        panels,
        ("One poll, everything included", "One watched id"),
        ("CPU time per poll (µs)", "memory per id (KiB, resident)"),
        strict=True,
    ):
        panel.set(title=title, xlabel="watched ids", ylabel=unit, xscale="log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
        panel.grid(visible=True, which="major", color="0.88")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[1].set_yscale("log")
    panels[1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[1].yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    panels[1].yaxis.set_minor_formatter(NullFormatter())
    panels[1].legend(frameon=False, loc="upper right")
    figure.savefig(PLOT, dpi=130, metadata={"Software": None})
    plt.close(figure)


_LOOKS = {
    "mock": ("#0072b2", "o"),
    "sockets": ("#009e73", "s"),
    "coroutines": ("#d55e00", "^"),
}
"""Colours that the colour-blind can tell apart, and marks besides."""
