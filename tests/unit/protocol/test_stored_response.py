"""Stored responses: states decoded again from bytes, and changes found without decoding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import asdict, evolve
from hypothesis import given, strategies as st

from ezvideo_async._domain.events import TaskCompleted
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._protocol.stored_response import Snapshot, StoredResponse
from tests.support.response_bodies import ASKED, outcome_of, response_of, task_of
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
