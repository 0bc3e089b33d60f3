"""HTTP faults (rows H): broken HTTP, error statuses, cool-downs, redirects, sizes."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib

import pytest

from ezvideo_async import (
    PermissionDeniedError,
    TransportError,
)
from ezvideo_async.instrumentation import CircuitOpened, RateLimited
from tests.resilience.catalog import HTTP, MEBIBYTE, PAGE, PURE_PYTHON, Fault
from tests.resilience.stage import (
    FaultyRequests,
    check_retrieve,
    check_watcher,
    meeting,
    read_all,
)
from tests.resilience.wires import ONCE, client_for, failed, over_both_sessions
from tests.support.raw_server import (
    DONE,
    READ,
    RawServer,
    client_of,
    done,
    now,
    replying,
    response,
    task,
)


def faults(*names):
    """Parametrize a test by faults of the catalog, each marked with its row."""
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=pytest.mark.fault(HTTP[name].row)) for name in names]
    )


@faults(*HTTP)
@over_both_sessions
async def test_retrieve_raises_the_error_of_the_row(name, session):
    """Class, reason and ``retryable`` are the row's, and the next call succeeds."""
    await check_retrieve(HTTP[name], session)


@faults(*HTTP)
@over_both_sessions
async def test_watcher_applies_the_verdict_of_the_row(name, session):
    """It polls again without an event, loses the one id, or ends."""
    await check_watcher(HTTP[name], session)


# -- tolerated responses --------------------------------------------------------------------------


def whole(*headers, status="200 OK", pack=None, before=b""):
    """Make a script that responds with the requested task, with other framing."""

    def reply(seen):
        body = json.dumps(task(seen.task_id)).encode()
        packed = body if pack is None else pack(body)
        return before + response(packed, *headers, status=status)

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
            "text/html; charset=utf-16",
            "application/json; charset=hex",
            'application/json; charset="',
            ";;;",
            "",
        )
    },
    "no type": ("H31", whole()),
    "two types": ("H31", whole("Content-Type: text/html", "Content-Type: text/plain")),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.fault(row)) for name, (row, _) in TOLERATED.items()],
)
@over_both_sessions
async def test_unusual_response_is_decoded(name, session):
    """Other success statuses, types and encodings are accepted: one request each."""
    fault = Fault(row="", script=TOLERATED[name][1], kind=TransportError)
    async with meeting(fault, polls=3) as server, client_for(server.base_url, session) as client:
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
        client_for(server.base_url, session, retry=ONCE) as client,
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
        client_for(server.base_url, session, retry=ONCE) as client,
    ):
        if PURE_PYTHON:
            assert (await client.retrieve("t")).succeeded
        else:
            assert (await failed(client)).reason == "protocol"
        assert (await client.retrieve("next")).succeeded
        assert client.requests_sent == len(server.requests) == 2


# -- error statuses over time ---------------------------------------------------------------------


@pytest.mark.fault("H4", "Q2", "Q7")
async def test_lasting_firewall_page_ends_the_watch():
    """403 pages open the circuit; five in a row over a minute, after a task, end the watch."""
    telemetry = []
    ids = tuple(f"vid_{number:05}" for number in range(40))
    page = response(PAGE, "Content-Type: text/html", status="403 No")
    async with (
        RawServer(FaultyRequests([READ, page], [False, *[True] * 100])) as server,
        client_of(server, observers=[telemetry.append]) as client,
    ):
        await client.retrieve("t")
        began = now()
        async with client.watch(ids) as watcher:
            with pytest.raises(PermissionDeniedError) as raised:
                await read_all(watcher)
            ended = now()
            await asyncio.sleep(600)

        assert not raised.value.retryable
        assert raised.value.open_ids == ids
        assert 60.0 <= ended - began <= 90.0
        assert sum(isinstance(event, CircuitOpened) for event in telemetry) == 1
        assert client.requests_sent == len(server.requests) <= 20


# -- cool-downs -----------------------------------------------------------------------------------


def rate_limited(*values):
    """Make a 429 with these Retry-After headers."""
    lines = [f"Retry-After: {value}" for value in values]
    return response(b"", *lines, "Date: Thu, 01 Jan 2026 00:00:00 GMT", status="429 Many")


@pytest.mark.fault("H15")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("soon", None), ("7", 7.0), ("601", 600.0), ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0)],
)
async def test_watcher_obeys_retry_after(value, seconds):
    """It waits 600 s at most."""
    telemetry = []
    async with (
        RawServer(replying(rate_limited(value), done)) as server,
        client_of(server, observers=[telemetry.append]) as client,
    ):
        async with client.watch(["t"]) as watcher:
            (event,) = await read_all(watcher)

        assert event.kind == "task_completed"
        # Halfway from 5 to 10 s; or Retry-After and half of two intervals.
        assert server.times == [0.0, 7.5 if seconds is None else seconds + 5.0]
        (cool_down,) = [event for event in telemetry if isinstance(event, RateLimited)]
        assert cool_down.seconds == (1.5 if seconds is None else seconds)


@pytest.mark.fault("H15")
async def test_two_retry_after_headers_count_as_none():
    """Contradictory headers are ignored by calls and watchers."""
    script = replying(rate_limited("5", "7"), done, rate_limited("5", "7"), done)
    async with RawServer(script) as server, client_of(server) as client:
        await client.retrieve("t")
        async with client.watch(["u"]) as watcher:
            await read_all(watcher)

        assert server.times == [0.0, 1.5, 1.5, 9.0]


# -- size -----------------------------------------------------------------------------------------

MEBIBYTES = {
    "10 MB of headers": 8,
    "one header of 10 MB": 8,
    "endless headers": 8,
    "many trailers": 8,
    "a declared terabyte": 4,
    "an endless body": 4,
    "an endless body in chunks": 4,
    "a bomb of gzip": 4,
    "thousands of gzip members": 4,
    "thousands of empty gzip members": 4,
}
"""Memory that reading an oversized response may take."""


@faults(*MEBIBYTES)
@over_both_sessions
async def test_oversized_response_takes_little_memory(name, session):
    """Client and server together stay small, and the connection is closed."""
    async with (
        RawServer(HTTP[name].script, DONE) as server,
        client_for(server.base_url, session, retry=ONCE) as client,
    ):
        tracemalloc.start()
        raised = await failed(client)
        _size, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert raised.retryable
        assert peak < MEBIBYTES[name] * MEBIBYTE
        assert (await client.retrieve("t")).succeeded
        assert [seen.connection for seen in server.requests] == [0, 1]


@faults("endless headers", "an endless body", "an endless body in chunks")
async def test_endless_response_is_not_read_further(name):
    """The server can send what the client reads, 1 MiB, and what two sockets buffer."""
    script = HTTP[name].script
    before = script.sent
    async with RawServer(script, DONE) as server, client_of(server, retry=ONCE) as client:
        await failed(client)
        await asyncio.sleep(60)

        assert script.sent - before < 32 * MEBIBYTE
        assert server.connections == 1
