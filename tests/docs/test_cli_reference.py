"""Tests of the command-line pages: help texts, exit codes and options are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ezvideo_async.cli import exit_codes, main

DOCS = Path(__file__).parents[2] / "docs"
HELP_BLOCK = re.compile(r"```text\n\$ ezvideo (.*--help)\n(usage: [^`]*?)```\n")
COMMANDS = ["", "demo ", "status ", "watch ", "store ", "serve-fake "]


def reference() -> str:
    """Return the source of the reference page."""
    return (DOCS / "reference" / "cli.md").read_text("utf-8")


def help_blocks() -> dict[str, str]:
    """Return the help texts in the reference page by arguments."""
    return dict(HELP_BLOCK.findall(reference()))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_blocks_are_current(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The page contains what --help prints at 80 columns; on a failure, copy the new text there."""
    monkeypatch.setenv("COLUMNS", "80")
    arguments = f"{command}--help"

    assert main(arguments.split()) == 0
    assert capsys.readouterr().out == help_blocks().get(arguments)


def test_help_blocks_are_of_existing_commands() -> None:
    """The page contains the help of no other command."""
    assert set(help_blocks()) == {f"{command}--help" for command in COMMANDS}


def test_every_exit_code_has_a_row() -> None:
    """The table of exit codes is complete."""
    codes = {value for name, value in vars(exit_codes).items() if name.isupper()}
    signals = {exit_codes.SIGNALLED + number for number in (1, 15)}
    rows = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", reference())}

    assert rows == codes - {exit_codes.SIGNALLED} | signals


def test_the_guide_uses_existing_options() -> None:
    """The how-to guide contains no option that is missing from the help."""
    guide = (DOCS / "how-to" / "use-the-cli.md").read_text("utf-8")
    used = set(re.findall(r"(?<![\w-])--[a-z-]+", guide)) - {"--api-key"}

    assert used <= set(re.findall(r"--[a-z-]+", "".join(help_blocks().values())))
