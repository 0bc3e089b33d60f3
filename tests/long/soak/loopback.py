"""
Soak test over real sockets: 2,000 tasks at any moment, a fault in one request of twenty.

``python -m tests.long.soak.loopback [minutes] [seed]`` runs for 30 minutes by default, in real
time, with the server in another process, and prints a line every minute.  Every end that the
server showed must have been delivered once and correctly, client and server must count the same
requests, and memory, open files and tasks must not grow; else the exit code is 1, and the last
lines name what is wrong.
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
REQUEST_TIMEOUT = 5.0  # seconds
SAMPLE_EVERY = 10.0  # seconds
LAST_ENDS = 180.0  # seconds: backoff of a minute, three polls of a task that vanished


class Control:
    """The control connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._lock = asyncio.Lock()

    async def ask(self, *words: Any) -> Any:
        """Send a message and return the reply."""
        async with self._lock:
            self._writer.write(json.dumps(words).encode() + b"\n")
            return json.loads(await self._reader.readline())

    def close(self) -> None:
        """End the server."""
        self._writer.close()


async def read(watcher: TaskWatcher, control: Control) -> None:
    """Report every final event to the server, and watch the tasks that replace the ended ones."""
    finals: list[list[Any]] = []
    async for event in watcher:
        if event.is_final:
            finals.append([event.task_id, event.tag, event.kind])
        if finals and not watcher.stats.unread:  # one message for all of them
            successors, finals = await control.ask("delivered", *finals), []
            for task_id, generation in filter(None, successors):
                watcher.add(task_id, tag=generation, restart_ended=True)


async def sample(
    vitals: Vitals, watcher: TaskWatcher, client: AsyncVideoClient, control: Control
) -> None:
    """Take a sample every ten seconds, and print a line every minute."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        await asyncio.sleep(SAMPLE_EVERY)
        taken = vitals.take(loop.time() - began)
        if len(vitals.samples) % 6 == 0:
            stats, server = watcher.stats, await control.ask("figures")
            ended = stats.completed + stats.failed + stats.lost
            print(
                f"{taken.at / 60:4.0f} min: {stats.open:,} open, {ended:,} ended"
                f" ({stats.lost:,} lost), {client.requests_sent:,} requests,"
                f" {100 * server['faults'] / server['requests']:.1f} % faults;"
                f" {taken.memory / 1024:.1f} MiB, {taken.files} files, {taken.tasks} tasks",
                flush=True,
            )


async def watch(base_url: str, control: Control, minutes: float) -> list[str]:
    """Watch for *minutes*, let every task end, and return what is wrong."""
    vitals = Vitals()
    async with (
        AsyncVideoClient(
            "key",
            base_url=base_url,
            budget=RequestBudget(rate=RATE),
            request_timeout=REQUEST_TIMEOUT,
        ) as client,
        client.watch(retain_ended=30.0) as watcher,
    ):
        for _ in range(ALIVE):
            task_id, generation = await control.ask("add")
            watcher.add(task_id, tag=generation, restart_ended=True)
        reading = asyncio.create_task(read(watcher, control))
        sampling = asyncio.create_task(sample(vitals, watcher, client, control))
        await asyncio.wait([reading, sampling], timeout=60 * minutes, return_when="FIRST_COMPLETED")
        await stopped(sampling)
        await control.ask("finish")
        watcher.finish_adding()
        done, _ = await asyncio.wait([reading], timeout=LAST_ENDS)
        await stopped(reading)
        report = await control.ask("report")
        cool_downs = rate_limiter_of(client.budget).pauses
        sent, left = client.requests_sent, watcher.stats.open
    print(json.dumps(report, indent=1))
    print(
        f"requests: client {sent:,}, server {report['requests']:,};"
        f" {cool_downs} cool-downs and outages"
    )
    print(f"second half: {vitals.summary()}")
    breaches = [f"{report[name]} ends {name}" for name in ("lost", "doubled") if report[name]]
    breaches += [f"{count} {what}" for what, count in report["wrong"].items()]
    if not done:
        breaches.append(f"{left} tasks had no final event within {LAST_ENDS:.0f} s")
    if sent != report["requests"]:
        breaches.append(f"the client counted {sent - report['requests']:+} requests")
    return [*breaches, *vitals.growths()]


async def stopped(task: asyncio.Task[None]) -> None:
    """Cancel a task unless it is done; raise its error."""
    if not task.done():
        task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def soak(minutes: float, seed: int) -> list[str]:
    """Start the server, watch, and return what is wrong."""
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
    """Run the watcher, or with ``--serve`` the server."""
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
