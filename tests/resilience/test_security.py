"""Security faults (rows X): redirects, injection, TLS, terminal and log texts, bombs."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import json
import logging
import os
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme
from hypothesis import example, given, strategies as st
from packaging.requirements import Requirement

import ezvideo_async
from ezvideo_async import (
    AsyncVideoClient,
    BadResponseError,
    ConfigError,
    EzVideoError,
    InvalidTaskIdError,
    RetryPolicy,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskWatcher,
    VideoTask,
)
from ezvideo_async._domain.redaction import redact_query
from ezvideo_async._domain.task import ErrorInfo, TaskStatus
from ezvideo_async._domain.validation import validate_base_url, validate_headers
from ezvideo_async._protocol.fields import read_progress, read_timestamp, read_url
from ezvideo_async._protocol.messages import Response, body_excerpt
from ezvideo_async._protocol.responses import decode_task
from ezvideo_async._protocol.retry_after import parse_http_date, parse_retry_after
from ezvideo_async._transport.credentials import ApiKey
from ezvideo_async.cli.formatting import clean, event_line, task_line
from ezvideo_async.testing import VirtualClockLoop
from tests.support.key_leaks import chain, walk
from tests.support.raw_server import (
    DONE,
    KEY,
    RawServer,
    client_of,
    done,
    replying,
    response,
    task,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ONCE = RetryPolicy(attempts=1)
ROOT = Path(__file__).parents[2]
PACKAGE = Path(ezvideo_async.__file__).parent


# -- redirects ------------------------------------------------------------------------------------

TARGETS = [
    "http://127.0.0.1:{port}/v1/videos/t?k=SIGNED",
    "//127.0.0.1:{port}/SIGNED",
    "http://api.test@127.0.0.1:{port}/SIGNED",
    "http://user:SIGNED@127.0.0.1:{port}/",
    "http://LOCALHOST:{port}/SIGNED",
    "http://127.0.0.1:{port}\\@api.test/SIGNED",
    "http://127.1:{port}/#SIGNED",
    "https://127.0.0.1:{port}/SIGNED",
    "/v1/videos/SIGNED",
    "?SIGNED",
    "file:///SIGNED",
    "javascript:SIGNED",
    "http://[::1/SIGNED",
    "",
]


@pytest.mark.fault("X5")
@pytest.mark.parametrize("session", ["own", "borrowed"])
@pytest.mark.parametrize("target", TARGETS)
async def test_redirect_is_not_followed(target: str, session: str) -> None:
    """The target gets no connection, and the error shows at most its origin."""
    async with RawServer(DONE) as second, aiohttp.ClientSession() as borrowed:
        location = target.format(port=second.port)
        reply = response(b"", f"Location: {location}", status="307 T")
        options: dict[str, Any] = {"session": borrowed} if session == "borrowed" else {}
        async with (
            RawServer(replying(reply, reply)) as first,
            client_of(first, **options) as client,
        ):
            with pytest.raises(ConfigError) as raised:
                await client.retrieve("t")
            async with client.watch(["t"]) as watcher:
                with pytest.raises(ConfigError):
                    await anext(watcher)

            assert len(first.requests) == client.requests_sent == 2
            assert "SIGNED" not in f"{raised.value}{vars(raised.value)}"
        assert second.connections == 0


# -- injection ------------------------------------------------------------------------------------

ANY = st.text(st.characters(), max_size=12)
INJECTING = ANY | st.tuples(ANY, st.sampled_from(["\r\n", "\n", "\r", "\0", ": "]), ANY).map(
    "".join
)


@pytest.mark.fault("X8", "X9")
@example(task_id="t", key="k", name="X-Team", value=" ")
@given(task_id=INJECTING, key=INJECTING, name=INJECTING, value=INJECTING)
def test_arguments_cannot_add_a_header_or_a_path_segment(
    task_id: str, key: str, name: str, value: str
) -> None:
    """Id, key and header are refused, or sent as one path segment and one header each."""

    async def main() -> None:
        async with RawServer(DONE) as server:
            options = {"api_key": key, "headers": {name: value}}
            async with client_of(server, **options) as client:
                await client.retrieve(task_id)
            (seen,) = server.requests
            assert seen.target.startswith("/v1/videos/")
            assert seen.target.count("/") == 3
            replaced = name.lower() in {"accept", "accept-encoding", "cache-control", "user-agent"}
            assert len(seen.lines) == 7 - replaced
            assert seen.headers["authorization"] == f"Bearer {key.strip()}"
            assert seen.headers[name.lower()] == value.strip(" \t")

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        try:
            runner.run(main())
        except (ConfigError, InvalidTaskIdError):
            return


# -- TLS and the environment ----------------------------------------------------------------------


@pytest.mark.fault("X16")
def test_certificate_verification_cannot_be_disabled() -> None:
    """No parameter does so, and no code of the package weakens an SSL context."""
    for kind in (AsyncVideoClient, TaskWatcher):
        names = set(inspect.signature(kind).parameters)
        assert not {"ssl", "verify", "verify_ssl", "insecure"} & names
    with pytest.raises(TypeError):
        AsyncVideoClient(KEY, verify=False)  # type: ignore[call-arg]
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            weak = {"CERT_NONE", "CERT_OPTIONAL", "check_hostname", "_create_unverified_context"}
            assert not (isinstance(node, ast.Attribute) and node.attr in weak), path
            assert not (isinstance(node, ast.keyword) and node.arg in {"ssl", "verify_ssl"}), path


@pytest.mark.fault("X17")
@pytest.mark.parametrize("session", ["own", "borrowed"])
async def test_login_of_netrc_is_not_sent(
    session: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Even a borrowed session that trusts the environment sends the API key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password pw\ndefault login me password pw\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with RawServer(DONE) as server, aiohttp.ClientSession(trust_env=True) as borrowed:
        options: dict[str, Any] = {"session": borrowed} if session == "borrowed" else {}
        async with client_of(server, **options) as client:
            await client.retrieve("t")

    assert [seen.headers["authorization"] for seen in server.requests] == [f"Bearer {KEY}"]


TLS = """
import asyncio, sys, trustme, ssl
from ezvideo_async import AsyncVideoClient, RetryPolicy, TLSError
from ezvideo_async.testing import VirtualClockLoop
from tests.support.raw_server import DONE, RawServer

async def main(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with RawServer(DONE, tls=context) as server:
        async with AsyncVideoClient(base_url=server.base_url) as client:
            try:
                print((await client.retrieve("t")).status)
            except TLSError as refused:
                print(type(refused).__name__)

with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
    runner.run(main(sys.argv[1]))
"""


@pytest.mark.fault("X17", "X25")
@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("SSL_CERT_FILE", "completed"),
        ("REQUESTS_CA_BUNDLE", "TLSError"),
        ("CURL_CA_BUNDLE", "TLSError"),
    ],
)
def test_environment_changes_trust_as_python_documents(
    name: str, printed: str, tmp_path: Path
) -> None:
    """Variables of Python's ``ssl`` count, as the reference says; those of other tools do not."""
    authority = trustme.CA()
    trusted, certificate = tmp_path / "trusted.pem", tmp_path / "server.pem"
    authority.cert_pem.write_to_path(trusted)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    key_log = tmp_path / "key_log"
    environment = {"PYTHONPATH": str(ROOT), "EZVIDEO_API_KEY": KEY, "SSLKEYLOGFILE": str(key_log)}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", TLS, str(certificate)],
        env=os.environ | environment | {name: str(trusted)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert (ran.stdout, ran.stderr) == (f"{printed}\n", "")
    assert key_log.exists()
    reference = (ROOT / "docs" / "reference" / "client.md").read_text("utf-8")
    assert f"`{name}`" in reference
    assert "`SSLKEYLOGFILE`" in reference


# -- texts that a server sends --------------------------------------------------------------------

ESCAPES = [
    "\x1b]8;;http://evil.test\x07click\x1b]8;;\x07",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x9b31m\x90q\x9c",
    "\u202egnp.exe\u2066\u200b\u200f",
    "50%\r100%",
    "ok\nERROR ezvideo_async: the key was stolen",
    "ok\u2028\u2029\x85\x0b\x0c<4>Nov 25 kernel: x",
    "\ud800\U000e0041\ufeff",
    "x" * 100_000,
]
NASTY = st.sampled_from(ESCAPES) | st.text(st.characters(), max_size=30)


@pytest.mark.fault("X19")
@given(task_id=NASTY, text=NASTY, url=NASTY)
def test_command_line_output_has_no_terminal_escapes(task_id: str, text: str, url: str) -> None:
    """Id, status value, error and url are printable in text output, and ASCII in JSON."""
    failed = VideoTask(
        id=task_id,
        status=TaskStatus.FAILED,
        raw_status=text,
        error=ErrorInfo(code=text, message=text),
    )
    completed = VideoTask(id=task_id, status=TaskStatus.COMPLETED, raw_status=text, url=url)
    events = [
        TaskFailed(task_id=task_id, task=failed),
        TaskCompleted(task_id=task_id, task=completed),
        TaskLost(task_id=task_id, task=None, error=BadResponseError(text), reason="refused"),
    ]
    lines = [event_line(event) for event in events] + [task_line(failed), task_line(completed)]

    for line in lines:
        assert all(each.isprintable() or each == "\u3000" or each.isspace() for each in line)
        assert not set(line) & {"\r", "\n", "\t", "\x1b", "\x85", "\u2028", "\u2029", "\u202e"}
        assert clean(line) == line
    for event in events:
        written = json.dumps(event.to_dict())
        assert written.isascii()
        assert written.isprintable()


@pytest.mark.fault("X20")
@pytest.mark.parametrize("text", ESCAPES, ids=lambda text: ascii(text)[:20])
async def test_server_cannot_add_lines_to_the_log(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every log record and error is one printable line of bounded length."""
    caplog.set_level(logging.DEBUG, "ezvideo_async")
    error = {"error": {"message": text, "code": text, "type": text}}
    line = text.encode("utf-8", "replace").replace(b"\r", b"").replace(b"\n", b"")
    replies: list[Any] = [
        *[response(error, status=f"{status} {'x' * 9}") for status in (400, 404, 429, 500, 501)],
        response(error),
        response(task("t", text)),
        response(task(text)),
        response(task("t", "failed", **error)),
        response(text.encode("utf-8", "surrogatepass")),
        response(b"", f"X-Request-Id: {ascii(text)[1:4000]}", status="500 S"),
        b"HTTP/1.1 2x0 " + line + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n",
    ]
    raised: list[EzVideoError] = []
    for reply in replies:
        async with RawServer(replying(reply, reply)) as server:
            async with client_of(server, retry=ONCE) as client:
                for _ in range(2):
                    try:
                        await client.retrieve("t")
                    except EzVideoError as error:
                        raised.append(error)

    assert len(raised) >= len(replies)
    for each in raised:
        assert str(each).isprintable()
        assert len(str(each)) < 800
    assert len(caplog.records) >= 2 * len(replies)
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 1200


SIGNED = "SIGNED0123456789"
URL = f"https://cdn.test/v.mp4?sig={SIGNED}&Expires=1#{SIGNED}"
SIGNING: dict[str, Any] = {
    "completed": response(task("t", "completed", url=URL)),
    "an error's message": response({"error": {"message": f"no {URL} here"}}, status="400 B"),
    "a failure's message": response(
        task("t", "failed", error={"message": f"no {URL}", "code": "x"})
    ),
    "a text": response(f"see {URL}".encode(), status="500 S"),
    "escaped slashes": response(f"see {URL}".replace("/", "\\/").encode(), status="500 S"),
    "a text under 200": response(f"see {URL}".encode()),
    "a page": response(f"<a href='{URL}'>".encode(), "Content-Type: text/html"),
    "a redirect": response(b"", f"Location: {URL}", status="302 F"),
    "a code": response({"error": {"message": "m", "code": URL}}, status="400 B"),
    "a bad status line": f"HTTP/1.1 2x0 {URL}\r\n\r\n".encode(),
    "a bad header": f"HTTP/1.1 200 OK\r\n{URL}\r\n\r\n".encode(),
}


@pytest.mark.fault("X21")
@pytest.mark.parametrize("name", SIGNING)
async def test_query_of_a_signed_url_is_not_shown(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in no log, no text of an error, no ``repr``."""
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    observers = [lambda event: shown.append(repr(event))]
    script = replying(*[SIGNING[name]] * 9)
    async with RawServer(script) as server:
        async with client_of(server, retry=ONCE, observers=observers) as client:
            for call in (client.retrieve("t"), client.wait("t", timeout=7.0)):
                try:
                    shown.append(repr(await call))
                except EzVideoError as raised:
                    for each in chain(raised):
                        shown += [f"{each}{each!r}{each.args!r}"]
                        shown += [repr(found) for _, found in walk(each, depth=1)]
            async with client.watch(["t"], timeout=7.0) as watcher:
                try:
                    shown += [repr(event) async for event in watcher]
                except EzVideoError as raised:
                    shown.append(repr(raised))
                shown.append(repr(watcher))

    assert shown
    assert not any(SIGNED in text for text in shown), [text for text in shown if SIGNED in text]
    assert SIGNED not in caplog.text
    if name == "completed":
        assert "https://cdn.test/v.mp4?…" in shown[1]


# -- bombs and quadratic time ---------------------------------------------------------------------

MEBIBYTE = 1 << 20
UNITS = [
    "s", "\\", "s\\", "%", "&#", " ", "\t\n", "1", "-1", "0.", "e", "<", "{", "[", '{"a":', '"',
    "http://", "http://a?", "https:\\/\\/", "//@", "//a@", "data:video/", "/", "?", "#", "@",
    ":", "\u202e", "\u4e2d", "2026-01-01T00:00:00", "Thu, 01 Jan 2026 00:00:30 GMT", KEY[:-1],
    "1x", "***",
]  # fmt: skip


def parse_all(text: str) -> list[Any]:
    """Pass a text to every parser of the package."""
    body = text.encode()[:MEBIBYTE]
    fields = dict.fromkeys(("url", "progress", "created_at", "seconds", "size", "model"), text)
    found = VideoTask(id="t", status=TaskStatus.COMPLETED, seconds=text, size=text, url=text)
    return [
        ApiKey(KEY).mask(text),
        ApiKey(KEY).mask_body(body, task_id="t"),
        body_excerpt(body),
        clean(text),
        read_url(text, base_url="https://api.test/v1"),
        read_timestamp(text),
        read_progress(text),
        parse_http_date(text),
        parse_retry_after({"retry-after": text, "retry-after-ms": text}, unix_now=0.0),
        redact_query(text),
        (found.duration, found.dimensions, repr(found)),
        decode(body),
        decode(body, status=500),
        decode(json.dumps({"id": "t", "status": text, **fields, "error": {"message": text}})),
        decode(json.dumps({"error": {"code": text, "message": text}}), status=400),
        decode(json.dumps({"id": text, "detail": [{"msg": text}]})),
    ]


def decode(body: str | bytes, *, status: int = 200) -> Any:
    """Decode a response."""
    content = body if isinstance(body, bytes) else body.encode()
    response = Response(status=status, headers={"location": "x"}, body=content)
    return decode_task(response, task_id="t", base_url="https://api.test/v1", unix_now=0.0)


@pytest.mark.fault("X27")
@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_parsers_take_linear_time(unit: str) -> None:
    """Half a mebibyte of a repeated text is read; quadratic time would be hours."""
    text = (unit * (MEBIBYTE // len(unit) + 1))[: MEBIBYTE // 2]

    assert parse_all(text)
    for check in (validate_base_url, lambda given: validate_headers({"x": given})):
        with pytest.raises(ConfigError):
            check(f"https://api.test/{text} " * 2)  # type: ignore[operator]


BOMBS: dict[str, Callable[[], str]] = {
    "a list of ids": lambda: json.dumps([f"vid_{number}" for number in range(80_000)]),
    "a list of tasks": lambda: json.dumps([{"id": "t", "status": "completed"}] * 25_000),
    "a task of ids": lambda: json.dumps({"id": "t", "status": "x", "ids": ["vid"] * 120_000}),
    "many keys": lambda: json.dumps({f"key{number}": 0 for number in range(60_000)}),
    "keys inside": lambda: json.dumps(
        {"id": "t", "status": "x", "metadata": {f"key{number}": 0 for number in range(60_000)}}
    ),
    "the same key": lambda: "{" + ",".join(['"id": "t"'] * 90_000) + "}",
    "arrays": lambda: "[" * MEBIBYTE,
    "objects": lambda: '{"data":' * (MEBIBYTE // 8),
    "integers": lambda: json.dumps([10**4000] * 250),
    "a huge integer": lambda: "1" * MEBIBYTE,
    "floats": lambda: "[" + ",".join(["1e400"] * 170_000) + "]",
    "escapes": lambda: '"' + "\\u4e2d" * 170_000 + '"',
    "wrapped metadata": lambda: json.dumps({"id": "t", "status": "x", "metadata": "[" * 900_000}),
}


@pytest.mark.fault("X18", "X27")
@pytest.mark.parametrize("name", BOMBS)
async def test_json_bomb_is_read_or_a_bad_response(name: str) -> None:
    """A mebibyte of the worst JSON is read or refused, and the next request succeeds."""
    body = BOMBS[name]().encode()
    assert len(body) <= MEBIBYTE
    async with RawServer(replying(response(body), done)) as server:
        async with client_of(server, retry=ONCE) as client:
            with contextlib.suppress(BadResponseError):
                assert (await client.retrieve("t")).id == "t"
            assert (await client.retrieve("u")).succeeded


# -- dependencies ---------------------------------------------------------------------------------

NEEDS = ["aiohttp", "anyio", "attrs", "cattrs"]


@pytest.mark.fault("X26")
def test_dependencies_have_lower_bounds_and_allow_the_tested_versions() -> None:
    """The pinned version, which the tests use, is within each range."""
    needed = [Requirement(line) for line in requires("ezvideo_async") or []]
    always = [each for each in needed if each.marker is None]
    pins = dict(
        line.split("==")
        for line in (ROOT / "tests" / "constraints.txt").read_text("utf-8").splitlines()
    )

    assert sorted(each.name for each in always) == NEEDS
    for each in needed:
        assert any(limit.operator == ">=" for limit in each.specifier), each
        assert each.specifier.contains(pins[each.name]), each
    for name in NEEDS:
        assert version(name)


@pytest.mark.fault("X26")
def test_wheel_and_sdist_contain_the_declared_files() -> None:
    """The wheel has the package: Python and py.typed; the sdist also tests and docs."""
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    shipped = [path for path in PACKAGE.rglob("*") if path.is_file()]
    kinds = {path.name if path.suffix == ".typed" else path.suffix for path in shipped}

    assert targets["targets"]["wheel"] == {"packages": ["ezvideo_async"]}
    assert targets["targets"]["sdist"]["only-include"] == [
        "ezvideo_async", "tests", "docs", "noxfile.py", "README.md"
    ]  # fmt: skip
    assert set(targets) == {"targets"}  # no hook runs code at build time
    assert kinds - {".pyc"} == {".py", "py.typed"}


IMPORTING = """
import sys

def watch(event, arguments):
    network = event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname")
    if network or event in ("subprocess.Popen", "os.system", "os.fork", "urllib.Request"):
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(watch)
import pkgutil, importlib, ezvideo_async
names = [each.name for each in pkgutil.walk_packages(ezvideo_async.__path__, "ezvideo_async.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


@pytest.mark.fault("X26")
def test_import_uses_no_network_and_starts_no_process() -> None:
    """This holds for every module of the package and its dependencies."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORTING],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert int(ran.stdout) > 40
