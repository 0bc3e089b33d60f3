"""
The last state of a task as it is kept: the bytes of the answer, until somebody asks for it.

No await, no clock, no randomness, no I/O.  A task that was read takes 240 bytes more than its
answer, and most states of a hundred thousand watched tasks are never asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ezvideo_async._domain.events import FinalEvent
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._protocol.task_decoder import read_task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezvideo_async._domain.events import Final
    from ezvideo_async._domain.task import VideoTask

StoredState = tuple["bytes | VideoTask | Final | None", str, "str | None", "str | None"]
"""The last state of an id as a watch keeps it, its id, the base url and the request id."""


def decode_stored(
    known: bytes | VideoTask | Final | None,
    task_id: str,
    base_url: str | None,
    request_id: str | None,
) -> VideoTask | None:
    """Give the state that a watch keeps; one that is kept as bytes is read anew, in 15 us."""
    if isinstance(known, bytes):
        answer = decode_json(known)
        return read_task(
            answer, body=known, task_id=task_id, base_url=base_url, request_id=request_id
        )
    return known.task if isinstance(known, FinalEvent) else known


class Snapshot(Mapping[str, "VideoTask | None"]):
    """
    The states of many ids at one instant; each is read when it is asked for.

    Args:
        readings: Each id's last state; the snapshot's own from now on.
    """

    __slots__ = ("_readings",)

    def __init__(self, readings: dict[str, StoredState]) -> None:
        self._readings = readings

    def __getitem__(self, task_id: str) -> VideoTask | None:
        return decode_stored(*self._readings[task_id])

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._readings

    def __iter__(self) -> Iterator[str]:
        return iter(self._readings)

    def __len__(self) -> int:
        return len(self._readings)

    def __repr__(self) -> str:
        return f"<the states of {len(self)} tasks>"
