"""
Mutation test: runs the tests against each mutant, in a copy of the project.

``python tests/long/mutants/run.py [--check] [WORD...]``

Words select the mutants whose names contain one of them.  ``--check`` only lists the mutants whose
snippet is not found.  Exits with 1 when a mutant survives or cannot be applied.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from tests.long.mutants.catalog import MUTANTS, PACKAGE, Mutant  # noqa: E402 -- needs the path

COPIED = (
    PACKAGE.name,
    "tests",
    "docs",
    ".ci",
    "pyproject.toml",
    "noxfile.py",
    "README.md",
    "LICENSE",
)
PYTEST = (
    *("-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:randomly", "--hypothesis-seed=0"),
    *("--timeout=60", "--timeout-method=signal"),  # so that a test that hangs is named
)
ENVIRONMENT = {"HYPOTHESIS_PROFILE": "mutants"}  # does not shrink failures, which takes minutes
FIRST_TIMEOUT = 300.0  # seconds for the tests that should detect the mutant
TIMEOUT = 1800.0  # seconds for all tests

SURVIVED = "SURVIVED"
HANG = -1000  # in the place of an exit code


@frozen
class Outcome:
    """The result for one mutant; *by* is the test that detected it."""

    verdict: str
    by: str
    seconds: float

    @property
    def is_killed(self) -> bool:
        """True if a test detected it."""
        return self.verdict == "killed"


class Tree:
    """A copy of the project with one mutant applied at a time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        ignored = shutil.ignore_patterns("__pycache__", "_build", ".hypothesis")
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, home / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, home / name)
        self._sound: set[str] = set()
        self._check_import()

    def _check_import(self) -> None:
        program = f"import {PACKAGE.name}; print({PACKAGE.name}.__file__)"
        _code, imported = self._run("-c", program, timeout=60.0)
        if not Path(imported.strip()).is_relative_to(self.home):
            sys.exit(f"the tests would not import the copy, but {imported}")

    def _run(self, *arguments: str, timeout: float) -> tuple[int, str]:
        """Run Python in the tree; return its exit code and output."""
        # Same size and second: Python would take the old byte code for the new.
        for cache in (self.home / PACKAGE.name).rglob("__pycache__"):
            shutil.rmtree(cache)
        with subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.home,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(self.home)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that tests started
                return HANG, ""
        return process.returncode, output

    def check_sound(self, tests: str, *, timeout: float) -> None:
        """Exit unless the tests pass without a mutant; once for each selection."""
        if tests not in self._sound:
            code, output = self._run(*PYTEST, tests, timeout=timeout)
            if code != 0:
                sys.exit(f"the tests fail without a mutant: {tests}\n{output}")
            self._sound.add(tests)

    def try_mutant(self, mutant: Mutant) -> Outcome:
        """Run the tests that should detect a mutant, and all tests if they don't."""
        if problem := mutant.problem():
            return Outcome("DOES NOT APPLY", problem, 0.0)
        for tests, timeout in ((mutant.first, FIRST_TIMEOUT), ("tests", TIMEOUT)):
            self.check_sound(tests, timeout=timeout)
            outcome = self._try_with(mutant, tests, timeout)
            if outcome.verdict != SURVIVED:
                break
        return outcome

    def _try_with(self, mutant: Mutant, tests: str, timeout: float) -> Outcome:
        path = self.home / PACKAGE.name / mutant.file
        sound = path.read_text("utf-8")
        started = time.monotonic()
        try:
            path.write_text(sound.replace(mutant.old, mutant.new), "utf-8")
            code, output = self._run(*PYTEST, tests, timeout=timeout)
        finally:
            path.write_text(sound, "utf-8")
        return Outcome(*_verdict(code, output), time.monotonic() - started)


def _verdict(code: int, output: str) -> tuple[str, str]:
    match code:
        case 0:
            return SURVIVED, "nothing"
        case 1:
            return "killed", _failed_test(output)
        case _ if code == HANG:
            return "killed", "a hang of the whole run"
        case _:
            return "DOES NOT RUN", output.strip().rpartition("\n")[2]


def _failed_test(output: str) -> str:
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    hung = " (a hang)" if "Timeout" in output else ""
    return (failed[1] if failed else "?") + hung


def check(mutants: list[Mutant]) -> int:
    """Print the mutants that cannot be applied."""
    problems = {mutant.name: found for mutant in mutants if (found := mutant.problem())}
    for name, found in problems.items():
        print(f"{name}: {found}")
    print(f"{len(mutants) - len(problems)} of {len(mutants)} mutants can be applied")
    return int(bool(problems))


def main(arguments: list[str]) -> int:
    """Try the selected mutants and print the results."""
    words = [word for word in arguments if word != "--check"]
    selected = [
        mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)
    ]
    if "--check" in arguments:
        return check(selected)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as home:
        tree = Tree(Path(home))
        for mutant in selected:
            outcome = tree.try_mutant(mutant)
            outcomes.append(outcome)
            print(
                f"{mutant.name:<45} {outcome.verdict:<8} {outcome.seconds:5.0f} s  {outcome.by}",
                flush=True,
            )
    killed = sum(outcome.is_killed for outcome in outcomes)
    print(f"{killed} of {len(outcomes)} mutants killed")
    return 0 if killed == len(outcomes) > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
