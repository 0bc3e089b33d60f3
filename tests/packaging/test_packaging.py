"""Metadata, pins, entry points and tracked files of the project."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

from ezvideo_async._version import __version__

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
DESCRIPTION = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
LOCK_FILE = re.compile(r".*\.lock|pylock.*\.toml|package-lock\.json")
LEAKS = {
    "registry host": r"\b(pypi|pythonhosted|npmjs|nodejs|anaconda)\.(org|com|io)\b",
    "package index option": r"--(extra-)?index[-]url|--find[-]links|--trusted[-]host",
    "machine path": r"(?<![\w.~:/-])/(build|home|mnt|opt|root|srv|tmp|Users|work|workspace)/\w",
}
# A command line of the noxfile, without the arguments of the session.
COMMAND = re.compile(r"python3 noxfile\.py((?: +(?!-- )[\w.-]+)*)")


def tracked_files() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, timeout=60
    )
    if listing.returncode:
        pytest.skip("git cannot read this checkout")
    names = listing.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def sessions_of_noxfile() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {
        function.name
        for function in functions
        if any("nox.session" in ast.unparse(decorator) for decorator in function.decorator_list)
    }


def sessions_named_in(page: Path) -> set[str]:
    text = page.read_text("utf-8")
    words = [word for match in COMMAND.finditer(text) for word in match[1].split()]
    return {re.sub(r"-3\.\d+$", "", word) for word in words if not word.startswith("-")}


def test_the_version_is_that_of_the_metadata() -> None:
    """``__version__`` equals the version of the installed distribution."""
    assert version("ezvideo_async") == __version__


def test_classifiers_name_every_python() -> None:
    """They name each Python from the oldest allowed one on, without a gap."""
    named = [
        int(match[1])
        for line in PROJECT["classifiers"]
        if (match := re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", line))
    ]

    assert PROJECT["requires-python"] == f">=3.{named[0]}"
    assert named == list(range(named[0], named[-1] + 1))


def test_entry_points_can_be_loaded() -> None:
    """The command and the pytest plugin exist."""
    (command,) = entry_points(group="console_scripts", name="ezvideo")
    (plugin,) = entry_points(group="pytest11", name="ezvideo_async")

    assert callable(command.load())
    assert plugin.load().__name__ == "ezvideo_async.testing.pytest_plugin"


def test_the_description_has_links_that_work_on_an_index() -> None:
    """The description of the package has no link or picture of a file of the sources."""
    text = "".join((ROOT / part["path"]).read_text("utf-8") for part in DESCRIPTION["fragments"])
    for each in DESCRIPTION["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    links = re.findall(r"\]\(([^)]*)\)", text)

    assert "your first watch, 15 minutes" in text
    assert links
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_package_has_py_typed() -> None:
    """The marker file for type checkers exists."""
    assert (ROOT / "ezvideo_async" / "py.typed").is_file()


def test_pins_are_sorted_names_with_versions() -> None:
    """A pin is a name and a version, and each name occurs once, in order."""
    lines = (ROOT / "tests" / "constraints.txt").read_text("utf-8").splitlines()
    names = [line.partition("==")[0] for line in lines]

    assert [line for line in lines if not re.fullmatch(r"[a-z\d.-]+==[\w.]+", line)] == []
    assert names == sorted(set(names))


def test_no_file_names_a_registry_or_a_machine_path() -> None:
    """No tracked file contains the host of a package registry or a path of a machine."""
    found = [
        f"{file.relative_to(ROOT)}: {what}: {match[0]}"
        for file in tracked_files()
        for what, pattern in LEAKS.items()
        for match in re.finditer(pattern, file.read_bytes().decode(errors="replace"))
    ]

    assert found == []


def test_no_lock_file_is_tracked() -> None:
    """Lock files contain the hosts of registries."""
    assert [file.name for file in tracked_files() if LOCK_FILE.fullmatch(file.name)] == []


@pytest.mark.parametrize("page", ["README.md", "docs/contributing.md", ".ci/run"])
def test_documented_sessions_exist(page: str) -> None:
    """Each session that a page runs is in the noxfile."""
    text = (ROOT / page).read_text("utf-8")

    assert COMMAND.search(text), f"{page} names no session"
    assert sessions_named_in(ROOT / page) - sessions_of_noxfile() == set()
