"""Tests of the commands in this process, against a fake server in another thread."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

import pytest

from ezvideo_async import AsyncVideoClient
from ezvideo_async.cli.commands.demo import demo
from ezvideo_async.cli.commands.status import _status
from ezvideo_async.cli.commands.watch import _open_records
from ezvideo_async.cli.summary import Summary
from ezvideo_async.testing import FakeVideoServer

WATCH = ("watch", "--interval", "0.05", "--rate", "1000")


def test_watch_prints_events_and_a_summary(ezvideo: Any, server: Any) -> None:
    """Lines with the urls are on stdout, the summary is on stderr, the exit code is 0."""
    ids = server.add("completed", "completed")
    result = ezvideo(*WATCH, *ids)

    assert result.code == 0
    assert sorted(line.split(" ", 2)[2] for line in result.lines) == [
        f"{task_id} completed https://storage.example.test/videos/{task_id}.mp4" for task_id in ids
    ]
    assert result.err == "2 tasks: 2 completed, 0 failed, 0 lost; 2 requests in 0:00\n"


def test_watch_prints_progress_on_request(ezvideo: Any, server: Any) -> None:
    """Each status is printed once; changes of progress alone only with --progress."""
    plain = ezvideo(*WATCH, *server.add("completed", duration=0.4)).lines
    states = [line.split()[3] for line in plain]
    more = ezvideo(*WATCH, "--progress", *server.add("completed", duration=0.4)).lines

    assert states[-1] == "completed"
    assert set(states) <= {"pending", "processing", "completed"}
    assert len(more) > len(states) == len(set(states))


@pytest.mark.parametrize(
    ("outcomes", "code", "line", "summary"),
    [
        (
            ("completed", "failed", "cancelled"),
            1,
            " failed cancelled",
            "1 failed: content_policy_violation: The prompt was rejected",
        ),
        (
            ("failed", "never"),
            4,
            " lost deadline: not finished before the timeout",
            "continue with:\n  ezvideo watch --rate 1000 --interval 0.05 --timeout 0.3 vid_",
        ),
    ],
)
def test_watch_reports_tasks_that_did_not_complete(
    ezvideo: Any, server: Any, outcomes: tuple[str, ...], code: int, line: str, summary: str
) -> None:
    """Failed tasks are exit code 1; a task past the timeout is 4, also beside failed ones."""
    result = ezvideo(*WATCH, "--timeout", "0.3", *server.add(*outcomes))

    assert result.code == code
    assert line in result.out
    assert summary in result.err


@pytest.mark.parametrize(
    ("option", "outcome", "code"),
    [("--any", "completed", 0), ("--any", "failed", 1), ("--fail-fast", "failed", 1)],
)
def test_watch_stops_after_the_first_final_event(
    ezvideo: Any, server: Any, option: str, outcome: str, code: int
) -> None:
    """Ids still open do not count for the exit code, and are in the command to continue."""
    first, never = server.add(outcome, "never")
    result = ezvideo(*WATCH, option, "--json", first, never)
    last = {record["task_id"]: record["event"] for record in map(json.loads, result.lines)}

    assert result.code == code
    assert last == {first: f"task_{outcome}", never: "still_open"}
    assert "1 still open" in result.err
    assert result.err.endswith(f"{option} {never}\n")


def test_fail_fast_continues_after_a_completed_task(ezvideo: Any, server: Any) -> None:
    """With --fail-fast a completed task does not stop the watch, a lost one does."""
    ids = server.add("completed", "completed")
    result = ezvideo(*WATCH, "--fail-fast", *ids)
    timed_out = ezvideo(*WATCH, "--fail-fast", "--timeout", "0.1", *server.add("never"))

    assert (result.code, len(result.lines)) == (0, 2)
    assert timed_out.code == 4


@pytest.mark.fault("X19")
def test_watch_json_is_ascii(ezvideo: Any, server: Any) -> None:
    """With --json, stdout is one ASCII JSON object per line, the last of a task being final."""
    server.call("add_task", "视频\u202e1", duration=0.0, outcome="failed")
    result = ezvideo(*WATCH, "--json", "视频\u202e1")
    event = json.loads(result.lines[-1])

    assert result.out.isascii()
    assert (event["event"], event["task_id"]) == ("task_failed", "视频\u202e1")
    assert event["final"]
    assert event["task"]["status"] == "failed"


def test_watch_json_says_how_each_id_ended(
    ezvideo: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id still open when an error ends the watch has a last record with that error."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "sk-other")
    ids = server.add("completed", "never")
    result = ezvideo(*WATCH, "--json", *ids)
    records = [json.loads(line) for line in result.lines]

    assert result.code == 3
    assert [(record["event"], record["task_id"], record["seq"]) for record in records] == [
        ("still_open", ids[0], 1),
        ("still_open", ids[1], 2),
    ]
    assert {record["error"]["type"] for record in records} == {"AuthenticationError"}
    assert {(record["final"], record["task"]) for record in records} == {(False, None)}


async def test_a_final_event_that_was_not_read_is_the_last_record() -> None:
    """An id that ended before the command did is not called open, read or not."""
    async with FakeVideoServer() as server:
        ids = [server.add_task(duration=0.0), server.add_task(duration=0.0)]
        summary = Summary(ids)
        async with (
            AsyncVideoClient("key", base_url=server.base_url) as client,
            client.watch(ids) as watcher,
        ):
            await asyncio.sleep(10.0)
            summary.record(await anext(watcher))
        (record,) = _open_records(watcher, summary, None)

    assert (record["event"], record["final"], record["seq"]) == ("task_completed", True, 2)


@pytest.mark.parametrize("command", [WATCH, ("status",)])
def test_a_refused_api_key_is_exit_code_3(
    ezvideo: Any, server: Any, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """A watch with a refused API key prints how to continue."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "sk-other")
    (task_id,) = server.add("completed")
    result = ezvideo(*command, task_id)

    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("ezvideo: HTTP 401: ")
    assert ("continue with:" in result.err) == (command is WATCH)


def test_a_redirecting_server_is_a_configuration_error(ezvideo: Any, server: Any) -> None:
    """A watch of a redirecting server ends with exit code 2 and a command to continue."""
    server.call("fault", "redirect")
    result = ezvideo(*WATCH, "--progress", "--base-url", server.base_url, *server.add("completed"))

    assert result.code == 2
    assert "redirect" in result.err
    assert f"ezvideo watch --base-url {server.base_url} --rate 1000" in result.err


def test_interrupt_while_ids_are_typed(ezvideo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while stdin is read is exit code 130, without a traceback."""

    class InterruptedStdin:
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", InterruptedStdin())
    result = ezvideo("watch", "-")

    assert (result.code, result.out, result.err) == (130, "", "")


def test_status_prints_tasks_in_order(ezvideo: Any, server: Any) -> None:
    """Status prints one line per task in the order given; a running one is exit code 4."""
    never, failed, done = server.add("never", "failed", "completed")
    result = ezvideo("status", done, never, failed)

    assert result.code == 4
    assert result.lines[0] == f"{done} completed https://storage.example.test/videos/{done}.mp4"
    assert result.lines[1].startswith(f"{never} processing ")
    assert result.lines[2].startswith(f"{failed} failed content_policy_violation: ")


def test_status_json_is_the_api_format(ezvideo: Any, server: Any) -> None:
    """With --json each line is the task in the format of the API; 4 means some are open."""
    ids = server.add("completed", "never")
    result = ezvideo("status", "--json", *ids)

    assert result.code == 4
    assert [json.loads(line)["id"] for line in result.lines] == ids


def test_status_reports_unknown_ids_and_continues(ezvideo: Any, server: Any) -> None:
    """An id that the server does not have is reported on stderr; other tasks are printed."""
    (known,) = server.add("completed")
    result = ezvideo("status", "vid_unknown", known)

    assert result.code == 1
    assert len(result.lines) == 1
    assert result.err.startswith("ezvideo: vid_unknown: HTTP 404: ")


def test_status_json_has_a_record_for_each_error(ezvideo: Any, server: Any) -> None:
    """With --json an id that gives an error has a record in its place, without a status."""
    (known,) = server.add("completed")
    result = ezvideo("status", "--json", "vid_unknown", known)
    missing, completed = map(json.loads, result.lines)

    assert result.code == 1
    assert (missing["id"], missing["object"], missing["status"]) == ("vid_unknown", "error", None)
    assert missing["error"]["type"] == "TaskNotFoundError"
    assert missing["error"]["message"].startswith("HTTP 404: ")
    assert (completed["id"], completed["object"]) == (known, "video")


def test_status_json_has_a_record_for_each_id_that_was_not_requested(
    ezvideo: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --json every id has one record, also when a refused API key ends the command."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "sk-other")
    ids = [f"vid_{number}" for number in range(100)]
    before = len(server.call("requests"))
    result = ezvideo("status", "--json", *ids)
    records = [json.loads(line) for line in result.lines]

    assert result.code == 3
    assert [record["id"] for record in records] == ids
    assert {record["error"]["type"] for record in records} == {"AuthenticationError"}
    assert len(server.call("requests")) - before < 100


@pytest.mark.parametrize(("others", "code"), [((), 2), (("completed",), 1)])
def test_status_of_one_redirected_id(
    ezvideo: Any, server: Any, others: tuple[str, ...], code: int
) -> None:
    """A redirect of one id is wrong configuration only if the server knows no other id."""
    ids = server.add(*others)
    server.call("fault", "redirect", task_id="odd")
    result = ezvideo("status", "odd", *ids)

    assert result.code == code
    assert "ezvideo: odd: HTTP 30" in result.err
    assert [line.split()[:2] for line in result.lines] == [
        [task_id, "completed"] for task_id in ids
    ]


async def test_status_json_has_a_record_for_each_open_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With --json an interrupted command prints a record for each id without a response."""
    async with FakeVideoServer() as server:
        server.add_task("vid_2", duration=0.0)
        server.fault("hang", task_id="vid_1")
        client = AsyncVideoClient("key", base_url=server.base_url)
        command = asyncio.create_task(_status(client, ["vid_1", "vid_2"], as_json=True))
        await asyncio.sleep(1.0)
        command.cancel()
        await asyncio.wait([command])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())

    assert command.cancelled()
    assert (first["id"], first["error"]["type"]) == ("vid_1", "ClosedError")
    assert (second["id"], second["status"]) == ("vid_2", "completed")


def test_status_ends_after_two_redirected_ids(ezvideo: Any, server: Any) -> None:
    """Redirects of two ids, and nothing valid, end the command with exit code 2."""
    server.call("fault", "redirect")
    result = ezvideo("status", *(f"vid_{number}" for number in range(100)))

    assert result.code == 2
    assert result.err.count("HTTP 30") == 2


async def test_demo_ends_with_its_tasks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo needs no API key and ends after half a minute with failed tasks and a lost one."""
    monkeypatch.delenv("EZVIDEO_API_KEY", raising=False)
    code = await demo(tasks=60, seconds=28.0)
    elapsed = asyncio.get_running_loop().time()

    assert code == 0
    assert 28.0 <= elapsed <= 33.0
    assert "60 tasks: 51 completed, 8 failed, 1 lost" in capsys.readouterr().err


def test_serve_fake_refuses_a_used_port(ezvideo: Any) -> None:
    """A port in use is wrong usage."""
    with socket.create_server(("127.0.0.1", 0)) as used:
        result = ezvideo("serve-fake", "--port", str(used.getsockname()[1]))

    assert result.code == 2
    assert "cannot open the port" in result.err
