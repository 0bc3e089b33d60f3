"""The ``ezvideo`` command, run in this process against a fake server in another thread."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import threading
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ezvideo_async.cli import main, runner as _run
from ezvideo_async.cli.commands.demo import demo
from ezvideo_async.testing import FakeVideoServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "sk-canary-5d1f"
WATCH = ("watch", "--interval", "0.05", "--rate", "1000")


class ServerInThread:
    """A fake server with an event loop, and a thread, of its own."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()))
        self.base_url = ""

    async def serve(self) -> None:
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        async with FakeVideoServer(api_key=KEY) as self.server:
            self.base_url = self.server.base_url
            self.started.set()
            await self.stop.wait()

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the server in its own thread."""

        async def called() -> Any:
            return getattr(self.server, name)(*arguments, **options)

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(timeout=10)

    def add(self, *outcomes: str, duration: float = 0.0) -> list[str]:
        """Add a task for each outcome."""
        return [self.call("add_task", outcome=word, duration=duration) for word in outcomes]


class Ran:
    """What a run gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        self.lines = out.splitlines()


Run = "Callable[..., Ran]"


@pytest.fixture(scope="module")
def running() -> Iterator[ServerInThread]:
    """One server for all tests of this file."""
    server = ServerInThread()
    server.thread.start()
    assert server.started.wait(timeout=10)
    yield server
    server.loop.call_soon_threadsafe(server.stop.set)
    server.thread.join()


@pytest.fixture
def server(
    running: ServerInThread, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ServerInThread]:
    """The server, healthy, and an environment that leads to it."""
    monkeypatch.setenv("EZVIDEO_BASE_URL", running.base_url)
    monkeypatch.setenv("EZVIDEO_API_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    yield running
    running.call("heal")


@pytest.fixture
def ezvideo(server: ServerInThread, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command; that neither output shows the key is checked each time."""

    def run(*arguments: str) -> Ran:
        code = main(arguments)
        out, err = capsys.readouterr()
        assert KEY not in out + err
        return Ran(code, out, err)

    return run


class FakeStdin:
    """A stdin of some bytes, or of trouble."""

    def __init__(self, content: bytes | type[BaseException], *, is_terminal: bool = False) -> None:
        self.buffer = self
        self.content = content
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    def read(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        raise self.content


class FakeTerminal(TextIOWrapper):
    """A stream that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(BytesIO(), encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, BytesIO)
        return re.sub(r"\x1b\[[0-9;]*m", "", buffer.getvalue().decode(self.encoding))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeTerminal]:
    """Put a terminal in the place of stderr, and of stdout if it is shared."""

    def put(*, shared: bool, kind: str = "xterm-256color", encoding: str = "utf-8") -> FakeTerminal:
        fake = FakeTerminal(encoding)
        for name, value in (("TERM", kind), ("LINES", "24"), ("COLUMNS", "80")):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stderr", fake)
        if shared:
            monkeypatch.setattr(sys, "stdout", fake)
        return fake

    return put


# --- watch ---------------------------------------------------------------------------------------


def test_watch_until_completed(ezvideo: Any, server: ServerInThread) -> None:
    """All completed is exit code 0; lines with the urls are on stdout, the summary on stderr."""
    ids = server.add("completed", "completed")
    ran = ezvideo(*WATCH, *ids)

    assert ran.code == 0
    assert sorted(line.split(" ", 2)[2] for line in ran.lines) == [
        f"{task_id} completed https://storage.example.test/videos/{task_id}.mp4" for task_id in ids
    ]
    assert ran.err == "2 tasks: 2 completed, 0 failed, 0 lost; 2 requests in 0:00\n"


def test_watch_tells_changes(ezvideo: Any, server: ServerInThread) -> None:
    """A task that runs is told once, its progress alone only with --progress."""
    words = [
        line.split()[3] for line in ezvideo(*WATCH, *server.add("completed", duration=0.4)).lines
    ]
    more = ezvideo(*WATCH, "--progress", *server.add("completed", duration=0.4)).lines

    assert words[-1] == "completed"
    assert set(words) <= {"pending", "processing", "completed"}
    assert len(more) > len(words) == len(set(words))


def test_watch_with_failures(ezvideo: Any, server: ServerInThread) -> None:
    """A failed task is exit code 1, and the summary gives the reasons."""
    ran = ezvideo(*WATCH, *server.add("completed", "failed", "cancelled"))

    assert ran.code == 1
    assert "3 tasks: 1 completed, 2 failed, 0 lost" in ran.err
    assert "1 failed: content_policy_violation: The prompt was rejected" in ran.err


def test_watch_a_lost_task(ezvideo: Any, server: ServerInThread) -> None:
    """A task that vanishes is lost: exit code 1, and what that means is said."""
    ran = ezvideo(*WATCH, *server.add("lost", duration=0.3))

    assert ran.code == 1
    assert ran.lines[-1].endswith(" lost vanished: the server no longer knows this task")
    assert "they may still run, and be billed" in ran.err


def test_watch_past_the_time_limit(ezvideo: Any, server: ServerInThread) -> None:
    """A task given up at the time limit is exit code 4, and how to go on with it is said."""
    never, done = server.add("never", "completed")
    ran = ezvideo(*WATCH, "--timeout", "0.3", never, done)

    assert ran.code == 4
    assert ran.err.endswith(f" --timeout 0.3 {never}\n")
    assert "1 lost: it had not ended when the time was up" in ran.err


def test_a_failure_outweighs_the_time_limit(ezvideo: Any, server: ServerInThread) -> None:
    """With a failed task and one past the time limit the exit code is 1."""
    assert ezvideo(*WATCH, "--timeout", "0.3", *server.add("never", "failed")).code == 1


@pytest.mark.fault("X19")
def test_watch_as_json(ezvideo: Any, server: ServerInThread) -> None:
    """With --json, stdout is one ASCII JSON object a line, the last of a task being final."""
    server.call("add_task", "视频\u202e1", duration=0.0, outcome="failed")
    ran = ezvideo(*WATCH, "--json", "视频\u202e1")
    event = json.loads(ran.lines[-1])

    assert ran.out.isascii()
    assert (
        event["event"],
        event["task_id"],
        event["final"],
    ) == ("task_failed", "视频\u202e1", True)
    assert event["task"]["status"] == "failed"


@pytest.mark.fault("X19")
def test_ids_are_cleaned(ezvideo: Any, server: ServerInThread) -> None:
    """What a terminal would obey is shown as an escape; CJK passes."""
    server.call("add_task", "视频\u202e2", duration=0.0)
    server.call("fault", "500", task_id="视频\u202e2", share=1.0, seconds=0.05)
    ran = ezvideo(*WATCH, "视频\u202e2")

    assert "视频\\u202e2 completed" in ran.out
    assert "\u202e" not in ran.out + ran.err


# --- where ids come from -------------------------------------------------------------------------


def test_ids_from_a_file(ezvideo: Any, server: ServerInThread) -> None:
    """A file may hold blank lines, comments, a byte-order mark, and an id twice."""
    first, second = server.add("completed", "completed")
    Path("ids").write_text(f"\ufeff{first}\r\n\n # no id\n  {second}\n{first}\n", "utf-8")
    ran = ezvideo(*WATCH, "--from", "ids")

    assert ran.code == 0
    assert "2 tasks: 2 completed" in ran.err


def test_ids_from_stdin(
    ezvideo: Any, server: ServerInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lone - stands for the ids on stdin; others may be given besides."""
    first, second = server.add("completed", "completed")
    monkeypatch.setattr(sys, "stdin", FakeStdin(f"# ids\n{first}\n".encode()))
    ran = ezvideo(*WATCH, "-", second)

    assert ran.err.startswith("2 tasks: 2 completed")


def test_typed_ids(ezvideo: Any, server: ServerInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sits before a waiting terminal is told what it waits for."""
    content = "\n".join(server.add("completed")).encode()
    monkeypatch.setattr(sys, "stdin", FakeStdin(content, is_terminal=True))

    assert "type task ids, one a line; Ctrl-D ends the list" in ezvideo("status", "-").err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "stdin holds no task ids; write one a line"),
        (b"# nothing\n\n", "stdin holds no task ids; write one a line"),
        (
            b"vid_1\nvid_2 by bob\n",
            "stdin: 'vid_2 by bob' holds a blank; write one task id a line",
        ),
        (b"\xff\xfe", "stdin is not UTF-8 text; write one task id a line"),
        (b"..\n", "'..' can't be a task id: it would change the path of the url"),
    ],
)
def test_unusable_stdin(
    ezvideo: Any, monkeypatch: pytest.MonkeyPatch, content: bytes, complaint: str
) -> None:
    """A list without usable ids is wrong usage, and the sentence says what to do."""
    monkeypatch.setattr(sys, "stdin", FakeStdin(content))
    ran = ezvideo("watch", "-")

    assert (2, "", f"ezvideo: {complaint}\n") == (ran.code, ran.out, ran.err)


def test_no_stdin(ezvideo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed stdin is wrong usage."""
    monkeypatch.setattr(sys, "stdin", None)

    assert "stdin is closed" in ezvideo("watch", "-").err


def test_interrupt_while_reading_ids(ezvideo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while ids are being typed is exit code 130, without a traceback."""
    monkeypatch.setattr(sys, "stdin", FakeStdin(KeyboardInterrupt))
    ran = ezvideo("watch", "-")

    assert (ran.code, ran.out, ran.err) == (130, "", "")


# --- wrong usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("", "say what to do, as in: ezvideo demo; ezvideo --help lists all commands"),
        ("watch", "no task ids; give some, as in: ezvideo watch ID ..."),
        ("status", "no task ids; give some, as in: ezvideo status ID ..."),
        ("watch --from nowhere", "nowhere can't be read: No such file or directory"),
        ("watch --from empty", "empty holds no task ids; write one a line"),
        ("watch .", "'.' can't be a task id"),
        ("watch id --frobnicate=7", "unknown option --frobnicate; see ezvideo watch --help"),
        ("demo id", "an argument too many; see ezvideo demo --help"),
        ("watch id --rate 0", "argument --rate: must be a number above 0, got '0'"),
        ("watch id --rate x", "argument --rate: must be a number above 0, got 'x'"),
        ("watch id --rate 1e9", "rate"),
        ("watch id --timeout 1e99", "timeout must be between 0 and"),
        ("watch id --interval 1e99", "interval must be between 0.001 and"),
        ("watch id --base-url ftp://x", "base_url does not begin with http:// or https://"),
        ("watch id --base-url=", "--base-url is empty; give one like https://"),
        ("watch id --api-key-file nowhere", "the key file nowhere can't be read: No such file"),
        ("watch id --api-key-file empty", "the first line of empty is empty; write the key"),
        ("serve-fake --port 65536", "must be a whole number from 0 to 65535, got '65536'"),
        ("serve-fake --dialect x", "--dialect: dialect must be one of ezmodel, openai"),
        ("demo --tasks 0", "must be a whole number from 1 to 100000, got '0'"),
    ],
)
def test_wrong_usage(ezvideo: Any, server: ServerInThread, arguments: str, complaint: str) -> None:
    """Wrong usage is exit code 2 and one sentence, before any request."""
    Path("empty").touch()
    before = len(server.call("requests"))
    ran = ezvideo(*arguments.split())

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("ezvideo: ")
    assert complaint in ran.err
    assert ran.err.count("\n") == 1
    assert before == len(server.call("requests"))


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
def test_the_key_is_no_argument(ezvideo: Any, arguments: tuple[str, ...]) -> None:
    """A key among the arguments is refused, not shown, and the sentence says why."""
    ran = ezvideo(*arguments)

    assert ran.code == 2
    assert "because every user of this machine can read arguments" in ran.err
    assert "EZVIDEO_API_KEY or give --api-key-file" in ran.err


@pytest.mark.parametrize("value", [None, "", " "])
def test_no_key(ezvideo: Any, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """Without a key nothing is done, and the sentence says where to put one."""
    monkeypatch.delenv("EZVIDEO_API_KEY")
    if value is not None:
        monkeypatch.setenv("EZVIDEO_API_KEY", value)
    ran = ezvideo("watch", "id")

    assert ran.code == 2
    assert ran.err == (
        "ezvideo: there is no API key; set EZVIDEO_API_KEY or give --api-key-file FILE\n"
    )


def test_key_from_a_file(
    ezvideo: Any, server: ServerInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line of --api-key-file is the key, whatever the environment says."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "sk-other")
    Path("key").write_text(f"{KEY}\nsecond line\n", "utf-8")

    assert ezvideo("status", "--api-key-file", "key", *server.add("completed")).code == 0


# --- trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [WATCH, ("status",)])
def test_refused_key(
    ezvideo: Any,
    server: ServerInThread,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    """A refused key is exit code 3, and a watch says how to go on."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "sk-other")
    (task_id,) = server.add("completed")
    ran = ezvideo(*command, task_id)

    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("ezvideo: HTTP 401: ")
    assert ("go on with:" in ran.err) == (command is WATCH)


def test_watch_of_a_wrong_server(ezvideo: Any, server: ServerInThread) -> None:
    """A server that redirects shows a wrong set-up: exit code 2, and a line to go on with."""
    server.call("fault", "redirect")
    ran = ezvideo(*WATCH, "--progress", "--base-url", server.base_url, *server.add("completed"))

    assert ran.code == 2
    assert "the server redirects to" in ran.err
    assert "ezvideo watch --base-url http://127.0.0.1:" in ran.err
    assert "--rate 1000 --interval 0.05 --progress vid_" in ran.err


def test_verbose(ezvideo: Any, server: ServerInThread) -> None:
    """With -vv requests are logged to stderr; errors are then logged as well."""
    server.call("fault", "401")
    ran = ezvideo(*WATCH, "-vv", *server.add("completed"))

    assert ran.code == 3
    assert "ezvideo: debug: 'vid_" in ran.err
    assert "HTTP 401: the key was refused" in ran.err
    assert "ezvideo: error: the watch of 1 open tasks ends" in ran.err


# --- status --------------------------------------------------------------------------------------


def test_status(ezvideo: Any, server: ServerInThread) -> None:
    """Status prints one line a task in the order given; a failed one is exit code 1."""
    never, failed, done = server.add("never", "failed", "completed")
    ran = ezvideo("status", done, never, failed)

    assert ran.code == 1
    assert ran.lines[0] == f"{done} completed https://storage.example.test/videos/{done}.mp4"
    assert ran.lines[1].startswith(f"{never} processing ")
    assert ran.lines[2].startswith(f"{failed} failed content_policy_violation: ")


def test_status_as_json(ezvideo: Any, server: ServerInThread) -> None:
    """With --json each line is the task in the API document's shape."""
    ids = server.add("completed", "completed")
    ran = ezvideo("status", "--json", *ids)

    assert ran.code == 0
    assert ids == [json.loads(line)["id"] for line in ran.lines]


def test_status_of_open_tasks(ezvideo: Any, server: ServerInThread) -> None:
    """Open tasks, none having failed, are exit code 4: 0 always means completed."""
    assert ezvideo("status", *server.add("never", "completed")).code == 4


def test_status_of_an_unknown_task(ezvideo: Any, server: ServerInThread) -> None:
    """A task the server does not know is said on stderr, and the others are still asked for."""
    (known,) = server.add("completed")
    ran = ezvideo("status", "vid_unknown", known)

    assert ran.code == 1
    assert len(ran.lines) == 1
    assert ran.err.startswith("ezvideo: vid_unknown: HTTP 404: ")


# --- screens -------------------------------------------------------------------------------------


def test_live_view_on_a_shared_terminal(
    server: ServerInThread, terminal: Callable[..., FakeTerminal]
) -> None:
    """On one terminal endings are printed once, above a bar that is gone in the end."""
    screen = terminal(shared=True)
    (task_id,) = server.add("completed", duration=0.6)

    assert main([*WATCH, task_id]) == 0
    assert "0/1 ended" in screen.text
    assert "requests/s" in screen.text
    assert screen.text.count(f"{task_id} completed https://") == 1
    assert screen.text.index(f"{task_id} processing") < screen.text.index(f"{task_id} completed")


def test_live_view_beside_lines(
    server: ServerInThread,
    terminal: Callable[..., FakeTerminal],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With stdout elsewhere it gets the plain lines, without progress; the view is on stderr."""
    screen = terminal(shared=False, encoding="ascii")
    ids = server.add(*["completed"] * 12, duration=0.5)
    code = main([*WATCH, *ids])
    lines = capsys.readouterr().out.splitlines()

    assert code == 0
    assert "12/12 ended" not in "".join(lines)
    assert len(lines) <= 3 * len(ids)
    assert ids == sorted(line.split()[2] for line in lines if " completed " in line)
    assert "#" in screen.text


def test_live_view_beside_json(
    server: ServerInThread,
    terminal: Callable[..., FakeTerminal],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beside a live view, JSON events are numbered without gaps: none is swallowed."""
    terminal(shared=False)

    assert main([*WATCH, "--json", *server.add("completed", duration=0.4)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert list(range(1, len(lines) + 1)) == [json.loads(line)["seq"] for line in lines]


@pytest.mark.parametrize("hold", ["429", "503"])
def test_live_view_says_what_holds_up(
    server: ServerInThread, terminal: Callable[..., FakeTerminal], hold: str
) -> None:
    """A cool-down or an outage is told in the place of the request rate."""
    screen = terminal(shared=True)
    details = {"retry_after": 1} if hold == "429" else {}
    server.call("fault", hold, seconds=1.0, **details)
    ids = server.add(*["never"] * (40 if hold == "503" else 1))

    assert main([*WATCH, "--timeout", "1.5", *ids]) == 4

    expected = {"429": "the server asks to pause", "503": "the server is out, probing"}[hold]
    assert expected in screen.text


@pytest.mark.parametrize("why", ["json", "dumb", "no rich"])
def test_no_live_view(
    server: ServerInThread,
    terminal: Callable[..., FakeTerminal],
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    """JSON on the terminal, a dumb terminal and a missing rich all give plain lines."""
    screen = terminal(shared=True, kind="dumb" if why == "dumb" else "xterm")
    if why == "no rich":
        for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, "rich", None)
        for name in ("live_view", "frame"):
            monkeypatch.delitem(sys.modules, f"ezvideo_async.cli.{name}", raising=False)
    (task_id,) = server.add("completed")

    assert main([*WATCH, *(["--json"] if why == "json" else []), task_id]) == 0
    assert "\x1b" not in screen.text
    assert task_id in screen.text


def test_a_broken_view_is_told(
    server: ServerInThread, terminal: Callable[..., FakeTerminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import error inside the view that is not about rich is not hidden."""
    terminal(shared=True)
    monkeypatch.setitem(sys.modules, "ezvideo_async.cli.live_view", None)

    with pytest.raises(ModuleNotFoundError, match="_view"):
        main([*WATCH, *server.add("completed")])


def test_no_streams(server: ServerInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stdout and stderr closed the exit code still tells."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    assert main([*WATCH, *server.add("failed")]) == 1


# --- demo and serve-fake -------------------------------------------------------------------------


async def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    """The demo ends by itself after half a minute; some of its tasks failed, one got lost."""
    code = await demo(tasks=60, seconds=28.0)
    took = asyncio.get_running_loop().time()
    err = capsys.readouterr().err

    assert code == 0
    assert 28.0 <= took <= 33.0
    assert "60 tasks: 51 completed, 8 failed, 1 lost" in err
    assert "lost tasks are no longer looked for; they may still run, and be billed" in err


def test_demo_command(ezvideo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo needs neither key nor server, and that some tasks fail is no failure of it."""
    monkeypatch.delenv("EZVIDEO_API_KEY")
    monkeypatch.delenv("EZVIDEO_BASE_URL")
    ran = ezvideo("demo", "--tasks", "4", "--seconds", "0.5")

    assert ran.code == 0
    assert "4 tasks: 2 completed, 1 failed, 1 lost" in ran.err


def test_serve_fake_on_a_taken_port(ezvideo: Any) -> None:
    """A port that is taken is wrong usage."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = ezvideo("serve-fake", "--port", str(taken.getsockname()[1]))

    assert ran.code == 2
    assert "the port can't be had" in ran.err


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.fault("P1")
async def test_the_second_signal_ends_at_once(
    terminal: Callable[..., FakeTerminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first signal cancels the command, the second, but a SIGHUP, ends the process at once."""
    terminal(shared=False)
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    interruption = _run._Interruption()
    task = asyncio.ensure_future(asyncio.sleep(3600.0, 0))
    interruption.cancels(task)
    interruption._receive(signal.SIGTERM)
    await asyncio.wait([task])

    assert task.cancelled()
    interruption._receive(signal.SIGHUP)
    assert (codes, interruption.number) == ([], signal.SIGTERM)
    interruption._receive(signal.SIGINT)
    assert codes == [130]


async def test_ignored_signals_stay_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under nohup, and in the background of a script, signals that were ignored stay so."""
    loop = asyncio.get_running_loop()
    handled: list[int] = []
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    monkeypatch.setattr(loop, "add_signal_handler", lambda number, *_: handled.append(number))
    _run._Interruption().cancels(None)

    assert handled == []


def test_other_threads_take_no_signals(ezvideo: Any, server: ServerInThread) -> None:
    """The command runs in a thread, too."""
    ids = server.add("completed")
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main([*WATCH, *ids])))
    thread.start()
    thread.join()

    assert codes == [0]
