"""Memory, open files and asyncio tasks of a process over time, and whether they grow."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from statistics import linear_regression
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = resource.getpagesize()


@frozen(kw_only=True)
class Sample:
    """One sample: *at* in seconds, *memory* in KiB, *tasks* without the *workers* of a watcher."""

    at: float
    memory: float
    files: int
    tasks: int
    workers: int = 0


@frozen(kw_only=True)
class Bound:
    """
    How much a figure may grow over the second half of a run, by linear regression.

    Attributes:
        slope: Allowed growth per minute (per virtual day);
        chance: or the allowed growth in all, if that is more;
        warm_up: the allowed growth in all while the process still warms up.
    """

    slope: float
    chance: float
    warm_up: float


BOUNDS = {
    "memory": Bound(slope=64.0, chance=1024.0, warm_up=4096.0),  # KiB
    "files": Bound(slope=0.2, chance=32.0, warm_up=64.0),
    "tasks": Bound(slope=0.2, chance=8.0, warm_up=64.0),
}


_MOST_WORKERS = 64
"""A watcher starts one when more requests are in flight than before, and keeps it."""


@define
class Vitals:
    """
    Samples of this process.

    Attributes:
        unit: The unit of slopes,
        seconds: and its length in seconds of the clock in use.
        warm_after: Units after which the process no longer warms up.
    """

    unit: str = "minute"
    seconds: float = 60.0
    warm_after: float = 5.0
    samples: list[Sample] = field(factory=list)

    def take(self, at: float) -> Sample:
        """Take a sample; *at* is in seconds of one clock."""
        names = [task.get_name() for task in asyncio.all_tasks()]
        workers = sum(name.endswith("Dispatcher._work") for name in names)
        sample = Sample(
            at=at,
            memory=int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1024,
            files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
            tasks=len(names) - workers,
            workers=workers,
        )
        self.samples.append(sample)
        return sample

    def slope(self, name: str) -> float:
        """Return the growth per unit over the second half: least squares."""
        half = self._second_half()
        times = [sample.at / self.seconds for sample in half]
        return linear_regression(times, [getattr(sample, name) for sample in half]).slope

    def _second_half(self) -> list[Sample]:
        return self.samples[len(self.samples) // 2 :]

    def growths(self) -> Iterator[str]:
        """Yield a line for every figure that grows by more than its bound."""
        if (workers := max(sample.workers for sample in self.samples)) > _MOST_WORKERS:
            yield f"{workers} workers, at most {_MOST_WORKERS} are allowed"
        half = self._second_half()
        units = (half[-1].at - half[0].at) / self.seconds
        for name, bound in BOUNDS.items():
            is_warm = half[0].at >= self.warm_after * self.seconds
            in_all = bound.chance if is_warm else bound.warm_up
            allowed = max(bound.slope, in_all / units)
            if self.slope(name) > allowed:
                yield (
                    f"{name} grows by {self.slope(name):.2f} a {self.unit},"
                    f" allowed are {allowed:.2f}"
                )

    def summary(self) -> str:
        """Return the slopes and the ranges of the second half."""
        half = self._second_half()
        parts = []
        for name in BOUNDS:
            values = [getattr(sample, name) for sample in half]
            parts.append(
                f"{name} {min(values):.0f} to {max(values):.0f},"
                f" {self.slope(name):+.2f} a {self.unit}"
            )
        return "; ".join(parts)
