"""
Harness of the benchmarks: samples in fresh processes, CPU time, medians with their spread.

Rules:

1. Every sample comes from a process of its own, on the first core; the server has the second one.
2. The cases of a program alternate, in another order each round, so that other load on the machine
   affects all alike.  Ratios are taken within a round.
3. Cost is CPU time, user and system, from ``getrusage``; the wall clock is for rates only.
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
KEY = "sk-" + "0123456789abcdef" * 3  # as long as real ones: responses are searched for it
_TICK = 0.01  # seconds
_TIMEOUT = 1800  # seconds for one sample; a million ids take long

Sample = dict[str, float]
"""Figures of one process, by name."""

Samples = dict[str, list[Sample]]
"""Samples of all processes, by case, in the order of the rounds."""


# -- samples --------------------------------------------------------------------------------------


@frozen
class Case:
    """One measured case: a function of a benchmark, called in a process of its own."""

    name: str
    subject: Callable[..., Any]
    arguments: Mapping[str, Any] = field(factory=dict)
    rounds: int | None = None


@frozen(kw_only=True)
class Options:
    """How much is measured; *quick* gives a draft, not a result."""

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
    """Return the CPU time that this process has used, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def pin(core: int, process: int = 0) -> None:
    """Bind a process to one core, if the system can."""
    with suppress(AttributeError, OSError):
        os.sched_setaffinity(process, {core})


def task_ids(count: int) -> list[str]:
    """Return ids of the length that servers use."""
    return [f"task_{number:032d}" for number in range(count)]


def interleaved(cases: Sequence[Case], options: Options) -> Samples:
    """Run all cases alternately, round by round; print the progress to stderr."""
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
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT, check=True
    )
    sample: Sample = json.loads(done.stdout.splitlines()[-1])
    return sample


def take_sample(where: str, arguments: str) -> None:
    """Call the named function in this fresh process, and print its sample."""
    pin(CLIENT_CORE)
    module, _, name = where.partition(":")
    found = getattr(import_module(module), name)(**json.loads(arguments))
    print(json.dumps(asyncio.run(found) if inspect.iscoroutine(found) else found))


async def reached(counted: Callable[[], float], count: float) -> None:
    """Wait until a counter of the running benchmark has reached *count*."""
    while counted() < count:  # noqa: ASYNC110 -- a notification would cost measured CPU time
        await asyncio.sleep(_TICK)


@asynccontextmanager
async def meanwhile(running: Awaitable[Any]) -> AsyncIterator[None]:
    """Run something during the block, and cancel it afterwards."""
    task = asyncio.ensure_future(running)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def drained(events: AsyncIterable[Any], pause: float = 0.0) -> None:
    """Read events, with *pause* seconds after each."""
    async for _event in events:
        if pause:
            await asyncio.sleep(pause)


# -- figures --------------------------------------------------------------------------------------


@frozen
class Spread:
    """The median and the quartiles of all rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarize the rounds; with fewer than four, by the least and the greatest."""
        found = sorted(values)
        if len(found) < 4:
            return cls(median(found), found[0], found[-1])
        low, middle, high = quantiles(found, n=4, method="inclusive")
        return cls(middle, low, high)

    def shown(self, digits: int = 2) -> str:
        """Return ``median (low-high)``."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}-{self.high:,.{digits}f})"


def percentile(values: Iterable[float], percent: int) -> float:
    """Return the least value that *percent* of all do not exceed; 0 if there is none."""
    found = sorted(values)
    return found[max(0, ceil(len(found) * percent / 100) - 1)] if found else 0.0


def spread(samples: Samples, case: str, name: str) -> Spread:
    """Summarize one figure of one case."""
    return Spread.of(sample[name] for sample in samples[case])


def ratio(samples: Samples, case: str, reference: str, name: str) -> Spread:
    """Summarize the ratio of one figure to that of another case in the same round."""
    pairs = zip(samples[case], samples[reference], strict=False)
    return Spread.of(sample[name] / other[name] for sample, other in pairs)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@frozen
class Goal:
    """
    A target and the measured figure.

    Attributes:
        letter: The group of targets.
        what: What is measured.
        found: The figure; its median is compared.
        bar: The greatest allowed figure; the least with *at_least*.
        stretch: A harder target that is welcome; None for none.
        unit: Of the figure and the targets.
        digits: The number of decimal places shown.
        needs_quiet: Whether other load on the machine affects it.
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
        """The target as text."""
        sign = "≥" if self.at_least else "≤"
        told = f"{sign} {self.bar:g} {self.unit}".rstrip()
        return told if self.stretch is None else f"{told}, better {sign} {self.stretch:g}"

    @property
    def verdict(self) -> str:
        """Whether the target was met, as text."""
        if not self.meets(self.bar):
            return "**missed**"
        return "met, better too" if self.stretch is not None and self.meets(self.stretch) else "met"

    def meets(self, bar: float) -> bool:
        """Compare the median, before it is rounded."""
        return self.found.median >= bar if self.at_least else self.found.median <= bar

    @property
    def row(self) -> list[str]:
        """The row in the table of targets."""
        what = f"{self.what} (quiet machine)" if self.needs_quiet else self.what
        shown = f"{self.found.shown(self.digits)} {self.unit}".rstrip()
        return [self.letter, what, self.aim, shown, self.verdict]


def verdicts(goals: Iterable[Goal]) -> str:
    """Return the targets and the measured figures as a table."""
    heads = ["", "measured", "target", "found", "verdict"]
    return markdown(heads, (goal.row for goal in goals))


# -- results --------------------------------------------------------------------------------------


def kept(name: str, run: Callable[[Options], Mapping[str, Any]], options: Options) -> Any:
    """
    Run one benchmark and write its result into a file of its name.

    An existing result of as many rounds is returned instead: an interrupted run continues.
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
    """Return the result in a file, or None if there is no file."""
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def machine() -> dict[str, str]:
    """Return the machine and the versions."""
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
