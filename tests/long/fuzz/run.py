"""
Fuzz all subjects, or those that are named, on all cores.

``python -m tests.long.fuzz.run [subject ...] [--scale 0.01] [--seed N] [--index N]`` prints for
each how many cases there were, what came of them, the time they took and the memory of a process after
the first tenth and at the end.  It ends with 1 when a promise is broken or the memory grows.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from time import perf_counter

from aiohttp import http_parser
from attrs import frozen

from tests.long.fuzz.subject import SEED, Report
from tests.long.fuzz.subjects import SUBJECTS

GROWTH = 16.0  # MiB that a process may gain after the first tenth: caches, fragmentation
_STATM = Path("/proc/self/statm")


@frozen
class Stripe:
    """What one process did: its report, and its memory in MiB, early and at the end."""

    report: Report
    early: float
    late: float


def _memory() -> float:
    """MiB that this process needs now; 0 where the system does not tell."""
    gc.collect()
    if not _STATM.exists():
        return 0.0
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)  # glibc keeps up to 20 MiB of what was freed, as the last cases have it
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _run(name: str, seed: int, start: int, stop: int) -> Stripe:
    subject = SUBJECTS[name]
    tenth = start + max(1, (stop - start) // 10)
    report = subject.run(seed, range(start, tenth))
    early = _memory()
    report.add(subject.run(seed, range(tenth, stop)))
    return Stripe(report, early, _memory())


def _fuzz(name: str, seed: int, count: int, processes: int) -> bool:
    """Run one subject and print what came of it; True when all is well."""
    started = perf_counter()
    edges = [count * number // processes for number in range(processes + 1)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        jobs = [pool.submit(_run, name, seed, start, stop) for start, stop in pairwise(edges)]
        stripes = [job.result() for job in jobs]
    seconds = perf_counter() - started
    report = Report()
    for stripe in stripes:
        report.add(stripe.report)
    growth = max(stripe.late - stripe.early for stripe in stripes)
    _tell(name, count, seconds, report)
    memory = ", ".join(f"{stripe.early:.1f} -> {stripe.late:.1f}" for stripe in stripes)
    print(f"    MiB in each process: {memory}{'' if growth <= GROWTH else ': GROWN'}")
    for broken in report.broken:
        print(broken)
    sys.stdout.flush()
    return not report.broken and growth <= GROWTH


def _tell(name: str, count: int, seconds: float, report: Report) -> None:
    slowest = f", the slowest #{report.slowest_index} took {report.slowest * 1000:.1f} ms"
    timed = report.slowest_index >= 0
    print(f"{name}: {count:,} cases in {seconds:.1f} s{slowest if timed else ''}")
    total = sum(report.counts.values())
    shares = (f"{kind} {number:,}" for kind, number in Counter(report.counts).most_common())
    print(f"    {total:,} outcomes: {', '.join(shares)}")


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.fuzz.run")
    parser.add_argument("subjects", nargs="*", metavar="subject", help=", ".join(SUBJECTS))
    parser.add_argument("--scale", type=float, default=1.0, help="the part of a full run, 1")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--index", type=int, help="run this case alone, and show all of it")
    asked = parser.parse_args()
    if unknown := set(asked.subjects) - SUBJECTS.keys():
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    names = asked.subjects or list(SUBJECTS)
    if asked.index is not None:
        return _replay(names, asked.seed, asked.index)
    is_pure = http_parser.HttpResponseParser is http_parser.HttpResponseParserPy
    print(f"seed {asked.seed}, Python {sys.version.split()[0]}", end=", ")
    print("aiohttp's pure-Python parser" if is_pure else "aiohttp's C parser", flush=True)
    well = [
        _fuzz(name, asked.seed, max(10, int(SUBJECTS[name].full * asked.scale)), asked.processes)
        for name in names
    ]
    return 0 if all(well) else 1


def _replay(names: list[str], seed: int, index: int) -> int:
    reports = [SUBJECTS[name].run(seed, range(index, index + 1)) for name in names]
    for report in reports:
        print(dict(report.counts), *(f"{each.why}\n    {each.call}" for each in report.broken))
    return int(any(report.broken for report in reports))


if __name__ == "__main__":
    sys.exit(main())
