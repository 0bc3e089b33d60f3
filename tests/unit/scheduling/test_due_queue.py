"""Due queue: the order of a heap, however items are inserted and removed."""

from __future__ import annotations

from itertools import count
from math import inf

import pytest
from attrs import define
from hypothesis import given, strategies as st

from ezvideo_async._scheduling import due_queue
from ezvideo_async._scheduling.due_queue import DueQueue


@define(eq=False)
class Item:
    """Something that is due at some time."""

    name: int
    due: float = -inf


def filled(*dues):
    """Give a queue with items due at these instants, and the items in the same order."""
    queue = DueQueue()
    items = [Item(place) for place in range(len(dues))]
    for item, due in zip(items, dues, strict=True):
        queue.push(item, due)
    return queue, items


def names(items):
    """Give the names in order."""
    return [item.name for item in items]


near = st.sampled_from([0.0, 0.001, 0.004, 0.0099999, 0.01, 0.0100001, 0.02, 0.5, 1.0])
far = st.sampled_from([5.0, 300.0, 86_400.0, 1e12, 1e15, 1e300, inf])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.one_of(near, near, far)),
        st.tuples(st.just("move"), st.integers(0, 30), st.one_of(near, far)),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("pop"), st.one_of(near, near, st.just(400.0))),
        st.tuples(st.just("next")),
    ),
    max_size=60,
)


@pytest.mark.parametrize("list_max", [1, 2, 500])
@given(steps=steps)
def test_order_is_that_of_a_heap(list_max, steps):
    """Items come by due time, then by insertion, however the calls are interleaved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(due_queue, "_LIST_MAX", list_max)
        _check_against_model(steps)


def _check_against_model(steps):
    queue, model, now, numbers = DueQueue(), {}, 0.0, count()
    for what, *details in steps:
        if what == "push":
            item, due = Item(next(numbers)), now + details[0]
            queue.push(item, due)
            model[item] = (due, next(numbers))
        elif what in {"move", "remove"} and model:
            item = list(model)[details[0] % len(model)]
            queue.remove(item)
            del model[item]
            if what == "move":
                queue.push(item, now + details[1])
                model[item] = (now + details[1], next(numbers))
        elif what == "pop":
            now += details[0]
            due = sorted((key, item.name) for item, key in model.items() if key[0] <= now)
            assert [name for _, name in due] == names(queue.pop_due(now))
            model = {item: key for item, key in model.items() if key[0] > now}
        elif what == "next":
            assert min((key[0] for key in model.values()), default=inf) == queue.next_at()
    rest = sorted((key, item.name) for item, key in model.items())
    assert [name for _, name in rest] == names(queue.pop_due(inf))
    assert (queue.next_at(), queue.pop_due(inf)) == (inf, [])


def test_items_due_at_the_same_instant_come_in_the_order_of_insertion():
    """Also those that are inserted into the open bucket."""
    queue, _ = filled(1.005, 1.001, 1.005, 1.001)
    assert queue.next_at() == 1.001

    queue.push(Item(4), 1.001)
    queue.push(Item(5), 1.0)

    assert names(queue.pop_due(1.005)) == [5, 1, 3, 4, 0, 2]


def test_removed_items_leave_nothing_behind():
    """However often items are moved: one entry an item, and at most one bucket for 10 ms."""
    queue, items = filled(*range(100))

    for moves in range(50):
        for item in items:
            queue.remove(item)
            queue.push(item, item.due + 1.0)
        assert sum(map(len, queue._buckets.values())) + len(queue._open) == 100
        assert len(queue._numbers) == len(queue._buckets) <= 101 + moves


def test_distant_open_bucket_is_closed_by_many_earlier_items():
    """More than 500 items before it would each be inserted by moving the others."""
    dues = [(place * 7919) % 5000 / 10 for place in range(5000)]
    queue, _ = filled(1e6, 1e6)
    assert queue.next_at() == 1e6

    for place, due in enumerate(dues):
        queue.push(Item(place), due)

    assert len(queue._buckets) > 3900
    assert names(queue.pop_due(1e5)) == sorted(range(5000), key=lambda place: dues[place])
    assert names(queue.pop_due(1e6)) == [0, 1]


@define(eq=False)
class CountedItem(Item):
    """An item that counts comparisons with it, and readings of its due time."""

    work = count()

    def __eq__(self, other):
        next(self.work)
        return self is other

    __hash__ = object.__hash__

    def __getattribute__(self, name):
        if name == "due":
            next(CountedItem.work)
        return object.__getattribute__(self, name)


def work_of(act):
    """Count comparisons and readings of a due time while *act* runs."""
    CountedItem.work = count()
    act()
    return next(CountedItem.work)


SAME, NEAR = "the same instant", "the same 10 ms"


def shared_bucket(size, spread):
    """Give a queue whose items share the first bucket, which was asked for its first item."""
    queue = DueQueue()
    step = 0.0 if spread == SAME else 0.005 / size
    items = [CountedItem(place) for place in range(size)]
    for place, item in enumerate(items):
        queue.push(item, 1.0 + step * ((place * 7919) % size))
    queue.next_at()
    return queue, items


@pytest.mark.parametrize("spread", [SAME, NEAR])
@pytest.mark.parametrize("order", [1, -1, 7919])
def test_removing_items_of_one_bucket_costs_the_same_for_any_number(spread, order):
    """Each removal, with the next due time after it, is a few comparisons, not a search."""
    size = 5_000
    queue, items = shared_bucket(size, spread)
    leaving = [items[(place * order) % size] for place in range(size)]

    def leave():
        for item in leaving:
            queue.remove(item)
            queue.next_at()

    assert work_of(leave) <= 10 * size
    assert queue.pop_due(inf) == []


@pytest.mark.parametrize("spread", [SAME, NEAR])
def test_moving_items_within_one_bucket_costs_the_same_for_any_number(spread):
    """Items that come back into the first bucket neither open nor sort it again."""
    size = 5_000
    queue, items = shared_bucket(size, spread)

    def move():
        for item in items:
            queue.remove(item)
            queue.push(item, 1.005)
            queue.next_at()

    assert work_of(move) <= 15 * size
    assert names(queue.pop_due(2.0)) == list(range(size))


def test_earlier_items_leave_a_large_bucket_as_it_is():
    """Each comes and is popped for itself while many wait for one distant instant."""
    queue, items = shared_bucket(5_000, SAME)

    def come_and_go():
        for place in range(100):
            queue.push(CountedItem(-place), 0.001 * place)
            assert names(queue.pop_due(0.001 * place)) == [-place]
            assert queue.next_at() == 1.0

    assert work_of(come_and_go) <= 2000
    assert names(queue.pop_due(1.0)) == names(items)


def test_part_of_a_large_bucket_is_popped():
    """The rest stays in order, also when it gets more."""
    queue, items = shared_bucket(1000, NEAR)
    by_due = sorted(items, key=lambda item: item.due)

    popped = queue.pop_due(by_due[399].due)
    queue.push(late := CountedItem(-1), 1.009)

    assert popped == by_due[:400]
    assert queue.next_at() == by_due[400].due
    assert queue.pop_due(1.0099) == [*by_due[400:], late]


def test_due_time_may_be_infinite():
    """Such an item is never next, and popped only at ``inf``."""
    queue, items = filled(inf, 5.0)

    assert names(queue.pop_due(1e300)) == [1]
    assert queue.next_at() == inf
    queue.remove(items[0])
    assert queue.pop_due(inf) == []
