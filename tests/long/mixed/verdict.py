"""What is wrong with a mixed run: each record is compared with the plan and the server's report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from ezvideo_async.instrumentation import CircuitOpened, RateLimited
from tests.long.mixed.replies import url_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.long.mixed.clients import Final, Record
    from tests.long.mixed.group import Task
    from tests.long.mixed.rows import Outcome

_LATEST = 300.0  # seconds after the earliest moment: backoff of a minute, several polls


@frozen
class Wrong:
    """One fault of the run: the row, the id or group, and what is wrong."""

    row: str
    about: str
    what: str


def faults_of(record: Record, report: dict[str, Any]) -> Iterator[Wrong]:
    """Yield what is wrong with one group."""
    group, served = record.group, report["tasks"]
    if record.requests != report["requests"]:
        what = f"the client counted {record.requests} requests, the server {report['requests']}"
        yield Wrong(group.name, "requests", what)
    for target in report["unplanned"]:
        yield Wrong(group.name, target, "a request for an id that nobody watches")
    if group.renews and record.calls > group.calls:
        yield Wrong(group.name, "API key", f"renewed {record.calls - 1} times")
    yield from _faults_of_watch(record, report)
    for task in group.tasks:
        for what in _faults_of_id(task, record, served[task.id]):
            yield Wrong(task.row.name, task.id, what)
    if group.name == "main":
        yield from _faults_of_pacing(record)


def _faults_of_watch(record: Record, report: dict[str, Any]) -> Iterator[Wrong]:
    group, fault = record.group, record.fault
    if group.fatal is None:
        if fault is not None:
            left = len(group.tasks) - len(record.finals)
            what = f"ended at {record.fault_at:.0f} s with {left} ids open: {fault!r}"
            yield Wrong(group.name, "the watch", what)
        return
    if fault is None:
        yield Wrong(group.name, "the watch", f"did not end with {group.fatal.reason}")
        return
    reason = getattr(fault, "reason", None) if type(fault).__name__ == "ConfigError" else None
    kind = " ".join(filter(None, (type(fault).__name__, reason)))
    if kind != group.fatal.reason:
        what = f"ended with {kind} instead of {group.fatal.reason}: {fault}"
        yield Wrong(group.name, "the watch", what)
    ended = set(record.finals)
    if set(getattr(fault, "open_ids", ())) != {task.id for task in group.tasks} - ended:
        yield Wrong(group.name, "the watch", "open_ids are not the ids without an end")
    counts = [
        report["tasks"][task.id][-1]
        for task in group.tasks
        if len(report["tasks"][task.id]) == len(task.row.phases)
    ]
    begun = min((began for began, _ in counts), default=record.fault_at)
    polls = sum(count for _, count in counts)
    yield from (
        Wrong(group.name, "the watch", what)
        for what in _too_early_or_late(group.fatal, record.fault_at - begun, polls)
    )


def _faults_of_id(task: Task, record: Record, phases: list[list[float]]) -> Iterator[str]:
    finals = record.finals.get(task.id, [])
    if len(finals) > 1 or task.id in record.late:
        yield f"{len(finals)} final events, or events after the final one"
    if task.row.stalls and task.id not in record.stalls:
        yield "no TaskStalled"
    expected = task.row.outcome
    if not finals:
        if expected.kind not in {"open", "fatal"} and record.fault is None:
            yield f"has not ended, expected {expected.kind} {expected.reason}"
        return
    final = finals[0]
    shown = f"{final.kind} {final.reason}".strip()
    if (final.kind, final.reason) != (expected.kind, expected.reason):
        wanted = f"{expected.kind} {expected.reason}".strip()
        yield f"{shown} at {final.at:.0f} s, expected {wanted} (error: {final.error})"
    elif len(phases) < len(task.row.phases) and final.reason != "deadline":
        yield f"{shown} before the server had shown it"
    if final.kind == "completed":
        yield from _faults_of_completion(task, final, phases)
    if final.kind == expected.kind and expected.reason != "deadline" and phases:
        began, count = phases[expected.phase]
        yield from _too_early_or_late(expected, final.at - began, int(count))
    if expected.reason == "deadline" and final.error is not None:
        yield from _faults_of_deadline(final.error)


def _faults_of_completion(task: Task, final: Final, phases: list[list[float]]) -> Iterator[str]:
    expected = task.row.outcome.url or url_of(task.id)
    if final.url != expected:
        yield f"COMPLETED WRONGLY, with {(final.url or 'no url')[:80]}"
    elif len(phases) < len(task.row.phases):
        yield "COMPLETED WRONGLY, before the server had shown it"


def _faults_of_deadline(error: BaseException) -> Iterator[str]:
    """Yield what Q16 asks of the error of a deadline."""
    last = getattr(error, "last_error", None)
    if last is None or str(last) not in str(error):
        yield f"the deadline's message does not say the last error: {error}"
    if error.__cause__ is None:
        yield "the deadline's error has no __cause__"


def _too_early_or_late(expected: Outcome, seconds: float, polls: int) -> Iterator[str]:
    if seconds < expected.after:
        yield f"ended after {seconds:.1f} s instead of {expected.after:.0f} s"
    if polls < expected.polls:
        yield f"ended after {polls} responses instead of {expected.polls}"
    if expected.kind != "completed" and seconds > expected.after + _LATEST:
        yield f"ended only after {seconds:.0f} s instead of {expected.after:.0f} s"


def _faults_of_pacing(record: Record) -> Iterator[Wrong]:
    """Yield what Q21 asks: 503s between valid responses are a rate limit, not an outage."""
    (window,) = (each for each in record.group.windows if each.name.startswith("Q21"))
    inside = [
        event for at, event in record.telemetry if window.begin <= at < window.end + 5.0
    ]  # fmt: skip
    if not any(isinstance(event, RateLimited) for event in inside):
        yield Wrong("Q21", "the client", "503s between valid responses did not count as a 429")
    if any(isinstance(event, CircuitOpened) for event in inside):
        yield Wrong("Q21", "the client", "503s between valid responses opened the circuit")
