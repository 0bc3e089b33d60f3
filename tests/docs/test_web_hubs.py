"""The hubs of the web page as real processes: streams, later visitors, and SIGTERM."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from ezvideo_async.testing import FakeVideoServer
from tests.support.web_hubs import HUBS, iter_messages, read_messages, run_hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STOP_LIMIT = 3.0  # seconds after SIGTERM
SPY = """
import sys, video_hub

video_hub.HEARTBEAT = 0.05
messages = video_hub.VideoHub.messages

async def spy(hub, task_id):
    try:
        async for message in messages(hub, task_id):
            yield message
    finally:
        print("STREAM LEFT", file=sys.stderr, flush=True)

video_hub.VideoHub.messages = spy
"""
"""Shortens the heartbeat, and logs the end of a stream."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run in real time: the hub is another process."""
    return "asyncio", {}


@pytest.fixture(params=HUBS)
def name(request: pytest.FixtureRequest) -> str:
    """Name each web framework in turn."""
    framework: str = request.param
    return framework


@pytest.fixture
async def server() -> AsyncIterator[FakeVideoServer]:
    """A server that asks for a short interval."""
    async with FakeVideoServer(dialect="openai") as server:
        yield server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose requests fail when nothing comes for ten seconds."""
    timeout = aiohttp.ClientTimeout(total=60.0, sock_read=10.0)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    """Return the events of messages, without heartbeats."""
    return [message["event"] for message in messages if "event" in message]


async def test_ended_id_costs_no_request(
    name: str, server: FakeVideoServer, session: aiohttp.ClientSession
) -> None:
    """A stream shows the states and ends; later visitors get the result without a request."""
    task_id = server.add_task(outcome="never")
    async with run_hub(name, base_url=server.base_url) as hub:
        url = hub.stream_url(task_id)
        async with session.get(url) as response:
            first = [await anext(iter_messages(response))]
            server.finish(task_id)
            first += await read_messages(response)
        polls = len(server.requests())
        async with session.get(url) as response:
            later = await read_messages(response)
        async with session.get(url, headers={"Last-Event-ID": first[-1]["id"]}) as response:
            reconnected = response.status
        async with session.get(hub.stream_url("%01")) as response:
            invalid = response.status
        seconds = await hub.terminate()

    assert kinds(first)[0] == "status_changed"
    assert kinds(first)[-2:] == kinds(later) == ["task_completed", "end"]
    assert task_id in later[0]["data"]
    assert (reconnected, invalid) == (204, 404)
    assert len(server.requests()) == polls
    assert seconds < STOP_LIMIT
    assert "Traceback" not in hub.log


async def test_open_streams_end_at_sigterm(
    name: str, server: FakeVideoServer, session: aiohttp.ClientSession
) -> None:
    """Heartbeats are sent, a visitor may leave, and SIGTERM ends the process and its streams."""
    task_id = server.add_task(outcome="never")
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(run_hub(name, base_url=server.base_url, before=SPY))
        streams = [
            await stack.enter_async_context(session.get(hub.stream_url(task_id))) for _ in range(3)
        ]
        for stream in streams:
            await first_heartbeat(stream)
        streams[0].close()  # this visitor leaves
        await hub.wait_logged("STREAM LEFT")
        reading = asyncio.gather(*(read_messages(stream) for stream in streams[1:]))
        await asyncio.sleep(0)
        seconds = await hub.terminate()
        rests = await reading

    assert seconds < STOP_LIMIT
    assert ["end" in kinds(rest) for rest in rests] == [False, False]
    assert "Traceback" not in hub.log


async def first_heartbeat(response: aiohttp.ClientResponse) -> None:
    """Read up to the first heartbeat."""
    async for message in iter_messages(response):
        if "comment" in message:
            return


async def test_refused_key_ends_the_streams(name: str, session: aiohttp.ClientSession) -> None:
    """Streams end without the end message when the API key is refused; the next one gets 503."""
    async with (
        FakeVideoServer(api_key="another-key") as server,
        run_hub(name, base_url=server.base_url) as hub,
    ):
        url = hub.stream_url(server.add_task())
        async with session.get(url) as response:
            messages = await read_messages(response)
        async with session.get(url) as response:
            status = response.status
        await hub.terminate()

    assert messages == []
    assert status == 503
    assert "Traceback" not in hub.log
