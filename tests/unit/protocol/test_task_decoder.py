"""Reading a task field by field: one table for each rule of the dialects."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ezvideo_async._domain.task import ErrorInfo, TaskStatus, VideoTask
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.fields import is_known_status, is_object, read_progress, read_timestamp
from ezvideo_async._protocol.task_decoder import foreign_id, read_envelope, read_task
from ezvideo_async.errors import BadResponseError
from tests.support.response_bodies import BASE_URL, error_of, task_of

URL = "https://cdn.example.test/v.mp4"
OTHER_URL = "https://other.example.test/w.mp4"
AT = 1_767_225_600
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)

WORDS = {
    TaskStatus.PENDING: (
        "pending queued queue queueing queuing in_queue inqueue submitted created waiting accepted "
        "scheduled preparing initializing initialized starting throttled validating not_start "
        "not_started notstart notstarted unknown"
    ),
    TaskStatus.PROCESSING: (
        "processing in_progress inprogress running generating preprocessing rendering started "
        "cancelling canceling image_downloading video_generating video_upsampling"
    ),
    TaskStatus.COMPLETED: ("completed complete succeeded succeed success successful done finished"),
    TaskStatus.FAILED: (
        "failed fail failure error errored timeout timed_out rejected cancelled canceled aborted "
        "deleted expired"
    ),
}
ROWS = [(word, status) for status, words in WORDS.items() for word in words.split()]

# -- status ----------------------------------------------------------------------------------


@pytest.mark.fault("S6")
@pytest.mark.parametrize(("word", "status"), ROWS, ids=[word for word, _ in ROWS])
def test_every_word_of_the_table_is_read(word, status):
    """Each word any server is known to send is read as one of the four."""
    task = task_of({"id": "vid_x", "status": word})

    assert status is task.status
    assert word == task.raw_status


def test_the_table_holds_no_other_word():
    """A word is added with a test, or not at all."""
    assert dict(ROWS) == dialects.STATUS_VALUES


@pytest.mark.fault("S6")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("  COMPLETED \n", TaskStatus.COMPLETED),
        ("In Progress", TaskStatus.PROCESSING),
        ("in-progress", TaskStatus.PROCESSING),
        ("Timed - Out", TaskStatus.FAILED),
        ("NOT START", TaskStatus.PENDING),
        ("Not-Started", TaskStatus.PENDING),
        ("in  queue", TaskStatus.PENDING),
        ("UNKNOWN", TaskStatus.PENDING),
    ],
)
def test_case_blanks_and_hyphens_do_not_matter(sent, status):
    """A word is compared in lower case, runs of blanks and hyphens made one underscore."""
    task = task_of({"id": "vid_x", "status": sent})

    assert status is task.status
    assert sent == task.raw_status


@pytest.mark.fault("S6")
@pytest.mark.parametrize(
    "word",
    ["brewing", "moderated", "video_generation_completed", "completed!", "ok", "100", "processed"],
)
def test_a_word_nobody_knows_means_alive(word):
    """It never ends a wait, whatever it looks like."""
    task = task_of({"id": "vid_x", "status": word, "url": URL, "progress": 100})

    assert task.status is TaskStatus.PROCESSING
    assert word == task.raw_status
    assert not is_known_status(word)


@pytest.mark.parametrize(
    ("sent", "raw"),
    [
        (7, "7"),
        (2.5, "2.5"),
        (True, "bool"),
        (False, "bool"),
        (["completed"], "list"),
        ({}, "dict"),
    ],
)
def test_a_status_that_is_no_text_is_an_unknown_word(sent, raw):
    """It is alive, and never the word inside it."""
    task = task_of({"id": "vid_x", "status": sent})

    assert task.status is TaskStatus.PROCESSING
    assert raw == task.raw_status


@pytest.mark.parametrize("sent", [None, "", "  "])
def test_a_blank_status_is_none(sent):
    """Then the next field counts, and without one the id alone says that the task is alive."""
    assert task_of({"id": "vid_x", "status": sent}).status is TaskStatus.PENDING
    assert task_of({"id": "vid_x", "status": sent}).raw_status is None
    assert task_of({"id": "vid_x", "status": sent, "state": "done"}).raw_status == "done"
    assert task_of({"id": "vid_x", "state": sent, "task_status": "fail"}).raw_status == "fail"


def test_the_status_fields_have_their_order():
    """``status`` wins over ``state``, and that over ``task_status``."""
    told = {"id": "vid_x", "task_status": "failed", "state": "running", "status": "queued"}

    assert task_of(told).status is TaskStatus.PENDING
    del told["status"]
    assert task_of(told).status is TaskStatus.PROCESSING
    del told["state"]
    assert task_of(told).status is TaskStatus.FAILED


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"id": "vid_x"}, TaskStatus.PENDING),
        ({"id": "vid_x", "progress": 100, "completed_at": AT}, TaskStatus.PENDING),
        ({"id": "vid_x", "url": URL}, TaskStatus.COMPLETED),
        ({"url": URL}, TaskStatus.COMPLETED),
        ({"id": "vid_x", "url": "", "metadata": {"url": "soon"}}, TaskStatus.PENDING),
        ({"id": "vid_x", "url": URL, "error": {"code": "x"}}, TaskStatus.COMPLETED),
        ({"id": "vid_x", "error": {"code": "x"}}, TaskStatus.FAILED),
        ({"id": "vid_x", "error": {"message": "worker died"}}, TaskStatus.FAILED),
        ({"id": "vid_x", "error": "worker died"}, TaskStatus.FAILED),
        ({"id": "vid_x", "error": {}}, TaskStatus.PENDING),
        ({"id": "vid_x", "error": None}, TaskStatus.PENDING),
        ({"id": "vid_x", "error": {"code": 0, "message": ""}}, TaskStatus.PENDING),
        ({"id": "vid_x", "error": {"code": "success", "message": "ok"}}, TaskStatus.PENDING),
        ({"id": "vid_x", "error": {"code": "", "message": "boom"}}, TaskStatus.FAILED),
        ({"id": "vid_x", "fail_reason": URL}, TaskStatus.PENDING),
        ({"request_id": "vid_x"}, TaskStatus.PENDING),
    ],
)
def test_without_a_status_the_url_the_error_and_the_id_decide(told, status):
    """In that order; progress and times prove nothing."""
    assert status is task_of(told).status
    assert task_of(told).raw_status is None


@pytest.mark.fault("S3")
@pytest.mark.parametrize("word", ["pending", "processing", "failed", "brewing"])
def test_only_the_status_decides(word):
    """Progress 100, a time of completion and a url end nothing."""
    told = {"id": "vid_x", "status": word, "progress": 100, "completed_at": AT, "url": URL}

    assert not task_of(told).succeeded


# -- the task's level in the answer ---------------------------------------------------------


def _wrapped(told, *keys):
    for key in reversed(keys):
        told = {key: told, "code": "success"}
    return told


@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("data",),
        ("task",),
        ("video_task",),
        ("data", "data"),
        ("data", "task"),
        ("data", "task", "video_task"),
    ],
    ids="/".join,
)
def test_up_to_three_wrappers_are_taken_off(keys):
    """The task may stand in ``data``, ``task`` or ``video_task``, three levels deep."""
    assert task_of(_wrapped({"id": "vid_x", "status": "done"}, *keys)).succeeded


def test_a_fourth_wrapper_is_not_taken_off():
    """Deeper it is no task but somebody's data."""
    answer = _wrapped({"id": "vid_x", "status": "done"}, "data", "data", "data", "data")

    assert error_of(answer).reason == "schema"


@pytest.mark.parametrize("mark", ["status", "state", "task_status", "id", "task_id"])
def test_a_level_with_a_mark_is_the_task_itself(mark):
    """What stands in its ``data`` is only data."""
    answer = {mark: "vid_x", "data": {"status": "failed", "id": "vid_x"}}

    assert task_of(answer, ask="vid_x").status is not TaskStatus.FAILED


@pytest.mark.parametrize("mark", ["status", "id"])
@pytest.mark.parametrize("value", [200, None, "", True])
def test_a_mark_that_is_no_text_does_not_stop_unwrapping(mark, value):
    """Gateways put numbers and blanks beside the wrapper."""
    assert task_of({mark: value, "data": {"id": "vid_x", "status": "done"}}).succeeded


@pytest.mark.parametrize(
    ("first", "second"), [("data", "task"), ("task", "video_task"), ("data", "video_task")]
)
def test_the_wrappers_have_their_order(first, second):
    """The first of data, task and video_task that is an object is the one."""
    answer = {second: {"id": "vid_x", "status": "failed"}, first: {"id": "vid_x", "status": "done"}}

    assert task_of(answer).succeeded
    assert not task_of(answer | {first: [1]}).succeeded


# -- ids ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["id", "task_id", "video_id", "generation_id", "job_id"])
def test_the_asked_id_may_stand_under_any_of_its_names(name):
    """Every alias counts, and a foreign id beside the asked one does no harm."""
    assert task_of({name: "vid_x", "status": "done"}).id == "vid_x"
    assert foreign_id({name: "vid_x", "status": "done"}, "vid_x") is None
    assert foreign_id({name: "vid_y", "status": "done"}, "vid_x") == "vid_y"


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"id": "a", "task_id": "b"}, "a"),
        ({"id": 77, "task_id": "b"}, "b"),
        ({"id": "", "task_id": " ", "video_id": "c"}, "c"),
        ({"video_id": "c", "generation_id": "d", "job_id": "e"}, "c"),
        ({"generation_id": "d", "job_id": "e"}, "d"),
        ({"job_id": "e", "request_id": "f"}, "e"),
        ({"request_id": "f"}, "f"),
        ({"id": "sora-2:task_/=%2F"}, "sora-2:task_/=%2F"),
    ],
)
def test_the_first_text_among_the_id_fields_names_the_task(told, name):
    """Without an asked id, as in a webhook; it is kept verbatim."""
    assert name == read_task(told | {"status": "done"}).id


def test_the_asked_id_wins_over_the_answers():
    """The task is named as the caller named it."""
    assert read_task({"id": "vid_y", "status": "done"}, task_id="vid_x").id == "vid_x"
    assert task_of({"status": "done"}).id == "vid_x"


@pytest.mark.parametrize("told", [{"id": 77, "status": "done"}, {"status": "done"}])
def test_a_task_that_nothing_names_is_refused(told):
    """A number is a database row, not the name of a task."""
    with pytest.raises(BadResponseError) as refused:
        read_task(told)

    assert refused.value.paths == ("expected a text @ $.id",)


@pytest.mark.parametrize(
    "answer",
    [
        {"request_id": "r", "code": 1203},
        {"request_id": "r", "error": "boom"},
        {"request_id": "r", "error": {"code": "x"}},
        {"code": 1203, "message": "no", "data": {"request_id": "r"}},
        {"error": {"message": "no"}, "data": {"request_id": "r"}},
        {"request_id": ""},
        {"request_id": 5},
    ],
)
def test_a_request_id_with_an_error_is_a_trace_id(answer):
    """It names no task, at whatever level the error stands."""
    assert not is_object(answer) or read_envelope(answer).status is None


@pytest.mark.parametrize(
    "code", [None, 0, "0", "", "success", "SUCCESS", "ok", 200, "200"], ids=repr
)
def test_a_request_id_beside_a_good_code_is_a_fresh_task(code):
    """So does xAI answer a task it has just accepted."""
    assert task_of({"request_id": "r", "code": code}).status is TaskStatus.PENDING
    assert task_of({"code": code, "data": {"request_id": "r"}}).status is TaskStatus.PENDING


@pytest.mark.parametrize(
    "answer", [None, [], "text", 5, {}, {"id": 77}, {"data": {}}, {"url": "x"}]
)
def test_what_shows_no_status_no_id_and_no_url_is_no_task(answer):
    """Such an answer is refused, and the path says what was expected."""
    assert not is_object(answer) or read_envelope(answer).status is None
    with pytest.raises(BadResponseError) as refused:
        read_task(answer, task_id="vid_x")
    assert refused.value.reason == "schema"
    assert refused.value.paths[0].endswith("@ $")


# -- progress -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "percent"),
    [
        (0, 0),
        (1, 1),
        (45, 45),
        (100, 100),
        (101, 100),
        (-5, 0),
        (10**30, 100),
        (-(10**30), 0),
        (0.0, 0),
        (0.004, 0),
        (0.005, 1),
        (0.3, 30),
        (0.75, 75),
        (1.0, 100),
        (1.01, 1),
        (45.4, 45),
        (45.5, 46),
        (45.9, 46),
        (99.6, 100),
        (250.0, 100),
        (-0.5, 0),
        ("0", 0),
        ("1", 1),
        ("45", 45),
        (" 45 ", 45),
        ("45%", 45),
        (" 45 % ", 45),
        ("100%", 100),
        ("30.5%", 31),
        ("0.5%", 1),
        ("1%", 1),
        ("1.0%", 1),
        ("0.5", 50),
        (".5", 50),
        ("1.0", 100),
        ("1.", 100),
        ("45.5", 46),
        ("-5", 0),
        ("+7", 7),
        ("250%", 100),
    ],
    ids=repr,
)
def test_a_progress_is_whole_percent(sent, percent):
    """Rounded half up and clamped; a fraction of one is a share, the integer 1 one percent."""
    assert percent == read_progress(sent)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        True,
        False,
        "",
        " ",
        "%",
        ".",
        "almost",
        "45 percent",
        "45%%",
        "1e1",
        "1_0",
        "٤٥",
        "nan",
        "inf",
        float("nan"),
        float("inf"),
        float("-inf"),
        [45],
        {"percent": 45},
    ],
    ids=repr,
)
def test_what_is_no_progress_is_none(sent):
    """Nothing is guessed: booleans, other digits, words and lists are no number."""
    assert read_progress(sent) is None


# -- instants -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        AT,
        float(AT),
        AT + 0.999,
        AT * 1_000,
        AT * 1_000 + 999,
        AT * 1_000_000,
        AT * 1_000_000_000,
        str(AT),
        f" {AT} ",
        f"{AT}.75",
        f"{AT}000",
        f"{AT}000000",
        f"{AT}000000000",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.999Z",
        "2026-01-01T00:00:00.123456789Z",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T08:00:00+08:00",
        "2025-12-31T19:00:00-05:00",
        " 2026-01-01T00:00:00Z ",
    ],
    ids=repr,
)
def test_an_instant_is_read_in_any_unit(sent):
    """Seconds, milli-, micro- and nanoseconds, digits and ISO 8601; parts of seconds are cut."""
    assert read_timestamp(sent) == NEW_YEAR


@pytest.mark.parametrize(
    "sent",
    [
        None,
        0,
        -1,
        0.5,
        -AT,
        True,
        "",
        "0",
        "-1",
        "yesterday",
        "1e9",
        "Thu, 01 Jan 2026 00:00:00 GMT",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "9" * 20,
        float("nan"),
        float("inf"),
        [AT],
        {"seconds": AT},
    ],
    ids=repr,
)
def test_what_is_no_instant_is_none(sent):
    """Zero, the time before 1970, Go's year 1, the year 9999, words and wrong types."""
    assert read_timestamp(sent) is None


def test_any_number_is_an_instant_of_this_age_or_none():
    """However large, a number is brought below the year 5138."""
    for digits in range(1, 300):
        at = read_timestamp(10**digits)
        assert at is not None
        assert at.year < 5139


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("created_at", ["created_at", "created", "createdAt", "create_time", "submit_time"]),
        ("completed_at", ["completed_at", "finished_at", "finish_time", "completedAt"]),
        ("expires_at", ["expires_at", "expiresAt"]),
    ],
)
def test_every_time_has_its_aliases_in_order(field, names):
    """The first that can be read counts: null, zero and junk stand back."""
    told = {"id": "vid_x", "status": "done"}

    for place, name in enumerate(names):
        later = dict.fromkeys(names[place + 1 :], AT + 99)
        for junk in (None, 0, "soon"):
            earlier = dict.fromkeys(names[:place], junk)
            assert getattr(task_of(told | earlier | {name: AT} | later), field) == NEW_YEAR


@pytest.mark.parametrize(
    ("word", "expected"), [("done", NEW_YEAR), ("failed", NEW_YEAR), ("queued", None)]
)
def test_the_time_of_completion_counts_only_when_ended(word, expected):
    """New-api fills it from ``updated_at`` while the task is still running."""
    assert expected == task_of({"id": "vid_x", "status": word, "completed_at": AT}).completed_at


# -- model, seconds, size, metadata ---------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "model"), [("sora-2", "sora-2"), ("", None), (" ", None), (5, None), (None, None)]
)
def test_a_model_is_a_text_or_none(sent, model):
    """New-api's Kling sends an empty one."""
    assert model == task_of({"id": "vid_x", "status": "done", "model": sent}).model


@pytest.mark.parametrize(
    ("told", "seconds", "duration"),
    [
        ({"seconds": "10.0"}, "10.0", 10.0),
        ({"seconds": "3.4"}, "3.4", 3.4),
        ({"seconds": 8}, "8", 8.0),
        ({"seconds": 3.4}, "3.4", 3.4),
        ({"seconds": None}, None, None),
        ({"seconds": ""}, None, None),
        ({"seconds": True}, None, None),
        ({"seconds": "eight"}, "eight", None),
        ({"duration": 5}, "5", 5.0),
        ({"n_seconds": 5}, "5", 5.0),
        ({"video": {"duration": 6}}, "6", 6.0),
        ({"seconds": "4", "duration": 5}, "4", 4.0),
        ({"seconds": "", "duration": 5, "n_seconds": 6}, "5", 5.0),
        ({"seconds": None, "n_seconds": 6, "video": {"duration": 7}}, "6", 6.0),
    ],
)
def test_seconds_are_kept_as_text(told, seconds, duration):
    """As the server wrote them, from the first place that has them."""
    task = task_of({"id": "vid_x", "status": "done"} | told)

    assert seconds == task.seconds
    assert duration == task.duration


@pytest.mark.parametrize(
    ("sent", "size", "dimensions"),
    [
        ("1280x720", "1280x720", (1280, 720)),
        ("1920*1080", "1920*1080", (1920, 1080)),
        ("1920×1080", "1920×1080", (1920, 1080)),  # noqa: RUF001 -- as sent
        (" 10x10 ", " 10x10 ", (10, 10)),
        ("small", "small", None),
        ("720P", "720P", None),
        ("1280x720x3", "1280x720x3", None),
        ("", None, None),
        (None, None, None),
        (720, "720", None),
    ],
)
def test_a_size_is_kept_as_text(sent, size, dimensions):
    """Width and height are told only when both stand there."""
    task = task_of({"id": "vid_x", "status": "done", "size": sent})

    assert size == task.size
    assert dimensions == task.dimensions


@pytest.mark.parametrize(
    ("sent", "metadata"),
    [
        ({"fps": 30}, {"fps": 30}),
        ('{"fps": 30}', {"fps": 30}),
        ("{", {}),
        ("[1]", {}),
        ("text", {}),
        ("\ud800", {}),
        ("", {}),
        (None, {}),
        ([1], {}),
        (5, {}),
    ],
)
def test_metadata_is_an_object_or_a_text_of_one(sent, metadata):
    """All else is empty, and stays in ``raw``."""
    assert metadata == task_of({"id": "vid_x", "status": "done", "metadata": sent}).metadata


# -- url ------------------------------------------------------------------------------------


def _placed(place, value):
    for name in reversed(place):
        value = {name: value}
    return value


PLACES = [
    ("url",),
    ("video_url",),
    ("result_url",),
    ("metadata", "url"),
    ("metadata", "video_url"),
    ("metadata", "result_url"),
    ("video",),
    ("output", "url"),
    ("output", "video_url"),
    ("output", "video"),
    ("output", "videos"),
    ("output",),
    ("outputs", "video_url"),
    ("outputs",),
    ("urls",),
    ("unsigned_urls",),
    ("content", "video_url"),
    ("content", "result_url"),
    ("content", "url"),
    ("task_result", "videos"),
    ("result", "url"),
    ("result", "video_url"),
    ("result_urls",),
    ("download_url",),
    ("content_url",),
    ("file_url",),
    ("data", "url"),
    ("data", "video_url"),
    ("data",),
]


@pytest.mark.parametrize("word", ["queued", "processing", "completed", "failed"])
@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_the_url_is_found_in_every_place(place, word):
    """Whatever the status, as a text, a list, an object with a url, or a list of such."""
    told = {"id": "vid_x", "status": word}

    for value in (
        URL,
        f"  {URL}\n",
        [URL, OTHER_URL],
        {"url": URL},
        [{"url": URL}],
        {"url": [URL]},
    ):
        assert task_of(told | _placed(place, value)).url == URL


@pytest.mark.parametrize("place", [("output", "url"), ("outputs", "video_url"), ("data", "url")])
def test_the_first_item_of_a_list_on_the_way_counts(place):
    """As in ``outputs[0].url``."""
    told = {"id": "vid_x", "status": "done", place[0]: [{place[1]: URL}, {place[1]: OTHER_URL}]}

    assert task_of(told).url == URL


def test_the_places_have_their_order():
    """Every place wins over all that come after it in the table."""
    names = list(dict.fromkeys(place[0] for place in PLACES))
    told = {"id": "vid_x", "status": "done"}

    for rank, name in enumerate(names):
        after = dict.fromkeys(names[rank + 1 :], OTHER_URL)
        own = {"url": URL} if name in {"metadata", "result", "content"} else URL
        own = {"videos": [{"url": URL}]} if name == "task_result" else own
        assert task_of(told | after | {name: own}).url == URL, name


@pytest.mark.parametrize(
    ("place", "before"),
    [
        (("metadata", "url"), ("metadata", "video_url")),
        (("output", "url"), ("output", "video_url")),
        (("output", "video_url"), ("output", "video")),
        (("output", "video"), ("output", "videos")),
        (("content", "video_url"), ("content", "result_url")),
        (("content", "result_url"), ("content", "url")),
        (("result", "url"), ("result", "video_url")),
        (("data", "url"), ("data", "video_url")),
    ],
)
def test_within_an_object_the_places_have_their_order(place, before):
    """The more telling name wins."""
    told = {"id": "vid_x", "status": "done", place[0]: {before[1]: OTHER_URL, place[1]: URL}}

    assert task_of(told).url == URL


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "soon",
        "the video is at https://x.test/",
        "https://",
        "https:///v.mp4",
        "https://:80/v.mp4",
        "https://?q",
        "https://x.test/a b.mp4",
        "https://x.test:99999/v.mp4",
        "https://[::1/v.mp4",
        "http:/x.test/v.mp4",
        "//x.test/v.mp4",
        "/a b.mp4",
        "/\\x.test/v.mp4",
        "/a\n/b",
        "v.mp4",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "ftp://x.test/v.mp4",
        "data:text/html,<b>",
        "data:video/mp4;base64,A A",
        None,
        5,
        True,
        [],
        [[]],
        [None],
        {},
        {"url": None},
        {"url": []},
        {"href": URL},
    ],
)
def test_what_is_no_url_is_passed_over(value):
    """The next place counts, and without one there is no url."""
    told = {"id": "vid_x", "status": "done", "url": value}

    assert task_of(told).url is None
    assert task_of(told | {"file_url": URL}).url == URL


@pytest.mark.parametrize(
    ("sent", "url"),
    [
        ("HTTPS://X.test/v.mp4?sig=a#t", "HTTPS://X.test/v.mp4?sig=a#t"),
        ("http://127.0.0.1:8080/v", "http://127.0.0.1:8080/v"),
        ("http://[::1]:8080/v", "http://[::1]:8080/v"),
        ("data:video/mp4;base64,AAAA", "data:video/mp4;base64,AAAA"),
        ("/v/a.mp4?x=1", "https://api.example.test/v/a.mp4?x=1"),
        ("/", "https://api.example.test/"),
    ],
)
def test_a_valid_url_is_kept_and_a_path_resolved(sent, url):
    """A path belongs to the API's own origin, whatever path the base url has."""
    assert url == task_of({"id": "vid_x", "status": "done", "url": sent}).url


def test_without_a_base_url_a_path_stays_a_path():
    """A webhook's reader may not know where it belongs."""
    assert VideoTask.from_dict({"id": "vid_x", "url": "/v.mp4"}).url == "/v.mp4"
    assert VideoTask.from_dict({"id": "v", "url": "/v.mp4"}, base_url=BASE_URL).url == (
        "https://api.example.test/v.mp4"
    )


@pytest.mark.parametrize(
    "name", ["file_path", "output_path", "polling_url", "thumbnail_url", "href"]
)
def test_some_fields_are_never_urls(name):
    """A path on the server's disk and the way to ask again are not the video."""
    assert task_of({"id": "vid_x", "status": "done", name: URL}).url is None


@pytest.mark.parametrize("name", ["fail_reason", "remixed_from_video_id"])
@pytest.mark.parametrize(
    ("word", "value", "url"),
    [
        ("done", URL, URL),
        ("done", "/v.mp4", None),
        ("done", "data:video/mp4,x", None),
        ("done", "vid_source", None),
        ("processing", URL, None),
        ("failed", URL, None),
    ],
)
def test_fields_of_another_meaning_hold_urls_only_on_completed_tasks(name, word, value, url):
    """CometAPI's failure reason and Agnes's remix source, when they begin with http."""
    assert url == task_of({"id": "vid_x", "status": word, name: value}).url


def test_fields_of_another_meaning_come_last():
    """And the failure reason before the remix source."""
    told = {"id": "vid_x", "status": "done", "fail_reason": URL, "remixed_from_video_id": OTHER_URL}

    assert task_of(told).url == URL
    assert task_of(told | {"data": {"url": OTHER_URL}}).url == OTHER_URL


def test_the_url_is_found_in_metadata_written_as_text():
    """A text of an object is an object here too."""
    told = {"id": "vid_x", "status": "done", "metadata": f'{{"url": "{URL}"}}'}

    assert task_of(told).url == URL


# -- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "code", "message"),
    [
        ({}, None, None),
        ({"error": None}, None, None),
        ({"error": {}}, None, None),
        ({"error": []}, None, None),
        ({"error": [{"message": "x"}]}, None, None),
        ({"error": True}, None, None),
        ({"error": 5}, None, None),
        ({"error": ""}, None, None),
        ({"error": {"code": "c", "message": "m"}}, "c", "m"),
        ({"error": {"code": 1301, "message": 5}}, "1301", "5"),
        ({"error": {"code": "", "message": ""}}, None, None),
        ({"error": {"code": 0, "message": "m"}}, "0", "m"),
        ({"error": {"code": True, "message": {"a": 1}}}, None, None),
        ({"error": {"message": "m", "msg": "n", "detail": "o"}}, None, "m"),
        ({"error": {"message": "", "msg": "n", "detail": "o"}}, None, "n"),
        ({"error": {"detail": "o"}}, None, "o"),
        ({"error": "m"}, None, "m"),
        ({"error": "m", "code": "c"}, "c", "m"),
        ({"error": "m", "code": 7}, "7", "m"),
        ({"code": "c"}, None, None),
        ({"fail_reason": "a", "failure_reason": "b"}, None, "a"),
        ({"failure_reason": "b", "failure": "c"}, None, "b"),
        ({"failure": "c", "reason": "d"}, None, "c"),
        ({"reason": "d", "error_message": "e"}, None, "d"),
        ({"error_message": "e", "err_msg": "f"}, None, "e"),
        ({"err_msg": "f", "task_status_msg": "g"}, None, "f"),
        ({"task_status_msg": "g", "metadata": {"url": "h"}}, None, "g"),
        ({"metadata": {"url": "the prompt was refused"}}, None, "the prompt was refused"),
        ({"metadata": {"url": URL}}, None, None),
        ({"metadata": {"url": "/v.mp4"}}, None, None),
        ({"metadata": {"url": ""}}, None, None),
        ({"error": {"code": "c"}, "fail_reason": "a"}, "c", "a"),
        ({"error": {"message": "m"}, "fail_reason": "a"}, None, "m"),
    ],
)
def test_a_failed_task_says_why_as_far_as_the_server_did(told, code, message):
    """The error's own fields first, then the places where gateways hide a reason."""
    task = task_of({"id": "vid_x", "status": "failed"} | told)

    assert task.error == ErrorInfo(code=code, message=message)


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("cancelled", "cancelled"),
        ("Canceled", "cancelled"),
        ("aborted", "cancelled"),
        ("deleted", "cancelled"),
        ("EXPIRED", "expired"),
        ("timeout", "timeout"),
        ("timed out", "timed_out"),
        ("failed", None),
        ("rejected", None),
        ("error", None),
    ],
)
def test_the_word_stands_in_for_a_missing_code(word, code):
    """So that cancelled and expired can be told from failed; a code of the server's own wins."""
    told = {"id": "vid_x", "status": word}

    assert task_of(told).error == ErrorInfo(code=code)
    assert task_of(told | {"error": {"code": "own"}}).error == ErrorInfo(code="own")
    assert task_of(told | {"error": {"code": ""}}).error == ErrorInfo(code=code)


@pytest.mark.parametrize("word", ["queued", "processing", "completed"])
@pytest.mark.parametrize(
    "code", [0, "0", "", None, "success", "Success", "ok", "OK", 200, "200"], ids=repr
)
def test_a_good_code_is_no_error_unless_the_task_failed(word, code):
    """PiAPI and new-api send an error object that says there is none."""
    told = {"id": "vid_x", "status": word, "error": {"code": code, "message": "string"}}

    assert task_of(told).error is None
    assert task_of(told | {"status": "failed"}).error is not None


@pytest.mark.parametrize("word", ["queued", "processing", "completed"])
def test_a_real_error_on_a_task_that_has_not_failed_is_shown_and_decides_nothing(word):
    """New-api's Hailuo reports a rate limit that passes."""
    told = {"id": "vid_x", "status": word, "error": {"code": "1002", "message": "rate limit"}}

    assert task_of(told).error == ErrorInfo(code="1002", message="rate limit")
    assert task_of(told).status is not TaskStatus.FAILED

