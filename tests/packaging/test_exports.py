"""Public names, and the modules that importing them loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ezvideo_async
from ezvideo_async import errors, instrumentation, testing

HEAVY = ("aiohttp", "anyio", "asyncio", "attr", "cattrs", "rich", "ssl", "yarl")


@pytest.mark.parametrize("module", [ezvideo_async, errors, instrumentation, testing])
def test_public_names_are_importable(module):
    """``__all__`` has no duplicates, and each of its names can be imported."""
    names = list(module.__all__)

    assert len(names) == len(set(names))
    assert all(getattr(module, name) is not None for name in names)
    assert set(names) <= set(dir(module))


@pytest.mark.parametrize("module", [ezvideo_async, testing])
def test_an_unknown_name_is_an_attribute_error(module):
    """Lazy modules raise the usual error for a missing name."""
    with pytest.raises(AttributeError, match=r"has no attribute 'NoSuchName'"):
        _ = module.NoSuchName


@pytest.mark.parametrize(
    ("program", "excluded"),
    [
        ("import ezvideo_async", HEAVY),
        ("import ezvideo_async.testing", HEAVY),
        ("import ezvideo_async; ezvideo_async.EzVideoError", ("aiohttp", "anyio", "cattrs")),
    ],
)
def test_importing_loads_no_heavy_library(program, excluded):
    """Public names are loaded on first use, and errors need no HTTP client."""
    program = f"import sys; {program}; print(*sorted({{*sys.modules}} & {{*{excluded!r}}}))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert ran.stdout.split() == []
