"""
Values of the API: a task, its status, its error.

Only ``status`` decides whether a task has finished: progress 100, ``completed_at`` and a url do
not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping  # noqa: TC003 -- cattrs reads the annotations
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
    The four statuses of a task; every status value of a server is read as one of them.

    Attributes:
        PENDING: Accepted, not yet started.
        PROCESSING: In progress; also every unknown status value.
        COMPLETED: Finished with a video.
        FAILED: Finished without a video: failed, cancelled or expired.

    Source:
        API document, "task status".
    """

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """True for completed and failed, which are final."""
        return self is _COMPLETED or self is _FAILED


# Reading a module's name is faster than reading a member of an enum.
_COMPLETED, _FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED


def _text_repr(text: str | None) -> str:
    return repr(None if text is None else redact_queries(text))


@frozen
class ErrorInfo:
    """
    Why a task failed, as far as the server said.

    Attributes:
        code: The server's code as text; if it sent none, ``cancelled``, ``expired`` or ``timeout``
            when the status value says so, else None.
        message: The server's message, in the server's language, at most 2,000 characters; None
            when there is none.

    ``str`` is ``code: message``.  It and ``repr`` redact queries of urls, which may be signed.
    """

    code: str | None = field(default=None, repr=_text_repr)
    message: str | None = field(default=None, repr=_text_repr)

    def __str__(self) -> str:
        texts = [text for text in (self.code, self.message) if text is not None]
        return redact_queries(": ".join(texts)) if texts else "no reason given"


def _url_repr(url: str | None) -> str:
    return repr(redact_query(url))


@frozen(kw_only=True)
class VideoTask:
    """
    One state of one video task, read from any dialect.

    Attributes:
        id: The task's id, exactly as in the request.
        status: The only field that decides whether the task has finished.
        raw_status: The first 200 characters of the status value as sent; None when the response
            had none.
        progress: Whole percent, 0-100; None when unknown.
        model: The model's name; None when the server sent none.
        created_at: Aware, UTC, whole seconds; None when unknown.
        completed_at: As ``created_at``; always None for a task that has not finished.
        expires_at: When the server deletes the video; as ``created_at``.
        seconds: The length of the video as the server wrote it, such as ``"10.0"``.
        size: As the server wrote it, such as ``"1920x1080"`` or ``"720P"``.
        url: Where the video is: ``http(s)``, or a ``data:video/`` text; None when the server
            sent none (then its ``/content`` route has the video).  ``repr`` redacts the query.
        error: Never None for a failed task, even if both its fields are None; for other tasks only
            an error that the server sent, which does not change the status.
        metadata: The server's extra fields; empty when there are none.  Do not change it.
        request_id: The ``x-request-id`` of the response that first had this state, for the
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
    url: str | None = field(default=None, repr=_url_repr)
    error: ErrorInfo | None = None
    metadata: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)
    request_id: str | None = field(default=None, eq=False)
    _body: bytes = field(alias="body", default=b"", eq=False, repr=False)
    _base_url: str | None = field(alias="base_url", default=None, eq=False, repr=False)

    @property
    def is_terminal(self) -> bool:
        """True if the task has finished: completed or failed."""
        return self.status.is_terminal

    @property
    def succeeded(self) -> bool:
        """True if the task is completed."""
        return self.status is _COMPLETED

    @property
    def duration(self) -> float | None:
        """The video's length in seconds; None when *seconds* is not a plain number."""
        if self.seconds is None or not _NUMBER.match(self.seconds.strip()):
            return None
        return float(self.seconds)

    @property
    def dimensions(self) -> tuple[int, int] | None:
        """Width and height in pixels; None when *size* does not have both, as ``1280x720``."""
        match = _DIMENSIONS.match(self.size.strip()) if self.size is not None else None
        return None if match is None else (int(match[1]), int(match[2]))

    @property
    def raw(self) -> Mapping[str, Any]:
        """
        The whole response body as the server sent it, envelopes included.

        It is decoded on each access, so that thousands of watched tasks need little memory: keep
        the result if you need it twice.  For a task that was not read from a response, or whose
        response is too large for a watcher to keep, it is :meth:`to_dict`.
        """
        if not self._body:
            return self.to_dict()
        decoded: Mapping[str, Any] = decode_json(self._body)
        return decoded

    def to_dict(self) -> dict[str, Any]:
        """
        Return the task in the shape of the API document, ready for ``json.dumps``.

        Shape:
            ``id``, ``object`` (``"video"``), ``model``, ``status`` (one of the four),
            ``progress`` and ``created_at`` are always there; ``completed_at``, ``expires_at``,
            ``seconds``, ``size``, ``url``, ``error`` (``message``, ``code``) and ``metadata``
            only when known.  Times are Unix seconds, int.
        """
        from ezvideo_async._domain.serialization import plain_data  # noqa: PLC0415 -- loads cattrs

        return plain_data(self)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, task_id: str | None = None, base_url: str | None = None
    ) -> VideoTask:
        """
        Read a task from a decoded response, a webhook's payload or :meth:`to_dict`.

        Args:
            data: The decoded JSON object in any dialect; it is copied.
            task_id: The id of the task; None takes the one in *data*.
            base_url: The base of relative urls in *data*; None leaves them as they are.

        Raises:
            BadResponseError: *data* is not a task; ``paths`` says what was expected where.
            TypeError, ValueError: *data* contains a value that JSON cannot, more than 100 levels,
                or in over 64 KiB more than 20,000 values.
        """
        from ezvideo_async._protocol.task_decoder import read_task  # noqa: PLC0415 -- a higher layer

        try:
            body = json.dumps(dict(data)).encode()
        except RecursionError:
            raise ValueError("nested too deeply") from None
        return read_task(decode_json(body), body=body, task_id=task_id, base_url=base_url)


def source_of(task: VideoTask) -> tuple[bytes, str | None, str | None] | None:
    """Return the body, base url and request id that a task was read from; None without body."""
    if not task._body:  # noqa: SLF001 -- the same module
        return None
    return task._body, task._base_url, task.request_id  # noqa: SLF001 -- the same module


@lru_cache(maxsize=512)
def utc_datetime(unix_seconds: int) -> datetime:
    """
    Return Unix seconds as an aware datetime in UTC.

    Equal times share one object, which saves memory: the tasks of a batch start and finish in the
    same seconds.
    """
    return datetime.fromtimestamp(unix_seconds, UTC)
