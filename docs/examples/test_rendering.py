"""Its tests: hours pass in milliseconds, and trouble comes when it is called."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from ezvideo_async.testing import VirtualClockLoop

from rendering import PATIENCE, rendered

if TYPE_CHECKING:
    from ezvideo_async import AsyncVideoClient
    from ezvideo_async.testing import FakeVideoServer

OUTAGE = 300.0  # seconds

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualClockLoop}


async def test_ready(
    fake_video_server: FakeVideoServer, video_client: AsyncVideoClient
) -> None:
    task_id = fake_video_server.add_task(duration=1200.0)

    assert (await rendered(video_client, task_id)).startswith("ready: https://")


async def test_outage(
    fake_video_server: FakeVideoServer, video_client: AsyncVideoClient
) -> None:
    task_id = fake_video_server.add_task(duration=60.0)
    fake_video_server.fault("503", seconds=OUTAGE)

    assert (await rendered(video_client, task_id)).startswith("ready: ")
    assert asyncio.get_running_loop().time() > OUTAGE


async def test_refused(
    fake_video_server: FakeVideoServer, video_client: AsyncVideoClient
) -> None:
    task_id = fake_video_server.add_task(outcome="failed")

    assert (await rendered(video_client, task_id)).startswith("failed: ")


async def test_too_long(
    fake_video_server: FakeVideoServer, video_client: AsyncVideoClient
) -> None:
    task_id = fake_video_server.add_task(outcome="never")

    assert (
        await rendered(video_client, task_id) == "still running, asked again tonight"
    )
    assert asyncio.get_running_loop().time() == PATIENCE


async def test_requests(
    fake_video_server: FakeVideoServer, video_client: AsyncVideoClient
) -> None:
    task_id = fake_video_server.add_task(duration=0.0)
    await rendered(video_client, task_id)
    (request,) = fake_video_server.requests(task_id)

    assert request.method == "GET"
    assert request.authorization == "present"
