"""Tests of the command as a process: imports, streams, signals, a terminal."""

from __future__ import annotations

import contextlib
import json
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
# The command would inherit the signals that the test run ignores.
RESET_SIGNALS = """
import signal, sys
for name in 'INT', 'TERM', 'HUP':
    signal.signal(getattr(signal, f'SIG{name}'), signal.SIG_DFL)
from ezvideo_async.cli import main
sys.exit(main())
"""
EZVIDEO_WITH_SIGNALS = [*PYTHON, "-c", RESET_SIGNALS]
# A name server that never answers.
HANGING_LOOK_UP = """
import socket, sys, time

def getaddrinfo(*_, **__):
    print('looking up', flush=True)
    time.sleep(3600.0)

socket.getaddrinfo = getaddrinfo
"""
WATCH = ["watch", "--interval", "0.1", "--progress"]
TIMEOUT = 30.0  # seconds; reached only if something hangs

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and terminals of POSIX")


@pytest.fixture
def environment() -> dict[str, str]:
    """An environment with an API key and no other variable of ours."""
    ours = ("EZVIDEO_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = os.pathsep.join(filter(None, [ROOT, kept.get("PYTHONPATH")]))
    return kept | {"PYTHONPATH": path, "EZVIDEO_API_KEY": KEY, "COLUMNS": "80"}


@pytest.fixture
def start(
    environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command in an empty directory, and kill it after the test."""
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
    exports, command = read_line(serving.stdout), read_line(serving.stdout)
    environment["EZVIDEO_BASE_URL"] = re.findall(r"EZVIDEO_BASE_URL=(\S+)", exports)[0]
    return command.split()[2:]


def read_line(stream: IO[str] | None) -> str:
    """Read one line of a process."""
    assert stream is not None
    return stream.readline()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr, neither of which contains the API key."""
    out, err = process.communicate(timeout=TIMEOUT)
    assert KEY not in f"{out}{err}"
    assert "Traceback" not in f"{err}"
    return process.returncode, out, complaints(err)


# --- imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["watch", "--help"]])
def test_help_imports_little(environment: dict[str, str], arguments: list[str]) -> None:
    """Help imports neither aiohttp nor asyncio, rich, attrs or cattrs."""
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


@pytest.mark.fault("P10")
def test_a_closed_pipe_is_exit_code_141(
    start: Callable[..., subprocess.Popen[str]], ids: list[str]
) -> None:
    """When the reader of stdout exits, as head does, the command ends without a message."""
    process = start(*WATCH, "--json", *ids)
    read_line(process.stdout)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()

    assert (process.wait(timeout=TIMEOUT), complaints(err)) == (141, "")


@pytest.mark.fault("P10")
def test_a_closed_pipe_leaves_all_ids_in_the_store(
    start: Callable[..., subprocess.Popen[str]], ids: list[str]
) -> None:
    """With a store, the exit code is the same, and the ids are in it afterwards."""
    process = start(*WATCH, "--store", "watch.db", *ids)
    read_line(process.stdout)
    assert process.stdout is not None
    process.stdout.close()

    assert process.wait(timeout=TIMEOUT) == 141
    assert stored_ids(start) == ids


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["status"], WATCH])
def test_a_full_disk_is_reported(
    start: Callable[..., subprocess.Popen[str]], ids: list[str], arguments: list[str]
) -> None:
    """A full disk under stdout is one message; a watch also prints how to continue."""
    with Path("/dev/full").open("w") as full:
        code, _, err = finish(start(*arguments, *ids, stdout=full))

    assert code == 1
    assert "ezvideo: cannot write to stdout: No space left on device\n" in err
    assert (" ".join(ids) in err) == (arguments is WATCH)


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.fault("P1", "P2")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_stops_the_watch(
    start: Callable[..., subprocess.Popen[str]], ids: list[str], name: str, code: int
) -> None:
    """A signal ends the watch with a summary and a command that continues it."""
    process = start(*WATCH, *ids, command=EZVIDEO_WITH_SIGNALS)
    read_line(process.stdout)
    process.send_signal(getattr(signal, name))
    returned, _, err = finish(process)

    assert returned == code
    assert "5 tasks: 0 completed, 0 failed, 0 lost, 5 still open" in err
    command = f"ezvideo watch --interval 0.1 --progress {' '.join(ids)}"
    assert err.endswith(f"continue with:\n  {command}\n")


@pytest.mark.fault("P1", "P2")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_leaves_all_ids_in_the_store(
    start: Callable[..., subprocess.Popen[str]], ids: list[str], name: str, code: int
) -> None:
    """With a store, the ids are in it afterwards, and the command to continue needs none."""
    process = start(*WATCH, "--store", "watch.db", *ids, command=EZVIDEO_WITH_SIGNALS)
    read_line(process.stdout)
    in_use = finish(start("store", "watch.db"))
    process.send_signal(getattr(signal, name))
    returned, _, err = finish(process)

    assert (in_use[0], "is in use by another process" in in_use[2]) == (2, True)
    assert returned == code
    assert "not saved" not in err
    assert err.endswith("\n  ezvideo watch --store watch.db --interval 0.1 --progress\n")
    assert stored_ids(start) == ids


@pytest.mark.fault("P2")
def test_a_signal_says_what_is_not_saved(
    start: Callable[..., subprocess.Popen[str]], ids: list[str], tmp_path: Path
) -> None:
    """If the store cannot be written, stderr says so, and the command to continue has the ids."""
    options = ["--interval", "0.1", "--store", "watch.db"]
    process = start("watch", *options, *ids, command=EZVIDEO_WITH_SIGNALS)
    while not read_line(process.stdout).endswith("pending 0%\n"):
        pass
    (tmp_path / "watch.db").rename(tmp_path / "moved.db")
    while " processing " not in read_line(process.stdout):
        pass
    process.send_signal(signal.SIGTERM)
    returned, _, err = finish(process)

    assert returned == 143
    assert re.search(r"(?m)^ezvideo: \d states? not saved in watch.db$", err)
    assert " ".join(ids) in err.splitlines()[-1]


def stored_ids(start: Callable[..., subprocess.Popen[str]]) -> list[str]:
    """Return the ids that the command lists."""
    code, out, _ = finish(start("store", "--json", "watch.db"))
    assert code == 0
    return [json.loads(line)["task_id"] for line in out.splitlines()]


def test_a_signal_leaves_a_last_record_of_each_id(
    start: Callable[..., subprocess.Popen[str]], ids: list[str]
) -> None:
    """After a signal the last JSON record of each id has its last state and is not final."""
    process = start(*WATCH, "--json", *ids, command=EZVIDEO_WITH_SIGNALS)
    first = read_line(process.stdout)
    process.send_signal(signal.SIGINT)
    code, out, _ = finish(process)
    records = [json.loads(line) for line in [first, *out.splitlines()]]
    last = {record["task_id"]: record for record in records}

    assert code == 130
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert [record["task_id"] for record in records[-5:]] == ids
    assert {(record["event"], record["final"]) for record in last.values()} == {
        ("still_open", False)
    }
    assert last[records[0]["task_id"]]["task"]["status"] == records[0]["current"]


@pytest.mark.parametrize("command", ["watch", "status"])
def test_a_signal_ends_a_hanging_look_up(
    start: Callable[..., subprocess.Popen[str]], command: str
) -> None:
    """The command ends within 2 s of a signal while the look-up of the host name hangs."""
    program = [*PYTHON, "-c", HANGING_LOOK_UP + RESET_SIGNALS]
    process = start(command, "--base-url", "https://x.example.test/v1", "vid_1", command=program)
    assert read_line(process.stdout) == "looking up\n"
    process.send_signal(signal.SIGINT)
    code = process.wait(timeout=2.0)

    assert code == 130
    assert "Traceback" not in finish(process)[2]


# --- a terminal ----------------------------------------------------------------------------------


def test_the_live_view_restores_the_terminal(start: Callable[..., subprocess.Popen[str]]) -> None:
    """On a terminal the demo draws the live view, and shows the cursor again at the end."""
    ours, theirs = pty.openpty()
    options = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = start("demo", "--tasks", "4", "--seconds", "0.5", **options)
    os.close(theirs)
    shown = read_all(ours)
    os.close(ours)

    assert process.wait(timeout=TIMEOUT) == 0
    assert "0/4 ended" in shown
    assert shown.count(" completed ") >= 2
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_no_live_view_beside_a_pipe(start: Callable[..., subprocess.Popen[str]]) -> None:
    """With stdout in a pipe the demo prints plain lines and a summary."""
    ours, theirs = pty.openpty()
    process = start("demo", "--tasks", "4", "--seconds", "0.5", stderr=theirs)
    os.close(theirs)
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    shown = read_all(ours)
    os.close(ours)

    assert process.wait(timeout=TIMEOUT) == 0
    assert len(lines) >= 4
    assert "\x1b" not in shown
    assert "4 tasks: 2 completed, 1 failed, 1 lost" in shown


def read_all(terminal: int) -> str:
    """Return everything that a process writes to its terminal until it ends."""
    shown = b""
    with contextlib.suppress(OSError):  # Linux: the other end was closed
        while select.select([terminal], [], [], TIMEOUT)[0]:
            part = os.read(terminal, 65_536)
            if not part:
                break
            shown += part
    return shown.decode("utf-8", "replace")
