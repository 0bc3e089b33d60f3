"""Bodies that are no task, or a task in strange clothes."""

from __future__ import annotations

import json
import pickle
import unicodedata
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from ezvideo_async import (
    BadResponseError,
    TaskFailed,
    TaskStatus,
    TransportError,
    VideoTask,
)
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.fields import normalize_status
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
from tests.support.response_bodies import ASKED, error_of, outcome_of, task_of

every_trouble = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fault(JSON[name].row)) for name in JSON]
)


@every_trouble
@over_both_sessions
async def test_a_call_ends_with_the_rows_error(name, session):
    """Its class, its reason and ``retryable`` are the row's, and the next call is answered."""
    await check_retrieve(JSON[name], session)


@every_trouble
@over_both_sessions
async def test_a_watcher_does_what_the_row_says(name, session):
    """It asks again without a word, gives up the one id, or ends for all."""
    await check_watcher(JSON[name], session)


# -- what is read all the same --------------------------------------------------------------------

STRANGE = {
    "a BOM": ("J1", b'\xef\xbb\xbf{"id": "$", "status": "completed"}', "completed", None),
    "blanks": ("J1", b' \r\n\t{"id": "$", "status": "completed"}\n', "completed", None),
    **{
        f"progress {constant}": (
            "J3",
            b'{"id": "$", "status": "processing", "progress": %b}' % constant.encode(),
            "processing",
            None,
        )
        for constant in ("NaN", "Infinity", "-Infinity", "1e400")
    },
    "status NaN": ("J3", b'{"id": "$", "status": NaN}', "pending", None),
    "no status": ("J7", b'{"id": "$", "progress": 50}', "pending", 50),
    "status null": ("J7", b'{"id": "$", "status": null}', "pending", None),
    "status blank": ("J7", b'{"id": "$", "status": " "}', "pending", None),
    "status 5": ("J7", b'{"id": "$", "status": 5}', "processing", None),
    "status true": ("J7", b'{"id": "$", "status": true}', "processing", None),
    "status in a list": ("J7", b'{"id": "$", "status": ["completed"]}', "processing", None),
    "status in an object": ("J7", b'{"id": "$", "status": {"a": 1}}', "processing", None),
    "status as a word None": ("J7", b'{"id": "$", "status": "None"}', "processing", None),
    "no id": ("J8", b'{"status": "completed"}', "completed", None),
    "id null": ("J8", b'{"id": null, "status": "completed"}', "completed", None),
    "id 7": ("J8", b'{"id": 7, "status": "completed"}', "completed", None),
    "id in a list": ("J8", b'{"id": ["$"], "status": "completed"}', "completed", None),
    "id 7 beside a name": (
        "J8",
        b'{"id": 7, "task_id": "$", "status": "completed"}',
        "completed",
        None,
    ),
}
"""A body in which ``$`` is the asked id; the row, and the status and progress that are read."""


def strange(body: bytes) -> Fault:
    """A script that answers with *body* about the asked task."""
    script = [READ, lambda seen: response(body.replace(b"$", seen.task_id.encode()))]
    return Fault(row="", script=script, kind=TransportError)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fault(STRANGE[name][0])) for name in STRANGE]
)
@over_both_sessions
async def test_a_strange_body_is_read(name, session):
    """One request, and the task is alive or ended as its row says."""
    _row, body, status, progress = STRANGE[name]
    async with (
        meeting(strange(body), questions=2) as server,
        client_over(session, server) as client,
    ):
        found = await client.retrieve("t")
        async with client.watch(["u"]) as watcher:
            events = await read_all(watcher)

        assert (found.id, found.status, found.progress) == ("t", status, progress)
        assert found.raw_status != "null"
        expected = [] if found.is_terminal else ["status_changed"]
        assert [event.kind for event in events] == [*expected, "task_completed"]
        assert events[0].task.status == status
        assert client.requests_sent == len(server.requests) == 1 + len(events)


REASONS = {
    "no error": (b"", None),
    "null": (b', "error": null', None),
    "a text": (b', "error": "worker died"', "worker died"),
    "an empty text": (b', "error": ""', None),
    "a list": (b', "error": ["worker died"]', None),
    "a number": (b', "error": 5', None),
    "true": (b', "error": true', None),
    "an object": (b', "error": {"message": "worker died"}', "worker died"),
    "an empty object": (b', "error": {}', None),
    "an object of nulls": (b', "error": {"message": null, "code": null}', None),
    "an object of objects": (b', "error": {"message": {"a": 1}, "code": []}', None),
    "a reason elsewhere": (b', "error": [], "fail_reason": "worker died"', "worker died"),
}


@pytest.mark.fault("J14")
@pytest.mark.parametrize("name", REASONS)
@over_both_sessions
async def test_a_failed_task_is_told_whatever_its_error_is(name, session):
    """One event ``TaskFailed`` with an error on the task; its message where one can be read."""
    error, message = REASONS[name]
    body = b'{"id": "$", "status": "failed"' + error + b"}"
    async with (
        meeting(strange(body), questions=2) as server,
        client_over(session, server) as client,
    ):
        found = await client.retrieve("t")
        async with client.watch(["u"]) as watcher:
            (event,) = await read_all(watcher)

        assert type(event) is TaskFailed
        for task in (found, event.task):
            assert task.status is TaskStatus.FAILED
            assert task.error.message == message
        assert len(server.requests) == 2


# -- properties of the reading --------------------------------------------------------------------


def told(**fields: Any) -> dict[str, Any]:
    """A task of the asked id, alive."""
    return {"id": ASKED, "status": "processing", **fields}


@pytest.mark.fault("J1")
@given(model=strategies.plain_texts, mark=st.booleans())
def test_utf_8_is_read_with_or_without_a_mark(model, mark):
    """A byte order mark in front changes nothing, and any character may stand in a text."""
    body = json.dumps(told(model=model), ensure_ascii=False).encode()

    assert task_of(b"\xef\xbb\xbf" + body if mark else body) == task_of(body)
    assert task_of(body).model == model


@pytest.mark.fault("J1")
@given(model=strategies.plain_texts, codec=st.sampled_from(["utf-16", "utf-16-le", "utf-32-be"]))
def test_another_encoding_is_not_guessed(model, codec):
    """UTF-16 and UTF-32 are no JSON here, whatever the text: a bad answer that may pass."""
    error = error_of(json.dumps(told(model=model), ensure_ascii=False).encode(codec))

    assert (type(error), error.reason, error.retryable) == (BadResponseError, "not_json", True)


@pytest.mark.fault("J1")
@given(
    place=st.integers(10, 40),
    stray=st.lists(st.integers(0x80, 0xFF), min_size=1, max_size=3)
    .map(bytes)
    .filter(lambda stray: not _is_utf_8(stray)),
)
def test_bytes_that_are_no_utf_8_spoil_the_answer(place, stray):
    """Wherever they stand: nothing is replaced or left out to make a task of it."""
    body = json.dumps(told(model="a" * 40)).encode()
    error = error_of(body[:place] + stray + body[place:])

    assert (type(error), error.reason, error.retryable) == (BadResponseError, "not_json", True)


def _is_utf_8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def numbers_in(value: Any) -> list[float]:
    """All floats in a JSON value."""
    if isinstance(value, dict):
        return [each for inner in value.values() for each in numbers_in(inner)]
    if isinstance(value, list):
        return [each for inner in value for each in numbers_in(inner)]
    return [value] if isinstance(value, float) else []


@pytest.mark.fault("J3")
@given(
    field=st.sampled_from([*strategies.FIELDS, "brewing"]),
    constant=st.sampled_from(["NaN", "Infinity", "-Infinity", "1e400", "-1e999"]),
    form=st.sampled_from(["%s", "[%s]", '{"a": [1, %s]}']),
)
def test_what_is_no_number_is_nothing(field, constant, form):
    """NaN and infinities are read as null in any field: the task is read, without them."""
    names = {name: f'"{ASKED if name == "id" else "processing"}"' for name in ("id", "status")}
    pairs = {**names, field: form % constant}
    task = task_of("{" + ", ".join(f'"{name}": {text}' for name, text in pairs.items()) + "}")

    assert task.status in {TaskStatus.PROCESSING, TaskStatus.PENDING}
    assert task.progress is None
    assert all(map(isfinite, numbers_in(task.raw) + numbers_in(task.to_dict())))
    assert task == task_of(json.dumps(task.raw))


@pytest.mark.fault("J5")
@given(
    key=st.sampled_from(strategies.FIELDS),
    one=strategies.hostile_values,
    two=strategies.hostile_values,
    around=st.lists(st.sampled_from(["data", "metadata", "error", "x"]), max_size=3),
    escaped=st.booleans(),
)
def test_a_key_that_stands_twice_spoils_the_answer(key, one, two, around, escaped):
    """At any depth, and with equal values too: neither the first nor the last one wins."""
    again = f"\\u{ord(key[0]):04x}{key[1:]}" if escaped else key
    inner = f'{{"{key}": {json.dumps(one)}, "{again}": {json.dumps(two)}}}'
    for name in around:
        inner = f'{{"{name}": [{inner}]}}'
    error = error_of(f'{{"here": {inner}, "id": "{ASKED}", "status": "completed"}}')

    assert (type(error), error.reason, error.retryable) == (BadResponseError, "not_json", True)


@pytest.mark.fault("J6")
@given(strategies.json_values().filter(lambda value: not isinstance(value, dict)))
def test_what_is_no_object_at_the_top_is_no_task(value):
    """A list of tasks, a word, null: the error says what was expected, and may pass."""
    error = error_of(json.dumps(value))

    assert (type(error), error.reason, error.retryable) == (BadResponseError, "schema", True)
    assert error.paths[0].startswith("expected an object @ $, got ")


@pytest.mark.fault("J7")
@given(strategies.hostile_values)
@example(value=None)
@example(value="None")
@example(value=True)
def test_a_status_that_is_no_word_ends_nothing(value):
    """No status is pending, one of another type is alive; a word is read by the table alone."""
    task = task_of({"id": ASKED, "status": value})

    if isinstance(value, str) and value.strip():
        assert task.raw_status == value
        known = dialects.STATUS_VALUES.get(normalize_status(value), TaskStatus.PROCESSING)
        assert task.status is known
    elif value is None or isinstance(value, str):
        assert (task.status, task.raw_status) == (TaskStatus.PENDING, None)
    else:
        assert task.status is TaskStatus.PROCESSING
        assert task.raw_status not in {None, "None", "null"}


@pytest.mark.fault("J8")
@given(strategies.hostile_values | st.just(ASKED))
def test_an_id_is_the_asked_one_or_another_tasks(value):
    """Only a text is a name: another text is another task, all else says nothing."""
    outcome = outcome_of({"id": value, "status": "completed"})

    if isinstance(value, str) and value.strip() and value != ASKED:
        assert isinstance(outcome, BadResponseError)
        assert (outcome.reason, outcome.answered_id) == ("id_mismatch", value)
        assert outcome.retryable
    else:
        assert isinstance(outcome, VideoTask)
        assert (outcome.id, outcome.succeeded) == (ASKED, True)


_numbers_of_any_kind = st.integers() | st.floats() | st.sampled_from([10**30, -(10**30), -5, 250])


@pytest.mark.fault("J9")
@given(
    value=strategies.hostile_values | _numbers_of_any_kind.map(str) | _numbers_of_any_kind,
    percent=st.integers(0, 100),
)
@example(value="45", percent=45)
@example(value=45.9, percent=45)
@example(value=True, percent=1)
@example(value=None, percent=0)
def test_a_progress_never_spoils_a_task(value, percent):
    """A whole percentage within 0 and 100 or None, whatever is sent; a sound one is kept."""
    task = task_of(told(progress=value))

    assert task.status is TaskStatus.PROCESSING
    assert task.progress is None or (type(task.progress) is int and 0 <= task.progress <= 100)
    assert task_of(told()).progress is None
    assert {task_of(told(progress=form)).progress for form in (percent, f"{percent}%")} == {percent}
    if isinstance(value, bool) or value is None:
        assert task.progress is None
    elif isinstance(value, int):
        assert task.progress == min(max(value, 0), 100)


_INSTANTS = st.integers(946_684_800, 4_102_444_800)  # 2000 to 2100


@pytest.mark.fault("J10")
@given(
    field=st.sampled_from([*dialects.CREATED_AT_FIELDS, *dialects.EXPIRES_AT_FIELDS]),
    value=strategies.hostile_values | st.integers(max_value=0) | st.integers(min_value=10**20),
)
def test_a_time_never_spoils_a_task(field, value):
    """An aware instant in whole seconds or None; as it was sent it stays in ``raw``."""
    answered = told(**{field: value})
    task = task_of(answered)
    found = task.expires_at if field in dialects.EXPIRES_AT_FIELDS else task.created_at

    assert task.status is TaskStatus.PROCESSING
    assert task.raw == json.loads(json.dumps(answered))
    if found is not None:
        assert found.tzinfo is UTC
        assert found.microsecond == 0
        assert 1970 <= found.year <= 5138
    if isinstance(value, int | float) and value <= 0:
        assert found is None


@pytest.mark.fault("J10")
@given(at=_INSTANTS, unit=st.sampled_from([1, 1_000, 1_000_000, 1_000_000_000]), text=st.booleans())
def test_a_time_is_read_in_any_unit(at, unit, text):
    """Seconds, milli-, micro- and nanoseconds, as a number or as digits in a text."""
    value = str(at * unit) if text else at * unit

    assert task_of(told(created_at=value)).created_at == datetime.fromtimestamp(at, UTC)


@pytest.mark.fault("J11")
@given(
    number=st.integers(0, 10**9) | st.floats(0, 1e9),
    width=st.integers(1, 9999),
    height=st.integers(1, 9999),
)
def test_numbers_for_seconds_and_size_are_kept_as_text(number, width, height):
    """As the server wrote them; length and dimensions are read from what says them."""
    task = task_of(told(seconds=number, size=width, duration=1))

    assert (task.seconds, task.size, task.dimensions) == (str(number), str(width), None)
    assert task_of(told(size=f"{width}x{height}")).dimensions == (width, height)


@pytest.mark.fault("J11")
@given(value=strategies.hostile_values)
def test_seconds_and_size_never_spoil_a_task(value):
    """A text or None, whatever is sent, and as it was sent in ``raw``."""
    task = task_of(told(seconds=value, size=value))

    for found in (task.seconds, task.size):
        assert found is None or type(found) is str
    assert (task.raw["seconds"], task.raw["size"]) == (value, value)
    assert task.duration is None or task.duration >= 0.0


@pytest.mark.fault("J11")
@over_both_sessions
async def test_a_megabyte_of_metadata_is_kept(session):
    """Up to the cap of a body, wide and ninety levels deep, and whole in ``raw``."""
    deep: Any = "bottom"
    for _level in range(45):
        deep = {"down": [deep]}
    metadata = {f"key {number}": [number, "x" * 80] for number in range(9300)} | {"deep": deep}
    body = json.dumps({"id": "$", "status": "completed", "metadata": metadata}).encode()
    assert 0.9 * MEBIBYTE < len(body) < MEBIBYTE
    async with (
        meeting(strange(body), questions=2) as server,
        client_over(session, server) as client,
    ):
        found = await client.retrieve("t")
        async with client.watch(["u"]) as watcher:
            (event,) = await read_all(watcher)

    for task in (found, event.task):
        assert task.metadata == metadata
        assert task.raw["metadata"] == metadata
        assert len(repr(task)) < 1000


@pytest.mark.fault("J13")
@given(text=strategies.texts, place=st.sampled_from(["model", "size", "seconds", "status"]))
@example(text="\x1b]8;;https://evil.test\x07click\x1b]8;;\x07", place="model")
@example(text="\ud800 lone \udfff", place="model")
@example(text="a\x00b\u202egnp.exe", place="status")
def test_any_text_is_kept_and_safe_to_show(text, place):
    """Kept to the character; ``repr`` and the command show nothing a terminal would obey."""
    task = task_of({"id": ASKED, "status": "processing", place: text})
    kept = task.raw_status if place == "status" else getattr(task, place)

    assert kept == (text if text.strip() else None)
    assert task.raw[place] == text
    check_shown(task, kept or "")


@pytest.mark.fault("J13")
@given(text=strategies.texts, place=st.sampled_from(["message", "code"]))
def test_any_text_of_a_failure_is_kept_and_safe_to_show(text, place):
    """As above, for what a failed task says of itself."""
    task = task_of({"id": ASKED, "status": "failed", "error": {place: text}})

    assert task.error is not None
    assert getattr(task.error, place) == (text if text.strip() else None)
    check_shown(task, text)


def check_shown(task: VideoTask, text: str) -> None:
    """Nothing that is shown or stored carries more than printable characters, or loses one."""
    event = TaskFailed(task_id=task.id, task=task, at=0.0, tag=text)
    shown = [repr(task), repr(event), clean(text)]

    for line in shown:
        # The command lets blanks of any width pass.
        assert all(each.isprintable() or unicodedata.category(each) == "Zs" for each in line)
        line.encode()  # no lone surrogate is left
    stored = json.dumps(task.to_dict())
    assert stored.isascii()
    assert VideoTask.from_dict(json.loads(stored)).to_dict() == task.to_dict()
    assert pickle.loads(pickle.dumps(task)) == task


@pytest.mark.fault("J13")
@given(text=strategies.texts, status=st.sampled_from([200, 400, 401, 404, 429, 500]))
def test_any_text_of_an_error_is_kept_and_safe_to_show(text, status):
    """The error's line is printable whatever the server says; the words are kept beside it."""
    error = error_of({"error": {"message": text, "code": text}}, status=status)

    assert str(error).isprintable()
    assert error.message == error.code == (text if text.strip() else None)


@pytest.mark.fault("J13")
async def test_a_hostile_word_is_logged_escaped(caplog):
    """The log gets one line, without anything that a terminal would obey."""
    word = "brewing\x1b[2J\u202e\x00\r\nERROR forged \ud800"
    script = replying(response({"id": "t", "status": word}))
    async with RawServer(script) as server, client_of(server) as client:
        assert (await client.retrieve("t")).raw_status == word

    (record,) = caplog.records
    assert record.getMessage().isascii()
    assert record.getMessage().isprintable()
