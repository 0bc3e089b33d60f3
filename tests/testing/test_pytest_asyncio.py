"""Users' tests with pytest-asyncio, in a pytest process of its own: our suite is without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
FOLDER = os.environ.get("PYTEST_ASYNCIO_FOLDER", "")
"""Folder into which `nox -s tests` installs pytest-asyncio."""

pytestmark = pytest.mark.skipif(not FOLDER, reason="PYTEST_ASYNCIO_FOLDER is not set")


@pytest.mark.parametrize(
    ("mode", "mark", "conftest"),
    [
        ("auto", "[]", "conftest_auto.py"),
        ("strict", "pytest.mark.asyncio", "conftest_strict.py"),
        ("strict", "pytest.mark.anyio", None),
    ],
)
def test_examples_pass_beside_pytest_asyncio(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    mark: str,
    conftest: str | None,
) -> None:
    """The tests of the testing page pass in virtual time in both modes, and with anyio's mark."""
    tests = (EXAMPLES / "test_rendering.py").read_text("utf-8")
    pytester.makepyfile(
        rendering=(EXAMPLES / "rendering.py").read_text("utf-8"),
        test_rendering=tests.replace("pytest.mark.anyio", mark),
    )
    if conftest is not None:
        pytester.makeconftest((EXAMPLES / conftest).read_text("utf-8"))
    pytester.makeini(
        f"[pytest]\nasyncio_mode = {mode}\nfilterwarnings = error\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )
    root = str(EXAMPLES.parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([FOLDER, root]))
    result = pytester.runpytest_subprocess(timeout=120)

    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["plugins: *asyncio-*"])
