"""Ready queue: first come, first served, with removal and expiry anywhere."""

from __future__ import annotations

from math import inf

from hypothesis import given, strategies as st

from ezvideo_async._scheduling.ready_queue import ReadyQueue
from ezvideo_async._scheduling.tracked_task import TrackedTask

STEPS = ["append", "append", "append", "pop", "remove", "expire", "spread", "spread again"]


def due_id(number, *, due=0.0, deadline=inf):
    """Give an id that has come due, as the due queue leaves it."""
    tracked = TrackedTask(f"vid_{number}", added=0.0, deadline=deadline)
    tracked.due = due
    return tracked


@given(st.lists(st.sampled_from(STEPS), max_size=80), st.data())
def test_queue_equals_a_list(steps, data):
    """However ids are appended, popped, removed, spread and expire; gaps are at most half."""
    ready, model, first_due = ReadyQueue(), [], {}
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
            assert ready.pop_expired(now) == [each for each in model if each.deadline <= now]
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


def test_queue_of_gaps_alone_is_empty():
    """A removed id behind the last one keeps neither a place nor a deadline."""
    ready, first, second = ReadyQueue(), due_id(1, deadline=5.0), due_id(2, deadline=9.0)
    ready.append(first)
    ready.append(second)
    ready.remove(second)

    assert ready.popleft() is first

    assert (len(ready._queue), len(ready._removed), ready.deadline) == (0, 0, inf)


def test_removed_id_is_skipped():
    """The next one is first then."""
    ready, ids = ReadyQueue(), [due_id(number) for number in range(3)]
    for tracked in ids:
        ready.append(tracked)
    ready.remove(ids[0])

    assert ready.popleft() is ids[1]


def test_removed_ids_are_forgotten():
    """Also when all of them are removed, the last ones first."""
    ready, ids = ReadyQueue(), [due_id(number) for number in range(1000)]
    for tracked in ids:
        ready.append(tracked)

    for number in reversed(range(1000)):
        ready.remove(ids[number])
        assert len(ready._queue) <= 2 * number

    assert (len(ready), len(ready._removed)) == (0, 0)
