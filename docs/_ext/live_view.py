"""
Picture of the live view, drawn from the events of `ezvideo demo` in virtual time.

Run it to write `docs/live-view.svg`: `python docs/_ext/live_view.py`.
"""

from __future__ import annotations

import asyncio
import io
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.terminal_theme import TerminalTheme

from ezvideo_async import AsyncVideoClient, PollPolicy
from ezvideo_async.cli.commands.demo import _add_tasks
from ezvideo_async.cli.live_view import draw_frame
from ezvideo_async.cli.summary import Summary
from ezvideo_async.testing import FakeVideoServer, VirtualClockLoop

if TYPE_CHECKING:
    from ezvideo_async import Event, TaskWatcher

PICTURE = Path(__file__).parents[1] / "live-view.svg"
TASKS, SECONDS, INTERVAL = 200, 20.0, 1.43  # as in the demo
SHOWN_AT, RATE_SPAN = 13.75, 5.0  # seconds after the start; over which the rate is measured
ROWS, WIDTH = 10, 84

BACKGROUND, FOREGROUND = (24, 27, 33), (215, 219, 224)
RED, GREEN, YELLOW = (240, 113, 120), (126, 200, 105), (232, 191, 106)
BLUE, MAGENTA, CYAN = (97, 175, 239), (209, 145, 224), (86, 200, 212)
GREY = (75, 82, 99)
THEME = TerminalTheme(
    background=BACKGROUND,
    foreground=FOREGROUND,
    normal=[BACKGROUND, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, FOREGROUND],
    bright=[GREY] * 8,
)
REMOTE_FONTS = re.compile(r" *@font-face \{[^}]*\}\s*|<!--.*?-->")


async def watch() -> Group:
    """Watch the demo's tasks for a while and draw the last frame."""
    async with FakeVideoServer() as server:
        ids = list(_add_tasks(server, TASKS, SECONDS))
        summary, recent = Summary(ids), dict[str, "Event"]()
        policy = PollPolicy(interval=INTERVAL, jitter=0.0)
        async with (
            AsyncVideoClient("no-key-needed", base_url=server.base_url) as client,
            client.watch(ids, policy=policy, progress=True) as watcher,
        ):
            reading = asyncio.create_task(read(watcher, summary, recent))
            await asyncio.sleep(SHOWN_AT - RATE_SPAN)
            sent = client.requests_sent
            await asyncio.sleep(RATE_SPAN)
            rate = (client.requests_sent - sent) / RATE_SPAN
            reading.cancel()
        rows = list(recent.values())[-ROWS:]
        text = f"{rate:.1f} requests/s"
        return draw_frame(summary, rows, width=WIDTH, elapsed=SHOWN_AT, rate=text)


async def read(watcher: TaskWatcher, summary: Summary, recent: dict[str, Event]) -> None:
    """Count each event, and keep the last one of each task in the order of arrival."""
    async for event in watcher:
        summary.record(event)
        recent.pop(event.task_id, None)
        recent[event.task_id] = event


def draw() -> str:
    """Return the picture as SVG, the same each time and without fonts from other hosts."""
    random.seed(1)
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        frame = runner.run(watch())
    console = Console(record=True, file=io.StringIO(), width=WIDTH, highlight=False)
    console.print("$ ezvideo demo", style="bold")
    console.print(frame, "")  # the empty line keeps the last one from being cut off
    svg = console.export_svg(title="ezvideo demo", theme=THEME, unique_id="live-view")
    return REMOTE_FONTS.sub("", svg)


if __name__ == "__main__":
    PICTURE.write_text(draw(), "utf-8")
