"""What a watch keeps of a task: the answer's bytes, and nothing less than the task."""

from __future__ import annotations

import json
from pathlib import Path
from sys import getsizeof

import pytest
from attrs import asdict, evolve
from hypothesis import given

from ezvideo_async._domain.events import StatusChanged
from ezvideo_async._domain.policies import PollPolicy
from ezvideo_async._domain.task import VideoTask
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async._scheduling.tracked_task import TrackedTask
from tests.support.response_bodies import outcome_of
from tests.support.strategies import hostile_objects

SAMPLES = Path(__file__).parents[2] / "samples" / "cases.jsonl"
CASES = [json.loads(line) for line in SAMPLES.read_text("utf-8").splitlines()]
WALL = 1_767_225_600.0


def polled(outcome, *, policy=None):
    """A scheduler and its one watch, which was answered so."""
    scheduler = Scheduler(policy or PollPolicy())
    scheduler.add([outcome.id], now=0.0, rand=0.5)
    (watch,) = scheduler.take_due(0.0, limit=1)
    scheduler.answered(watch, outcome, now=0.1, unix_now=WALL, rand=0.5)
    return scheduler, watch


def all_of(task):
    """Every field, those that are not compared too."""
    return asdict(task, recurse=False), task.raw


def assert_read_again(outcome):
    """The state that a watch gives is the one that it was given, field by field."""
    scheduler, watch = polled(outcome)

    assert isinstance(watch.known, bytes) is watch.is_open
    assert all_of(outcome) == all_of(watch.task) == all_of(scheduler.snapshot()[outcome.id])
    assert (outcome.status, outcome.progress) == (watch.status, watch.progress)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
@pytest.mark.parametrize("alias", [None, "another"])
def test_every_case_is_read_again_as_it_was(case, alias):
    """Url, times, aliases, request id and raw answer of every dialect."""
    headers = {**(case.get("headers") or {}), "x-request-id": "req_1"}
    outcome = outcome_of(
        case["body"],
        status=case["http_status"],
        headers=headers,
        ask=case["ask"] if alias is None else alias,
        alias=None if alias is None else case["ask"],
    )

    if isinstance(outcome, VideoTask):
        assert_read_again(outcome)
    else:
        assert case["expect"]["raises"] is not None or alias is not None


@given(answer=hostile_objects)
def test_any_answer_is_read_again_as_it_was(answer):
    """Whatever JSON it is, as long as it shows a task."""
    outcome = outcome_of(answer)

    if isinstance(outcome, VideoTask):
        assert_read_again(outcome)


def test_a_relative_url_is_read_again_against_the_same_base():
    """A task that runs may have a url already."""
    outcome = outcome_of({"id": "vid_x", "status": "processing", "url": "/v/1.mp4"})

    assert_read_again(outcome)
    assert polled(outcome)[1].task.url == "https://api.example.test/v/1.mp4"


def test_a_state_that_was_fed_is_kept_itself():
    """Its bytes, if any, may say something else by now."""
    scheduler, watch = polled(outcome_of({"id": "vid_x", "status": "processing", "progress": 1}))
    fed = evolve(watch.task, progress=50)

    scheduler.fed(fed, now=1.0, unix_now=WALL)

    assert watch.task is fed
    assert watch.body == b""


def test_the_same_bytes_are_no_news():
    """The watch goes on, its trouble is over, and the state is the same."""
    outcome = outcome_of({"id": "vid_x", "status": "processing", "progress": 1})
    scheduler, watch = polled(outcome)
    (watch,) = scheduler.take_due(10.0, limit=1)

    event = scheduler.answered(watch, None, now=10.1, unix_now=WALL + 10.0, rand=0.5)

    assert event is None
    assert (watch.due, watch.seen_at, watch.trouble) == (15.1, WALL + 10.0, None)
    assert watch.task == outcome


def test_the_same_bytes_for_long_are_a_stall():
    """Told once, with the task read again."""
    outcome = outcome_of({"id": "vid_x", "status": "processing"})
    scheduler, watch = polled(outcome, policy=PollPolicy(stalled_after=15.0))

    events = []
    for now in (10.0, 20.0, 30.0):
        scheduler.take_due(now, limit=1)
        event = scheduler.answered(watch, None, now=now, unix_now=WALL + now, rand=0.5)
        events.append(event and (event.kind, event.since, event.task))

    assert events == [None, ("task_stalled", pytest.approx(WALL + 0.1), outcome), None]


def test_the_same_bytes_teach_an_adaptive_policy():
    """A task whose answers never change is seen alive, with its age known or not."""
    for created_at, looks in ((WALL - 5.0, 1), (None, 0)):
        outcome = outcome_of({"id": "vid_x", "status": "processing", "created_at": created_at})
        scheduler, watch = polled(outcome, policy=PollPolicy(adaptive=True))
        (watch,) = scheduler.take_due(10.0, limit=1)

        scheduler.answered(watch, None, now=10.1, unix_now=WALL + 10.0, rand=0.5)

        assert [look.alive for look in scheduler.pace._looks.values()] == [
            pytest.approx(15.0)
        ] * looks


def test_a_snapshot_does_not_change():
    """It is of one instant, and reads what was known then."""
    outcome = outcome_of({"id": "vid_x", "status": "processing"})
    scheduler, _ = polled(outcome)
    scheduler.add(["other"], now=1.0, rand=0.5)
    snapshot = scheduler.snapshot()

    scheduler.fed(evolve(outcome, progress=50), now=1.0, unix_now=WALL)
    scheduler.discard("other")

    assert {"vid_x": outcome, "other": None} == snapshot
    assert list(snapshot) == ["vid_x", "other"]
    assert ("vid_x" in snapshot, "new" in snapshot, len(snapshot)) == (True, False, 2)
    assert repr(snapshot) == "<the states of 2 tasks>"
    with pytest.raises(KeyError):
        snapshot["new"]


def test_an_id_takes_little_room():
    """A hundred thousand are watched at once: no slot without a reason."""
    watch = TrackedTask("a", added=0.0)

    assert getsizeof(watch) <= 180
    assert not hasattr(watch, "__dict__")
    assert not hasattr(watch, "__weakref__")


def test_the_first_event_has_the_task_itself():
    """What is told is read once."""
    outcome = outcome_of({"id": "vid_x", "status": "processing"})
    scheduler = Scheduler(PollPolicy())
    scheduler.add(["vid_x"], now=0.0, rand=0.5)
    (watch,) = scheduler.take_due(0.0, limit=1)

    event = scheduler.answered(watch, outcome, now=0.1, unix_now=WALL, rand=0.5)

    assert isinstance(event, StatusChanged)
    assert event.task is outcome
