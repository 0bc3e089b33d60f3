"""
The last response about a task, kept as bytes; compared and decoded on demand.

Most polls of a running task find nothing new, or another percentage; neither is decoded as JSON.
What is kept is bounded, whatever the server sends: of a large response that is not final, a digest
and the main fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from weakref import WeakSet

from attrs import define, evolve, field

from ezvideo_async._domain.events import FinalEvent, TaskCompleted, TaskFailed, own_event
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._domain.task import ErrorInfo, VideoTask, source_of
from ezvideo_async._protocol.task_decoder import read_task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezvideo_async._domain.events import AnyFinalEvent, Event
    from ezvideo_async._domain.task import TaskStatus
    from ezvideo_async._protocol.messages import Response

_NAME = b'"progress'
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
"""No server writes letters so, but a key written so could be the task's own progress."""

_PROGRESS = re.compile(rb'"progress": ?(100|[1-9]?[0-9])(?=[,}\s])')
"""Whole percents as nearly all servers write them; everything else is decoded as JSON."""


_DECODED_MAX = 4096  # bytes of a body whose decoded task is kept in an event: up to 20 times them
_RUNNING_MAX = 16 * 1024  # bytes of a body that is not final; most are below 2 KiB
_FINAL_MAX = 1024 * 1024  # bytes of a final body that is kept without an account
_FINALS_MAX = 256 * 1024 * 1024  # bytes of all larger final bodies of one client
_DIGEST_BYTES = 16
_TEXT_MAX, _MESSAGE_MAX, _URL_MAX = 200, 2000, 8192  # characters kept of a large response


class LargeResponse(NamedTuple):
    """What is kept of a large response that is not final."""

    digest: bytes
    task: VideoTask


class StoredState(NamedTuple):
    """A state as it is stored."""

    content: bytes | LargeResponse | VideoTask | AnyFinalEvent | None
    task_id: str
    base_url: str | None
    request_id: str | None

    @property
    def is_large(self) -> bool:
        """True if the decoded task may take far more memory than most."""
        return isinstance(self.content, bytes) and len(self.content) > _DECODED_MAX

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
        if isinstance(content, LargeResponse):
            return content.task
        # A copy: what a stored event has decoded would be kept as long as the event.
        return own_event(content).task if isinstance(content, FinalEvent) else content


@define(eq=False, weakref_slot=False)
class StoredResponse:
    """
    The last state of one task.

    Attributes:
        content: The response's body, what is kept of a large one, or a task that came without
            one; in the end the final event; None before the first response.
    """

    # A watcher has a hundred thousand of these: what is rare has no slot of its own.

    task_id: str
    content: bytes | LargeResponse | VideoTask | AnyFinalEvent | None = field(
        init=False, default=None
    )
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
        """Replace a stored task by the response that it was read from, or the digest of that."""
        task = self.content
        if not isinstance(task, VideoTask) or (source := source_of(task)) is None:
            return
        body, base_url, request_id = source
        if len(body) <= _RUNNING_MAX or task.is_terminal:
            self.content, self.base_url, self.request_id = body, base_url, request_id
        else:
            self.content = LargeResponse(_digest(body), _main_fields(task))

    def keep(self, event: Event, finals: FinalBodies) -> Event:
        """Return the event of a response without more of its task than is stored."""
        content = self.content
        if isinstance(content, VideoTask) or (
            isinstance(content, bytes) and len(content) <= _DECODED_MAX
        ):
            return event
        state = self.stored_state
        if isinstance(event, TaskCompleted | TaskFailed) and isinstance(content, bytes):
            return evolve(event, task=finals.keep(state, event.task, len(content)))
        return evolve(event, task=state)

    def is_repeated_by(self, response: Response) -> bool:
        """Return True if the response repeats the stored one byte for byte."""
        content = self.content
        if response.body == content:
            return response.is_success
        if not isinstance(content, LargeResponse):
            return False
        return response.is_success and _digest(response.body) == content.digest

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


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=_DIGEST_BYTES).digest()


def _main_fields(task: VideoTask) -> VideoTask:
    """Return a task without raw response and metadata, its texts cut."""
    error = task.error
    return evolve(
        task,
        body=b"",
        base_url=None,
        metadata={},
        raw_status=_cut(task.raw_status),
        model=_cut(task.model),
        seconds=_cut(task.seconds),
        size=_cut(task.size),
        url=None if task.url is not None and len(task.url) > _URL_MAX else task.url,
        error=error and ErrorInfo(_cut(error.code), _cut(error.message, _MESSAGE_MAX)),
    )


def _cut(text: str | None, length: int = _TEXT_MAX) -> str | None:
    return text if text is None else text[:length]


@define(eq=False)
class _KeptState:
    """A final state with a large body, as long as anything refers to it."""

    state: StoredState
    size: int
    is_large: ClassVar[bool] = True

    def decode(self) -> VideoTask | None:
        return self.state.decode()


class FinalBodies:
    """Final bodies of one client: of those over 1 MiB, at most 256 MiB are kept."""

    def __init__(self) -> None:
        self._kept: WeakSet[_KeptState] = WeakSet()

    def keep(
        self, state: StoredState, task: VideoTask, size: int
    ) -> StoredState | _KeptState | VideoTask:
        """
        Return a state with a body of *size* bytes; beyond the limit its task without the body.

        Then large metadata are left out too; the url is not, since it may be the video itself.
        """
        if size <= _FINAL_MAX:
            return state
        if size + sum(kept.size for kept in self._kept) <= _FINALS_MAX:
            kept = _KeptState(state, size)
            self._kept.add(kept)
            return kept
        is_small = size - len(task.url or "") <= _RUNNING_MAX
        return evolve(_main_fields(task), url=task.url, metadata=task.metadata if is_small else {})


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
