"""The tasks: `python3 noxfile.py --list`; python3 and pip are all that it takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

os.chdir(Path(__file__).parent)
PINS = Path("tests/constraints.txt")


def bootstrap() -> None:
    """Run this file again under the nox of an environment of its own, made on first use."""
    python = Path(".nox/.bootstrap/bin/python").absolute()
    if not (python.exists() and python.with_name("nox").exists()):
        print("noxfile.py: installing nox into .nox/.bootstrap", flush=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "-c", PINS]
        for step in ([sys.executable, "-m", "venv", "--clear", python.parents[1]], [*pip, "nox"]):
            if subprocess.call(step):
                sys.exit("noxfile.py: nox needs pip and venv to install (Debian: python3-venv)")
    os.execv(python, [python, __file__, *sys.argv[1:]])


if sys.version_info < (3, 11):  # noqa: UP036 -- whoever starts it with an older one is told
    sys.exit("noxfile.py: needs Python 3.11 or newer, start it with one that is")
try:
    import nox
except ModuleNotFoundError:
    bootstrap()

PROJECT = nox.project.load_toml()
HERE = "{}.{}".format(*sys.version_info)
PYTHONS = sorted({*nox.project.python_versions(PROJECT), HERE})
CONTRACTS = {contract["id"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
SHARED = ("--numprocesses=auto", "--maxprocesses=4")  # all tests, shared out to processes
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
    """Install what is named, and a dependency group, in the pinned versions."""
    needs = nox.project.dependency_groups(PROJECT, group) if group else ()
    session.install("--disable-pip-version-check", "--constraint", str(pins), *what, *needs)


@nox.session
def lint(session: nox.Session) -> None:
    """Judge style, floors, spelling, and that each test says what it states."""
    install(session, group="lint")
    for command in ("ruff check", "ruff format --check", "lint-imports --no-logo", "codespell"):
        session.run(*command.split())
    modules = map(str, Path("ezvideo_async").rglob("*.py"))
    session.run("flake8-async", "--enable=ASYNC101,ASYNC103,ASYNC104,ASYNC119,ASYNC300", *modules)
    session.run("interrogate", "tests")


@nox.session
def typing(session: nox.Session) -> None:
    """Ask two type checkers, and whether all that users see has its type."""
    install(session, ".[cli]", group="typing")
    session.run("mypy")
    session.run("pyright")
    session.chdir(session.create_tmp())
    session.run("pyright", "--verifytypes", "ezvideo_async", "--ignoreexternal")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests; on one Python, count what they cover, unless `-- ARGS` go to pytest."""
    install(session, "--editable", ".[cli]", group="tests")
    if session.posargs or session.python != HERE:
        session.run("pytest", *(session.posargs or SHARED))
        return
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *SHARED)
    session.run("coverage", "combine", "--quiet")
    session.notify("coverage")
    python_parser = {"AIOHTTP_NO_EXTENSIONS": "1"}  # a machine without aiohttp's parser in C
    on_the_wire = [f"tests/resilience/test_{table}.py" for table in ("network", "http", "json")]
    session.run("pytest", *SHARED, "tests/integration", *on_the_wire, env=python_parser)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Judge the coverage, when `tests` asks for it."""
    install(session, group="coverage")
    session.run("coverage", "report", "--fail-under=95")
    session.run(
        "coverage",
        "report",
        f"--include={','.join(f'{name}/*,{name}.py' for name in SANS_IO)}",
        "--fail-under=100",
    )


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages, strictly, and run the examples in them."""
    install(session, "--editable", ".[cli]", group="docs")
    for builder in ("html", "doctest"):
        session.run("sphinx-build", "-W", "-q", "-b", builder, "docs", f"docs/_build/{builder}")


@nox.session(python=PYTHONS[0], default=False)
def floors(session: nox.Session) -> None:
    """Run all tests on the oldest dependencies that are allowed."""
    needs = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["cli"]
    oldest = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(needs), re.MULTILINE))
    others = [pin for pin in PINS.read_text().split() if pin.partition("==")[0] not in oldest]
    pins = Path(session.create_tmp(), "floors.txt")
    pins.write_text("\n".join([*others, *map("==".join, oldest.items())]))
    install(session, "--editable", ".[cli]", group="tests", pins=pins)
    session.run("pytest", *(session.posargs or SHARED))


@nox.session(default=False)
def props(session: nox.Session) -> None:
    """Run the property tests at length."""
    install(session, "--editable", ".[cli]", group="tests")
    session.env["HYPOTHESIS_PROFILE"] = "ci"
    session.run("pytest", *(session.posargs or ["-m", "hypothesis", "--timeout=900"]))


@nox.session(python=PYTHONS, default=False)
def sweep(session: nox.Session) -> None:
    """Cancel everything at every suspension, with both parsers, on all loops; count the points."""
    install(session, "--editable", ".[cli]", group="tests")
    session.env["CANCEL_SWEEP"] = str(session.cache_dir / "sweep.tsv")
    for no_extensions in ("", "1"):
        session.env["AIOHTTP_NO_EXTENSIONS"] = no_extensions
        session.run("pytest", "--timeout=900", "tests/resilience/test_cancel_sweep.py")
    session.run("pytest", "tests/integration", "tests/contracts", env={"EAGER_TASKS": "1"})


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Fuzz all subjects with both HTTP parsers; `-- --scale 0.01` for a part of it."""
    install(session, "--editable", ".[cli]", group="tests")
    session.run("python", "-m", "tests.long.fuzz.run", *session.posargs)
    session.env["AIOHTTP_NO_EXTENSIONS"] = "1"
    session.run(
        "python", "-m", "tests.long.fuzz.run", "streams", "headers", "ids", *session.posargs
    )


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Watch 200 tasks for 7 virtual days, then 2,000 on loopback for `-- MINUTES` (30)."""
    install(session, "--editable", ".[cli]", group="tests")
    session.run("python", "-m", "tests.long.soak.days")
    session.run("python", "-m", "tests.long.soak.loopback", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure, and write the page of figures; `-- --quick` for a look, `-- NAMES` for parts."""
    install(session, "--editable", ".", group="bench")
    session.run("python", "-m", "tests.long.bench", *session.posargs)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Put one fault at a time into a copy of the package: the tests must notice each."""
    install(session, "--editable", ".[cli]", group="tests")
    session.run("python", "tests/long/mutants/run.py", *session.posargs)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Watch 200 tasks of a fake server; needs no account."""
    install(session, ".[cli]")
    session.run("ezvideo", "demo", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Make sdist and wheel in dist/, look into them, and let `smoke` try the wheel."""
    install(session, group="build")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "dist")
    session.run("twine", "check", "--strict", "dist/*")
    names = zipfile.ZipFile(next(Path("dist").glob("*.whl"))).namelist()
    if stray := [name for name in names if not re.match("ezvideo_async[-/]", name)]:
        session.error("the wheel holds more than the package:", *stray)
    session.notify("smoke")


@nox.session(default=False, reuse_venv=False)
def smoke(session: nox.Session) -> None:
    """Try the wheel that `build` made, in a fresh environment and far from the sources."""
    install(session, f"{next(Path('dist').glob('*.whl'))}[cli]")
    session.run("python", "-P", "-c", "from ezvideo_async import TaskWatcher")
    session.run("ezvideo", "--help")


if __name__ == "__main__":
    nox.main()
