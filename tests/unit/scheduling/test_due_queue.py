"""Whatever is put in, taken out and looked at: the order of a heap, and nothing left behind."""

from __future__ import annotations

from itertools import count
from math import inf

import pytest
from attrs import define
from hypothesis import given, strategies as st

from ezvideo_async._scheduling import due_queue as _calendar
from ezvideo_async._scheduling.due_queue import DueQueue


@define(eq=False)
class Item:
    """Something with a date."""

    name: int
    due: float = -inf


def filled(*dues):
    """A calendar with these, and its items in the order in which they were put in."""
    calendar = DueQueue()
    items = [Item(place) for place in range(len(dues))]
    for item, due in zip(items, dues, strict=True):
        calendar.put(item, due)
    return calendar, items


def names(items):
    """The names in order."""
    return [item.name for item in items]


near = st.sampled_from([0.0, 0.001, 0.004, 0.0099999, 0.01, 0.0100001, 0.02, 0.5, 1.0])
far = st.sampled_from([5.0, 300.0, 86_400.0, 1e12, 1e15, 1e300, inf])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.one_of(near, near, far)),
        st.tuples(st.just("move"), st.integers(0, 30), st.one_of(near, far)),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("take"), st.one_of(near, near, st.just(400.0))),
        st.tuples(st.just("look")),
    ),
    max_size=60,
)


@pytest.mark.parametrize("inserted", [0, 1, 1000])
@given(steps=steps)
def test_the_order_is_that_of_a_heap(inserted, steps):
    """Of due, then of the put, however puts, moves, removals and looks are interleaved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_calendar, "_INSERTED", inserted)
        _check_against_model(steps)


def _check_against_model(steps):
    calendar, model, now, numbers = DueQueue(), {}, 0.0, count()
    for what, *details in steps:
        if what == "put":
            item, due = Item(next(numbers)), now + details[0]
            calendar.put(item, due)
            model[item] = (due, next(numbers))
        elif what in {"move", "remove"} and model:
            item = list(model)[details[0] % len(model)]
            calendar.remove(item)
            del model[item]
            if what == "move":
                calendar.put(item, now + details[1])
                model[item] = (now + details[1], next(numbers))
        elif what == "take":
            now += details[0]
            due = sorted((key, item.name) for item, key in model.items() if key[0] <= now)
            assert [name for _, name in due] == names(calendar.take(now))
            model = {item: key for item, key in model.items() if key[0] > now}
        elif what == "look":
            assert min((key[0] for key in model.values()), default=inf) == calendar.next_at()
    rest = sorted((key, item.name) for item, key in model.items())
    assert [name for _, name in rest] == names(calendar.take(inf))
    assert calendar.next_at() == inf


def test_what_is_due_at_the_same_instant_comes_in_the_order_of_the_puts():
    """Also when it is put in while its page is open."""
    calendar, _ = filled(1.005, 1.001, 1.005, 1.001)
    assert calendar.next_at() == 1.001

    calendar.put(Item(4), 1.001)
    calendar.put(Item(5), 1.0)

    assert names(calendar.take(1.005)) == [5, 1, 3, 4, 0, 2]


def test_a_page_is_taken_in_parts():
    """What is due later in the same 10 ms stays."""
    calendar, _ = filled(0.001, 0.002, 0.003)

    assert names(calendar.take(0.0015)) == [0]
    assert calendar.next_at() == 0.002
    assert names(calendar.take(0.002)) == [1]
    assert names(calendar.take(0.002)) == []
    assert names(calendar.take(0.003)) == [2]


def test_what_was_put_back_to_a_page_comes_after_its_equals():
    """To be taken out and put in is to queue up anew."""
    calendar, items = filled(1.0, 1.0, 1.0)

    calendar.remove(items[0])
    calendar.put(items[0], 1.0)

    assert names(calendar.take(1.0)) == [1, 2, 0]


def test_nothing_is_kept_of_what_was_taken_out():
    """However often items are moved, there is one entry for each, and a page for each 10 ms."""
    calendar, items = filled(*range(100))

    for turn in range(50):
        for item in items:
            calendar.remove(item)
            calendar.put(item, item.due + 1.0)
        assert sum(map(len, calendar._pages.values())) + len(calendar._open) == 100
        assert len(calendar._numbers) == len(calendar._pages) <= 101 + turn


def test_an_open_page_far_away_does_not_slow_down_what_is_put_before_it():
    """After the first thousand it is closed again, and the order stays."""
    dues = [(place * 7919) % 5000 / 10 for place in range(5000)]
    calendar, _ = filled(1e6, 1e6)
    assert calendar.next_at() == 1e6

    for place, due in enumerate(dues):
        calendar.put(Item(place), due)

    assert len(calendar._pages) > 3900
    assert names(calendar.take(1e5)) == sorted(range(5000), key=lambda place: dues[place])
    assert names(calendar.take(1e6)) == [0, 1]


def test_many_that_come_at_one_far_instant_do_not_slow_down_the_few_before_it():
    """Their page stays open, and what comes before it is put at its end."""
    calendar, _ = filled(*[300.0] * 5000)
    assert calendar.next_at() == 300.0

    for place in range(20):
        calendar.put(Item(-place), 0.1 * place)
        assert names(calendar.take(0.1 * place)) == [-place]

    assert len(calendar._open) == 5000


def test_never_is_a_date():
    """What is due at no time is never next, and taken only at the end of all time."""
    calendar, items = filled(inf, 5.0)

    assert names(calendar.take(1e300)) == [1]
    assert calendar.next_at() == inf
    calendar.remove(items[0])
    assert calendar.take(inf) == []


def test_an_empty_calendar_has_nothing():
    """And says so."""
    calendar = DueQueue()

    assert (calendar.next_at(), calendar.take(1e9)) == (inf, [])
