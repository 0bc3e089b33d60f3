"""Ready queue: first come, first served, with removal and expiry anywhere."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._scheduling import ready_queue
from ezvideo_async._scheduling.ready_queue import ReadyQueue
from ezvideo_async._scheduling.tracked_task import TrackedTask

STEPS = ["append", "append", "append", "pop", "remove", "expire", "spread", "spread again"]


def due_id(number, *, due=0.0, deadline=inf):
    """Give an id that has come due, as the due queue leaves it."""
    tracked = TrackedTask(f"vid_{number}", added=0.0, deadline=deadline)
    tracked.due = due
    return tracked


@pytest.mark.parametrize("unordered_max", [0, 3, 10_000])
@given(steps=st.lists(st.sampled_from(STEPS), max_size=80), data=st.data())
def test_queue_equals_a_list(unordered_max, steps, data):
    """However ids are appended, popped, removed, spread and expire; gaps are at most half."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ready_queue, "_UNORDERED_MAX", unordered_max)
        _check_against_a_list(steps, data)


def _check_against_a_list(steps, data):
    ready, model, first_due, most = ReadyQueue(), [], {}, 0
    for now, step in enumerate(steps):
        if step == "append":
            due = now - data.draw(st.sampled_from([0, 5]))
            tracked = due_id(now, due=due, deadline=now + data.draw(st.sampled_from([3, 10, inf])))
            ready.append(tracked)
            model.append(tracked)
        elif step == "pop" and model:
            popped = model.pop(0)
            assert ready.popleft() is popped
            first_due.pop(popped, None)
        elif step == "remove" and model:
            removed = model.pop(data.draw(st.integers(0, len(model) - 1)))
            ready.remove(removed)
            ready.forget(removed)
            first_due.pop(removed, None)
        elif step == "expire":
            expired = [each for each in model if each.deadline <= now]
            assert ready.pop_expired(now) == sorted(expired, key=lambda each: each.deadline)
            model = [each for each in model if each.deadline > now]
        elif step.startswith("spread"):
            again = step == "spread again"
            popped = [each for each in model if again or each not in first_due]
            for each in popped:
                first_due.setdefault(each, each.due)
            popped.sort(key=first_due.__getitem__)
            assert ready.pop_to_spread(again=again) == popped
            model = [each for each in model if each not in popped]
            for each in popped:  # they come due again, in any order
                each.due = now
                ready.append(each)
                model.append(each)
        earliest = min((each.deadline for each in model), default=inf)
        assert (len(ready), bool(ready)) == (len(model), bool(model))
        assert ready.deadline <= earliest
        assert model or ready.deadline == inf
        assert step != "expire" or ready.deadline > now
        assert len(ready._queue) <= 2 * len(model)
        assert len(ready._by_deadline or ()) <= max(2 * len(model), most)
        most = len(ready._by_deadline or ())


def test_removal_of_the_last_id_ends_its_deadline():
    """Also when the others were polled before."""
    ready, first, second = ReadyQueue(), due_id(1, deadline=5.0), due_id(2, deadline=9.0)
    ready.append(first)
    ready.append(second)
    assert ready.popleft() is first

    ready.remove(second)

    assert (len(ready), ready.deadline) == (0, inf)


def test_removed_id_is_skipped():
    """The next one is first then."""
    ready, ids = ReadyQueue(), [due_id(number) for number in range(3)]
    for tracked in ids:
        ready.append(tracked)
    ready.remove(ids[0])

    assert ready.popleft() is ids[1]


def test_polled_ids_are_not_kept_until_their_deadline():
    """However long the queue is never empty after a deadline has passed."""
    ready = ReadyQueue()
    for number in range(10):
        ready.append(due_id(number, deadline=1.0 if number == 0 else 1e6))
    assert len(ready.pop_expired(1.0)) == 1

    for number in range(1000):
        ready.append(due_id(number, deadline=1e6 + number))
        ready.popleft()

        assert len(ready._by_deadline) <= 20
        assert ready.deadline == 1e6


class CountedDeadline(float):
    """A deadline that counts comparisons with it."""

    __slots__ = ()
    comparisons = 0

    def __lt__(self, other):
        type(self).comparisons += 1
        return float(self) < other

    def __le__(self, other):
        type(self).comparisons += 1
        return float(self) <= other

    def __gt__(self, other):
        type(self).comparisons += 1
        return float(self) > other


def test_deadlines_that_pass_one_by_one_cost_a_few_comparisons_each():
    """However many ids wait, also the first one: their order is kept as they come due."""
    size = 20_000
    ready = ReadyQueue()
    for number in range(size):
        ready.append(due_id(number, deadline=CountedDeadline((number * 7919) % size)))
    CountedDeadline.comparisons = 0

    expired, most = [], 0
    for now in range(size):
        before = CountedDeadline.comparisons
        expired += ready.pop_expired(now + 0.5)
        most = max(most, CountedDeadline.comparisons - before)

    assert [tracked.deadline for tracked in expired] == list(range(size))
    assert most <= 60
    assert (len(ready), ready.deadline) == (0, inf)


def test_deadlines_pass_among_ids_that_come_and_go():
    """Ids that are polled, and come due again, are neither lost nor expired twice."""
    ready, ids = ReadyQueue(), [due_id(number, deadline=10.0 + number) for number in range(100)]
    for tracked in ids:
        ready.append(tracked)
    assert ready.pop_expired(10.0) == [ids[0]]

    for _ in range(3):
        ready.append(ready.popleft())

    assert ready.pop_expired(15.0) == ids[1:6]
    assert ready.pop_expired(1e6) == ids[6:]
    assert len(ready) == 0
