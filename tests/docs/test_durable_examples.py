"""The durable examples as real processes: each is killed in the middle, and resumes."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from ezvideo_async.store import read_store
from ezvideo_async.testing import FakeVideoServer
from tests.support.web_hubs import DURABLE_HUB, EXAMPLES, free_port, iter_messages, run_hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.web_hubs import HubProcess

LIMIT = 60.0  # seconds, for a slow machine
STOP_LIMIT = 3.0  # seconds after SIGTERM


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run in real time: the examples are other processes."""
    return "asyncio", {}


@pytest.fixture
async def server() -> AsyncIterator[FakeVideoServer]:
    """A server that asks for a short interval."""
    async with FakeVideoServer(dialect="openai") as server:
        yield server


# --- programs ---------------------------------------------------------------------------------


class Program:
    """A running example that prints one ``dedup_key`` a line, with its first words."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read(self, count: int | None = None) -> list[str]:
        """Return the next keys, or all up to the end of the output."""
        assert self._process.stdout is not None
        keys: list[str] = []
        async with asyncio.timeout(LIMIT):
            while len(keys) != count and (line := await self._process.stdout.readline()):
                keys.append(line.split()[0].decode())
        return keys

    async def kill(self) -> list[str]:
        """Send SIGKILL; return what it had printed before."""
        self._process.kill()
        return await self.read()

    async def end(self) -> list[str]:
        """Return what it prints up to its end, which is no error."""
        keys = await self.read()
        assert await self._process.wait() == 0
        return keys


@asynccontextmanager
async def run_example(
    name: str, *arguments: str, server: FakeVideoServer, folder: Path, ids: list[str] | None = None
) -> AsyncIterator[Program]:
    """Run an example in *folder*; *ids* are its input."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(EXAMPLES / name), *arguments),
        env={
            **os.environ,
            "EZVIDEO_API_KEY": "test-key",
            "EZVIDEO_BASE_URL": server.base_url,
            "PYTHONPATH": str(EXAMPLES.parents[1]),
        },
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.write("\n".join(ids or []).encode())
        process.stdin.close()
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def stored_ids(folder: Path, pattern: str) -> list[str]:
    """Return the ids of all files of a pattern."""
    return [task.task_id for path in folder.glob(pattern) for task in read_store(path)]


def finish(server: FakeVideoServer, task_ids: list[str]) -> None:
    """Complete tasks now."""
    for task_id in task_ids:
        server.finish(task_id)


@pytest.mark.parametrize("with_ids", [True, False], ids=["the same command", "without ids"])
async def test_batch_resumes_after_a_kill(
    server: FakeVideoServer, tmp_path: Path, *, with_ids: bool
) -> None:
    """A killed batch prints each final event, and none twice but the one before the kill."""
    ids = [server.add_task(outcome="never") for _ in range(20)]
    async with run_example("durable_batch.py", *ids, server=server, folder=tmp_path) as batch:
        finish(server, ids[:10])
        before = await batch.read(5)
        before += await batch.kill()
    finish(server, ids[10:])
    again = ids if with_ids else []
    async with run_example("durable_batch.py", *again, server=server, folder=tmp_path) as batch:
        after = await batch.end()

    assert {*before, *after} == {f"{task_id}:task_completed" for task_id in ids}
    assert len(before) + len(after) <= len(ids) + 1
    assert {*before} & {*after} <= {before[-1]}
    assert read_store(tmp_path / "watch.db") == []


async def test_worker_resumes_after_a_kill(server: FakeVideoServer, tmp_path: Path) -> None:
    """Two workers share the ids; the one that is killed continues with its own."""
    ids = [server.add_task(outcome="never") for _ in range(20)]
    worker = "sharded_worker.py"
    async with run_example(worker, "1", "2", server=server, folder=tmp_path, ids=ids) as other:
        async with run_example(worker, "0", "2", server=server, folder=tmp_path, ids=ids) as first:
            finish(server, ids[:10])
            before = await first.read(1)
            before += await first.kill()
        finish(server, ids[10:])
        async with run_example(worker, "0", "2", server=server, folder=tmp_path, ids=ids) as first:
            after = await first.end()
        others = await other.end()

    assert {*before, *after} | {*others} == {f"{task_id}:task_completed" for task_id in ids}
    assert not {*before, *after} & {*others}
    assert {*before} & {*after} <= {before[-1]}


async def test_workers_of_another_count_get_the_stored_ids(
    server: FakeVideoServer, tmp_path: Path
) -> None:
    """The ids of all files, shared among another number of workers, are finished by these."""
    ids = [server.add_task(outcome="never") for _ in range(20)]
    worker = "sharded_worker.py"
    done: list[str] = []
    for index in "01":
        async with run_example(worker, index, "2", server=server, folder=tmp_path, ids=ids) as old:
            if index == "0":
                finish(server, ids[:10])
            done += await old.read(1)
            done += await old.kill()
    stored = stored_ids(tmp_path, "watch-*-of-2.db")
    finish(server, ids[10:])
    for index in "012":
        async with run_example(
            worker, index, "3", server=server, folder=tmp_path, ids=stored
        ) as new:
            done += await new.end()

    assert {*done} == {f"{task_id}:task_completed" for task_id in ids}


# --- the hub ----------------------------------------------------------------------------------


class Browser:
    """
    A page that reads one stream of many tasks, and reconnects as an ``EventSource`` does.

    Attributes:
        connections: The ids with a final event, per connection, in order.
        is_ended: Whether the end message came.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._changed = asyncio.Event()
        self.connections: list[list[str]] = []
        self.is_ended = False

    @property
    def finished(self) -> set[str]:
        """The ids with a final event on any connection."""
        return {task_id for connection in self.connections for task_id in connection}

    async def run(self) -> None:
        """Read until the end message."""
        while not self.is_ended:
            try:
                async with self._session.get(self._url) as response:
                    assert response.status in {200, 503}
                    await self._read(response)
            except aiohttp.ClientError:
                pass  # the hub is down or was killed
            await asyncio.sleep(0.2)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        finished: list[str] = []
        self.connections.append(finished)
        async for message in iter_messages(response):
            kind = message.get("event", "")
            if kind in {"task_completed", "task_failed", "task_lost"}:
                finished.append(message["data"].split('"task_id": "')[1].split('"')[0])
                self._changed.set()
            self.is_ended = self.is_ended or kind == "end"

    async def wait_finished(self, count: int) -> None:
        """Wait until so many ids have had a final event."""
        async with asyncio.timeout(LIMIT):
            while len(self.finished) < count:
                self._changed.clear()
                await self._changed.wait()


async def post_all(session: aiohttp.ClientSession, hub: HubProcess, ids: list[str]) -> None:
    """Add the ids; the hub has them on disk then."""
    for task_id in ids:
        async with session.post(f"{hub.origin}/videos/{task_id}") as response:
            assert response.status == 202


async def test_hub_restarted_in_the_middle_delivers_every_final_state(
    server: FakeVideoServer, tmp_path: Path
) -> None:
    """SIGTERM and SIGKILL in the middle of 200 tasks: all reach a page, none twice on a stream."""
    ids = [server.add_task(f"v{number:03}", outcome="never") for number in range(200)]
    port = free_port()
    timeout = aiohttp.ClientTimeout(total=LIMIT)
    logs: list[str] = []
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:

        def start() -> Any:
            return run_hub(DURABLE_HUB, base_url=server.base_url, port=port, folder=tmp_path)

        async with start() as hub:
            await post_all(session, hub, ids)
            page = Browser(session, f"{hub.origin}/videos?id={'&id='.join(ids)}")
            reading = tasks.create_task(page.run())
            finish(server, ids[:60])
            await page.wait_finished(30)
            seconds = await hub.terminate()
            logs.append(hub.log)
        finish(server, ids[60:80])  # while it is down
        async with start() as hub:
            await page.wait_finished(80)
            finish(server, ids[80:140])
            await page.wait_finished(100)
            await hub.kill()
        stored = {task.task_id for task in read_store(tmp_path / "hub.db")}
        finish(server, ids[140:])
        async with start() as hub:
            async with asyncio.timeout(LIMIT):
                await reading
            await hub.terminate()
            logs.append(hub.log)

    assert seconds < STOP_LIMIT
    assert stored >= {*ids[140:]}
    assert page.finished == {*ids}
    assert len(page.connections) >= 3
    assert [len(each) for each in page.connections] == [len({*each}) for each in page.connections]
    assert not any("Traceback" in log for log in logs)
    assert read_store(tmp_path / "hub.db") == []


async def wait_polled(server: FakeVideoServer, task_id: str, *, more_than: int) -> None:
    """Wait until a task was polled more than so many times."""
    for _ in range(1000):
        if len(server.requests(task_id)) > more_than:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"{task_id} is not polled")


async def test_hub_polls_stored_tasks_without_a_visitor(
    server: FakeVideoServer, tmp_path: Path
) -> None:
    """After a kill the hub finishes the ids of its file before anybody asks for them."""
    ids = [server.add_task(outcome="never") for _ in range(20)]
    async with aiohttp.ClientSession() as session:
        async with run_hub(DURABLE_HUB, base_url=server.base_url, folder=tmp_path) as hub:
            await post_all(session, hub, ids)
            await hub.kill()
        finish(server, ids)
        polls = {task_id: len(server.requests(task_id)) for task_id in ids}
        async with run_hub(DURABLE_HUB, base_url=server.base_url, folder=tmp_path) as hub:
            for task_id in ids:
                await wait_polled(server, task_id, more_than=polls[task_id])
            await hub.terminate()

    assert read_store(tmp_path / "hub.db") == []
