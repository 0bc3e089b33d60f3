"""
Run the benchmarks: ``python -m tests.bench [--quick] [--rounds N] [--into FOLDER] [NAME ...]``.

Without names all of them run, and the figures and plots of the page are written anew; with names
those are run, and their tables printed.
"""

from __future__ import annotations

import argparse
import tempfile
from importlib import import_module
from pathlib import Path

from tests.bench.harness import Options, kept

PROGRAMS = ("poll_cost", "schedule_cost", "memory", "lateness", "startup", "policy", "growth")
ROUNDS, QUICK_ROUNDS = 7, 3


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", choices=[[], *PROGRAMS], help="all if left out")
    parser.add_argument("--quick", action="store_true", help="few rounds of small size")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}, or {QUICK_ROUNDS} with --quick")
    parser.add_argument("--into", type=Path, help="where result files go")
    chosen = parser.parse_args()
    options = Options(
        rounds=chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS),
        quick=chosen.quick,
        into=chosen.into or Path(tempfile.mkdtemp(prefix="ezvideo-bench-")),
    )
    options.into.mkdir(parents=True, exist_ok=True)
    for name in chosen.names or PROGRAMS:
        benchmark = import_module(f"tests.bench.{name}")
        result = kept(name, benchmark.run, options)
        print(f"\n{benchmark.tables(result['found'])}\n", flush=True)
    if not chosen.names:
        import_module("tests.bench.report").write(options.into)


if __name__ == "__main__":
    main()
