"""Conftest for pytest-asyncio in strict mode: the fixtures, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest_asyncio
from ezvideo_async import AsyncVideoClient
from ezvideo_async.testing import FakeVideoServer, VirtualClockLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def pytest_asyncio_loop_factories() -> dict[str, Any]:
    return {"virtual": VirtualClockLoop}


@pytest_asyncio.fixture
async def fake_video_server() -> AsyncIterator[FakeVideoServer]:
    async with FakeVideoServer() as server:
        yield server


@pytest_asyncio.fixture
async def video_client(
    fake_video_server: FakeVideoServer,
) -> AsyncIterator[AsyncVideoClient]:
    base_url = fake_video_server.base_url
    async with AsyncVideoClient("test-key", base_url=base_url) as client:
        yield client
