"""Tests of ``cli.connection``: the API key, and the report of failed polls."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from ezvideo_async import (
    AuthenticationError,
    TaskNotFoundError,
    TaskStatus,
    TLSError,
    TransportError,
)
from ezvideo_async.cli.arguments import parse_arguments
from ezvideo_async.cli.connection import FailureReporter, make_client
from ezvideo_async.instrumentation import PollFailed, PollSucceeded, TelemetryEvent
from tests.cli.conftest import KEY


@pytest.mark.parametrize("value", [None, "", " "])
def test_a_missing_api_key_is_wrong_usage(
    ezvideo: Any, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """Without an API key the exit code is 2, and the message says where to put one."""
    monkeypatch.delenv("EZVIDEO_API_KEY")
    if value is not None:
        monkeypatch.setenv("EZVIDEO_API_KEY", value)
    result = ezvideo("watch", "id")

    assert result.code == 2
    assert result.err == "ezvideo: no API key; set EZVIDEO_API_KEY or give --api-key-file FILE\n"


def test_the_api_key_file_wins(ezvideo: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line of --api-key-file is used instead of the environment."""
    monkeypatch.setenv("EZVIDEO_API_KEY", "sk-other")
    Path("key").write_text(f"{KEY}\nsecond line\n", "utf-8")

    assert ezvideo("status", "--api-key-file", "key", *server.add("completed")).code == 0


def test_headers_are_sent(ezvideo: Any, server: Any) -> None:
    """Each --header is sent with every request."""
    (task_id,) = server.add("completed")
    options = ("--header", "x-one: 1", "--header", "X-Two:a:b")

    assert ezvideo("status", *options, task_id).code == 0
    (request,) = server.call("requests", task_id)
    assert (request.headers["x-one"], request.headers["x-two"]) == ("1", "a:b")


def test_requests_go_through_the_proxy(ezvideo: Any, server: Any) -> None:
    """With --proxy the request is sent to the proxy, which gets the whole url."""
    (task_id,) = server.add("completed")
    proxy = server.base_url.removesuffix("/v1")
    result = ezvideo("status", "--proxy", proxy, "--base-url", "http://localhost:9/v1", task_id)

    assert result.code != 0
    assert server.call("requests")[-1].path == f"http://localhost:9/v1/videos/{task_id}"


def test_plain_http_needs_an_option(ezvideo: Any) -> None:
    """A base URL of plain http on another machine is refused; the message names the option."""
    arguments = ("status", "--base-url", "http://192.0.2.1/v1", "vid_1")
    refused = ezvideo(*arguments)
    allowed = make_client(parse_arguments([*arguments, "--allow-insecure"]))

    assert refused.code == 2
    assert "or give --allow-insecure if " in refused.err
    assert allowed.base_url == "http://192.0.2.1/v1"


def test_a_request_ends_after_its_timeout(ezvideo: Any, server: Any) -> None:
    """--request-timeout limits each request."""
    (task_id,) = server.add("completed")
    server.call("fault", "slow", share=1.0, delay=3600.0)
    result = ezvideo("status", "--request-timeout", "0.05", task_id)

    assert result.code == 1
    assert f"{task_id}: no response within 0.0" in result.err


UNREACHABLE = PollFailed(task_id="vid_1", error=TransportError("no \x1bconnection"), elapsed=0.0)
UNTRUSTED = PollFailed(task_id="vid_1", error=TLSError("bad certificate"), elapsed=0.0)
REFUSED = PollFailed(task_id="vid_1", error=AuthenticationError("HTTP 401: no"), elapsed=0.0)
MISSING = PollFailed(task_id="vid_2", error=TaskNotFoundError("not found"), elapsed=0.0)
SUCCEEDED = PollSucceeded(task_id="vid_3", status=TaskStatus.PENDING, elapsed=0.0)


async def test_failed_polls_are_reported_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """The first failure is printed at once, others once a minute, a missing task never."""
    reporter = FailureReporter()
    for _ in range(25):
        for event in (MISSING, SUCCEEDED, UNREACHABLE):
            reporter(event)
        await asyncio.sleep(5.0)
    out, err = capsys.readouterr()

    assert out == ""
    assert err == "ezvideo: no \\x1bconnection; polling continues\n" * 3


@pytest.mark.parametrize(
    ("events", "printed"),
    [
        ([UNREACHABLE], "ezvideo: no \\x1bconnection; still trying; "),
        ([MISSING, UNREACHABLE], "ezvideo: no \\x1bconnection; polling continues\n"),
        ([UNTRUSTED], ""),
        ([REFUSED], ""),
        ([SUCCEEDED, REFUSED], "ezvideo: HTTP 401: no; polling continues\n"),
        ([SUCCEEDED, UNTRUSTED], "ezvideo: bad certificate; polling continues\n"),
    ],
)
async def test_the_first_failure_says_what_to_check(
    capsys: pytest.CaptureFixture[str], events: list[TelemetryEvent], printed: str
) -> None:
    """Before any response it says what to check, except for an error that ends the command."""
    reporter = FailureReporter()
    for event in events:
        reporter(event)
    err = capsys.readouterr().err

    assert err.startswith(printed)
    assert ("check the base URL" in err) == ("still trying" in err)
    assert bool(err) == bool(printed)


@pytest.mark.fault("Q16")
def test_an_unreachable_server_is_reported_at_once(ezvideo: Any) -> None:
    """A wrong port is reported on stderr while the command is still trying."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    result = ezvideo("watch", "--timeout", "0.1", "--base-url", url, "vid_1")

    assert result.code == 4
    assert "; still trying; " in result.err.splitlines()[0]
