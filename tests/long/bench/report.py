"""
Performance page, made from the results of all benchmarks: text, tables and one plot.

``write(folder)`` writes the page and the plot from the result files in the folder; the part of a
benchmark without a result is left out, and the page says so.
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
"""The results that ``harness.kept`` has written, by the name of the benchmark."""

_DEFAULT_INTERVAL = 5.0  # of PollPolicy, seconds
_DEFAULT_RATE = 100.0  # of RequestBudget, per second

HEAD = """\
# Performance

{summary}
{notes}
## How to read the tables

Figures are medians with their quartiles; with fewer than four rounds, with the least and the \
greatest.
CPU time is user and system time of the client's process.
Each sample comes from a fresh process, and the cases alternate, so that other load on the machine \
affects all alike.
Ratios are taken within a round, so trust them more than the microseconds.
`tests/long/bench/` measures all figures and writes this page.
"""

PARTS = {
    "poll_cost": """
## One poll

A server process on the other core sends one response of 330 bytes, on kept-alive connections.
"Nothing new" are responses with the same bytes as the last one, which are not decoded again; if \
only the progress changed, only the progress is decoded.
With `progress=True` each such response becomes an event, and its task is decoded when it is read.

{tables}
""",
    "schedule_cost": """
## Scheduling

Without network and decoding: which task is due, what has changed, the event, the mailbox, the \
reader.

{tables}
""",
    "memory": """
## Memory of a watched id

The whole watcher on a transport without a network; each response is a body of its own of 330 bytes.
"Seen" is after the first response, with its event read.

{tables}
""",
    "growth": """
## Number of ids

![CPU time per poll, and memory per id, by the number of ids](performance.png)

Always 64 requests in flight, progress changing, and more polls due than can be sent.
With few ids the memory of the watcher itself is divided among few, so each seems to take more.

{tables}
""",
    "lateness": """
## Late polls and a busy loop

Real sockets and real time, so other load on the machine affects this part most.
An idle event loop and the same load with aiohttp are measured for comparison.

{tables}
""",
    "store": """
## Watching with a store

CPU time of the process, the thread and the system calls of the disk included, less that of the \
same without a store.
A poll without a change of status writes nothing.

{tables}
""",
    "publish": """
## Many subscriptions

An event of an id goes to the subscriptions of that id only.

{tables}
""",
    "startup": """
## Start-up

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
## Adaptive polling

`PollPolicy(adaptive=True)` was simulated with the library's own classes on {tasks:,} tasks of \
each kind of server, and compared with a fixed interval of 5 seconds.
{saving}
[Adaptive polling](polling.md#adaptive-polling) has the formula and a table.
""",
}

TAIL = """
## Targets

{verdicts}

{missed}

## Machine and versions

{machine}

{when}

## Run the benchmarks

```console
$ python3 noxfile.py -s bench                           # all, in half an hour; writes this page
$ python3 noxfile.py -s bench -- --quick                # a draft in minutes; writes it too
$ python3 noxfile.py -s bench -- poll_cost memory       # some parts; prints their tables
$ python3 noxfile.py -s bench -- instructions           # needs valgrind; counts in 5 minutes
$ python3 noxfile.py -s bench -- --into results         # continues an interrupted run
$ python3 noxfile.py -s bench -- --into results report  # writes this page from these results
```
"""


def write(folder: Path, programs: tuple[str, ...]) -> None:
    """Write the page and the plot from the results in a folder."""
    results = {name: found for name in programs if (found := result_in(folder / f"{name}.json"))}
    PAGE.write_text(page(results, programs), "utf-8")
    if "growth" in results:
        plot(results["growth"]["found"])
    print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)


# -- the page -------------------------------------------------------------------------------------


def page(results: Results, programs: tuple[str, ...]) -> str:
    """Return the text of the page."""
    parts = [
        _part(name, result["found"]) for name in PARTS if (result := results.get(name)) is not None
    ]
    head = HEAD.format(summary=_summary(results), notes=_notes(results, programs))
    tail = TAIL.format(
        verdicts=verdicts(_goals(results)),
        missed=_missed(results),
        machine=_machine(results),
        when=_when(results),
    )
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
        return f"All {len(goals)} targets are met."
    letters = ", ".join(dict.fromkeys(missed))
    met = len(goals) - len(missed)
    return f"Of {len(goals)} targets, {met} are met and {len(missed)} are not ({letters})."


def _summary(results: Results) -> str:
    """Return five lines for users, as far as their figures were measured."""
    interval, rate = _DEFAULT_INTERVAL, _DEFAULT_RATE
    cost = memory = most = "not measured this time"
    if "poll_cost" in results:
        samples = results["poll_cost"]["found"]["samples"]
        same = ratio(samples, "watcher", "bare", "us").median
        moved = ratio(samples, "watcher, moving", "bare, moving", "us").median
        microseconds = spread(samples, "watcher, moving", "us").median
        cost = (
            f"{microseconds:.0f} µs if the progress changed, which is {moved:.2f} times that of a "
            f"plain loop on aiohttp; {same:.2f} times if nothing is new"
        )
        polls = spread(samples, "watcher, moving, told", "a second").median
        most = (
            f"about {polls * interval:,.0f}, each polled every {interval:g} seconds and each poll "
            "an event, keep one core of this machine busy"
        )
    if "memory" in results:
        found = results["memory"]["found"]
        size = spread(found["samples"], f"{found['sizes'][-1]}", "seen").median
        memory = f"{size:.2f} KiB with a response of 330 bytes"
    tune = "../how-to/tune-polling.md#allow-more-requests-or-fewer"
    limit = (
        f"the default request budget of {rate:g} requests per second polls {rate * interval:,.0f} "
        f"ids every {interval:g} seconds; with more ids the interval grows, unless you "
        f"[raise the rate]({tune})"
    )
    lines = {
        "CPU time per poll": cost,
        "Memory per watched id": memory,
        "Ids per process": most,
        "First limit": limit,
        "On your machine": "`python3 noxfile.py -s bench` measures all of it",
    }
    return "\n".join(f"- **{name}**: {text}." for name, text in lines.items())


def _notes(results: Results, programs: tuple[str, ...]) -> str:
    """Return what the reader must know of an incomplete run; empty for a complete one."""
    lines = []
    if quick := [name for name, result in results.items() if result["quick"]]:
        which = "all parts" if len(quick) == len(results) else ", ".join(quick)
        lines.append(f"\n**This is a quick run** ({which}) with few rounds: a draft, not a result.")
    if missing := [name for name in programs if name not in results]:
        lines.append(f"\nNot measured this time: {', '.join(missing)}.")
    return "".join(f"{line}\n" for line in lines)


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
    """Draw CPU time and memory by the number of ids."""
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
"""Colours that colour-blind readers can distinguish, and a marker each."""
