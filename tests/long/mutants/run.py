"""
Run the tests against each mutant, in a copy of the tree.

``python tests/long/mutants/run.py [WORD...]``.

With words, only mutants with one of them in their name are tried.  Exit code 1 when a mutant
survives or can't be tried.
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

from tests.long.mutants.catalog import MUTANTS, PACKAGE, Mutant  # noqa: E402 -- needs the path above

COPIED = (PACKAGE, "tests", "docs", ".ci", "pyproject.toml", "noxfile.py", "README.md", "LICENSE")
PYTEST = ("-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:randomly", "--hypothesis-seed=0")
ENVIRONMENT = {"HYPOTHESIS_PROFILE": "mutants"}  # a failure is enough, the smallest takes minutes
OTHERS = (
    "--ignore=tests/long/mutants",
    "tests",
)  # tests/long/mutants would notice any change of text

FIRST_LIMIT = 300.0  # seconds for the tests named first
LIMIT = 1800.0  # seconds for all tests

SURVIVED = "SURVIVED"
HANG = -1000  # in the place of an exit code


@frozen
class Outcome:
    """What became of a mutant; *by* is the test that noticed it."""

    verdict: str
    by: str
    seconds: float

    @property
    def is_killed(self) -> bool:
        """Whether the tests noticed it."""
        return self.verdict == "killed"


class Tree:
    """A copy of the project in which one mutant at a time is at work."""

    def __init__(self, home: Path) -> None:
        self.home = home
        ignored = shutil.ignore_patterns("__pycache__", "_build", ".hypothesis")
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, home / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, home / name)
        self._sound: set[tuple[str, ...]] = set()
        self._check_import()

    def _check_import(self) -> None:
        _code, told = self._run("-c", f"import {PACKAGE}; print({PACKAGE}.__file__)", limit=60.0)
        if not Path(told.strip()).is_relative_to(self.home):
            sys.exit(f"the tests would not meet the mutants, but {told}")

    def _run(self, *arguments: str, limit: float) -> tuple[int, str]:
        """Run Python in the tree; its exit code and what it printed."""
        # Same size and second: Python would take the old byte code for the new.
        shutil.rmtree(self.home / PACKAGE / "__pycache__", ignore_errors=True)
        with subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.home,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(self.home)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                told, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that tests started
                return HANG, ""
        return process.returncode, told

    def check_sound(self, tests: tuple[str, ...], *, limit: float) -> None:
        """Exit unless the tests pass without a mutant; once for each selection."""
        if tests not in self._sound:
            code, told = self._run(*PYTEST, *tests, limit=limit)
            if code != 0:
                sys.exit(f"the tests fail without a mutant: {' '.join(tests)}\n{told}")
            self._sound.add(tests)

    def tried(self, mutant: Mutant) -> Outcome:
        """Put a mutant in, run the tests, and take it out again."""
        for tests, limit in self._selections(mutant):
            self.check_sound(tests, limit=limit)
            outcome = self._tried_with(mutant, tests, limit)
            if outcome.verdict != SURVIVED:
                break
        return outcome

    @staticmethod
    def _selections(mutant: Mutant) -> tuple[tuple[tuple[str, ...], float], ...]:
        return ((mutant.first,), FIRST_LIMIT), (OTHERS, LIMIT)

    def _tried_with(self, mutant: Mutant, tests: tuple[str, ...], limit: float) -> Outcome:
        room = self.home / PACKAGE / mutant.room
        sound = room.read_text("utf-8")
        started = time.monotonic()
        try:
            room.write_text(mutant.applied(sound), "utf-8")
            code, told = self._run(*PYTEST, *tests, limit=limit)
            verdict, by = _judged(code, told)
        except ValueError as error:
            verdict, by = "DOES NOT APPLY", str(error)
        finally:
            room.write_text(sound, "utf-8")
        return Outcome(verdict, by, time.monotonic() - started)


def _judged(code: int, told: str) -> tuple[str, str]:
    match code:
        case 0:
            return SURVIVED, "nothing"
        case 1:
            return "killed", _failed_test(told)
        case _ if code == HANG:
            return "killed", "a hang of the whole run"
        case _:
            return "DOES NOT RUN", told.strip().rpartition("\n")[2]


def _failed_test(told: str) -> str:
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", told, re.MULTILINE)
    hung = " (a hang)" if "Timeout" in told else ""
    return (failed[1] if failed else "?") + hung


def main(words: list[str]) -> int:
    """Try the mutants and print the table."""
    chosen = [
        mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)
    ]
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as home:
        tree = Tree(Path(home))
        for mutant in chosen:
            outcome = tree.tried(mutant)
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
