"""The ``ezvideo`` command as a process: imports, streams, signals, a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from tests.support.subprocesses import complaints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "sk-canary-77aa"
ROOT = str(Path(__file__).parents[2])
PYTHON = [sys.executable, "-X", "dev", "-W", "error"]
EZVIDEO = [*PYTHON, "-m", "ezvideo_async.cli"]
# Signals that whoever runs the tests ignores would be ignored by the command, too.
HEED = """
import signal, sys
for name in 'INT', 'TERM', 'HUP':
    signal.signal(getattr(signal, f'SIG{name}'), signal.SIG_DFL)
from ezvideo_async.cli import main
sys.exit(main())
"""
HEEDING = [*PYTHON, "-c", HEED]
WATCH = ["watch", "--interval", "0.1", "--progress"]
LATE = 30.0  # seconds; never waited for unless something hangs

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and terminals of POSIX")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with a key and without anything else of ours."""
    ours = ("EZVIDEO_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = os.pathsep.join(filter(None, [ROOT, kept.get("PYTHONPATH")]))
    return kept | {"PYTHONPATH": path, "EZVIDEO_API_KEY": KEY, "COLUMNS": "80"}


@pytest.fixture
def start(
    environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command in an empty directory; it is over when the test is."""
    with contextlib.ExitStack() as stack:

        def start(
            *arguments: str, command: list[str] = EZVIDEO, **options: Any
        ) -> subprocess.Popen[str]:
            options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
            process = stack.enter_context(
                subprocess.Popen(
                    [*command, *arguments], env=environment, cwd=tmp_path, text=True, **options
                )
            )
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def ids(start: Callable[..., subprocess.Popen[str]], environment: dict[str, str]) -> list[str]:
    """The ids of a fake server's tasks, which run for at least twenty seconds."""
    serving = start("serve-fake", "--tasks", "5")
    exports, command = line_of(serving.stdout), line_of(serving.stdout)
    environment["EZVIDEO_BASE_URL"] = re.findall(r"EZVIDEO_BASE_URL=(\S+)", exports)[0]
    return command.split()[2:]


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process that ends; none of them shows the key."""
    out, err = process.communicate(timeout=LATE)
    assert KEY not in f"{out}{err}"
    assert "Traceback" not in f"{err}"
    return process.returncode, out, complaints(err)


# --- imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["watch", "--help"]])
def test_help_is_cheap(environment: dict[str, str], arguments: list[str]) -> None:
    """Help loads neither aiohttp nor asyncio, rich, attrs or cattrs."""
    code = (
        "import sys\nfrom ezvideo_async.cli import main\n"
        f"code = main({arguments})\n"
        "heavy = {'aiohttp', 'asyncio', 'anyio', 'attr', 'cattrs', 'rich', 'shtab', 'ssl'}\n"
        "sys.exit(code or ' '.join(heavy & set(sys.modules)) or 0)"
    )
    run = subprocess.run(
        [*PYTHON, "-c", code], env=environment, capture_output=True, text=True, check=False
    )

    assert (run.returncode, run.stderr) == (0, "")
    assert "ezvideo" in run.stdout


# --- streams -------------------------------------------------------------------------------------


def test_demo_in_a_pipe(start: Callable[..., subprocess.Popen[str]]) -> None:
    """Where nothing is a terminal, the demo prints plain lines and a summary."""
    code, out, err = ended(start("demo", "--tasks", "8", "--seconds", "0.5"))

    assert code == 0
    assert len(out.splitlines()) >= 8
    assert "\x1b" not in out + err
    assert re.search(r"8 tasks: 6 completed, 1 failed, 1 lost; \d+ requests in 0:\d\d", err)


@pytest.mark.fault("P10")
def test_nobody_reads_on(start: Callable[..., subprocess.Popen[str]], ids: list[str]) -> None:
    """When the reader of stdout leaves, the command ends quietly with 141, as head expects."""
    process = start(*WATCH, "--json", *ids)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()

    assert (process.wait(timeout=LATE), complaints(err)) == (141, "")


@pytest.mark.fault("P10")
def test_help_that_nobody_reads(start: Callable[..., subprocess.Popen[str]]) -> None:
    """Help into a closed pipe ends quietly as well."""
    reading, writing = os.pipe()
    os.close(reading)
    process = start("--help", stdout=writing)
    os.close(writing)

    assert ended(process) == (141, None, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["status"], WATCH])
def test_full_disk(
    start: Callable[..., subprocess.Popen[str]], ids: list[str], arguments: list[str]
) -> None:
    """A full disk under stdout is told in a sentence; a watch says how to go on with all ids."""
    with Path("/dev/full").open("w") as full:
        code, _, err = ended(start(*arguments, *ids, stdout=full))

    assert code == 1
    assert "ezvideo: stdout can't be written: No space left on device\n" in err
    assert (" ".join(ids) in err) == (arguments is WATCH)


@pytest.mark.fault("X3")
def test_the_key_is_in_no_process_list(
    start: Callable[..., subprocess.Popen[str]], ids: list[str]
) -> None:
    """The arguments that everybody can read do not hold the key."""
    process = start(*WATCH, "-vv", *ids)
    line_of(process.stdout)
    arguments = subprocess.run(
        ["ps", "-o", "args=", "-p", str(process.pid)], capture_output=True, text=True, check=False
    ).stdout
    process.terminate()

    assert KEY not in arguments
    assert ended(process)[0] == 143


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.fault("P1", "P2")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signal(
    start: Callable[..., subprocess.Popen[str]], ids: list[str], name: str, code: int
) -> None:
    """A signal stops the watch in order: a summary, and a command that goes on."""
    process = start(*WATCH, *ids, command=HEEDING)
    line_of(process.stdout)
    process.send_signal(getattr(signal, name))
    returned, _, err = ended(process)

    assert returned == code
    assert "5 tasks: 0 completed, 0 failed, 0 lost, 5 still open" in err
    assert err.endswith(f"go on with:\n  ezvideo watch --interval 0.1 --progress {' '.join(ids)}\n")


@pytest.mark.fault("P1")
def test_two_signals(start: Callable[..., subprocess.Popen[str]], ids: list[str]) -> None:
    """Ctrl-C twice is Ctrl-C, only sooner."""
    process = start(*WATCH, *ids, command=HEEDING)
    line_of(process.stdout)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)

    assert ended(process)[0] == 130


@pytest.mark.parametrize("arguments", [["demo"], ["serve-fake"]])
def test_signals_for_the_others(
    start: Callable[..., subprocess.Popen[str]], arguments: list[str]
) -> None:
    """The demo and the fake server end in order, too."""
    process = start(*arguments, command=HEEDING)
    line_of(process.stdout)
    process.send_signal(signal.SIGINT)

    assert ended(process)[0] == 130


# --- a terminal ----------------------------------------------------------------------------------


def test_on_a_terminal(start: Callable[..., subprocess.Popen[str]]) -> None:
    """On a terminal the demo draws, and leaves cursor and lines as they should be."""
    ours, theirs = pty.openpty()
    options = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = start("demo", "--tasks", "4", "--seconds", "0.5", **options)
    os.close(theirs)
    seen = all_of(ours)
    os.close(ours)

    assert process.wait(timeout=LATE) == 0
    assert "0/4 ended" in seen
    assert seen.count(" completed ") >= 2
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")


def test_no_live_view_beside_a_pipe(start: Callable[..., subprocess.Popen[str]]) -> None:
    """What comes out of a pipe may go to the same terminal, so nothing is drawn there."""
    ours, theirs = pty.openpty()
    process = start("demo", "--tasks", "4", "--seconds", "0.5", stderr=theirs)
    os.close(theirs)
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    seen = all_of(ours)
    os.close(ours)

    assert process.wait(timeout=LATE) == 0
    assert len(lines) >= 4
    assert "\x1b" not in seen
    assert "4 tasks: 2 completed" in seen


def all_of(terminal: int) -> str:
    """Everything a process shows on its terminal until it ends."""
    shown = b""
    with contextlib.suppress(OSError):  # Linux: the other end was closed
        while select.select([terminal], [], [], LATE)[0] and (part := os.read(terminal, 65_536)):
            shown += part
    return shown.decode("utf-8", "replace")
