"""HTTP faults (rows H): broken HTTP, error statuses, cool-downs, redirects, sizes."""

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
    KeyProvider,
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

every_fault = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fault(HTTP[name].row)) for name in HTTP]
)


def ids(count):
    return [f"vid_{number:05}" for number in range(count)]


def refusal(status, *headers, code="x"):
    return response({"error": {"code": code, "message": "m"}}, *headers, status=status)


def marked(rows):
    """Make parameters of names, each marked with its row of the fault table."""
    return [pytest.param(name, marks=pytest.mark.fault(row)) for name, (row, *_) in rows.items()]


@every_fault
@over_both_sessions
async def test_retrieve_raises_the_error_of_the_row(name, session):
    """Class, reason and ``retryable`` are the row's, and the next call succeeds."""
    await check_retrieve(HTTP[name], session)


@every_fault
@over_both_sessions
async def test_watcher_applies_the_verdict_of_the_row(name, session):
    """It polls again without an event, loses the one id, or ends."""
    await check_watcher(HTTP[name], session)


# -- tolerated responses --------------------------------------------------------------------------


def whole(*headers, status="200 OK", pack=None, before=b"", after=b""):
    """Make a script that responds with the requested task, with other framing."""

    def reply(seen):
        body = json.dumps(task(seen.task_id)).encode()
        packed = body if pack is None else pack(body)
        return before + response(packed, *headers, status=status) + after

    return [READ, reply]


def in_members(body):
    return gzip.compress(body[:9]) + gzip.compress(body[9:])


TOLERATED = {
    **{
        f"status {status}": ("H23", whole(status=f"{status} S"))
        for status in (201, 202, 203, 206, 226)
    },
    "a range that is the whole": (
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
    "an encoding only declared": ("H30", whole("Content-Encoding: rot13")),
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


@pytest.mark.parametrize("name", marked(TOLERATED))
@over_both_sessions
async def test_unusual_response_is_decoded(name, session):
    """Other success statuses, types and encodings are accepted: one request each."""
    fault = Fault(row="", script=TOLERATED[name][1], kind=TransportError)
    async with meeting(fault, questions=3) as server, client_over(session, server) as client:
        assert (await client.retrieve("t")).succeeded
        async with client.watch(["a", "b"]) as watcher:
            events = await read_all(watcher)

        assert [event.kind for event in events] == ["task_completed"] * 2
        assert client.requests_sent == len(server.requests) == 3


@pytest.mark.fault("H27")
@over_both_sessions
async def test_second_response_to_one_request_is_discarded(session):
    """Of two responses in one write the first counts; the other reaches no later request."""
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
async def test_garbage_after_a_response_affects_no_later_request(session):
    """aiohttp's C parser refuses the whole response, its Python parser drops the garbage."""
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


# -- error statuses over time ---------------------------------------------------------------------


@pytest.mark.fault("H1")
async def test_400_with_retry_after_is_polled_once_more():
    """After Retry-After the id is polled again, and lost if refused; the others continue."""
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


@pytest.mark.fault("H2")
@pytest.mark.parametrize("keys", [("old", "new"), ("old", "older")])
async def test_concurrent_401s_of_a_watcher_share_one_renewal(keys):
    """If the renewed key is refused too, the watch ends; each id sends each key once."""

    def guarded(seen):
        good = seen.headers["authorization"] == "Bearer new"
        return done(seen) if good else refusal("401 No")

    provider = KeyProvider(*keys)
    budget = RequestBudget(rate=100_000, burst=1000, max_in_flight=1000)
    async with (
        RawServer(Always(guarded, latency=1.0)) as server,
        client_of(server, api_key=provider, budget=budget) as client,
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
        assert provider.calls == 2
        assert len(set(sent)) == len(sent) == 200


@pytest.mark.fault("H4")
async def test_lasting_firewall_page_ends_the_watch():
    """403 pages open the circuit; five in a row over a minute end the watch."""
    telemetry = []
    script = Always(response(PAGE, "Content-Type: text/html", status="403 No"))
    async with (
        RawServer(script) as server,
        client_of(server, observers=[telemetry.append]) as client,
    ):
        async with client.watch(ids(40)) as watcher:
            with pytest.raises(PermissionDeniedError) as raised:
                await read_all(watcher)
            ended = now()
            await asyncio.sleep(600)

        assert not raised.value.retryable
        assert raised.value.open_ids == tuple(ids(40))
        assert 60.0 <= ended <= 90.0
        assert sum(isinstance(event, CircuitOpened) for event in telemetry) == 1
        assert client.requests_sent == len(server.requests) <= 20


NOT_FOUND = {
    "404": refusal("404 No", code="task_not_found"),
    "new-api": response({"code": "task_not_exist", "message": "m", "data": None}, status="400 Bad"),
}


@pytest.mark.fault("H5")
@pytest.mark.parametrize("shape", NOT_FOUND)
@pytest.mark.parametrize("exists_from", [0.0, 7.0, 14.0])
async def test_not_found_is_final_after_the_grace_period(shape, exists_from):
    """Within 10 s of ``add`` an unknown id is polled again; then it is lost."""
    script = Always(lambda seen: done(seen) if seen.at >= exists_from else NOT_FOUND[shape])
    async with RawServer(script) as server, client_of(server) as client:
        async with client.watch(["t"], policy=STEADY) as watcher:
            (event,) = await read_all(watcher)

        if exists_from <= 10.0:
            assert event.kind == "task_completed"
        else:
            assert (event.kind, event.reason, event.task) == ("task_lost", "not_found", None)
        assert server.times == [at for at in (0.0, 5.0, 10.0) if at < exists_from + 5.0]


@pytest.mark.fault("H6")
@pytest.mark.parametrize("shape", NOT_FOUND)
@pytest.mark.parametrize("polls_now", [False, True])
async def test_vanished_task_is_polled_twice_more(shape, polls_now):
    """Polls that the caller requests are 1 s apart; the final event has the last state."""
    replies = iter([running, *[NOT_FOUND[shape]] * 3])
    script = Always(lambda seen: running(seen) if (reply := next(replies)) is running else reply)
    async with RawServer(script) as server, client_of(server) as client:
        async with client.watch(["t"], policy=STEADY) as watcher:
            await anext(watcher)
            reading = asyncio.ensure_future(read_all(watcher))
            while not reading.done():
                if polls_now:
                    watcher.poll_now("t")
                await asyncio.sleep(0.25)
            (event,) = reading.result()

        assert (event.kind, event.reason) == ("task_lost", "vanished")
        assert event.task.raw_status == "processing"
        assert server.times == ([0.0, 1.0, 2.0, 3.0] if polls_now else [0.0, 5.0, 10.0, 15.0])


@pytest.mark.fault("H7")
@pytest.mark.parametrize("name", [name for name in HTTP if HTTP[name].row == "H7"])
async def test_missing_route_that_worked_before_is_retried(name):
    """After a first valid response a missing route is an outage, for all ids."""
    missing = HTTP[name].script[1]
    script = Always(lambda seen: missing if 4.0 < seen.at < 60.0 else existing(seen))

    def existing(seen):
        return running(seen) if seen.at < 60.0 else done(seen)

    async with RawServer(script) as server, client_of(server) as client:
        async with client.watch(["a", "b", "c"]) as watcher:
            events = await read_all(watcher)

    assert [event.kind for event in events].count("task_completed") == 3
    assert len(events) == 6


@pytest.mark.fault("H7")
async def test_route_that_never_worked_ends_the_watch():
    """The first response shows a wrong base url; there is no grace period."""
    name = "status 404 as a page"
    async with RawServer(Always(HTTP[name].script[1])) as server, client_of(server) as client:
        async with client.watch(ids(100)) as watcher:
            with pytest.raises(ConfigError, match="does base_url end with /v1"):
                await read_all(watcher)

        assert len(server.requests) == 1


@pytest.mark.fault("H10")
async def test_410_ends_a_seen_task():
    """The id is lost with its last state, and not polled again."""
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
async def test_429_for_one_id_cools_down_all(headers, seconds):
    """Nothing is sent in the cool-down; then polls are spread over two intervals."""
    requests, refused_at, telemetry = 0, [], []

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
                    refused_at.append(now())
                yield refusal("429 Many", *headers) if is_refused else running

    def record(event):
        if isinstance(event, RateLimited):
            telemetry.append(event)

    budget = RequestBudget(rate=400.0)
    async with (
        RawServer(Thousand()) as server,
        client_of(server, budget=budget, observers=[record]) as client,
    ):
        async with client.watch(ids(1000), policy=STEADY):
            await asyncio.sleep(2.5 + seconds + (11.5 if seconds > 5.0 else 3.0))
        assert client.requests_sent == len(server.requests)

    (stopped,), (cool_down,) = refused_at, telemetry
    resumed = stopped + seconds
    later = [seen for seen in server.requests if seen.at > stopped]
    first_polls = {seen.task_id: seen.at for seen in reversed(later) if seen.at >= resumed}
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
        assert len(first_polls) == 1000
        assert max(by_second[:5]) <= 1.2 * 1000 / 10.0
        assert max(first_polls.values()) - resumed >= 9.5


RETRY_AFTERS = {
    "soon": None,
    "0": None,
    "7": 7.0,
    "60": 60.0,
    "61": 61.0,
    "600": 600.0,
    "601": 601.0,
    "Thu, 01 Jan 2026 00:00:30 GMT": 30.0,
}
"""Retry-After as sent at the start of 2026, and its seconds; None if it counts as absent."""


def rate_limited(*values):
    """Make a 429 with these Retry-After headers."""
    lines = [f"Retry-After: {value}" for value in values]
    return refusal("429 Many", *lines, "Date: Thu, 01 Jan 2026 00:00:00 GMT")


@pytest.mark.fault("H15")
@pytest.mark.parametrize("value", RETRY_AFTERS)
async def test_retrieve_obeys_retry_after(value):
    """It waits up to 60 s, and raises at once if it would have to wait longer."""
    seconds = RETRY_AFTERS[value]
    async with (
        RawServer(replying(rate_limited(value), done)) as server,
        client_of(server) as client,
    ):
        if seconds is not None and seconds > 60.0:
            raised = await failed(client)
            assert type(raised) is RateLimitError
            assert (raised.retry_after, now(), len(server.requests)) == (seconds, 0.0, 1)
            return
        assert (await client.retrieve("t")).succeeded
        # Without Retry-After the cool-down of (1 + rand) s is the longest delay.
        assert server.times == [0.0, 1.5 if seconds is None else seconds]


@pytest.mark.fault("H15")
@pytest.mark.parametrize("value", RETRY_AFTERS)
async def test_watcher_obeys_retry_after(value):
    """It waits 600 s at most."""
    seconds, telemetry = RETRY_AFTERS[value], []
    capped = None if seconds is None else min(seconds, 600.0)
    async with (
        RawServer(replying(rate_limited(value), done)) as server,
        client_of(server, observers=[telemetry.append]) as client,
    ):
        async with client.watch(["t"]) as watcher:
            (event,) = await read_all(watcher)

        assert event.kind == "task_completed"
        # Halfway from 5 to 10 s; or Retry-After and half of two intervals.
        assert server.times == [0.0, max(7.5, 0.0 if capped is None else capped + 5.0)]
        (cool_down,) = [event for event in telemetry if isinstance(event, RateLimited)]
        assert cool_down.seconds == (1.5 if capped is None else capped)


@pytest.mark.fault("H15")
async def test_two_retry_after_headers_count_as_none():
    """Contradictory headers are ignored by calls and watchers."""
    script = replying(rate_limited("5", "7"), done, rate_limited("5", "7"), done)
    async with RawServer(script) as server, client_of(server) as client:
        await client.retrieve("t")
        async with client.watch(["u"]) as watcher:
            await read_all(watcher)

        assert server.times == [0.0, 1.5, 1.5, 9.0]


@pytest.mark.fault("H19")
async def test_watch_completes_when_every_second_request_fails():
    """Final events come soon after the tasks finish, and the circuit stays closed."""
    server, telemetry, sends, ended = FakeTransport(), [], 0, []
    server.tasks.update({task_id: FakeTask(status="processing") for task_id in ids(100)})

    async def failing(request, api_key, **options):
        nonlocal sends
        sends += 1
        server.tasks[request.task_id].fault = "500" if sends % 2 else None
        return await FakeTransport.send(server, request, api_key, **options)

    server.send = failing
    async with fake_client(server, observers=[telemetry.append]) as client:
        async with client.watch(ids(100)) as watcher:
            await asyncio.sleep(60)
            for each in server.tasks.values():
                each.status = "completed"
            async for event in watcher:
                ended += [(event.task_id, now())] if event.is_final else []

    assert sorted(task_id for task_id, _at in ended) == ids(100)
    assert not any(isinstance(event, CircuitOpened) for event in telemetry)
    # A failure streak makes an id's delay grow to a minute; few streaks are that long.
    assert [at for _task_id, at in ended][79] <= 60.0 + 60.0
    assert ended[-1][1] <= 60.0 + 300.0


# -- redirects ------------------------------------------------------------------------------------


@pytest.mark.fault("H21")
@pytest.mark.parametrize("status", ["301 M", "302 F", "307 T", "308 P"])
async def test_redirect_from_https_to_http_is_not_followed(status):
    """No connection is made to the plain http server."""
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


# -- size -----------------------------------------------------------------------------------------

HUGE = {
    "10 MB of headers": ("H28", 8, HTTP["10 MB of headers"].script),
    "one header of 10 MB": ("H28", 8, HTTP["one header of 10 MB"].script),
    "endless headers": ("H28", 8, HTTP["endless headers"].script),
    "many trailers": ("H28", 8, HTTP["many trailers"].script),
    "a declared terabyte": ("H29", 4, HTTP["a body told as a terabyte"].script),
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
"""Oversized responses: the row, the MiB that reading may take, and the script."""


@pytest.mark.parametrize("name", marked(HUGE))
@over_both_sessions
async def test_oversized_response_takes_little_memory(name, session):
    """Client and server together stay small, and the connection is closed."""
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
async def test_endless_response_is_not_read_further(name):
    """The server can send what the client reads, 1 MiB, and what two sockets buffer."""
    script = HTTP[name].script
    before = script.sent
    async with RawServer(script, DONE) as server, client_of(server, retry=ONCE) as client:
        await failed(client)
        await asyncio.sleep(60)

        assert script.sent - before < 32 * MEBIBYTE
        assert server.connections == 1
