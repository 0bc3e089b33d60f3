"""Sessions of nox: `python3 noxfile.py --list`; needs python3 and pip only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

os.chdir(Path(__file__).parent)
PINS = Path("tests/constraints.txt")


def bootstrap() -> None:
    """Run this file again with nox in a separate environment, created on first use."""
    python = Path(".nox/.bootstrap/bin/python").absolute()
    if not (python.exists() and python.with_name("nox").exists()):
        print("noxfile.py: installing nox into .nox/.bootstrap", flush=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "-c", PINS]
        for step in ([sys.executable, "-m", "venv", "--clear", python.parents[1]], [*pip, "nox"]):
            if subprocess.call(step):
                sys.exit("noxfile.py: nox needs pip and venv to install (Debian: python3-venv)")
    os.execv(python, [python, __file__, *sys.argv[1:]])


if sys.version_info < (3, 11):  # noqa: UP036 -- a readable error on an older Python
    sys.exit("noxfile.py: needs Python 3.11 or newer")
try:
    import nox
except ModuleNotFoundError:
    bootstrap()

PROJECT = nox.project.load_toml()
HERE = "{}.{}".format(*sys.version_info)
PYTHONS = sorted({*nox.project.python_versions(PROJECT), HERE})
CONTRACTS = {contract["id"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
PARALLEL = ("--numprocesses=auto", "--maxprocesses=4")
BOUNDED = ("python", str(Path("tests/support/bounded_run.py").absolute()))
HOURS = 360  # minutes for the sessions that take long
WIRE_FUZZERS = [f"tests/long/fuzz/test_{what}.py" for what in ("headers", "streams")]
SANS_IO = ",".join(
    f"{name.replace('.', '/')}{end}"
    for name in CONTRACTS["sans-io"]["source_modules"]
    for end in ("/*", ".py")
)

nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"


def install(session: nox.Session, *what: str, group: str | None = None, pins: Path = PINS) -> None:
    """Install packages and a dependency group in their pinned versions."""
    needs = nox.project.dependency_groups(PROJECT, group) if group else ()
    session.install("--disable-pip-version-check", "--constraint", str(pins), *what, *needs)


def install_tests(session: nox.Session, pins: Path = PINS) -> None:
    """Install the tests' packages, and pytest-asyncio apart: our own tests run without it."""
    install(session, "--editable", ".[cli]", group="tests", pins=pins)
    folder = str(session.cache_dir.absolute() / "pytest-asyncio")
    target = ("--no-deps", "--upgrade", "--target", folder)
    install(session, *target, group="pytest-asyncio", pins=pins)
    session.env["PYTEST_ASYNCIO_FOLDER"] = folder
    session.env["PYTEST_ASYNCIO_FOLDER"] = str(folder)


def run(session: nox.Session, *command: str, minutes: int = 30, **options: Any) -> None:
    """Run a command that is killed, and fails, when it takes longer."""
    session.run(*BOUNDED, str(minutes), *command, **options)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, import layers, spelling, test docstrings, and the words of the glossary."""
    install(session, group="lint")
    for command in ("ruff check", "ruff format --check", "lint-imports --no-logo", "codespell"):
        run(session, *command.split())
    modules = map(str, Path("ezvideo_async").rglob("*.py"))
    run(session, "flake8-async", "--enable=ASYNC101,ASYNC103,ASYNC104,ASYNC119,ASYNC300", *modules)
    run(session, "interrogate", "tests")
    run(session, "python", "tests/support/glossary.py")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy and pyright, and that every public name has a type."""
    install(session, ".[cli]", group="typing")
    run(session, "mypy")
    run(session, "pyright")
    session.chdir(session.create_tmp())  # so that the installed package is checked
    run(session, "pyright", "--verifytypes", "ezvideo_async", "--ignoreexternal")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests; on one Python, measure coverage, unless `-- ARGS` go to pytest."""
    install_tests(session)
    if session.posargs or session.python != HERE:
        run(session, "pytest", *(session.posargs or PARALLEL))
        return
    run(session, "coverage", "erase")
    run(session, "coverage", "run", "-m", "pytest", *PARALLEL)
    run(session, "coverage", "combine", "--quiet")
    session.notify("coverage")
    python_parser = {"AIOHTTP_NO_EXTENSIONS": "1"}  # a machine without aiohttp's parser in C
    wire_tests = [f"tests/resilience/test_{table}.py" for table in ("network", "http", "json")]
    run(session, "pytest", *PARALLEL, "tests/integration", *wire_tests, env=python_parser)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Check the coverage that `tests` has measured."""
    install(session, group="coverage")
    run(session, "coverage", "report", "--fail-under=95")
    run(session, "coverage", "report", f"--include={SANS_IO}", "--fail-under=100")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages, with warnings as errors, and run the examples in them."""
    install(session, "--editable", ".[cli]", group="docs")
    for builder in ("html", "doctest"):
        run(session, "sphinx-build", "-W", "-q", "-b", builder, "docs", f"docs/_build/{builder}")


@nox.session(python=PYTHONS[0], default=False)
def oldest(session: nox.Session) -> None:
    """Run all tests on the oldest dependencies that are allowed."""
    needs = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["cli"]
    lowest = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(needs), re.MULTILINE))
    others = [pin for pin in PINS.read_text().split() if pin.partition("==")[0] not in lowest]
    pins = Path(session.create_tmp(), "oldest.txt")
    pins.write_text("\n".join([*others, *map("==".join, lowest.items())]))
    install_tests(session, pins)
    run(session, "pytest", *(session.posargs or PARALLEL))


@nox.session(default=False)
def props(session: nox.Session) -> None:
    """Run the property tests with 1,000 examples each."""
    install(session, "--editable", ".[cli]", group="tests")
    session.env["HYPOTHESIS_PROFILE"] = "ci"
    args = session.posargs or ["-m", "hypothesis", "--timeout=900"]
    run(session, "pytest", *args, minutes=HOURS)


@nox.session(python=PYTHONS, default=False)
def sweep(session: nox.Session) -> None:
    """Cancel at every suspension, with both HTTP parsers, on all loops; count the points."""
    install(session, "--editable", ".[cli]", group="tests")
    session.env["CANCEL_SWEEP"] = str(session.cache_dir / "sweep.tsv")
    sweep_tests = ("--timeout=900", "tests/resilience/test_cancel_sweep.py")
    for no_extensions in ("", "1"):
        session.env["AIOHTTP_NO_EXTENSIONS"] = no_extensions
        run(session, "pytest", *sweep_tests, minutes=HOURS)
    run(session, "pytest", "tests/integration", "tests/contracts", env={"EAGER_TASKS": "1"})


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Fuzz what servers send and what users pass, with both HTTP parsers."""
    install(session, "--editable", ".[cli]", group="tests")
    session.env["HYPOTHESIS_PROFILE"] = "fuzz"
    args = (*PARALLEL, "--timeout=7200", *session.posargs)
    run(session, "pytest", *args, "tests/long/fuzz", minutes=HOURS)
    session.env["AIOHTTP_NO_EXTENSIONS"] = "1"
    run(session, "pytest", *args, *WIRE_FUZZERS, minutes=HOURS)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Watch 200 tasks for 7 virtual days, then 2,000 on loopback for `-- MINUTES` (30)."""
    install(session, "--editable", ".[cli]", group="tests")
    run(session, "python", "-m", "tests.long.soak.days", minutes=HOURS)
    run(session, "python", "-m", "tests.long.soak.loopback", *session.posargs, minutes=HOURS)


@nox.session(default=False)
def crashes(session: nox.Session) -> None:
    """Kill 500 watches of 5,000 ids that have a store; `-- --kills N --seed S --ids N`."""
    install(session, "--editable", ".", group="tests")
    run(session, "python", "-m", "tests.long.crashes", *session.posargs, minutes=HOURS)


@nox.session(default=False)
def mixed(session: nox.Session) -> None:
    """Watch 2,000 ids over real sockets with every fault in turn: none may end wrongly."""
    install(session, "--editable", ".", group="tests")
    run(session, "python", "-m", "tests.long.mixed", *session.posargs)


@nox.session(default=False)
def browser(session: nox.Session) -> None:
    """Drive the web examples with Chromium, which Debian's package provides."""
    install(session, "--editable", ".", group="tests")
    if shutil.which("chromium") is None:
        session.run("apt-get", "update", external=True)
        session.run("apt-get", "install", "-y", "chromium", external=True)
    run(session, "pytest", *(session.posargs or ["tests/long/browser"]))


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure, and write the performance page; `-- --quick` for a draft, `-- NAMES` for parts."""
    install(session, "--editable", ".", group="bench")
    run(session, "python", "-m", "tests.long.bench", *session.posargs, minutes=HOURS)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Insert one fault at a time into a copy of the package: the tests must detect each."""
    install(session, "--editable", ".[cli]", group="tests")
    run(session, "python", "tests/long/mutants/run.py", *session.posargs, minutes=HOURS)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Watch 200 tasks of a fake server; needs no account."""
    install(session, ".[cli]")
    session.run("ezvideo", "demo", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build sdist and wheel in dist/, check their contents, and run `smoke` on the wheel."""
    install(session, group="build")
    shutil.rmtree("dist", ignore_errors=True)
    run(session, "python", "-m", "build", "--outdir", "dist")
    run(session, "twine", "check", "--strict", "dist/*")
    names = zipfile.ZipFile(next(Path("dist").glob("*.whl"))).namelist()
    if stray := [name for name in names if not re.match("ezvideo_async[-/]", name)]:
        session.error("the wheel contains files outside the package:", *stray)
    session.notify("smoke")


@nox.session(default=False, reuse_venv=False)
def smoke(session: nox.Session) -> None:
    """Use the wheel from `build` in a new environment, without the sources."""
    install(session, f"{next(Path('dist').glob('*.whl'))}[cli]")
    run(session, "python", "-P", "-c", "from ezvideo_async import TaskWatcher")
    run(session, "ezvideo", "--help")


if __name__ == "__main__":
    nox.main()
