"""Parser of ``Retry-After``: accepted and ignored values."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._protocol.retry_after import parse_http_date, parse_retry_after
from tests.support.response_bodies import UNIX_NOW


def imf_fixdate(at):
    return format_datetime(at, usegmt=True)


def rfc_850(at):
    return at.strftime("%A, %d-%b-%y %H:%M:%S GMT")


def asctime(at):
    return at.strftime("%a %b {:>2} %H:%M:%S %Y").format(at.day)


FORMS = (imf_fixdate, rfc_850, asctime)
DATES = st.integers(946_684_800, 3_124_223_999).map(lambda at: datetime.fromtimestamp(at, UTC))
"""From 2000 to 2068, after which two digits are a year of the last century."""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1", 1.0),
        ("007", 7.0),
        ("120", 120.0),
        ("999999999", 999_999_999.0),
        ("1.5", 1.5),
        ("0.25", 0.25),
        (" 7 ", 7.0),
        ("\t7", 7.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT\n", 30.0),
        ("Thursday, 01-Jan-26 00:00:30 GMT", 30.0),
        ("Thu Jan  1 00:00:30 2026", 30.0),
        ("Thu Jan 01 00:00:30 2026", 30.0),
        ("Thu, 01 Jan 2026 00:00:30", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 UTC", 30.0),
        ("Thu, 01 Jan 2026 01:00:30 +0100", 30.0),
        ("Thu, 01 Jan 2026 00:00:60 GMT", 59.0),
    ],
)
def test_seconds_and_dates_are_read(value, seconds):
    """A date without a zone is UTC; a leap second is the last one of its minute."""
    assert parse_retry_after({"retry-after": value}, unix_now=UNIX_NOW) == seconds


@pytest.mark.fault("H15")
@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "0",
        "-0",
        "00",
        "0.0",
        "-1",
        "-120",
        "+5",
        "1e9",
        "1E3",
        "1_000",
        "1,000",
        "120, 5",
        "120,5",
        "5 5",
        "5s",
        "5 seconds",
        "5;q=1",
        "0x10",
        "1.",
        ".5",
        "1.5.5",
        "nan",
        "NaN",
        "inf",
        "Infinity",
        "-inf",
        "1000000000",
        "9" * 400,
        "1." + "9" * 400,
        "\u0663",
        "\uff15",
        "\u00b2",
        "null",
        "true",
        "soon",
        "5\x00",
        "[5]",
        '"5"',
        "PT5S",
        "2026-01-01T00:00:30Z",
        "Thu, 01 Jan 2026 00:00:00 GMT",
        "Wed, 31 Dec 2025 23:59:59 GMT",
        "Wed, 31 Dec 2025 23:59:60 GMT",
        "Thu, 01 Foo 2026 00:00:30 GMT",
        "thu, 01 jan 2026 00:00:30 gmt",
        "Thu, 32 Jan 2026 00:00:30 GMT",
        "Thu, 30 Feb 2026 00:00:30 GMT",
        "Thu, 01 Jan 2026 24:00:30 GMT",
        "Thu, 01 Jan 2026 00:60:30 GMT",
        "Thu, 01 Jan 2026 00:00:61 GMT",
        "Thu, 01 Jan 0000 00:00:30 GMT",
        "Thu, 01 Jan 0026 00:00:30 GMT",
        "Thu, 01 Jan 99999 00:00:30 GMT",
        "Thu Jan  0 00:00:30 2026",
        "Thu, 01 Jan 2026 00:00:30 GMT, 5",
        "5 Thu, 01 Jan 2026 00:00:30 GMT",
    ],
    ids=ascii,
)
def test_unusable_value_is_ignored(value):
    """Also zero and a date in the past: the policy's own delay applies."""
    assert parse_retry_after({"retry-after": value}, unix_now=UNIX_NOW) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "6500"}, 6.5),
        ({"retry-after-ms": "6500", "retry-after": "7"}, 6.5),
        ({"retry-after-ms": "250.5"}, 0.2505),
        ({"retry-after-ms": "0", "retry-after": "7"}, None),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "-1", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": ""}, None),
    ],
)
def test_usable_milliseconds_win(headers, seconds):
    """``retry-after-ms`` of the OpenAI family is more precise than the standard header."""
    assert parse_retry_after(headers, unix_now=UNIX_NOW) == seconds


def test_invalid_date_header_is_ignored():
    """The wall clock is used in its place, also for the year 0000, which is not 2000."""
    headers = {"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT", "date": "Sat, 01 Jan 0000 00:00:00"}

    assert parse_retry_after(headers, unix_now=UNIX_NOW) == 30.0


@pytest.mark.fault("H14")
@pytest.mark.fault("S16")
@given(
    now=DATES,
    wait=st.integers(1, 100_000),
    skew=st.integers(-3600 * 24 * 365, 3600 * 24 * 365),
    forms=st.tuples(st.sampled_from(FORMS), st.sampled_from(FORMS)),
)
def test_date_counts_from_the_date_of_the_response(now, wait, skew, forms):
    """The difference to our wall clock has no effect, in any two of HTTP's three forms."""
    until = datetime.fromtimestamp(min(now.timestamp() + wait, 3_124_223_999), UTC)
    headers = {"retry-after": forms[0](until), "date": forms[1](now)}

    expected = until.timestamp() - now.timestamp()

    assert parse_retry_after(headers, unix_now=now.timestamp() + skew) == (expected or None)
    assert parse_http_date(headers["date"]) == now.timestamp()


dates_cut_up = st.lists(
    st.sampled_from(
        ["Thu", ",", " ", "-", "Jan", "01", "2026", "0", "9999", "9" * 12, "00:00:30", "+9999", "Z"]
    ),
    max_size=9,
).map("".join)


@given(text=st.text(max_size=40) | dates_cut_up.map("Thu, ".__add__))
def test_parser_is_total(text):
    """Any text gives seconds that can be waited for, or None."""
    headers = {"retry-after": text, "retry-after-ms": text, "date": text}

    seconds = parse_retry_after(headers, unix_now=UNIX_NOW)

    assert seconds is None or 0 < seconds < 1e9
    parse_http_date(text)


@pytest.mark.fault("Q20")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"llm_provider-retry-after": "7"}, 7.0),
        ({"llm_provider-retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30.0),
        ({"llm_provider-retry-after": "7", "retry-after": "9"}, 9.0),
        ({"llm_provider-retry-after": "7", "retry-after": "soon"}, 7.0),
        ({"llm_provider-retry-after": "7", "retry-after": "0"}, None),
        ({"llm_provider-retry-after": "7", "retry-after-ms": "1500"}, 1.5),
        ({"llm_provider-retry-after": "soon"}, None),
    ],
)
def test_header_as_litellm_renames_it_comes_last(headers, seconds):
    """It is read like ``Retry-After``."""
    assert parse_retry_after(headers, unix_now=UNIX_NOW) == seconds
