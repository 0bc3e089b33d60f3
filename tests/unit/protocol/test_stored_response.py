"""Answers that repeat the one before but for the progress: taken as such only beyond doubt."""

from __future__ import annotations

import json

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from ezvideo_async._protocol.messages import Response
from ezvideo_async._protocol.progress_only import ProgressUpdate, progress_if_only_change
from ezvideo_async._protocol.responses import decode_task
from tests.support.response_bodies import ASKED, BASE_URL, UNIX_NOW, task_of

RUNNING = '{"id":"vid_x","status":"processing","progress":%s,"model":"m"}'


def told(body, *, known, progress, request_id=None):
    """Give what a status request makes of an answer, when another one is known."""
    headers = {} if request_id is None else {"x-request-id": request_id}
    return decode_task(
        Response(status=200, headers=headers, body=body.encode()),
        task_id=ASKED,
        base_url=BASE_URL,
        unix_now=UNIX_NOW,
        known=known.encode(),
        progress=progress,
    )


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
def test_another_progress_is_all_the_news(form, before, after):
    """Whole percents, in an answer that is the same before and behind them."""
    outcome = told(form % after, known=form % before, progress=int(before), request_id="r2")

    assert outcome == ProgressUpdate(
        progress=int(after), body=(form % after).encode(), request_id="r2"
    )
    assert task_of(form % after) == evolve(task_of(form % before), progress=int(after))


@pytest.mark.parametrize(
    ("body", "known", "progress"),
    [
        (RUNNING % 43, (RUNNING % 42).replace('"m"', '"n"'), 42),  # more has changed, behind
        (RUNNING % 43, (RUNNING % 42).replace("vid_x", "vid_y"), 42),  # or before it
        (RUNNING % 43, (RUNNING % 42).replace("processing", "queued"), 42),
        (RUNNING % 43, "", None),  # nothing is known
        (RUNNING % 43, RUNNING % "null", None),
        (RUNNING % 43, RUNNING % '"42"', 42),
        (RUNNING % '"43"', RUNNING % 42, 42),
        (RUNNING % "43.5", RUNNING % "42.5", 43),  # a fraction may be a share of one
        (RUNNING % "0.2", RUNNING % "1.2", 1),
        (RUNNING % "1e1", RUNNING % "42", 42),
        (RUNNING % 105, RUNNING % 104, 100),
        (RUNNING % 105, RUNNING % 42, 42),
        (RUNNING % "-1", RUNNING % 42, 42),
        (RUNNING % "043", RUNNING % 42, 42),  # no JSON
        (RUNNING % "43}", RUNNING % "42,", 42),
        ((RUNNING % 43)[:-1], (RUNNING % 42)[:-1] + " ", 42),
        # Not the task's own progress, or not for sure.
        ('{"status":"x","meta":{"progress":2}}', '{"status":"x","meta":{"progress":1}}', None),
        ('{"progress":2,"meta":{"progress":1}}', '{"progress":1,"meta":{"progress":1}}', 1),
        ('{"progress":2,"progress":1}', '{"progress":1,"progress":1}', 1),
        (r'{"\u0070rogress":1,"m":{"progress":2}}', r'{"\u0070rogress":1,"m":{"progress":1}}', 1),
        ('{"progress":2,"progress_text":"x"}', '{"progress":1,"progress_text":"x"}', 1),
        (
            '{"progress":2,"prompt":"\\"progress\\":5"}',
            '{"progress":1,"prompt":"\\"progress\\":5"}',
            1,
        ),
    ],
)
def test_whatever_else_has_changed_is_read(body, known, progress):
    """Also where the progress is written in another way, stands elsewhere, or stands twice."""
    assert progress_if_only_change(body.encode(), known=known.encode(), progress=progress) is None


@pytest.mark.parametrize("status", [202, 204, 304, 404, 500])
def test_an_error_is_none_whatever_it_repeats(status):
    """The status comes first; any success, and no other, brings news of the task."""
    body, known = (RUNNING % 43).encode(), (RUNNING % 42).encode()
    outcome = decode_task(
        Response(status=status, body=body),
        task_id=ASKED,
        base_url=BASE_URL,
        unix_now=UNIX_NOW,
        known=known,
        progress=42,
    )

    assert isinstance(outcome, ProgressUpdate) is (status == 202)


numbers = st.integers(-2, 120) | st.sampled_from([None, "42", "42%", 0.5, 1.0, 42.5, True, [], {}])
objects = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just(ASKED),
        "status": st.sampled_from(["queued", "processing", "completed", "failed"]),
        "progress": numbers,
        "metadata": st.fixed_dictionaries({}, optional={"progress": numbers}),
        "data": st.fixed_dictionaries(
            {}, optional={"status": st.just("running"), "progress": numbers}
        ),
        "prompt": st.sampled_from(["x", '"progress":42,', '\\"progress":42,', "进度"]),
    },
)


@given(objects, numbers, st.data())
def test_what_is_taken_for_a_repeat_reads_as_one(answer, other, data):
    """Whatever answers hold: the state is the known one with that progress, and nothing else."""
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    changed = {**answer, "progress": other} if data.draw(st.booleans()) else answer | {
        "data": {**answer.get("data", {}), "progress": other}
    }  # fmt: skip
    body, known = (json.dumps(each, separators=separators) for each in (changed, answer))
    before = told(known, known="", progress=None)
    progress = getattr(before, "progress", None)

    outcome = told(body, known=known, progress=progress)

    if isinstance(outcome, ProgressUpdate):
        assert told(body, known="", progress=None) == evolve(before, progress=outcome.progress)
    elif outcome is not None:
        assert repr(outcome) == repr(told(body, known="", progress=None))
