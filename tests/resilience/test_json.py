"""JSON faults (rows J): invalid bodies, and texts with control characters."""

from __future__ import annotations

import json
import pickle
import unicodedata

import pytest
from hypothesis import example, given, strategies as st

from ezvideo_async import TaskFailed, VideoTask
from ezvideo_async.cli.formatting import clean
from tests.resilience.catalog import JSON
from tests.resilience.stage import (
    check_retrieve,
    check_watcher,
)
from tests.resilience.wires import over_both_sessions
from tests.support import strategies
from tests.support.raw_server import RawServer, client_of, replying, response
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
async def test_watcher_applies_the_verdict_of_the_row(name, session):
    """It polls again without an event."""
    await check_watcher(JSON[name], session)


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
