"""Count of the points that the cancel sweep reached, for each combination."""

from __future__ import annotations

import os
import platform
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import http_parser

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

TALLY = os.environ.get("CANCEL_SWEEP")
"""Path of the file with the counts; the sweep is complete only when it is set."""


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print how many points were reached, for each Python, parser and loop, and in all."""
    if not TALLY:
        return
    is_python = http_parser.HttpResponseParser is http_parser.HttpResponseParserPy
    combination = f"{platform.python_version()} {'Python' if is_python else 'C'} parser"
    reached: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        for name, found in report.user_properties:
            if name == "points":
                loop, points = found
                reached[f"{combination}, {loop}"] += points
    tally = Path(TALLY)
    lines = tally.read_text("utf-8").splitlines() if tally.exists() else []
    counts = {name: int(count) for name, count in (line.split("\t") for line in lines)} | reached
    tally.write_text("".join(f"{name}\t{count}\n" for name, count in counts.items()), "utf-8")
    for name, count in {**counts, "in all": sum(counts.values())}.items():
        terminalreporter.write_line(f"points of the cancel sweep, {name}: {count}")
