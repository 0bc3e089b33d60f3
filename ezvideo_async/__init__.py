"""
Know, soon and cheaply, when each video-generation task ends.

``AsyncVideoClient`` asks one server of the OpenAI-compatible family for a task; ``TaskWatcher``
watches thousands in one event loop.  Importing this package loads no HTTP library: names are
loaded when they are first used.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ezvideo_async._version import __version__

if TYPE_CHECKING:
    from ezvideo_async._budget import RequestBudget
    from ezvideo_async._client import AsyncVideoClient
    from ezvideo_async._events import (
        Event,
        ProgressChanged,
        StatusChanged,
        TaskCompleted,
        TaskEvent,
        TaskFailed,
        TaskLost,
        TaskStalled,
    )
    from ezvideo_async._models import TaskError, TaskStatus, VideoTask
    from ezvideo_async._observe import (
        BreakerClosed,
        BreakerOpened,
        CoolDown,
        Observer,
        PollDone,
        PollFailed,
        RetryDue,
        Signal,
        TaskEnded,
    )
    from ezvideo_async._policy import PollPolicy, RetryPolicy
    from ezvideo_async._reader import Subscription
    from ezvideo_async._schedule import Scheduler
    from ezvideo_async._watcher import TaskWatcher, WatcherStats
    from ezvideo_async.errors import (
        APIStatusError,
        AuthenticationError,
        BadRequestError,
        BadResponseError,
        ClosedError,
        ConfigError,
        EzVideoError,
        InvalidTaskIdError,
        PermissionDeniedError,
        RateLimitError,
        RequestTimeoutError,
        ServerError,
        TaskFailedError,
        TaskNotFoundError,
        TLSError,
        TransportError,
        WaitTimeoutError,
    )

_HOMES = {
    "_budget": ("RequestBudget",),
    "_client": ("AsyncVideoClient",),
    "_events": (
        "Event",
        "ProgressChanged",
        "StatusChanged",
        "TaskCompleted",
        "TaskEvent",
        "TaskFailed",
        "TaskLost",
        "TaskStalled",
    ),
    "_models": ("TaskError", "TaskStatus", "VideoTask"),
    "_observe": (
        "BreakerClosed",
        "BreakerOpened",
        "CoolDown",
        "Observer",
        "PollDone",
        "PollFailed",
        "RetryDue",
        "Signal",
        "TaskEnded",
    ),
    "_policy": ("PollPolicy", "RetryPolicy"),
    "_reader": ("Subscription",),
    "_schedule": ("Scheduler",),
    "_watcher": ("TaskWatcher", "WatcherStats"),
    "errors": (
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
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "APIStatusError",
    "AsyncVideoClient",
    "AuthenticationError",
    "BadRequestError",
    "BadResponseError",
    "BreakerClosed",
    "BreakerOpened",
    "ClosedError",
    "ConfigError",
    "CoolDown",
    "Event",
    "EzVideoError",
    "InvalidTaskIdError",
    "Observer",
    "PermissionDeniedError",
    "PollDone",
    "PollFailed",
    "PollPolicy",
    "ProgressChanged",
    "RateLimitError",
    "RequestBudget",
    "RequestTimeoutError",
    "RetryDue",
    "RetryPolicy",
    "Scheduler",
    "ServerError",
    "Signal",
    "StatusChanged",
    "Subscription",
    "TLSError",
    "TaskCompleted",
    "TaskEnded",
    "TaskError",
    "TaskEvent",
    "TaskFailed",
    "TaskFailedError",
    "TaskLost",
    "TaskNotFoundError",
    "TaskStalled",
    "TaskStatus",
    "TaskWatcher",
    "TransportError",
    "VideoTask",
    "WaitTimeoutError",
    "WatcherStats",
    "__version__",
]

logging.getLogger("ezvideo_async").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
