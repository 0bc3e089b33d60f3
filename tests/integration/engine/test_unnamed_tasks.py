"""Responses that name no task: final states on used connections, urls alone, stray bytes."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from ezvideo_async import RequestBudget, VideoTask
from ezvideo_async._protocol.requests import retrieve_request
from ezvideo_async.errors import BadResponseError, EzVideoError
from tests.support.raw_server import (
    READ,
    STALL,
    RawServer,
    Script,
    Seen,
    client_of,
    replying,
    response,
)

if TYPE_CHECKING:
    from ezvideo_async import AsyncVideoClient
    from ezvideo_async._protocol.messages import Evidence, Response

URL = "https://cdn.test/v.mp4"
RUNNING = response({"status": "processing"})
DONE = response({"status": "completed", "url": URL})
URL_ONLY = response({"url": URL})
OTHER_URL = response({"url": "https://cdn.test/other.mp4"})

over_both_backends = pytest.mark.parametrize("is_borrowed", [False, True], ids=["own", "borrowed"])


async def ask(client: AsyncVideoClient, *, poll: bool) -> Any:
    """Send one request, as a poll or as a single call; return what is found."""
    engine = client._engine
    engine.bind()
    await engine.admission.admit_call("t", deadline=inf, cool_down_max=60.0)

    def read(response: Response, evidence: Evidence) -> VideoTask | EzVideoError:
        return engine.requester.decode(response, "t", evidence)

    return await engine.requester.request(retrieve_request(engine.route, "t"), read, poll=poll)


@pytest.mark.fault("Q13")
@over_both_backends
@pytest.mark.parametrize("poll", [False, True])
async def test_final_state_on_a_used_connection_is_asked_for_again(
    *, poll: bool, is_borrowed: bool
) -> None:
    """The fresh connection decides; the used one is closed."""
    async with (
        RawServer([*replying(RUNNING, DONE), STALL], replying(RUNNING, RUNNING)) as server,
        aiohttp.ClientSession() as session,
        client_of(server, session=session if is_borrowed else None) as client,
    ):
        states = [(await ask(client, poll=poll)).status for _call in range(3)]

        assert states == ["processing"] * 3
        assert [seen.connection for seen in server.requests] == [0, 0, 1, 1]


@pytest.mark.fault("Q13")
@over_both_backends
async def test_final_state_on_a_fresh_connection_is_believed(*, is_borrowed: bool) -> None:
    """Nobody else's response can come on it."""
    async with (
        RawServer(replying(DONE)) as server,
        aiohttp.ClientSession() as session,
        client_of(server, session=session if is_borrowed else None) as client,
    ):
        assert (await ask(client, poll=True)).succeeded
        assert len(server.requests) == 1


@pytest.mark.fault("Q13")
async def test_single_call_asks_again_for_a_url_alone() -> None:
    """At once, on a fresh connection; it believes the same url."""
    async with RawServer(replying(URL_ONLY)) as server, client_of(server) as client:
        found = await ask(client, poll=False)

        assert (found.status, found.url) == ("completed", URL)
        assert [seen.connection for seen in server.requests] == [0, 1]


@pytest.mark.fault("Q13")
async def test_single_call_does_not_believe_another_url() -> None:
    """Two different urls are a bad response."""
    async with RawServer(replying(URL_ONLY), replying(OTHER_URL)) as server:
        async with client_of(server) as client:
            found = await ask(client, poll=False)

            assert isinstance(found, BadResponseError)
            assert len(server.requests) == 2


@pytest.mark.fault("Q13")
async def test_next_poll_believes_the_same_url() -> None:
    """A url alone is a failed poll, and the next one goes on a fresh connection."""
    scripts: list[Script] = [replying(RUNNING, URL_ONLY), replying(URL_ONLY), replying(RUNNING)]
    async with RawServer(*scripts) as server, client_of(server) as client:
        await ask(client, poll=True)
        failed = await ask(client, poll=True)
        found = await ask(client, poll=True)

        assert isinstance(failed, BadResponseError)
        assert (found.status, found.url) == ("completed", URL)
        assert [seen.connection for seen in server.requests] == [0, 0, 1]
        assert not client._engine.requester._unconfirmed_urls


@pytest.mark.fault("Q13")
async def test_next_poll_with_another_state_forgets_the_url() -> None:
    """Another url is remembered in its place; any other state is what it is."""
    async with RawServer(
        replying(URL_ONLY), replying(OTHER_URL), replying(RUNNING, URL_ONLY), replying(URL_ONLY)
    ) as server:
        async with client_of(server) as client:
            kinds = [type(await ask(client, poll=True)) for _poll in range(5)]

        assert kinds == [
            BadResponseError, BadResponseError, VideoTask, BadResponseError, VideoTask
        ]  # fmt: skip


@pytest.mark.fault("Q13")
async def test_failed_poll_keeps_the_url() -> None:
    """Without a response nothing is known, so the poll after it decides."""
    async with RawServer(replying(URL_ONLY), [READ], replying(URL_ONLY)) as server:
        async with client_of(server) as client:
            for _poll in range(2):
                assert isinstance(await ask(client, poll=True), EzVideoError)

            assert (await ask(client, poll=True)).url == URL


@pytest.mark.fault("Q14")
@over_both_backends
@pytest.mark.parametrize("delay", [None, 0.0, 0.001])
async def test_response_that_comes_twice_completes_no_other_task(
    delay: float | None, *, is_borrowed: bool
) -> None:
    """Together with the first, one iteration later, or while the connection is idle."""
    twice = [DONE + DONE] if delay is None else [DONE, delay, DONE]
    async with (
        RawServer([READ, *twice, STALL], replying(RUNNING, RUNNING)) as server,
        aiohttp.ClientSession() as session,
        client_of(server, session=session if is_borrowed else None) as client,
    ):
        assert (await ask(client, poll=True)).succeeded
        if delay is not None:
            await asyncio.sleep(2 * delay)
        found = await ask(client, poll=True)

        assert found.status == "processing"
        assert server.requests[-1].connection == 1


@pytest.mark.fault("Q14")
async def test_connection_with_the_beginning_of_another_response_is_closed() -> None:
    """Its end would be read as that of the next response."""
    beginning = DONE[: len(DONE) // 3]
    async with RawServer([READ, RUNNING + beginning, STALL], replying(RUNNING)) as server:
        async with client_of(server) as client:
            for _poll in range(2):
                assert (await ask(client, poll=True)).status == "processing"

            assert [request.connection for request in server.requests] == [0, 1]


@pytest.mark.fault("Q13", "Q14")
async def test_gateway_that_responds_twice_completes_only_what_is_completed() -> None:
    """Every seventh response comes twice, the second one later, and no response has an id."""
    ids = [f"v{number}" for number in range(12)]
    completed = {"v7"}
    polls = 0

    def reply(seen: Seen) -> bytes:
        nonlocal polls
        polls += 1
        url = f"https://cdn.test/{seen.task_id}.mp4"
        is_done = seen.task_id in completed or polls > 200
        whole = response({"status": "completed", "url": url} if is_done else {"status": "pending"})
        return whole * 2 if polls % 7 == 0 else whole

    async with (
        RawServer(replying(*[reply] * 999)) as server,
        client_of(server, budget=RequestBudget(max_in_flight=2)) as client,
        client.watch(ids) as watcher,
    ):
        finals = {event.task_id: event async for event in watcher if event.is_final}

        assert {event.kind for event in finals.values()} == {"task_completed"}
        assert {name: event.task and event.task.url for name, event in finals.items()} == {
            name: f"https://cdn.test/{name}.mp4" for name in ids
        }
