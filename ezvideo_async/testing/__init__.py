"""
Fake video-task server, virtual clock and pytest fixtures for tests of your code.

Importing this package loads neither aiohttp nor pytest; each name loads its module on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezvideo_async.testing.fake_server import FakeVideoServer as FakeVideoServer
    from ezvideo_async.testing.fake_tasks import FakeTaskState as FakeTaskState
    from ezvideo_async.testing.memory_store import MemoryStore as MemoryStore
    from ezvideo_async.testing.request_log import RequestRecord as RequestRecord
    from ezvideo_async.testing.virtual_clock import VirtualClockLoop as VirtualClockLoop

_MODULE_OF = {
    "FakeTaskState": "fake_tasks",
    "FakeVideoServer": "fake_server",
    "MemoryStore": "memory_store",
    "RequestRecord": "request_log",
    "VirtualClockLoop": "virtual_clock",
}

if not TYPE_CHECKING:  # a type checker reads the imports above, and no computed list
    __all__ = [*_MODULE_OF]  # noqa: PLE0604 -- all are strings


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
