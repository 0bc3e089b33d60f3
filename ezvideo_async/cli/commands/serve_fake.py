"""The ``ezvideo serve-fake`` command: a fake server for experiments."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from typing import TYPE_CHECKING

from ezvideo_async.cli.exit_codes import UsageError
from ezvideo_async.cli.formatting import count_text
from ezvideo_async.cli.output import print_error, print_message
from ezvideo_async.cli.runner import run
from ezvideo_async.testing import FakeVideoServer

if TYPE_CHECKING:
    from argparse import Namespace

_MAX_IDS = 10  # in the printed command
_OUTCOMES = ("completed", "completed", "failed", "completed", "cancelled")
_FIRST_DURATION, _DURATION_STEP, _MAX_DURATION = 20.0, 10.0, 120.0  # seconds


def command(args: Namespace) -> int:
    """
    Serve until a signal arrives.

    Raises:
        UsageError: The port cannot be opened.
    """
    server = FakeVideoServer(dialect=args.dialect, port=args.port)
    return run(_serve(server, tasks=args.tasks, dialect=args.dialect), verbose=args.verbose)


async def _serve(server: FakeVideoServer, *, tasks: int, dialect: str) -> int:
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(server)
        except OSError as error:
            raise UsageError(f"cannot open the port: {error.strerror}; try --port 0") from None
        ids = [_add_task(server, number) for number in range(tasks)]
        print_error(f"fake {dialect} server with {count_text(tasks, 'task')}; Ctrl-C stops it")
        print_message("in another terminal run:")
        print(f"export EZVIDEO_BASE_URL={server.base_url} EZVIDEO_API_KEY=any")
        print(f"ezvideo watch {shlex.join(ids[:_MAX_IDS])}", flush=True)
        if tasks > _MAX_IDS:
            print_message(f"(the first {_MAX_IDS} of {tasks:,} ids; the last one is {ids[-1]})")
        forever: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await forever


def _add_task(server: FakeVideoServer, number: int) -> str:
    duration = min(_FIRST_DURATION + _DURATION_STEP * number, _MAX_DURATION)
    return server.add_task(duration=duration, outcome=_OUTCOMES[number % len(_OUTCOMES)])
