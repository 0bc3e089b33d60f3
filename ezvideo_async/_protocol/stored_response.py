"""
The last response about a task, kept as bytes; compared and decoded on demand.

Most polls of a running task find nothing new, or another percentage; neither is decoded as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from attrs import define, field

from ezvideo_async._domain.events import FinalEvent
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._domain.task import VideoTask, source_of
from ezvideo_async._protocol.task_decoder import read_task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezvideo_async._domain.events import AnyFinalEvent
    from ezvideo_async._domain.task import TaskStatus
    from ezvideo_async._protocol.messages import Response

_NAME = b'"progress'
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
"""No server writes letters so, but a key written so could be the task's own progress."""

_PROGRESS = re.compile(rb'"progress": ?(100|[1-9]?[0-9])(?=[,}\s])')
"""Whole percents as nearly all servers write them; everything else is decoded as JSON."""


class StoredState(NamedTuple):
    """A state as it is stored."""

    content: bytes | VideoTask | AnyFinalEvent | None
    task_id: str
    base_url: str | None
    request_id: str | None

    def decode(self) -> VideoTask | None:
        """Return the task; None before the first response."""
        content = self.content
        if isinstance(content, bytes):
            return read_task(
                decode_json(content),
                body=content,
                task_id=self.task_id,
                base_url=self.base_url,
                request_id=self.request_id,
            )
        return content.task if isinstance(content, FinalEvent) else content


@define(eq=False, weakref_slot=False)
class StoredResponse:
    """
    The last state of one task.

    Attributes:
        content: The response's body, or a task that came without one; in the end the final
            event; None before the first response.
    """

    # A watcher has a hundred thousand of these: what is rare has no slot of its own.

    task_id: str
    content: bytes | VideoTask | AnyFinalEvent | None = field(init=False, default=None)
    base_url: str | None = field(init=False, default=None)
    request_id: str | None = field(init=False, default=None)
    status: TaskStatus | None = field(init=False, default=None)
    progress: int | None = field(init=False, default=None)

    @property
    def stored_state(self) -> StoredState:
        """The last state, which stays as it is when a newer one is stored."""
        return StoredState(self.content, self.task_id, self.base_url, self.request_id)

    @property
    def task(self) -> VideoTask | None:
        """The last state, decoded at each access; None before the first response."""
        return self.stored_state.decode()

    def store(self, task: VideoTask) -> None:
        """Store a decoded state, whatever it was read from."""
        self.content, self.status, self.progress = task, task.status, task.progress

    def store_final(self, event: AnyFinalEvent) -> None:
        """Store the final event in place of the response."""
        self.content = event

    def compact(self) -> None:
        """Replace a stored task by the bytes of the response that it was read from."""
        if isinstance(self.content, VideoTask) and (source := source_of(self.content)) is not None:
            self.content, self.base_url, self.request_id = source

    def is_repeated_by(self, response: Response) -> bool:
        """Return True if the response repeats the stored one byte for byte."""
        return response.body == self.content and response.is_success

    def progress_change_in(self, response: Response) -> int | None:
        """
        Return the progress of a response that differs in nothing but the task's own progress.

        None for any other response, which must be decoded.
        """
        if not isinstance(self.content, bytes) or not response.is_success:
            return None
        return _progress_if_only_change(response.body, stored=self.content, progress=self.progress)

    def store_progress(self, progress: int, response: Response) -> None:
        """Store a response that differs in its progress alone."""
        self.content, self.progress = response.body, progress
        self.request_id = response.request_id


def _progress_if_only_change(body: bytes, *, stored: bytes, progress: int | None) -> int | None:
    place = body.find(_NAME)
    if place < 0 or body.count(_NAME) != 1 or _ESCAPED_LETTER.search(body):
        return None
    found, before = _PROGRESS.match(body, place), _PROGRESS.match(stored, place)
    if found is None or before is None or int(before[1]) != progress:
        return None  # a percentage that was not read from the stored body is not the task's own
    (start, end), (start_before, end_before) = found.span(1), before.span(1)
    is_same_elsewhere = body[:start] == stored[:start_before] and body[end:] == stored[end_before:]
    return int(found[1]) if is_same_elsewhere else None


class Snapshot(Mapping[str, "VideoTask | None"]):
    """The states of many ids at one instant; each is decoded when it is read."""

    __slots__ = ("_states",)

    def __init__(self, states: dict[str, StoredState]) -> None:
        self._states = states

    def __getitem__(self, task_id: str) -> VideoTask | None:
        return self._states[task_id].decode()

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._states

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def __repr__(self) -> str:
        return f"<the states of {len(self)} tasks>"
