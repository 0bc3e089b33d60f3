"""Python programs in subprocesses, in development mode, with warnings as errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.raw_server import KEY

ROOT = Path(__file__).parents[2]
DEVELOPMENT = ("-X", "dev")


def run(
    program: str,
    *arguments: str,
    options: tuple[str, ...] = DEVELOPMENT,
    wrapper: tuple[str, ...] = (),
    **environment: str,
) -> str:
    """Run a program and return its output, which is its only output and has no API key in it."""
    ran = subprocess.run(
        [*wrapper, sys.executable, *options, "-W", "error", "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "EZVIDEO_API_KEY": KEY, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert KEY not in ran.stdout + ran.stderr
    assert (ran.returncode, complaints(ran.stderr)) == (0, "")
    return ran.stdout


def complaints(errors: str) -> str:
    """Return what a program wrote to stderr, without asyncio's warnings about a slow machine."""
    return re.sub(r"^Executing <.*> took \d+\.\d+ seconds\n", "", errors, flags=re.MULTILINE)
