"""
The values of the API: a task, its status, its error.

No await, no clock, no randomness, no I/O.  Values are frozen; only ``status`` decides
anything: progress 100, ``completed_at`` and a url prove nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping  # noqa: TC003 -- cattrs resolves the annotations
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from attrs import field, frozen

from ezvideo_async._domain.redaction import redact_queries, redact_query
from ezvideo_async._domain.strict_json import decode_json

_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?\Z")
_DIMENSIONS = re.compile(r"([0-9]{1,6})[x\u00d7*]([0-9]{1,6})\Z")


class TaskStatus(StrEnum):
    """
    The four states of a task; every word a server sends is read as one of them.

    Attributes:
        PENDING: Accepted, not yet started.
        PROCESSING: Being made; also every word that nobody knows.
        COMPLETED: Ended well.
        FAILED: Ended without a video: failed, cancelled or expired.

    Source:
        API document, "task status".
    """

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """True for completed and failed, when the task will not change any more."""
        return self is _COMPLETED or self is _FAILED


# Looking up a member of an enum takes longer than looking up its name (CPython 3.11: 0.1 us).
_COMPLETED, _FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED


def _show_text(text: str | None) -> str:
    return repr(None if text is None else redact_queries(text))


@frozen
class ErrorInfo:
    """
    Why a task failed, as far as the server said.

    Attributes:
        code: The server's code as text; ``cancelled`` or ``expired`` when the status word
            said so and no code was sent; None when there is none.
        message: The server's sentence, in the server's language; None when there is none.

    Queries of urls, which may be signed, are left out of ``repr``.
    """

    code: str | None = field(default=None, repr=_show_text)
    message: str | None = field(default=None, repr=_show_text)


def _show_url(url: str | None) -> str:
    return repr(redact_query(url))


@frozen(kw_only=True)
class VideoTask:
    """
    One state of one video task, read from whatever dialect the server speaks.

    Attributes:
        id: The task's id, verbatim as it was asked for.
        status: One of four words; the only field that decides anything.
        raw_status: The status word as sent; None when the answer had none.
        progress: Whole percent, 0-100; None when unknown.
        model: The model's name; None when the server left it out.
        created_at: Aware, UTC, whole seconds; None when unknown.
        completed_at: As above, and only for a task that has ended.
        expires_at: When the video goes away; as above.
        seconds: The length of the video as the server wrote it, such as ``"10.0"``.
        size: As the server wrote it, such as ``"1920x1080"`` or ``"720P"``.
        url: Where the video is: ``http(s)``, or a ``data:video/`` text; None when the server
            gives none (then its ``/content`` route has it).  The query of a signed url is left
            out of ``repr``.
        error: Always there on a failed task, even if both its fields are None; on other tasks
            only when the server sent a real one, which decides nothing.
        metadata: The server's extra fields; empty when there are none.  Do not change it.
        request_id: The ``x-request-id`` of the answer that first showed this state, for the
            server's support; not compared.

    Source:
        API document, "response parameters".
    """

    id: str
    status: TaskStatus
    raw_status: str | None = None
    progress: int | None = None
    model: str | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    seconds: str | None = None
    size: str | None = None
    url: str | None = field(default=None, repr=_show_url)
    error: ErrorInfo | None = None
    metadata: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)
    request_id: str | None = field(default=None, eq=False)
    _body: bytes = field(default=b"", eq=False, repr=False)
    _base_url: str | None = field(default=None, eq=False, repr=False)

    @property
    def is_terminal(self) -> bool:
        """True when the task has ended, well or not."""
        return self.status.is_terminal

    @property
    def succeeded(self) -> bool:
        """True when the task is completed."""
        return self.status is _COMPLETED

    @property
    def duration(self) -> float | None:
        """The video's length in seconds; None when *seconds* is not a plain number."""
        if self.seconds is None or not _NUMBER.match(self.seconds.strip()):
            return None
        return float(self.seconds)

    @property
    def dimensions(self) -> tuple[int, int] | None:
        """Width and height in pixels; None when *size* is not like ``1280x720``."""
        found = _DIMENSIONS.match(self.size.strip()) if self.size is not None else None
        return None if found is None else (int(found[1]), int(found[2]))

    @property
    def raw(self) -> Mapping[str, Any]:
        """
        The whole answer as the server sent it, wrappers included.

        Decoded anew on each access, so that thousands of watched tasks stay small: keep
        the result when you need it twice.  A task that was not read from an answer gives
        its :meth:`to_dict`.
        """
        if not self._body:
            return self.to_dict()
        decoded: Mapping[str, Any] = decode_json(self._body)
        return decoded

    def to_dict(self) -> dict[str, Any]:
        """
        The task in the API document's own shape.

        Shape:
            ``id``, ``object`` (``"video"``), ``model``, ``status`` (one of four words),
            ``progress`` and ``created_at`` are always there; ``completed_at``, ``expires_at``,
            ``seconds``, ``size``, ``url``, ``error`` (``message``, ``code``) and ``metadata``
            only when known.  Times are Unix seconds, int.  ``json.dumps`` takes it as it is.
        """
        shape: dict[str, Any] = {
            "id": self.id,
            "object": "video",
            "model": self.model,
            "status": str(self.status),
            "progress": self.progress,
            "created_at": _unix_seconds(self.created_at),
        }
        optional = {
            "completed_at": _unix_seconds(self.completed_at),
            "expires_at": _unix_seconds(self.expires_at),
            "seconds": self.seconds,
            "size": self.size,
            "url": self.url,
            "error": self.error and {"message": self.error.message, "code": self.error.code},
            "metadata": dict(self.metadata) or None,
        }
        return shape | {key: value for key, value in optional.items() if value is not None}

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, task_id: str | None = None, base_url: str | None = None
    ) -> VideoTask:
        """
        Read a task from a decoded answer, a webhook's payload or :meth:`to_dict`, in any dialect.

        Args:
            data: The decoded JSON object; it is copied.
            task_id: The id to use when *data* names none.
            base_url: Where relative urls in *data* belong; None leaves them as they are.

        Raises:
            BadResponseError: *data* is not a task; ``paths`` says where.
            TypeError, ValueError: *data* holds something that JSON cannot, or more than 100 levels.
        """
        # The reader lives two floors up, where the dialects are known.
        from ezvideo_async._protocol.task_decoder import read_task  # noqa: PLC0415 -- imports go down only

        body = _written(data).encode()
        return read_task(decode_json(body), body=body, task_id=task_id, base_url=base_url)


def source_of(task: VideoTask) -> tuple[bytes, str | None, str | None] | None:
    """Give the bytes, base url and request id that a task was read from; None without bytes."""
    if not task._body:  # noqa: SLF001 -- the value's own module
        return None
    return task._body, task._base_url, task.request_id  # noqa: SLF001 -- the value's own module


def _written(data: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(data))
    except RecursionError:
        pass
    message = "nested too deeply"
    raise ValueError(message)


def _unix_seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


@lru_cache(maxsize=512)
def utc(unix_seconds: int) -> datetime:
    """
    An instant of the wall clock, from Unix seconds, as an aware UTC datetime.

    Equal instants are one object: tasks of one batch begin and end in the same seconds, and
    sharing takes up to 0.14 KiB off each.
    """
    return datetime.fromtimestamp(unix_seconds, UTC)
