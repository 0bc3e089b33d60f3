"""What ``import ezvideo_async`` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ezvideo_async
from ezvideo_async import errors, instrumentation, testing

HEAVY = ("aiohttp", "anyio", "asyncio", "attr", "cattrs", "rich", "ssl", "yarl")


@pytest.mark.parametrize("module", [ezvideo_async, errors, instrumentation, testing])
def test_public_names_are_importable(module):
    """``__all__`` has no repetition, and each name in it can be imported."""
    names = list(module.__all__)

    assert len(names) == len(set(names))
    assert all(getattr(module, name) is not None for name in names)
    assert set(names) <= set(dir(module))


@pytest.mark.parametrize("module", [ezvideo_async, testing])
def test_a_name_that_is_not_there_is_an_attribute_error(module):
    """As in any module."""
    with pytest.raises(AttributeError, match=r"has no attribute 'NoSuchName'"):
        _ = module.NoSuchName


@pytest.mark.parametrize("module", ["ezvideo_async", "ezvideo_async.testing"])
def test_importing_loads_no_heavy_library(module):
    """Names are loaded on first use: a program that only imports us pays next to nothing."""
    program = f"import sys, {module}; print(*sorted({{*sys.modules}} & {{*{HEAVY!r}}}))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == []


def test_errors_need_no_library_either():
    """``except ezvideo_async.EzVideoError`` does not load an HTTP client."""
    program = (
        "import sys, ezvideo_async; ezvideo_async.EzVideoError; "
        "print(*sorted({*sys.modules} & {'aiohttp', 'anyio', 'cattrs'}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == []
