"""Official OpenAI client against the openai dialect of the fake server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ezvideo_async.testing import FakeVideoServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from openai import AsyncOpenAI

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture
async def server() -> AsyncIterator[FakeVideoServer]:
    """A fake server with the openai dialect and an API key."""
    async with FakeVideoServer(dialect="openai", api_key="test-key", epoch=1_000) as server:
        yield server


@pytest.fixture
async def client(server: FakeVideoServer) -> AsyncIterator[AsyncOpenAI]:
    """The official client, without retries."""
    async with openai.AsyncOpenAI(
        api_key="test-key", base_url=server.base_url, max_retries=0
    ) as client:
        yield client


async def test_retrieve_reads_a_running_task(client: AsyncOpenAI, server: FakeVideoServer) -> None:
    """The client reads the fields of a running task."""
    task_id = server.add_task(duration=60.0)
    await asyncio.sleep(30.0)
    video = await client.videos.retrieve(task_id)

    assert (video.id, video.status, video.progress) == (task_id, "in_progress", 50)
    assert (video.created_at, video.completed_at, video.error) == (1_000, None, None)


async def test_poll_uses_the_interval_of_the_server(
    client: AsyncOpenAI, server: FakeVideoServer
) -> None:
    """The client polls at the interval of ``openai-poll-after-ms`` until the task completes."""
    task_id = server.add_task(duration=60.0)
    video = await client.videos.poll(task_id)

    assert (video.status, video.completed_at) == ("completed", 1_060)
    assert [record.at for record in server.requests(task_id)] == [2.5 * n for n in range(25)]


async def test_poll_returns_a_failed_task_with_its_error(
    client: AsyncOpenAI, server: FakeVideoServer
) -> None:
    """The client returns a failed task with its error code."""
    video = await client.videos.poll(server.add_task(duration=10.0, outcome="failed"))

    assert video.status == "failed"
    assert video.error is not None
    assert video.error.code == "content_policy_violation"


async def test_errors_raise_the_exceptions_of_the_client(
    client: AsyncOpenAI, server: FakeVideoServer
) -> None:
    """An unknown id raises NotFoundError, a wrong API key AuthenticationError."""
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.videos.retrieve("video_nope")
    with pytest.raises(openai.AuthenticationError) as refused:
        await client.with_options(api_key="wrong").videos.retrieve("video_nope")

    assert unknown.value.request_id == "req_000001"
    assert refused.value.code == "invalid_api_key"
