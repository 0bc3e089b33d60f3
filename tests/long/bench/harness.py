"""
What all benchmarks share: fresh processes in turn, CPU seconds, medians with their spread.

Rules:

1. Every sample comes from a process of its own, on the first core; the server has the second one.
2. The cases of a program take turns, round by round and each round in another order, so that a
   noisy neighbour meets all alike.  Ratios are taken within a round.
3. Cost is CPU time, user and system, by ``getrusage``; the wall clock is read for rates only.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import platform
import resource
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Self

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Mapping,
        Sequence,
    )

ROOT = Path(__file__).parents[3]
CLIENT_CORE, SERVER_CORE = 0, 1
KEY = "sk-" + "0123456789abcdef" * 3  # as long as real ones: answers are searched for it
_TICK = 0.01  # seconds
_PATIENCE = 1800  # seconds for one sample; a million ids take their time

Sample = dict[str, float]
"""What one process found, by name."""

Samples = dict[str, list[Sample]]
"""What all processes found, by case, in the order of the rounds."""


# -- samples --------------------------------------------------------------------------------------


@frozen
class Case:
    """One thing to measure: a function of a benchmark, called in a process of its own."""

    name: str
    subject: Callable[..., Any]
    arguments: Mapping[str, Any] = field(factory=dict)
    rounds: int | None = None


@frozen(kw_only=True)
class Options:
    """How much is measured: *quick* is for a look, not for a figure to be told."""

    rounds: int
    quick: bool
    into: Path


class Meter:
    """CPU and wall seconds of a ``with`` block."""

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), cpu_seconds()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.cpu = cpu_seconds() - self._cpu
        self.wall = time.perf_counter() - self._wall


def cpu_seconds() -> float:
    """CPU time that this process has used, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def pin(core: int, process: int = 0) -> None:
    """Keep a process on one core where the system can, and has more than one."""
    with suppress(AttributeError, OSError):
        os.sched_setaffinity(process, {core})


def task_ids(count: int) -> list[str]:
    """Ids of the length that servers give."""
    return [f"task_{number:032d}" for number in range(count)]


def interleaved(cases: Sequence[Case], options: Options) -> Samples:
    """Run all cases in turn, as many rounds as asked, and say how far it is on standard error."""
    samples: Samples = {case.name: [] for case in cases}
    for turn in range(options.rounds):
        start = turn % len(cases)
        for case in (*cases[start:], *cases[:start]):
            if case.rounds is None or turn < case.rounds:
                sample = sampled(case)
                samples[case.name].append(sample)
                told = "  ".join(f"{name} {value:,.4g}" for name, value in sample.items())
                print(f"[{turn + 1}/{options.rounds}] {case.name}: {told}", file=sys.stderr)
    return samples


def sampled(case: Case) -> Sample:
    """Take one sample in a fresh process."""
    where = f"{case.subject.__module__}:{case.subject.__name__}"
    command = [sys.executable, "-m", "tests.long.bench.harness", where, json.dumps(case.arguments)]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=_PATIENCE, check=True
    )
    sample: Sample = json.loads(done.stdout.splitlines()[-1])
    return sample


def take_sample(where: str, arguments: str) -> None:
    """Be the fresh process: call the function that is named, and print what it found."""
    pin(CLIENT_CORE)
    module, _, name = where.partition(":")
    found = getattr(import_module(module), name)(**json.loads(arguments))
    print(json.dumps(asyncio.run(found) if inspect.iscoroutine(found) else found))


async def reached(counted: Callable[[], float], count: float) -> None:
    """Wait until a counter of the running benchmark has come so far."""
    while counted() < count:  # noqa: ASYNC110 -- what is measured is not to pay for telling
        await asyncio.sleep(_TICK)


@asynccontextmanager
async def meanwhile(running: Awaitable[Any]) -> AsyncIterator[None]:
    """Let something run beside the block, and cancel it after."""
    task = asyncio.ensure_future(running)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def drained(events: AsyncIterable[Any], pause: float = 0.0) -> None:
    """Read events, and take *pause* seconds for each."""
    async for _event in events:
        if pause:
            await asyncio.sleep(pause)


# -- figures --------------------------------------------------------------------------------------


@frozen
class Spread:
    """The median of all rounds, and the quartiles beside it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Sum up what the rounds gave; of fewer than four, least and greatest are the spread."""
        found = sorted(values)
        if len(found) < 4:
            return cls(median(found), found[0], found[-1])
        low, middle, high = quantiles(found, n=4, method="inclusive")
        return cls(middle, low, high)

    def shown(self, digits: int = 2) -> str:
        """Write it as ``median (low-high)``."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}-{self.high:,.{digits}f})"


def percentile(values: Iterable[float], percent: int) -> float:
    """Give the least value that so many percent of all do not exceed; of none, 0."""
    found = sorted(values)
    return found[max(0, ceil(len(found) * percent / 100) - 1)] if found else 0.0


def spread(samples: Samples, case: str, name: str) -> Spread:
    """Sum up one value of one case."""
    return Spread.of(sample[name] for sample in samples[case])


def ratio(samples: Samples, case: str, reference: str, name: str) -> Spread:
    """Sum up one value beside that of another case in the same round."""
    pairs = zip(samples[case], samples[reference], strict=False)
    return Spread.of(sample[name] / other[name] for sample, other in pairs)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@frozen
class Goal:
    """
    What is aimed at, and what was found.

    Attributes:
        letter: Which of the targets it belongs to.
        what: What is measured.
        found: The figure; its median is judged.
        bar: What it may be at most, or with *at_least* must be at least.
        stretch: A harder bar that would be welcome; None for none.
        unit: Of the figure and the bars.
        digits: How many are shown behind the point.
        needs_quiet: Whether neighbours on the machine spoil it.
    """

    letter: str
    what: str
    found: Spread
    bar: float
    at_least: bool = False
    stretch: float | None = None
    unit: str = ""
    digits: int = 2
    needs_quiet: bool = False

    @property
    def aim(self) -> str:
        """What is aimed at, in words."""
        sign = "≥" if self.at_least else "≤"
        told = f"{sign} {self.bar:g} {self.unit}".rstrip()
        return told if self.stretch is None else f"{told}, better {sign} {self.stretch:g}"

    @property
    def verdict(self) -> str:
        """Whether it was met, in a word or two."""
        if not self.meets(self.bar):
            return "**missed**"
        return "met, better too" if self.stretch is not None and self.meets(self.stretch) else "met"

    def meets(self, bar: float) -> bool:
        """Judge the median as it is, not as it is rounded."""
        return self.found.median >= bar if self.at_least else self.found.median <= bar

    @property
    def row(self) -> list[str]:
        """What stands in a table of goals."""
        what = f"{self.what} (quiet machine)" if self.needs_quiet else self.what
        shown = f"{self.found.shown(self.digits)} {self.unit}".rstrip()
        return [self.letter, what, self.aim, shown, self.verdict]


def verdicts(goals: Iterable[Goal]) -> str:
    """Write what was aimed at beside what was found."""
    heads = ["", "measured", "target", "found", "verdict"]
    return markdown(heads, (goal.row for goal in goals))


# -- results --------------------------------------------------------------------------------------


def kept(name: str, run: Callable[[Options], Mapping[str, Any]], options: Options) -> Any:
    """
    Run one benchmark and keep its result in a file of its name.

    One that is there already, of as many rounds, is given back: an interrupted run goes on.
    """
    path = options.into / f"{name}.json"
    earlier = result_in(path)
    if earlier and (earlier["rounds"], earlier["quick"]) == (options.rounds, options.quick):
        print(f"kept {path}", file=sys.stderr)
        return earlier
    began = time.time()
    result = {
        "program": name,
        "found": run(options),
        "rounds": options.rounds,
        "quick": options.quick,
        "began": began,
        "seconds": time.time() - began,
        "machine": machine(),
    }
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(result, indent=1), "utf-8")
    beside.replace(path)
    print(f"wrote {path}", file=sys.stderr)
    return result


def result_in(path: Path) -> Any:
    """Read a result; None when there is none."""
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def machine() -> dict[str, str]:
    """Say where this runs, and with what."""
    told = {
        "cores": str(os.cpu_count()),
        "cpu": _cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for package in ("ezvideo_async", "aiohttp", "attrs", "cattrs", "anyio", "openai"):
        with suppress(PackageNotFoundError):
            told[package] = version(package)
    return told


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    take_sample(*sys.argv[1:])
