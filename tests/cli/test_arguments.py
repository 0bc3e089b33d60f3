"""Tests of ``cli.arguments``: defaults, wrong usage, shell completion."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ezvideo_async import AsyncVideoClient, PollPolicy, RequestBudget
from ezvideo_async.cli.arguments import (
    DIALECTS,
    INTERVAL,
    RATE,
    REQUEST_TIMEOUT,
    TIMEOUT,
    parse_arguments,
)
from ezvideo_async.cli.exit_codes import UsageError
from ezvideo_async.testing import FakeVideoServer
from tests.cli.conftest import KEY


def test_defaults_are_those_of_the_library() -> None:
    """The command repeats the library's defaults without importing them."""
    timeout = inspect.signature(AsyncVideoClient.watch).parameters["timeout"].default

    client = inspect.signature(AsyncVideoClient).parameters

    assert (PollPolicy().interval, RequestBudget().rate) == (INTERVAL, RATE)
    assert timeout == TIMEOUT
    assert client["request_timeout"].default == REQUEST_TIMEOUT
    assert FakeVideoServer.dialects == DIALECTS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no command; try ezvideo demo, or ezvideo --help for a list of commands"),
        ("watch", "no task ids; use ezvideo watch ID ..., --from FILE, or - to read them"),
        ("status", "no task ids; use ezvideo status ID ..."),
        ("watch --from nowhere", "cannot read nowhere: No such file or directory"),
        ("watch --from empty", "empty contains no task ids; write one per line"),
        ("watch --store nowhere", "store 'nowhere' does not exist; check its name, or give task"),
        ("watch id --store empty", "empty' is empty; delete it, or use another file"),
        ("watch id --store redis://x", "store 'redis://x' is a url; name a file"),
        ("store empty", "empty' is empty; delete it, or use another file"),
        ("store nowhere", "nowhere' cannot be read: No such file"),
        ("store", "the following arguments are required: FILE; see ezvideo store --help"),
        ("watch .", "'.' can't be a task id"),
        ("watch id --frobnicate=7", "unknown option --frobnicate; see ezvideo watch --help"),
        ("demo id", "too many arguments; see ezvideo demo --help"),
        ("watch id --rate 0", "argument --rate: must be a number above 0, got '0'"),
        ("watch id --rate x", "argument --rate: must be a number above 0, got 'x'"),
        ("watch id --rate 1e9", "rate"),
        ("watch id --timeout 1e99", "timeout must be between 0 and"),
        ("watch id --interval 1e99", "interval must be between 0.001 and"),
        ("watch id --request-timeout 1e99", "request_timeout must be between 0.001 and"),
        ("watch id --proxy ftp://x", "proxy is not the url of an HTTP proxy"),
        ("watch id --header x-a", "argument --header: must be NAME:VALUE"),
        ("watch id --header :x", "argument --header: must be NAME:VALUE"),
        ("watch id --header x(a:b", "headers: 'x(a' is not a header name"),
        ("watch id --header host:x", "headers: host is set by the client itself"),
        ("watch id --header Authorization:x", "set EZVIDEO_API_KEY or give --api-key-file FILE"),
        ("watch id --base-url ftp://x", "base_url does not begin with http:// or https://"),
        ("watch id --base-url=", "--base-url is empty; give a URL like https://"),
        ("watch id --api-key-file nowhere", "cannot read the API key file nowhere: No such file"),
        ("watch id --api-key-file empty", "the first line of empty is empty; write the API key"),
        ("serve-fake --port 65536", "must be an integer from 0 to 65535, got '65536'"),
        ("serve-fake --dialect x", "argument --dialect: invalid choice: 'x' (choose from "),
        ("demo --tasks 0", "must be an integer from 1 to 100000, got '0'"),
    ],
)
def test_wrong_usage_sends_nothing(ezvideo: Any, server: Any, arguments: str, message: str) -> None:
    """Wrong usage is exit code 2 and one line on stderr, before any request."""
    Path("empty").touch()
    before = len(server.call("requests"))
    result = ezvideo(*arguments.split())

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("ezvideo: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert len(server.call("requests")) == before


@pytest.mark.fault("X3")
@pytest.mark.parametrize(
    "arguments",
    [
        ("watch", "id", "--api-key", KEY),
        ("watch", f"--api-key={KEY}"),
        ("--api-key", KEY, "status", "id"),
        ("demo", "--api-key"),
    ],
)
def test_an_api_key_argument_is_refused(ezvideo: Any, arguments: tuple[str, ...]) -> None:
    """An API key among the arguments is refused and not printed, and the message says why."""
    result = ezvideo(*arguments)

    assert result.code == 2
    assert "because every user of this machine can read the arguments" in result.err
    assert "EZVIDEO_API_KEY or give --api-key-file" in result.err


def completion_script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the completion script for a shell."""
    with pytest.raises(SystemExit, match="0"):
        parse_arguments(["--print-completion", shell])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("shell", "files"), [("bash", "compgen -f"), ("zsh", ":_files"), ("fish", "complete_path")]
)
def test_completion_script_names_commands(
    capsys: pytest.CaptureFixture[str], shell: str, files: str
) -> None:
    """The script contains commands, dialects and files, and not the refused option."""
    script = completion_script(shell, capsys)

    assert "serve-fake" in script
    assert "new-api-task" in script
    assert files in script
    assert "api-key-file" in script
    assert not re.search(r"api-key(?!-file)", script)


COMPLETE_IN_BASH = """
complete_words() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _shtab_ezvideo ezvideo "${@: -1}" "${@: -2:1}"
    echo "${COMPREPLY[@]}"
}
complete_words ezvideo watch --from ids
complete_words ezvideo watch --api-key-file ids
complete_words ezvideo watch --store ids
complete_words ezvideo store ids
complete_words ezvideo serve-fake --dialect new
"""
COMPLETE_IN_FISH = """
complete -C 'ezvideo watch --from ids'
complete -C 'ezvideo watch --api-key-file ids'
complete -C 'ezvideo watch --store ids'
complete -C 'ezvideo store ids'
complete -C 'ezvideo serve-fake --dialect new' | cut -f 1 | string join ' '
"""


@pytest.mark.parametrize(
    ("shell", "program"), [("bash", COMPLETE_IN_BASH), ("fish", COMPLETE_IN_FISH)]
)
def test_the_shell_completes_files_and_dialects(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shell: str, program: str
) -> None:
    """A real shell completes the name of a file and of a dialect."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "ids.txt").touch()
    script = completion_script(shell, capsys) + program
    ran = subprocess.run(
        [path], input=script, cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert ran.stdout.splitlines() == [*["ids.txt"] * 4, "new-api new-api-task"]


def test_completion_without_shtab_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shtab the message says what to install."""
    monkeypatch.setitem(sys.modules, "shtab", None)

    with pytest.raises(UsageError, match=r"pip install 'ezvideo_async\[cli\]'"):
        parse_arguments(["--print-completion", "bash"])
