"""Fuzz of HTTP streams: each call of the real client ends in time, with its task or our error."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json

import aiohttp
from hypothesis import given, strategies as st

from ezvideo_async import EzVideoError, RequestBudget, RetryPolicy
from ezvideo_async._limits.budget import rate_limiter_of
from ezvideo_async._protocol.dialects import ID_FIELDS
from ezvideo_async.testing import VirtualClockLoop
from tests.long.fuzz.http_streams import FOREIGN, streams
from tests.support.raw_server import DONE, KEY, RawServer, client_of

TIMEOUT = 15.0  # seconds, the client's request timeout
EPSILON = 1e-6  # seconds: sums of floats
REASONS = {"connect", "disconnected", "protocol", "payload", "timeout"}
OTHER_ERRORS = {"ClosedError", "NotOpenError", "TLSError", "InvalidTaskIdError"}

connections = st.lists(st.lists(streams, min_size=1, max_size=2), min_size=1, max_size=3)
"""The streams of each connection, in order; on later connections every task is completed."""


@given(connections=connections, is_borrowed=st.booleans())
def test_any_stream_ends_each_call_in_time(connections, is_borrowed):
    """Calls give the requested task or our error, and a valid response is understood later."""
    unhandled = []
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        runner.run(converse(connections, is_borrowed=is_borrowed))
        gc.collect(0)

    assert unhandled == []


async def converse(connections, *, is_borrowed):
    scripts = [[step for stream in each for step in stream.steps()] for each in connections]
    async with contextlib.AsyncExitStack() as stack:
        session = None
        if is_borrowed:
            session = await stack.enter_async_context(aiohttp.ClientSession())
        server = await stack.enter_async_context(RawServer(*scripts, DONE))
        client = client_of(
            server,
            request_timeout=TIMEOUT,
            retry=RetryPolicy(attempts=1),
            budget=RequestBudget(rate=1_000_000.0),
            session=session,
        )
        async with client:
            planned = sum(map(len, connections))
            outcomes = [await retrieve(client, f"task-{call}") for call in range(planned)]
            while outcomes[-1] != "task":  # what is left of the scripts, and stray bytes
                assert len(outcomes) <= 3 * planned + 3
                outcomes.append(await retrieve(client, f"task-{len(outcomes)}"))
            assert client.budget.in_flight == 0
        assert session is None or not session.closed
        seen = len(server.requests)
        # A request on a connection that the server has left is sent and never read.
        assert seen <= client.requests_sent <= seen + server.connections
        assert all(each.target.startswith("/v1/videos/task-") for each in server.requests)


async def retrieve(client, task_id):
    loop = asyncio.get_running_loop()
    await asyncio.sleep(rate_limiter_of(client.budget).cool_down_left(loop.time()))
    started, sent = loop.time(), client.requests_sent
    outcome = "task"
    try:
        task = await client.retrieve(task_id)
    except EzVideoError as error:
        outcome = type(error).__name__
        reason = getattr(error, "reason", None)
        assert outcome != "TransportError" or reason in REASONS
        assert outcome != "RequestTimeoutError" or reason == "timeout"
        assert outcome not in OTHER_ERRORS
        assert error.task_id == task_id
        assert str(error).isprintable()
        assert KEY not in f"{error!r}{vars(error)!r}"
    else:
        assert task.id == task_id
        ids = [task.raw.get(name) for name in ID_FIELDS]
        assert FOREIGN not in json.dumps(ids) or client.requests_sent - sent > 1  # an alias
        assert KEY not in f"{task!r}{task.to_dict()!r}"
    sends = client.requests_sent - sent
    assert 1 <= sends <= 4
    # Half a second more: the budget may delay the first request.
    assert loop.time() - started <= TIMEOUT * sends + 0.5 + EPSILON
    return outcome
