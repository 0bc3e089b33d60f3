"""Short slice of the soak test: an afternoon instead of a week."""

from __future__ import annotations

import random

from tests.long.soak.days import soak


async def test_no_promise_is_broken_in_an_afternoon():
    """With outages, rate limits and a sleep of the machine, as in the whole week."""
    broken, vitals = await soak(4.5 / 24, random.Random(3), alive=20)

    assert broken == []
    assert len(vitals.samples) == 4
