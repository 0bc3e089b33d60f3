"""Response bodies that are invalid or unusual, from the socket to the caller."""

from __future__ import annotations

import json
import pickle
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from ezvideo_async import TaskFailed, TransportError, VideoTask
from ezvideo_async.cli.formatting import clean
from tests.resilience.catalog import JSON, MEBIBYTE, Fault
from tests.resilience.stage import (
    check_retrieve,
    check_watcher,
    client_over,
    meeting,
    over_both_sessions,
    read_all,
)
from tests.support import strategies
from tests.support.raw_server import READ, RawServer, client_of, replying, response
from tests.support.response_bodies import ASKED, error_of, task_of

every_fault = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fault(JSON[name].row)) for name in JSON]
)


@every_fault
@over_both_sessions
async def test_retrieve_raises_the_error_of_the_row(name, session):
    """Class, reason and ``retryable`` are the row's, and the next call succeeds."""
    await check_retrieve(JSON[name], session)


@every_fault
@over_both_sessions
async def test_watcher_does_what_the_row_says(name, session):
    """It polls again, ends the id, or ends the iteration."""
    await check_watcher(JSON[name], session)


# -- unusual bodies -------------------------------------------------------------------------------


def fault_of(body: bytes) -> Fault:
    """Return a script that responds with *body*, in which ``$`` is the asked id."""
    script = [READ, lambda seen: response(body.replace(b"$", seen.task_id.encode()))]
    return Fault(row="", script=script, kind=TransportError)


@pytest.mark.parametrize(
    ("body", "status", "progress"),
    [
        pytest.param(
            b'\xef\xbb\xbf \n{"id": "$", "status": "completed"}\r\n',
            "completed",
            None,
            marks=pytest.mark.fault("J1"),
            id="byte order mark",
        ),
        pytest.param(
            b'{"id": "$", "status": "processing", "progress": NaN}',
            "processing",
            None,
            marks=pytest.mark.fault("J3"),
            id="NaN",
        ),
        pytest.param(
            b'{"id": 7, "task_id": "$", "status": null, "progress": 50}',
            "pending",
            50,
            marks=[pytest.mark.fault("J7"), pytest.mark.fault("J8")],
            id="no status, and a number as id",
        ),
        pytest.param(
            b'{"id": "$", "status": "failed", "error": "worker died"}',
            "failed",
            None,
            marks=pytest.mark.fault("J14"),
            id="error as text",
        ),
    ],
)
@over_both_sessions
async def test_unusual_body_is_decoded(body, status, progress, session):
    """It takes one request, and the watcher's event has the same state."""
    async with (
        meeting(fault_of(body), questions=2) as server,
        client_over(session, server) as client,
    ):
        found = await client.retrieve("t")
        async with client.watch(["u"]) as watcher:
            events = await read_all(watcher)

        assert (found.id, found.status, found.progress) == ("t", status, progress)
        kinds = [f"task_{status}"] if found.is_terminal else ["status_changed", "task_completed"]
        assert [event.kind for event in events] == kinds
        assert events[0].task.status == status
        assert client.requests_sent == len(server.requests) == 1 + len(events)


@pytest.mark.fault("J11")
@over_both_sessions
async def test_megabyte_of_metadata_is_kept(session):
    """It is 90 levels deep, and complete in ``metadata`` and ``raw``."""
    deep: Any = "bottom"
    for _level in range(45):
        deep = {"down": [deep]}
    metadata = {f"key {number}": [number, "x" * 80] for number in range(9300)} | {"deep": deep}
    body = json.dumps({"id": "$", "status": "completed", "metadata": metadata}).encode()
    assert 0.9 * MEBIBYTE < len(body) < MEBIBYTE
    async with (
        meeting(fault_of(body), questions=2) as server,
        client_over(session, server) as client,
    ):
        found = await client.retrieve("t")
        async with client.watch(["u"]) as watcher:
            (event,) = await read_all(watcher)

    for task in (found, event.task):
        assert task.metadata == metadata
        assert task.raw["metadata"] == metadata
        assert len(repr(task)) < 1000


# -- texts of the server --------------------------------------------------------------------------

HOSTILE = "\x1b]8;;https://evil.test\x07click\x1b]8;;\x07 \u202egnp.exe\x00 \ud800"


@pytest.mark.fault("J13")
@given(
    text=strategies.texts,
    place=st.sampled_from(["model", "size", "seconds", "raw_status", "message", "code"]),
)
@example(text=HOSTILE, place="model")
@example(text=HOSTILE, place="raw_status")
@example(text=HOSTILE, place="message")
def test_any_text_is_kept_and_shown_printable(text, place):
    """Values keep every character; ``repr`` and the command show only printable ones."""
    error = {"error": {place: text}} if place in {"message", "code"} else {}
    status = {"status": "failed"} if error else {"status": "processing", place: text}
    if place == "raw_status":
        status = {"status": text}
    task = task_of({"id": ASKED, **status, **error})
    kept = getattr(task.error if error else task, place)
    event = TaskFailed(task_id=task.id, task=task, at=0.0, tag=text)

    assert kept == (text if text.strip() else None)
    for shown in (repr(task), repr(event), clean(text)):
        # The command shows blanks of any width.
        assert all(each.isprintable() or unicodedata.category(each) == "Zs" for each in shown)
        shown.encode()  # no lone surrogate is left
    stored = json.dumps(task.to_dict())
    assert stored.isascii()
    assert VideoTask.from_dict(json.loads(stored)).to_dict() == task.to_dict()
    assert pickle.loads(pickle.dumps(task)) == task


@pytest.mark.fault("J13")
@given(text=strategies.texts, status=st.sampled_from([200, 400, 401, 404, 429, 500]))
def test_any_text_of_an_error_is_kept_and_shown_printable(text, status):
    """The error's message is printable; code and message are unchanged attributes."""
    error = error_of({"error": {"message": text, "code": text}}, status=status)

    assert str(error).isprintable()
    assert error.message == error.code == (text if text.strip() else None)


@pytest.mark.fault("J13")
async def test_unknown_status_value_is_logged_escaped(caplog):
    """The log gets one printable line."""
    value = "brewing\x1b[2J\u202e\x00\r\nERROR forged \ud800"
    script = replying(response({"id": "t", "status": value}))
    async with RawServer(script) as server, client_of(server) as client:
        assert (await client.retrieve("t")).raw_status == value

    (record,) = caplog.records
    assert record.getMessage().isascii()
    assert record.getMessage().isprintable()
