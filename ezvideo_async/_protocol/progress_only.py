"""
Answers that say what is known already, but for the progress.

No await, no clock, no randomness, no I/O.  Most polls of a running task find nothing new, or
another percentage; neither needs to be read as JSON, which is a third of the whole cost of a poll.
"""

from __future__ import annotations

import re

from attrs import frozen

_NAMED = b'"progress'
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
"""No server writes letters so, but a key that is could be the task's own progress."""

_PROGRESS = re.compile(rb'"progress": ?(100|[1-9]?[0-9])(?=[,}\s])')
"""Whole percents as nearly all servers write them; whatever else there is, is read as JSON."""


@frozen(kw_only=True)
class ProgressUpdate:
    """
    An answer that shows the known state with another progress.

    Attributes:
        progress: Whole percent, 0-100.
        body: The answer.
        request_id: Its request id.
    """

    progress: int
    body: bytes
    request_id: str | None


def progress_if_only_change(body: bytes, *, known: bytes, progress: int | None) -> int | None:
    """
    Compare an answer with the one before.

    Args:
        body: The answer, which is not the one before.
        known: The answer before.
        progress: What was read from it.

    Returns:
        The progress, if in nothing else the two differ and there is no doubt that it is the
        task's own; None for any other answer.
    """
    place = body.find(_NAMED)
    if place < 0 or body.count(_NAMED) != 1 or _ESCAPED_LETTER.search(body):
        return None
    found, before = _PROGRESS.match(body, place), _PROGRESS.match(known, place)
    if found is None or before is None or int(before[1]) != progress:
        return None  # one that is not the task's own was not read, and is not known
    (start, end), (start_before, end_before) = found.span(1), before.span(1)
    is_repeat = body[:start] == known[:start_before] and body[end:] == known[end_before:]
    return int(found[1]) if is_repeat else None
