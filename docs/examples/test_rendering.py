"""Tests of rendering.py: hours of waiting take milliseconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from ezvideo_async.testing import VirtualClockLoop

from rendering import TIMEOUT, report

if TYPE_CHECKING:
    from ezvideo_async import AsyncVideoClient
    from ezvideo_async.testing import FakeVideoServer

OUTAGE = 300.0  # seconds

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualClockLoop}


async def test_completed_task_is_ready(
    fake_video_server: FakeVideoServer, video_client: AsyncVideoClient
) -> None:
    task_id = fake_video_server.add_task(duration=1200.0)

    assert (await report(video_client, task_id)).startswith("ready: https://")


async def test_outage_is_survived(
    fake_video_server: FakeVideoServer, video_client: AsyncVideoClient
) -> None:
    task_id = fake_video_server.add_task(duration=60.0)
    fake_video_server.fault("503", seconds=OUTAGE)

    assert (await report(video_client, task_id)).startswith("ready: ")
    assert asyncio.get_running_loop().time() > OUTAGE


async def test_failed_task_is_reported(
    fake_video_server: FakeVideoServer, video_client: AsyncVideoClient
) -> None:
    task_id = fake_video_server.add_task(outcome="failed")

    assert (await report(video_client, task_id)).startswith("failed: ")


async def test_timeout_is_reported(
    fake_video_server: FakeVideoServer, video_client: AsyncVideoClient
) -> None:
    task_id = fake_video_server.add_task(outcome="never")

    assert await report(video_client, task_id) == "still running"
    assert asyncio.get_running_loop().time() == TIMEOUT


async def test_finished_task_costs_one_request(
    fake_video_server: FakeVideoServer, video_client: AsyncVideoClient
) -> None:
    task_id = fake_video_server.add_task(duration=0.0)
    await report(video_client, task_id)
    (request,) = fake_video_server.requests(task_id)

    assert request.method == "GET"
    assert request.authorization == "present"
