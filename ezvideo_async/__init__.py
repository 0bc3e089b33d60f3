"""
Asyncio client and watcher for video-generation tasks of OpenAI-compatible servers.

``AsyncVideoClient`` retrieves the state of one task; ``TaskWatcher`` polls thousands of tasks in
one event loop until each one has finished.  Public names are imported on first use, so that
importing this package loads no HTTP library.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ezvideo_async import errors
from ezvideo_async._version import __version__ as __version__
from ezvideo_async.errors import *  # noqa: F403 -- errors.__all__ is their only list

if TYPE_CHECKING:
    from ezvideo_async._client import AsyncVideoClient as AsyncVideoClient
    from ezvideo_async._delivery.subscription import Subscription as Subscription
    from ezvideo_async._domain.events import (
        Event as Event,
        FinalEvent as FinalEvent,
        ProgressChanged as ProgressChanged,
        StatusChanged as StatusChanged,
        TaskCompleted as TaskCompleted,
        TaskEvent as TaskEvent,
        TaskFailed as TaskFailed,
        TaskLost as TaskLost,
        TaskStalled as TaskStalled,
    )
    from ezvideo_async._domain.policies import PollPolicy as PollPolicy, RetryPolicy as RetryPolicy
    from ezvideo_async._domain.task import (
        ErrorInfo as ErrorInfo,
        TaskStatus as TaskStatus,
        VideoTask as VideoTask,
    )
    from ezvideo_async._domain.validation import UNSET as UNSET
    from ezvideo_async._domain.watcher_reports import (
        WatchedTask as WatchedTask,
        WatcherStats as WatcherStats,
    )
    from ezvideo_async._limits.budget import RequestBudget as RequestBudget
    from ezvideo_async._transport.credentials import KeySource as KeySource
    from ezvideo_async._watcher import TaskWatcher as TaskWatcher

_MODULES = {
    "_client": "AsyncVideoClient",
    "_delivery.subscription": "Subscription",
    "_domain.events": "Event FinalEvent ProgressChanged StatusChanged TaskCompleted TaskEvent "
    "TaskFailed TaskLost TaskStalled",
    "_domain.policies": "PollPolicy RetryPolicy",
    "_domain.task": "ErrorInfo TaskStatus VideoTask",
    "_domain.validation": "UNSET",
    "_domain.watcher_reports": "WatchedTask WatcherStats",
    "_limits.budget": "RequestBudget",
    "_transport.credentials": "KeySource",
    "_watcher": "TaskWatcher",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

if not TYPE_CHECKING:  # a type checker takes the imports above, and no computed list
    __all__ = ("__version__", *errors.__all__, *_MODULE_OF)  # noqa: PLE0604 -- all are strings

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
