"""
Watches in forked processes, killed or not.

The parent has imported everything, so that a watch starts without an interpreter's start.  It
has no thread, no event loop and no open store: nothing of it can break in the child.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

import ezvideo_async.store.sqlite  # imported before the fork, as the next one
import ezvideo_async.store.writer  # noqa: F401
from ezvideo_async import PollPolicy, RequestBudget
from ezvideo_async._protocol.messages import Response
from tests.support.clients import make_client
from tests.support.fake_transport import FakeConnection

if TYPE_CHECKING:
    from pathlib import Path

    from ezvideo_async._protocol.messages import Request
    from tests.long.crashes.plan import Plan

_RATE = 5000.0  # requests per second
_LAST_WATCH = 300.0  # seconds
_SLOW_SHARE = 0.5  # of the events that the reader works on
_WORK_MAX = 0.08  # seconds for one of them; a kill usually comes during such work


class _Server:
    """Stands in for ``Transport``; what it shows depends on the plan only."""

    def __init__(self, plan: Plan, life: int) -> None:
        self._plan, self._life = plan, life

    async def send(
        self, request: Request, _api_key: object, **_options: object
    ) -> tuple[Response, FakeConnection]:
        """Respond with the state of the task."""
        await asyncio.sleep(0)
        status = self._plan.status(request.task_id, self._life)
        body = {"id": request.task_id, "status": status, "created_at": 1767225600}
        return Response(status=200, body=json.dumps(body).encode()), FakeConnection()

    async def aclose(self) -> None:
        """Do nothing."""


async def _watch(plan: Plan, folder: Path, life: int) -> None:
    """Write a line for each final event, before the next one is read."""
    is_last = life == plan.kills
    budget = RequestBudget(rate=_RATE, max_in_flight=256)
    policy = PollPolicy(interval=1.0, min_interval=0.1)
    options = {"base_url": "https://api.example.test/v1", "budget": budget}
    lines = os.open(folder / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with make_client(
        "key", transport=_Server(plan, life), rand=random.random, **options
    ) as client:
        store = folder / "watch.db"
        async with client.watch(plan.task_ids, policy=policy, store=store) as watcher:
            async for event in watcher:
                if event.is_final:
                    os.write(lines, f"{life} {event.task_id} {event.kind}\n".encode())
                    if not is_last and random.random() < _SLOW_SHARE:
                        await asyncio.sleep(random.random() * _WORK_MAX)


def _fork(plan: Plan, folder: Path, life: int) -> int:
    sys.stdout.flush()
    process_id = os.fork()
    if process_id:
        return process_id
    code = 1
    try:
        random.seed(f"{plan.seed} {life}")
        asyncio.run(_watch(plan, folder, life))
        code = 0
    except BaseException:  # noqa: BLE001 -- the child must not run the parent's code
        traceback.print_exc()
    finally:
        os._exit(code)


def run_killed(plan: Plan, folder: Path, life: int) -> None:
    """
    Run a watch and kill it.

    Raises:
        RuntimeError: It ended by itself.
    """
    process_id = _fork(plan, folder, life)
    time.sleep(plan.kill_after(life))
    os.kill(process_id, signal.SIGKILL)
    _, status = os.waitpid(process_id, 0)
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise RuntimeError(f"watch {life} ended before it was killed")


def run_to_its_end(plan: Plan, folder: Path) -> None:
    """
    Run the last watch, which must end by itself.

    Raises:
        RuntimeError: It failed, or did not end in time.
    """
    process_id = _fork(plan, folder, plan.kills)
    deadline = time.monotonic() + _LAST_WATCH
    ended, status = 0, 0
    while not ended and time.monotonic() < deadline:
        time.sleep(0.05)
        ended, status = os.waitpid(process_id, os.WNOHANG)
    if not ended:
        os.kill(process_id, signal.SIGKILL)
        os.waitpid(process_id, 0)
    if not ended or status:
        raise RuntimeError("the last watch failed or did not end in time")
