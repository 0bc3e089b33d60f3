"""The page about the command line shows the help as it is, and every exit code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ezvideo_async.cli import exit_codes as _exits, main

PAGES = Path(__file__).parents[2] / "docs"
SHOWN = re.compile(r"```text\n\$ ezvideo(.*)\n(usage: [^`]*?)```\n")
COMMANDS = ["", "demo ", "status ", "watch ", "serve-fake "]


def shown_help() -> dict[str, str]:
    """The help texts in the page, by what is typed."""
    page = (PAGES / "reference" / "cli.md").read_text("utf-8")
    return {typed.strip(): text for typed, text in SHOWN.findall(page)}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_in_the_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The page holds what --help prints at 80 columns: put the text of the failure there."""
    monkeypatch.setenv("COLUMNS", "80")
    typed = f"{command}--help"

    assert main(typed.split()) == 0
    assert capsys.readouterr().out == shown_help().get(typed)


def test_no_other_help_in_the_page() -> None:
    """The page shows the help of no command that is gone."""
    assert {f"{command}--help" for command in COMMANDS} == set(shown_help())


@pytest.mark.parametrize(
    "code",
    [
        _exits.COMPLETED,
        _exits.NOT_ALL_COMPLETED,
        _exits.USAGE,
        _exits.KEY_REFUSED,
        _exits.STILL_OPEN,
        _exits.INTERRUPTED,
        _exits.PIPE_BROKEN,
        143,
        129,
    ],
)
def test_exit_codes_in_the_page(code: int) -> None:
    """The page has a row for each exit code."""
    assert f"\n| {code} |" in (PAGES / "reference" / "cli.md").read_text("utf-8")


def test_options_in_the_guide() -> None:
    """The guide names no option that the help does not know."""
    guide = (PAGES / "how-to" / "use-the-cli.md").read_text("utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z-]+", guide)) - {"--api-key"}

    assert named <= set(re.findall(r"--[a-z-]+", "".join(shown_help().values())))
