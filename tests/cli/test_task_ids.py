"""Tests of ``cli.task_ids``: reading ids, and the command that continues a watch."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from ezvideo_async import InvalidTaskIdError
from ezvideo_async._domain.validation import validate_task_id
from ezvideo_async.cli.arguments import parse_arguments
from ezvideo_async.cli.exit_codes import UsageError
from ezvideo_async.cli.formatting import clean
from ezvideo_async.cli.task_ids import read_task_ids, resume_command


class FakeStdin:
    """A stdin with some bytes, or one that raises an error."""

    def __init__(self, content: bytes, *, is_terminal: bool = False) -> None:
        self.buffer = self
        self.content = content
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        """Return whether a person types the ids."""
        return self.is_terminal

    def read(self) -> bytes:
        """Return all bytes."""
        return self.content


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read_ids(command: str) -> list[str]:
    """Return the ids that a printed command line would watch."""
    words = shlex.split(command)
    assert words[:2] == ["ezvideo", "watch"]
    return read_task_ids(parse_arguments(words[1:]))


def resume(*ids: str, options: str = "") -> str:
    """Return the command that continues with these ids."""
    return resume_command(parse_arguments(["watch", *shlex.split(options), "x"]), ids)


# --- reading -------------------------------------------------------------------------------------


def test_ids_are_read_from_a_file() -> None:
    """A file may contain blank lines, comments, a byte-order mark, and an id twice."""
    Path("ids").write_text("\ufeffvid_1\r\n\n # no id\n  vid_2\nvid_1\n", "utf-8")

    assert read_ids("ezvideo watch --from ids vid_3") == ["vid_3", "vid_1", "vid_2"]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_ids_are_read_from_stdin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_terminal: bool
) -> None:
    """A lone - means the ids on stdin; on a terminal a hint is printed."""
    monkeypatch.setattr(sys, "stdin", FakeStdin(b"# ids\nvid_1\n", is_terminal=is_terminal))

    assert read_ids("ezvideo watch - vid_2") == ["vid_1", "vid_2"]
    hint = "ezvideo: type task ids, one per line; Ctrl-D ends the list\n"
    assert capsys.readouterr().err == (hint if is_terminal else "")


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (None, "stdin is closed; pipe task ids into it, one per line"),
        (FakeStdin(b""), "stdin contains no task ids; write one per line"),
        (FakeStdin(b"# nothing\n\n"), "stdin contains no task ids; write one per line"),
        (
            FakeStdin(b"vid_1\nvid_2 by bob\n"),
            "stdin: 'vid_2 by bob' contains a space; write one task id per line",
        ),
        (FakeStdin(b"\xff\xfe"), "stdin is not UTF-8 text; write one task id per line"),
    ],
)
def test_unusable_stdin_is_refused(
    monkeypatch: pytest.MonkeyPatch, stdin: FakeStdin | None, message: str
) -> None:
    """A list without usable ids is wrong usage, and the message says what to do."""
    monkeypatch.setattr(sys, "stdin", stdin)

    with pytest.raises(UsageError) as raised:
        read_ids("ezvideo watch -")

    assert str(raised.value) == message


# --- continuing ----------------------------------------------------------------------------------


def test_few_ids_are_in_the_command() -> None:
    """A few ids are in the command itself, quoted for a shell."""
    assert resume("vid_1", "vid 2") == "ezvideo watch vid_1 'vid 2'"
    assert resume("-1") == "ezvideo watch -- -1"


def test_options_are_kept() -> None:
    """The options that were given are in the command again."""
    options = (
        "--base-url http://x/v1 --api-key-file key --proxy environment "
        "--header 'x-a:b c' --header x-d:e "
        "--store watch.db --request-timeout 9 --rate 7 --interval 2 --timeout 60 "
        "--allow-insecure --json --progress --any --fail-fast"
    )

    assert resume("vid_1", options=options) == f"ezvideo watch {options} vid_1"


def test_a_store_needs_no_ids() -> None:
    """With a store, the command has no ids, and those of the store are watched."""
    Path("watch.db").touch()

    assert resume(options="--store watch.db") == "ezvideo watch --store watch.db"
    assert read_ids("ezvideo watch --store watch.db") == []
    assert read_ids("ezvideo watch --store new.db vid_1") == ["vid_1"]


@pytest.mark.parametrize("login", ["", "user:canary@", "canary@", "a@b:canary@"])
def test_the_login_of_a_proxy_is_not_printed(login: str) -> None:
    """The url of a proxy is in the command, with words in place of user and password."""
    printed = resume("vid_1", options=f"--proxy http://{login}proxy:3128")

    shown = "USER:PASSWORD@" if login else ""
    assert printed == f"ezvideo watch --proxy http://{shown}proxy:3128 vid_1"


def test_many_ids_are_written_to_a_new_file() -> None:
    """Many ids go to a new file, and an existing file is never overwritten."""
    ids = [f"vid_{number}" for number in range(1_000)]
    first, second = resume(*ids), resume(*ids[1:])

    assert first == "ezvideo watch --from ezvideo-open-ids.txt"
    assert second == "ezvideo watch --from ezvideo-open-ids-2.txt"
    assert read_ids(first) == ids
    assert read_ids(second) == ids[1:]


@example(ids=["vid\u202e1", "#2", " 3", "视频4", "-5", "-"])
@given(ids=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True))
def test_the_command_watches_the_same_ids(
    ids: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Ids that cannot be typed go to the file, ids that a file cannot hold to the command."""
    usable = [task_id for task_id in ids if is_usable(task_id)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        if usable:
            assert sorted(read_ids(resume(*usable))) == sorted(usable)


def is_usable(task_id: str) -> bool:
    """Return whether an id is valid and fits into the file or into the command."""
    try:
        validate_task_id(task_id)
    except InvalidTaskIdError:
        return False
    fits_in_file = task_id == task_id.strip() and not task_id.startswith("#")
    return fits_in_file or clean(task_id) == task_id


@pytest.mark.parametrize("error", [PermissionError, FileExistsError])
def test_ids_are_in_the_command_if_no_file_can_be_written(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """Without write access, or with all file names in use, the command is long."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Path, "open", fail)
    ids = [f"vid_{number}" for number in range(100)]

    assert resume(*ids) == f"ezvideo watch {' '.join(ids)}"
