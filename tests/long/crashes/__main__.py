"""
Crash test: kill -9 of a watch with a store, again and again, and a check of its events.

``python -m tests.long.crashes [--kills N] [--seed S] [--ids N]`` kills 500 watches of 5,000 ids by
default, in real time.  A watch that is not killed then finishes what is left.  Every id must have
had its final event, of the right kind, and more than once only if a kill came after the event was
received and before the next one was read; else the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.long.crashes.judge import Judge
from tests.long.crashes.plan import Plan
from tests.long.crashes.processes import run_killed, run_to_its_end


def main() -> int:
    """Run the crash test and return its exit code."""
    parser = argparse.ArgumentParser(prog="crashes")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ids", type=int, default=5000)
    plan = Plan(**vars(parser.parse_args()))
    with TemporaryDirectory(prefix="crashes-") as folder:
        for life in range(plan.kills):
            run_killed(plan, Path(folder), life)
        run_to_its_end(plan, Path(folder))
        judge = Judge(plan, Path(folder, "events").read_text("ascii"))
    sys.stdout.write("\n".join([judge.summary, *judge.problems, ""]))
    return 1 if judge.problems else 0


if __name__ == "__main__":
    sys.exit(main())
