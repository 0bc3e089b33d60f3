"""HTTP requests of the video API."""

from __future__ import annotations

import re
from urllib.parse import quote

from ezvideo_async._protocol.messages import Request

_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]+\Z")
"""Characters that percent-encoding leaves as they are (RFC 3986, 2.3)."""


def retrieve_request(base_url: str, task_id: str) -> Request:
    """Return the request for one task's state; the id is one percent-encoded path segment."""
    # Most ids need no quoting, which takes longer than to see that.
    segment = task_id if _UNRESERVED.match(task_id) else quote(task_id, safe="")
    return Request(url=f"{base_url}/videos/{segment}", task_id=task_id)
