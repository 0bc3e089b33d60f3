"""Groups of a mixed run: the ids of one client, its faults, and how its watch may end."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from attrs import frozen

from ezvideo_async import PollPolicy
from tests.long.mixed import replies
from tests.long.mixed.replies import Reply, running
from tests.long.mixed.rows import Outcome, Phase, Row, row

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = PollPolicy(stalled_after=200.0)


@frozen
class Task:
    """One id of the run."""

    id: str
    row: Row


@frozen(kw_only=True)
class Window:
    """A fault of all ids of a group, from *begin* to *end* in seconds of the run."""

    name: str
    begin: float
    end: float
    reply: Reply | None = None
    changes: Callable[[replies.Sent], replies.Sent] | None = None
    rate: float = inf  # requests per second that pass; the others get *reply*


@frozen(kw_only=True)
class Group:
    """
    The ids of one client.

    Attributes:
        fatal: How the whole watch ends; None if it must not.
        is_hub: Whether the watch is made without ids, and each id is added *gap* seconds apart.
        waits: How many ids are awaited with ``wait()`` instead of watched.
        renews: Whether the API key comes from a callable.
        calls: How often that callable may be called.
        scheme: ``https`` for a server that does not speak TLS.
        has_server: Whether anything listens.
    """

    name: str
    tasks: tuple[Task, ...]
    fatal: Outcome | None = None
    windows: tuple[Window, ...] = ()
    is_hub: bool = False
    gap: float = 0.0
    waits: int = 0
    renews: bool = False
    calls: int = 0
    scheme: str = "http"
    has_server: bool = True
    max_response_bytes: int = 64 << 20
    rate: float = 100.0
    policy: PollPolicy = POLICY


def tasks_of(name: str, *rows: Row, ids: tuple[str, ...] = ()) -> tuple[Task, ...]:
    """Make one task per row; *ids* name the first of them."""
    slug = "".join(character if character.isalnum() else "-" for character in name)
    names = [*ids, *(f"video_{slug}_{index}" for index in range(len(ids), len(rows)))]
    return tuple(map(Task, names, rows))


def alike(
    name: str, outcome: Outcome, *phases: Phase | Reply, count: int = 3, ids: tuple[str, ...] = ()
) -> tuple[Task, ...]:
    """Make *count* tasks of the same row."""
    return tasks_of(name, *[row(name, outcome, *phases)] * count, ids=ids)


def fatal(name: str, kind: str, after: float, polls: int, *phases: Phase | Reply) -> Group:
    """Make a group whose watch ends with an exception: *kind* is its class, and its reason."""
    outcome = Outcome("fatal", kind, after, polls)
    return Group(name=name, tasks=alike(name, outcome, *phases), fatal=outcome)


def together(reply: Reply, seconds: float = inf) -> tuple[Phase, ...]:
    """Make the phases of ids that are all seen, then all refused from the same moment on."""
    # Between the two nothing is decided: the last valid response may overtake a refusal.
    quiet = Phase(replies.fixed(503, b""), until=27.0)
    return Phase(running, until=25.0), quiet, Phase(reply, until=27.0 + seconds)
