"""All that is fuzzed, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.long.fuzz import bodies, cleaner, headers, ids, retry_after, streams

if TYPE_CHECKING:
    from tests.long.fuzz.subject import Subject

SUBJECTS: dict[str, Subject] = {
    module.SUBJECT.name: module.SUBJECT
    for module in (bodies, streams, ids, headers, retry_after, cleaner)
}
