"""
Fault table, and the rows that each collected test has as its marks.

A test has ``@pytest.mark.fault("N8", "N9")``.  ``collected_rows`` lets pytest collect the tests,
so that a mark on anything else does not count.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    import pytest

TABLE = Path(__file__).parents[1] / "samples" / "faults.tsv"
ROOT = Path(__file__).parents[2]
_PREFIX = "fault-rows: "


@frozen
class Row:
    """
    One row of the table.

    Attributes:
        needs: ``now``, or the feature without which the row cannot happen yet.
    """

    id: str
    needs: str
    fault: str


def rows() -> list[Row]:
    """Read the table: id, what it needs, the fault."""
    return [Row(*line.split("\t")) for line in TABLE.read_text("utf-8").splitlines()]


def collected_rows() -> dict[str, int]:
    """Return the number of collected tests for each row."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-qq",
        "-p",
        "tests.support.fault_rows",
    ]
    found = subprocess.run(
        [*command, "-m", "fault", "-p", "no:randomly", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = [line for line in found.stdout.splitlines() if line.startswith(_PREFIX)]
    counts: dict[str, int] = {}
    for row in lines[-1].removeprefix(_PREFIX).split():
        counts[row] = counts.get(row, 0) + 1
    return counts


def pytest_collection_finish(session: pytest.Session) -> None:
    """Print, as a pytest plugin, the rows of every collected test."""
    marked = [
        row for item in session.items for mark in item.iter_markers("fault") for row in mark.args
    ]
    sys.stdout.write(f"\n{_PREFIX}{' '.join(marked)}\n")
