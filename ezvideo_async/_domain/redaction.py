"""Redaction of urls: without user, query and fragment, because signed urls are keys."""

from __future__ import annotations

import re

_USER = re.compile(r"//[^/?#]*@")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_URL = re.compile(r"https?:\\?/\\?/[^\s\"'<>]*", re.IGNORECASE)


def redact_query(url: str | None) -> str | None:
    """Return a url with its user, query and fragment redacted, and a data url cut."""
    if url is None:
        return None
    if url[:5].lower() == "data:":
        return url[:32] + "…"
    return _QUERY.sub("?…", _USER.sub("//…@", url))


def redact_queries(text: str) -> str:
    """Return a text with the queries of its urls redacted, also of urls with escaped slashes."""
    # Matching urls without a query too keeps "http://http://..." from taking quadratic time.
    return _URL.sub(lambda url: _QUERY.sub("?…", url[0]), text)
