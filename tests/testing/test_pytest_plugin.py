"""Pytest plugin and lazy imports of ``ezvideo_async.testing``."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

pytest_plugins = ["pytester"]

PLUGINS = ("-p", "anyio.pytest_plugin", "-p", "ezvideo_async.testing.pytest_plugin")
CONFTEST = """
import pytest
from ezvideo_async.testing import VirtualClockLoop

@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualClockLoop}
"""


def test_fixtures_provide_a_server_and_its_client(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's test gets a running server and a client of it, on its own loop, without warnings."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nanyio_mode = auto\nfilterwarnings = error\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import asyncio

        async def test_fixtures(fake_video_server, video_client):
            task = await video_client.wait(fake_video_server.add_task(duration=600.0))
            assert task.status == "completed"
            assert asyncio.get_running_loop().time() >= 600.0
            assert fake_video_server.requests()[0].authorization == "present"
        """
    )

    pytester.runpytest_inprocess(*PLUGINS).assert_outcomes(passed=1)


def modules_loaded_by(statement: str, directory: Path) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys; sys.path[:] = {sys.path!r}; {statement}; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, cwd=directory, text=True
    )
    return set(ran.stdout.split())


def test_plugin_imports_only_pytest(tmp_path: Path) -> None:
    """The plugin adds no module of another package and no fake server to a test run."""
    before = modules_loaded_by("import pytest", tmp_path)
    loaded = modules_loaded_by("import pytest, ezvideo_async.testing.pytest_plugin", tmp_path)

    added = loaded - before
    assert {name for name in added if not name.startswith("ezvideo_async")} == set()
    assert {name for name in added if name.startswith("ezvideo_async.testing")} == {
        "ezvideo_async.testing",
        "ezvideo_async.testing.pytest_plugin",
    }


def test_virtual_clock_imports_no_server(tmp_path: Path) -> None:
    """Importing the virtual clock loads neither aiohttp nor the fake server."""
    loaded = modules_loaded_by("from ezvideo_async.testing import VirtualClockLoop", tmp_path)

    assert not {"aiohttp", "attrs", "ezvideo_async.testing.fake_server"} & loaded
