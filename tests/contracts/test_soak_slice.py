"""A slice of the soak: an afternoon of the week, which must find nothing either."""

from __future__ import annotations

import asyncio
import random
from importlib import import_module

import pytest
from attrs import evolve

from tests.long.soak.days import soak
from tests.long.soak.vitals import Sample, Vitals
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client


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
    "a leak": (lambda minute: 45_000 + 80 * minute, 30, True),
    "a step": (lambda minute: 45_000 + 1_000 * (minute >= 22), 30, True),
    "warming up": (lambda minute: 40_000 + 500 * minute, 8, False),
    "a young leak": (lambda minute: 40_000 + 2_000 * minute, 8, True),
}


@pytest.mark.parametrize(("memory", "minutes", "grows"), COURSES.values(), ids=COURSES)
def test_memory_that_grows_is_named(memory, minutes, grows):
    """By the line through the second half."""
    told = list(vitals_of(memory, minutes=minutes).growths())

    assert [text.split()[0] for text in told] == (["memory"] if grows else [])


@pytest.mark.parametrize(
    ("tasks", "workers", "told"),
    [(0, 9, []), (0, 37, []), (0, 38, ["65"]), (9, 0, ["tasks"])],
)
def test_workers_first_needed_late_are_no_leak_of_tasks(tasks, workers, told):
    """Each request in flight at once has its worker, 64 at most, and keeps it."""
    vitals = vitals_of(lambda _minute: 45_000)
    vitals.samples = [
        evolve(sample, tasks=9 + tasks * late, workers=27 + workers * late)
        for sample in vitals.samples
        for late in [sample.at > 1_320.0]
    ]

    assert [text.split()[0] for text in vitals.growths()] == told


async def test_a_watchers_workers_are_told_from_other_tasks():
    """By their name, as the loop has it."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask("processing")
    async with fake_client(server) as client, client.watch(["vid_0"]) as watcher:
        await anext(watcher)
        sample = Vitals().take(0.0)

        assert (sample.workers, sample.tasks) == (1, len(asyncio.all_tasks()) - 1)


def test_the_soak_over_sockets_can_begin():
    """It takes half an hour; what it is made of must be there."""
    assert callable(import_module("tests.long.soak.loopback").main)
