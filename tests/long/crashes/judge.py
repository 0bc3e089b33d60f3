"""Judgement of a crash test by the file of delivered events."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.long.crashes.plan import Plan

_SHOWN = 5  # problems of one kind


class _Line(NamedTuple):
    life: str
    task_id: str
    kind: str
    is_last: bool  # of its watch: no other event was read before the kill


class Judge:
    """
    What a crash test has shown.

    Attributes:
        summary: The line that the crash test prints.
        problems: What must not be, in words; empty if all is well.
    """

    def __init__(self, plan: Plan, text: str) -> None:
        self._plan = plan
        self._lines = list(_parse(text))
        delivered: dict[str, list[_Line]] = {task_id: [] for task_id in plan.task_ids}
        for line in self._lines:
            delivered.setdefault(line.task_id, []).append(line)
        missing = [task_id for task_id, lines in delivered.items() if not lines]
        wrong = [line for line in self._lines if not self._is_right(line)]
        repeated = len(self._lines) - sum(map(bool, delivered.values()))
        again = [
            later
            for lines in delivered.values()
            for earlier, later in pairwise(lines)
            if not earlier.is_last or earlier.life == later.life
        ]
        self.summary = (
            f"kills {plan.kills}, ids {plan.ids}, final events {plan.ids - len(missing)}, "
            f"missing {len(missing)}, repeated {repeated}, wrong kind {len(wrong)}"
        )
        self.problems = [
            *(f"missing: {task_id}" for task_id in missing[:_SHOWN]),
            *(f"wrong kind: {line.task_id} {line.kind}" for line in wrong[:_SHOWN]),
            *(f"repeated, although read on: {line.task_id}" for line in again[:_SHOWN]),
        ]
        if repeated > plan.kills:
            self.problems.append("more than one repeat per kill")

    def _is_right(self, line: _Line) -> bool:
        return line.kind == f"task_{self._plan.final_status(line.task_id)}"


def _parse(text: str) -> Iterator[_Line]:
    rows = [line.split() for line in text.splitlines()]
    for row, following in pairwise([*rows, ["none"]]):
        yield _Line(*row, is_last=row[0] != following[0])
