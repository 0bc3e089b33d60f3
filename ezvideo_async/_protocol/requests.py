"""HTTP requests of the video API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from ezvideo_async._protocol.messages import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS_PATH: Final = "/videos/{task_id}"
"""Path of a task's state after the base url (API document)."""

MAX_STATUS_BYTES: Final = 64 << 20
"""Bytes of a status response: gateways put whole videos into ``data:`` urls."""

_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]+\Z")
"""Characters that percent-encoding leaves as they are (RFC 3986, 2.3)."""


class StatusRoute:
    """
    Route of a task's state on one server.

    Args:
        base_url: Valid, without a trailing slash.
        path: Valid, with ``{task_id}`` once.
        query: Added to every url.
        max_bytes: Bytes of a status response.
    """

    __slots__ = ("max_bytes", "prefix", "suffix")

    def __init__(
        self,
        base_url: str,
        *,
        path: str = STATUS_PATH,
        query: Mapping[str, str] | None = None,
        max_bytes: int = MAX_STATUS_BYTES,
    ) -> None:
        before, _, after = path.partition("{task_id}")
        encoded = urlencode(query or {}, quote_via=quote, safe="")
        self.prefix: str = base_url + before
        self.suffix: str = f"{after}?{encoded}" if encoded else after
        self.max_bytes: int = max_bytes


def retrieve_request(route: StatusRoute, task_id: str) -> Request:
    """Return the request for one task's state; the id is percent-encoded within its segment."""
    # Most ids need no quoting, which takes longer than to see that.
    segment = task_id if _UNRESERVED.match(task_id) else quote(task_id, safe="")
    return Request(f"{route.prefix}{segment}{route.suffix}", task_id, max_bytes=route.max_bytes)
