"""
Simulation of poll policies that adapt to finished tasks, compared with a fixed interval.

Tasks of one server and model are created one after the other and are watched from their creation.
All candidates poll the same tasks, and may use what finished tasks have shown.  A candidate passes
if on every kind of server it sends fewer requests per task than a fixed interval of 5 s and finds
the end no later, both with 95 % confidence in the paired differences; 0.05 s counts as no later.
"""

from __future__ import annotations

import random
from collections import deque
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from math import exp, sqrt
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from ezvideo_async import PollPolicy, TaskStatus, VideoTask
from ezvideo_async._scheduling.duration_estimator import DurationEstimator, RunObservation as Seen
from tests.long.bench.harness import Options, markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MEDIAN = 90.0  # seconds that a task takes
_START = 1.8e9  # Unix seconds of the start
_APART = 2.0  # seconds between two tasks
_MARGIN = 0.05  # seconds by which an end may be found later: a hundredth of the interval
_Z = 1.96  # of a 95 % interval
_DONE = 100
_TELLING = 20  # percent from which on a progress predicts the end
_MOVES = 1.5  # percent that a live progress would have moved by: then it must have moved
_ENOUGH = 3  # responses in which it had time to
_HITS = 18  # of the last 20


# -- servers --------------------------------------------------------------------------------------


@frozen
class Task:
    """
    A simulated task: *duration* and *phase* (of the server's refreshes) in seconds.

    Its progress is that of a task that takes *whole* seconds; a failing one ends earlier.
    """

    created: float
    duration: float
    phase: float
    whole: float
    progress: Callable[[float], int | None]


@frozen
class Kind:
    """
    A kind of server.

    Attributes:
        name: Its name in the table.
        progress: The progress shown at a share of the duration, 0 to 1; None for none.
        every: Seconds between two refreshes of the server's state; 0 for a live state.
        sigma: How much durations differ: the deviation of their logarithm.
        duration: Makes another duration from the usual one, the task's number as a share of all,
            and a number in [0, 1).
        is_named: Whether a candidate must pass on it; the others are traps.
        batch: How many tasks are created at once.
        fails: The share of tasks that fail at any time while running.
        then: The progress that the second half of the tasks shows.
    """

    name: str
    progress: Callable[[float], int | None]
    every: float = 0.0
    sigma: float = 0.35
    duration: Callable[[float, float, float], float] = lambda usual, _place, _rand: usual
    is_named: bool = True
    batch: int = 1
    fails: float = 0.0
    then: Callable[[float], int | None] | None = None

    def seen(self, task: Task, age: float) -> int | None:
        """Return the progress at an age, 100 at the end."""
        if self.every:
            rounds = (age - task.phase) // self.every
            age = max(0.0, task.phase + rounds * self.every)
        if age >= task.duration:
            return _DONE
        return task.progress(age / task.whole)

    def tasks(self, number: int) -> list[Task]:
        """Return the same tasks at each call."""
        rand = random.Random(self.name)
        return [self._task(place, number, rand) for place in range(number)]

    def _task(self, place: int, number: int, rand: random.Random) -> Task:
        whole = self.duration(
            _MEDIAN * exp(rand.gauss(0.0, self.sigma)), place / number, rand.random()
        )
        return Task(
            created=place // self.batch * self.batch * _APART,
            phase=rand.uniform(0.0, self.every),
            duration=whole * rand.random() if self._is_to_fail(rand) else whole,
            whole=whole,
            progress=self.then if self.then and 2 * place > number else self.progress,
        )

    def _is_to_fail(self, rand: random.Random) -> bool:
        return self.fails > 0.0 and rand.random() < self.fails


def _linear(share: float) -> int:
    return int(100 * share)


def _steps(share: float) -> int:
    """Return the steps of new-api: submitted, queued, running, half done."""
    return next(shown for upto, shown in ((0.02, 0), (0.05, 10), (0.15, 20), (0.5, 30), (1.0, 50))
                if share < upto)  # fmt: skip


def _none(_share: float) -> None:
    return None


def _stuck(share: float) -> int:
    return min(99, int(160 * share))


def _queued_first(share: float) -> int:
    return max(0, int(200 * share - 100))


_SPREADS = {"alike": 0.35, "mixed": 0.8}
KINDS = (
    *(
        Kind(f"{name}, durations {word}", progress, every, sigma)
        for name, progress, every in (
            ("live, linear progress", _linear, 0.0),
            ("live, coarse steps", _steps, 0.0),
            ("rows refreshed every 15 s", _linear, 15.0),
            ("rows refreshed every 60 s", _linear, 60.0),
            ("no progress", _none, 0.0),
        )
        for word, sigma in _SPREADS.items()
    ),
    Kind("trap: 99 % at two thirds", _stuck, is_named=False),
    Kind("trap: half the time queued", _queued_first, is_named=False),
    Kind("trap: three times faster from the middle on", _none, is_named=False,
         duration=lambda usual, place, _rand: usual / (3.0 if place > 0.5 else 1.0)),
    Kind("trap: one in 100 fails within 6 s", _none, is_named=False,
         duration=lambda usual, _place, rand: 6.0 * 100 * rand if rand < 0.01 else usual),
    Kind("trap: linear progress, one in ten fails on its way", _linear, is_named=False, fails=0.1),
    Kind("trap: linear, then 99 % at two thirds", _linear, is_named=False, then=_stuck),
    Kind("trap: a thousand at once", _none, is_named=False, batch=1000),
    Kind("trap: heavy tail", _none, sigma=1.3, is_named=False),
)  # fmt: skip


# -- candidates -----------------------------------------------------------------------------------


@define
class RunObservation:
    """
    What polls have shown of a task.

    Attributes:
        created: When it was created, by the server's clock.
        alive: Its age when it was last seen running.
        requests: How many were sent.
        progress: The progress of the last response.
        predicted: The first predicted age at its end.
        moved: Responses in which the progress had moved, where it had time to.
        stood: Responses in which it had not.
        seen: The observation of the library.
    """

    created: datetime
    alive: float = 0.0
    requests: int = 0
    progress: int | None = None
    predicted: float | None = None
    moved: int = 0
    stood: int = 0
    seen: Seen | None = None

    def note(self, age: float, progress: int | None) -> None:
        """Record a response of a running task."""
        before, self.progress = self.progress, progress
        if before and progress:
            due = before * (age - self.alive) / self.alive
            if due >= _MOVES:
                self.moved += progress > before
                self.stood += progress == before
        self.alive = age


@define
class Fixed:
    """The default policy."""

    policy: PollPolicy = field(factory=PollPolicy)

    def delay(self, look: RunObservation, age: float, rand: float) -> float:
        """Return the seconds until the next poll of a task of this age."""
        return self.policy.delay(rand=rand)

    def ended(self, look: RunObservation, age: float) -> None:
        """Record an end that was found at this age."""


@define
class Backoff(Fixed):
    """An interval that grows with each request, a common hand-written policy."""

    def delay(self, look: RunObservation, age: float, rand: float) -> float:
        """Grow by half from 2 s up to 30 s."""
        return min(30.0, 2.0 * 1.5 ** (look.requests - 1)) * (0.9 + 0.2 * rand)


@define
class Quiet(Fixed):
    """
    Poll less until the age that all but a few tasks reach.

    A duration counts up to the last poll that saw the task running: an end in the quiet time counts
    as an early one, so that a server that has become faster is noticed at once.
    """

    share: float = 0.02
    pause: float | None = None
    """The interval in the quiet time; None sends no polls."""
    window: int = 200
    least: int = 50
    _ages: deque[float] = field(factory=deque)
    _quantile: float = 0.0

    def delay(self, look: RunObservation, age: float, rand: float) -> float:
        """Wait until the quiet time ends, or for the normal interval."""
        usual = Fixed.delay(self, look, age, rand)
        left = self._quantile - age
        if left <= usual:
            return usual
        return left if self.pause is None else min(left, max(usual, self.pause))

    def ended(self, look: RunObservation, age: float) -> None:
        """Record the age, and update the quantile."""
        self._ages.append(look.alive)
        if len(self._ages) > self.window:
            self._ages.popleft()
        if len(self._ages) >= self.least:
            self._quantile = sorted(self._ages)[int(self.share * len(self._ages))]


@define
class Extrapolating(Fixed):
    """
    Predict the end from the progress and poll after half of the time left, where it is trusted.

    It is trusted if 18 of the last 20 finished tasks ended within a tenth of the time that was
    predicted when they first showed 20 %, and their progress moved whenever it had time to.  A task
    that runs longer than predicted is polled at the normal interval.
    """

    others: Fixed = field(factory=Fixed)
    is_guarded: bool = True
    closest: float = 3.0  # seconds: the shortest interval of the API document
    _hits: deque[bool] = field(factory=lambda: deque(maxlen=20))

    def delay(self, look: RunObservation, age: float, rand: float) -> float:
        """Wait for half of the predicted time left, or for the normal interval."""
        usual = self.others.delay(look, age, rand)
        if not look.progress:
            return usual
        end = age * _DONE / look.progress
        if look.predicted is None and look.progress >= _TELLING:
            look.predicted = end
        overdue = look.predicted is not None and age > look.predicted + self.policy.interval
        if overdue or not self._is_trusted:
            return usual
        return max(self.closest, min((end - age) / 2.0, _MEDIAN)) * (0.95 + 0.1 * rand)

    @property
    def _is_trusted(self) -> bool:
        return not self.is_guarded or sum(self._hits) >= _HITS

    def ended(self, look: RunObservation, age: float) -> None:
        """Check the prediction."""
        self.others.ended(look, age)
        if look.predicted is not None:
            slack = 0.1 * age
            is_near = look.alive - slack <= look.predicted <= age + slack
            self._hits.append(is_near and look.moved >= _ENOUGH and not look.stood)


@define
class BuiltIn(Fixed):
    """The library's own classes: ``PollPolicy(adaptive=True)``."""

    policy: PollPolicy = field(factory=lambda: PollPolicy(adaptive=True))
    learned: DurationEstimator = field(factory=DurationEstimator)

    def delay(self, look: RunObservation, age: float, rand: float) -> float:
        """Do what the scheduler does with a response."""
        now = self._see(look, age, TaskStatus.PROCESSING)
        known = self.learned.outlook(look.seen, now=now)._asdict()
        return self.policy.delay(rand=rand, **known)

    def ended(self, look: RunObservation, age: float) -> None:
        """Do what the scheduler does with the last response."""
        self._see(look, age, TaskStatus.COMPLETED)

    def _see(self, look: RunObservation, age: float, status: TaskStatus) -> float:
        unix_now = look.created.timestamp() + age
        told = look.created.replace(microsecond=0)  # servers send whole seconds
        task = VideoTask(id="", status=status, progress=look.progress, created_at=told)
        now = unix_now - _START
        look.seen = self.learned.seen(look.seen, task, now=now, unix_now=unix_now)
        return now


def _every(interval: float) -> PollPolicy:
    return PollPolicy(interval=interval)


FIXED, BUILT_IN = "fixed 5 s", "built in"
CANDIDATES: Mapping[str, Callable[[], Fixed]] = {
    FIXED: Fixed,
    "backoff": Backoff,
    "silent": Quiet,
    "silent, 4.8 s": lambda: Quiet(_every(4.8)),
    "sparse": lambda: Quiet(pause=15.0),
    "sparse, 4.8 s": lambda: Quiet(_every(4.8), pause=15.0),
    "progress, unguarded": lambda: Extrapolating(is_guarded=False),
    "progress": Extrapolating,
    "progress + silent, 4.8 s": lambda: Extrapolating(others=Quiet(_every(4.8))),
    "progress + sparse, 4.8 s": lambda: Extrapolating(others=Quiet(_every(4.8), pause=15.0)),
    BUILT_IN: BuiltIn,
}


# -- the simulation -------------------------------------------------------------------------------


def simulated(kind: Kind, candidate: Fixed, number: int) -> tuple[list[int], list[float]]:
    """Watch all tasks; return the requests of each, and the seconds until its end was found."""
    tasks = kind.tasks(number)
    rand = random.Random(number).random
    looks = [RunObservation(datetime.fromtimestamp(_START + task.created, UTC)) for task in tasks]
    found = [0.0] * number
    order = count()
    due = [(task.created, next(order), place) for place, task in enumerate(tasks)]
    while due:
        now, _, place = heappop(due)
        task, look = tasks[place], looks[place]
        age = now - task.created
        look.requests += 1
        progress = kind.seen(task, age)
        if progress == _DONE:
            found[place] = age - task.duration
            candidate.ended(look, age)
            continue
        look.note(age, progress)
        heappush(due, (now + candidate.delay(look, age, rand()), next(order), place))
    return [look.requests for look in looks], found


@frozen
class Verdict:
    """One candidate on one kind of server: differences to the fixed interval, with errors."""

    requests: float
    detection: float
    requests_less: float
    requests_doubt: float
    later: float
    later_doubt: float

    @property
    def is_better(self) -> bool:
        """Fewer requests, and the end found no later."""
        return (
            self.requests_less - self.requests_doubt > 0
            and self.later + self.later_doubt <= _MARGIN
        )


def _compared(ours: tuple[list[int], list[float]], fixed: tuple[list[int], list[float]]) -> Verdict:
    fewer = [old - new for new, old in zip(ours[0], fixed[0], strict=True)]
    later = [new - old for new, old in zip(ours[1], fixed[1], strict=True)]
    doubt = _Z / sqrt(len(fewer))
    return Verdict(
        requests=fmean(ours[0]),
        detection=fmean(ours[1]),
        requests_less=fmean(fewer),
        requests_doubt=doubt * stdev(fewer),
        later=fmean(later),
        later_doubt=doubt * stdev(later),
    )


def run(options: Options) -> dict[str, Any]:
    """Simulate all candidates on all kinds; with *quick*, only the library's own."""
    number = 2_000 if options.quick else 20_000
    names = (FIXED, BUILT_IN) if options.quick else tuple(CANDIDATES)
    verdicts: dict[str, dict[str, Any]] = {name: {} for name in names}
    for kind in KINDS:
        fixed = simulated(kind, Fixed(), number)
        for name in names:
            verdict = _compared(simulated(kind, CANDIDATES[name](), number), fixed)
            verdicts[name][kind.name] = {
                "requests": verdict.requests,
                "detection": verdict.detection,
                "later": verdict.later,
                "later_doubt": verdict.later_doubt,
                "fewer": verdict.requests_less,
                "fewer_doubt": verdict.requests_doubt,
                "is_better": verdict.is_better,
            }
    return {"tasks": number, "verdicts": verdicts}


def tables(found: dict[str, Any]) -> str:
    """Return the requests and delays of each candidate as a table, and which ones pass."""
    verdicts = found["verdicts"]
    passing = [name for name, cells in verdicts.items() if _passes(cells)]
    rows = [
        [kind.name, *(_cell(cells[kind.name]) for cells in verdicts.values())] for kind in KINDS
    ]
    rows.append(["**passes**", *("yes" if name in passing else "" for name in verdicts)])
    told = ", ".join(f"*{name}*" for name in passing) or "none: the fixed interval stays"
    table = markdown(["requests / seconds until found", *verdicts], rows)
    return f"{table}\n\nPassing: {told}."


def saving(found: dict[str, Any]) -> str:
    """Return what the library's adaptive policy saves compared with the fixed interval."""
    fixed, ours = found["verdicts"][FIXED], found["verdicts"][BUILT_IN]
    named = [kind.name for kind in KINDS if kind.is_named]
    saved = sorted(1 - ours[name]["requests"] / fixed[name]["requests"] for name in named)
    worst = max(cell["later"] for cell in ours.values())
    better = sum(ours[name]["is_better"] for name in named)
    return (
        f"On {len(named)} kinds of server it saves from {saved[0]:.0%} to {saved[-1]:.0%} of the "
        f"requests; on {better} of them it sends fewer requests and finds ends no later, with 95 % "
        f"confidence.\n"
        f"On all kinds, including {len(KINDS) - len(named)} traps, ends are found at most "
        f"{max(0.0, worst):.2f} seconds later on average."
    )


def _passes(cells: Mapping[str, Any]) -> bool:
    return all(cells[kind.name]["is_better"] for kind in KINDS if kind.is_named)


def _cell(cell: Mapping[str, Any]) -> str:
    mark = " ✓" if cell["is_better"] else ""
    return f"{cell['requests']:.1f} / {cell['detection']:.2f}{mark}"
