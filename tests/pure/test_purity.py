"""The floors that decide import nothing that waits, looks at a clock, draws lots or does IO."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ezvideo_async

PURE = (
    "_budget",
    "_calendar",
    "_dialects",
    "_events",
    "_learned",
    "_mailbox",
    "_measured",
    "_models",
    "_observe",
    "_pace",
    "_parse",
    "_policy",
    "_progress",
    "_ready",
    "_retry_after",
    "_schedule",
    "_states",
    "_strict_json",
    "_turns",
    "_wire",
    "errors",
)
IMPURE = {
    "aiohttp",
    "anyio",
    "asyncio",
    "concurrent",
    "logging",
    "os",
    "pathlib",
    "random",
    "secrets",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "uuid",
}


def _tree_of(module):
    path = Path(ezvideo_async.__file__).parent / f"{module}.py"
    return ast.parse(path.read_text("utf-8"))


def _imports_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_nothing_impure(module):
    """No loop, clock, chance, file, environment, network or log is within reach."""
    roots = {name.split(".")[0] for name in _imports_of(_tree_of(module))}

    assert roots & IMPURE == set()


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_awaits_nothing(module):
    """No coroutine is written on the pure floors."""
    awaiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)

    assert not any(isinstance(node, awaiting) for node in ast.walk(_tree_of(module)))


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_asks_no_calendar_for_today(module):
    """``datetime`` is used to convert, never to look at the clock."""
    called = {node.attr for node in ast.walk(_tree_of(module)) if isinstance(node, ast.Attribute)}

    assert called & {"now", "utcnow", "today"} == set()


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_says_that_it_is_pure(module):
    """The promise stands in the module's first lines, where a reviewer sees it."""
    told = ast.get_docstring(_tree_of(module))

    assert module == "errors" or "no await, no clock, no randomness" in told.lower()
