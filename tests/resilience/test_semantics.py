"""What a server may say about a task over time, and what is made of it: rows S of the table."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from ezvideo_async import (
    BadResponseError,
    PollPolicy,
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskLost,
    TaskStalled,
    TaskStatus,
    VideoTask,
    WaitTimeoutError,
)
from ezvideo_async.instrumentation import PollFailed
from ezvideo_async.testing import VirtualClockLoop
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client
from tests.support.raw_server import (
    READ,
    RawServer,
    client_of,
    done,
    now,
    replying,
    response,
    running,
    task,
)

STEADY = PollPolicy(jitter=0.0)
PENDING, PROCESSING = TaskStatus.PENDING, TaskStatus.PROCESSING
UNIX_2020, UNIX_2035 = 1_577_836_800, 2_051_222_400


async def told(*states: dict[str, Any], every: float = 5.0, **options: Any) -> list[Any]:
    """The events of one watch; each state is shown for a while, the last one for ever."""
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
    """From what to what, of each event that tells a change."""
    changes = [event for event in events if isinstance(event, StatusChanged | ProgressChanged)]
    return [(event.previous, event.current) for event in changes]


# -- back and forth -------------------------------------------------------------------------------


@pytest.mark.fault("S1", "S18")
async def test_a_stale_replica_is_told_as_it_answers() -> None:
    """Back from processing to pending, and again: each is a change, none is an end."""
    states = ["processing", "pending", "processing", "pending", "completed", "processing"]
    events = await told(*({"status": status} for status in states))

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
async def test_progress_that_goes_back_is_a_change_of_progress(*, progress: bool) -> None:
    """Told to who asked for progress, with both numbers; to others it is nothing."""
    states = [{"status": "processing", "progress": percent} for percent in (60, 40, 40)]
    events = await told(*states, {"status": "completed"}, progress=progress)

    assert steps(events[1:]) == ([(60, 40)] if progress else [])
    assert len(events) == 2 + progress


@pytest.mark.fault("S3")
async def test_a_progress_of_100_is_no_end() -> None:
    """A task at 100 percent that is processing is looked at until it says that it is completed."""
    full = {"status": "processing", "progress": 100, "url": "https://cdn.test/v", "completed_at": 5}
    events = await told(full, full, full, {"status": "completed"})

    assert steps(events) == [(None, PROCESSING)]
    assert events[0].task.progress == 100
    assert isinstance(events[-1], TaskCompleted)


@pytest.mark.fault("S4")
@pytest.mark.parametrize(("first", "second"), [("failed", "completed"), ("completed", "failed")])
async def test_the_first_end_is_the_end(first: str, second: str) -> None:
    """A server that changes its mind after an end is not asked any more."""
    (event,) = await told({"status": first}, {"status": second})

    assert event.is_final
    assert str(event.task.status) == first


@pytest.mark.fault("S14")
async def test_what_happens_between_two_looks_is_not_told() -> None:
    """Away and back again within an interval: nothing was seen, and nothing is told."""
    states = ["pending", "processing", "pending", "pending", "completed"]
    events = await told(*({"status": status} for status in states), every=2.0)

    assert steps(events) == [(None, PENDING)]


@pytest.mark.fault("S15")
@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_an_end_at_the_first_look_is_the_only_event(status: str) -> None:
    """No change of status stands before it."""
    events = await told({"status": status})

    assert [(event.kind, event.seq) for event in events] == [(f"task_{status}", 1)]


# -- ends -----------------------------------------------------------------------------------------


@pytest.mark.fault("S5")
async def test_a_completed_task_may_have_no_url() -> None:
    """It is completed, and its url is None: no further look would be owed for it."""
    (event,) = await told({"status": "completed", "url": None}, {"status": "completed"})

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
async def test_a_video_that_has_gone_is_completed_all_the_same(sent: Any, read: Any) -> None:
    """When the video goes away, or went, is told as far as it is known, and decides nothing."""
    (event,) = await told({"status": "completed", "url": "https://c.test/v", "expires_at": sent})

    assert isinstance(event, TaskCompleted)
    assert event.task.url == "https://c.test/v"
    assert event.task.expires_at == read


@pytest.mark.fault("S11")
@given(st.one_of(st.integers(), st.floats(), st.text(max_size=30), st.lists(st.integers())))
def test_any_time_of_expiry_is_an_instant_or_unknown(sent: Any) -> None:
    """No value of ``expires_at`` makes a completed task anything else."""
    found = VideoTask.from_dict({"id": "t", "status": "completed", "expires_at": sent})

    assert found.succeeded
    assert found.expires_at is None or found.expires_at.tzinfo is UTC


@pytest.mark.fault("S12")
async def test_a_task_that_vanished_is_lost_with_its_last_state() -> None:
    """Its last state, and the server's word that it knows no such task, are on the event."""
    server = FakeTransport()
    server.tasks["t"] = FakeTask("processing", 70)
    async with fake_client(server) as client, client.watch(["t"], policy=STEADY) as watcher:
        await anext(watcher)
        server.tasks.clear()
        event = await anext(watcher)

        assert isinstance(event, TaskLost)
        assert (event.reason, event.task and event.task.progress) == ("vanished", 70)
        assert "the server knows no task of this id" in str(event.error)
        assert now() == 15.0


@pytest.mark.fault("S13")
async def test_a_task_that_never_ends_is_given_up_after_a_day() -> None:
    """By default; the event has the last state, and the error says that waiting again is free."""
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
        assert "wait for it again" in str(last.error)


# -- words and names ------------------------------------------------------------------------------


@pytest.mark.fault("S6")
@pytest.mark.parametrize(
    ("word", "kind", "status"),
    [
        ("queued", "status_changed", "pending"),
        ("in_progress", "status_changed", "processing"),
        ("moderated", "status_changed", "processing"),
        ("COMPLETED", "task_completed", "completed"),
        (" completed ", "task_completed", "completed"),
        ("succeeded", "task_completed", "completed"),
        ("cancelled", "task_failed", "failed"),
        ("expired", "task_failed", "failed"),
    ],
)
async def test_every_word_is_one_of_four(word: str, kind: str, status: str) -> None:
    """The event has the status that the word means, and the word as it was sent."""
    events = await told({"status": word}, {"status": "completed"})

    assert (events[0].kind, str(events[0].task.status)) == (kind, status)
    assert events[0].task.raw_status == word
    assert events[-1].is_final


def saying(*ids: str) -> Any:
    """Answer each further request about the next of these tasks, then about the asked one."""
    left = list(ids)
    return lambda seen: response(task(left.pop(0) if left else seen.task_id))


@pytest.mark.fault("S7")
async def test_answers_about_others_end_no_watch() -> None:
    """Three bad polls in a row, six foreign ids: none is believed, and the seventh is ours."""
    failures: list[Any] = []

    def observe(signal: object) -> None:
        failures.extend([signal.error] if isinstance(signal, PollFailed) else [])

    reply = saying(*[f"other_{number}" for number in range(6)])
    async with RawServer(replying(*[reply] * 20)) as server:
        async with client_of(server, observers=[observe]) as client:
            async with client.watch(["t"], policy=STEADY) as watcher:
                (event,) = [event async for event in watcher]

        assert isinstance(event, TaskCompleted)
        assert event.task.id == "t"
        assert [error.reason for error in failures] == ["id_mismatch"] * 3
        assert [error.received_id for error in failures] == ["other_1", "other_3", "other_5"]
        # Every connection that spoke of another task is closed: seven requests on seven.
        assert [seen.connection for seen in server.requests] == list(range(7))


@pytest.mark.fault("S8")
@pytest.mark.parametrize("alias", ["VID_1", "video_1", "vid_1 ", "1"])
async def test_a_gateway_that_renames_is_watched_under_the_asked_name(alias: str) -> None:
    """The same foreign id twice is this server's name for the task; ours stands on the events."""
    reply = response(task(alias))
    async with RawServer(replying(*[reply] * 4)) as server, client_of(server) as client:
        async with client.watch(["vid_1"]) as watcher:
            (event,) = [event async for event in watcher]

        assert isinstance(event, TaskCompleted)
        assert event.task_id == event.task.id == "vid_1"
        assert [seen.connection for seen in server.requests] == [0, 1]
        assert event.task.raw["id"] == alias


@pytest.mark.fault("S9", "S20")
async def test_an_id_that_is_used_again_goes_on() -> None:
    """Another model, time or url under the same id is taken in, and is no change to tell."""
    first = {
        "status": "processing",
        "model": "a",
        "created_at": UNIX_2020,
        "url": "https://c.test/1",
    }
    second = {**first, "model": "b", "created_at": UNIX_2020 + 60, "url": "https://c.test/2"}
    events = await told(first, second, second, {**second, "status": "completed"})

    assert [event.kind for event in events] == ["status_changed", "task_completed"]
    assert [event.task.model for event in events] == ["a", "b"]
    assert [event.task.url for event in events] == ["https://c.test/1", "https://c.test/2"]


@pytest.mark.fault("S20")
async def test_two_tasks_may_have_one_url() -> None:
    """Both end, each with it."""
    server = FakeTransport()
    for task_id in ("a", "b"):
        server.tasks[task_id] = FakeTask("completed", extra={"url": "https://cdn.test/same"})
    async with fake_client(server) as client, client.watch(["a", "b"]) as watcher:
        events = [event async for event in watcher]

    assert {(event.task_id, event.task.url) for event in events} == {
        ("a", "https://cdn.test/same"),
        ("b", "https://cdn.test/same"),
    }


# -- clocks and caches ----------------------------------------------------------------------------


@pytest.mark.fault("S16")
@pytest.mark.parametrize("skew", [-1, 0, 1], ids=["a year behind", "right", "a year ahead"])
async def test_a_servers_wrong_clock_changes_nothing(skew: int) -> None:
    """Dates count from the answer's own date, and a task's times decide nothing."""
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
async def test_the_same_bytes_for_ever_are_asked_for_on_and_on() -> None:
    """A cache between us is told not to answer; if it does, the task is told as stalled, once."""
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
NO_URLS = [
    "file:///etc/passwd",
    "ftp://cdn.test/v",
    "javascript:alert(1)",
    "data:text/html,x",
    "//cdn.test/v",
    "v.mp4",
    "https://",
    "https://a b/v",
    "https://[::1/v",
    "",
]


@pytest.mark.fault("S19")
@pytest.mark.parametrize("url", KEPT, ids=lambda url: url[:30])
async def test_a_url_is_told_verbatim_and_shown_without_its_secrets(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The event carries it whole; ``repr`` and log leave out the user and the query."""
    caplog.set_level(logging.DEBUG)
    (event,) = await told({"status": "completed", "url": url})

    assert event.task.url == url
    assert "SIGNED" not in f"{event!r}{event}{event.task!r}{caplog.text}"
    assert len(repr(event)) < 1000


@pytest.mark.fault("S19")
@pytest.mark.parametrize("url", NO_URLS)
async def test_what_is_no_url_of_a_video_is_none(url: str) -> None:
    """A file, a script, a path without a server: the task is completed, without a url."""
    (event,) = await told({"status": "completed", "url": url})

    assert isinstance(event, TaskCompleted)
    assert event.task.url is None


@pytest.mark.fault("S19")
async def test_a_url_of_10_mb_is_a_bad_answer_that_passes() -> None:
    """It is not read to its end; the next answer is."""
    huge = response(task("t", url="https://cdn.test/" + "x" * 10_000_000))
    signals: list[Any] = []
    async with RawServer([READ, huge], replying(done)) as server:
        async with client_of(server, observers=[signals.append]) as client:
            found = await client.wait("t", policy=STEADY)

    assert found.succeeded
    errors = [signal.error for signal in signals if isinstance(signal, PollFailed)]
    assert [(type(error), error.reason) for error in errors] == [(BadResponseError, "too_large")]


@pytest.mark.fault("S19")
@given(st.text(max_size=60).map("https://c.test/".__add__) | st.text(max_size=60))
def test_any_text_as_a_url_is_verbatim_a_path_or_none(url: str) -> None:
    """Nothing is made up: what is told is what was sent, or a path of the server's own."""

    async def main() -> VideoTask:
        transport = FakeTransport()
        transport.tasks["t"] = FakeTask("completed", extra={"url": url})
        async with fake_client(transport) as client:
            return await client.retrieve("t")

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        found = runner.run(main())

    assert found.succeeded
    assert found.url in {None, url.strip()} or (
        found.url.startswith("https://api.example.test/") and url.strip().startswith("/")
    )
    assert json.loads(json.dumps(found.to_dict()))["status"] == "completed"
