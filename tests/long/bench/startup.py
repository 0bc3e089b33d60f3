"""
Benchmark of start-up: the import of the library, and the import with one request.

Each sample is a program of a few lines in a fresh interpreter, which prints the CPU time it has
used since the interpreter was ready.  The modules have been compiled before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tests.long.bench.harness import (
    KEY,
    ROOT,
    Case,
    Goal,
    Options,
    Sample,
    interleaved,
    markdown,
    ratio,
    spread,
)
from tests.long.bench.responder import responder

_CLOCK = "import resource, sys\nused = lambda: sum(resource.getrusage(0)[:2])\nbegan = used()\n"
_TELL = "\nprint(used() - began)"

PROGRAMS = {
    "import ezvideo_async": "import ezvideo_async",
    "import aiohttp": "import aiohttp",
    "import openai": "import openai",
    "first retrieve": """
import asyncio
from ezvideo_async import AsyncVideoClient
async def main(key, base_url):
    async with AsyncVideoClient(key, base_url=base_url) as client:
        await client.retrieve("vid_1")
asyncio.run(main(*sys.argv[1:]))""",
    "first get": """
import asyncio, json
import aiohttp
async def main(key, base_url):
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{base_url}/videos/vid_1") as answer:
            json.loads(await answer.read())
asyncio.run(main(*sys.argv[1:]))""",
}


def _compiling() -> dict[str, str]:
    """Return the environment, with compiled modules kept as in an installed library."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def started(name: str) -> Sample:
    """Run one of the programs; return milliseconds of CPU time."""
    with responder() as server:
        command = [sys.executable, "-c", _CLOCK + PROGRAMS[name] + _TELL, KEY, server.base_url]
        done = subprocess.run(
            command, cwd=ROOT, env=_compiling(), capture_output=True, text=True, check=True
        )
    return {"ms": 1e3 * float(done.stdout)}


def run(options: Options) -> dict[str, Any]:
    """Measure all programs alternately, after a first run that compiles."""
    cases = [Case(name, started, {"name": name}) for name in PROGRAMS]
    for name in PROGRAMS:
        started(name)
    return {"samples": interleaved(cases, options)}


def tables(found: dict[str, Any]) -> str:
    """Return the CPU time of all programs as a table."""
    samples = found["samples"]
    told = {
        "import ezvideo_async": "`import ezvideo_async`",
        "first retrieve": "import of `AsyncVideoClient` and first `retrieve()`",
        "import aiohttp": "`import aiohttp`",
        "first get": "`import aiohttp` and first GET",
        "import openai": "`import openai`",
    }
    rows = [[what, spread(samples, name, "ms").shown(0)] for name, what in told.items()]
    return markdown(["program", "CPU time, ms"], rows)


def goals(found: dict[str, Any]) -> list[Goal]:
    """Compare the figures with the targets."""
    samples = found["samples"]
    return [
        Goal("i", "`import ezvideo_async`, CPU time",
             spread(samples, "import ezvideo_async", "ms"), 100, unit="ms", digits=0),
        Goal("i", "import and first `retrieve()` / import of aiohttp and first GET",
             ratio(samples, "first retrieve", "first get", "ms"), 1.3, unit="x"),
    ]  # fmt: skip
