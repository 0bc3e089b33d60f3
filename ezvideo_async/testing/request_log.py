"""What the fake server remembers of the requests it met."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@attrs.frozen(kw_only=True)
class RequestRecord:
    """
    One request as the fake server saw it.

    Attributes:
        method: As sent.
        path: As sent, still percent-encoded, with the query.
        task_id: The decoded id; None when the url was not that of a task.
        authorization: The token was ``absent``, ``present`` (the server asks for none),
            ``correct`` or ``wrong``.
        headers: As sent, names in lower case, without the token.
        at: Seconds on the loop clock when the request had arrived.
        ended_at: Seconds on the loop clock when the server was done with it; None until then.
        status: HTTP status of the answer; None when no answer was begun.
        fault: Kind of the fault it met; None when it met none.
    """

    method: str
    path: str
    task_id: str | None
    authorization: str
    headers: Mapping[str, str]
    at: float
    ended_at: float | None = None
    status: int | None = None
    fault: str | None = None


class OpenRequest:
    """A request under way; holds the record as far as it is known."""

    def __init__(self, record: RequestRecord) -> None:
        self.record = record

    def note(self, *, status: int | None = None, fault: str | None = None) -> None:
        """Add what is known now; None adds nothing."""
        record = self.record
        self.record = attrs.evolve(
            record, status=status or record.status, fault=fault or record.fault
        )


class RequestLog:
    """
    The newest requests, and how many are under way.

    Attributes:
        count: Requests ever.
        in_flight: Requests under way now.
        peak: The most that were under way at once.
    """

    def __init__(self, *, size: int) -> None:
        self._entries: deque[OpenRequest] = deque(maxlen=size)
        self.count = 0
        self.in_flight = 0
        self.peak = 0

    def __iter__(self) -> Iterator[RequestRecord]:
        return (entry.record for entry in self._entries)

    def begin(self, record: RequestRecord) -> OpenRequest:
        """Remember a request that has arrived; the oldest one is forgotten when full."""
        entry = OpenRequest(record)
        self._entries.append(entry)
        self.count += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        return entry

    def end(self, entry: OpenRequest, *, now: float) -> None:
        """Note that the server is done with a request."""
        self.in_flight -= 1
        entry.record = attrs.evolve(entry.record, ended_at=now)


def redacted(headers: Mapping[str, str], *, authorization: str) -> dict[str, str]:
    """Headers with lower-case names, and a word in the place of the secret."""
    plain = {name.lower(): value for name, value in headers.items()}
    if "authorization" in plain:
        plain["authorization"] = authorization
    return plain


def authorization_word(header: str | None, *, api_key: str | None) -> str:
    """How good the ``Authorization`` header of a request is."""
    if header is None:
        return "absent"
    if api_key is None:
        return "present"
    return "correct" if header == f"Bearer {api_key}" else "wrong"
