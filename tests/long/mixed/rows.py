"""
Rows of the mixed run: what the server does to one id, and how that id may end.

A row is a list of phases, each a reply for a number of seconds or of requests; the last one lasts.
A phase begins with the first request in it, so that each one is seen.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Literal

from attrs import evolve, frozen

from tests.long.mixed import replies
from tests.long.mixed.replies import Asked, Reply, beside, done, failed, named, refusal, running

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["completed", "failed", "lost", "open", "fatal"]


@frozen
class Outcome:
    """
    How an id may end.

    Attributes:
        kind: ``open`` is still watched at the end; ``fatal`` ends the whole watch.
        reason: Of ``TaskLost``; for a fatal one the exception's class, and its reason.
        after: Seconds at least since the first reply of *phase*.
        polls: Replies of *phase* at least.
        phase: The index of that phase.
        url: None for the task's own.
    """

    kind: Kind
    reason: str = ""
    after: float = 0.0
    polls: int = 0
    phase: int = -1
    url: str | None = None


COMPLETED, FAILED, OPEN = Outcome("completed"), Outcome("failed"), Outcome("open")
DEADLINE = Outcome("lost", "deadline")


def lost(reason: str, after: float = 0.0, polls: int = 1) -> Outcome:
    """Make the outcome of an id that its row loses."""
    return Outcome("lost", reason, after, polls)


@frozen
class Phase:
    """
    One reply, until one of its limits is reached.

    Attributes:
        seconds: Since the first request in this phase.
        until: Seconds since the first request of the whole group.
        count: Requests in this phase.
    """

    reply: Reply
    seconds: float = inf
    until: float = inf
    count: float = inf


@frozen
class Row:
    """
    What happens to one id.

    Attributes:
        name: The row of the fault table, and the case.
        timeout: Seconds until the id is lost; None for the watch's own.
        doubles: Changes one reply in three.
        stalls: Whether ``TaskStalled`` must come.
    """

    name: str
    phases: tuple[Phase, ...]
    outcome: Outcome
    timeout: float | None = None
    dialect: str = "api"
    doubles: Callable[[replies.Sent], replies.Sent] | None = None
    stalls: bool = False


SEEN = Phase(running, seconds=20.0)
"""The id is seen, then comes the fault."""


def row(name: str, outcome: Outcome, *phases: Phase | Reply, timeout: float | None = None) -> Row:
    """Make a row; a reply without a phase lasts."""
    made = (phase if isinstance(phase, Phase) else Phase(phase) for phase in phases)
    return Row(name, tuple(made), outcome, timeout)


def after_a_while(name: str, state: Reply, outcome: Outcome, seconds: float) -> Row:
    """Make the row of a task that runs for *seconds*, then ends."""
    return row(name, outcome, Phase(running, seconds=seconds), state)


def refused_and_back(name: str, reply: Reply, never_seen: Outcome, seen: Outcome) -> list[Row]:
    """Make the four rows of a refusal: for ever or for a while, never seen or seen."""
    return [
        row(f"{name}, never seen", never_seen, reply),
        row(f"{name}, seen", seen, SEEN, reply),
        row(f"{name}, never seen, twice", COMPLETED, Phase(reply, count=2), SEEN, done),
        row(f"{name}, seen, 40 s", COMPLETED, SEEN, Phase(reply, seconds=40.0), SEEN, done),
    ]


def failed_polls(name: str, reply: Reply) -> list[Row]:
    """Make the rows of a reply that is a failed poll: it never ends an id."""
    return [
        row(f"{name}, then ends", COMPLETED, SEEN, Phase(reply, seconds=100.0), done),
        row(f"{name}, for ever", DEADLINE, SEEN, reply, timeout=150.0),
    ]


def other_answered_rows(cached: str) -> list[Row]:
    """Return the rows about one id while others are answered; *cached* is another id's."""
    refused = lost("refused", 10.0, 3), lost("refused", 60.0, 3)
    rows = []
    for name, reply in replies.REFUSALS.items():
        rows += refused_and_back(f"Q5 {name}", reply, *refused)
    rows += refused_and_back("Q5 200 code 403", beside_nothing(403), *refused)
    missing = lost("not_found", 10.0, 3), lost("vanished", 60.0, 3)
    for name, reply in replies.AMBIGUOUS.items():
        rows += refused_and_back(f"Q1b {name}", reply, *missing)
    for name, reply in replies.FIREWALL.items():
        rows += failed_polls(f"Q7 {name}", reply)
    for name, reply in replies.NOT_FOUND.items():
        rows += [
            row(f"Q9 {name}", lost("vanished", 60.0, 3), SEEN, reply),
            row(f"Q9 {name}, twice", COMPLETED, SEEN, Phase(reply, count=2), SEEN, done),
            row(f"Q9 {name}, 40 s", COMPLETED, SEEN, Phase(reply, seconds=40.0), SEEN, done),
        ]
    gone = refusal(410, "gone", "the task is gone")
    rows += [
        row("Q9 410", lost("vanished", polls=2), SEEN, gone),
        row("Q9 410 once", COMPLETED, SEEN, Phase(gone, count=1), SEEN, done),
    ]
    return [*rows, *failed_under_errors(), *named_otherwise(cached), *odd_rows()]


def beside_nothing(code: int) -> Reply:
    """Make a reply of HTTP 200 with an error code only."""
    return replies.fixed(200, {"error": {"message": "not for this task", "code": code}})


def failed_under_errors() -> list[Row]:
    """Return the rows of tasks that are reported under error statuses."""
    statuses = (400, 404, 409, 422, 429, 500, 502, 503)
    return [
        *(
            row(f"Q10 failed under {status}", FAILED, SEEN, replies.under(status, "failed"))
            for status in statuses
        ),
        row("Q10 failed under 500, never seen", FAILED, replies.under(500, "failed")),
        row("Q10 completed under 500", COMPLETED, SEEN, replies.under(500, "completed")),
        row(
            "Q10 processing under 500",
            COMPLETED,
            SEEN,
            Phase(replies.under(500, "processing"), seconds=100.0),
            done,
        ),
    ]


def named_otherwise(cached: str) -> list[Row]:
    """Return the rows of responses with another id."""

    def state(asked: Asked) -> str:
        return "processing" if asked.count < 6 else "completed"

    finished, unfinished = (replies.of_other(cached, each) for each in ("completed", "processing"))
    deployment = named(lambda asked: f"{asked.id}-d{int(asked.now // 40) % 8}", state)
    own = named(lambda asked: f"internal-{asked.id}", state)
    return [
        row("Q12 another's end, 60 s", COMPLETED, SEEN, Phase(finished, seconds=60.0), SEEN, done),
        row("Q12 another's end, never seen", COMPLETED, Phase(finished, seconds=60.0), SEEN, done),
        row("Q12 another's state", COMPLETED, Phase(unfinished, seconds=60.0), SEEN, done),
        row("Q12 alias", COMPLETED, own),
        row("Q12 alias that changes", COMPLETED, deployment),
    ]


def odd_rows() -> list[Row]:
    """Return the rows of odd responses, of bodies that are no task, and of stalls."""
    rows = []
    for name, reply in replies.ODD.items():
        rows += failed_polls(f"Q18 {name}", reply)
    for name, reply in replies.NO_TASK.items():
        rows += failed_polls(f"D7 {name}", reply)
        rows.append(row(f"D7 {name}, first", COMPLETED, Phase(reply, count=3), SEEN, done))
    rows += failed_polls("Q4 page", replies.MAINTENANCE)
    login = replies.fixed(200, {"url": "https://gw.test/login"})
    rows.append(row("D7 url once", COMPLETED, SEEN, Phase(login, count=1), SEEN, done))
    only_url = row("D7 url only", COMPLETED, SEEN, url_only)
    success_false = beside({"success": False, "message": "prompt rejected"})
    rows += [
        only_url,
        row("D5 success false beside an id", FAILED, SEEN, success_false),
        evolve(row("Q15 no change", OPEN, replies.still), stalls=True),
        row("unknown status", OPEN, beside({"status": "dreaming"})),
    ]
    for dialect in replies.NEW_DIALECTS:
        for state, outcome in ((done, COMPLETED), (failed, FAILED)):
            made = after_a_while(f"D {dialect} {outcome.kind}", state, outcome, 100.0)
            rows.append(evolve(made, dialect=dialect))
    return rows


def url_only(asked: Asked) -> replies.Sent:
    """Respond with the task's url, and neither id nor status."""
    return replies.Sent(replies.http(200, {"url": replies.url_of(asked.id)}))
