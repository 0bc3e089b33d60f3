"""
Typed use of every public name, for mypy and pyright; never run.

An ``assert_type`` fails when a result gets another type, an ``assert_never`` when a kind of event
or a status is added or forgotten.  A line with ``type: ignore`` must be an error for both
checkers: an ignore without an error is an error itself.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never, assert_type

import ezvideo_async
from ezvideo_async import (
    UNSET,
    APIStatusError,
    AsyncVideoClient,
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ClosedError,
    ConfigError,
    ErrorInfo,
    Event,
    EzVideoError,
    FinalEvent,
    InvalidTaskIdError,
    KeySource,
    NotOpenError,
    PermissionDeniedError,
    PollPolicy,
    ProgressChanged,
    RateLimitError,
    RequestBudget,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    StatusChanged,
    StoreError,
    Subscription,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskFailedError,
    TaskLost,
    TaskNotFoundError,
    TaskStalled,
    TaskStatus,
    TaskWatcher,
    TLSError,
    TransportError,
    VideoTask,
    WaitTimeoutError,
    WatchedTask,
    WatcherStats,
    errors,
)
from ezvideo_async.instrumentation import (
    CircuitClosed,
    CircuitOpened,
    Observer,
    PollFailed,
    PollSucceeded,
    RateLimited,
    RetryScheduled,
    StoreFailed,
    StoreRecovered,
    TaskEnded,
    TelemetryEvent,
)
from ezvideo_async.store import StoredTask, read_store
from ezvideo_async.testing import (
    FakeTaskState,
    FakeVideoServer,
    MemoryStore,
    RequestRecord,
    VirtualClockLoop,
)

if TYPE_CHECKING:
    import aiohttp

assert_type(ezvideo_async.__version__, str)


# --- values ---------------------------------------------------------------------------------------


def values(task: VideoTask) -> None:
    assert_type(task.id, str)
    assert_type(task.status, TaskStatus)
    assert_type(task.raw_status, str | None)
    assert_type(task.progress, int | None)
    assert_type(task.model, str | None)
    assert_type(task.created_at, datetime | None)
    assert_type(task.completed_at, datetime | None)
    assert_type(task.expires_at, datetime | None)
    assert_type(task.seconds, str | None)
    assert_type(task.size, str | None)
    assert_type(task.url, str | None)
    assert_type(task.error, ErrorInfo | None)
    assert_type(task.metadata, Mapping[str, Any])
    assert_type(task.request_id, str | None)
    assert_type(task.is_terminal, bool)
    assert_type(task.succeeded, bool)
    assert_type(task.duration, float | None)
    assert_type(task.dimensions, tuple[int, int] | None)
    assert_type(task.raw, Mapping[str, Any])
    assert_type(task.to_dict(), dict[str, Any])
    assert_type(VideoTask.from_dict({"id": "vid_1"}, task_id="vid_1"), VideoTask)
    VideoTask(id="vid_1", status=TaskStatus.FAILED, error=ErrorInfo(code="expired", message=None))


def describe(status: TaskStatus) -> str:
    assert_type(status.is_terminal, bool)
    match status:
        case TaskStatus.PENDING:
            return "queued"
        case TaskStatus.PROCESSING:
            return "running"
        case TaskStatus.COMPLETED:
            return "done"
        case TaskStatus.FAILED:
            return "no video"
        case _:
            assert_never(status)


# --- the client -----------------------------------------------------------------------------------


async def key() -> str:
    return "key"


KEY: KeySource = key


async def client_calls(session: aiohttp.ClientSession, observer: Observer) -> None:
    budget = RequestBudget(rate=20.0, burst=2.0, max_in_flight=8)
    async with AsyncVideoClient(
        key,
        base_url="https://api.example.test/v1",
        request_timeout=10.0,
        retry=RetryPolicy(attempts=5, deadline=None),
        budget=budget,
        session=session,
        headers={"X-Trace": "1"},
        observers=[observer],
    ) as client:
        assert_type(client, AsyncVideoClient)
        assert_type(client.base_url, str)
        assert_type(client.budget, RequestBudget)
        assert_type(client.requests_sent, int)
        assert_type(await client.retrieve("vid_1"), VideoTask)
        assert_type(await client.wait("vid_1", timeout=None, policy=PollPolicy()), VideoTask)
    assert_type(await client.aclose(), None)
    AsyncVideoClient("key")
    AsyncVideoClient()


def numbers(budget: RequestBudget, poll: PollPolicy, retry: RetryPolicy) -> None:
    budget.rate = 50.0
    assert_type(budget.rate, float)
    assert_type(budget.max_in_flight, int)
    assert_type(budget.in_flight, int)
    assert_type(budget.burst, float)
    assert_type(budget.current_rate(0.0), float)
    assert_type(poll.delay(rand=0.5, errors=1), float)
    assert_type(PollPolicy(adaptive=True).adaptive, bool)
    assert_type(
        retry.delay(failures=1, rand=0.5, rate_limited=False, retry_after=None), float | None
    )


def is_last(event: Event) -> bool:
    return isinstance(event, FinalEvent)


# --- the watcher ----------------------------------------------------------------------------------


async def watcher_calls(client: AsyncVideoClient, ids: Iterable[str], task: VideoTask) -> None:
    assert_type(client.watch(), TaskWatcher)
    assert_type(client.watch([task, "vid_1"], keep_open=True, tag={"user": 7}), TaskWatcher)
    assert_type(client.watch({"vid_1": 7}, not_found_grace=5.0, retain_ended=60.0), TaskWatcher)
    client.watch(ids, intervall=5)  # type: ignore[call-arg]
    client.watch(ids, policy=4.0)  # type: ignore[arg-type]
    policy = PollPolicy(interval=4.0)
    async with client.watch(ids, policy=policy, timeout=None, progress=True) as watcher:
        assert_type(watcher, TaskWatcher)
        assert_type(watcher.add("vid_1", task, tag={"user": 7}, timeout=UNSET), None)
        assert_type(watcher.add("vid_2", timeout=None, restart_ended=True), None)
        assert_type(watcher.discard(task), bool)
        assert_type(watcher.poll_now(task), bool)
        assert_type(watcher.apply(task), bool)
        assert_type(await watcher.wait(task, raise_on_failure=False), VideoTask)
        assert_type(watcher.get(task), WatchedTask | None)
        assert_type(watcher.snapshot(), Mapping[str, VideoTask | None])
        assert_type(watcher.stats, WatcherStats)
        assert_type(watcher.stats.open, int)
        assert_type(watcher.open_ids, tuple[str, ...])
        assert_type(watcher.finish_adding(), None)
        async with watcher.subscribe("vid_1", task, progress=False, replay=False) as events:
            assert_type(events, Subscription)
            async for event in events:
                assert_type(event, Event)
        async for event in watcher:
            assert_type(event, Event)
        assert_type(await anext(watcher), Event)


async def durable_watch(client: AsyncVideoClient, event: FinalEvent) -> None:
    assert_type(client.watch(store=MemoryStore(), iterate=False), TaskWatcher)
    client.watch(store=7)  # type: ignore[arg-type]
    client.watch(acknowledge="never")  # type: ignore[arg-type]
    async with client.watch(store=Path("watch.db"), acknowledge="by_hand") as watcher:
        assert_type(await watcher.save(), None)
        assert_type(watcher.acknowledge(event), bool)
        assert_type(watcher.acknowledge(event.task_id), bool)
        assert_type(watcher.stats.unsaved, int)
    assert_type(event.dedup_key, str)
    assert_type(read_store("watch.db"), list[StoredTask])
    for stored in read_store(Path("watch.db")):
        assert_type(stored.status, TaskStatus | None)
        assert_type(stored.body, bytes | None)


def watched(known: WatchedTask) -> str | None:
    assert_type(known.task, VideoTask | None)
    assert_type(known.final_event, TaskCompleted | TaskFailed | TaskLost | None)
    assert_type(known.last_error, EzVideoError | None)
    assert_type(known.added_at, float)
    return known.final_event.reason if isinstance(known.final_event, TaskLost) else None


def describe_event(event: Event) -> str:
    base: TaskEvent = event
    assert_type(base.task, VideoTask | None)
    assert_type(event.is_final, bool)
    assert_type(event.seq, int)
    assert_type(event.at, float)
    assert_type(event.to_dict(), dict[str, Any])
    match event:
        case StatusChanged():
            assert_type(event.kind, Literal["status_changed"])
            assert_type(event.previous, TaskStatus | None)
            assert_type(event.current, TaskStatus)
        case ProgressChanged():
            assert_type(event.kind, Literal["progress_changed"])
            assert_type(event.current, int | None)
            assert_type(event.regressed, bool)
        case TaskStalled():
            assert_type(event.kind, Literal["task_stalled"])
            assert_type(event.since, float)
        case TaskCompleted():
            assert_type(event.kind, Literal["task_completed"])
            assert_type(event.task, VideoTask)
        case TaskFailed():
            assert_type(event.kind, Literal["task_failed"])
            assert_type(event.task, VideoTask)
        case TaskLost():
            assert_type(event.kind, Literal["task_lost"])
            assert_type(event.error, EzVideoError)
            assert_type(
                event.reason, Literal["not_found", "vanished", "deadline", "refused", "too_large"]
            )
        case _:
            assert_never(event)
    return event.kind


# --- observers ------------------------------------------------------------------------------------


def observe(event: TelemetryEvent, /) -> None:
    match event:
        case PollSucceeded():
            assert_type(event.status, TaskStatus)
        case PollFailed():
            assert_type(event.error, EzVideoError)
        case RetryScheduled():
            assert_type(event.delay, float)
        case RateLimited():
            assert_type(event.rate, float)
        case CircuitOpened():
            assert_type(event.failures, int)
        case CircuitClosed():
            assert_type(event.outage, float)
        case StoreFailed():
            assert_type(event.error, StoreError)
        case StoreRecovered():
            assert_type(event.outage, float)
        case TaskEnded():
            assert_type(event.kind, Literal["task_completed", "task_failed", "task_lost"])
        case _:
            assert_never(event)


OBSERVERS: Sequence[Observer] = [observe]


# --- errors ---------------------------------------------------------------------------------------


async def reactions(client: AsyncVideoClient) -> str | float | VideoTask | None:
    try:
        return await client.wait("vid_1")
    except (ConfigError, NotOpenError, ClosedError, InvalidTaskIdError):
        return "fix the program"
    except TaskFailedError as error:
        return error.task
    except WaitTimeoutError as error:
        assert_type(error.last_error, EzVideoError | None)
        assert_type(error.waited, float)
        return error.task
    except RateLimitError as error:
        return error.retry_after
    except (AuthenticationError, PermissionDeniedError, TaskNotFoundError, BadRequestError):
        return "do not send it again"
    except (RequestTimeoutError, TLSError, TransportError) as error:
        reason: str = error.reason
        return reason
    except BadResponseError as error:
        assert_type(error.paths, tuple[str, ...])
        return error.body_excerpt
    except (ServerError, APIStatusError) as error:
        assert_type(error.status, int | None)
        return error.request_id
    except errors.EzVideoError as error:
        assert_type(error.retryable, bool)
        assert_type(error.open_ids, tuple[str, ...])
        return error.task_id


# --- testing --------------------------------------------------------------------------------------


async def fakes() -> None:
    async with FakeVideoServer(dialect="openai", latency=0.1) as server:
        assert_type(server, FakeVideoServer)
        assert_type(server.base_url, str)
        assert_type(server.add_task(duration=60.0, outcome="failed"), str)
        assert_type(server.state("vid_1"), FakeTaskState)
        assert_type(server.requests(), list[RequestRecord])
        assert_type(server.peak_in_flight, int)
        server.fault("503", seconds=10.0, retry_after=5)
        server.heal()
        server.finish("vid_1", outcome="cancelled")
        server.forget("vid_1")


with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
    runner.run(fakes())
