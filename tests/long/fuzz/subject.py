"""
What the fuzzed subjects share: cases by number, verdicts, failures that can be pasted.

A case is a tuple of plain values, made from its number alone, and the arguments of its check;
its first value, a text or bytes, is what gets smaller when a failure is shown.
"""

from __future__ import annotations

import traceback
from collections import Counter
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 20260101
MOST_SHOWN = 5
_LONGEST_CALL = 2_000
_SHRINKING = 2_000  # trials


def chance(seed: int, index: int) -> Random:
    """Give the chance of one case, which depends on no other case."""
    return Random((seed << 40) | index)


@frozen
class Broken:
    """One broken promise: which case, how to see it again, and what was broken."""

    subject: str
    index: int
    call: str
    why: str

    def __str__(self) -> str:
        call = self.call
        if len(call) > _LONGEST_CALL:
            call = f"{call[:_LONGEST_CALL]}… (all of it: --index {self.index})"
        return f"{self.subject} #{self.index}: {self.why}\n    {call}"


@define
class Report:
    """What came of some cases."""

    counts: Counter[str] = field(factory=Counter)
    broken: list[Broken] = field(factory=list)
    slowest: float = 0.0
    slowest_index: int = -1

    def took(self, seconds: float, index: int) -> None:
        """Remember the slowest case."""
        if seconds > self.slowest:
            self.slowest, self.slowest_index = seconds, index

    def add(self, other: Report) -> None:
        """Take in the report on other cases."""
        self.counts += other.counts
        self.broken += other.broken
        self.took(other.slowest, other.slowest_index)


@frozen(kw_only=True)
class Subject:
    """
    One thing that is fuzzed.

    Attributes:
        full: So many cases are a full run.
        few: So many are the fixed slice.
        run: Runs the cases of these numbers, from this seed.
        kinds: What must have come of some case of the slice, else the generator is blunt.
    """

    name: str
    full: int
    few: int
    run: Callable[[int, range], Report]
    kinds: frozenset[str] = frozenset()


def each(
    name: str, make: Callable[[Random, int], tuple[Any, ...]], check: Callable[..., str]
) -> Callable[[int, range], Report]:
    """Make the ``run`` of a subject whose cases are checked one by one."""

    def run(seed: int, indexes: range) -> Report:
        report = Report()
        for index in indexes:
            case = make(chance(seed, index), index)
            started = perf_counter()
            why = outcome = None
            try:
                outcome = check(*case)
            except Exception as error:  # noqa: BLE001 -- whatever it is, it breaks the promise
                why = told(error)
            report.took(perf_counter() - started, index)
            report.counts[outcome or "BROKEN"] += 1
            if why is not None and len(report.broken) < MOST_SHOWN:
                report.broken.append(Broken(name, index, shown(check, case), why))
        return report

    return run


def told(error: BaseException) -> str:
    """Name an exception and the line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:500]} ({frame.name}, line {frame.lineno})"


def shown(check: Callable[..., str], case: tuple[Any, ...]) -> str:
    """Write the smallest call found that breaks in the same way."""
    kind = _broken_by(check, case)
    first = shrunk(case[0], lambda smaller: _broken_by(check, (smaller, *case[1:])) == kind)
    return f"{check.__name__}(*{(first, *case[1:])!r})"


def _broken_by(check: Callable[..., str], case: tuple[Any, ...]) -> tuple[type, str] | None:
    try:
        check(*case)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it breaks the promise
        return type(error), str(error)[:20]
    return None


def shrunk(value: Any, breaks: Callable[[Any], bool], *, trials: int = _SHRINKING) -> Any:
    """Cut out halves, quarters and so on for as long as what is left still breaks."""
    size = len(value) // 2
    while size and trials > 0:
        start, is_smaller = 0, False
        while start < len(value) and trials > 0:
            without = value[:start] + value[start + size :]
            trials -= 1
            if breaks(without):
                value, is_smaller = without, True
            else:
                start += size
        size = size if is_smaller and size == 1 else size // 2
    return value
