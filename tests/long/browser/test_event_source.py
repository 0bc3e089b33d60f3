"""A browser's EventSource against the hubs of the web page; `nox -s browser`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ezvideo_async.testing import FakeVideoServer
from tests.long.browser.chromium import Page, run_chromium
from tests.support.web_hubs import DURABLE_HUB, HUBS, free_port, run_hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.support.web_hubs import HubProcess

STOP_LIMIT = 3.0  # seconds after SIGTERM
KINDS = ["status_changed", "progress_changed", "task_completed", "end"]
LISTEN = """
var source = new EventSource(%s), seen = [], errors = 0;
for (const kind of %s) source.addEventListener(kind, () => seen.push(kind));
source.addEventListener("error", () => errors += 1);
"""
COUNT_FINISHED = """
var source = new EventSource(%s), connections = 0, repeats = 0;
var finished = new Set(), onThisConnection = new Set();
source.addEventListener("open", () => { connections += 1; onThisConnection = new Set(); });
source.addEventListener("task_completed", (message) => {
  const id = JSON.parse(message.data).task_id;
  repeats += onThisConnection.has(id);
  onThisConnection.add(id);
  finished.add(id);
});
"""
CLOSE_AT_THE_END = 'source.addEventListener("end", () => source.close());'
CLOSED = "source.readyState == EventSource.CLOSED"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run in real time: hub and browser are other processes."""
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
async def page() -> AsyncIterator[Page]:
    """A page of a browser of its own."""
    async with run_chromium() as page:
        yield page


def listen(url: str) -> str:
    """Return the JavaScript that opens an event source and records its events."""
    return LISTEN % (json.dumps(url), json.dumps(KINDS))


async def test_page_gets_states_and_the_end(name: str, server: FakeVideoServer, page: Page) -> None:
    """A page that closes at the end message gets the states once, and connects once."""
    task_id = server.add_task(outcome="never")
    async with run_hub(name, base_url=server.base_url) as hub:
        await page.open(hub.origin)
        await page.run(listen(hub.stream_url(task_id)) + CLOSE_AT_THE_END)
        await page.wait_until('seen.includes("status_changed")')
        server.finish(task_id)
        await page.wait_until(CLOSED)
        seen, errors = await page.run("[seen, errors]")
        await hub.terminate()

    assert [seen[0], *seen[-2:]] == ["status_changed", "task_completed", "end"]
    assert errors == 0


async def test_page_that_never_closes_is_stopped_by_204(
    name: str, server: FakeVideoServer, page: Page
) -> None:
    """A page without a handler of the end message reconnects once, and costs no request."""
    task_id = server.add_task(duration=0.0)
    async with run_hub(name, base_url=server.base_url) as hub:
        await page.open(hub.origin)
        await page.run(listen(hub.stream_url(task_id)))
        await page.wait_until(CLOSED)
        seen, errors = await page.run("[seen, errors]")
        await hub.terminate()

    assert seen == ["task_completed", "end"]
    assert errors == 2  # the end of the stream, and the 204
    assert len(server.requests()) == 1


async def test_page_survives_a_restart(name: str, server: FakeVideoServer, page: Page) -> None:
    """SIGTERM stops a hub with an open page; the page reconnects to the next hub by itself."""
    task_id, port = server.add_task(outcome="never"), free_port()
    async with run_hub(name, base_url=server.base_url, port=port) as hub:
        await page.open(hub.origin)
        await page.run(listen(hub.stream_url(task_id)))
        await page.wait_until("seen.length > 0")
        seconds = await hub.terminate()
    server.finish(task_id)
    async with run_hub(name, base_url=server.base_url, port=port) as hub:
        await page.wait_until(CLOSED)
        seen = await page.run("seen")
        await hub.terminate()

    assert seconds < STOP_LIMIT
    assert seen[-2:] == ["task_completed", "end"]
    assert "Traceback" not in hub.log


async def test_page_gets_all_tasks_of_a_hub_that_is_restarted(
    server: FakeVideoServer, page: Page, tmp_path: Path
) -> None:
    """A page with 200 tasks gets each final state, once a connection, over SIGTERM and SIGKILL."""
    ids = [server.add_task(f"v{number:03}", outcome="never") for number in range(200)]
    port = free_port()
    url = f"http://127.0.0.1:{port}/videos?id={'&id='.join(ids)}"

    def start() -> AbstractAsyncContextManager[HubProcess]:
        return run_hub(DURABLE_HUB, base_url=server.base_url, port=port, folder=tmp_path)

    async with start() as hub:
        await page.open(hub.origin)
        await page.run(COUNT_FINISHED % json.dumps(url) + CLOSE_AT_THE_END)
        await page.wait_until("connections > 0")
        finish(server, ids[:60])
        await page.wait_until("finished.size >= 30")
        seconds = await hub.terminate()
    finish(server, ids[60:80])  # while it is down
    async with start() as hub:
        await page.wait_until("finished.size >= 80")
        finish(server, ids[80:140])
        await page.wait_until("finished.size >= 100")
        await hub.kill()
    finish(server, ids[140:])
    async with start() as hub:
        await page.wait_until(CLOSED)
        size, repeats, connections = await page.run("[finished.size, repeats, connections]")
        await hub.terminate()

    assert seconds < STOP_LIMIT
    assert (size, repeats) == (200, 0)
    assert connections >= 3
    assert "Traceback" not in hub.log


def finish(server: FakeVideoServer, task_ids: list[str]) -> None:
    """Complete tasks now."""
    for task_id in task_ids:
        server.finish(task_id)
