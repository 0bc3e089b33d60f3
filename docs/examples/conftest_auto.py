"""Conftest for pytest-asyncio in auto mode: tests run in virtual time."""

from __future__ import annotations

from typing import Any

from ezvideo_async.testing import VirtualClockLoop


def pytest_asyncio_loop_factories() -> dict[str, Any]:
    return {"virtual": VirtualClockLoop}
