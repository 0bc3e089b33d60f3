"""
Redaction of urls: queries, fragments and users are left out, because signed urls are keys.

No await, no clock, no randomness, no I/O.
"""

from __future__ import annotations

import re

_USER = re.compile(r"//[^/?#]*@")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_URL = re.compile(r"https?:\\?/\\?/[^\s\"'<>]*", re.IGNORECASE)


def redact_query(url: str | None) -> str | None:
    """Show a url without its user, query and fragment: signed urls are keys."""
    if url is None:
        return None
    if url[:5].lower() == "data:":
        return url[:32] + "…"
    return _QUERY.sub("?…", _USER.sub("//…@", url))


def redact_queries(text: str) -> str:
    """Cut the queries of urls in a text, JSON's escaped slashes included: signed urls are keys."""
    # A url is taken whole, with or without a query: else "http://http://..." takes quadratic time.
    return _URL.sub(lambda url: _QUERY.sub("?…", url[0]), text)
