"""
Exception classes of this library, one class per reaction of the caller.

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
    ├── NotOpenError
    ├── ClosedError
    └── StoreError

Rules:

1. Every error says in ``retryable`` whether the same call may succeed later.
2. No error holds an object of the HTTP library, an API key, or the query of a signed url.
3. Errors can be copied and pickled; their details are attributes, not only part of the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TypedDict, Unpack

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
    "NotOpenError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "ServerError",
    "StoreError",
    "TLSError",
    "TaskFailedError",
    "TaskNotFoundError",
    "TransportError",
    "WaitTimeoutError",
]

ConfigReason = Literal["redirect", "route", "not_the_api", "refused"]

TransportReason = Literal[
    "dns",
    "connect",
    "disconnected",
    "protocol",
    "payload",
    "proxy",
    "timeout",
    "tls",
    "resources",
    "local_stall",
    "budget",
    "key",
]

BadResponseReason = Literal["empty", "html", "not_json", "schema", "id_mismatch", "too_large"]

StoreReason = Literal[
    "locked", "full", "wrong_account", "damaged", "newer_version", "inaccessible", "moved"
]


class EzVideoError(Exception):
    """
    Base class of every error of this library.

    Attributes:
        task_id: None when it is about no single task.
        retryable: True if the same call may succeed later.
        open_ids: The ids that had not ended when a watcher raised this error, in the order in
            which they were added.  Watch them again to continue.
    """

    _is_retryable: ClassVar[bool] = False

    def __init__(
        self, message: str = "", *, task_id: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.retryable: bool = self._is_retryable if retryable is None else retryable
        self.open_ids: tuple[str, ...] = ()


class _ResponseFields(TypedDict, total=False):
    task_id: str | None
    retryable: bool | None
    status: int | None
    code: str | None
    server_message: str | None
    error_type: str | None
    request_id: str | None
    retry_after: float | None
    body_excerpt: str | None


class _ResponseError(EzVideoError):
    def __init__(
        self,
        message: str = "",
        *,
        task_id: str | None = None,
        retryable: bool | None = None,
        status: int | None = None,
        code: str | None = None,
        server_message: str | None = None,
        error_type: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body_excerpt: str | None = None,
    ) -> None:
        super().__init__(message, task_id=task_id, retryable=retryable)
        self.status = status
        self.code = code
        self.message = server_message
        self.error_type = error_type
        self.request_id = request_id
        self.retry_after = retry_after
        self.body_excerpt = body_excerpt


class ConfigError(_ResponseError, ValueError):
    """
    Wrong configuration: no API key, an unusable argument or base_url, a redirect or wrong route.

    Attributes:
        reason: ``redirect``, ``route``, ``not_the_api`` (web pages in place of JSON) or
            ``refused`` (every request alike) when responses showed it; then ``status``, ``code``
            and ``message`` are those of the last one.  None for an argument of the caller.
    """

    def __init__(
        self,
        message: str = "",
        *,
        reason: ConfigReason | None = None,
        **fields: Unpack[_ResponseFields],
    ) -> None:
        super().__init__(message, **fields)
        self.reason: ConfigReason | None = reason


class InvalidTaskIdError(EzVideoError, ValueError):
    """A value that cannot be a task id; raised before anything is sent."""


class TransportError(EzVideoError):
    """
    No response was received.

    Attributes:
        reason: ``dns``, ``connect``, ``disconnected``, ``protocol``, ``payload``, ``proxy``,
            ``timeout``, ``tls``, ``resources`` (this process can open no more files or sockets),
            ``local_stall`` (the event loop of this process was blocked), ``budget`` (the request
            budget did not admit the request in time) or ``key`` (the ``api_key`` callable took too
            long).
    """

    _is_retryable: ClassVar[bool] = True
    _reason: ClassVar[TransportReason] = "connect"

    def __init__(
        self,
        message: str = "",
        *,
        task_id: str | None = None,
        retryable: bool | None = None,
        reason: TransportReason | None = None,
    ) -> None:
        super().__init__(message, task_id=task_id, retryable=retryable)
        self.reason: TransportReason = self._reason if reason is None else reason


class RequestTimeoutError(TransportError, TimeoutError):
    """One request exceeded its timeout; the remote task is not affected."""

    _reason = "timeout"


class TLSError(TransportError):
    """The TLS handshake or the server's certificate was refused; repeating does not help."""

    _is_retryable = False
    _reason = "tls"


class BadResponseError(_ResponseError):
    """
    A response that does not contain a task.

    Attributes:
        reason: ``empty``, ``html``, ``not_json``, ``schema``, ``id_mismatch`` or ``too_large``.
        paths: What was expected where, such as ``expected an object @ $``.
        received_id: The id in the response, when it is not the asked one.
        unconfirmed: The task that the response shows if the next one shows the same: it names
            no task.  None for every other response.

    The other attributes are those of :class:`APIStatusError`; *status* is mostly a success.
    """

    _is_retryable = True

    def __init__(
        self,
        message: str = "",
        *,
        reason: BadResponseReason | None = None,
        paths: tuple[str, ...] = (),
        received_id: str | None = None,
        unconfirmed: VideoTask | None = None,
        **fields: Unpack[_ResponseFields],
    ) -> None:
        super().__init__(message, **fields)
        self.reason: BadResponseReason | None = reason
        self.paths = paths
        self.received_id = received_id
        self.unconfirmed = unconfirmed


class APIStatusError(_ResponseError):
    """
    The server responded with an error status or an error body.

    Attributes:
        status: The HTTP status.
        code: The server's code as text; None when it sent none.
        message: The server's message; None when it sent none.
        error_type: The server's ``type``; None when it sent none.
        request_id: The ``x-request-id`` of the response; quote it to the server's support.
        retry_after: Seconds to wait by the server's ``Retry-After``; None when it sent none.
        body_excerpt: Up to 500 characters of a body that is not JSON, also of an empty one; None
            for a JSON body, which is the API's own.

    The texts are cut: ``message`` to 2,000 characters, ``code`` and ``error_type`` to 200.
    """


class BadRequestError(APIStatusError):
    """
    The server refuses this request; the same request will fail again.

    ``retryable`` is True for a body that is not JSON: a proxy in front of the API sent it.
    """


class AuthenticationError(APIStatusError):
    """The API key is missing, wrong or expired (401): replace the key."""


class PermissionDeniedError(APIStatusError):
    """
    The API key lacks a permission (403), or its account has no credit (402).

    ``retryable`` is True for a 403 without JSON, such as a web page: a firewall may admit the next
    request.
    """


class TaskNotFoundError(APIStatusError):
    """
    The server has no task with this id (404, 410, or new-api's 400 ``task_not_exist``).

    Attributes:
        is_ambiguous: Whether the response, a 404, is one that servers send for a wrong route too:
            it has no code for "not found" and no message about a task.
    """

    def __init__(
        self,
        message: str = "",
        *,
        is_ambiguous: bool = False,
        **fields: Unpack[_ResponseFields],
    ) -> None:
        super().__init__(message, **fields)
        self.is_ambiguous = is_ambiguous


class RateLimitError(APIStatusError):
    """Too many requests (429): wait ``retry_after`` seconds, if given, and reduce the rate."""


class ServerError(APIStatusError):
    """The server failed to handle the request (5xx, 408, 409, 421, 425); the task may be fine."""


class TaskFailedError(EzVideoError):
    """
    The task finished without a video; raised by ``wait()``.

    Attributes:
        task: The failed task; ``task.error`` has the reason.
    """

    def __init__(
        self, message: str = "", *, task_id: str | None = None, task: VideoTask | None = None
    ) -> None:
        super().__init__(message, task_id=task_id)
        self.task = task


class WaitTimeoutError(EzVideoError, TimeoutError):
    """
    The task did not finish within the timeout; one that was seen may still complete and be billed.

    Call ``wait()`` with the same id to continue; it costs nothing but requests.

    Attributes:
        task: The last state received; None when none was received in time.
        last_error: The error of the last request, also its ``__cause__``; None when it succeeded.
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
        if last_error is not None:
            self.__cause__: BaseException | None = last_error
        self.waited = waited


class NotOpenError(EzVideoError):
    """A watcher or subscription was used before ``async with``."""


class ClosedError(EzVideoError):
    """A client, watcher or subscription was used after closing, or in another loop or process."""


class StoreError(EzVideoError):
    """
    The store of a watch set cannot be opened, or states could not be saved.

    Attributes:
        reason: ``locked`` (another process or watcher has it open), ``full`` (disk or quota),
            ``wrong_account`` (it belongs to another API key or base_url), ``damaged``,
            ``newer_version`` (a newer version of this library wrote it), ``inaccessible``
            (missing folder, permission, symlink, read-only, I/O error) or ``moved`` (the file was
            moved, deleted or replaced while open).  ``locked`` and ``full`` are retryable.
        path: The file; None for a store without one.
        unsaved: Changes that are not written.
    """

    def __init__(
        self,
        message: str = "",
        *,
        task_id: str | None = None,
        retryable: bool | None = None,
        reason: StoreReason = "inaccessible",
        path: str | None = None,
        unsaved: int = 0,
    ) -> None:
        if retryable is None:
            retryable = reason in {"locked", "full"}
        super().__init__(message, task_id=task_id, retryable=retryable)
        self.reason: StoreReason = reason
        self.path = path
        self.unsaved = unsaved
