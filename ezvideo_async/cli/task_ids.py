"""Task ids from arguments, files and stdin, and the command that continues with open ones."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ezvideo_async._domain.validation import validate_task_id
from ezvideo_async.cli.arguments import INTERVAL, RATE, REQUEST_TIMEOUT, TIMEOUT
from ezvideo_async.cli.exit_codes import UsageError
from ezvideo_async.cli.formatting import clean
from ezvideo_async.cli.output import print_error

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Sequence

_STDIN = "-"
_FILE_NAME = "ezvideo-open-ids"
_MAX_COMMAND_LENGTH = 320  # characters: four lines of a narrow terminal
_MAX_FILES = 1_000
_NUMBERS = {
    "--request-timeout": REQUEST_TIMEOUT,
    "--rate": RATE,
    "--interval": INTERVAL,
    "--timeout": TIMEOUT,
}
_FLAGS = ("--allow-insecure", "--json", "--progress", "--any", "--fail-fast")


def read_task_ids(args: Namespace) -> list[str]:
    """
    Return the ids from the arguments, --from and stdin, without duplicates, in order.

    Raises:
        UsageError: There are no ids, or they cannot be read.
        InvalidTaskIdError: One of them is not a valid task id.
    """
    ids: list[str] = []
    for word in args.ids:
        ids += _from_stdin() if word == _STDIN else [word]
    if args.file is not None:
        ids += _from_file(Path(args.file))
    if not ids and not _is_stored(args):
        raise UsageError(
            f"no task ids; use ezvideo {args.command} ID ..., --from FILE, "
            "or - to read them from stdin"
        )
    return list(dict.fromkeys(map(validate_task_id, ids)))


def _is_stored(args: Namespace) -> bool:
    """
    Return True if the ids may all come from a store.

    Raises:
        UsageError: The store does not exist; its name is probably mistyped.
    """
    file = getattr(args, "store", None)
    if file is not None and not os.path.lexists(file):
        raise UsageError(f"store {file!a} does not exist; check its name, or give task ids")
    return file is not None


def _from_stdin() -> list[str]:
    if sys.stdin is None:
        raise UsageError("stdin is closed; pipe task ids into it, one per line")
    if sys.stdin.isatty():
        print_error("type task ids, one per line; Ctrl-D ends the list")
    ids = _parse_lines(sys.stdin.buffer.read(), "stdin")
    # A space is valid in an id, but more likely this is a line of a log.  Files are not checked:
    # resume_command() writes such ids to files.
    with_space = next((task_id for task_id in ids if len(task_id.split()) > 1), None)
    if with_space is not None:
        shown = clean(with_space[:80])
        raise UsageError(f"stdin: {shown!r} contains a space; write one task id per line")
    return ids


def _from_file(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    return _parse_lines(content, str(path))


def _parse_lines(content: bytes, source: str) -> list[str]:
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UsageError(f"{source} is not UTF-8 text; write one task id per line") from None
    ids = [line.strip() for line in lines if not line.lstrip().startswith("#")]
    if not any(ids):
        raise UsageError(f"{source} contains no task ids; write one per line")
    return [task_id for task_id in ids if task_id]


def resume_command(args: Namespace, open_ids: Sequence[str]) -> str:
    """
    Return a command line that continues watching *open_ids*, and those of the store.

    If it would be long, the ids are written to a new file in the current directory; if that
    fails, the command line is long.
    """
    command = ["ezvideo", "watch", *_option_words(args)]
    line = _with_ids(command, open_ids)
    if len(line) <= _MAX_COMMAND_LENGTH and all(map(_is_typeable, open_ids)):
        return line
    not_for_file = [task_id for task_id in open_ids if _as_read_from_file(task_id) != task_id]
    path = _save(task_id for task_id in open_ids if _as_read_from_file(task_id) == task_id)
    return line if path is None else _with_ids([*command, "--from", path], not_for_file)


def _is_typeable(task_id: str) -> bool:
    return task_id != _STDIN and clean(task_id) == task_id


def _as_read_from_file(task_id: str) -> str:
    stripped = task_id.strip()
    return "" if stripped.startswith("#") else stripped


def _with_ids(command: Iterable[str], ids: Sequence[str]) -> str:
    guard = ["--"] if any(task_id.startswith("-") for task_id in ids) else []
    return clean(shlex.join([*command, *guard, *ids]))


def _option_words(args: Namespace) -> list[str]:
    words: list[str] = []
    if args.base_url is not None:
        words += ["--base-url", args.base_url]
    if args.api_key_file is not None:
        words += ["--api-key-file", args.api_key_file]
    if args.proxy is not None:
        words += ["--proxy", _without_login(args.proxy)]
    for name, value in args.headers:
        words += ["--header", f"{name}:{value}"]
    if args.store is not None:
        words += ["--store", args.store]
    for option, default in _NUMBERS.items():
        number = getattr(args, _attribute(option))
        if number != default:
            words += [option, f"{number:g}"]
    return words + [flag for flag in _FLAGS if getattr(args, _attribute(flag))]


def _without_login(proxy: str) -> str:
    """Replace the login in a proxy's url, because what is printed may be kept in a log."""
    scheme, separator, rest = proxy.rpartition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{separator}USER:PASSWORD@{host}" if at else proxy


def _attribute(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _save(ids: Iterable[str]) -> str | None:
    """Write ids to a new file and return its name; None if that fails."""
    content = "".join(f"{task_id}\n" for task_id in ids)
    for number in range(1, _MAX_FILES):
        name = f"{_FILE_NAME}.txt" if number == 1 else f"{_FILE_NAME}-{number}.txt"
        try:
            with Path(name).open("x", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            continue
        except OSError:
            return None
        return name
    return None
