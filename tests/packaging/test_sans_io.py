"""Sans-I/O packages: no coroutine and no clock; import-linter checks their imports."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
SANS_IO = next(each for each in CONTRACTS["contracts"] if each["id"] == "sans-io")


def _modules():
    for name in SANS_IO["source_modules"]:
        path = ROOT / name.replace(".", "/")
        yield from sorted(path.glob("*.py")) or [path.with_suffix(".py")]


@pytest.mark.parametrize(
    "path", list(_modules()), ids=lambda path: f"{path.parent.name}.{path.stem}"
)
def test_a_sans_io_module_awaits_nothing_and_reads_no_clock(path):
    """``datetime`` converts; ``now()`` and ``today()`` are never called."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    awaiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)

    assert not any(isinstance(node, awaiting) for node in nodes)
    called = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert called & {"now", "utcnow", "today"} == set()
