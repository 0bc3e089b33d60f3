"""
Which requests meet which fault, and what the faulty answer looks like.

No await, no clock, no randomness: a share of 0.25 is every fourth request.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

from ezvideo_async.testing.dialect import Answer
from ezvideo_async.testing.fake_tasks import check_word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ezvideo_async.testing.dialect import Dialect

# Each kind with the details that it takes.
KINDS: dict[str, tuple[str, ...]] = {
    "401": (),
    "403": (),
    "404": (),
    "429": ("retry_after",),
    "500": ("retry_after",),
    "502": ("retry_after",),
    "503": ("retry_after",),
    "504": ("retry_after",),
    "close": (),
    "empty": (),
    "garbage": (),
    "gateway-html": (),
    "hang": (),
    "html": (),
    "redirect": ("location",),
    "reset": (),
    "slow": ("delay",),
    "truncated": (),
    "wrong-id": ("foreign_id",),
}
FAULT_KINDS = tuple(KINDS)

# Seconds by which a "slow" answer is late when nothing else is said.
DEFAULT_DELAY = 10.0
# Forgives the rounding of count * share.
ROUNDING = 1e-9

_HTML = {"Content-Type": "text/html; charset=utf-8"}
_PAGES = {
    "html": Answer(200, b"<!doctype html><html><title>Console</title></html>", _HTML),
    "gateway-html": Answer(502, b"<html><title>502 Bad Gateway</title></html>", _HTML),
}
_BODIES = {"garbage": b"{not json at all]", "empty": b""}


@attrs.define(kw_only=True)
class Fault:
    """
    One kind of trouble for some requests.

    Attributes:
        until: Instant on the loop clock at which the trouble ends.
        share: Which part of the requests meets it, above 0 and up to 1.
        task_id: None for all tasks.
        met: Requests that were in danger so far.
    """

    kind: str
    until: float = math.inf
    share: float = 1.0
    task_id: str | None = None
    details: Mapping[str, Any] = attrs.field(factory=dict)
    met: int = 0

    def __attrs_post_init__(self) -> None:
        check_word("kind", self.kind, FAULT_KINDS)
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {self.share!r}")
        for name in self.details:
            if name not in KINDS[self.kind]:
                takes = ", ".join(KINDS[self.kind]) or "no details"
                raise ValueError(f"fault {self.kind!r} takes {takes}; not {name!r}")
        if not 0 <= self.delay < math.inf:
            raise ValueError(f"delay must be finite seconds, 0 or more, not {self.delay!r}")

    @property
    def delay(self) -> float:
        """Seconds by which the answer is late."""
        return float(self.details.get("delay", DEFAULT_DELAY)) if self.kind == "slow" else 0.0

    def hits(self, task_id: str | None) -> bool:
        """Count one request, and tell whether it is among the share that suffers."""
        if self.task_id is not None and self.task_id != task_id:
            return False
        self.met += 1
        before, after = (
            math.floor(count * self.share + ROUNDING) for count in (self.met - 1, self.met)
        )
        return after > before


class FaultPlan:
    """The faults in force; the one set last is asked first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put a fault into force."""
        self._faults.insert(0, fault)

    def heal(self, kind: str | None = None) -> None:
        """End all faults, or those of one kind."""
        self._faults = [fault for fault in self._faults if kind not in {None, fault.kind}]

    def pick(self, task_id: str | None, *, now: float) -> Fault | None:
        """The fault which a request at *now* meets, if any."""
        self._faults = [fault for fault in self._faults if now < fault.until]
        return next((fault for fault in self._faults if fault.hits(task_id)), None)


def distorted(answer: Answer, *, fault: Fault, dialect: Dialect, task_id: str) -> Answer:
    """
    What a request gets instead of *answer*.

    Kinds that happen below HTTP, and those that change the answer's time or id only, leave
    it as it is.
    """
    kind = fault.kind
    if kind in _PAGES:
        return _PAGES[kind]
    if kind in _BODIES:
        return attrs.evolve(answer, status=200, body=_BODIES[kind])
    if kind == "redirect":
        return Answer(302, b"", {"Location": fault.details.get("location", "/console/login")})
    if kind == "404":
        return dialect.not_found_answer(task_id)
    if not kind.isdigit():
        return answer
    return dialect.error_answer(int(kind)).with_headers(_retry_after(fault))


def _retry_after(fault: Fault) -> dict[str, str]:
    value = fault.details.get("retry_after")
    return {} if value is None else {"Retry-After": str(value)}
