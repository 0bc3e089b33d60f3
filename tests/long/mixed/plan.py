"""
Plan of a mixed run: groups of ids, one client each, made from the seed.

Client and server make the same plan from the same seed, so that the server knows what each id
gets, and the client how it may end.
"""

from __future__ import annotations

import random

from attrs import evolve

from ezvideo_async import PollPolicy
from tests.long.mixed import replies
from tests.long.mixed.group import Group, Task, Window
from tests.long.mixed.replies import done, failed
from tests.long.mixed.rows import COMPLETED, FAILED, after_a_while, other_answered_rows
from tests.long.mixed.small_groups import (
    before_groups,
    fatal_groups,
    long_groups,
    special_groups,
)

IDS = 2000
HORIZON = 1450.0
"""Seconds; what has not ended by then is open."""
LAST_END = 1250.0  # seconds; the last task of the main group finishes

# Each window is shorter than what its row needs to end something, and 40 s from the next one,
# twice the longest backoff: refusals of two windows must not be in a row for any id.
WINDOWS = (
    Window(
        name="Q1b ingress", begin=430, end=450, reply=replies.AMBIGUOUS["text"]
    ),
    Window(name="Q2 401", begin=490, end=510, reply=replies.refusal(401)),
    Window(name="outage, reset", begin=550, end=570, reply=replies.raw(b"", replies.Then.RESET)),
    Window(name="outage, silence", begin=570, end=590, reply=replies.raw(b"", replies.Then.KEEP)),
    Window(
        name="Q21 limit_req", begin=640, end=670, rate=40.0, reply=replies.fixed(
            503, replies.PAGE, replies.HTML
        ),
    ),
    Window(name="Q12 cache", begin=710, end=740),  # the reply is made with the plan
    Window(name="Q4 maintenance", begin=790, end=850, reply=replies.MAINTENANCE),
    Window(name="Q14 mirrored", begin=890, end=910, changes=replies.doubled),
    Window(name="Q14 mirrored later", begin=915, end=935, changes=replies.doubled_later),
    Window(name="slow body", begin=970, end=985, changes=replies.dripping),
    Window(name="Q2 redirect", begin=1030, end=1060, reply=replies.REDIRECT),
    Window(name="400", begin=1100, end=1107, reply=replies.refusal(400)),
    Window(name="Q7 403 page", begin=1150, end=1170, reply=replies.FIREWALL["403 page"]),
    Window(
        name="429", begin=1200, end=1202, reply=replies.fixed(429, b"", "Retry-After: 5")
    ),
)  # fmt: skip


def build(seed: int) -> tuple[Group, ...]:
    """Make the groups of a run: the same ones for the same seed."""
    chance = random.Random(seed)
    small = [*fatal_groups(), *before_groups(), *long_groups(), *special_groups()]
    left = IDS - sum(len(group.tasks) for group in small)
    return (main_group(chance, left), *small)


def new_id(chance: random.Random) -> str:
    """Make an id as servers make them."""
    number = f"{chance.getrandbits(64):016x}"
    shapes = (
        f"video_{number}",
        number,
        f"task:{number}@eu-1",
        f"org/{number}",
        f"a%2F{number}",
        f"任务-{number}",
        f"{number}?v=1#part",
        "video_" + number * 13,  # LiteLLM's are that long
    )
    return chance.choices(shapes, (60, 20, 5, 3, 3, 3, 3, 3))[0]


def main_group(chance: random.Random, count: int) -> Group:
    """Make the large group: every row about one id, ordinary traffic, and faults of all ids."""
    cached = Task(f"video_cached_{chance.getrandbits(32):08x}", after_a_while(
        "ordinary, cached later", done, COMPLETED, 40.0
    ))  # fmt: skip
    tasks = [cached]
    rows = other_answered_rows(cached.id)
    repeats = 2
    tasks += [Task(new_id(chance), each) for each in rows for _ in range(repeats)]
    for index in range(count - len(tasks)):
        state, outcome = ((done, COMPLETED), (failed, FAILED))[index % 10 == 0]
        made = after_a_while("ordinary", state, outcome, chance.uniform(30.0, LAST_END))
        made = evolve(made, dialect=chance.choice(replies.PLAIN_DIALECTS))
        tasks.append(Task(new_id(chance), made))
    chance.shuffle(tasks)
    tasks.sort(key=lambda task: task.row.timeout is not None)  # the watch is made with the others
    cache = replies.of_other(cached.id, "completed")
    windows = tuple(
        evolve(window, reply=cache) if window.name == "Q12 cache" else window for window in WINDOWS
    )
    policy = PollPolicy(interval=8.0, backoff_max=20.0, stalled_after=200.0)
    return Group(
        name="main",
        tasks=tuple(tasks),
        windows=windows,
        waits=40,
        rate=150.0,
        policy=policy,
    )
