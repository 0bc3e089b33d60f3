"""
Run the benchmarks: ``python -m tests.long.bench [--quick] [--rounds N] [--into DIR] [NAME ...]``.

The part ``instructions`` needs valgrind and takes ``--repeats N``.

Without names all parts run, and the performance page is written; with names only these run, and
their tables are printed.  The name ``report`` writes the page from the results in the folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from attrs import evolve

from tests.long.bench.harness import Options, kept, verdicts
from tests.long.bench.instructions import unavailable
from tests.long.bench.report import write

COUNTED = "instructions"
PROGRAMS = (
    "poll_cost", "schedule_cost", "memory", "lateness", "startup", "policy", "growth", "store",
    "publish", COUNTED,
)  # fmt: skip
REPORT = "report"
ROUNDS, QUICK_ROUNDS = 7, 2
REPEATS = 3  # enough, because they hardly differ


def main() -> None:
    """Run the parts that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.bench")
    parser.add_argument("names", nargs="*", choices=[[], *PROGRAMS, REPORT], help="default: all")
    parser.add_argument("--quick", action="store_true", help="few rounds of small size")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}, or {QUICK_ROUNDS} with --quick")
    parser.add_argument("--repeats", type=int, help=f"of {COUNTED}; default: {REPEATS}")
    parser.add_argument(
        "--into", type=Path, help="folder of the result files; continues an interrupted run"
    )
    chosen = parser.parse_args()
    options = Options(
        rounds=chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS),
        quick=chosen.quick,
        into=chosen.into or Path(tempfile.mkdtemp(prefix="ezvideo-bench-")),
    )
    options.into.mkdir(parents=True, exist_ok=True)
    counting = evolve(options, rounds=chosen.repeats or min(REPEATS, options.rounds))
    names = chosen.names or [*PROGRAMS, REPORT]
    if COUNTED in names and (reason := unavailable()):
        if chosen.names:
            parser.error(reason)
        print(reason, file=sys.stderr)
        names.remove(COUNTED)
    for name in (name for name in PROGRAMS if name in names):
        benchmark = import_module(f"tests.long.bench.{name}")
        result = kept(name, benchmark.run, counting if name == COUNTED else options)
        print(f"\n{told(benchmark, result['found'])}\n", flush=True)
    if REPORT in names:
        write(options.into, PROGRAMS)


def told(benchmark: Any, found: Any) -> str:
    """Return the tables of one benchmark, and its targets."""
    goals = benchmark.goals(found) if hasattr(benchmark, "goals") else []
    return "\n\n".join([benchmark.tables(found), *([verdicts(goals)] if goals else [])])


if __name__ == "__main__":
    main()
