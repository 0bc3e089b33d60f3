"""Tests of ``watch --store`` and of ``store`` in this process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ezvideo_async import AsyncVideoClient, TaskStatus
from ezvideo_async.cli import output
from ezvideo_async.cli.arguments import parse_arguments
from ezvideo_async.cli.commands.watch import _watch
from ezvideo_async.cli.summary import Summary
from ezvideo_async.store import StoredTask
from ezvideo_async.store.sqlite import SqliteStore
from ezvideo_async.testing import FakeVideoServer

if TYPE_CHECKING:
    from collections.abc import Sequence

WATCH = ("watch", "--interval", "0.05", "--rate", "1000", "--store", "watch.db")


# --- watch ---------------------------------------------------------------------------------------


def test_a_watch_without_ids_finishes_what_is_left(ezvideo: Any, server: Any) -> None:
    """The command to continue has no ids; it watches those of the store, and counts them."""
    completed, running = server.add("completed", "never")
    first = ezvideo(*WATCH, "--any", completed, running)
    server.call("finish", running)
    second = ezvideo(*WATCH)
    third = ezvideo(*WATCH)

    assert first.code == 0
    assert "2 tasks: 1 completed, 0 failed, 0 lost, 1 still open" in first.err
    assert "restored" not in first.err
    assert first.err.endswith("ezvideo watch --store watch.db --rate 1000 --interval 0.05 --any\n")
    assert (second.code, [line.split()[2:4] for line in second.lines]) == (
        0,
        [[running, "completed"]],
    )
    assert "1 task: 1 completed, 0 failed, 0 lost; 1 request " in second.err
    assert second.err.endswith("  1 restored from the store\n")
    assert (third.code, third.out) == (0, "")
    assert third.err.startswith("0 tasks: ")


def test_the_same_command_watches_only_what_is_left(ezvideo: Any, server: Any) -> None:
    """Ids given again that ended in an earlier watch are counted apart, and not requested."""
    completed, failed = server.add("completed", "failed")
    ezvideo(*WATCH, completed)
    result = ezvideo(*WATCH, completed, failed)

    assert (result.code, len(result.lines)) == (1, 1)
    assert "1 task: 0 completed, 1 failed" in result.err
    assert "\n  1 ended in an earlier watch; not watched again\n" in result.err
    assert len(server.call("requests", completed)) == 1


def test_ids_past_the_timeout_are_in_the_command(ezvideo: Any, server: Any) -> None:
    """A store keeps no id whose timeout was reported, so that the command to continue has it."""
    (never,) = server.add("never")
    result = ezvideo(*WATCH, "--timeout", "0.3", never)
    listed = ezvideo("store", "watch.db")

    assert result.code == 4
    assert result.err.endswith(f"--timeout 0.3 {never}\n")
    assert listed.out == ""


def test_a_store_of_another_server_is_refused(ezvideo: Any, server: Any) -> None:
    """A store that cannot be opened is exit code 2 and one line, before any request."""
    (never,) = server.add("never")
    ezvideo(*WATCH, "--timeout", "0.2", never)
    before = len(server.call("requests"))
    result = ezvideo(*WATCH, "--json", "--base-url", "http://127.0.0.1:9/v1", never)

    assert (result.code, result.out) == (2, "")
    assert "belongs to another base_url" in result.err
    assert result.err.count("\n") == 1
    assert len(server.call("requests")) == before


async def watch_with_moved_file(server: FakeVideoServer, *options: str, stop: bool = False) -> int:
    """Watch a task that changes after its store was moved; cancel the watch, or let it end."""
    task_id = server.add_task(duration=60.0)
    args = parse_arguments(["watch", "--store", "watch.db", *options, task_id])
    client = AsyncVideoClient("key", base_url=server.base_url)
    command = asyncio.create_task(_watch(args, client, Summary([task_id])))
    await asyncio.sleep(1.0)
    await asyncio.to_thread(Path("watch.db").rename, "moved.db")
    if stop:
        await asyncio.sleep(30.0)
        command.cancel()
    return await command


async def test_unsaved_states_are_exit_code_6(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the last state cannot be saved, all tasks completed is 6 instead of 0."""
    monkeypatch.chdir(tmp_path)
    async with FakeVideoServer() as server:
        code = await watch_with_moved_file(server)
    err = capsys.readouterr().err

    assert code == 6
    assert "watch.db' was moved, deleted or replaced while open; put it back\n" in err
    assert "1 task: 1 completed" in err
    assert err.endswith("ezvideo: 1 state not saved in watch.db\n")


async def test_unsaved_states_replace_exit_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a timeout it is 6 instead of 4, and the command to continue has all open ids."""
    monkeypatch.chdir(tmp_path)
    async with FakeVideoServer() as server:
        code = await watch_with_moved_file(server, "--timeout", "30")
    command = capsys.readouterr().err.splitlines()[-1].split()

    assert code == 6
    assert command[-1].startswith("vid_")


async def test_unsaved_states_are_printed_after_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cancelled watch stays cancelled, and stderr says how many states are not saved."""
    monkeypatch.chdir(tmp_path)
    async with FakeVideoServer() as server:
        with pytest.raises(asyncio.CancelledError):
            await watch_with_moved_file(server, stop=True)

    assert "ezvideo: 1 state not saved in watch.db\n" in capsys.readouterr().err


async def test_a_full_disk_under_both_is_exit_code_6(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If neither stdout nor the store can be written, the exit code is 6 instead of 1."""

    def fail(event: Any) -> None:
        if event.is_final:
            raise OSError(28, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(output, "write_line", fail)
    async with FakeVideoServer() as server:
        code = await watch_with_moved_file(server)
    err = capsys.readouterr().err

    assert code == 6
    assert "ezvideo: cannot write to stdout: No space left on device\n" in err
    assert "ezvideo: 1 state not saved in watch.db\n" in err


# --- store ---------------------------------------------------------------------------------------


def save(*rows: StoredTask) -> None:
    """Write rows to a new store."""

    async def write() -> None:
        store = SqliteStore("watch.db")
        await store.open(base_url="https://x.test/v1", fingerprint=lambda _: None, task_ids=())
        await store.write(rows, durable=False)
        await store.aclose()

    asyncio.run(write())


def rows() -> Sequence[StoredTask]:
    """Return one row of each kind."""
    body = b'{"id": "%s", "status": "%s", "progress": 42, "url": "https://cdn.test/v.mp4"}'
    loss = {"reason": "not_found", "error": "TaskNotFoundError", "message": "no such task"}
    return [
        StoredTask(task_id="new", added_at=1.0, deadline_at=9.0, tag='{"user": "\u202eann"}'),
        StoredTask(
            task_id="running",
            added_at=2.0,
            status=TaskStatus.PROCESSING,
            body=body % (b"running", b"processing"),
        ),
        StoredTask(task_id="no body", added_at=3.0, status=TaskStatus.PENDING),
        StoredTask(
            task_id="done",
            added_at=4.0,
            status=TaskStatus.COMPLETED,
            body=body % (b"done", b"completed"),
            final_kind="task_completed",
        ),
        StoredTask(
            task_id="lost\u202e", added_at=5.0, final_kind="task_lost", loss=json.dumps(loss)
        ),
    ]


def test_store_lists_ids_and_last_states(ezvideo: Any) -> None:
    """Each id has a line in the order of adding, and what a terminal would execute is escaped."""
    save(*rows())
    result = ezvideo("store", "watch.db")

    assert result.code == 0
    assert result.lines == [
        "new without status",
        "running processing 42%",
        "no body pending",
        "done completed https://cdn.test/v.mp4",
        r"lost\u202e lost not_found: no such task",
    ]
    assert result.err == "5 tasks: 3 open, 2 ended; the next watch delivers their final events\n"


def test_store_json_has_a_record_per_id(ezvideo: Any) -> None:
    """With --json each line is an object with the same keys, in ASCII."""
    save(*rows())
    result = ezvideo("store", "--json", "watch.db")
    new, running, _, done, lost = map(json.loads, result.lines)

    assert result.out.isascii()
    assert new == {
        "task_id": "new",
        "status": None,
        "final_kind": None,
        "tag": {"user": "\u202eann"},
        "added_at": 1.0,
        "deadline_at": 9.0,
        "changed_at": None,
        "task": None,
        "loss": None,
    }
    assert (running["status"], running["task"]["progress"]) == ("processing", 42)
    assert (done["final_kind"], done["task"]["id"]) == ("task_completed", "done")
    assert lost["loss"] == {
        "reason": "not_found",
        "error": {"type": "TaskNotFoundError", "message": "no such task"},
    }
