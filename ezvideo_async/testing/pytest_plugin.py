"""
Fixtures for pytest, registered by installing the package.

Only pytest is imported at the top: every test run of everybody who has the package installed
loads this module.

The fixtures are asynchronous generators, so an asynchronous plugin must run them: anyio's (tests
marked ``anyio``, or ``anyio_mode = "auto"``), or pytest-asyncio in its auto mode.  With
``VirtualClockLoop`` as the loop, tasks that take an hour end in milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ezvideo_async import AsyncVideoClient
    from ezvideo_async.testing import FakeVideoServer


@pytest.fixture
async def fake_video_server() -> AsyncIterator[FakeVideoServer]:
    """Give a running ``FakeVideoServer`` without tasks, which speaks as the API document."""
    from ezvideo_async.testing import FakeVideoServer  # noqa: PLC0415 -- see the module docstring

    async with FakeVideoServer() as server:
        yield server


@pytest.fixture
async def video_client(fake_video_server: FakeVideoServer) -> AsyncIterator[AsyncVideoClient]:
    """Give an entered ``AsyncVideoClient`` whose server is ``fake_video_server``."""
    from ezvideo_async import AsyncVideoClient  # noqa: PLC0415 -- see the module docstring

    base_url = fake_video_server.base_url
    async with AsyncVideoClient(api_key="test-key", base_url=base_url) as client:
        yield client
