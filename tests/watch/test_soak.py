"""A slice of the soak: an afternoon of the week, which must find nothing either."""

from __future__ import annotations

import random
from importlib import import_module

from tests.soak.days import soak


async def test_no_promise_is_broken_in_an_afternoon(capsys):
    """With outages, throttling and a sleep of the machine, as the whole week has them."""
    broken, vitals = await soak(4.5 / 24, random.Random(3), alive=20)

    assert broken == []
    assert len(vitals.samples) == 4
    assert "tasks begun" in capsys.readouterr().out


def test_the_soak_over_sockets_can_begin():
    """It takes half an hour; what it is made of must be there."""
    assert callable(import_module("tests.soak.loopback").main)
