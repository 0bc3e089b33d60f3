"""Completion scripts for bash, zsh and fish."""

from __future__ import annotations

import argparse
from typing import NoReturn

from ezvideo_async.cli.exit_codes import UsageError


class PrintCompletion(argparse.Action):
    """Option that prints the completion script of a shell, and exits."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 -- passed by name
        values: object,
        option_string: str | None = None,  # noqa: ARG002 -- likewise
    ) -> NoReturn:
        """Print the script; argparse calls this when the option is given."""
        try:
            import shtab  # noqa: PLC0415 -- optional, and rarely needed
        except ModuleNotFoundError:
            raise UsageError("completion needs shtab; pip install 'ezvideo_async[cli]'") from None
        _complete_files(parser, shtab.FILE)
        print(shtab.complete(parser, shell=str(values)))
        parser.exit()


def _complete_files(parser: argparse.ArgumentParser, complete: object) -> None:
    """Mark the options that take a file, also those of the commands, as shtab reads it."""
    for action in parser._actions:  # noqa: SLF001 -- argparse has no public list of them
        if action.metavar == "FILE":
            vars(action)["complete"] = complete
        elif isinstance(action.choices, dict):
            for command in action.choices.values():
                _complete_files(command, complete)
