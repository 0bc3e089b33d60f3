"""Small groups of a mixed run: rows that need a client of their own, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from tests.long.mixed import replies
from tests.long.mixed.group import Group, Task, alike, fatal, tasks_of, together
from tests.long.mixed.replies import Reply, done, running
from tests.long.mixed.rows import (
    COMPLETED,
    DEADLINE,
    OPEN,
    SEEN,
    Outcome,
    Phase,
    after_a_while,
    lost,
    row,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_GRACE = 9.0  # seconds since the first response; the grace of 10 s begins before it


def fatal_groups() -> Iterator[Group]:
    """Yield the groups that a confirmed error of key or configuration ends."""
    refused = {
        401: "AuthenticationError",
        402: "PermissionDeniedError",
        403: "PermissionDeniedError",
    }
    for status, kind in refused.items():
        yield fatal(f"Q1 {status}", kind, 0, 1, replies.refusal(status))
        yield fatal(f"Q2 {status}", kind, 60, 2, *together(replies.refusal(status)))
    yield fatal("Q1 redirect", "ConfigError redirect", 0, 1, replies.REDIRECT)
    yield fatal("Q2 redirect", "ConfigError redirect", 300, 2, *together(replies.REDIRECT))
    for name, reply in replies.WRONG_ROUTE.items():
        yield fatal(f"Q1 {name}", "ConfigError route", 0, 1, reply)
    yield fatal("Q2 404", "ConfigError route", 300, 2, *together(replies.WRONG_ROUTE["404 page"]))
    for name, reply in replies.AMBIGUOUS.items():
        yield fatal(f"Q1b {name}", "ConfigError route", _GRACE, 2, reply)
    yield fatal("Q2 ambiguous", "ConfigError route", 300, 2, *together(replies.AMBIGUOUS["detail"]))
    between = Phase(replies.fixed(503, b""), count=1)
    ambiguous = replies.AMBIGUOUS["text"]
    yield fatal(
        "Q1b after 503", "ConfigError route", 0, 1, Phase(ambiguous, count=1), between, ambiguous
    )
    yield fatal("Q3 page", "ConfigError not_the_api", 30, 2, replies.MAINTENANCE)
    yield fatal("Q3 text", "ConfigError not_the_api", 30, 2, replies.fixed(200, b"hello"))
    database = replies.refusal(400, "no_db", "No connected db.")
    yield fatal("Q1c", "ConfigError refused", 0, 1, database)
    yield evolve(fatal("Q1 renewed", "AuthenticationError", 0, 1, replies.refusal(401)),
        renews=True, calls=2,
    )  # fmt: skip
    yield evolve(fatal("Q1 TLS", "TLSError", 0, 0, running), scheme="https")
    hub = fatal("Q18b two ids of a hub", "ConfigError redirect", 0, 1, replies.REDIRECT)
    yield evolve(hub, is_hub=True)


def before_groups() -> Iterator[Group]:
    """Yield the groups whose ids are refused before any valid response, one by one."""
    refused, seen = lost("refused", 10.0, 3), lost("refused", 60.0, 3)
    for status in (400, 422, 501):
        reply = replies.refusal(status)
        name = f"Q6 {status}"
        yield Group(name=name, tasks=alike(name, refused, reply, count=1))
        yield Group(name=f"{name}, seen", tasks=alike(f"{name}, seen", seen, SEEN, reply))
    reply = replies.refusal(400, "no_db", "No connected db.")
    yield Group(name="Q1c two ids", tasks=alike("Q1c two ids", refused, reply, count=2))
    rows = [
        row("Q1c unlike", refused, replies.refusal(400, f"code_{number}", f"reason {number}"))
        for number in range(4)
    ]
    yield Group(name="Q1c unlike", tasks=tasks_of("Q1c unlike", *rows))
    yield Group(name="Q1c hub", tasks=alike("Q1c hub", refused, reply, count=4), is_hub=True)
    for name, firewall in replies.FIREWALL.items():
        made = evolve(row(f"Q7 {name}", DEADLINE, firewall), timeout=150.0)
        yield Group(name=f"Q7 {name}", tasks=tasks_of(f"Q7 {name}", made))
    no_task = evolve(row("Q3 no task", DEADLINE, replies.NO_TASK["empty object"]), timeout=150.0)
    yield Group(name="Q3 no task", tasks=tasks_of("Q3 no task", no_task, no_task))
    silent = evolve(row("Q16 nobody listens", DEADLINE, running), timeout=60.0)
    yield Group(name="Q16", tasks=tasks_of("Q16", silent, silent), has_server=False)
    missing = lost("not_found")
    for name, reply in replies.NOT_FOUND.items():
        late = row(f"Q8 {name}, late", COMPLETED, Phase(reply, count=1), SEEN, done)
        never = row(f"Q8 {name}", missing, reply)
        yield Group(name=f"Q8 {name}", tasks=tasks_of(f"Q8 {name}", late, never))
    for name, reply, outcome in (
        ("redirect", replies.REDIRECT, refused),
        ("page", replies.WRONG_ROUTE["404 page"], refused),
        ("403", replies.refusal(403), refused),
        ("ambiguous", replies.AMBIGUOUS["detail"], lost("not_found", _GRACE, 2)),
    ):
        title = f"Q18b {name}"
        odd = row(title, outcome, reply)
        alone = tasks_of(title, odd, ids=(f"x/{name}",))
        yield Group(name=f"{title}, alone", tasks=alone)
        ordinary = [after_a_while(f"{title}, others", done, COMPLETED, 60.0)] * 8
        hub = tasks_of(title, odd, *ordinary, ids=(f"plain{name}",))
        yield Group(name=f"{title}, first in a hub", tasks=hub, is_hub=True, gap=40.0)
        first = tasks_of(title, odd, *ordinary, ids=(f"y/{name}",))
        yield Group(name=f"{title}, first of many", tasks=first)


def long_groups() -> Iterator[Group]:
    """Yield the groups of thresholds of minutes, without other faults."""
    missing = replies.NOT_FOUND["404 code"]
    back = SEEN, Phase(missing, seconds=30.0), SEEN
    yield Group(
        name="Q9 replicas",
        tasks=tasks_of(
            "Q9 replicas",
            *[row("Q9 came back, 400 s", COMPLETED, *back, Phase(missing, seconds=400.0), done)]
            * 5,
            *[row("Q9 came back", lost("vanished", 600.0, 3), *back, missing)] * 5,
            *[row("Q9 alternating", COMPLETED, alternating(missing, 30))] * 5,
        ),
    )
    # Without windows: what never has a valid response would collect the refusals of all of them.
    cached = "video_cached_for_ever"
    never = replies.of_other(cached, "completed")
    all_fail = evolve(row("Q15 all polls fail", OPEN, SEEN, replies.MAINTENANCE), stalls=True)
    rows = (
        after_a_while("Q12 cached for ever", done, COMPLETED, 40.0),
        *[row("Q12 another's end, for ever", OPEN, SEEN, never)] * 2,
        *[all_fail] * 2,
        after_a_while("Q12 beside it", done, COMPLETED, 400.0),
    )
    yield Group(name="Q12 and Q15", tasks=tasks_of("Q12 and Q15", *rows, ids=(cached,)))
    page = Phase(replies.MAINTENANCE, seconds=400.0)
    yield Group(name="Q4", tasks=alike("Q4", COMPLETED, SEEN, page, done))
    for name, reply, seconds in (
        ("401", replies.refusal(401), 45.0),
        ("403", replies.refusal(403), 45.0),
        ("redirect", replies.REDIRECT, 240.0),
        ("404 page", replies.WRONG_ROUTE["404 page"], 240.0),
        ("ambiguous", replies.AMBIGUOUS["detail"], 240.0),
    ):
        title = f"Q2 {name} for {seconds:.0f} s"
        tasks = alike(title, COMPLETED, *together(reply, seconds), SEEN, done)
        yield Group(name=title, tasks=tasks)
    title = "Q2 key renewed once a minute"
    refused = together(replies.refusal(401), 50.0)
    tasks = alike(title, COMPLETED, *refused, SEEN, done, count=10)
    yield Group(name=title, tasks=tasks, renews=True, calls=3)


def alternating(reply: Reply, count: int) -> Reply:
    """Make a reply that gives way to the task's state at every other request."""
    return lambda asked: (
        (done if asked.count > count else running)(asked) if asked.count % 2 else reply(asked)
    )


def special_groups() -> Iterator[Group]:
    """Yield the groups of large bodies, stray responses, odd ids and renamed headers."""
    twice = Phase(replies.large(5.0), count=2)
    big = "Q11 large"
    yield Group(
        name=big,
        max_response_bytes=4 << 20,
        tasks=(
            *(
                Task(task_id, row(big, evolve(COMPLETED, url=replies.data_url(task_id, 2.0)),
                    SEEN, replies.large(2.0)))
                for task_id in ("video_large_1", "video_large_2")
            ),
            *tasks_of(
                big,
                row("Q11 over the limit", lost("too_large", polls=3), SEEN, replies.large(5.0)),
                row("Q11 dense", lost("too_large", polls=3), SEEN, replies.dense),
                row("Q11 over the limit, twice", COMPLETED, SEEN, twice, SEEN, done),
            ),
        ),
    )  # fmt: skip
    for name, change in (("twice", replies.doubled), ("later", replies.doubled_later)):
        title = f"Q13 stray, {name}"
        idless = [
            evolve(
                after_a_while(title, done, COMPLETED, 30.0 + 5.0 * number),
                dialect="none",
                doubles=change,
            )
            for number in range(40)
        ]
        yield Group(name=title, tasks=tasks_of(title, *idless), rate=20.0)
    rate_limited = Phase(
        replies.fixed(429, b"", "llm_provider-retry-after: 20"), count=1
    )  # fmt: skip
    after = Outcome("completed", after=20.0, phase=0)
    yield Group(name="Q20", tasks=alike("Q20", after, rate_limited, done, count=1))
    odd_ids = (
        "a/b/c", "a%2Fb", "..%2f..%2fadmin", "видео", "任务/一", "é" * 1000, "x" * 2048, "/lead",
        "trail/", "a b", "a?b=c", "a#b", "a;b", "a\\b", '"quoted"', "🎬" * 100, "%00", "%", "//",
        "a/..",
    )  # fmt: skip
    made = after_a_while("Q18 odd ids", done, COMPLETED, 60.0)
    yield Group(name="Q18 odd ids", tasks=tasks_of("odd", *[made] * len(odd_ids), ids=odd_ids))
