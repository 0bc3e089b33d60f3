"""Duration estimator: how many tasks suffice, when progress is trusted, and its bounds."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._scheduling.duration_estimator import UNKNOWN, DurationEstimator, Prediction

UNIX_START = 1_767_225_600
HOUR = 3600.0


def running(progress=None, *, model="m", created=0):
    """A task created *created* seconds after the clocks began; None for unknown."""
    return VideoTask(
        id="a",
        status=TaskStatus.PROCESSING,
        progress=progress,
        model=model,
        created_at=None if created is None else datetime.fromtimestamp(UNIX_START + created, UTC),
    )


FINISHED = VideoTask(id="a", status=TaskStatus.FAILED)


class Server:
    """Runs tasks of one server, one after the other, and records what polls show."""

    def __init__(self):
        self.estimator = DurationEstimator()
        self.now = 0.0

    def poll(self, observation, task, age=0.0):
        """Observe a task *age* seconds after the current one was created."""
        now = self.now + age
        return self.estimator.observe(observation, task, now=now, unix_now=UNIX_START + now)

    def run(self, polls, *, ends, model="m", created=None):
        """Poll one task at some ages, each with a progress; its end is seen at age *ends*."""
        observation = None
        created = int(self.now) if created is None else created
        for age, progress in polls:
            task = running(progress, model=model, created=created)
            observation = self.poll(observation, task, age)
        assert self.poll(observation, FINISHED, ends) is None
        self.now += ends

    def predict(self, progress=None, *, age=0.0, model="m"):
        """Predict the end of a new task that is seen once, at this age."""
        task = running(progress, model=model, created=int(self.now))
        return self.estimator.predict(self.poll(None, task, age), now=self.now + age)


def server_after(durations, **options):
    """Give a server whose tasks were last seen running at these ages."""
    server = Server()
    for duration in durations:
        server.run([(0.0, None), (duration, None)], ends=duration + 5.0, **options)
    return server


LINEAR = [(share * 100.0, int(share * 100)) for share in (0.0, 0.25, 0.5, 0.75, 0.95)]
"""Five polls of a task of 100 s."""

STUCK = [(0.0, 0), (25.0, 40), (50.0, 80), (75.0, 99), (95.0, 99)]


def trusting(count=20):
    """Give a server with linear progress."""
    server = Server()
    for _ in range(count):
        server.run(LINEAR, ends=100.0)
    return server


# -- how long tasks run ---------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "quiet_until"), [(0, None), (49, None), (50, 101.0)])
def test_quiet_time_needs_fifty_durations(count, quiet_until):
    """With fewer there is no quantile of 2 %."""
    server = server_after([101.0 + number for number in range(count)])

    assert server.predict().quiet_until == quiet_until


def test_quiet_time_is_the_fourth_smallest_of_the_last_200_durations():
    """One in 50 finishes within it; older durations are dropped."""
    durations = [5.0] * 10 + [20.0 + (7 * number) % 200 // 2 for number in range(200)]

    assert server_after(durations).predict().quiet_until == 21.0


def test_duration_counts_up_to_the_last_poll_that_saw_the_task_running():
    """A server that has become faster is noticed at the fourth early end."""
    server = server_after([60.0] * 200)
    quiet = []
    for _ in range(4):
        server.run([(0.0, None), (15.0, None)], ends=30.0)
        quiet.append(server.predict().quiet_until)

    assert quiet == [60.0, 60.0, 60.0, 15.0]


def test_heavy_tail_has_no_quiet_time():
    """With a mean of more than ten quantiles it would cost more requests than it saves."""
    assert server_after([20.0] * 49 + [9_020.0]).predict().quiet_until == 20.0  # a mean of 200 s
    assert server_after([20.0] * 49 + [9_021.0]).predict().quiet_until is None


def test_task_that_was_finished_at_the_first_poll_is_not_counted():
    """Nothing is known of how long it ran."""
    server = server_after([60.0] * 50)
    for _ in range(100):
        assert server.poll(None, FINISHED) is None

    assert server.predict().quiet_until == 60.0


@pytest.mark.parametrize(("age", "quiet_until"), [(15.0, 75.0), (16.0, None)])
def test_only_tasks_first_seen_young_count(age, quiet_until):
    """Of tasks first seen later the short ones are missing; their own age is known."""
    server = Server()
    for _ in range(50):
        server.run([(0.0, None), (60.0, None)], ends=60.0, created=int(server.now - age))

    assert server.predict().quiet_until == quiet_until
    observation = server.poll(None, running(created=int(server.now) - 40))
    assert server.estimator.predict(observation, now=server.now).age == 40.0


def test_nothing_is_predicted_without_an_age():
    """The server sends no time of creation, or one in the future."""
    server = server_after([60.0] * 50)

    assert server.poll(None, running(created=None)) is None
    assert server.poll(None, running(created=int(server.now) + 6)) is None
    assert server.estimator.predict(None, now=server.now) is UNKNOWN


def test_server_clock_may_be_five_seconds_ahead():
    """Such a task counts as created now."""
    server = Server()
    observation = server.poll(None, running(created=5))

    assert server.estimator.predict(observation, now=0.0) == Prediction(age=0.0)
    assert observation.is_young


def test_age_does_not_follow_the_wall_clock():
    """It is read once, at the first poll; then the loop clock counts."""
    estimator = DurationEstimator()
    first, later = {"now": 100.0, "unix_now": UNIX_START + 2.0}, {"now": 130.0, "unix_now": 9.0}
    observation = estimator.observe(None, running(), **first)
    observation = estimator.observe(observation, running(), **later)

    assert estimator.predict(observation, now=130.0).age == 32.0


def test_models_are_estimated_separately():
    """Tasks without a model count as one model."""
    server = server_after([60.0] * 50)
    for _ in range(50):
        server.run([(0.0, None), (200.0, None)], ends=205.0, model=None)

    predicted = [server.predict(model=model).quiet_until for model in ("m", None, "other")]
    assert predicted == [60.0, 200.0, None]


# -- whether progress predicts the end ------------------------------------------------------------


@pytest.mark.parametrize(("count", "ends_at"), [(17, None), (18, 100.0)])
def test_progress_is_trusted_after_eighteen_right_predictions(count, ends_at):
    """Then the end is predicted from progress and age."""
    assert trusting(count).predict(25, age=25.0).ends_at == ends_at


def test_trust_is_lost_by_three_wrong_predictions():
    """Of the last twenty, eighteen must have been right."""
    server = trusting(25)
    predicted = []
    for _ in range(3):
        server.run(STUCK, ends=100.0)
        predicted.append(server.predict(50, age=50.0).ends_at)

    assert predicted == [100.0, 100.0, None]


@pytest.mark.parametrize(
    ("polls", "ends"),
    [
        (STUCK, 100.0),
        ([*LINEAR, (130.0, 99)], 135.0),
        (LINEAR[:4], 80.0),
        ([(0.0, 0), (25.0, 25), (50.0, 25), (75.0, 75), (95.0, 95)], 100.0),
        ([(0.0, 0), (25.0, 25), (50.0, 50), (75.0, 40), (95.0, 95)], 100.0),
    ],
    ids=["stuck", "ends later", "ends earlier", "stops moving", "goes down"],
)
def test_progress_that_predicts_wrongly_is_not_trusted(polls, ends):
    """However many tasks show it."""
    server = Server()
    for _ in range(40):
        server.run(polls, ends=ends)

    assert server.predict(25, age=25.0).ends_at is None


@pytest.mark.parametrize(
    ("polls", "is_trusted"),
    [
        ([(0.0, None), (25.0, None), (95.0, None)], True),
        ([(0.0, 0), (95.0, 19)], True),
        ([(0.0, 0), (25.0, 25), (95.0, 95)], True),
        ([(0.0, 30), (1.0, 30), (95.0, 95)], False),
    ],
    ids=["no progress", "below 20 %", "too few moves", "20 % at once"],
)
def test_only_checked_predictions_change_the_trust(polls, is_trusted):
    """There may be no prediction, or too few moves to check it by."""
    server = trusting(18)
    for _ in range(40):
        server.run(polls, ends=100.0)

    assert (server.predict(25, age=25.0).ends_at == 100.0) is is_trusted


@pytest.mark.parametrize(
    ("polls", "ends_at"),
    [
        ([(25.0, 0)], None),
        ([(25.0, None)], None),
        ([(10.0, 5)], 200.0),
        ([(25.0, 25), (50.0, 25)], None),
        ([(25.0, 25), (25.5, 25)], 102.0),
        ([(50.0, 50), (109.0, 90)], 109.0 / 0.9),
        ([(50.0, 50), (111.0, 90)], None),
        ([(50.0, 100)], 50.0),
    ],
    ids=["0 %", "none", "early", "stuck", "no time to move", "late", "too late", "100 %"],
)
def test_end_is_predicted_only_while_the_progress_is_linear(polls, ends_at):
    """Also for a model whose progress is trusted."""
    server = trusting()
    observation = None
    for age, progress in polls:
        task = running(progress, created=int(server.now))
        observation = server.poll(observation, task, age)

    predicted = server.estimator.predict(observation, now=server.now + polls[-1][0])
    assert predicted.ends_at == ends_at


# -- bounds ---------------------------------------------------------------------------------------


def test_records_are_dropped_after_six_hours():
    """Each on its own: 49 durations are left before 17 checked predictions are."""
    server = trusting(50)  # the first ends at 100, the last at 5,000
    predicted = []
    for now in (5_000.0, 100.0 + 6 * HOUR, 101.0 + 6 * HOUR, 4_000.0 + 6 * HOUR):
        server.now = now - 25.0
        predicted.append(server.predict(25, age=25.0)[1:])

    assert predicted == [(95.0, 100.0), (95.0, 100.0), (None, 100.0), (None, None)]


def test_old_durations_do_not_count_with_new_ones():
    """Fifty must be of the last six hours."""
    server = server_after([60.0] * 49)
    server.now += 7 * HOUR
    server.run([(0.0, None), (60.0, None)], ends=65.0)

    assert server.predict().quiet_until is None


def test_the_32_models_that_finished_last_are_kept():
    """A name of more than 200 characters is no model's."""
    server = server_after([60.0] * 50)
    for number in range(31):
        server.run([(0.0, None)], ends=5.0, model=f"m{number}")
    assert (len(server.estimator), server.predict().quiet_until) == (32, 60.0)

    server.run([(0.0, None)], ends=5.0, model="one more")

    assert (len(server.estimator), server.predict().quiet_until) == (32, None)
    assert server.poll(None, running(model="m" * 201)) is None
    assert server.poll(None, running(model="m" * 200)) is not None


ages = st.floats(0.0, 1e6)
polls = st.lists(st.tuples(ages, st.none() | st.integers(0, 100)), max_size=6)


@given(runs=st.lists(st.tuples(polls, ages, st.sampled_from("ab")), max_size=80))
def test_predictions_are_none_or_finite(runs):
    """This holds for any order of ages and progress."""
    server = Server()
    for seen, ends, model in runs:
        server.run(seen, ends=ends, model=model)
        for progress in (None, 0, 50):
            predicted = server.predict(progress, age=3.0, model=model)
            assert all(value is None or isfinite(value) for value in predicted)
            assert predicted.quiet_until is None or predicted.quiet_until >= 0.0


def test_memory_is_bounded():
    """There are at most 200 durations and 20 checked predictions for each of 32 models."""
    server = Server()
    for number in range(7_000):
        server.run(LINEAR, ends=1.0, model=str(number % 33) if number % 8 else "0")

    records = server.estimator._models.values()
    assert len(records) == 32
    assert max(len(each.durations) for each in records) == 200
    assert max(len(each.checks) for each in records) == 20
