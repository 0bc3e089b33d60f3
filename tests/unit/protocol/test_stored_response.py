"""Stored responses: states decoded again from bytes, and changes found without decoding."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path

import pytest
from attrs import asdict, evolve
from hypothesis import given, strategies as st

from ezvideo_async._domain.events import TaskCompleted, own_event
from ezvideo_async._domain.task import TaskStatus, VideoTask, source_of
from ezvideo_async._protocol import stored_response
from ezvideo_async._protocol.messages import FRESH
from ezvideo_async._protocol.stored_response import FinalBodies, Snapshot, StoredResponse
from ezvideo_async._scheduling.tracked_task import TrackedTask
from tests.support.response_bodies import ASKED, decode, outcome_of, response_of, task_of
from tests.support.strategies import hostile_objects

SAMPLES = Path(__file__).parents[2] / "samples" / "cases.jsonl"
CASES = [json.loads(line) for line in SAMPLES.read_text("utf-8").splitlines()]
RUNNING = '{"id":"vid_x","status":"processing","progress":%s,"model":"m"}'


def stored(task):
    """Store a decoded task as a poll does."""
    record = StoredResponse(task.id)
    record.store(task)
    record.compact()
    return record


def all_fields(task):
    """Every field, also those that are not compared."""
    return asdict(task, recurse=False), task.raw


def assert_decoded_again(task):
    """The stored state is the one that was stored, field by field."""
    record = stored(task)

    assert isinstance(record.content, bytes)
    assert all_fields(record.task) == all_fields(record.stored_state.decode()) == all_fields(task)
    assert (record.status, record.progress) == (task.status, task.progress)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
@pytest.mark.parametrize("alias", [None, "another"])
def test_every_case_is_decoded_again_unchanged(case, alias):
    """Url, times, aliases, request id and raw response of every dialect are kept."""
    outcome = outcome_of(
        case["body"],
        status=case["http_status"],
        headers={**(case.get("headers") or {}), "x-request-id": "req_1"},
        ask=case["ask"] if alias is None else alias,
        aliases=() if alias is None else (case["ask"],),
    )

    if isinstance(outcome, VideoTask):
        assert_decoded_again(outcome)
    else:
        assert case["expect"]["raises"] is not None or alias is not None


@given(body=hostile_objects)
def test_any_response_is_decoded_again_unchanged(body):
    """This holds for every JSON that shows a task."""
    outcome = outcome_of(body)

    if isinstance(outcome, VideoTask):
        assert_decoded_again(outcome)


def test_relative_url_is_resolved_against_the_same_base():
    """A running task may have a url already."""
    task = task_of({"id": "vid_x", "status": "processing", "url": "/v/1.mp4"})

    assert_decoded_again(task)
    assert stored(task).task.url == "https://api.example.test/v/1.mp4"


def test_state_without_a_response_is_stored_itself():
    """A state built by the user has no bytes; the final event has its task."""
    record = StoredResponse("vid_x")
    assert (record.task, record.status, record.progress) == (None, None, None)
    task = VideoTask(id="vid_x", status=TaskStatus.PROCESSING, progress=50)

    record.store(task)
    record.compact()
    assert record.task is task
    record.content = TaskCompleted(task_id="vid_x", task=task)
    assert record.task is task


# -- changes of progress alone ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "before", "after"),
    [
        (RUNNING, "42", "43"),
        (RUNNING, "9", "10"),
        (RUNNING, "99", "100"),
        (RUNNING, "100", "0"),
        (RUNNING.replace(":%s", ": %s"), "42", "7"),
        ('{"data":{"status":"running","progress":%s}}', "1", "2"),
        ('{"status":"running","progress":%s\n}', "1", "2"),
    ],
)
def test_other_progress_is_found_without_decoding(form, before, after):
    """Whole percents are compared, in a body that is the same before and after them."""
    record = stored(task_of(form % before))
    response = response_of(form % after, headers={"x-request-id": "req_2"})

    assert record.progress_change_in(response) == int(after)
    record.store_progress(int(after), response)
    assert (record.content, record.progress) == (response.body, int(after))
    assert record.task == evolve(task_of(form % before), progress=int(after))
    assert record.task.request_id == "req_2"


@pytest.mark.parametrize(
    ("body", "before"),
    [
        (RUNNING % 43, (RUNNING % 42).replace('"m"', '"n"')),  # more has changed, after it
        (RUNNING % 43, (RUNNING % 42).replace("processing", "queued")),  # or before it
        (RUNNING % 43, RUNNING % "null"),
        (RUNNING % 43, RUNNING % '"42"'),
        (RUNNING % '"43"', RUNNING % 42),
        (RUNNING % "43.5", RUNNING % "42.5"),  # a fraction may be a share of one
        (RUNNING % "0.2", RUNNING % "1.2"),
        (RUNNING % "1e1", RUNNING % "42"),
        (RUNNING % 105, RUNNING % 104),
        (RUNNING % 105, RUNNING % 42),
        (RUNNING % "-1", RUNNING % 42),
        (RUNNING % "043", RUNNING % 42),  # invalid JSON
        ((RUNNING % 43)[:-1], RUNNING % 42),
        ((RUNNING % 43)[:-1], (RUNNING % 42)[:-1] + " }"),
        ('{"status":"queued"}', RUNNING % 42),
        # Not the task's own progress, or not certainly.
        *(
            ('{"status":"queued",' + body, '{"status":"queued",' + before)
            for body, before in [
                ('"metadata":{"progress":2}}', '"metadata":{"progress":1}}'),
                ('"progress":2,"meta":{"progress":1}}', '"progress":1,"meta":{"progress":1}}'),
                ('"progress":2,"progress":1}', '"progress":1}'),
                (
                    r'"\u0070rogress":1,"m":{"progress":2}}',
                    r'"\u0070rogress":1,"m":{"progress":1}}',
                ),
                ('"progress":2,"progress_text":"x"}', '"progress":1,"progress_text":"x"}'),
                (
                    r'"progress":2,"prompt":"\"progress\":5"}',
                    r'"progress":1,"prompt":"\"progress\":5"}',
                ),
            ]
        ),
    ],
)  # fmt: skip
def test_any_other_change_must_be_decoded(body, before):
    """Also where the progress is written in another way, stands elsewhere, or stands twice."""
    assert stored(task_of(before)).progress_change_in(response_of(body)) is None


def test_nothing_is_compared_with_a_state_that_has_no_bytes():
    """There may be no response yet, or a state that came without one."""
    record, response = StoredResponse("vid_x"), response_of(RUNNING % 43)
    assert record.progress_change_in(response) is None
    assert not record.is_repeated_by(response)

    record.store(task_of(RUNNING % 42))

    assert record.progress_change_in(response) is None
    assert not record.is_repeated_by(response_of(RUNNING % 42))


@pytest.mark.parametrize("status", [200, 202, 204, 205, 304, 404, 500])
def test_only_a_success_with_a_body_is_compared(status):
    """The status comes first, whatever body an error repeats."""
    record = stored(task_of(RUNNING % 42))
    is_success = status in {200, 202}

    assert record.is_repeated_by(response_of(RUNNING % 42, status=status)) is is_success
    change = record.progress_change_in(response_of(RUNNING % 43, status=status))
    assert change == (43 if is_success else None)
    assert not record.is_repeated_by(response_of(RUNNING % 43, status=status))


numbers = st.integers(-2, 120) | st.sampled_from([None, "42", "42%", 0.5, 1.0, 42.5, True, [], {}])
objects = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just(ASKED),
        "status": st.sampled_from(["queued", "processing"]),
        "progress": numbers,
        "metadata": st.fixed_dictionaries({}, optional={"progress": numbers}),
        "data": st.fixed_dictionaries(
            {}, optional={"status": st.just("running"), "progress": numbers}
        ),
        "prompt": st.sampled_from(["x", '"progress":42,', '\\"progress":42,', "进度"]),
    },
)


@given(objects, numbers, st.data())
def test_a_change_found_without_decoding_is_the_decoded_one(body, other, data):
    """Whatever bodies hold: the new state is the stored one with that progress, nothing else."""
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    is_nested = data.draw(st.booleans())
    changed = (
        {**body, "data": {**body.get("data", {}), "progress": other}}
        if is_nested
        else {**body, "progress": other}
    )
    text, text_before = (json.dumps(each, separators=separators) for each in (changed, body))
    before = outcome_of(text_before)
    if not isinstance(before, VideoTask):
        return

    progress = stored(before).progress_change_in(response_of(text))

    if progress is not None:
        assert outcome_of(text) == evolve(before, progress=progress)


# -- what a server sends is kept within bounds ------------------------------------------------

MIB = 1024 * 1024
LONG = "x" * MIB
LARGE = {
    "metadata": {"metadata": {"text": LONG}},
    "many metadata": {"metadata": {str(number): {} for number in range(9000)}},
    "unknown field": {"note": LONG},
    "status": {"status": LONG},
    "model": {"model": LONG},
    "url": {"url": f"https://a.test/{LONG}"},
    "size": {"size": LONG, "seconds": LONG},
    "error": {"error": {"code": LONG, "message": LONG}},
}


def running(**fields):
    """Return the body of a running task."""
    return json.dumps({"id": ASKED, "status": "processing", "progress": 1, **fields})


def observed(body, finals=None):
    """Store a response as a poll does; return the record and the event."""
    record = TrackedTask(ASKED, added=0.0)
    event = record.observe(
        response_of(body),
        decode,
        FRESH,
        now=0.0,
        unix_now=0.0,
        progress=True,
        stalled_after=None,
        finals=finals or FinalBodies(),
    )
    if event.is_final:
        record.end(event)
    return record, event


def memory_of(make, count):
    """Return the bytes that each of *count* results takes, and the results."""
    made = [make()]  # fills caches
    tracemalloc.start()
    try:
        made += [make() for _ in range(count)]
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / count, made
    finally:
        tracemalloc.stop()


@pytest.mark.fault("Q19")
@pytest.mark.parametrize("fields", LARGE.values(), ids=LARGE)
def test_large_running_response_is_kept_as_its_main_fields(fields):
    """Whatever is large in it: a few KiB of 1 MiB, in the record and in an unread event."""
    body = running(**fields)

    each, [(record, event), *_] = memory_of(lambda: observed(body), 5)

    assert each < 16 * 1024
    for task in (record.task, event.task, record.stored_state.decode()):
        assert (task.id, task.status, task.progress) == (ASKED, "processing", 1)
        assert (task.metadata, task.raw) == ({}, task.to_dict())


@pytest.mark.fault("Q19")
def test_texts_of_a_large_running_response_are_cut():
    """A url is left out, since a part of it is none."""
    record, _ = observed(
        running(**LARGE["model"] | LARGE["error"] | LARGE["url"], status="s" * 999)
    )

    task = record.task

    assert (task.raw_status, task.model, task.url) == ("s" * 200, "x" * 200, None)
    assert (len(task.error.code), len(task.error.message)) == (200, 2000)


@pytest.mark.fault("Q19")
def test_repeat_of_a_large_response_is_recognized():
    """By its digest, without decoding it; an error status repeats nothing."""
    record, _ = observed(running(note=LONG))

    assert record.is_repeated_by(response_of(running(note=LONG)))
    assert not record.is_repeated_by(response_of(running(note=LONG), status=500))
    assert not record.is_repeated_by(response_of(running(note=LONG + "y")))
    assert record.progress_change_in(response_of(running(note=LONG, progress=2))) is None


@pytest.mark.parametrize("length", [10, 5_000, 16_000])
def test_smaller_running_response_is_kept_whole(length):
    """Its event has the raw response and the metadata."""
    body = running(metadata={"text": "x" * length})

    record, event = observed(body)

    assert (record.content, event.task.raw) == (body.encode(), json.loads(body))
    assert event.task == record.task == task_of(body)
    assert event.task.metadata == {"text": "x" * length}


@pytest.mark.fault("Q19")
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_final_event_is_not_kept_decoded(status):
    """Decoded metadata take ten times their bytes; a reader gets all of it, and keeps it alone."""
    body = running(status=status, metadata={str(number): {} for number in range(9000)})

    each, [(_, event), *_] = memory_of(lambda: observed(body), 5)

    assert each < len(body) + 4096
    read = own_event(event)
    each, _ = memory_of(lambda: own_event(event), 5)
    assert each < 4096
    assert read.task is read.task
    assert read.task == task_of(body)
    assert read.task.raw == json.loads(body)


@pytest.mark.fault("Q19")
def test_final_bodies_over_1_mib_are_kept_up_to_a_limit(monkeypatch):
    """Then without the raw response, with url and small metadata; freed ones make room."""
    monkeypatch.setattr(stored_response, "_FINALS_MAX", 9 * MIB)
    finals, video = FinalBodies(), f"data:video/mp4;base64,{'A' * (2 * MIB)}"
    body = running(status="completed", url=video, metadata={"fps": 24})
    events = [observed(body, finals)[1] for _ in range(5)]

    tasks = [own_event(event).task for event in events]

    assert {task.url for task in tasks} == {video}
    assert [task.metadata for task in tasks] == [{"fps": 24}] * 5
    assert [len(source_of(task)[0]) for task in tasks[:4]] == [len(body)] * 4
    assert (source_of(tasks[4]), tasks[4].raw) == (None, tasks[4].to_dict())
    del events[1:3], tasks
    gc.collect()
    _, event = observed(body, finals)
    assert source_of(own_event(event).task) is not None


@pytest.mark.fault("Q19")
def test_final_body_beyond_the_limit_is_kept_without_large_metadata(monkeypatch):
    """They may take ten times the bytes of the body."""
    monkeypatch.setattr(stored_response, "_FINALS_MAX", 2 * MIB)
    finals = FinalBodies()
    body = running(status="completed", url="https://a.test/1.mp4", metadata={"text": LONG})
    kept = observed(body, finals)

    each, [(_, event), *_] = memory_of(lambda: observed(body, finals), 3)

    assert kept[0].task.metadata == {"text": LONG}
    assert each < 8192
    assert (event.task.url, event.task.metadata) == ("https://a.test/1.mp4", {})
    assert event.task.succeeded


# -- snapshots --------------------------------------------------------------------------------


def test_snapshot_is_a_mapping_that_does_not_change():
    """A state stored later is not in it."""
    record = stored(task_of(RUNNING % 1))
    snapshot = Snapshot({"vid_x": record.stored_state, "new": StoredResponse("new").stored_state})

    record.store(task_of(RUNNING % 50))

    assert {"vid_x": task_of(RUNNING % 1), "new": None} == snapshot
    assert list(snapshot) == ["vid_x", "new"]
    assert ("vid_x" in snapshot, "other" in snapshot, len(snapshot)) == (True, False, 2)
    assert repr(snapshot) == "<the states of 2 tasks>"
    with pytest.raises(KeyError):
        snapshot["other"]
