"""What ended tasks teach: when it is enough, when it is trusted, and that it stays bounded."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._scheduling.duration_estimator import UNKNOWN, DurationEstimator, Prediction

WALL = 1_767_225_600
HOUR = 3600.0


def at_birth(after=0):
    return datetime.fromtimestamp(WALL + after, UTC)


def running(progress=None, *, model="m", created=0):
    """A task created *created* seconds after the clocks began; None for unknown."""
    return VideoTask(
        id="a",
        status=TaskStatus.PROCESSING,
        progress=progress,
        model=model,
        created_at=None if created is None else at_birth(created),
    )


ENDED = VideoTask(id="a", status=TaskStatus.FAILED)


class Server:
    """Lives through tasks of one server and teaches what it sees."""

    def __init__(self):
        self.learned = DurationEstimator()
        self.now = 0.0

    def see(self, look, task, age=0.0):
        """Look at a task when *age* seconds have passed since this task's beginning."""
        now = self.now + age
        return self.learned.seen(look, task, now=now, unix_now=WALL + now)

    def live(self, looks, *, ends, model="m", created=None):
        """Look at one task at some ages, each with a progress; its end is seen at *ends*."""
        look = None
        born = int(self.now) if created is None else created
        for age, progress in looks:
            look = self.see(look, running(progress, model=model, created=born), age)
        assert self.see(look, ENDED, ends) is None
        self.now += ends

    def outlook(self, progress=None, *, age=0.0, model="m"):
        """What is told of a new task at this age."""
        task = running(progress, model=model, created=int(self.now))
        return self.learned.outlook(self.see(None, task, age), now=self.now + age)


def taught(lives, **options):
    server = Server()
    for alive in lives:
        server.live([(0.0, None), (alive, None)], ends=alive + 5.0, **options)
    return server


HONEST = [(share * 100.0, int(share * 100)) for share in (0.0, 0.25, 0.5, 0.75, 0.95)]
"""A task of 100 s, looked at five times."""

STUCK = [(0.0, 0), (25.0, 40), (50.0, 80), (75.0, 99), (95.0, 99)]


# -- how long tasks take --------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "quiet_until"), [(0, None), (49, None), (50, 101.0)])
def test_fifty_ends_are_enough(count, quiet_until):
    """Before the fiftieth there is no quiet time."""
    server = taught([101.0 + number for number in range(count)])

    assert server.outlook().quiet_until == quiet_until


def test_the_quiet_time_ends_where_one_in_fifty_has_ended():
    """Of the last 200 lives it is the fourth smallest; earlier ones are forgotten."""
    server = taught([5.0] * 10 + [20.0 + (7 * number) % 200 // 2 for number in range(200)])

    assert server.outlook().quiet_until == 21.0


def test_what_counts_is_when_it_was_last_seen_running():
    """A server that has become faster is believed after the fourth early end."""
    server = taught([60.0] * 200)
    quiet = []
    for _ in range(4):
        server.live([(0.0, None), (15.0, None)], ends=30.0)
        quiet.append(server.outlook().quiet_until)

    assert quiet == [60.0, 60.0, 60.0, 15.0]


def test_a_heavy_tail_has_no_quiet_time():
    """With a mean of more than ten times the quantile the quiet time would not pay."""
    assert taught([20.0] * 49 + [9_020.0]).outlook().quiet_until == 20.0  # a mean of 200 s
    assert taught([20.0] * 49 + [9_021.0]).outlook().quiet_until is None


def test_one_that_had_ended_at_the_first_look_teaches_nothing():
    """Pauses between looks would not have changed when its end was found."""
    server = taught([60.0] * 50)
    for _ in range(100):
        assert server.see(None, ENDED) is None

    assert server.outlook().quiet_until == 60.0


@pytest.mark.parametrize(("age", "quiet_until"), [(15.0, 75.0), (16.0, None)])
def test_only_those_seen_young_teach_how_long_tasks_take(age, quiet_until):
    """Of tasks first seen later the short-lived are missing; but their own age counts."""
    server = Server()
    for _ in range(50):
        server.live([(0.0, None), (60.0, None)], ends=60.0, created=int(server.now - age))

    assert server.outlook().quiet_until == quiet_until
    look = server.see(None, running(created=int(server.now) - 40))
    assert server.learned.outlook(look, now=server.now).age == 40.0


def test_without_an_age_nothing_is_known():
    """The server tells no time of creation, or one far in the future."""
    server = taught([60.0] * 50)

    assert server.see(None, running(created=None)) is None
    assert server.see(None, running(created=int(server.now) + 6)) is None
    assert server.learned.outlook(None, now=server.now) is UNKNOWN


def test_a_clock_that_is_a_little_ahead_is_forgiven():
    """A task created in five seconds is one created now."""
    server = Server()
    look = server.see(None, running(created=5))

    assert server.learned.outlook(look, now=0.0) == Prediction(age=0.0)
    assert look.is_young


def test_the_age_does_not_follow_the_wall_clock():
    """It is read once, at the first look; then the loop's clock counts."""
    learned = DurationEstimator()
    look = learned.seen(None, running(created=0), now=100.0, unix_now=WALL + 2.0)
    look = learned.seen(look, running(created=0), now=130.0, unix_now=WALL + 9999.0)

    assert learned.outlook(look, now=130.0).age == 32.0


def test_models_have_habits_of_their_own():
    """What one model's tasks taught is not told of another's; no name is a name."""
    server = taught([60.0] * 50)
    for _ in range(50):
        server.live([(0.0, None), (200.0, None)], ends=205.0, model=None)

    told = [server.outlook(model=model).quiet_until for model in ("m", None, "other")]
    assert told == [60.0, 200.0, None]


# -- whether progress tells -----------------------------------------------------------------------


@pytest.mark.parametrize(("count", "ends_at"), [(17, None), (18, 100.0)])
def test_trust_is_earned_by_eighteen_tasks(count, ends_at):
    """Eighteen reckonings that came true; then the end is reckoned from progress and age."""
    server = Server()
    for _ in range(count):
        server.live(HONEST, ends=100.0)

    assert server.outlook(25, age=25.0).ends_at == ends_at


def test_trust_is_lost_by_three_lies():
    """Of the last twenty, eighteen must have come true."""
    server = Server()
    for _ in range(25):
        server.live(HONEST, ends=100.0)
    told = []
    for _ in range(3):
        server.live(STUCK, ends=100.0)
        told.append(server.outlook(50, age=50.0).ends_at)

    assert told == [100.0, 100.0, None]


@pytest.mark.parametrize(
    ("looks", "ends"),
    [
        (STUCK, 100.0),
        ([*HONEST, (130.0, 99)], 135.0),
        (HONEST[:4], 80.0),
        ([(0.0, 0), (25.0, 25), (50.0, 25), (75.0, 75), (95.0, 95)], 100.0),
        ([(0.0, 0), (25.0, 25), (50.0, 50), (75.0, 40), (95.0, 95)], 100.0),
    ],
    ids=["stuck", "outlives it", "ends before", "stands still", "goes back"],
)
def test_such_progress_earns_no_trust(looks, ends):
    """However many tasks show it."""
    server = Server()
    for _ in range(40):
        server.live(looks, ends=ends)

    assert server.outlook(25, age=25.0).ends_at is None


@pytest.mark.parametrize(
    "looks",
    [
        [(0.0, None), (25.0, None), (95.0, None)],
        [(0.0, 0), (95.0, 19)],
        [(0.0, 0), (25.0, 25), (95.0, 95)],
        [(0.0, 30), (1.0, 30), (95.0, 95)],
    ],
    ids=["none", "too little to tell", "seen too rarely", "not younger than a second"],
)
def test_what_proves_nothing_takes_no_trust(looks):
    """Trust stays as it was: there was no reckoning, or too few moves to judge one by."""
    server = Server()
    for _ in range(18):
        server.live(HONEST, ends=100.0)
    for _ in range(40):
        server.live(looks, ends=100.0)

    is_trusted = server.outlook(25, age=25.0).ends_at == 100.0
    assert is_trusted is (looks[0][1] != 30)


def trusting():
    server = Server()
    for _ in range(20):
        server.live(HONEST, ends=100.0)
    return server


@pytest.mark.parametrize(
    ("looks", "ends_at"),
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
    ids=["0 %", "none", "early", "stood", "no time to move", "overdue soon", "overdue", "100 %"],
)
def test_a_task_that_does_not_keep_its_word_is_not_reckoned(looks, ends_at):
    """Even where its model is trusted."""
    server = trusting()
    look = None
    for age, progress in looks:
        look = server.see(look, running(progress, created=int(server.now)), age)

    assert server.learned.outlook(look, now=server.now + looks[-1][0]).ends_at == ends_at


# -- bounds ---------------------------------------------------------------------------------------


def test_after_six_hours_it_is_forgotten():
    """A server's pace is another one by then."""
    server = Server()
    for _ in range(50):
        server.live(HONEST, ends=100.0)  # the first ends at 100, the last at 5,000
    told = []
    for now in (5_000.0, 100.0 + 6 * HOUR, 101.0 + 6 * HOUR, 4_000.0 + 6 * HOUR):
        server.now = now - 25.0
        told.append(server.outlook(25, age=25.0)[1:])

    assert told == [(95.0, 100.0), (95.0, 100.0), (None, 100.0), (None, None)]


def test_old_ends_do_not_count_beside_new_ones():
    """Fifty ends must be of the last six hours."""
    server = taught([60.0] * 49)
    server.now += 7 * HOUR
    server.live([(0.0, None), (60.0, None)], ends=65.0)

    assert server.outlook().quiet_until is None


def test_models_without_number_are_not_kept():
    """The 32 that were taught last are; a name without end is none."""
    server = taught([60.0] * 50)
    for number in range(31):
        server.live([(0.0, None)], ends=5.0, model=f"m{number}")
    assert (len(server.learned), server.outlook().quiet_until) == (32, 60.0)

    server.live([(0.0, None)], ends=5.0, model="one more")

    assert (len(server.learned), server.outlook().quiet_until) == (32, None)
    assert server.see(None, running(model="m" * 201)) is None
    assert server.see(None, running(model="m" * 200)) is not None


ages = st.floats(0.0, 1e6)
looks = st.lists(st.tuples(ages, st.none() | st.integers(0, 100)), max_size=6)


@given(lives=st.lists(st.tuples(looks, ages, st.sampled_from("ab")), max_size=80))
def test_whatever_it_sees_it_tells_numbers(lives):
    """No order of ages or progress breaks it, and what is told is None or finite."""
    server = Server()
    for seen, ends, model in lives:
        server.live(seen, ends=ends, model=model)
        for progress in (None, 0, 50):
            told = server.outlook(progress, age=3.0, model=model)
            assert all(value is None or isfinite(value) for value in told)
            assert told.quiet_until is None or told.quiet_until >= 0.0


@given(count=st.integers(0, 700), models=st.integers(1, 40))
def test_what_is_kept_is_bounded(count, models):
    """200 lives and 20 verdicts of 32 models, whatever comes."""
    server = Server()
    for number in range(count):
        server.live(HONEST, ends=100.0, model=str(number % models))

    kept = server.learned._habits.values()
    assert len(kept) <= 32
    assert all(len(habits.lives) <= 200 and len(habits.verdicts) <= 20 for habits in kept)
