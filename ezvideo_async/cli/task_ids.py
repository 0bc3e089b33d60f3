"""Where task ids come from, and the command line that goes on with those that are left."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ezvideo_async._domain.validation import validate_task_id
from ezvideo_async.cli.arguments import INTERVAL, RATE, TIMEOUT
from ezvideo_async.cli.clean import clean
from ezvideo_async.cli.exit_codes import UsageError, say

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Sequence

_STDIN = "-"
_OPEN_IDS = "ezvideo-open-ids"
_LONGEST_COMMAND = 320  # characters: four lines of a narrow terminal
_MAX_FILES = 1_000


def ids_of(args: Namespace) -> list[str]:
    """
    Collect the ids that were asked for, each once, in order.

    Raises:
        UsageError: There are none, or a file can't be read.
        InvalidTaskIdError: One can't be a task id.
    """
    ids: list[str] = []
    for word in args.ids:
        ids += _from_stdin() if word == _STDIN else [word]
    if args.file is not None:
        ids += _from_file(Path(args.file))
    if not ids:
        raise UsageError(
            f"no task ids; give some, as in: ezvideo {args.command} ID ..., or --from FILE, "
            "or - to read them from stdin"
        )
    return list(dict.fromkeys(map(validate_task_id, ids)))


def _from_stdin() -> list[str]:
    if sys.stdin is None:
        raise UsageError("stdin is closed; pipe task ids into it, one a line")
    if sys.stdin.isatty():
        say("ezvideo: type task ids, one a line; Ctrl-D ends the list")
    ids = _listed(sys.stdin.buffer.read(), "stdin")
    # Legal in an id, but rather a line of a log; a file may hold what we wrote there ourselves.
    odd = next((task_id for task_id in ids if len(task_id.split()) > 1), None)
    if odd is not None:
        raise UsageError(f"stdin: {clean(odd[:80])!r} holds a blank; write one task id a line")
    return ids


def _from_file(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None
    return _listed(content, str(path))


def _listed(content: bytes, source: str) -> list[str]:
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UsageError(f"{source} is not UTF-8 text; write one task id a line") from None
    ids = [line.strip() for line in lines if not line.lstrip().startswith("#")]
    if not any(ids):
        raise UsageError(f"{source} holds no task ids; write one a line")
    return [task_id for task_id in ids if task_id]


def resume_command(args: Namespace, open_ids: Sequence[str]) -> str:
    """
    Write the command line that goes on with *open_ids*.

    When it would be long, the ids go to a new file in the current directory; if that can't be
    written, the command line is long.
    """
    command = ["ezvideo", "watch", *_given_options(args)]
    line = _with_ids(command, open_ids)
    if len(line) <= _LONGEST_COMMAND and all(map(_can_be_typed, open_ids)):
        return line
    unlisted = [task_id for task_id in open_ids if _listed_as(task_id) != task_id]
    path = _saved(task_id for task_id in open_ids if _listed_as(task_id) == task_id)
    return line if path is None else _with_ids([*command, "--from", path], unlisted)


def _can_be_typed(task_id: str) -> bool:
    return task_id != _STDIN and clean(task_id) == task_id


def _listed_as(task_id: str) -> str:
    stripped = task_id.strip()
    return "" if stripped.startswith("#") else stripped


def _with_ids(command: Iterable[str], ids: Sequence[str]) -> str:
    guard = ["--"] if any(task_id.startswith("-") for task_id in ids) else []
    return clean(shlex.join([*command, *guard, *ids]))


def _given_options(args: Namespace) -> list[str]:
    words: list[str] = []
    if args.base_url is not None:
        words += ["--base-url", args.base_url]
    if args.api_key_file is not None:
        words += ["--api-key-file", args.api_key_file]
    for name, usual in (("rate", RATE), ("interval", INTERVAL), ("timeout", TIMEOUT)):
        if getattr(args, name) != usual:
            words += [f"--{name}", f"{getattr(args, name):g}"]
    return words + [f"--{name}" for name in ("json", "progress") if getattr(args, name)]


def _saved(ids: Iterable[str]) -> str | None:
    """Write ids to a file that was not there before; None when that can't be done."""
    content = "".join(f"{task_id}\n" for task_id in ids)
    for number in range(1, _MAX_FILES):
        name = f"{_OPEN_IDS}.txt" if number == 1 else f"{_OPEN_IDS}-{number}.txt"
        try:
            with Path(name).open("x", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            continue
        except OSError:
            return None
        return name
    return None
