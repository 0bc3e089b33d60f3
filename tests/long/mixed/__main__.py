"""
Mixed run: 2,000 ids over real sockets, and in turn the fault of each row Q of the fault table.

``python -m tests.long.mixed [--seed SEED]`` takes about two and a half minutes.  An id that is
lost without its row saying so, completes with another url than its own or before its server said
so, ends twice or never, and a request that one side has not counted are wrong; then the exit
code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.long.mixed.clients import Record, run_group
from tests.long.mixed.clock import SPEED, FastLoop
from tests.long.mixed.plan import HORIZON, build
from tests.long.mixed.verdict import Wrong, faults_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.long.mixed.group import Group

_STEP = 0.5  # seconds of the run between the starts of two clients
_SHOWN = 6  # ids of each row
_SETTLES = 5.0  # seconds until the server has read the last requests


async def run(groups: Sequence[Group], seed: int, epoch: float) -> tuple[list[Record], Any]:
    """Start the server, run every group, and return the records and the server's report."""
    command = [sys.executable, "-m", "tests.long.mixed.server", str(seed), repr(epoch)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ports = json.loads(await process.stdout.readline())

        async def later(index: int, group: Group) -> Record:
            await asyncio.sleep(_STEP * index)
            return await run_group(group, ports[group.name])

        records = await asyncio.gather(*map(later, range(len(groups)), groups))
        await asyncio.sleep(_SETTLES)
    finally:
        process.stdin.close()
    return records, json.loads(await process.stdout.read())


def summary(records: Sequence[Record]) -> str:
    """Return the figures of a run."""
    finals = [final for record in records for ends in record.finals.values() for final in ends[:1]]
    kinds = Counter(final.kind for final in finals)
    reasons = Counter(final.reason for final in finals if final.kind == "lost")
    ids = sum(len(record.group.tasks) for record in records)
    of_ended_watches = sum(
        len(record.group.tasks) - len(record.finals) for record in records if record.fault
    )
    lost = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return (
        f"{ids} ids: {kinds['completed']} completed, {kinds['failed']} failed,"
        f" {kinds['lost']} lost ({lost}),"
        f" {of_ended_watches} in {sum(bool(record.fault) for record in records)} watches that"
        f" ended with an error, {ids - len(finals) - of_ended_watches} open;"
        f" {sum(record.requests for record in records):,} requests"
    )


def show(wrong: Sequence[Wrong]) -> None:
    """Print what is wrong, row by row."""
    by_row: dict[str, list[Wrong]] = {}
    for each in wrong:
        by_row.setdefault(each.row, []).append(each)
    for name, faults in sorted(by_row.items()):
        print(f"{name}: {len(faults)} wrong")
        for each in faults[:_SHOWN]:
            print(f"    {each.about[:60]!a}: {each.what[:300]}")


def main() -> None:
    """Run, print the figures, and exit with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="nox -s mixed --", description="the mixed run")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    seed = parser.parse_args().seed
    logging.getLogger("ezvideo_async").setLevel(logging.CRITICAL)  # faults are what it is about
    groups = build(seed)
    print(
        f"{sum(len(group.tasks) for group in groups)} ids of {len(groups)} clients, seed {seed};"
        f" at most {HORIZON / SPEED:.0f} s",
        flush=True,
    )
    epoch = began = time.monotonic()
    with asyncio.Runner(loop_factory=lambda: FastLoop(epoch)) as runner:
        records, report = runner.run(run(groups, seed, epoch))
    wrong = [fault for record in records for fault in faults_of(record, report[record.group.name])]
    show(wrong)
    print(summary(records))
    wrongly = len({each.about for each in wrong if each.what.startswith("COMPLETED WRONGLY")})
    print(
        f"wrong: {len(wrong)}, {wrongly} of them ids that completed wrongly"
        f" ({time.monotonic() - began:.0f} s)"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
