"""Clients of the mixed run: one per group, and the record of what each of them delivered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from attrs import define, field

from ezvideo_async import (
    AsyncVideoClient,
    Event,
    EzVideoError,
    RequestBudget,
    TaskLost,
    TaskStalled,
    TaskWatcher,
    WaitTimeoutError,
)
from ezvideo_async.instrumentation import CircuitOpened, RateLimited, TelemetryEvent
from tests.long.mixed.plan import HORIZON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.long.mixed.group import Group, Task

REQUEST_TIMEOUT = 30.0  # seconds of the run: 3 s of real time
WAIT_SECONDS = HORIZON


@define
class Final:
    """How one id ended."""

    kind: str
    at: float
    reason: str = ""
    url: str | None = None
    error: EzVideoError | None = None


@define
class Record:
    """
    What one client delivered.

    Attributes:
        finals: By id, every final event.
        late: Ids with an event after their final one.
        fault: What ended the watch, and when.
        calls: Of the key callable.
    """

    group: Group
    finals: dict[str, list[Final]] = field(factory=dict)
    stalls: dict[str, TaskStalled] = field(factory=dict)
    late: set[str] = field(factory=set)
    fault: BaseException | None = None
    fault_at: float = 0.0
    requests: int = 0
    calls: int = 0
    telemetry: list[tuple[float, TelemetryEvent]] = field(factory=list)

    def take(self, event: Event) -> None:
        """Record an event of the watch."""
        if event.task_id in self.finals and not event.is_final:
            self.late.add(event.task_id)
        if isinstance(event, TaskStalled):
            self.stalls[event.task_id] = event
        if not event.is_final:
            return
        lost = event if isinstance(event, TaskLost) else None
        self._end(
            event.task_id,
            Final(
                event.kind.removeprefix("task_"),
                _now(),
                reason=lost.reason if lost else "",
                url=event.task.url if event.task else None,
                error=lost.error if lost else None,
            ),
        )

    def _end(self, task_id: str, final: Final) -> None:
        self.finals.setdefault(task_id, []).append(final)

    async def wait(self, client: AsyncVideoClient, task: Task) -> None:
        """Wait for one id with ``client.wait()``."""
        try:
            state = await client.wait(
                task.id, policy=self.group.policy, timeout=WAIT_SECONDS, raise_on_failure=False
            )
        except WaitTimeoutError as error:
            self._end(task.id, Final("lost", _now(), reason="deadline", error=error))
        except EzVideoError as error:
            self._end(task.id, Final("lost", _now(), reason=type(error).__name__, error=error))
        else:
            self._end(task.id, Final(state.status, _now(), url=state.url))

    def observe(self, event: TelemetryEvent) -> None:
        """Record when the client was rate limited, and when its circuit opened."""
        if isinstance(event, RateLimited | CircuitOpened):
            self.telemetry.append((_now(), event))

    async def api_key(self) -> str:
        """Return another key at each call."""
        self.calls += 1
        return f"sk-mixed-{self.calls:08}"

    @property
    def is_complete(self) -> bool:
        """True when every id that has an end in the plan has ended."""
        ending = (task for task in self.group.tasks if task.row.outcome.kind != "open")
        return all(task.id in self.finals for task in ending)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def run_group(group: Group, port: int) -> Record:
    """Watch the ids of one group until all have ended; return what was delivered."""
    record = Record(group)
    try:
        async with (
            asyncio.timeout_at(HORIZON),
            AsyncVideoClient(
                record.api_key if group.renews else "sk-mixed-00000000",
                base_url=f"{group.scheme}://127.0.0.1:{port}/v1",
                request_timeout=REQUEST_TIMEOUT,
                budget=RequestBudget(rate=group.rate),
                max_response_bytes=group.max_response_bytes,
                observers=[record.observe],
            ) as client,
        ):
            try:
                await _run(client, record)
            finally:
                record.requests = client.requests_sent
    except TimeoutError:
        pass  # what is left is open
    except Exception as error:  # noqa: BLE001 -- every end of a group is judged
        record.fault, record.fault_at = error, _now()
    return record


async def _run(client: AsyncVideoClient, record: Record) -> None:
    group = record.group
    ordinary = [task for task in group.tasks if task.row.name == "ordinary"]
    waited = ordinary[: group.waits]
    waits = [asyncio.create_task(record.wait(client, task)) for task in waited]
    try:
        await _watch(client, record, [task for task in group.tasks if task not in waited])
        await asyncio.gather(*waits)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _watch(client: AsyncVideoClient, record: Record, tasks: Sequence[Task]) -> None:
    group = record.group
    timeout = tasks[0].row.timeout
    first = [] if group.is_hub else [task.id for task in tasks if task.row.timeout == timeout]
    async with client.watch(first, policy=group.policy, timeout=timeout) as watcher:
        adding = asyncio.create_task(_add(watcher, group, tasks, first))
        try:
            async for event in watcher:
                record.take(event)
                if event.is_final and record.is_complete:
                    return
        finally:
            adding.cancel()
            await asyncio.wait([adding])


async def _add(
    watcher: TaskWatcher, group: Group, tasks: Sequence[Task], first: Sequence[str]
) -> None:
    """Add the ids that the watch was not made with."""
    known = set(first)
    for task in tasks:
        if task.id not in known:
            watcher.add(task.id, timeout=task.row.timeout)
            await asyncio.sleep(group.gap)
    if group.is_hub:
        watcher.finish_adding()
