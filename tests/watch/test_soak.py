"""A slice of the soak: an afternoon of the week, which must find nothing either."""

from __future__ import annotations

import random
from importlib import import_module

import pytest
from attrs import evolve

from tests.soak.days import soak
from tests.soak.vitals import Sample, Vitals


async def test_no_promise_is_broken_in_an_afternoon(capsys):
    """With outages, throttling and a sleep of the machine, as the whole week has them."""
    broken, vitals = await soak(4.5 / 24, random.Random(3), alive=20)

    assert broken == []
    assert len(vitals.samples) == 4
    assert "tasks begun" in capsys.readouterr().out


def vitals_of(memory, *, minutes=30):
    """Samples of a process, one a minute, with so much memory in each of them, KiB."""
    samples = [
        Sample(at=60.0 * minute, memory=memory(minute), files=20, tasks=40)
        for minute in range(minutes)
    ]
    return Vitals(samples=samples)


COURSES = {
    "noise": (lambda minute: 45_000 + 300 * (minute % 2), 30, False),
    "a slow rise": (lambda minute: 45_000 + 60 * minute, 30, False),
    "a leak": (lambda minute: 45_000 + 100 * minute, 30, True),
    "the most ever needed": (lambda minute: 45_000 + 1_000 * (minute >= 22), 30, False),
    "a large step": (lambda minute: 45_000 + 1_200 * (minute >= 22), 30, True),
    "warming up": (lambda minute: 40_000 + 600 * minute, 8, False),
    "a young leak": (lambda minute: 40_000 + 2_000 * minute, 8, True),
}


@pytest.mark.parametrize(("memory", "minutes", "grows"), COURSES.values(), ids=COURSES)
def test_memory_that_grows_is_told_from_one_step(memory, minutes, grows):
    """By the slope of the second half, and by what it gained in all."""
    told = list(vitals_of(memory, minutes=minutes).growths())

    assert [text.split()[0] for text in told] == (["memory"] if grows else [])


@pytest.mark.parametrize(("more", "grows"), [(9, False), (64, False), (130, True)])
def test_workers_that_are_first_needed_late_are_no_leak(more, grows):
    """Each request in flight at once has its worker, and keeps it."""
    vitals = vitals_of(lambda _minute: 45_000)
    vitals.samples = [
        evolve(sample, tasks=27 + more * (sample.at > 1_320.0)) for sample in vitals.samples
    ]

    assert [text.split()[0] for text in vitals.growths()] == (["tasks"] if grows else [])


def test_the_soak_over_sockets_can_begin():
    """It takes half an hour; what it is made of must be there."""
    assert callable(import_module("tests.soak.loopback").main)
