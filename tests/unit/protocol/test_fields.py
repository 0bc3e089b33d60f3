"""Readers of single values: status, progress, timestamp, url, metadata."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ezvideo_async._domain.task import TaskStatus
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.fields import (
    is_known_status,
    read_metadata,
    read_progress,
    read_status,
    read_timestamp,
    read_url,
)
from tests.support.response_bodies import BASE_URL

URL = "https://cdn.example.test/v.mp4"
AT = 1_767_225_600

# -- status ----------------------------------------------------------------------------------

STATUS_VALUES = {
    TaskStatus.PENDING: (
        "pending queued queue queueing queuing in_queue inqueue submitted created waiting accepted "
        "scheduled preparing initializing initialized starting throttled validating not_start "
        "not_started notstart notstarted unknown"
    ),
    TaskStatus.PROCESSING: (
        "processing in_progress inprogress running generating preprocessing rendering started "
        "cancelling canceling image_downloading video_generating video_upsampling"
    ),
    TaskStatus.COMPLETED: "completed complete succeeded succeed success successful done finished",
    TaskStatus.FAILED: (
        "failed fail failure error errored timeout timed_out rejected interrupted cancelled "
        "canceled aborted deleted expired"
    ),
}


@pytest.mark.fault("S6")
def test_table_of_status_values():
    """A status value is added to the table together with this test."""
    expected = {value: status for status, row in STATUS_VALUES.items() for value in row.split()}

    assert expected == dialects.STATUS_VALUES
    assert {value: read_status(value) for value in expected} == expected


@pytest.mark.fault("S6")
@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("  COMPLETED \n", TaskStatus.COMPLETED),
        ("In Progress", TaskStatus.PROCESSING),
        ("in-progress", TaskStatus.PROCESSING),
        ("Timed - Out", TaskStatus.FAILED),
        ("NOT START", TaskStatus.PENDING),
        ("in  queue", TaskStatus.PENDING),
        ("UNKNOWN", TaskStatus.PENDING),
        ("MEDIA_GENERATION_STATUS_SUCCESSFUL", TaskStatus.COMPLETED),
        ("JOB_STATE_RUNNING", TaskStatus.PROCESSING),
        ("TaskStatus.FAILED", TaskStatus.FAILED),
        ("VIDEO_STATUS_NOT_START", TaskStatus.PENDING),
    ],
)
def test_case_blanks_and_hyphens_of_a_status_value_are_ignored(value, status):
    """Runs of blanks and hyphens are read as one underscore; an enum's name is cut."""
    assert read_status(value) is status
    assert is_known_status(value)


@pytest.mark.fault("S6")
@pytest.mark.parametrize(
    "value", ["brewing", "moderated", "video_generation_completed", "completed!", "ok", "100"]
)
def test_unknown_status_value_is_processing(value):
    """It never ends a wait."""
    assert read_status(value) is TaskStatus.PROCESSING
    assert not is_known_status(value)


# -- progress -------------------------------------------------------------------------------


@pytest.mark.fault("J9")
@pytest.mark.parametrize(
    ("value", "percent"),
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
def test_progress_is_whole_percent(value, percent):
    """It is rounded half up and clamped; a float up to 1.0 is a fraction, the integer 1 is not."""
    assert read_progress(value) == percent


@pytest.mark.fault("J9")
@pytest.mark.parametrize(
    "value",
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
def test_other_values_are_no_progress(value):
    """Booleans, other digits, words and lists are not read as a number."""
    assert read_progress(value) is None


# -- timestamps -----------------------------------------------------------------------------


@pytest.mark.fault("J10")
@pytest.mark.parametrize(
    "value",
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
        f"{AT}000000000",
        "2026-01-01",
        "2026-01-01 00:00:00",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.999Z",
        "2026-01-01T00:00:00.123456789Z",
        "2026-01-01T08:00:00+08:00",
        "2025-12-31T19:00:00-05:00",
        " 2026-01-01T00:00:00Z ",
    ],
    ids=repr,
)
def test_timestamp_is_read_in_any_unit(value):
    """Unix seconds, milli-, micro- and nanoseconds, also as text, and ISO 8601, cut to seconds."""
    assert read_timestamp(value) == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.fault("J10")
@pytest.mark.parametrize(
    "value",
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
def test_other_values_are_no_timestamp(value):
    """Also times before 1970, Go's year 1 and the year 9999."""
    assert read_timestamp(value) is None


def test_any_large_number_is_a_timestamp_before_the_year_5139():
    """It is divided by 1,000 until it can be seconds."""
    years = {read_timestamp(10**digits).year for digits in range(1, 300)}

    assert max(years) < 5139


# -- url and metadata -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "url"),
    [
        (f"  {URL}\n", URL),
        ([URL, "https://other.test/w.mp4"], URL),
        ({"url": URL}, URL),
        ([{"url": URL}], URL),
        ({"url": [URL]}, URL),
        ("HTTPS://X.test/v.mp4?sig=a#t", "HTTPS://X.test/v.mp4?sig=a#t"),
        ("http://127.0.0.1:8080/v", "http://127.0.0.1:8080/v"),
        ("http://[::1]:8080/v", "http://[::1]:8080/v"),
        ("data:video/mp4;base64,AAAA", "data:video/mp4;base64,AAAA"),
        ("/v/a.mp4?x=1", "https://api.example.test/v/a.mp4?x=1"),
        ("/", "https://api.example.test/"),
    ],
    ids=repr,
)
def test_url_is_unchanged_and_a_path_is_resolved(value, url):
    """A path is relative to the origin of the base url."""
    assert read_url(value, base_url=BASE_URL) == url


def test_path_is_unchanged_without_a_base_url():
    """As in a webhook whose receiver does not know the server."""
    assert read_url("/v.mp4", base_url=None) == "/v.mp4"


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "soon",
        "the video is at https://x.test/",
        "https://",
        "https:///v.mp4",
        "/" + "../" * 3_000,
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
    ids=repr,
)
def test_other_values_are_no_url(value):
    """Also urls of other schemes, without a host, or with blanks."""
    assert read_url(value, base_url=BASE_URL) is None


@pytest.mark.parametrize(
    ("value", "metadata"),
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
    ids=ascii,
)
def test_metadata_is_an_object_or_a_text_of_one(value, metadata):
    """Other values are read as empty."""
    assert read_metadata(value) == metadata
