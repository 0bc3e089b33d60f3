"""
What can go wrong, one class per reaction of the caller.

::

    EzVideoError
    ├── ConfigError (ValueError)
    ├── InvalidTaskIdError (ValueError)
    ├── TransportError
    │   ├── RequestTimeoutError (TimeoutError)
    │   └── TLSError
    ├── BadResponseError
    ├── APIStatusError
    │   ├── BadRequestError
    │   ├── AuthenticationError
    │   ├── PermissionDeniedError
    │   ├── TaskNotFoundError
    │   ├── RateLimitError
    │   └── ServerError
    ├── TaskFailedError
    ├── WaitTimeoutError (TimeoutError)
    └── ClosedError

Rules:

1. Every error says in ``retryable`` whether asking again may help.
2. No error holds an object of the HTTP library, a key, or the query of a signed url.
3. Errors copy and pickle; what they know is in attributes, never only in the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from ezvideo_async._domain.task import VideoTask

__all__ = [
    "APIStatusError",
    "AuthenticationError",
    "BadRequestError",
    "BadResponseError",
    "ClosedError",
    "ConfigError",
    "EzVideoError",
    "InvalidTaskIdError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "ServerError",
    "TLSError",
    "TaskFailedError",
    "TaskNotFoundError",
    "TransportError",
    "WaitTimeoutError",
]


class EzVideoError(Exception):
    """
    The base of every error of this library: ``except EzVideoError`` catches them all.

    Attributes:
        task_id: The task it is about; None when it is about no single task.
        retryable: True when the same call may succeed later.
        open_ids: Set when a watcher raises: the ids that had not ended, in the order they
            were added.  Watch them again and nothing is lost.
    """

    _is_retryable: ClassVar[bool] = False

    def __init__(
        self, message: str = "", *, task_id: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.retryable: bool = self._is_retryable if retryable is None else retryable
        self.open_ids: tuple[str, ...] = ()


class _AnsweredError(EzVideoError):
    """What an answer of the server gives every error made from it."""

    def __init__(
        self,
        message: str = "",
        *,
        task_id: str | None = None,
        retryable: bool | None = None,
        status: int | None = None,
        reason: str | None = None,
        code: str | None = None,
        server_message: str | None = None,
        error_type: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body_excerpt: str | None = None,
    ) -> None:
        super().__init__(message, task_id=task_id, retryable=retryable)
        self.status = status
        self.reason = reason
        self.code = code
        self.message = server_message
        self.error_type = error_type
        self.request_id = request_id
        self.retry_after = retry_after
        self.body_excerpt = body_excerpt


class ConfigError(_AnsweredError, ValueError):
    """
    The set-up is wrong: no key, an unusable option or base_url, a redirect, a wrong route.

    Attributes:
        reason: ``redirect`` or ``route`` when an answer of the server showed it, else None;
            then ``status``, ``code`` and ``message`` are the answer's.
    """


class InvalidTaskIdError(EzVideoError, ValueError):
    """A text that can't be a task id; raised before anything is sent."""


class TransportError(EzVideoError):
    """
    No answer came.

    Attributes:
        reason: ``dns``, ``connect``, ``disconnected``, ``protocol``, ``payload``, ``proxy``,
            ``timeout``, ``tls``, ``resources`` (this process can open no more files or sockets),
            ``local_stall`` (our own loop was blocked), ``budget`` (our own budget gave no turn
            in time) or ``key`` (the key's callable took too long).
    """

    _is_retryable: ClassVar[bool] = True
    _reason: ClassVar[str] = "connect"

    def __init__(
        self,
        message: str = "",
        *,
        task_id: str | None = None,
        retryable: bool | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message, task_id=task_id, retryable=retryable)
        self.reason: str = self._reason if reason is None else reason


class RequestTimeoutError(TransportError, TimeoutError):
    """One request took longer than its limit; the task itself goes on."""

    _reason = "timeout"


class TLSError(TransportError):
    """The server's certificate or TLS set-up was refused; asking again does not help."""

    _is_retryable = False
    _reason = "tls"


class BadResponseError(_AnsweredError):
    """
    An answer that is not a task.

    Attributes:
        reason: ``empty``, ``html``, ``not_json``, ``schema``, ``id_mismatch`` or ``too_large``.
        paths: Where it is wrong, such as ``expected an object @ $``.
        status: The HTTP status, a success in most cases.
        code: The code in the body; None when there is none.
        message: The sentence in the body; None when there is none.
        request_id: The answer's request id.
        answered_id: The id the answer was about, when it was about another task.
        body_excerpt: Up to 500 characters of a body that is not JSON; None for a JSON body.
    """

    _is_retryable = True

    def __init__(
        self,
        message: str = "",
        *,
        paths: tuple[str, ...] = (),
        answered_id: str | None = None,
        **answered: Any,
    ) -> None:
        super().__init__(message, **answered)
        self.paths = paths
        self.answered_id = answered_id


class APIStatusError(_AnsweredError):
    """
    The server answered with an error.

    Attributes:
        status: The HTTP status.
        code: The server's code as text; None when it sent none.
        message: The server's sentence; None when it sent none.
        error_type: The server's ``type``; None when it sent none.
        request_id: The answer's ``x-request-id``; quote it to the server's support.
        retry_after: Seconds the server asked to wait; None when it did not ask.
        body_excerpt: Up to 500 characters of the body when it is not JSON.
    """


class BadRequestError(APIStatusError):
    """The server understood and refuses this request; the same request will fail again."""


class AuthenticationError(APIStatusError):
    """The key is missing, wrong or expired (401): fix the key."""


class PermissionDeniedError(APIStatusError):
    """
    The key is good but may not do this (403), or its account has no credit (402).

    ``retryable`` is True for a 403 that is a web page: a firewall in front of the API,
    which may let the next request pass.
    """


class TaskNotFoundError(APIStatusError):
    """The server knows no task of this id (404, 410, or new-api's 400 ``task_not_exist``)."""


class RateLimitError(APIStatusError):
    """Too many requests (429): wait ``retry_after`` seconds, if given, and ask less often."""


class ServerError(APIStatusError):
    """The server is in trouble (5xx, 408, 409, 421, 425); the task itself may be fine."""


class TaskFailedError(EzVideoError):
    """
    The task ended without a video; raised by ``wait()``.

    Attributes:
        task: The failed task, with the reason in ``task.error``.
    """

    def __init__(
        self, message: str = "", *, task_id: str | None = None, task: VideoTask | None = None
    ) -> None:
        super().__init__(message, task_id=task_id)
        self.task = task


class WaitTimeoutError(EzVideoError, TimeoutError):
    """
    The task had not ended when the time was up; it may still end, and be billed.

    Waiting again with the same id costs nothing but requests.

    Attributes:
        task: The last state seen; None when no answer came in time.
        last_error: The last failed request's error; None when the last one was answered.
        waited: Seconds waited.
    """

    _is_retryable = True

    def __init__(
        self,
        message: str = "",
        *,
        task_id: str | None = None,
        task: VideoTask | None = None,
        last_error: EzVideoError | None = None,
        waited: float = 0.0,
    ) -> None:
        super().__init__(message, task_id=task_id)
        self.task = task
        self.last_error = last_error
        self.waited = waited


class ClosedError(EzVideoError):
    """Used before it was entered, after it was closed, in another event loop or process."""
