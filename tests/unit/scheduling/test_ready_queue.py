"""Who is due and waits for a slot: the order, those whose time is up, those sent back to wait."""

from __future__ import annotations

from math import inf

from hypothesis import given, strategies as st

from ezvideo_async._scheduling.ready_queue import ReadyQueue
from ezvideo_async._scheduling.tracked_task import Phase, TrackedTask

STEPS = ["come", "come", "come", "serve", "end", "spread", "spread again", "expire"]


def watch_due(number, *, due=0.0, deadline=inf):
    """Give an id that has come due, as the calendar leaves it."""
    watch = TrackedTask(f"vid_{number}", added=0.0, deadline=deadline)
    watch.due = due
    return watch


def earliest(waiting):
    """Give the first deadline; never, when nobody waits."""
    return min((watch.deadline for watch in waiting), default=inf)


@given(st.lists(st.sampled_from(STEPS), max_size=60), st.data())
def test_it_is_two_lists_of_which_one_was_spread(steps, data):
    """However ids come, are served, end, expire and are sent back to wait."""
    ready, spread, usual, away, since = ReadyQueue(), [], [], [], {}
    for now, step in enumerate(steps):
        if step == "come":
            came = data.draw(st.booleans()) and away
            deadline = now + data.draw(st.sampled_from([3, 10, inf]))
            watch = away.pop(0) if came else watch_due(now, due=now, deadline=deadline)
            ready.append(watch)
            (spread if watch in since else usual).append(watch)
        elif step == "serve":
            limit = data.draw(st.integers(0, 4))
            served = [*spread, *usual][:limit]
            assert ready.take(limit) == served
            for watch in served:
                since.pop(watch, None)
            spread, usual = ([w for w in line if w not in served] for line in (spread, usual))
        elif step == "end" and (waiting := [*spread, *usual, *away]):
            ended = waiting[data.draw(st.integers(0, len(waiting) - 1))]
            if ended in away:
                ended.state = Phase.WAITING
            ready.drop(ended)
            since.pop(ended, None)
            spread, usual, away = (
                [w for w in line if w is not ended] for line in (spread, usual, away)
            )
        elif step in ("spread", "spread again"):
            back = [*spread, *usual] if step == "spread again" else list(usual)
            for watch in back:
                since.setdefault(watch, watch.due)
            back.sort(key=since.__getitem__)
            assert ready.take_to_spread(again=step == "spread again") == back
            away += back
            spread, usual = ([w for w in line if w not in back] for line in (spread, usual))
        elif step == "expire":
            expired = [watch for watch in (*spread, *usual) if watch.deadline <= now]
            assert ready.take_expired(now) == expired
            spread, usual = ([w for w in line if w not in expired] for line in (spread, usual))
            assert not expired or ready.deadline == earliest([*spread, *usual])
        assert len(ready) == len(spread) + len(usual)
        assert ready.deadline <= earliest([*spread, *usual])
        assert bool(ready) or ready.deadline == inf


def test_one_that_was_spread_is_served_first_and_once():
    """After it was sent it queues up as any other."""
    ready, first, second = ReadyQueue(), watch_due(1), watch_due(2)
    ready.append(first)
    assert ready.take_to_spread(again=False) == [first]
    ready.append(second)
    ready.append(first)

    assert (first.state, ready.take(9)) == (Phase.OVERDUE, [first, second])

    ready.append(second)
    ready.append(first)
    assert ready.take(9) == [second, first]


def test_those_that_were_spread_can_be_left_alone():
    """Unless they are meant, with *again*; who waits longest comes first then, too."""
    ready, early, late = ReadyQueue(), watch_due(1, due=1.0, deadline=50.0), watch_due(2, due=2.0)
    ready.append(early)
    ready.take_to_spread(again=False)
    early.due = 9.0
    ready.append(late)
    ready.append(early)

    assert ready.take_to_spread(again=False) == [late]
    assert (len(ready), ready.deadline) == (1, 50.0)
    late.due = 8.0
    ready.append(late)
    assert ready.take_to_spread(again=True) == [early, late]
    assert (len(ready), ready.deadline) == (0, inf)
