"""What servers send that is no good HTTP, or good HTTP that is no task."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import tracemalloc
import zlib
from itertools import pairwise

import aiohttp
import pytest
import trustme

from ezvideo_async import (
    AuthenticationError,
    ConfigError,
    PermissionDeniedError,
    PollPolicy,
    RateLimitError,
    RequestBudget,
    TransportError,
)
from ezvideo_async.instrumentation import CircuitOpened, RateLimited
from tests.resilience.catalog import HTTP, MEBIBYTE, PAGE, PURE_PYTHON, Fault, packed_bomb
from tests.resilience.stage import (
    ONCE,
    Always,
    check_retrieve,
    check_watcher,
    client_over,
    failed,
    meeting,
    over_both_sessions,
    read_all,
)
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client
from tests.support.raw_server import (
    DONE,
    READ,
    STALL,
    RawServer,
    client_of,
    done,
    now,
    replying,
    response,
    running,
    task,
)

STEADY = PollPolicy(jitter=0.0)

every_trouble = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fault(HTTP[name].row)) for name in HTTP]
)


def ids(count):
    return [f"vid_{number:05}" for number in range(count)]


def refusal(status, *headers, code="x"):
    return response({"error": {"code": code, "message": "m"}}, *headers, status=status)


def marked(rows):
    """Parameters from names to (row of the table, ...), each marked with its row."""
    return [pytest.param(name, marks=pytest.mark.fault(row)) for name, (row, *_) in rows.items()]


@every_trouble
@over_both_sessions
async def test_a_call_ends_with_the_rows_error(name, session):
    """Its class, its reason and ``retryable`` are the row's, and the next call is answered."""
    await check_retrieve(HTTP[name], session)


@every_trouble
@over_both_sessions
async def test_a_watcher_does_what_the_row_says(name, session):
    """It asks again without a word, gives up the one id, or ends for all."""
    await check_watcher(HTTP[name], session)


# -- what is read all the same --------------------------------------------------------------------


def whole(*headers, status="200 OK", pack=None, before=b"", after=b""):
    """A script that answers with the asked task, dressed up."""

    def reply(seen):
        body = json.dumps(task(seen.task_id)).encode()
        packed = body if pack is None else pack(body)
        return before + response(packed, *headers, status=status) + after

    return [READ, reply]


def in_members(body):
    return gzip.compress(body[:9]) + gzip.compress(body[9:])


READ_ALL_THE_SAME = {
    **{
        f"status {status}": ("H23", whole(status=f"{status} S"))
        for status in (201, 202, 203, 206, 226)
    },
    "a part that is the whole": (
        "H23",
        whole("Content-Range: bytes 0-33/34", status="206 Part"),
    ),
    "a thousand 103s before": ("H25", whole(before=b"HTTP/1.1 103 Hints\r\n\r\n" * 1000)),
    "gzip": ("H30", whole("Content-Encoding: gzip", pack=gzip.compress)),
    "gzip in capitals": ("H30", whole("Content-Encoding: GZIP", pack=gzip.compress)),
    "gzip in two members": ("H30", whole("Content-Encoding: gzip", pack=in_members)),
    "gzip without its sum": (
        "H30",
        whole("Content-Encoding: gzip", pack=lambda body: gzip.compress(body)[:-8]),
    ),
    "deflate": ("H30", whole("Content-Encoding: deflate", pack=zlib.compress)),
    "raw deflate": (
        "H30",
        whole("Content-Encoding: deflate", pack=lambda body: zlib.compress(body)[2:-4]),
    ),
    "an encoding told only": ("H30", whole("Content-Encoding: rot13")),
    **{
        f"type {kind}": ("H31", whole(f"Content-Type: {kind}"))
        for kind in (
            "text/html",
            "text/html; charset=utf-16",
            "text/plain",
            "application/octet-stream",
            "application/json; charset=hex",
            "application/json; charset=punycode",
            'application/json; charset="',
            "video/mp4",
            ";;;",
            "",
        )
    },
    "no type": ("H31", whole()),
    "two types": ("H31", whole("Content-Type: text/html", "Content-Type: text/plain")),
}


@pytest.mark.parametrize("name", marked(READ_ALL_THE_SAME))
@over_both_sessions
async def test_a_task_in_strange_clothes_is_read(name, session):
    """Other success statuses, types and packings hold a task like any: one request each."""
    trouble = Fault(row="", script=READ_ALL_THE_SAME[name][1], kind=TransportError)
    async with meeting(trouble, questions=3) as server, client_over(session, server) as client:
        assert (await client.retrieve("t")).succeeded
        async with client.watch(["a", "b"]) as watcher:
            events = await read_all(watcher)

        assert [event.kind for event in events] == ["task_completed"] * 2
        assert client.requests_sent == len(server.requests) == 3


@pytest.mark.fault("H27")
@over_both_sessions
async def test_what_follows_an_answer_unasked_is_nobodys(session):
    """Of two answers in one write the first counts; the other one reaches no later request."""
    evil = response(task("next", "failed"))
    script = [READ, lambda seen: done(seen) + evil, *DONE]
    async with (
        RawServer(script, DONE) as server,
        client_over(session, server, retry=ONCE) as client,
    ):
        assert (await client.retrieve("t")).succeeded
        assert (await client.retrieve("next")).succeeded


@pytest.mark.fault("H27")
@over_both_sessions
async def test_garbage_after_an_answer_spoils_at_most_this_one(session):
    """aiohttp's parser in C refuses the whole answer, the one in Python drops the garbage."""
    script = [READ, lambda seen: done(seen) + b"garbage", *DONE]
    async with (
        RawServer(script, DONE) as server,
        client_over(session, server, retry=ONCE) as client,
    ):
        if PURE_PYTHON:
            assert (await client.retrieve("t")).succeeded
        else:
            assert (await failed(client)).reason == "protocol"
        assert (await client.retrieve("next")).succeeded
        assert client.requests_sent == len(server.requests) == 2


# -- refusals over time ---------------------------------------------------------------------------


@pytest.mark.fault("H1")
async def test_a_400_with_retry_after_gets_one_more_look():
    """Refused again after the time that was asked for, the id is lost; the others go on."""
    bad = refusal("400 Bad", "Retry-After: 9")
    script = Always(lambda seen: bad if seen.task_id == "a" else done(seen))
    async with RawServer(script) as server, client_of(server) as client:
        async with client.watch(["a", "b"]) as watcher:
            events = await read_all(watcher)
        asked = [seen.at for seen in server.requests if seen.task_id == "a"]

    assert [(event.task_id, event.kind) for event in events] == [
        ("b", "task_completed"),
        ("a", "task_lost"),
    ]
    assert [two - one for one, two in pairwise(asked)] == [pytest.approx(9.0)]


class Provider:
    """Gives one key after the other, and counts."""

    def __init__(self, *keys):
        self._keys = keys
        self.asked = 0

    async def __call__(self):
        self.asked += 1
        await asyncio.sleep(0.5)
        return self._keys[min(self.asked, len(self._keys)) - 1]


@pytest.mark.fault("H2")
@pytest.mark.parametrize("keys", [("old", "new"), ("old",), ("old", "older")])
@over_both_sessions
async def test_a_hundred_refused_polls_renew_the_key_once(keys, session):
    """One renewal for all; a key that does not help ends the watch, and is sent once per id."""

    def guarded(seen):
        good = seen.headers["authorization"] == "Bearer new"
        return done(seen) if good else refusal("401 No")

    provider = Provider(*keys)
    budget = RequestBudget(rate=100_000, burst=1000, max_in_flight=1000)
    async with (
        RawServer(Always(guarded, latency=1.0)) as server,
        client_over(session, server, api_key=provider, budget=budget) as client,
    ):
        async with client.watch(ids(100)) as watcher:
            if "new" in keys:
                events = await read_all(watcher)
                assert [event.kind for event in events] == ["task_completed"] * 100
            else:
                with pytest.raises(AuthenticationError) as raised:
                    await read_all(watcher)
                assert raised.value.open_ids == tuple(ids(100))
            await asyncio.sleep(600)

        sent = [(seen.task_id, seen.headers["authorization"]) for seen in server.requests]
        assert provider.asked == 2
        assert len(set(sent)) == len(sent) == 100 * len(keys)


@pytest.mark.fault("H4")
async def test_a_firewall_that_stays_is_met_with_probes_and_ends_the_watch():
    """Pages with 403 open the breaker; five in a row over a minute are meant for us."""
    signals = []
    script = Always(response(PAGE, "Content-Type: text/html", status="403 No"))
    async with (
        RawServer(script) as server,
        client_of(server, observers=[signals.append]) as client,
    ):
        async with client.watch(ids(40)) as watcher:
            with pytest.raises(PermissionDeniedError) as raised:
                await read_all(watcher)
            ended = now()
            await asyncio.sleep(600)

        assert not raised.value.retryable
        assert raised.value.open_ids == tuple(ids(40))
        assert 60.0 <= ended <= 90.0
        assert sum(isinstance(signal, CircuitOpened) for signal in signals) == 1
        assert client.requests_sent == len(server.requests) <= 20


NOT_FOUND = {
    "404": refusal("404 No", code="task_not_found"),
    "new-api": response({"code": "task_not_exist", "message": "m", "data": None}, status="400 Bad"),
}


@pytest.mark.fault("H5")
@pytest.mark.parametrize("shape", NOT_FOUND)
@pytest.mark.parametrize("known_from", [0.0, 7.0, 14.0])
async def test_not_found_is_believed_after_the_grace(shape, known_from):
    """Within 10 s of ``add`` an unknown id is asked for again; then it is lost."""
    script = Always(lambda seen: done(seen) if seen.at >= known_from else NOT_FOUND[shape])
    async with RawServer(script) as server, client_of(server) as client:
        async with client.watch(["t"], policy=STEADY) as watcher:
            (event,) = await read_all(watcher)

        if known_from <= 10.0:
            assert event.kind == "task_completed"
        else:
            assert (event.kind, event.reason, event.task) == ("task_lost", "not_found", None)
        assert server.times == [at for at in (0.0, 5.0, 10.0) if at < known_from + 5.0]


@pytest.mark.fault("H6")
@pytest.mark.parametrize("shape", NOT_FOUND)
@pytest.mark.parametrize("hasty", [False, True])
async def test_a_task_that_vanished_gets_two_more_looks(shape, hasty):
    """However often the caller asks for a look, they are a second apart; its state is told."""
    replies = iter([running, *[NOT_FOUND[shape]] * 3])
    script = Always(lambda seen: running(seen) if (reply := next(replies)) is running else reply)
    async with RawServer(script) as server, client_of(server) as client:
        async with client.watch(["t"], policy=STEADY) as watcher:
            await anext(watcher)
            reading = asyncio.ensure_future(read_all(watcher))
            while not reading.done():
                if hasty:
                    watcher.refresh("t")
                await asyncio.sleep(0.25)
            (event,) = reading.result()

        assert (event.kind, event.reason) == ("task_lost", "vanished")
        assert event.task.raw_status == "processing"
        assert server.times == ([0.0, 1.0, 2.0, 3.0] if hasty else [0.0, 5.0, 10.0, 15.0])


@pytest.mark.fault("H7")
@pytest.mark.parametrize("name", [name for name in HTTP if HTTP[name].row == "H7"])
async def test_a_route_that_has_worked_is_being_deployed(name):
    """After the first answer a missing route is trouble that passes, for all ids."""
    missing = HTTP[name].script[1]
    script = Always(lambda seen: missing if 4.0 < seen.at < 60.0 else stage(seen))

    def stage(seen):
        return running(seen) if seen.at < 60.0 else done(seen)

    async with RawServer(script) as server, client_of(server) as client:
        async with client.watch(["a", "b", "c"]) as watcher:
            events = await read_all(watcher)

    assert [event.kind for event in events].count("task_completed") == 3
    assert len(events) == 6


@pytest.mark.fault("H7")
async def test_a_route_that_never_worked_ends_the_watch():
    """A wrong base url is found by the first answer, not after a time of grace."""
    name = "status 404 as a page"
    async with RawServer(Always(HTTP[name].script[1])) as server, client_of(server) as client:
        async with client.watch(ids(100)) as watcher:
            with pytest.raises(ConfigError, match="does base_url end with /v1"):
                await read_all(watcher)

        assert len(server.requests) == 1


@pytest.mark.fault("H10")
async def test_a_task_that_is_gone_is_not_looked_for_again():
    """A 410 after the task was seen is its end, with the last state; no look more."""
    script = replying(running, refusal("410 Gone"), done)
    async with RawServer(script) as server, client_of(server) as client:
        async with client.watch(["t"], policy=STEADY) as watcher:
            events = await read_all(watcher)

        assert [event.kind for event in events] == ["status_changed", "task_lost"]
        assert (events[1].reason, events[1].task.raw_status) == ("vanished", "processing")
        assert server.times == [0.0, 5.0]


# -- cool-downs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param((), 1.5, marks=pytest.mark.fault("H12")),
        pytest.param(("Retry-After: 20",), 20.0, marks=pytest.mark.fault("H13")),
    ],
)
async def test_a_429_to_one_of_a_thousand_ids_stops_them_all(headers, seconds):
    """Nothing leaves in the cool-down; then they come back spread over two intervals, slower."""
    requests, refused, signals = 0, [], []

    class Thousand:
        """The 500th request is refused, with some others in flight."""

        def __iter__(self):
            nonlocal requests
            while True:
                yield READ
                requests += 1
                is_refused = requests == 500
                if 480 <= requests <= 500:
                    yield 0.05
                if is_refused:
                    refused.append(now())
                yield refusal("429 Many", *headers) if is_refused else running

    def hear(signal):
        if isinstance(signal, RateLimited):
            signals.append(signal)

    budget = RequestBudget(rate=400.0)
    async with (
        RawServer(Thousand()) as server,
        client_of(server, budget=budget, observers=[hear]) as client,
    ):
        async with client.watch(ids(1000), policy=STEADY):
            await asyncio.sleep(2.5 + seconds + (10.5 if seconds > 5.0 else 3.0))
        assert client.requests_sent == len(server.requests)

    (stopped,), (cool_down,) = refused, signals
    resumed = stopped + seconds
    later = [seen for seen in server.requests if seen.at > stopped]
    first_looks = {seen.task_id: seen.at for seen in reversed(later) if seen.at >= resumed}
    by_second = [
        sum(start <= seen.at - resumed < start + 1 for seen in later) for start in range(10)
    ]

    in_flight = [seen for seen in server.requests if stopped - 0.05 < seen.at < stopped]

    assert len(in_flight) > 5
    assert min(seen.at for seen in later) >= resumed
    assert cool_down.seconds == seconds
    assert cool_down.rate == pytest.approx(0.7 * 200.0, rel=0.05)
    assert max(by_second) <= 200
    if seconds > 5.0:  # all have come due meanwhile
        assert len(first_looks) == 1000
        assert max(by_second[:5]) <= 1.2 * 1000 / 10.0
        assert max(first_looks.values()) - resumed >= 9.5


UNUSABLE = """
0 | 00 | -0 | 0.0 | -1 | -120 | +5 | 1e9 | 1E3 | 1_000 | 1,000 | 120, 5 | 120,5 | 5 5 | 5s
5 seconds | 5;q=1 | 0x10 | 1. | .5 | 1.5.5 | nan | NaN | inf | Infinity | -inf | 1000000000
\u0663 | \uff15 | \u00b2 | null | None | true | soon | [5] | "5" | PT5S | 2026-01-01T00:00:30Z
Thu, 01 Jan 2026 00:00:00 GMT | Wed, 31 Dec 2025 23:59:59 GMT | Thu, 01 Jan 2026 00:00:30 UTC
Thu, 01 Jan 2026 00:00:30 +0000 | Thu, 32 Jan 2026 00:00:30 GMT | Thu, 30 Feb 2026 00:00:30 GMT
Thu, 01 Jan 0000 00:00:30 GMT | thu, 01 jan 2026 00:00:30 gmt
"""

RETRY_AFTERS = {
    **{value.strip(): None for line in UNUSABLE.splitlines() for value in line.split("|")},
    "9" * 400: None,
    "1." + "9" * 400: None,
    "1": 1.0,
    "1.5": 1.5,
    "7": 7.0,
    "007": 7.0,
    " 7 ": 7.0,
    "60": 60.0,
    "61": 61.0,
    "600": 600.0,
    "601": 601.0,
    "86400": 86400.0,
    "999999999": 999999999.0,
    "Thu, 01 Jan 2026 00:00:30 GMT": 30.0,
    "Thursday, 01-Jan-26 00:00:30 GMT": 30.0,
    "Thu Jan  1 00:00:30 2026": 30.0,
    "Thu, 01 Jan 2026 12:00:00 GMT": 43200.0,
}
"""Retry-After as sent at the beginning of 2026, and the seconds it means; None: as if absent."""


def throttled(*values):
    """A 429 with these Retry-After headers."""
    lines = [f"Retry-After: {value}" for value in values]
    return refusal("429 Many", *lines, "Date: Thu, 01 Jan 2026 00:00:00 GMT")


@pytest.mark.fault("H15")
@pytest.mark.parametrize("value", RETRY_AFTERS, ids=lambda value: ascii(value[:40]))
async def test_a_call_obeys_what_retry_after_means(value):
    """Up to a minute it waits, beyond it says so at once; nonsense is as if absent."""
    seconds = RETRY_AFTERS[value]
    async with RawServer(replying(throttled(value), done)) as server, client_of(server) as client:
        if seconds is not None and seconds > 60.0:
            raised = await failed(client)
            assert type(raised) is RateLimitError
            assert (raised.retry_after, now(), len(server.requests)) == (seconds, 0.0, 1)
            return
        assert (await client.retrieve("t")).succeeded
        # Without a Retry-After the cool-down of (1 + rand) s is the longest pause.
        assert server.times == [0.0, 1.5 if seconds is None else seconds]


@pytest.mark.fault("H15")
@pytest.mark.parametrize("value", RETRY_AFTERS, ids=lambda value: ascii(value[:40]))
async def test_a_watcher_obeys_what_retry_after_means(value):
    """It waits ten minutes at most and says so; nonsense is as if absent."""
    seconds, signals = RETRY_AFTERS[value], []
    capped = None if seconds is None else min(seconds, 600.0)
    async with (
        RawServer(replying(throttled(value), done)) as server,
        client_of(server, observers=[signals.append]) as client,
    ):
        async with client.watch(["t"]) as watcher:
            (event,) = await read_all(watcher)

        assert event.kind == "task_completed"
        # Half of the way from 5 to 10 s; or what was asked, and up to two intervals more.
        assert server.times == [0.0, max(7.5, 0.0 if capped is None else capped + 5.0)]
        (told,) = [signal for signal in signals if isinstance(signal, RateLimited)]
        assert told.seconds == (1.5 if capped is None else capped)


@pytest.mark.fault("H15")
async def test_two_retry_afters_are_none():
    """Headers that contradict each other say nothing, to calls and to watchers."""
    script = replying(throttled("5", "7"), done, throttled("5", "7"), done)
    async with RawServer(script) as server, client_of(server) as client:
        await client.retrieve("t")
        async with client.watch(["u"]) as watcher:
            await read_all(watcher)

        assert server.times == [0.0, 1.5, 1.5, 9.0]


@pytest.mark.fault("H19")
async def test_every_second_answer_failing_stops_nothing():
    """All tasks end soon after the server ended them, and the breaker stays closed."""
    server, signals, sends, ended = FakeTransport(), [], 0, []
    server.tasks.update({task_id: FakeTask(status="processing") for task_id in ids(100)})

    async def limping(request, secret, **options):
        nonlocal sends
        sends += 1
        server.tasks[request.task_id].fault = "500" if sends % 2 else None
        return await FakeTransport.send(server, request, secret, **options)

    server.send = limping
    async with fake_client(server, observers=[signals.append]) as client:
        async with client.watch(ids(100)) as watcher:
            await asyncio.sleep(60)
            for each in server.tasks.values():
                each.status = "completed"
            async for event in watcher:
                ended += [(event.task_id, now())] if event.is_final else []

    assert sorted(task_id for task_id, _at in ended) == ids(100)
    assert not any(isinstance(signal, CircuitOpened) for signal in signals)
    # Failures in a row make an id's pauses grow to a minute; few have so many.
    assert [at for _task_id, at in ended][79] <= 60.0 + 60.0
    assert ended[-1][1] <= 60.0 + 300.0


# -- redirects ------------------------------------------------------------------------------------


@pytest.mark.fault("H21")
@pytest.mark.parametrize("status", ["301 M", "302 F", "307 T", "308 P"])
async def test_a_redirect_from_https_to_http_is_not_followed(status):
    """The key does not leave TLS: the server in clear is not even connected to."""
    authority, trusting = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusting)
    certified = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(certified)
    async with RawServer(DONE) as clear:
        location = f"Location: {clear.base_url}/videos/t?k=s3cr3t"
        script = Always(response(b"", location, status=status))
        async with (
            RawServer(script, tls=certified) as server,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
            client_of(server, session=session) as client,
        ):
            raised = await failed(client)
            async with client.watch(["a", "b"]) as watcher:
                with pytest.raises(ConfigError) as ended:
                    await read_all(watcher)

            assert len(server.requests) == 2
        assert clear.connections == 0

    for error in (raised, ended.value):
        assert (type(error), error.reason, error.retryable) == (ConfigError, "redirect", False)
        assert "http://127.0.0.1" in str(error)
        assert "s3cr3t" not in str(error)
        assert "videos" not in str(error)


# -- bounds ---------------------------------------------------------------------------------------

HUGE = {
    "10 MB of headers": ("H28", 8, HTTP["10 MB of headers"].script),
    "one header of 10 MB": ("H28", 8, HTTP["one header of 10 MB"].script),
    "endless headers": ("H28", 8, HTTP["endless headers"].script),
    "many trailers": ("H28", 8, HTTP["many trailers"].script),
    "a body told as a terabyte": ("H29", 4, HTTP["a body told as a terabyte"].script),
    "an endless body": ("H29", 4, HTTP["an endless body"].script),
    "an endless body in chunks": ("H29", 4, HTTP["an endless body in chunks"].script),
    "a bomb of 1 GiB": (
        "H30",
        4,
        [READ, response(packed_bomb(1024), "Content-Encoding: gzip"), STALL],
    ),
    "members": ("H30", 4, HTTP["thousands of gzip members"].script),
    "empty members": ("H30", 4, HTTP["thousands of empty gzip members"].script),
}
"""What is too much: the row, MiB that reading it may take, and what is sent."""


@pytest.mark.parametrize("name", marked(HUGE))
@over_both_sessions
async def test_too_much_takes_little_memory(name, session):
    """It is given up early, both ends and their buffers counted, and its connection closed."""
    _row, mebibytes, script = HUGE[name]
    async with (
        RawServer(script, DONE) as server,
        client_over(session, server, retry=ONCE) as client,
    ):
        tracemalloc.start()
        raised = await failed(client)
        _size, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert raised.retryable
        assert peak < mebibytes * MEBIBYTE
        assert (await client.retrieve("t")).succeeded
        assert [seen.connection for seen in server.requests] == [0, 1]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.fault(HTTP[name].row))
        for name in ("endless headers", "an endless body", "an endless body in chunks")
    ],
)
async def test_an_endless_answer_is_not_read_on(name):
    """What the server can get rid of is what we read, 1 MiB, and the buffers of two sockets."""
    script = HTTP[name].script
    before = script.sent
    async with RawServer(script, DONE) as server, client_of(server, retry=ONCE) as client:
        await failed(client)
        await asyncio.sleep(60)

        assert script.sent - before < 32 * MEBIBYTE
        assert server.connections == 1
