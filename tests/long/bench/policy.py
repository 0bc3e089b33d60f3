"""
Simulation of the adaptive poll policy, compared with a fixed interval of 5 s.

Tasks of one server and model are created one after the other and are watched from their creation.
The policy is better on a kind of server if it sends fewer requests per task and finds the end no
later, both with 95 % confidence in the paired differences; 0.05 s counts as no later.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from math import exp, sqrt
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from ezvideo_async import PollPolicy, TaskStatus, VideoTask
from ezvideo_async._scheduling.duration_estimator import DurationEstimator, RunObservation
from ezvideo_async._scheduling.pacing import predicted_interval
from tests.long.bench.harness import Options, markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MEDIAN = 90.0  # seconds that a task takes
_START = 1.8e9  # Unix seconds of the start
_APART = 2.0  # seconds between two tasks
_MARGIN = 0.05  # seconds by which an end may be found later: a hundredth of the interval
_Z = 1.96  # of a 95 % interval
_DONE = 100


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
        is_named: Whether servers are like this; the others are traps.
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


# -- policies -------------------------------------------------------------------------------------


@define
class Run:
    """What polls have shown of a task that was *created* by the server's clock."""

    created: datetime
    requests: int = 0
    progress: int | None = None
    observation: RunObservation | None = None


@define
class Fixed:
    """The default policy."""

    policy: PollPolicy = field(factory=PollPolicy)

    def delay(self, run: Run, age: float, rand: float) -> float:
        """Return the seconds until the next poll of a task of this age."""
        return self.policy.delay(rand=rand)

    def ended(self, run: Run, age: float) -> None:
        """Record an end that was found at this age."""


@define
class BuiltIn(Fixed):
    """The library's own classes: ``PollPolicy(adaptive=True)``."""

    policy: PollPolicy = field(factory=lambda: PollPolicy(adaptive=True))
    estimator: DurationEstimator = field(factory=DurationEstimator)

    def delay(self, run: Run, age: float, rand: float) -> float:
        """Do what ``AdaptivePacer`` does after a response."""
        now = self._observe(run, age, TaskStatus.PROCESSING)
        predicted = self.estimator.predict(run.observation, now=now)
        interval = predicted_interval(self.policy.interval, predicted)
        return self.policy.delay(rand=rand, interval=interval)

    def ended(self, run: Run, age: float) -> None:
        """Do what ``AdaptivePacer`` does with a final state."""
        self._observe(run, age, TaskStatus.COMPLETED)

    def _observe(self, run: Run, age: float, status: TaskStatus) -> float:
        unix_now = run.created.timestamp() + age
        shown = run.created.replace(microsecond=0)  # servers send whole seconds
        task = VideoTask(id="", status=status, progress=run.progress, created_at=shown)
        now = unix_now - _START
        run.observation = self.estimator.observe(run.observation, task, now=now, unix_now=unix_now)
        return now


FIXED, BUILT_IN = "fixed 5 s", "built in"
POLICIES: Mapping[str, Callable[[], Fixed]] = {FIXED: Fixed, BUILT_IN: BuiltIn}


# -- the simulation -------------------------------------------------------------------------------


def simulated(kind: Kind, policy: Fixed, number: int) -> tuple[list[int], list[float]]:
    """Watch all tasks; return the requests of each, and the seconds until its end was found."""
    tasks = kind.tasks(number)
    rand = random.Random(number).random
    runs = [Run(datetime.fromtimestamp(_START + task.created, UTC)) for task in tasks]
    found = [0.0] * number
    order = count()
    due = [(task.created, next(order), place) for place, task in enumerate(tasks)]
    while due:
        now, _, place = heappop(due)
        task, run = tasks[place], runs[place]
        age = now - task.created
        run.requests += 1
        progress = kind.seen(task, age)
        if progress == _DONE:
            found[place] = age - task.duration
            policy.ended(run, age)
            continue
        run.progress = progress
        heappush(due, (now + policy.delay(run, age, rand()), next(order), place))
    return [run.requests for run in runs], found


@frozen
class Verdict:
    """One policy on one kind of server: differences to the fixed interval, with errors."""

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
    """Simulate both policies on all kinds."""
    number = 2_000 if options.quick else 20_000
    verdicts: dict[str, dict[str, Any]] = {name: {} for name in POLICIES}
    for kind in KINDS:
        fixed = simulated(kind, Fixed(), number)
        for name, policy in POLICIES.items():
            verdict = _compared(simulated(kind, policy(), number), fixed)
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
    """Return the requests and delays of each policy as a table."""
    verdicts = found["verdicts"]
    rows = [
        [kind.name, *(_cell(cells[kind.name]) for cells in verdicts.values())] for kind in KINDS
    ]
    return markdown(["requests / seconds until found", *verdicts], rows)


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


def _cell(cell: Mapping[str, Any]) -> str:
    mark = " ✓" if cell["is_better"] else ""
    return f"{cell['requests']:.1f} / {cell['detection']:.2f}{mark}"
