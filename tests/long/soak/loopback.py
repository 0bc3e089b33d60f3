"""
Soak: 2,000 tasks at any moment, renewed as they end, one request in twenty in trouble.

``python -m tests.long.soak.loopback [minutes] [seed]``, 30 minutes unless told otherwise, over real
sockets to a server in another process, in real time.  A line a minute tells how it goes.  At the
end every ending that the server showed must have been told once and rightly, the client's count
of requests must be the server's, and memory, open files and tasks must not grow; else the exit
code is 1, and the last lines name what is wrong.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from typing import Any

from ezvideo_async import AsyncVideoClient, RequestBudget, TaskWatcher
from ezvideo_async._limits.budget import rate_limiter_of
from tests.long.soak.server import serve
from tests.long.soak.vitals import Vitals

ALIVE = 2000
RATE = 800.0  # twice the steady load: it may catch up after a cool-down
PATIENCE = 5.0  # seconds for one request
SAMPLE_EVERY = 10.0  # seconds
LAST_ENDINGS = 180.0  # seconds: backoff of a minute, three looks for a task that vanished


class Control:
    """The line to the server's books."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()

    async def ask(self, *words: Any) -> Any:
        """Say one thing, and hear what comes of it."""
        async with self._turn:
            self._writer.write(json.dumps(words).encode() + b"\n")
            return json.loads(await self._reader.readline())

    def close(self) -> None:
        """End the server."""
        self._writer.close()


async def read(watcher: TaskWatcher, control: Control) -> None:
    """Tell every ending to the books, and watch the tasks that take their places."""
    told: list[list[Any]] = []
    async for event in watcher:
        if event.is_final:
            told.append([event.task_id, event.tag, event.kind])
        if told and not watcher.stats.unread:  # one line for all that is there
            successors, told = await control.ask("told", *told), []
            for task_id, generation in filter(None, successors):
                watcher.add(task_id, tag=generation, restart_ended=True)


async def tell(
    vitals: Vitals, watcher: TaskWatcher, client: AsyncVideoClient, control: Control
) -> None:
    """Take a sample every ten seconds, and print a line every minute."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        await asyncio.sleep(SAMPLE_EVERY)
        sample = vitals.take(loop.time() - began)
        if len(vitals.samples) % 6 == 0:
            stats, server = watcher.stats, await control.ask("figures")
            ended = stats.completed + stats.failed + stats.lost
            print(
                f"{sample.at / 60:4.0f} min: {stats.open:,} open, {ended:,} ended"
                f" ({stats.lost:,} lost), {client.requests_sent:,} requests,"
                f" {100 * server['faults'] / server['requests']:.1f} % in trouble;"
                f" {sample.memory / 1024:.1f} MiB, {sample.files} files, {sample.tasks} tasks",
                flush=True,
            )


async def watch(base_url: str, control: Control, minutes: float) -> list[str]:
    """Watch for so long, let everything end, and name what is wrong."""
    vitals = Vitals()
    async with (
        AsyncVideoClient(
            "key", base_url=base_url, budget=RequestBudget(rate=RATE), request_timeout=PATIENCE
        ) as client,
        client.watch(retain_ended=30.0) as watcher,
    ):
        for _ in range(ALIVE):
            task_id, generation = await control.ask("add")
            watcher.add(task_id, tag=generation)
        reading = asyncio.create_task(read(watcher, control))
        telling = asyncio.create_task(tell(vitals, watcher, client, control))
        await asyncio.wait([reading, telling], timeout=60 * minutes, return_when="FIRST_COMPLETED")
        await stopped(telling)
        await control.ask("calm")
        watcher.finish_adding()
        done, _ = await asyncio.wait([reading], timeout=LAST_ENDINGS)
        await stopped(reading)
        report = await control.ask("report")
        sent, left = client.requests_sent, watcher.stats.open
        paused = rate_limiter_of(client.budget).pauses
    print(json.dumps(report, indent=1))
    print(
        f"requests: client {sent:,}, server {report['requests']:,}; {paused} cool-downs and outages"
    )
    print(f"second half: {vitals.summary()}")
    breaches = [f"{report[name]} endings {name}" for name in ("lost", "doubled") if report[name]]
    breaches += [f"{count} {what}" for what, count in report["wrong"].items()]
    if not done:
        breaches.append(f"{left} tasks had no ending within {LAST_ENDINGS:.0f} s")
    if sent != report["requests"]:
        breaches.append(f"the client counted {sent - report['requests']:+} requests")
    return [*breaches, *vitals.growths()]


async def stopped(task: asyncio.Task[None]) -> None:
    """Cancel a task unless it is done; what it raised is raised."""
    if not task.done():
        task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def soak(minutes: float, seed: int) -> list[str]:
    """Start the server, watch, and name what is wrong."""
    command = [sys.executable, "-m", "tests.long.soak.loopback", "--serve", str(seed)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    port, control_port = map(int, (await process.stdout.readline()).split())
    control = Control(*await asyncio.open_connection("127.0.0.1", control_port))
    try:
        return await watch(f"http://127.0.0.1:{port}/v1", control, minutes)
    finally:
        control.close()
        await process.wait()


def main() -> None:
    """Run one of the two sides."""
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(int(sys.argv[2])))
        return
    minutes = max(1.0, float(sys.argv[1])) if len(sys.argv) > 1 else 30.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    logging.getLogger("ezvideo_async").setLevel(logging.ERROR)  # every cool-down is a warning
    print(f"{ALIVE:,} tasks for {minutes:g} minutes, seed {seed}", flush=True)
    breaches = asyncio.run(soak(minutes, seed))
    for breach in breaches:
        print("BREACH:", breach)
    print("failed" if breaches else "passed")
    sys.exit(bool(breaches))


if __name__ == "__main__":
    main()
