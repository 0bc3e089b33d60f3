"""How long a server asks to wait: what is read, and what counts as absent."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._protocol.retry_after import parse_http_date, parse_retry_after
from tests.support.response_bodies import UNIX_NOW

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _imf_fixdate(at):
    return format_datetime(at, usegmt=True)


def _rfc_850(at):
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day:02}-{month}-{at.year % 100:02} {at:%H:%M:%S} GMT"


def _asctime(at):
    day, month = _DAYS[at.weekday()][:3], _MONTHS[at.month - 1]
    return f"{day} {month} {at.day:>2} {at:%H:%M:%S} {at.year}"


FORMS = (_imf_fixdate, _rfc_850, _asctime)
INSTANTS = st.integers(946_684_800, 4_102_444_799).map(lambda at: datetime.fromtimestamp(at, UTC))


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ("1", 1.0),
        ("5", 5.0),
        ("007", 7.0),
        ("120", 120.0),
        ("3600", 3600.0),
        ("999999999", 999_999_999.0),
        ("1.5", 1.5),
        ("0.25", 0.25),
        ("10.0", 10.0),
        (" 7 ", 7.0),
        ("\t7", 7.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 01:00:00 GMT", 3600.0),
        ("Thursday, 01-Jan-26 00:00:30 GMT", 30.0),
        ("Thu Jan  1 00:00:30 2026", 30.0),
        ("Thu Jan 01 00:00:30 2026", 30.0),
        ("Wed, 31 Dec 2025 23:59:60 GMT", None),
        ("Thu, 01 Jan 2026 00:00:60 GMT", 59.0),
    ],
)
def test_seconds_and_the_three_date_forms_are_read(sent, seconds):
    """A number as it is, a date from now; a leap second is the last of its minute."""
    assert seconds == parse_retry_after({"retry-after": sent}, unix_now=UNIX_NOW)


@pytest.mark.parametrize(
    "sent",
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
        "None",
        "true",
        "soon",
        "\x00",
        "5\x00",
        "[5]",
        '"5"',
        "PT5S",
        "2026-01-01T00:00:30Z",
        "Thu, 01 Jan 2026 00:00:00 GMT",
        "Wed, 31 Dec 2025 23:59:59 GMT",
        "Thu, 01 Jan 2026 00:00:30",
        "Thu, 01 Jan 2026 00:00:30 UTC",
        "Thu, 01 Jan 2026 00:00:30 +0000",
        "Thu, 01 Jan 2026 00:00:30 EST",
        "Thu, 1 Jan 2026 00:00:30 GMT",
        "Thu, 01 Foo 2026 00:00:30 GMT",
        "Foo, 01 Jan 2026 00:00:30 GMT",
        "Fooooday, 01-Jan-26 00:00:30 GMT",
        "Foo Jan  1 00:00:30 2026",
        "thu, 01 jan 2026 00:00:30 gmt",
        "Thu, 32 Jan 2026 00:00:30 GMT",
        "Thu, 30 Feb 2026 00:00:30 GMT",
        "Thu, 01 Jan 2026 24:00:30 GMT",
        "Thu, 01 Jan 2026 00:60:30 GMT",
        "Thu, 01 Jan 2026 00:00:61 GMT",
        "Thu, 01 Jan 0000 00:00:30 GMT",
        "Thu, 01 Jan 0026 00:00:30 GMT",
        "Thu, 01 Jan 26 00:00:30 GMT",
        "Thursday, 01-Jan-2026 00:00:30 GMT",
        "Thu Jan  0 00:00:30 2026",
        "Thu, 01 Jan 2026 00:00:30 GMT, 5",
        "Thu, 01 Jan 2026 00:00:30 GMT\n",
    ],
    ids=ascii,
)
def test_what_does_not_fit_the_grammar_counts_as_absent(sent):
    """So do zero and the past: the own schedule stands."""
    usable = sent.strip() == "Thu, 01 Jan 2026 00:00:30 GMT"

    assert (30.0 if usable else None) == parse_retry_after({"retry-after": sent}, unix_now=UNIX_NOW)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "6500"}, 6.5),
        ({"retry-after-ms": "6500", "retry-after": "7"}, 6.5),
        ({"retry-after-ms": "250.5"}, 0.2505),
        ({"retry-after-ms": "0"}, None),
        ({"retry-after-ms": "0", "retry-after": "7"}, None),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "-1", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": ""}, None),
    ],
)
def test_milliseconds_win_when_they_can_be_read(headers, seconds):
    """The header of the OpenAI family, more precise than the standard one."""
    assert seconds == parse_retry_after(headers, unix_now=UNIX_NOW)


@pytest.mark.fault("H14")
@pytest.mark.fault("S16")
@given(
    now=INSTANTS,
    wait=st.integers(1, 100_000),
    skew=st.integers(-3600 * 24 * 365, 3600 * 24 * 365),
    forms=st.tuples(st.sampled_from(FORMS), st.sampled_from(FORMS)),
)
def test_a_date_counts_from_the_answers_own_date(now, wait, skew, forms):
    """A server's clock may be wrong by any time: only the difference of its dates counts."""
    then = datetime.fromtimestamp(min(now.timestamp() + wait, 4_102_444_799), UTC)
    headers = {"retry-after": forms[0](then), "date": forms[1](now)}

    expected = then.timestamp() - now.timestamp()

    assert (expected or None) == parse_retry_after(headers, unix_now=now.timestamp() + skew)


@given(at=INSTANTS, form=st.sampled_from(FORMS))
def test_a_date_of_any_form_is_read_exactly(at, form):
    """All three forms of HTTP give the same Unix seconds."""
    assert at.timestamp() == parse_http_date(form(at))


@given(text=st.text(max_size=40))
def test_any_text_is_read_or_absent(text):
    """No header, whatever it holds, makes the reader raise or gives a wait that is no wait."""
    headers = {"retry-after": text, "retry-after-ms": text, "date": text}

    seconds = parse_retry_after(headers, unix_now=UNIX_NOW)

    assert seconds is None or 0 < seconds < 1e9
