"""Public names: what ``import ezvideo_async`` gives, and which libraries it loads."""

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
def test_unknown_name_is_an_attribute_error(module):
    """The lazy import of names changes no error."""
    with pytest.raises(AttributeError, match=r"has no attribute 'NoSuchName'"):
        _ = module.NoSuchName


@pytest.mark.parametrize("name", ["ezvideo_async", "ezvideo_async.testing", "ezvideo_async.errors"])
def test_import_loads_no_heavy_library(name):
    """Names are imported on first use, and errors need no library at all."""
    program = (
        f"import sys, {name}; ezvideo_async.EzVideoError; "
        f"print(*sorted({{*sys.modules}} & {{*{HEAVY!r}}}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert ran.stdout.split() == []
