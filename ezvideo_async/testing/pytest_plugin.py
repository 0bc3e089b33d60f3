"""
Pytest plugin with a fake server and a client as fixtures, registered by installing the package.

Every test run loads this module, so it imports only pytest at the top.

The fixtures are asynchronous generators and need an asynchronous pytest plugin: anyio's (tests
marked ``anyio``, or ``anyio_mode = "auto"``) or pytest-asyncio in its auto mode.  With
``VirtualClockLoop`` as the loop, a task of an hour finishes in milliseconds.
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
    """Provide a running ``FakeVideoServer`` without tasks, in the dialect of the API document."""
    from ezvideo_async.testing import FakeVideoServer  # noqa: PLC0415 -- see the module docstring

    async with FakeVideoServer() as server:
        yield server


@pytest.fixture
async def video_client(fake_video_server: FakeVideoServer) -> AsyncIterator[AsyncVideoClient]:
    """Provide an ``AsyncVideoClient`` of ``fake_video_server``."""
    from ezvideo_async import AsyncVideoClient  # noqa: PLC0415 -- see the module docstring

    base_url = fake_video_server.base_url
    async with AsyncVideoClient(api_key="test-key", base_url=base_url) as client:
        yield client
