"""Request log of the fake server."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@attrs.frozen(kw_only=True)
class RequestRecord:
    """
    One request as the fake server received it.

    Attributes:
        method: As sent.
        path: As sent, still percent-encoded, with the query.
        task_id: The decoded id; None if the url is not that of a task.
        authorization: State of the API key: ``absent``, ``present`` (the server requires none),
            ``correct`` or ``wrong``.
        headers: As sent, names in lower case, without the API key.
        at: Seconds on the loop clock when the request arrived.
        ended_at: Seconds on the loop clock when the response was made or the connection ended;
            None until then.
        status: HTTP status of the response; None if no response was started.
        fault: Kind of the fault that hit the request; None if none did.
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
    """A request in flight, with its record so far."""

    def __init__(self, record: RequestRecord) -> None:
        self.record: RequestRecord = record

    def update(self, *, status: int | None = None, fault: str | None = None) -> None:
        """Set fields of the record; None changes nothing."""
        record = self.record
        self.record = attrs.evolve(
            record, status=status or record.status, fault=fault or record.fault
        )


class RequestLog:
    """
    The newest requests, and the count of those in flight.

    Attributes:
        in_flight: Requests in flight now.
        peak_in_flight: The most requests that were in flight at once.
    """

    def __init__(self, *, size: int) -> None:
        self._entries: deque[OpenRequest] = deque(maxlen=size)
        self.in_flight: int = 0
        self.peak_in_flight: int = 0

    def __iter__(self) -> Iterator[RequestRecord]:
        return (entry.record for entry in self._entries)

    def begin(self, record: RequestRecord) -> OpenRequest:
        """Add a request that has arrived; drop the oldest one when full."""
        entry = OpenRequest(record)
        self._entries.append(entry)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        return entry

    def end(self, entry: OpenRequest, *, now: float) -> None:
        """Record the end of a request."""
        self.in_flight -= 1
        entry.record = attrs.evolve(entry.record, ended_at=now)


def redact_headers(headers: Mapping[str, str], *, authorization: str) -> dict[str, str]:
    """Return the headers, names in lower case, with *authorization* in place of the API key."""
    redacted = {name.lower(): value for name, value in headers.items()}
    if "authorization" in redacted:
        redacted["authorization"] = authorization
    return redacted


def check_authorization(header: str | None, *, api_key: str | None) -> str:
    """Return the ``RequestRecord.authorization`` of a request with this header."""
    if header is None:
        return "absent"
    if api_key is None:
        return "present"
    return "correct" if header == f"Bearer {api_key}" else "wrong"
