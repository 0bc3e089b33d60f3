"""What the pages promise: their programs run, their names exist, their links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import builtins
import doctest
import inspect
import io
import itertools
import json
import re
import runpy
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import ezvideo_async
from ezvideo_async import errors, instrumentation, testing
from ezvideo_async.testing import FakeVideoServer, VirtualClockLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README, TWIN = ROOT / "README.md", DOCS / "README.zh-CN.md"
PAGES = [README, *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
NATURES = ("tutorial", "how-to", "reference", "explanation")
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))

FENCE = re.compile(r"^```(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]*)(?:#(?P<anchor>[^)]+))?\)")
INCLUDE = re.compile(r"^```\{literalinclude\} (?P<path>\S+)$", re.MULTILINE)
DIRECTIVE = re.compile(
    r"^\.\. (?:auto|py:)\w+:: ezvideo_async(?:\.\w+)*\.(?P<name>\w+)", re.MULTILINE
)
PROGRAM = re.compile(r"asyncio\.(run|Runner)\(|web\.run_app\(")

# Public name to object: what the names in code blocks are looked up in.
PUBLIC: dict[str, Any] = {
    name: getattr(home, name)
    for home in (ezvideo_async, errors, instrumentation, testing)
    for name in home.__all__
}
# What a fragment may use without saying where it comes from.
STAND_INS: dict[str, Any] = {
    "app": None,
    "asyncio": asyncio,
    "budget": ezvideo_async.RequestBudget,
    "client": ezvideo_async.AsyncVideoClient,
    "error": None,
    "event": None,
    "loop": asyncio.AbstractEventLoop,
    "server": FakeVideoServer,
    "task": ezvideo_async.VideoTask,
    "task_id": str,
    "task_ids": None,
    "watcher": ezvideo_async.TaskWatcher,
}
# Names in prose that are neither public nor builtin.
FOREIGN = {"Authorization", "NullHandler", "Watch"}


class Block(NamedTuple):
    """One code block of a page."""

    page: Path
    line: int
    kind: str
    text: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path, kind: str) -> Iterator[Block]:
    text = page.read_text("utf-8")
    found = [*FENCE.finditer(text)]
    for fence, following in itertools.zip_longest(found, found[1:]):
        shown = following["text"] if following and following["kind"] == "output" else None
        if fence["kind"] == kind:
            line = text.count("\n", 0, fence.start()) + 1
            yield Block(page, line, kind, fence["text"], shown)


# The templates of docstrings and tests for contributors are no uses of the library.
USERS_PAGES = [page for page in PAGES if page.name != "contributing.md"]
PYTHON = [block for page in USERS_PAGES for block in blocks_of(page, "python")]
PROGRAMS = [block for block in PYTHON if PROGRAM.search(block.text)]


# --- the programs run -----------------------------------------------------------------------------


class Stage:
    """
    Runs programs in virtual time, with a fake server as the one that the environment names.

    ``asyncio.run`` and ``web.run_app`` keep what they are given, and ``play`` runs it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._mains: list[Any] = []
        self._apps: list[web.Application] = []
        monkeypatch.setattr(asyncio, "run", self._mains.append)
        monkeypatch.setattr(web, "run_app", self._apps.append)
        monkeypatch.setenv("EZVIDEO_API_KEY", "test-key")

    def play(self, task_ids: set[str], perform: Callable[[], object]) -> None:
        perform()
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(self._play(task_ids))

    async def _play(self, task_ids: set[str]) -> None:
        async with FakeVideoServer() as server:
            for number, task_id in enumerate(sorted(task_ids)):
                server.add_task(task_id, duration=30.0 + 10.0 * number)
            self._monkeypatch.setenv("EZVIDEO_BASE_URL", server.base_url)
            for main in self._mains:
                await main
            for app in self._apps:
                await visit(app)
        left = asyncio.all_tasks() - {asyncio.current_task()}

        assert left == set()


async def visit(app: web.Application) -> None:
    """Ask every route of an app for a task, and want to hear of its end."""
    async with TestClient(TestServer(app)) as browser:
        for resource in app.router.resources():
            path = resource.canonical.replace("{task_id}", "vid_abc123")
            async with browser.get(path, timeout=3600) as answer:
                body = await answer.text()

                assert answer.status in {200, 202}
                assert "vid_abc123" in body


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage for one program."""
    return Stage(monkeypatch)


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_program_runs(block: Block, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """A program of a page runs to its end, leaves no task, and prints what the page shows."""
    code = compile(block.text, str(block), "exec")
    task_ids = {*re.findall(r"vid_\w*\d\b", block.text), "vid_abc123", "vid_abc124", "vid_abc125"}
    stage.play(task_ids, lambda: exec(code, {"__name__": "__main__"}))

    assert block.output in {None, capsys.readouterr().out}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_doctests_hold(page: Path) -> None:
    """The interactive examples of a page give what they show."""
    text = "\n".join(block.text for block in blocks_of(page, "{doctest}"))
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, None, 0)

    assert doctest.DocTestRunner().run(examples).failed == 0


def run_file(name: str, *arguments: str) -> Callable[[], object]:
    sys.argv[:] = [name, *arguments]
    return lambda: runpy.run_path(str(DOCS / "examples" / name), run_name="__main__")


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("batch.py", ["vid_1 completed https://", "vid_2 completed https://", "WatcherStats("]),
        ("add_while_watching.py", ["vid_1 task_completed from", "vid_2 task_completed from"]),
        ("hub.py", ["vid_1 task_completed 100 %", "the first one: completed", "requests sent: "]),
    ],
)
def test_example_runs(
    name: str,
    ends: list[str],
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An example tells of the ends of its tasks, and leaves nothing running."""
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "stdin", io.StringIO("vid_1\n\nvid_2\n"))
    stage.play({"vid_1", "vid_2"}, run_file(name, "vid_1", "vid_2"))
    lines = capsys.readouterr().out.splitlines()

    assert [end for end in ends if not any(line.startswith(end) for line in lines)] == []


@pytest.mark.parametrize("name", ["web_handler.py", "web_hub.py"])
def test_web_example_runs(name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A web example answers on every route, and stops cleanly."""
    monkeypatch.setattr(sys, "argv", [])
    stage.play({"vid_abc123"}, run_file(name))


async def test_web_examples_tell_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that the server does not know is a 404 of the web example."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "test-key")
    async with FakeVideoServer() as server:
        monkeypatch.setenv("EZVIDEO_BASE_URL", server.base_url)
        for name in ("web_handler.py", "web_hub.py"):
            app = runpy.run_path(str(DOCS / "examples" / name))["app"]
            async with TestClient(TestServer(app)) as browser:
                answer = await browser.get("/videos/vid_none")

                assert answer.status == 404


async def test_asgi_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ASGI example starts, answers 200 for an end, 202 for none, 502 for trouble, and stops."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "test-key")
    app = runpy.run_path(str(DOCS / "examples" / "asgi_app.py"))["app"]
    orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def get(path: str) -> tuple[int, dict[str, Any]]:
        await app({"type": "http", "path": path}, orders.get, send)
        return sent[-2]["status"], json.loads(sent[-1]["body"])

    async with FakeVideoServer() as server:
        monkeypatch.setenv("EZVIDEO_BASE_URL", server.base_url)
        server.add_task("vid_1", duration=10.0)
        server.add_task("vid_2", outcome="never")
        life = asyncio.create_task(app({"type": "lifespan"}, orders.get, send))
        orders.put_nowait({"type": "lifespan.startup"})
        await asyncio.sleep(1.0)
        ended, running, unknown = await get("/vid_1"), await get("/vid_2"), await get("/vid_3")
        orders.put_nowait({"type": "lifespan.shutdown"})
        await life

    assert (ended[0], ended[1]["status"]) == (200, "completed")
    assert (running[0], unknown[0]) == (202, 502)
    assert sent[0] == {"type": "lifespan.startup.complete"}
    assert sent[-1] == {"type": "lifespan.shutdown.complete"}


async def test_lifespan_of_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lifespan for ASGI frameworks gives an entered watcher."""
    page = DOCS / "how-to" / "from-a-web-backend.md"
    (block,) = (block for block in blocks_of(page, "python") if "lifespan" in block.text)
    names: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), names)
    monkeypatch.setenv("EZVIDEO_API_KEY", "test-key")
    async with FakeVideoServer() as server:
        monkeypatch.setenv("EZVIDEO_BASE_URL", server.base_url)
        task_id = server.add_task()
        async with names["lifespan"](None) as state:
            task = await state["watcher"].wait(task_id)

    assert task.succeeded


def test_testing_example_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of the testing example pass, with anyio's plugin and ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    for name in ("rendering.py", "test_rendering.py"):
        shutil.copy(DOCS / "examples" / name, pytester.path)
    pytester.syspathinsert()
    plugins = ("-p", "anyio.pytest_plugin", "-p", "ezvideo_async.testing.pytest_plugin")

    pytester.runpytest_inprocess(*plugins).assert_outcomes(passed=5)


# --- the names exist ------------------------------------------------------------------------------


def fields_of_errors() -> set[str]:
    made = [getattr(errors, name)() for name in errors.__all__]
    return {field for error in made for field in dir(error)}


def has_member(thing: Any, name: str) -> bool:
    if isinstance(thing, type) and issubclass(thing, BaseException):
        return name in dir(thing())
    return thing is None or hasattr(thing, name) or name in getattr(thing, "__annotations__", {})


def keywords_of(call: Any) -> set[str] | None:
    """The keywords that a public callable takes; None when it takes any."""
    call = ezvideo_async.TaskWatcher if call is ezvideo_async.AsyncVideoClient.watch else call
    parameters = inspect.signature(call).parameters.values()
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return None if is_open else {parameter.name for parameter in parameters}


class Names(ast.NodeVisitor):
    """Collects what a piece of code uses and what does not exist of it."""

    def __init__(self, tree: ast.AST) -> None:
        self.wrong: list[str] = []
        self._defined = {*dir(builtins), "__name__"}
        self._ours: dict[str, Any] = {}
        for node in ast.walk(tree):
            self._note_definition(node)
        self.visit(tree)

    def _note_definition(self, node: ast.AST) -> None:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                self._defined.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self._defined.add(name)
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                self._defined.add(name)
            case ast.MatchAs(name=str(name)):
                self._defined.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                self._defined |= {(each.asname or each.name).partition(".")[0] for each in names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module in {"ezvideo_async", "ezvideo_async.errors", "ezvideo_async.testing"}:
            home = sys.modules[node.module]
            self.wrong += [each.name for each in node.names if each.name not in home.__all__]

    def visit_Name(self, node: ast.Name) -> None:
        if node.id not in self._defined and node.id not in PUBLIC | STAND_INS:
            self.wrong.append(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        match node.value:
            case ast.Name(id="error"):
                known = node.attr in fields_of_errors()
            case ast.Name(id="event"):
                known = has_member(ezvideo_async.StatusChanged, node.attr)
            case ast.Name(id=name):
                known = has_member((PUBLIC | STAND_INS).get(name), node.attr)
            case _:
                known = True
        if not known:
            self.wrong.append(ast.unparse(node))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Name(id=name):
                called = PUBLIC.get(name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                called = getattr((PUBLIC | STAND_INS).get(name), attribute, None)
            case _:
                called = None
        is_ours = str(getattr(called, "__module__", "")).startswith("ezvideo_async")
        allowed = keywords_of(called) if is_ours else None
        if allowed is not None:
            given = {keyword.arg for keyword in node.keywords if keyword.arg}
            self.wrong += [f"{ast.unparse(node.func)}({name}=)" for name in given - allowed]
        self.generic_visit(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        of = PUBLIC.get(ast.unparse(node.cls))
        self.wrong += [name for name in node.kwd_attrs if of and not has_member(of, name)]
        self.generic_visit(node)


def wrong_names(text: str, name: str) -> list[str]:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    return Names(compile(text, name, "exec", flags)).wrong


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_names_of_block_exist(block: Block) -> None:
    """A code block compiles, and each name, attribute and keyword of ours in it exists."""
    assert wrong_names(block.text, str(block)) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_names_of_example_exist(example: Path) -> None:
    """Each name, attribute and keyword of ours in an example file exists."""
    assert wrong_names(example.read_text("utf-8"), example.name) == []


def test_wrong_names_are_found() -> None:
    """The check of names finds a wrong import, attribute, keyword, pattern and name."""
    code = """
from ezvideo_async import TaskVatcher
client.fetch("vid_1")
client.watch(task_ids, time_out=3)
match event:
    case TaskLost(why=why):
        print(event.is_end, error.waited, undefined)
"""

    assert sorted(wrong_names(code, "code")) == [
        "TaskVatcher",
        "client.fetch",
        "client.watch(time_out=)",
        "event.is_end",
        "undefined",
        "why",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_prose_exist(page: Path) -> None:
    """Each class, and each member of one, that a page names in backticks exists."""
    text = FENCE.sub("", page.read_text("utf-8"))
    named = re.findall(r"`([A-Z][a-zA-Z]*[a-z][a-zA-Z]*)(?:\.(\w+))?(?:\([^`]*\))?`", text)
    unknown = {
        f"{name}.{member}" if member else name
        for name, member in named
        if name not in FOREIGN and not has_member(PUBLIC.get(name) or builtins, member or name)
        if not (name in PUBLIC and not member)
    }

    assert unknown == set()


# --- the pages fit together -----------------------------------------------------------------------


def test_twins_show_the_same_code() -> None:
    """The README and its Chinese twin hold the same code blocks in the same order."""
    english, chinese = ([*FENCE.finditer(page.read_text("utf-8"))] for page in (README, TWIN))

    assert [fence[0] for fence in english] == [fence[0] for fence in chinese]


def test_twins_have_the_same_parts() -> None:
    """The README and its Chinese twin have as many headings, table rows, and links to pages."""

    def shape(page: Path) -> tuple[int, int, Counter[str]]:
        text = FENCE.sub("", page.read_text("utf-8"))
        paths = (link["path"].removeprefix("docs/") for link in LINK.finditer(text))
        names = Counter(path.removeprefix("../") for path in paths)
        del names["README.md"], names["README.zh-CN.md"]
        return text.count("\n## "), text.count("\n| "), names

    assert shape(README) == shape(TWIN)


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    slugs = (re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings)
    return {re.sub(r"\s", "-", slug) for slug in slugs}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    """Each link of a page to a file, and to a heading in it, leads somewhere."""
    text = page.read_text("utf-8")
    broken = [
        link[0]
        for link in LINK.finditer(FENCE.sub("", text))
        if not (target := (page.parent / link["path"]) if link["path"] else page).exists()
        or (link["anchor"] and link["anchor"] not in anchors_of(target))
    ]
    broken += [each[0] for each in INCLUDE.finditer(text) if not (page.parent / each[1]).exists()]

    assert broken == []


def test_examples_are_shown() -> None:
    """Each example file is shown on a page."""
    shown = {Path(each[1]).name for page in PAGES for each in INCLUDE.finditer(page.read_text())}

    assert {example.name for example in EXAMPLES} - shown == set()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name in NATURES], ids=lambda page: page.name
)
def test_page_answers_a_question(page: Path) -> None:
    """A page of one of the four natures begins with the question of whoever opens it."""
    beginning = page.read_text("utf-8").split("\n\n")[:2]

    assert any(paragraph.rstrip().endswith("?") for paragraph in beginning)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name in NATURES], ids=lambda page: page.name
)
def test_one_sentence_a_line(page: Path) -> None:
    """Outside of code, tables and lists a line holds one sentence."""
    lines = FENCE.sub("", page.read_text("utf-8")).splitlines()
    prose = [line for line in lines if not re.match(r"\||- |\d+\. ", line)]

    assert [line for line in prose if re.search(r"[\w`)][.?!] +[A-Z`]", line)] == []


# --- everything public is documented --------------------------------------------------------------


def test_reference_is_complete() -> None:
    """Each public name is in the reference, once."""
    pages = (DOCS / "reference").glob("*.md")
    named = Counter(
        match["name"]
        for page in pages
        for match in DIRECTIVE.finditer(page.read_text("utf-8"))
        if match["name"] not in {"errors", "testing", "plugin"}
    )

    assert named == Counter(PUBLIC.keys())


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
    bare = [name for name, member in members.items() if not inspect.getdoc(member)]

    assert vars(thing).get("__doc__")
    assert bare == []


def test_every_public_name_is_type_checked() -> None:
    """The file for the type checkers uses each public name."""
    tree = ast.parse((ROOT / "tests" / "typing" / "api.py").read_text("utf-8"))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    assert set(PUBLIC) - used == set()
