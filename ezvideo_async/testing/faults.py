"""
Faults of the fake server: which requests a fault hits, and the response it makes.

Nothing here is random: a share of 0.25 is every fourth request.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

from ezvideo_async.testing.dialects.dialect import FakeResponse
from ezvideo_async.testing.validation import validate_choice, validate_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ezvideo_async.testing.dialects.dialect import Dialect

# Each kind with the details that it accepts.
_DETAILS: dict[str, tuple[str, ...]] = {
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
FAULT_KINDS = tuple(_DETAILS)

# Default delay of a "slow" response, in seconds.
DEFAULT_DELAY = 10.0
# Tolerance for the rounding of count * share.
ROUNDING = 1e-9

_HTML = {"Content-Type": "text/html; charset=utf-8"}
_PAGES = {
    "html": FakeResponse(200, b"<!doctype html><html><title>Console</title></html>", _HTML),
    "gateway-html": FakeResponse(502, b"<html><title>502 Bad Gateway</title></html>", _HTML),
}
_BODIES = {"garbage": b"{not json at all]", "empty": b""}


@attrs.define(kw_only=True)
class Fault:
    """
    One fault, and the count of requests it may hit.

    Attributes:
        until: Instant on the loop clock at which the fault ends.
        share: Share of the requests that it hits, above 0 and at most 1.
        task_id: Only requests for this id count; None for all requests.
        counted: Requests counted so far, hit or not.
    """

    kind: str
    until: float = math.inf
    share: float = 1.0
    task_id: str | None = None
    details: Mapping[str, Any] = attrs.field(factory=dict)
    counted: int = 0

    def __attrs_post_init__(self) -> None:
        validate_choice("kind", self.kind, FAULT_KINDS)
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {self.share!r}")
        accepted = _DETAILS[self.kind]
        for name in self.details:
            if name not in accepted:
                names = ", ".join(accepted) or "no details"
                raise ValueError(f"fault {self.kind!r} accepts {names}; not {name!r}")
        validate_seconds("delay", self.delay)

    @property
    def delay(self) -> float:
        """Seconds added to the time of the response."""
        return float(self.details.get("delay", DEFAULT_DELAY)) if self.kind == "slow" else 0.0

    def count_request(self, task_id: str | None) -> bool:
        """Count one request; return True if the fault hits it."""
        if self.task_id is not None and self.task_id != task_id:
            return False
        hits_before = math.floor(self.counted * self.share + ROUNDING)
        self.counted += 1
        return math.floor(self.counted * self.share + ROUNDING) > hits_before


class FaultPlan:
    """The active faults, the newest first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Activate a fault."""
        self._faults.insert(0, fault)

    def heal(self, kind: str | None = None) -> None:
        """End all faults, or those of one kind."""
        self._faults = [fault for fault in self._faults if kind not in {None, fault.kind}]

    def pick(self, task_id: str | None, *, now: float) -> Fault | None:
        """Count a request at *now* and return the newest fault that hits it, if any."""
        self._faults = [fault for fault in self._faults if now < fault.until]
        return next((fault for fault in self._faults if fault.count_request(task_id)), None)


def faulty_response(
    response: FakeResponse, *, fault: Fault, dialect: Dialect, task_id: str
) -> FakeResponse:
    """
    Return the response that *fault* makes of *response*.

    Kinds that happen below HTTP, and those that change only the time or the id, leave it
    unchanged.
    """
    kind = fault.kind
    if kind in _PAGES:
        return _PAGES[kind]
    if kind in _BODIES:
        return attrs.evolve(response, status=200, body=_BODIES[kind])
    if kind == "redirect":
        return FakeResponse(302, b"", {"Location": fault.details.get("location", "/console/login")})
    if kind == "404":
        return dialect.not_found_response(task_id)
    if not kind.isdigit():
        return response
    return dialect.error_response(int(kind)).with_headers(_retry_after(fault))


def _retry_after(fault: Fault) -> dict[str, str]:
    value = fault.details.get("retry_after")
    return {} if value is None else {"Retry-After": str(value)}
