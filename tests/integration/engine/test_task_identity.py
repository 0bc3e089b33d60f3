"""Identity of a task: its id in the url, and responses that are about another task."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import unquote

import aiohttp
import pytest
from hypothesis import example, given, settings, strategies as st

from ezvideo_async import RetryPolicy
from ezvideo_async._domain.validation import validate_task_id
from ezvideo_async.errors import BadResponseError, InvalidTaskIdError, TransportError
from ezvideo_async.testing import FakeVideoServer
from tests.support.raw_server import (
    CLOSE,
    DONE,
    READ,
    STALL,
    RawServer,
    client_of,
    done,
    now,
    replying,
    response,
    task,
)

ONCE = RetryPolicy(attempts=1)
STRAY = response(task("EVIL"))
"""A response about a task that nobody requested."""


def renamed(seen: Any) -> bytes:
    """Respond with an id of the server's own."""
    return response(task(f"video_{seen.task_id}", "processing"))


# -- ids ------------------------------------------------------------------------------------------


def _is_valid(text: str) -> bool:
    try:
        validate_task_id(text)
    except InvalidTaskIdError:
        return False
    return True


@pytest.mark.fault("C2", "X9")
@settings(max_examples=60)
@given(st.text(st.characters(), min_size=1, max_size=40).filter(_is_valid))
@example("../a/b?c#d%2F+ ;=\\:$&'()*,!")
@example("...")
@example("\u89c6\u9891\U0001f3ac\u202e")
@example("x" * 2_048)
async def test_valid_id_is_one_path_segment(task_id: str) -> None:
    """Any id is percent-encoded, and decodes to itself."""
    async with RawServer(DONE) as server, client_of(server) as client:
        found = await client.retrieve(task_id)
        target = server.requests[0].target

        assert found.id == task_id
        assert target.isascii()
        assert target.count("/") == 3
        assert not {"?", "#", " ", "+"} & set(target)
        assert unquote(target.removeprefix("/v1/videos/"), errors="strict") == task_id


# -- responses about another task -----------------------------------------------------------------


@pytest.mark.fault("N17", "S7", "X24")
@pytest.mark.parametrize("is_borrowed", [False, True])
async def test_stray_response_is_not_used(
    caplog: pytest.LogCaptureFixture, *, is_borrowed: bool
) -> None:
    """Its connection is closed, and the request sent again on a fresh one."""
    script = [READ, done, READ, STRAY, STALL]
    async with (
        RawServer(script, DONE) as server,
        aiohttp.ClientSession() as session,
        client_of(server, retry=ONCE, session=session if is_borrowed else None) as client,
    ):
        await client.retrieve("a")
        found = await client.retrieve("b")

        assert found.id == "b"
        assert "EVIL" not in str(found.raw)
        assert [seen.connection for seen in server.requests] == [0, 0, 1]
        assert not client._engine.aliases.known
        assert now() == 0.0
    assert "EVIL" in caplog.text


@pytest.mark.fault("S7", "X24")
async def test_equal_stray_responses_on_pooled_connections_are_no_alias() -> None:
    """The second request uses no pooled connection."""
    script = [READ, 1.0, done, READ, STRAY, STALL]
    async with RawServer(*[script] * 3, DONE) as server, client_of(server, retry=ONCE) as client:
        await asyncio.gather(*(client.retrieve(name) for name in "abc"))
        found = await client.retrieve("d")

        assert "EVIL" not in str(found.raw)
        assert server.requests[-1].connection == 3
        assert not client._engine.aliases.known


@pytest.mark.fault("S8")
async def test_same_foreign_id_twice_is_an_alias(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and later responses with it need no second request."""
    async with RawServer(replying(*[renamed] * 9)) as server, client_of(server) as client:
        for _call in range(3):
            assert (await client.retrieve("t")).id == "t"

        assert client.requests_sent == len(server.requests) == 1 + 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "server answers with id 'video_t' for task 't'; accepting it" in caplog.text


@pytest.mark.fault("Q12")
@pytest.mark.parametrize("how", ["retrieve", "watch"])
async def test_one_response_for_all_tasks_completes_none_of_them(how: str) -> None:
    """A cache that gives everybody the response of one task completes that one only."""
    ids = [f"t{number}" for number in range(30)]
    cached = response(task("t7", url="https://cdn.test/7.mp4"))
    async with (
        RawServer(replying(*[cached] * 999)) as server,
        client_of(server, retry=ONCE) as client,
    ):
        if how == "retrieve":
            calls = (client.retrieve(task_id) for task_id in ids)
            found = await asyncio.gather(*calls, return_exceptions=True)
            done_ids = [each.id for each in found if not isinstance(each, BaseException)]
            errors = [each for each in found if isinstance(each, BaseException)]
            assert all(getattr(each, "received_id", None) == "t7" for each in errors)
        else:
            async with client.watch(ids, timeout=30.0) as watcher:
                events = [event async for event in watcher if event.is_final]
            done_ids = [event.task_id for event in events if event.kind == "task_completed"]

        assert done_ids == ["t7"]
        assert not client._engine.aliases.known


@pytest.mark.fault("Q12")
async def test_foreign_id_of_two_tasks_is_nobodys() -> None:
    """An id that nobody asked for, shown for two tasks one after another, is no alias of both."""
    reply = response(task("somebody", "processing"))
    async with (
        RawServer(replying(*[reply] * 99)) as server,
        client_of(server, retry=ONCE) as client,
    ):
        assert (await client.retrieve("a")).id == "a"
        for task_id in ("b", "a", "b"):
            with pytest.raises(BadResponseError) as raised:
                await client.retrieve(task_id)
            assert raised.value.received_id == "somebody"
        assert not client._engine.aliases.known


@pytest.mark.fault("Q12")
async def test_stray_response_with_an_alias_takes_it_from_nobody() -> None:
    """On a used connection it can be a response that came twice."""
    renamed_a = response(task("video_a", "processing"))
    twice = [READ, renamed_a, READ, renamed_a, STALL]
    async with (
        RawServer(replying(renamed_a), twice, replying(*[renamed] * 9)) as server,
        client_of(server) as client,
    ):
        await client.retrieve("a")
        assert (await client.retrieve("b")).id == "b"
        assert client._engine.aliases.of("a") == ("video_a",)
        assert client._engine.aliases.of("b") == ("video_b",)


@pytest.mark.fault("Q12")
async def test_task_of_several_deployments_has_several_aliases() -> None:
    """Eight names are remembered; a request is repeated once for each."""
    names = [f"video_{number}" for number in range(8)]
    shown = iter([*(name for name in names for _send in range(2)), *names])

    def rotating(_seen: Any) -> bytes:
        return response(task(next(shown), "processing"))

    async with RawServer(replying(*[rotating] * 99)) as server, client_of(server) as client:
        for _call in range(16):
            assert (await client.retrieve("t")).id == "t"

        assert client.requests_sent == 16 + 8
        assert client._engine.aliases.of("t") == tuple(names)


@pytest.mark.fault("Q19")
async def test_aliases_of_discarded_ids_are_forgotten() -> None:
    """Likewise when the watch ends."""
    async with RawServer(replying(*[renamed] * 99)) as server, client_of(server) as client:
        async with client.watch(["a", "b", "c"], timeout=60.0) as watcher:
            await anext(watcher)
            await asyncio.sleep(10.0)
            assert client._engine.aliases.of("b") == ("video_b",)
            watcher.discard("b")
            assert client._engine.aliases.of("b") == ()
            assert client._engine.aliases.of("a") == ("video_a",)
        assert not client._engine.aliases.known


async def test_alias_is_forgotten_when_its_task_finishes() -> None:
    """Aliases of finished tasks are not kept."""
    finished = response(task("video_t"))
    async with RawServer(replying(renamed), replying(renamed, finished)) as server:
        async with client_of(server) as client:
            await client.retrieve("t")
            assert client._engine.aliases.of("t") == ("video_t",)
            assert (await client.retrieve("t")).succeeded
            assert not client._engine.aliases.known
            assert len(server.requests) == 3


@pytest.mark.fault("S7")
async def test_changing_foreign_ids_are_a_bad_response() -> None:
    """Each attempt sends two requests."""
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task(duration=60.0)
        server.fault("wrong-id")
        with pytest.raises(BadResponseError) as raised:
            await client.retrieve(task_id)

        assert (raised.value.reason, raised.value.retryable) == ("id_mismatch", True)
        assert raised.value.received_id is not None
        assert [record.at for record in server.requests()] == [0.0, 0.0, 0.25, 0.25, 0.75, 0.75]
        assert client.requests_sent == 6


@pytest.mark.fault("S7", "X24")
async def test_connections_with_foreign_responses_are_closed() -> None:
    """Neither the first nor the second one is used again."""

    def foreign(seen: Any) -> bytes:
        return response(task(f"x{seen.connection}"))

    script = replying(foreign, done)
    async with RawServer(script, script, DONE) as server, client_of(server, retry=ONCE) as client:
        with pytest.raises(BadResponseError):
            await client.retrieve("t")
        await client.retrieve("t")

        assert [seen.connection for seen in server.requests] == [0, 1, 2]


async def test_failure_of_the_second_request_is_raised() -> None:
    """After a foreign response, a broken connection is the error of the attempt."""
    async with (
        RawServer(replying(STRAY), [READ, CLOSE]) as server,
        client_of(server, retry=ONCE) as client,
    ):
        with pytest.raises(TransportError) as raised:
            await client.retrieve("t")

        assert raised.value.reason == "disconnected"
        assert len(server.requests) == 2


# -- status values and the route ------------------------------------------------------------------


@pytest.mark.fault("S6")
async def test_unknown_status_values_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """They are treated as processing; a server cannot fill the log with 1,000 of them."""
    values = ["musing", "musing", *(f"value {number}" for number in range(1005))]
    replies = [response(task("t", value)) for value in values]
    async with RawServer(replying(*replies)) as server, client_of(server) as client:
        for _reply in replies:
            assert (await client.retrieve("t")).status == "processing"

    assert len(caplog.records) == 1000
    assert caplog.messages[0] == "unknown status 'musing' for task 't'; treating it as processing"
    assert caplog.messages[1].startswith("unknown status 'value 0'")


@pytest.mark.fault("Q19")
async def test_long_unknown_status_values_are_kept_short() -> None:
    """Two that begin with the same 200 characters are logged once."""
    replies = [response(task("t", "x" * 100_000 + str(number))) for number in range(3)]
    async with RawServer(replying(*replies)) as server, client_of(server) as client:
        for _reply in replies:
            await client.retrieve("t")

        assert client._engine.requester._logged == {"x" * 200}


@pytest.mark.fault("H7")
async def test_missing_route_is_transient_once_it_has_worked() -> None:
    """Before that it is an error of the base url."""
    missing = response(b"<html>", "Content-Type: text/html", status="404 No")
    async with (
        RawServer(replying(missing, done, missing, done)) as server,
        client_of(server) as client,
    ):
        with pytest.raises(ValueError, match="base_url"):
            await client.retrieve("t")
        await client.retrieve("t")
        await client.retrieve("t")

        assert len(server.requests) == 4
