"""Tests of the pages: examples run, names exist, links resolve, the reference is complete."""

from __future__ import annotations

import ast
import asyncio
import builtins
import doctest
import inspect
import io
import itertools
import re
import runpy
import shutil
import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from anyio.from_thread import start_blocking_portal

import ezvideo_async
from ezvideo_async import AsyncVideoClient, errors, instrumentation, store, testing
from ezvideo_async.testing import FakeVideoServer, VirtualClockLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README, CHINESE_README = ROOT / "README.md", DOCS / "README.zh-CN.md"
PAGES = [README, *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
EXAMPLES = DOCS / "examples"

FENCE = re.compile(r"^```(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]*)(?:#(?P<anchor>[^)]+))?\)")
INCLUDE = re.compile(r"^```\{literalinclude\} (?P<path>\S+)$", re.MULTILINE)
DIRECTIVE = re.compile(
    r"^\.\. (?:auto|py:)\w+:: ezvideo_async(?:\.\w+)*\.(?P<name>\w+)", re.MULTILINE
)
COMMENT = re.compile(r"\s*# .*")
PROGRAM = re.compile(r"asyncio\.(run|Runner)\(|web\.run_app\(")
TASK_IDS = ("vid_abc123", "vid_abc124", "vid_abc125", "vid_abc123xyz456")

PUBLIC: dict[str, Any] = {
    name: getattr(module, name)
    for module in (ezvideo_async, errors, instrumentation, store, testing)
    for name in module.__all__
}
PROSE_ONLY = {"Authorization", "NullHandler"}
"""Names in prose that are neither public nor builtin."""
PRIVATE = {"Scheduler"}
"""Private names on the architecture page."""


class Block(NamedTuple):
    """One code block of a page, with the output that the page shows."""

    page: Path
    line: int
    text: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path, kind: str) -> Iterator[Block]:
    """Yield the code blocks of one kind."""
    text = page.read_text("utf-8")
    fences = [*FENCE.finditer(text)]
    for fence, following in itertools.zip_longest(fences, fences[1:]):
        output = following["text"] if following and following["kind"] == "output" else None
        if fence["kind"] == kind:
            yield Block(page, text.count("\n", 0, fence.start()) + 1, fence["text"], output)


# The Python of the contributors' page shows the style of docstrings and tests.
PYTHON = [
    block for page in PAGES if page.name != "contributing.md" for block in blocks_of(page, "python")
]
PROGRAMS = [block for block in PYTHON if PROGRAM.search(block.text)]
FRAGMENTS = [block for block in PYTHON if not PROGRAM.search(block.text)]


# --- examples run ---------------------------------------------------------------------------------


class ProgramRunner:
    """Runs programs in virtual time; the environment names a fake server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._mains: list[Any] = []
        self._apps: list[web.Application] = []
        monkeypatch.setattr(asyncio, "run", self._mains.append)
        monkeypatch.setattr(web, "run_app", self._apps.append)
        monkeypatch.setattr(sys, "argv", [])
        monkeypatch.setenv("EZVIDEO_API_KEY", "test-key")

    def run(self, task_ids: set[str], program: Callable[[], object]) -> None:
        """Call *program*, then run what it passed to ``asyncio.run`` or ``web.run_app``."""
        program()
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(self._run(task_ids))

    async def _run(self, task_ids: set[str]) -> None:
        async with FakeVideoServer() as server:
            for number, task_id in enumerate(sorted(task_ids)):
                server.add_task(task_id, duration=30.0 + 10.0 * number)
            self._monkeypatch.setenv("EZVIDEO_BASE_URL", server.base_url)
            for main in self._mains:
                await main
            for app in self._apps:
                await request_all_routes(app)

        assert asyncio.all_tasks() == {asyncio.current_task()}


async def request_all_routes(app: web.Application) -> None:
    """Request a task on every route, and one that does not exist on the first."""
    async with TestClient(TestServer(app)) as browser:
        for resource in app.router.resources():
            path = resource.canonical.replace("{task_id}", "vid_abc123")
            async with browser.get(path, timeout=3600) as response:
                body = await response.text()

                assert response.status in {200, 202}
                assert "vid_abc123" in body
        missing = await browser.get("/videos/vid_missing")

        assert missing.status == 404


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ProgramRunner:
    """Return a runner for one program, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return ProgramRunner(monkeypatch)


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_program_runs(
    block: Block, runner: ProgramRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program of a page runs to its end, leaves no task, and prints what the page shows."""
    code = compile(block.text, str(block), "exec")
    runner.run(set(TASK_IDS), lambda: exec(code, {"__name__": "__main__"}))

    assert block.output in {None, capsys.readouterr().out}


@pytest.mark.parametrize("block", FRAGMENTS, ids=str)
def test_fragment_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fragment of a page runs with a client, an open watcher, and a server with tasks."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "test-key")
    code = "async def fragment(client, watcher, server, task_ids, task_id):\n"
    code += textwrap.indent(block.text, "    ")
    names: dict[str, Any] = {**PUBLIC, "asyncio": asyncio}
    exec(compile(code, str(block), "exec"), names)

    async def run() -> None:
        async with FakeVideoServer() as server:
            monkeypatch.setenv("EZVIDEO_BASE_URL", server.base_url)
            for number, task_id in enumerate(TASK_IDS):
                if f'add_task("{task_id}"' not in block.text:
                    server.add_task(task_id, duration=20.0 * number)
            async with AsyncVideoClient() as client, client.watch(["vid_missing"]) as watcher:
                await names["fragment"](client, watcher, server, [*TASK_IDS], TASK_IDS[0])

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(run())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_doctests_pass(page: Path) -> None:
    """The interactive examples of a page return what they show."""
    text = "\n".join(block.text for block in blocks_of(page, "{doctest}"))
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, None, 0)

    assert doctest.DocTestRunner().run(examples).failed == 0


def run_file(name: str, *arguments: str) -> Callable[[], object]:
    """Return a function that runs an example as a program."""
    sys.argv[:] = [name, *arguments]
    return lambda: runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.parametrize(
    ("name", "line_starts"),
    [
        ("batch.py", ["vid_1 completed https://", "vid_2 completed https://", "WatcherStats("]),
        ("add_while_watching.py", ["vid_1 task_completed from", "vid_2 task_completed from"]),
        ("hub.py", ["vid_1 task_completed 100 %", "first task: completed", "requests sent: "]),
    ],
)
def test_example_runs(
    name: str,
    line_starts: list[str],
    runner: ProgramRunner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An example prints how its tasks finish, and leaves nothing running."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("vid_1\n\nvid_2\n"))
    runner.run({"vid_1", "vid_2"}, run_file(name, "vid_1", "vid_2"))
    lines = capsys.readouterr().out.splitlines()

    missing = [start for start in line_starts if not any(line.startswith(start) for line in lines)]

    assert missing == []


def test_web_handler_runs(runner: ProgramRunner) -> None:
    """The handler without a watcher responds, with 404 for an unknown id, and stops cleanly."""
    runner.run({"vid_abc123"}, run_file("web_handler.py"))


async def test_hub_keeps_what_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour after its end an id costs the hub of the web page no request and no unread event."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "test-key")
    example = runpy.run_path(str(EXAMPLES / "video_hub.py"))
    async with FakeVideoServer() as server:
        monkeypatch.setenv("EZVIDEO_BASE_URL", server.base_url)
        task_id = server.add_task(duration=40.0, progress="none")
        async with example["open_hub"]() as hub:
            hub.add(task_id)
            first = [message async for message in hub.messages(task_id)]
            polls = len(server.requests())
            await asyncio.sleep(3600.0)
            hub.add(task_id)
            later = [message async for message in hub.messages(task_id)]

    assert b": heartbeat\n\n" in first
    assert first[-1] == example["END"]
    assert later == [first[-2] + first[-1]]
    assert len(server.requests()) == polls


def test_synchronous_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example for synchronous code shares one client among threads, and opens again."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "test-key")
    videos = runpy.run_path(str(EXAMPLES / "videos.py"))["videos"]
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(FakeVideoServer()) as server,
        ThreadPoolExecutor(8) as threads,
    ):
        monkeypatch.setenv("EZVIDEO_BASE_URL", server.base_url)
        task_id = portal.call(lambda: server.add_task(duration=0.0))
        states = [*threads.map(videos.retrieve, [task_id] * 8), videos.wait(task_id)]
        videos.close()
        states.append(videos.retrieve(task_id))
        videos.close()

    assert [state.succeeded for state in states] == [True] * 10


def test_testing_example_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of the testing example pass, with anyio's plugin and ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    for name in ("rendering.py", "test_rendering.py"):
        shutil.copy(EXAMPLES / name, pytester.path)
    pytester.syspathinsert()
    plugins = ("-p", "anyio.pytest_plugin", "-p", "ezvideo_async.testing.pytest_plugin")

    pytester.runpytest_inprocess(*plugins).assert_outcomes(passed=5)


def test_live_view_picture_is_current() -> None:
    """The picture is what its script draws, and loads nothing from another host."""
    draw = runpy.run_path(str(DOCS / "_ext" / "live_view.py"))["draw"]
    picture = (DOCS / "live-view.svg").read_text("utf-8")

    assert picture == draw(), "run docs/_ext/live_view.py to draw it again"
    assert not re.search(r"(href|src|url\()=?[\"']?https?:", picture)


# --- names and links ------------------------------------------------------------------------------


def has_member(thing: Any, name: str) -> bool:
    """Return True if a class, or an instance of an error class, has an attribute."""
    if isinstance(thing, type) and issubclass(thing, BaseException):
        thing = thing()
    return hasattr(thing, name) or name in getattr(thing, "__annotations__", {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_prose_exist(page: Path) -> None:
    """Each class, and each member of one, that a page names in backticks exists."""
    text = FENCE.sub("", page.read_text("utf-8"))
    named = re.findall(r"`([A-Z][a-zA-Z]*[a-z][a-zA-Z]*)(?:\.(\w+))?(?:\([^`]*\))?`", text)
    unknown = {
        (name, member)
        for name, member in named
        if name not in PROSE_ONLY | PRIVATE
        and not (has_member(PUBLIC[name], member or "__doc__") if name in PUBLIC else
                 has_member(builtins, name))
    }  # fmt: skip

    assert unknown == set()


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    slugs = (re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings)
    return {re.sub(r"\s", "-", slug) for slug in slugs}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    """Each link of a page to a file, and to a heading in it, resolves."""
    text = page.read_text("utf-8")
    broken = [
        link[0]
        for link in LINK.finditer(FENCE.sub("", text))
        if not (target := (page.parent / link["path"]) if link["path"] else page).exists()
        or (link["anchor"] and link["anchor"] not in anchors_of(target))
    ]
    broken += [each[0] for each in INCLUDE.finditer(text) if not (page.parent / each[1]).exists()]

    assert broken == []


def test_every_example_is_on_a_page() -> None:
    """Each example file is included by a page."""
    shown = {Path(each[1]).name for page in PAGES for each in INCLUDE.finditer(page.read_text())}

    assert {example.name for example in EXAMPLES.glob("*.py")} - shown == set()


def test_readmes_have_the_same_code() -> None:
    """The Chinese README has the code blocks of the English one, apart from comments."""
    english, chinese = (
        [COMMENT.sub("", fence[0]) for fence in FENCE.finditer(page.read_text("utf-8"))]
        for page in (README, CHINESE_README)
    )

    assert chinese == english


def test_readmes_have_the_same_parts() -> None:
    """The READMEs have as many headings and table rows, and the same links."""

    def parts(page: Path) -> tuple[int, int, Counter[str]]:
        text = FENCE.sub("", page.read_text("utf-8"))
        paths = re.findall(r"\]\(([^)]*)\)", text)
        links = Counter(re.sub(r"^(docs|\.\.)/", "", path) for path in paths)
        del links["README.md"], links["README.zh-CN.md"]
        return text.count("\n## "), text.count("\n| "), links

    assert parts(README) == parts(CHINESE_README)


# --- everything public is documented --------------------------------------------------------------


def test_reference_is_complete() -> None:
    """Each public name is in the reference, once."""
    pages = (DOCS / "reference").glob("*.md")
    documented = Counter(
        match["name"]
        for page in pages
        for match in DIRECTIVE.finditer(page.read_text("utf-8"))
        if match["name"] not in {"errors", "testing"}
    )

    assert documented == Counter(PUBLIC.keys())


@pytest.mark.parametrize(
    "thing",
    [each for each in PUBLIC.values() if isinstance(each, type)],
    ids=lambda each: each.__name__,
)
def test_public_class_has_docstrings(thing: type) -> None:
    """A public class, and each public method and property of its own, has a docstring."""
    members = {
        name: getattr(member, "__func__", member)
        for name, member in vars(thing).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    }

    assert vars(thing).get("__doc__")
    assert [name for name, member in members.items() if not inspect.getdoc(member)] == []


def test_every_public_name_is_type_checked() -> None:
    """The file for the type checkers uses each public name."""
    tree = ast.parse((ROOT / "tests" / "typing" / "api.py").read_text("utf-8"))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    assert set(PUBLIC) - used == set()
