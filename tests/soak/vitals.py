"""How a process fares over time: memory, open files, asyncio tasks, and whether they grow."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from statistics import linear_regression, median
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = resource.getpagesize()


@frozen(kw_only=True)
class Sample:
    """One look: *at* in seconds, *memory* in KiB."""

    at: float
    memory: float
    files: int
    tasks: int


@frozen(kw_only=True)
class Bound:
    """
    How much a figure may grow over the second half.

    Attributes:
        slope: By this in a minute (a virtual day), by the line through its samples,
        chance: or by this in all, where that is more;
        warm_up: or by this in all when the run was so short that the process still warms up.
    """

    slope: float
    chance: float
    warm_up: float


BOUNDS = {
    "memory": Bound(slope=64.0, chance=1024.0, warm_up=4096.0),  # KiB
    "files": Bound(slope=0.2, chance=32.0, warm_up=64.0),
    # A watcher makes a worker when one more is needed than ever before: 64 in all, at any time.
    "tasks": Bound(slope=0.2, chance=64.0, warm_up=64.0),
}


@define
class Vitals:
    """
    Samples of this process.

    Attributes:
        unit: What slopes are by,
        seconds: and how many seconds of the clock in use it has.
        warm_after: Units after which the process no longer warms up.
    """

    unit: str = "minute"
    seconds: float = 60.0
    warm_after: float = 5.0
    samples: list[Sample] = field(factory=list)

    def take(self, at: float) -> Sample:
        """Look once; *at* is in seconds of any one clock."""
        sample = Sample(
            at=at,
            memory=int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1024,
            files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
            tasks=len(asyncio.all_tasks()),
        )
        self.samples.append(sample)
        return sample

    def slope(self, name: str) -> float:
        """Growth in a unit over the second half: least squares."""
        half = self._second_half()
        times = [sample.at / self.seconds for sample in half]
        return linear_regression(times, [getattr(sample, name) for sample in half]).slope

    def rise(self, name: str) -> float:
        """
        Growth in all over the second half, from its first quarter to its last one.

        One step, as of the most that was ever needed at once, counts as high as it is; the line
        through the samples takes it for half as much again when it is in the middle.
        """
        values = [getattr(sample, name) for sample in self._second_half()]
        quarter = max(1, len(values) // 4)
        return median(values[-quarter:]) - median(values[:quarter])

    def _second_half(self) -> list[Sample]:
        return self.samples[len(self.samples) // 2 :]

    def growths(self) -> Iterator[str]:
        """Name every figure that grows by more than its bound."""
        half = self._second_half()
        for name, bound in BOUNDS.items():
            is_warm = half[0].at >= self.warm_after * self.seconds
            in_all = bound.chance if is_warm else bound.warm_up
            slope, rise = self.slope(name), self.rise(name)
            if slope > bound.slope and rise > in_all:
                yield (
                    f"{name} grows by {slope:.2f} a {self.unit} and {rise:.0f} in all,"
                    f" allowed are {bound.slope:g} or {in_all:g}"
                )

    def summary(self) -> str:
        """Tell the slopes, and the ranges, of the second half."""
        half = self._second_half()
        parts = []
        for name in BOUNDS:
            values = [getattr(sample, name) for sample in half]
            parts.append(
                f"{name} {min(values):.0f} to {max(values):.0f},"
                f" {self.slope(name):+.2f} a {self.unit}"
            )
        return "; ".join(parts)
