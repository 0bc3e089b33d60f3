"""
Verdicts on failed polls: what ends an id, what ends the watch, and what ends nothing.

Each threshold is tested just before and just after it; the rows are those of the fault table.
"""

from __future__ import annotations

import pytest

from ezvideo_async._scheduling.server_history import ServerHistory
from ezvideo_async._scheduling.verdicts import FailedPoll, FailureStreak, judge
from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ConfigError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
    TLSError,
    TransportError,
)

ROOT = "https://api.example.test/v1/videos/"
OTHER = "other"

BUSY = ServerError("HTTP 503", status=503, server_message="busy")
KEY = AuthenticationError("x", status=401, server_message="invalid key")
NO_CREDIT = PermissionDeniedError("x", status=402, server_message="no credit")
FORBIDDEN = PermissionDeniedError("x", status=403, server_message="banned")
FIREWALL = PermissionDeniedError("x", status=403, retryable=True, body_excerpt="error code: 1010")
TLS = TLSError("x")
LOGIN = TransportError("x", reason="proxy", retryable=False)
REDIRECT = ConfigError("x", reason="redirect", status=302)
ROUTE = ConfigError("x", reason="route", status=404)
AMBIGUOUS = TaskNotFoundError("x", status=404, server_message="Not Found", is_ambiguous=True)
NOT_FOUND = TaskNotFoundError("x", status=404, code="task_not_found")
GONE = TaskNotFoundError("x", status=410)
BAD_ID = BadRequestError("HTTP 400: malformed id", status=400, server_message="malformed id")
NOT_IMPLEMENTED = ServerError("x", status=501, server_message="not implemented")
PAGE = BadResponseError("x", status=200, reason="html")
NOT_JSON = BadResponseError("x", status=200, reason="not_json")
TOO_LARGE = BadResponseError("x", status=200, reason="too_large")


class Client:
    """The failed polls and valid responses of one client, by plain calls."""

    def __init__(self, *, is_hub=False, grace=10.0, is_proven=False):
        self.history = ServerHistory()
        self.streaks = {}
        self.seen = set()
        self.is_hub = is_hub
        self.grace = grace
        if is_proven:
            self.answer(OTHER, at=-1.0)

    def answer(self, task_id, *, at):
        """A valid response about an id comes."""
        self.history.record_valid(task_id, at)
        streak = self.streaks.pop(task_id, None)
        self.seen.add(task_id)
        return streak

    def fail(self, error, *, at, task_id="a", has_returned=False):
        """Judge a failed poll of an id that was added at 0.0."""
        streak = self.streaks.setdefault(task_id, FailureStreak(has_returned))
        poll = FailedPoll(
            error=error,
            task_id=task_id,
            url=f"{ROOT}{task_id}?api-version=1",
            is_seen=task_id in self.seen,
            is_in_grace=at < self.grace,
            is_in_hub=self.is_hub,
            at=at,
        )
        return judge(poll, streak, self.history)

    def fail_at(self, error, *instants, **options):
        """Judge one failed poll at each instant."""
        return [self.fail(error, at=at, **options) for at in instants]


# -- before any valid response (Q1, Q18b) ----------------------------------------------------------


@pytest.mark.fault("Q1")
@pytest.mark.parametrize(
    "error",
    [KEY, NO_CREDIT, FORBIDDEN, TLS, LOGIN, REDIRECT, ROUTE],
    ids=["401", "402", "403", "tls", "proxy", "redirect", "route"],
)
def test_first_configuration_error_is_fatal_before_any_valid_response(error):
    """Whatever timeouts and 5xx came before."""
    client = Client()
    assert client.fail(BUSY, at=0.0) is None

    assert client.fail(error, at=5.0) is error


def test_error_of_our_own_configuration_is_fatal_at_any_time():
    """There is no key to send: the server was not asked."""
    error = ConfigError("no API key")

    assert Client(is_proven=True).fail(error, at=0.0) is error


@pytest.mark.fault("Q18b")
@pytest.mark.parametrize(
    ("error", "needs_two"),
    [
        (KEY, False),
        (NO_CREDIT, False),
        (TLS, False),
        (FORBIDDEN, True),
        (REDIRECT, True),
        (ROUTE, True),
    ],
    ids=["401", "402", "tls", "403", "redirect", "route"],
)
@pytest.mark.parametrize(
    ("is_hub", "task_id"), [(True, "a"), (False, "a/b"), (False, "é"), (True, "a/b")]
)
def test_path_of_one_odd_id_is_not_fatal(error, needs_two, is_hub, task_id):
    """A proxy may rewrite it, and in a hub a visitor chose it: two distinct ids are needed."""
    client = Client(is_hub=is_hub)

    first = client.fail_at(error, 0.0, 5.0, task_id=task_id)

    if needs_two:
        assert first == [None, None]
        assert client.fail(error, at=6.0, task_id="another/one") is error
    else:
        assert first[0] is error


@pytest.mark.fault("Q6")
@pytest.mark.parametrize("error", [FORBIDDEN, REDIRECT, ROUTE], ids=["403", "redirect", "route"])
@pytest.mark.parametrize(("last", "verdict"), [(9.9, None), (10.0, "refused")])
def test_odd_id_is_refused_where_it_may_not_end_the_watch(error, last, verdict):
    """Three in a row over 10 s."""
    assert Client().fail_at(error, 0.0, 5.0, last, task_id="a/")[-1] == verdict
    assert Client(is_hub=True).fail_at(error, 0.0, last) == [None, None]


# -- after a valid response (Q2) -------------------------------------------------------------------


@pytest.mark.fault("Q2")
@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (KEY, 60.0),
        (NO_CREDIT, 60.0),
        (FORBIDDEN, 60.0),
        (FIREWALL, 60.0),
        (TLS, 60.0),
        (LOGIN, 60.0),
        (REDIRECT, 300.0),
        (ROUTE, 300.0),
    ],
    ids=["401", "402", "403", "firewall", "tls", "proxy", "redirect", "route"],
)
def test_configuration_error_is_confirmed_by_five_in_a_row_over_time(error, seconds):
    """Client-wide; fewer or faster ones are failed polls, and timeouts and 5xx do not count."""

    def verdicts(*instants):
        client = Client(is_proven=True)
        return [
            verdict
            for at in instants
            for verdict in (client.fail(BUSY, at=at), client.fail(error, at=at))
            if verdict is not None
        ]

    assert verdicts(0.0, 1.0, 2.0, 3.0, seconds - 0.1) == []
    assert verdicts(0.0, 1.0, 2.0, seconds) == []
    assert verdicts(0.0, 1.0, 2.0, 3.0, seconds) == [error]


@pytest.mark.fault("Q2")
@pytest.mark.parametrize(
    ("error", "seconds"), [(KEY, 60.0), (REDIRECT, 300.0)], ids=["401", "redirect"]
)
def test_valid_response_starts_the_confirmation_again(error, seconds):
    """Also one of ``retrieve()``, and "no such task" in the API's shape."""
    client = Client(is_proven=True)
    client.fail_at(error, 0.0, 1.0, 2.0, 3.0)
    client.answer("a", at=4.0)

    assert client.fail_at(error, 500.0, 501.0, 502.0, 503.0, 499.9 + seconds) == [None] * 5
    assert client.fail(error, at=500.0 + seconds) is error


@pytest.mark.fault("Q18b")
@pytest.mark.parametrize(
    ("error", "needs_two"),
    [(KEY, False), (FORBIDDEN, True), (FIREWALL, True), (REDIRECT, True), (ROUTE, True)],
)
def test_one_id_of_a_hub_never_confirms_what_its_path_may_cause(error, needs_two):
    """It stays a failed poll, until a second id meets the same."""
    client = Client(is_hub=True, is_proven=True)

    last = client.fail_at(error, 0.0, 100.0, 200.0, 300.0, 400.0)[-1]

    assert last is (None if needs_two else error)
    if needs_two:
        assert client.fail(error, at=401.0, task_id="b") is error


@pytest.mark.fault("Q7")
def test_firewall_ends_nothing_before_any_valid_response():
    """It may admit the next request; after a valid one it is confirmed as the API's own 403."""
    assert Client().fail_at(FIREWALL, *range(0, 10_000, 100)) == [None] * 100


@pytest.mark.fault("Q7")
def test_refusal_that_is_not_the_apis_ends_nothing():
    """A firewall sends a 400 without JSON."""
    error = BadRequestError("x", status=400, retryable=True, body_excerpt="<html>")

    assert Client().fail_at(error, 0.0, 5.0, 10.0, 1000.0) == [None] * 4


# -- one id while others are answered (Q5) ---------------------------------------------------------

REFUSALS = {
    "400": BAD_ID,
    "501": NOT_IMPLEMENTED,
    "401": KEY,
    "402": NO_CREDIT,
    "403": FORBIDDEN,
    "redirect": REDIRECT,
    "route": ROUTE,
}


@pytest.mark.fault("Q5")
@pytest.mark.parametrize("error", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize(
    ("is_seen", "last", "verdict"),
    [(False, 9.9, None), (False, 10.0, "refused"), (True, 59.9, None), (True, 60.0, "refused")],
)
def test_refused_id_is_lost_while_others_are_answered(error, is_seen, last, verdict):
    """Three in a row over 10 s; 60 s if it was seen, as a rolling deploy answers both ways."""
    client = Client(is_proven=True)
    if is_seen:
        client.answer("a", at=-0.5)

    first = client.fail_at(error, 0.0, 5.0)
    client.answer(OTHER, at=7.0)

    assert first == [None, None]
    assert client.fail(error, at=last) == verdict
    assert client.fail(BUSY, at=last) is None


@pytest.mark.fault("Q5")
def test_refusals_in_a_row_are_of_any_kind_and_not_two():
    """A valid response about the id starts again."""
    client = Client(is_proven=True)
    client.fail(KEY, at=0.0)
    client.answer(OTHER, at=1.0)
    assert client.fail(REDIRECT, at=100.0) is None
    assert client.fail(BAD_ID, at=101.0) == "refused"

    client.answer("a", at=102.0)
    assert client.fail_at(BAD_ID, 103.0, 104.0) == [None, None]


@pytest.mark.fault("Q5", "Q2")
@pytest.mark.parametrize("who", ["nobody", "the id itself"])
def test_refused_id_is_kept_while_nobody_else_is_answered(who):
    """Not even by a ``retrieve()`` of the same id: then it may be about all of them."""
    client = Client(is_proven=True)
    client.fail(REDIRECT, at=0.0)
    if who == "the id itself":
        client.history.record_valid("a", 1.0)

    assert client.fail_at(REDIRECT, 100.0, 200.0) == [None, None]


@pytest.mark.fault("Q5")
@pytest.mark.parametrize(
    "error",
    [TLS, LOGIN, FIREWALL, AuthenticationError("x", status=401)],
    ids=["tls", "proxy", "firewall", "401 without JSON"],
)
def test_refusal_that_is_not_about_the_id_loses_none(error):
    """TLS, a proxy or a firewall refuse the connection, not the task."""
    client = Client(is_proven=True)
    client.fail(error, at=0.0)
    for at in (50.0, 100.0, 150.0):
        client.answer(OTHER, at=at)
        assert client.fail(error, at=at) is None


# -- refused by the API (Q6, Q1c) ------------------------------------------------------------------


@pytest.mark.fault("Q6")
@pytest.mark.parametrize("error", [BAD_ID, NOT_IMPLEMENTED], ids=["400", "501"])
@pytest.mark.parametrize("is_proven", [False, True])
def test_only_id_is_lost_when_the_api_refuses_it(error, is_proven):
    """Whether anything valid came before or not."""
    assert Client(is_proven=is_proven).fail_at(error, 0.0, 5.0, 9.9, 10.0) == [
        None,
        None,
        None,
        "refused",
    ]
    client = Client(is_proven=is_proven)
    client.seen.add("a")
    assert client.fail_at(error, 0.0, 30.0, 59.9, 60.0) == [None, None, None, "refused"]


def refusal(*, code=None, message=None):
    """A 400 of the API."""
    return BadRequestError(f"HTTP 400: {message}", status=400, code=code, server_message=message)


ALIKE = [refusal(code="400", message="No connected db.") for _ in range(3)]


@pytest.mark.fault("Q1c")
@pytest.mark.parametrize(
    ("errors", "is_fatal"),
    [
        (ALIKE, True),
        ([refusal(code="no_db", message=f"{task_id}: no") for task_id in "abc"], True),
        ([refusal(code="400", message=f"{task_id}: no") for task_id in "abc"], False),
        ([refusal(code="bad"), refusal(code="bad"), refusal(code="worse")], False),
        ([refusal(message="no"), refusal(code="no"), refusal(message="no")], False),
    ],
    ids=["message", "code", "only the status", "another code", "nothing common"],
)
def test_three_first_ids_refused_alike_are_fatal(errors, is_fatal):
    """One and the same code or message; a code that repeats the status is none."""
    client = Client()

    verdicts = [
        client.fail(error, at=1.0, task_id=task_id)
        for task_id, error in zip("abc", errors, strict=True)
    ]

    assert verdicts[:2] == [None, None]
    assert (verdicts[2] is not None) is is_fatal
    if is_fatal:
        assert isinstance(verdicts[2], ConfigError)
        assert (verdicts[2].reason, verdicts[2].status) == ("refused", 400)
        assert str(errors[2]) in str(verdicts[2])
        assert client.fail(errors[2], at=2.0, task_id="d").reason == "refused"


@pytest.mark.fault("Q1c")
def test_fewer_ids_a_valid_response_or_a_hub_make_a_refusal_no_configuration_error():
    """Then each id is judged by itself."""
    two = Client()
    assert [two.fail(ALIKE[0], at=0.0, task_id=each) for each in "abab"] == [None] * 4
    proven, hub = Client(is_proven=True), Client(is_hub=True)
    for client in (proven, hub):
        assert [client.fail(ALIKE[0], at=0.0, task_id=each) for each in "abcd"] == [None] * 4


# -- ambiguous 404 (Q1b) ---------------------------------------------------------------------------


@pytest.mark.fault("Q1b")
def test_nothing_but_ambiguous_404s_is_a_wrong_route_after_the_grace():
    """Timeouts and 5xx are not counted; a second id is not needed."""
    client = Client()
    client.fail(RequestTimeoutError("x"), at=0.0)
    client.fail(BUSY, at=1.0)
    assert client.fail(AMBIGUOUS, at=9.9) is None

    error = client.fail(AMBIGUOUS, at=10.0)

    assert isinstance(error, ConfigError)
    assert (error.reason, error.status, error.task_id) == ("route", 404, "a")
    assert f"HTTP 404 from {ROOT}a: no such route; does base_url end with /v1?" in str(error)


@pytest.mark.fault("Q1b", "Q18b")
@pytest.mark.parametrize(("is_hub", "task_id"), [(True, "a"), (False, "a/b")])
def test_one_odd_id_alone_is_not_found_after_the_grace(is_hub, task_id):
    """Two distinct ids are a wrong route."""
    client = Client(is_hub=is_hub)

    assert client.fail_at(AMBIGUOUS, 9.9, 10.0, task_id=task_id) == [None, "not_found"]
    assert client.fail(AMBIGUOUS, at=11.0, task_id="other/").reason == "route"


@pytest.mark.fault("Q1b")
def test_id_seen_elsewhere_is_not_lost_by_one_ambiguous_404():
    """``apply()`` has shown its state before anything valid came."""
    client = Client(is_hub=True)
    client.seen.add("a")

    assert client.fail_at(AMBIGUOUS, 20.0, 40.0, 79.9, 80.0) == [None, None, None, "vanished"]


@pytest.mark.fault("Q1b")
def test_ambiguous_404_beside_another_response_is_a_failed_poll():
    """The server said more than that before anything valid came."""
    client = Client()
    client.fail(FIREWALL, at=0.0)

    assert client.fail_at(AMBIGUOUS, 10.0, 100.0, 1000.0) == [None] * 3


@pytest.mark.fault("Q1b", "Q2")
@pytest.mark.parametrize(("last", "is_fatal"), [(299.9, False), (300.0, True)])
def test_ambiguous_404_after_a_valid_response_is_a_failed_poll(last, is_fatal):
    """As a redirect: five in a row over 300 s."""
    client = Client(is_proven=True)
    client.answer("a", at=-0.5)

    *first, verdict = client.fail_at(AMBIGUOUS, 0.0, 1.0, 2.0, 3.0, last)

    assert first == [None] * 4
    assert getattr(verdict, "reason", None) == ("route" if is_fatal else None)


@pytest.mark.fault("Q1b", "Q5")
@pytest.mark.parametrize(
    ("is_seen", "last", "verdict"),
    [(False, 9.9, None), (False, 10.0, "not_found"), (True, 59.9, None), (True, 60.0, "vanished")],
)
def test_ambiguous_404_about_one_id_loses_it_while_others_are_answered(is_seen, last, verdict):
    """With the timing of a refusal."""
    client = Client(is_proven=True)
    if is_seen:
        client.answer("a", at=-0.5)
    client.fail_at(AMBIGUOUS, 0.0, 5.0)
    client.answer(OTHER, at=7.0)

    assert client.fail(AMBIGUOUS, at=last) == verdict


# -- pages (Q3, Q4) --------------------------------------------------------------------------------


@pytest.mark.fault("Q3")
@pytest.mark.parametrize(("error", "got"), [(PAGE, "text/html"), (NOT_JSON, "no JSON")])
def test_pages_before_any_valid_response_are_fatal_after_five_over_30_s(error, got):
    """The message has what came from where, without the query."""
    assert Client().fail_at(error, 0.0, 1.0, 2.0, 3.0, 29.9) == [None] * 5
    assert Client().fail_at(error, 0.0, 10.0, 20.0, 30.0) == [None] * 4

    verdict = Client().fail_at(error, 0.0, 1.0, 2.0, 3.0, 30.0)[-1]

    assert isinstance(verdict, ConfigError)
    assert verdict.reason == "not_the_api"
    assert str(verdict) == f"got {got} from {ROOT}a; does base_url end with /v1?"


@pytest.mark.fault("Q3", "Q18b")
def test_pages_about_one_id_of_a_hub_are_not_fatal():
    """Its path may be the cause; a second id decides."""
    client = Client(is_hub=True)

    assert client.fail_at(PAGE, 0.0, 10.0, 20.0, 30.0, 100.0) == [None] * 5
    assert client.fail(PAGE, at=101.0, task_id="b").reason == "not_the_api"


@pytest.mark.fault("Q4")
def test_pages_after_a_valid_response_end_nothing():
    """They are maintenance."""
    assert Client(is_proven=True).fail_at(PAGE, *range(0, 10_000, 100)) == [None] * 100


# -- not found (Q8, Q9) ----------------------------------------------------------------------------


@pytest.mark.fault("Q8")
@pytest.mark.parametrize("error", [NOT_FOUND, GONE], ids=["404", "410"])
def test_unseen_id_is_not_found_after_the_grace(error):
    """Within it "not found" means "not yet"."""
    assert Client().fail_at(error, 0.0, 9.9, 10.0) == [None, None, "not_found"]
    assert Client(grace=0.0).fail(error, at=0.0) == "not_found"


@pytest.mark.fault("Q9")
@pytest.mark.parametrize(("has_returned", "seconds"), [(False, 60.0), (True, 600.0)])
def test_seen_id_vanishes_after_three_in_a_row_over_time(has_returned, seconds):
    """60 s, or 600 s once it has come back after "not found"."""

    def verdicts(*instants):
        client = Client(is_proven=True)
        client.answer("a", at=-0.5)
        return client.fail_at(NOT_FOUND, *instants, has_returned=has_returned)

    assert verdicts(0.0, 1.0, seconds - 0.1) == [None] * 3
    assert verdicts(0.0, seconds) == [None] * 2
    assert verdicts(0.0, 1.0, seconds) == [None, None, "vanished"]


@pytest.mark.fault("Q9")
def test_timeouts_neither_count_nor_interrupt_and_refusals_interrupt():
    """In a row is by what can end the id."""
    client = Client(is_proven=True)
    client.answer("a", at=-0.5)
    client.fail(NOT_FOUND, at=0.0)
    client.fail(RequestTimeoutError("x"), at=1.0)
    client.fail(RateLimitError("x", status=429), at=2.0)
    assert client.fail_at(NOT_FOUND, 30.0, 60.0) == [None, "vanished"]

    client.fail(BAD_ID, at=61.0)
    assert client.fail_at(NOT_FOUND, 62.0, 100.0, 121.9, 122.0) == [None, None, None, "vanished"]
    assert client.streaks["a"].is_not_found


@pytest.mark.fault("Q9", "H10")
def test_seen_id_vanishes_at_the_second_410():
    """Without any time."""
    client = Client(is_proven=True)
    client.answer("a", at=-0.5)

    assert client.fail_at(GONE, 0.0, 1.0) == [None, "vanished"]


# -- size, and what never ends anything ------------------------------------------------------------


@pytest.mark.fault("Q11")
def test_body_over_the_limit_loses_the_id_at_the_third():
    """It will not shrink; timeouts in between do not count."""
    client = Client()

    verdicts = [client.fail(error, at=0.0) for error in (TOO_LARGE, BUSY, TOO_LARGE, TOO_LARGE)]

    assert verdicts == [None, None, None, "too_large"]


@pytest.mark.parametrize(
    "error",
    [
        BUSY,
        TransportError("x"),
        RequestTimeoutError("x"),
        RateLimitError("x", status=429),
        ServerError("x", status=501),
        BadResponseError("x", status=200, reason="schema"),
        BadResponseError("x", status=200, reason="id_mismatch"),
    ],
    ids=["503", "connect", "timeout", "429", "501", "schema", "id"],
)
@pytest.mark.parametrize("is_proven", [False, True])
def test_other_failures_end_nothing(error, is_proven):
    """However long they last."""
    client = Client(is_proven=is_proven)

    assert client.fail_at(error, *range(0, 10_000, 100)) == [None] * 100
    assert client.streaks["a"].last_error is error
