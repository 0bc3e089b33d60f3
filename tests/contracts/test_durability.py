"""
Contract of the durable watch set, line by line.

Line 15, the cost without a store, is measured by ``nox -s bench -- instructions``.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from ezvideo_async import (
    ConfigError,
    PollPolicy,
    StoreError,
    TaskStatus,
    TransportError,
    VideoTask,
)
from ezvideo_async.store import read_store
from ezvideo_async.testing import MemoryStore, VirtualClockLoop
from tests.support.durable import KINDS, ControlledStore, KilledError, fresh_store, killed, watching
from tests.support.fake_transport import FakeTask, FakeTransport
from tests.support.restarts import History, histories

SAMPLES = Path(__file__).parents[1] / "samples"
STALLING = PollPolicy(jitter=0.0, stalled_after=100.0)
DOWN = TransportError("connection refused", reason="connect")
DISK_FULL = StoreError("the disk is full", reason="full")
SECRET = "s3cr3t-query"

pytestmark = pytest.mark.anyio


@pytest.fixture(params=KINDS)
def store(request):
    """An empty store, in a file or in memory."""
    with fresh_store(request.param) as made:
        yield made


@pytest.fixture
def server():
    """A server with tasks that run, and some that have finished."""
    return FakeTransport(
        a="processing", b="processing", c="processing", x="completed", y="failed", z="completed"
    )


def run(main):
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main)


def now():
    return asyncio.get_running_loop().time()


async def read_all(watcher):
    return [event async for event in watcher]


async def finals(server, store, tasks=(), **options):
    """What a process that is started again delivers until all ids have ended."""
    async with watching(server, store, tasks, **options) as watcher:
        watcher.finish_adding()
        return [event.dedup_key async for event in watcher if event.is_final]


# -- 1 to 4: nothing is lost, repeats are bounded -------------------------------------------------


@pytest.mark.fault("STORE-P3c", "STORE-D6")
@pytest.mark.parametrize("kind", KINDS)
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(histories)
@example(
    [
        (
            [("show", "a", "completed"), ("add", "a", False), ("wait", 5.0), ("cancel", 3)],
            "kill",
        )
    ]
)
def test_line_1_2_3_nothing_is_lost_and_one_final_event_comes_again(kind, lives):
    """After kills, failing writes and cancelled reads; what comes again has the same key."""
    with fresh_store(kind) as store:
        run(History(store, by_hand=False).play(lives))


@pytest.mark.parametrize("kind", KINDS)
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(histories)
def test_line_4_by_hand_what_is_not_acknowledged_comes_again(kind, lives):
    """A second acknowledgement returns False."""
    with fresh_store(kind) as store:
        run(History(store, by_hand=True).play(lives))


async def test_line_2_a_cancelled_read_lifts_no_wait_for_the_acknowledgement(server, store):
    """The next read waits for it too, so that at most one event comes again."""
    async with killed(server, store, ["x", "z"]) as watcher:
        await anext(watcher)
        await watcher.save()
        store.delay = 2.0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watcher), 0.5)
        second = await anext(watcher)
        assert now() >= 2.0

    store.delay = 0.0
    assert await finals(server, store) == [second.dedup_key]


async def test_line_3_the_fresh_poll_of_a_lost_id_may_show_a_finished_task(server, store):
    """Then that is its final event."""
    async with killed(server, store) as watcher:
        watcher.add("a", timeout=8.0)
        while not (await anext(watcher)).is_final:
            pass
        assert watcher.stats.lost == 1
    server.tasks["a"].status = "completed"

    assert await finals(server, store) == ["a:task_completed"]


async def test_line_4_an_acknowledgement_by_hand_survives_once_it_is_written(server, store):
    """By the event or by the id; one of an unknown id changes nothing."""
    async with killed(server, store, ["x", "y", "z"], acknowledge="by_hand") as watcher:
        events = [await anext(watcher) for _ in range(3)]
        assert watcher.acknowledge(events[0])
        assert watcher.acknowledge("y")
        assert not watcher.acknowledge(events[0])
        assert not watcher.acknowledge("unknown")
        await watcher.save()

    assert await finals(server, store) == ["z:task_completed"]


async def test_line_4_an_event_of_an_earlier_watch_acknowledges_nothing(server, store):
    """The id was restarted, and its new final event has not been received."""
    async with killed(server, store, keep_open=True, acknowledge="by_hand") as watcher:
        watcher.add("x")
        first = await anext(watcher)
        await asyncio.sleep(2.0)
        watcher.add("x", restart_ended=True)
        await asyncio.sleep(10.0)
        assert watcher.stats.completed == 2
        assert not watcher.acknowledge(first)
        await watcher.save()

    assert await finals(server, store) == ["x:task_completed"]


# -- 5 and 6: leaving, and cancelled reads --------------------------------------------------------


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("how", ["raise", "cancel", "break", "end"])
async def test_line_5_how_the_watcher_is_left_decides(server, store, how, by_hand):
    """An exception acknowledges nothing, the end of the block the last event; never by hand."""

    async def consume():
        acknowledge = "by_hand" if by_hand else "on_next"
        async with watching(server, store, ["x"], acknowledge=acknowledge) as watcher:
            async for _ in watcher:
                if how == "raise":
                    raise KilledError
                if how == "cancel":
                    await asyncio.sleep(3600.0)
                if how == "break":
                    break

    task = asyncio.ensure_future(consume())
    await asyncio.sleep(10.0)
    task.cancel()
    await asyncio.wait([task])

    is_acknowledged = how in {"break", "end"} and not by_hand
    assert await finals(server, store) == [] if is_acknowledged else ["x:task_completed"]


async def test_line_6_a_read_cancelled_during_the_write_loses_no_event(server, store):
    """The event before it is acknowledged, the next one is not lost."""
    async with killed(server, store, ["x", "y"]) as watcher:
        first = await anext(watcher)
        await watcher.save()
        store.delay = 1.0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watcher), 0.5)
        await watcher.save()
        second = await anext(watcher)

    store.delay = 0.0
    assert {first.task_id, second.task_id} == {"x", "y"}
    assert await finals(server, store) == [second.dedup_key]


# -- 7 to 9: which ids are watched ----------------------------------------------------------------


async def test_line_7_an_id_has_one_row_and_keeps_tag_and_deadline(server, store):
    """A stored id that is passed again, to the constructor or to ``add``, is left alone."""
    async with killed(server, store) as watcher:
        watcher.add("a", tag="first", timeout=1000.0)
        await asyncio.sleep(10.0)
        await watcher.save()
    deadline = store.rows()["a"].deadline_at

    async with killed(server, store, {"a": "second"}, timeout=5.0) as watcher:
        watcher.add("a", tag="third", timeout=5.0, restart_ended=True)
        assert watcher.get("a").tag == "first"
        server.tasks["a"].status = "pending"
        await asyncio.sleep(10.0)
        await watcher.save()

    assert list(store.rows()) == ["a"]
    assert store.rows()["a"].tag == '"first"'
    assert store.rows()["a"].deadline_at == pytest.approx(deadline, abs=30.0)


@pytest.mark.fault("STORE-D6")
@pytest.mark.parametrize("late", [False, True])
async def test_line_7_an_unacknowledged_id_is_restarted_only_on_request(server, store, late):
    """Also after ``retain_ended``; then the new watch replaces the row."""
    async with killed(server, store, acknowledge="by_hand", retain_ended=5.0) as watcher:
        watcher.add("x", tag=1)
        first = await anext(watcher)
        await asyncio.sleep(20.0 if late else 1.0)
        polls = watcher.stats.polls
        watcher.add("x", tag=2)
        await asyncio.sleep(20.0)
        assert (watcher.stats.polls, watcher.open_ids) == (polls, ())
        watcher.add("x", tag=3, restart_ended=True)
        second = await anext(watcher)
        assert (first.tag, second.tag) == (1, 3)
        await watcher.save()

    assert [row.tag for row in store.rows().values()] == ["3"]


async def test_line_8_acknowledged_ids_are_not_watched_again(server, store, monkeypatch, caplog):
    """For 7 days, if they are passed to the constructor; lost ids always are."""
    caplog.set_level("INFO", "ezvideo_async")
    ids = ["x", "y", "missing"]
    first = await finals(server, store, ids)
    assert sorted(first) == ["missing:task_lost", "x:task_completed", "y:task_failed"]

    assert await finals(server, store, ids) == ["missing:task_lost"]
    assert "2 tasks have finished and were acknowledged" in caplog.text
    async with watching(server, store, ["x"]) as watcher:
        watcher.add("x")
        assert [event.task_id async for event in watcher] == ["x"]
    later = time.time() + 7 * 86_400.0 + 60.0
    monkeypatch.setattr("time.time", lambda: later)
    assert await finals(server, store, ["x"]) == ["x:task_completed"]


async def test_line_8_the_same_command_does_what_is_left(server, store):
    """And nothing when nothing is left."""
    async with killed(server, store, ["x", "y", "z"]) as watcher:
        done = [(await anext(watcher)).task_id for _ in range(2)][:1]
    assert {key[0] for key in await finals(server, store, ["x", "y", "z"])} == {*"xyz"} - {*done}
    polls = server.sends

    assert await finals(server, store, ["x", "y", "z"]) == []
    assert server.sends == polls


async def test_line_9_stored_and_new_ids_end_together(server, store):
    """Without constructor ids the iteration continues until ``finish_adding()``."""
    async with killed(server, store, ["a"]) as watcher:
        await watcher.save()
    server.tasks["a"].status = "completed"
    async with watching(server, store, ["x"]) as watcher:
        assert {event.task_id async for event in watcher} == {"a", "x"}

    async with killed(server, store, ["b"]) as watcher:
        await watcher.save()
    server.tasks["b"].status = "completed"
    async with watching(server, store) as watcher:
        assert (await anext(watcher)).task_id == "b"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watcher), 1000.0)
        watcher.finish_adding()
        assert await read_all(watcher) == []


# -- 10 to 13: what is restored -------------------------------------------------------------------


@pytest.mark.fault("STORE-D1")
@pytest.mark.parametrize("kind", KINDS)
@given(
    timeout=st.floats(60.0, 1e6),
    down=st.floats(0.0, 1e6),
    errors=st.lists(st.sampled_from([0.0, 31_536_000.0, -31_536_000.0]), min_size=1, max_size=4),
)
def test_line_10_a_deadline_keeps_its_instant(kind, timeout, down, errors):
    """Within the clock's error; at least 60 s after the start, at most the whole timeout."""

    async def main(store, patched):
        server = FakeTransport(a="processing")
        began = time.time()
        async with killed(server, store) as watcher:
            watcher.add("a", timeout=timeout)
            await asyncio.sleep(0.1)
            await watcher.save()
        for error in errors:
            patched.setattr("time.time", lambda error=error: began + down + error)
            started = now()
            async with killed(server, store) as watcher:
                (tracked,) = watcher._scheduler
                left = tracked.deadline - started
                server.tasks["a"].status = ("pending", "processing")[len(server.trace.records) % 2]
                await asyncio.sleep(10.0)
                assert watcher.stats.open == (0 if left < 10.0 else 1)
                await watcher.save()
            assert 60.0 - 1e-3 <= left <= timeout + 1e-3
            if not any(errors):
                assert left == pytest.approx(max(timeout - down, 60.0), abs=0.2)

    with fresh_store(kind) as store, pytest.MonkeyPatch.context() as patched:
        run(main(store, patched))


@pytest.mark.fault("STORE-D1")
@pytest.mark.parametrize("error", [31_536_000.0, -31_536_000.0])
async def test_line_10_a_wrong_clock_loses_no_ids_and_causes_no_burst(store, monkeypatch, error):
    """A year off: all ids are polled, spread, and lost only if their time is over."""
    ids = [f"vid_{number}" for number in range(100)]
    server = FakeTransport(**dict.fromkeys(ids, "processing"))
    async with killed(server, store, ids) as watcher:
        await asyncio.sleep(10.0)
        await watcher.save()
    real = time.time()
    monkeypatch.setattr("time.time", lambda: real + error)
    began = now()

    async with killed(server, store) as watcher:
        await asyncio.sleep(50.0)
        assert (watcher.stats.open, watcher.stats.lost) == (100, 0)
    firsts = [at for at in server.request_times() if at >= began][:100]
    assert max(Counter(int(10.0 * (at - began)) for at in firsts).values()) <= 10


@pytest.mark.parametrize("kind", KINDS)
@given(count=st.integers(100, 400), seed=st.floats(0.0, 1.0, exclude_max=True))
@settings(max_examples=10)
def test_line_11_first_polls_are_spread_after_a_restart(kind, count, seed):
    """No tenth of a second holds more than twice the mean."""
    ids = [f"vid_{number}" for number in range(count)]

    async def main(store):
        server = FakeTransport(**dict.fromkeys(ids, "processing"))
        async with killed(server, store, ids) as watcher:
            await watcher.save()
        began = now()
        options = {"rand": lambda: seed}
        async with killed(server, store, client_options=options):
            await asyncio.sleep(30.0)
        seen = {}
        for record in server.trace.records:
            if hasattr(record, "ended") and record.at >= began:
                seen.setdefault(record.task_id, record.at)
        return [at - began for at in seen.values()]

    with fresh_store(kind) as store:
        firsts = run(main(store))
    spread = min(5.0, count / 50.0)
    assert len(firsts) == count
    assert max(firsts) <= spread + 0.1
    most = max(Counter(int(10.0 * at) for at in firsts).values())
    assert most <= 2.0 * count / (10.0 * spread) + 1.0


async def test_line_12_stored_states_are_known_before_any_request(server, store):
    """By ``get``, ``snapshot`` and a replay; the first change starts from the stored status."""
    async with killed(server, store, ["a", "b"]) as watcher:
        await asyncio.sleep(10.0)
        await watcher.save()
    server.tasks["a"].status = "completed"
    server.tasks["b"].status = "pending"
    began = now()
    async with killed(server, store) as watcher:
        sends = server.sends
        assert watcher.get("a").task.status == "processing"
        assert {task.status for task in watcher.snapshot().values()} == {"processing"}
        async with watcher.subscribe(replay=True) as events:
            replayed = [await anext(events) for _ in range(2)]
        assert [event.current for event in replayed] == ["processing"] * 2
        assert server.sends == sends
        events = {event.task_id: event for event in [await anext(watcher), await anext(watcher)]}
        assert now() - began <= 5.0
    assert events["a"].kind == "task_completed"
    assert (events["b"].previous, events["b"].current) == ("processing", "pending")


async def test_line_13_a_stall_counts_from_the_stored_change(server, store, monkeypatch):
    """Also across a restart, and only once; other progress is a change."""
    server.tasks["b"].progress = 10
    options = {"policy": STALLING}
    async with killed(server, store, ["a", "b"], **options) as watcher:
        await asyncio.sleep(80.0)
        await watcher.save()
    real = time.time()
    began = now()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr("time.time", lambda: real + 80.0 + loop.time() - began)
    server.tasks["b"].progress = 20
    async with killed(server, store, progress=True, **options) as watcher:
        changed = await anext(watcher)
        stalled = await anext(watcher)
        assert (changed.kind, changed.previous, changed.current) == ("progress_changed", 10, 20)
        assert (stalled.kind, stalled.task_id) == ("task_stalled", "a")
        assert now() - began == pytest.approx(20.0, abs=6.0)
        assert stalled.since == pytest.approx(real, abs=6.0)


# -- 14: tags -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        ),
        max_leaves=6,
    ).filter(lambda tag: "Infinity" not in json.dumps(tag))
)
def test_line_14_a_tag_is_what_json_makes_of_it(kind, tag):
    """From the first event on, and the same after a restart."""

    async def main(store):
        server = FakeTransport(x="processing")
        async with killed(server, store) as watcher:
            watcher.add("x", tag=tag)
            first = await anext(watcher)
            await watcher.save()
        server.tasks["x"].status = "completed"
        async with watching(server, store) as watcher:
            return first.tag, watcher.get("x").tag, (await anext(watcher)).tag

    with fresh_store(kind) as store:
        tags = run(main(store))
    expected = json.loads(json.dumps(tag))
    assert tags == (expected, expected, expected)
    assert repr(tags[1]) == repr(expected)


@pytest.mark.parametrize("tag", [float("nan"), {1, 2}, object(), b"bytes"])
async def test_line_14_a_tag_that_json_cannot_write_is_refused(server, store, tag):
    """Before anything is added; without a store it is delivered as it is."""
    async with watching(server, store) as watcher:
        with pytest.raises(ConfigError, match="JSON"):
            watcher.add("a", "b", tag=tag)
        assert watcher.open_ids == ()
        assert watcher.stats.unsaved == 0
    async with watching(server, None) as watcher:
        watcher.add("a", tag=tag)
        assert (await anext(watcher)).tag is tag


# -- 16 and 17: cost ------------------------------------------------------------------------------


@pytest.mark.fault("STORE-D4")
async def test_line_16_a_poll_without_a_change_of_status_writes_nothing(server, store):
    """Other progress neither."""
    async with killed(server, store, ["a"], progress=True) as watcher:
        await asyncio.sleep(10.0)
        await watcher.save()
        written = len(store.attempts)
        for percent in range(50):
            server.tasks["a"].progress = percent
            await asyncio.sleep(5.0)
        assert watcher.stats.polls > 40
        assert (len(store.attempts), watcher.stats.unsaved) == (written, 0)


@pytest.mark.fault("STORE-D4")
@pytest.mark.parametrize("how", ["slow", "dead"])
async def test_line_16_a_slow_or_dead_disk_delays_no_poll_and_one_event(how):
    """The one after a final event in the own iteration; other readers wait for nothing."""
    ids = [f"vid_{number}" for number in range(20)]
    times = {}
    for disk in ("good", how):
        store, server = ControlledStore(), FakeTransport(**dict.fromkeys(ids, "processing"))
        began, waits = now(), []
        with suppress(StoreError):
            async with watching(server, store, ids) as watcher:
                if disk == "slow":
                    store.delay = 5.0
                elif disk == "dead":
                    store.error = DISK_FULL
                await asyncio.sleep(30.0)
                async with watcher.subscribe() as others:
                    for task_id in ids[:3]:
                        server.tasks[task_id].status = "completed"
                    for _ in range(23):
                        before = now()
                        await anext(watcher)
                        waits.append(now() - before)
                    assert others.unread == 20
                await asyncio.sleep(10.0)
                store.delay, store.error = 0.0, None
        times[disk] = [at - began for at in server.request_times() if at - began < 30.0]
        assert max(waits) <= (15.0 if disk == "slow" else 6.0)
    assert times[how] == pytest.approx(times["good"])


@pytest.mark.fault("STORE-D9")
async def test_line_17_pending_changes_never_exceed_the_known_ids():
    """One entry per id, however often it changes while nothing can be written."""
    ids = [f"vid_{number}" for number in range(50)]
    store, server = ControlledStore(), FakeTransport(**dict.fromkeys(ids, "processing"))
    async with killed(server, store, ids) as watcher:
        store.error = DISK_FULL
        for number in range(20):
            for task in server.tasks.values():
                task.status = ("pending", "processing")[number % 2]
            await asyncio.sleep(6.0)
            assert watcher.stats.unsaved <= len(ids)
        assert watcher.stats.unsaved == 50
        store.error = None
        await watcher.save()


# -- 18 and 19: what is in the file ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("instant", ["before", "after"])
async def test_line_18_a_kill_around_a_write_leaves_the_old_or_the_new_state(kind, instant):
    """Of all the rows of the transaction."""
    ids = [f"vid_{number}" for number in range(10)]
    server = FakeTransport(**dict.fromkeys(ids, "processing"))
    with fresh_store(kind) as store:
        async with killed(server, store, ids) as watcher:
            await watcher.save()
            if instant == "before":
                store.before = lambda _: _crash_and_raise(store)
            else:
                store.after = lambda _: store.crash()
            watcher.add(*(f"{task_id}_new" for task_id in ids))
            await asyncio.sleep(0.0)
            await asyncio.sleep(0.3)
        store.before = store.after = lambda _: None
        assert len(store.rows()) == (10 if instant == "before" else 20)


def _crash_and_raise(store):
    store.crash()
    raise StoreError("killed")


@pytest.mark.parametrize("wrong", ["locked", "account", "damaged", "newer"])
async def test_line_18_a_file_that_is_refused_stays_as_it_is(tmp_path, wrong):
    """No row of it changes."""
    path = tmp_path / "watch.db"
    server = FakeTransport(a="processing")
    async with watching(server, path, ["a"]):
        await asyncio.sleep(10.0)
    before = read_store(path)
    content = bytearray(path.read_bytes())
    if wrong == "damaged":
        place = content.index(b'"processing"')
        content[place + 1] = ord("q")
        path.write_bytes(content)
    elif wrong == "newer":
        content[63] = 99
        path.write_bytes(content)
    options = {"base_url": "https://other.example.test/v1"} if wrong == "account" else {}

    async def refused():
        with pytest.raises(StoreError):
            async with watching(server, path, ["b"], client_options=options):
                pass

    if wrong == "locked":
        async with watching(server, path):
            await refused()
    else:
        await refused()
    if wrong in {"locked", "account"}:
        assert [row.task_id for row in read_store(path)] == [row.task_id for row in before]
    else:
        assert path.read_bytes()[100:] == content[100:]


def sample_bodies():
    """All bodies of the samples, and urls with queries in every place."""
    for name in ("cases.jsonl", "cases-2.jsonl"):
        for line in (SAMPLES / name).read_text("utf-8").splitlines():
            yield json.loads(line)


@pytest.mark.parametrize("shown", ["plain", "escaped", "failed"])
async def test_line_19_no_key_and_no_query_is_in_the_file(tmp_path, shown):
    """Nor in its journal, whatever the server sends and wherever it echoes the key."""
    path = tmp_path / "watch.db"
    key = "sk-live-0123456789abcdef"
    server = FakeTransport()
    texts = [
        f"https://h.test/v.mp4?sig={SECRET}",
        f"//h.test/v.mp4?{SECRET}",
        f"/videos/a/content?token={SECRET}",
        f"v.mp4?token={SECRET}",
        f"https://user:{SECRET}@h.test/v.mp4#{SECRET}",
        f"see https://h.test/a?k={SECRET}, or (https://h.test/b?k={SECRET})",
        "data:video/mp4;base64," + "A" * 40 + SECRET,
        f"HTTPS://H.TEST/V?K={SECRET}",
        f'{{"url":"https:\\/\\/h.test\\/v?k={SECRET}"}}',
    ]
    for number, text in enumerate(texts):
        fields = {"url": text, "metadata": {"deep": [{text: text}]}, "error": {"message": text}}
        shape = {"id": f"t{number}", "status": "failed", **fields}
        body = json.dumps(shape).encode()
        if shown == "escaped":
            body = body.replace(b"?", b"\\u003f").replace(b"/", b"\\/").replace(b"@", b"\\u0040")
        status = 500 if shown == "failed" else 200
        server.tasks[f"t{number}"] = FakeTask(fault=(status, {"x-request-id": text}, body))
    for number, case in enumerate(sample_bodies()):
        body = case["body"]
        raw = body if isinstance(body, str) else json.dumps(body)
        server.tasks[f"s{number}"] = FakeTask(fault=(case.get("status", 200), {}, raw.encode()))
    secrets = [SECRET.encode(), key.encode(), *queries()]

    def search():
        for file in path.parent.iterdir():
            content = file.read_bytes()
            for secret in secrets:
                assert secret not in content, (file.name, secret)

    options = {"retain_ended": 1e6}
    async with watching(server, path, list(server.tasks), timeout=300.0, **options) as watcher:
        while watcher.open_ids:
            await asyncio.sleep(20.0)
            await watcher.save()
            search()
        assert watcher.stats.failed >= len(texts)
        assert len(watcher.snapshot()) == len(server.tasks)
    search()
    assert len(read_store(path)) == len(server.tasks)


def queries():
    """The queries of the urls in the samples that are long enough to be found by their text."""
    found = set()
    for name in ("cases.jsonl", "cases-2.jsonl"):
        text = (SAMPLES / name).read_text("utf-8")
        found.update(re.findall(r'https?:\\?/\\?/[^\s"\'<>\\]*\?([^\s"\'<>\\]{6,})', text))
    assert found
    return [query.encode() for query in found]


# -- 20 to 23 -------------------------------------------------------------------------------------


async def test_line_20_without_an_iteration_nothing_waits(server, store):
    """The row is removed when the final state is written; the id is remembered."""
    async with watching(server, store, ["a", "x"], iterate=False) as watcher:
        assert (await watcher.wait("x")).status == "completed"
        await watcher.save()
        assert watcher.stats.unread == 0
        assert not watcher.acknowledge("x")
        with pytest.raises(ConfigError, match="iterate=False"):
            await anext(watcher)
        await asyncio.sleep(10.0)
    assert list(store.rows()) == ["a"]
    sends = len(server.request_times("x"))

    async with killed(server, store, ["x"], iterate=False):
        await asyncio.sleep(10.0)
    assert len(server.request_times("x")) == sends


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.lists(st.integers(0, 30), max_size=8), min_size=1, max_size=4))
def test_line_21_after_save_no_id_is_lost(kind, batches):
    """Each add and discard is in a durable transaction."""

    async def main(store):
        server = FakeTransport()
        async with killed(server, store) as watcher:
            expected = set()
            for batch in batches:
                ids = {f"vid_{number}" for number in batch}
                server.tasks.update({task_id: FakeTask() for task_id in ids})
                again = ids & expected
                for task_id in again:
                    watcher.discard(task_id)
                watcher.add(*ids - again)
                expected = (expected | ids) - again
                await asyncio.sleep(0.0)
            await watcher.save()
        return expected

    with fresh_store(kind) as store:
        expected = run(main(store))
        assert store.rows().keys() == expected
        durable = [write for write in store.attempts if write.durable]
        assert expected <= {task_id for write in durable for task_id in write.tasks}
        removed = {task_id for write in store.attempts for task_id in write.removed}
        assert removed <= {task_id for write in durable for task_id in write.removed}


@pytest.mark.fault("STORE-D10")
@pytest.mark.parametrize("outage", ["500", "hang", "connect"])
async def test_line_22_restored_final_events_come_during_an_outage(store, outage):
    """At most 60 s after their polls were due, with the circuit open."""
    ids = [f"vid_{number}" for number in range(100)]
    server = FakeTransport(**dict.fromkeys(ids, "completed"))
    async with killed(server, store, ids, acknowledge="by_hand") as watcher:
        for _ in ids:
            await anext(watcher)
        await watcher.save()
    server.outage = DOWN if outage == "connect" else outage
    began = now()

    async with watching(server, store) as watcher:
        watcher.finish_adding()
        keys = {(await anext(watcher)).dedup_key for _ in ids}
        assert now() - began <= 5.0 + 60.0
        assert await read_all(watcher) == []
    assert keys == {f"{task_id}:task_completed" for task_id in ids}


async def test_line_22_each_restored_final_event_has_one_fresh_poll(store):
    """The url is fresh again; the file has none."""
    url = f"https://h.test/v.mp4?sig={SECRET}"
    server = FakeTransport(x="completed")
    server.tasks["x"].extra["url"] = url
    async with killed(server, store, ["x"]) as watcher:
        assert (await anext(watcher)).task.url == url
        await watcher.save()
    sends = server.sends

    async with watching(server, store) as watcher:
        assert (await anext(watcher)).task.url == url
    assert server.sends == sends + 1


@pytest.mark.parametrize("what", ["publish", "drop"])
async def test_line_23_an_event_costs_its_own_readers_only(server, what):
    """As many calls with 500 subscriptions of other ids as with 5."""
    counts = {}
    for others in (5, 500):
        ids = [f"vid_{number}" for number in range(others)]
        server.tasks.update({task_id: FakeTask("pending") for task_id in ids})
        async with watching(server, MemoryStore(), iterate=False) as watcher:
            watcher.add("a", *ids)
            subscriptions = [watcher.subscribe(task_id) for task_id in ["a", *ids]]
            for each in subscriptions:
                await each.__aenter__()
            await watcher.save()
            calls = Counter()
            sys.setprofile(lambda _frame, event, _, calls=calls: calls.update([event]))
            if what == "publish":
                watcher.apply(VideoTask(id="a", status=TaskStatus.PENDING))
            else:
                watcher.discard("a")
            sys.setprofile(None)
            for each in subscriptions:
                await each.__aexit__(None, None, None)
        counts[others] = calls["call"]
    assert counts[500] <= counts[5] + 5
