"""The pytest plugin, in runs of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

PLUGINS = ("-p", "anyio.pytest_plugin", "-p", "ezvideo_async.testing.pytest_plugin")
CONFTEST = """
import pytest
from ezvideo_async.testing import VirtualClockLoop

@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualClockLoop}
"""


@pytest.fixture
def users(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's project: anyio's plugin in auto mode, virtual time, every warning an error."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nanyio_mode = auto\nfilterwarnings = error\n")
    pytester.makeconftest(CONFTEST)
    return pytester


def test_the_server_fixture_gives_a_running_server(users: pytest.Pytester) -> None:
    """A test gets a server that runs on its own loop and stops with it."""
    users.makepyfile(
        """
        import asyncio

        async def test_server(fake_video_server):
            task_id = fake_video_server.add_task(duration=3600.0)
            await asyncio.sleep(3600.0)
            assert fake_video_server.base_url.endswith("/v1")
            assert fake_video_server.state(task_id).phase == "completed"
        """
    )

    users.runpytest_inprocess(*PLUGINS).assert_outcomes(passed=1)


def test_the_client_fixture_asks_the_server_fixture(users: pytest.Pytester) -> None:
    """A test gets a client that is entered and asks the fake server."""
    users.makepyfile(
        """
        async def test_client(fake_video_server, video_client):
            task = await video_client.wait(fake_video_server.add_task(duration=600.0))
            assert task.status == "completed"
            assert fake_video_server.requests()[0].authorization == "present"
        """
    )

    users.runpytest_inprocess(*PLUGINS).assert_outcomes(passed=1)


def test_the_fixtures_are_listed_with_their_purpose(users: pytest.Pytester) -> None:
    """``pytest --fixtures`` tells what each fixture gives."""
    result = users.runpytest_inprocess(*PLUGINS, "--fixtures")

    result.stdout.fnmatch_lines(["*fake_video_server*", "    Provide a running*"])
    result.stdout.fnmatch_lines(["*video_client*", "    Provide an*"])


def loaded_by(statement: str, tmp_path: Path) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys; sys.path[:] = {sys.path!r}; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path, text=True
    )
    return set(done.stdout.split())


def test_the_plugin_loads_nothing_but_pytest(tmp_path: Path) -> None:
    """Having the package installed costs a test run no aiohttp, no attrs and no asyncio."""
    before = loaded_by("import pytest", tmp_path)
    ours = loaded_by("import pytest, ezvideo_async.testing.pytest_plugin", tmp_path) - before

    assert {name for name in ours if not name.startswith("ezvideo_async")} == set()
    assert {name for name in ours if name.startswith("ezvideo_async.testing")} == {
        "ezvideo_async.testing",
        "ezvideo_async.testing.pytest_plugin",
    }


def test_the_loop_alone_loads_no_aiohttp(tmp_path: Path) -> None:
    """Who needs the virtual clock only does not pay for the server."""
    ours = loaded_by("from ezvideo_async.testing import VirtualClockLoop", tmp_path)

    assert not {"aiohttp", "attrs", "ezvideo_async.testing.fake_server"} & ours


def test_the_public_names_are_sorted_and_lazy() -> None:
    """Every public name resolves; a wrong one is an AttributeError that names the module."""
    from ezvideo_async import testing

    assert testing.__all__ == sorted(testing.__all__)
    assert set(testing.__all__) <= set(dir(testing))
    assert [getattr(testing, name).__name__ for name in testing.__all__] == testing.__all__
    with pytest.raises(AttributeError, match=r"'ezvideo_async\.testing' has no attribute 'Nope'"):
        _ = testing.Nope
