"""``ezvideo serve-fake``: a fake server to try things on."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from typing import TYPE_CHECKING

from ezvideo_async.cli.exit_codes import UsageError, say
from ezvideo_async.cli.formatting import counted
from ezvideo_async.cli.runner import run
from ezvideo_async.testing import FakeVideoServer

if TYPE_CHECKING:
    from argparse import Namespace

_SHOWN = 10  # ids that one line holds
_OUTCOMES = ("completed", "completed", "failed", "completed", "cancelled")
_FIRST, _APART, _LATEST = 20.0, 10.0, 120.0  # seconds until tasks end


def command(args: Namespace) -> int:
    """
    Serve until a signal comes.

    Raises:
        UsageError: There is no such dialect, or the port can't be had.
    """
    try:
        server = FakeVideoServer(dialect=args.dialect, port=args.port)
    except ValueError as error:
        raise UsageError(f"--dialect: {error}") from None
    return run(_serve(server, tasks=args.tasks, dialect=args.dialect), verbose=args.verbose)


async def _serve(server: FakeVideoServer, *, tasks: int, dialect: str) -> int:
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(server)
        except OSError as error:
            raise UsageError(f"the port can't be had: {error.strerror}; try --port 0") from None
        ids = [_add_task(server, number) for number in range(tasks)]
        say(f"ezvideo: a fake {dialect} server with {counted(tasks, 'task')} runs until Ctrl-C")
        say("in another terminal type:")
        print(f"export EZVIDEO_BASE_URL={server.base_url} EZVIDEO_API_KEY=any")
        print(f"ezvideo watch {shlex.join(ids[:_SHOWN])}", flush=True)
        if tasks > _SHOWN:
            say(f"and so on: the last one is {ids[-1]}")
        for_ever: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await for_ever


def _add_task(server: FakeVideoServer, number: int) -> str:
    duration = min(_FIRST + _APART * number, _LATEST)
    return server.add_task(duration=duration, outcome=_OUTCOMES[number % len(_OUTCOMES)])
