"""
What tests of programs that watch video tasks need: a fake server and a virtual clock.

Importing this package loads neither aiohttp nor pytest; each name loads its module on
first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezvideo_async.testing.fake_server import FakeVideoServer
    from ezvideo_async.testing.fake_tasks import FakeTaskState
    from ezvideo_async.testing.request_log import RequestRecord
    from ezvideo_async.testing.virtual_clock import VirtualClockLoop

__all__ = ["FakeTaskState", "FakeVideoServer", "RequestRecord", "VirtualClockLoop"]

_HOMES = {
    "FakeTaskState": "ezvideo_async.testing.fake_tasks",
    "FakeVideoServer": "ezvideo_async.testing.fake_server",
    "RequestRecord": "ezvideo_async.testing.request_log",
    "VirtualClockLoop": "ezvideo_async.testing.virtual_clock",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
