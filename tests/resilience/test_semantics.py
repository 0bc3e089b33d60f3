"""States that a server may show of a task over time, and their events: fault rows S."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from ezvideo_async import (
    PollPolicy,
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskLost,
    TaskStalled,
    TaskStatus,
    WaitTimeoutError,
)
from ezvideo_async.instrumentation import PollFailed
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client
from tests.support.raw_server import (
    RawServer,
    client_of,
    now,
    replying,
    response,
    running,
    task,
)

STEADY = PollPolicy(jitter=0.0)
PENDING, PROCESSING = TaskStatus.PENDING, TaskStatus.PROCESSING
UNIX_2020, UNIX_2035 = 1_577_836_800, 2_051_222_400


async def events_of(*states: dict[str, Any], every: float = 5.0, **options: Any) -> list[Any]:
    """Return the events of one watch; each state but the last is shown for *every* seconds."""
    server = FakeTransport()

    async def play() -> None:
        for fields in states:
            known = {name: fields[name] for name in ("status", "progress") if name in fields}
            extra = {name: fields[name] for name in fields.keys() - known.keys()}
            server.tasks["t"] = FakeTask(**known, extra=extra)
            await asyncio.sleep(every)

    async with fake_client(server) as client:
        playing = asyncio.ensure_future(play())
        await asyncio.sleep(0)
        async with client.watch(["t"], policy=STEADY, **options) as watcher:
            events = [event async for event in watcher]
        playing.cancel()
    asked = server.request_times("t")
    assert asked == [5.0 * number for number in range(len(asked))]
    return events


def steps(events: list[Any]) -> list[tuple[Any, Any]]:
    """Return previous and current value of each change."""
    changes = [event for event in events if isinstance(event, StatusChanged | ProgressChanged)]
    return [(event.previous, event.current) for event in changes]


# -- back and forth -------------------------------------------------------------------------------


@pytest.mark.fault("S1", "S18")
async def test_a_status_that_goes_back_is_a_change() -> None:
    """From processing to pending and again: each is a change and none is final."""
    states = ["processing", "pending", "processing", "pending", "completed", "processing"]
    events = await events_of(*({"status": status} for status in states))

    assert steps(events) == [
        (None, PROCESSING),
        (PROCESSING, PENDING),
        (PENDING, PROCESSING),
        (PROCESSING, PENDING),
    ]
    assert [event.is_final for event in events] == [False] * 4 + [True]
    assert isinstance(events[-1], TaskCompleted)


@pytest.mark.fault("S2")
@pytest.mark.parametrize("progress", [False, True])
async def test_progress_that_goes_back_is_a_change(*, progress: bool) -> None:
    """It is an event with both numbers, with ``progress=True`` only."""
    states = [{"status": "processing", "progress": percent} for percent in (60, 40, 40)]
    events = await events_of(*states, {"status": "completed"}, progress=progress)

    assert steps(events[1:]) == ([(60, 40)] if progress else [])
    assert len(events) == 2 + progress


@pytest.mark.fault("S3")
async def test_a_progress_of_100_is_not_final() -> None:
    """A task at 100 percent is polled until its status is completed."""
    full = {"status": "processing", "progress": 100, "url": "https://cdn.test/v", "completed_at": 5}
    events = await events_of(full, full, full, {"status": "completed"})

    assert steps(events) == [(None, PROCESSING)]
    assert events[0].task.progress == 100
    assert isinstance(events[-1], TaskCompleted)


@pytest.mark.fault("S4")
@pytest.mark.parametrize(("first", "second"), [("failed", "completed"), ("completed", "failed")])
async def test_the_first_final_state_counts(first: str, second: str) -> None:
    """A task is not polled after a final state, so that it cannot change."""
    (event,) = await events_of({"status": first}, {"status": second})

    assert event.is_final
    assert str(event.task.status) == first


@pytest.mark.fault("S14")
async def test_a_state_between_two_polls_is_no_event() -> None:
    """A status that returns within an interval is not seen."""
    states = ["pending", "processing", "pending", "pending", "completed"]
    events = await events_of(*({"status": status} for status in states), every=2.0)

    assert steps(events) == [(None, PENDING)]


@pytest.mark.fault("S15")
@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_finished_task_has_one_event(status: str) -> None:
    """The first poll gives the final event, without a status change before it."""
    events = await events_of({"status": status})

    assert [(event.kind, event.seq) for event in events] == [(f"task_{status}", 1)]


# -- final states ---------------------------------------------------------------------------------


@pytest.mark.fault("S5")
async def test_a_completed_task_may_have_no_url() -> None:
    """It is completed, and its url is None."""
    (event,) = await events_of({"status": "completed", "url": None}, {"status": "completed"})

    assert isinstance(event, TaskCompleted)
    assert event.task.url is None


@pytest.mark.fault("S10", "S11")
@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (UNIX_2020, datetime(2020, 1, 1, tzinfo=UTC)),
        (None, None),
        (-5, None),
        (0, None),
        ("soon", None),
        (292_000_000_000, datetime(1979, 4, 3, 15, 6, 40, tzinfo=UTC)),  # milliseconds
        (10**400, None),
    ],
    ids=ascii,
)
async def test_an_expired_video_is_completed(sent: Any, read: Any) -> None:
    """``expires_at`` is given if it is valid, and decides nothing."""
    (event,) = await events_of(
        {"status": "completed", "url": "https://c.test/v", "expires_at": sent}
    )

    assert isinstance(event, TaskCompleted)
    assert event.task.url == "https://c.test/v"
    assert event.task.expires_at == read


@pytest.mark.fault("H6", "S12", "Q9")
async def test_a_vanished_task_is_lost_with_its_last_state() -> None:
    """After a minute of "not found"; the event has its last state and the error."""
    server = FakeTransport()
    server.tasks["t"] = FakeTask("processing", 70)
    async with fake_client(server) as client, client.watch(["t"], policy=STEADY) as watcher:
        await anext(watcher)
        server.tasks.clear()
        event = await anext(watcher)

        assert isinstance(event, TaskLost)
        assert (event.reason, event.task and event.task.progress) == ("vanished", 70)
        assert "the server has no task with this id" in str(event.error)
        assert server.request_times() == [0.0, 5.0, 12.5, 25.0, 47.5, 80.0]
        assert now() == 80.0


@pytest.mark.fault("S13")
async def test_a_task_that_never_ends_is_lost_after_a_day() -> None:
    """By default; the event has the last state, the error says how to continue."""
    server = FakeTransport()
    server.tasks["t"] = FakeTask("processing", 99)
    slow = PollPolicy(interval=600.0, jitter=0.0, stalled_after=None)
    async with fake_client(server) as client, client.watch(["t"], policy=slow) as watcher:
        first, last = [event async for event in watcher]

        assert isinstance(first, StatusChanged)
        assert isinstance(last, TaskLost)
        assert isinstance(last.error, WaitTimeoutError)
        assert (last.reason, last.error.waited, now()) == ("deadline", 86_400.0, 86_400.0)
        assert last.task is not None
        assert last.task.progress == 99
        assert "call wait() again" in str(last.error)


# -- status values and ids ------------------------------------------------------------------------


def about(*ids: str) -> Any:
    """Make a reply about each of these ids in turn, then about the requested one."""
    left = list(ids)
    return lambda seen: response(task(left.pop(0) if left else seen.task_id))


@pytest.mark.fault("S7")
async def test_responses_about_other_tasks_end_no_watch() -> None:
    """Six foreign ids are three failed polls; the seventh response is the task's."""
    failures: list[Any] = []

    def observe(event: object) -> None:
        failures.extend([event.error] if isinstance(event, PollFailed) else [])

    reply = about(*[f"other_{number}" for number in range(6)])
    async with RawServer(replying(*[reply] * 20)) as server:
        async with client_of(server, observers=[observe]) as client:
            async with client.watch(["t"], policy=STEADY) as watcher:
                (event,) = [event async for event in watcher]

        assert isinstance(event, TaskCompleted)
        assert event.task.id == "t"
        assert [error.reason for error in failures] == ["id_mismatch"] * 3
        assert [error.received_id for error in failures] == ["other_1", "other_3", "other_5"]
        # A connection with a foreign response is closed: seven requests on seven connections.
        assert [seen.connection for seen in server.requests] == list(range(7))


@pytest.mark.fault("S8")
@pytest.mark.parametrize("alias", ["VID_1", "video_1", "vid_1 ", "1"])
async def test_an_alias_is_watched_under_the_requested_id(alias: str) -> None:
    """The same foreign id twice is an alias; the events have the requested id."""
    reply = response(task(alias))
    async with RawServer(replying(*[reply] * 4)) as server, client_of(server) as client:
        async with client.watch(["vid_1"]) as watcher:
            (event,) = [event async for event in watcher]

        assert isinstance(event, TaskCompleted)
        assert event.task_id == event.task.id == "vid_1"
        assert [seen.connection for seen in server.requests] == [0, 1]
        assert event.task.raw["id"] == alias


@pytest.mark.fault("S9", "S20")
async def test_a_changed_model_or_url_is_no_event() -> None:
    """Another model, time or url under the same id replaces the old one silently."""
    first = {
        "status": "processing",
        "model": "a",
        "created_at": UNIX_2020,
        "url": "https://c.test/1",
    }
    second = {**first, "model": "b", "created_at": UNIX_2020 + 60, "url": "https://c.test/2"}
    events = await events_of(first, second, second, {**second, "status": "completed"})

    assert [event.kind for event in events] == ["status_changed", "task_completed"]
    assert [event.task.model for event in events] == ["a", "b"]
    assert [event.task.url for event in events] == ["https://c.test/1", "https://c.test/2"]


# -- clocks and caches ----------------------------------------------------------------------------


@pytest.mark.fault("S16")
@pytest.mark.parametrize("skew", [-1, 0, 1], ids=["a year behind", "right", "a year ahead"])
async def test_a_wrong_server_clock_changes_nothing(skew: int) -> None:
    """A date in Retry-After counts from the response's date; a task's times decide nothing."""
    dates = {
        -1: ("Wed, 01 Jan 2025 00:00:00 GMT", "Wed, 01 Jan 2025 00:00:20 GMT"),
        0: ("Thu, 01 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:20 GMT"),
        1: ("Fri, 01 Jan 2027 00:00:00 GMT", "Fri, 01 Jan 2027 00:00:20 GMT"),
    }
    server = FakeTransport()
    sent = UNIX_2035 if skew > 0 else UNIX_2020
    server.tasks["t"] = FakeTask("processing", extra={"created_at": sent, "expires_at": sent})
    server.headers = dict(zip(("date", "retry-after"), dates[skew], strict=True))
    async with fake_client(server) as client, client.watch(["t"], policy=STEADY) as watcher:
        await asyncio.sleep(50.0)

        assert server.request_times() == [0.0, 20.0, 40.0]
        assert watcher.open_ids == ("t",)


@pytest.mark.fault("S17")
async def test_a_task_that_never_changes_is_stalled_once() -> None:
    """Its polls continue, with ``Cache-Control: no-cache``, until it is lost."""
    script = replying(*[running] * 100)
    policy = PollPolicy(jitter=0.0, stalled_after=60.0)
    async with RawServer(script) as server, client_of(server) as client:
        async with client.watch(["t"], policy=policy, timeout=300.0) as watcher:
            events = [event async for event in watcher]

        assert [type(event) for event in events] == [StatusChanged, TaskStalled, TaskLost]
        assert server.times == [5.0 * number for number in range(60)]
        assert {seen.headers["cache-control"] for seen in server.requests} == {"no-cache"}


# -- urls -----------------------------------------------------------------------------------------

KEPT = [
    "http://cdn.test/v.mp4?sig=SIGNED",
    "https://user:SIGNED@cdn.test/v.mp4",
    "https://10.0.0.1/v.mp4?x=SIGNED#SIGNED",
    "https://[::1]:8443/?SIGNED",
    "https://elsewhere.test/v.mp4?SIGNED",
    "https://xn--fiq228c.test/\u89c6\u9891?SIGNED",
    f"data:video/mp4;base64,{'A' * 4000}SIGNED",
]


@pytest.mark.fault("S19")
@pytest.mark.parametrize("url", KEPT, ids=lambda url: url[:30])
async def test_a_url_is_verbatim_and_shown_without_its_secrets(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The event has the whole url; ``repr`` and log leave out user and query."""
    caplog.set_level(logging.DEBUG)
    (event,) = await events_of({"status": "completed", "url": url})

    assert event.task.url == url
    assert "SIGNED" not in f"{event!r}{event}{event.task!r}{caplog.text}"
    assert len(repr(event)) < 1000
