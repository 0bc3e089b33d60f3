"""Ids on the wire, and answers that are about somebody else."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import unquote

import aiohttp
import pytest
from hypothesis import given, settings, strategies as st

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
    running,
    task,
)

ONCE = RetryPolicy(attempts=1)


def evil(status: str = "completed") -> bytes:
    """An answer about a task that nobody asked for."""
    return response(task("EVIL", status))


# -- ids ------------------------------------------------------------------------------------------


async def _arrives(task_id: str) -> None:
    async with RawServer(DONE) as server, client_of(server) as client:
        found = await client.retrieve(task_id)
        target = server.requests[0].target

        assert found.id == task_id
        assert target.isascii()
        assert target.count("/") == 3
        assert target.startswith("/v1/videos/")
        assert not {"?", "#", " ", "+"} & set(target)
        assert unquote(target.removeprefix("/v1/videos/"), errors="strict") == task_id


@pytest.mark.fault("C2", "X9")
@pytest.mark.parametrize(
    "task_id",
    [
        *["a/b", "a?b", "a#b", "a%2Fb", "%", "a+b", "a b", "\u89c6\u9891", "\U0001f3ac", "..."],
        *["../x", "a;b=c", "a\\b", "~", "@:$&'()*,!", "\u202e", "x" * 512],
    ],
)
async def test_every_legal_id_arrives_as_one_segment(task_id: str) -> None:
    """Whatever an id holds, it is one path segment, and decodes to itself."""
    await _arrives(task_id)


def _is_legal(text: str) -> bool:
    try:
        validate_task_id(text)
    except InvalidTaskIdError:
        return False
    return True


@pytest.mark.fault("C2", "X9")
@settings(max_examples=60)
@given(st.text(st.characters(), min_size=1, max_size=40).filter(_is_legal))
async def test_any_legal_id_arrives_as_one_segment(task_id: str) -> None:
    """As above, for ids of any characters."""
    await _arrives(task_id)


# -- answers about somebody else ------------------------------------------------------------------


@pytest.mark.fault("N17", "S7", "X24")
@pytest.mark.parametrize("is_borrowed", [False, True])
async def test_a_stray_answer_is_never_taken_for_ours(
    caplog: pytest.LogCaptureFixture, *, is_borrowed: bool
) -> None:
    """Somebody else's answer on a kept connection: it is closed, and the task asked for anew."""
    script = [READ, done, READ, evil(), STALL]
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
        assert now() == 0.0
    assert "EVIL" in caplog.text


@pytest.mark.fault("S7", "X24")
async def test_the_same_stray_answer_on_many_connections_is_no_name() -> None:
    """Asking again uses no pooled connection: two equal strays must not become an alias."""
    script = [READ, 1.0, done, READ, evil(), STALL]
    async with RawServer(*[script] * 3, DONE) as server, client_of(server, retry=ONCE) as client:
        await asyncio.gather(*(client.retrieve(name) for name in "abc"))
        found = await client.retrieve("d")

        assert "EVIL" not in str(found.raw)
        assert server.requests[-1].connection == 3
        assert client._exchange._aliases == {}


@pytest.mark.fault("S8")
async def test_a_server_with_its_own_name_for_a_task_is_believed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same foreign id on a fresh connection is an alias: said once, then asked for singly."""

    def renamed(seen: Any) -> bytes:
        return response(task(f"video_{seen.task_id}", "processing"))

    async with RawServer(replying(*[renamed] * 9)) as server, client_of(server) as client:
        for _call in range(3):
            assert (await client.retrieve("t")).id == "t"

        assert len(server.requests) == 1 + 3
        assert client.requests_sent == 4
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "'video_t' for the server's name of 't'" in caplog.text


async def test_an_alias_is_forgotten_with_its_task() -> None:
    """Names of ended tasks are not kept."""

    def renamed(seen: Any) -> bytes:
        return response(task("other"))

    async with RawServer(replying(*[renamed] * 9)) as server, client_of(server) as client:
        await client.retrieve("t")

        assert client._exchange._aliases == {}
        assert len(server.requests) == 2


@pytest.mark.fault("S7")
async def test_ever_new_foreign_ids_are_a_bad_answer() -> None:
    """A server that answers about anybody gives an error, each try asking twice."""
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
async def test_connections_with_foreign_answers_are_closed() -> None:
    """Neither the first nor the second connection that spoke of somebody else is used again."""

    def foreign(seen: Any) -> bytes:
        return response(task(f"x{seen.connection}"))

    script = replying(foreign, done)
    async with RawServer(script, script, DONE) as server, client_of(server, retry=ONCE) as client:
        with pytest.raises(BadResponseError):
            await client.retrieve("t")
        await client.retrieve("t")

        assert [seen.connection for seen in server.requests] == [0, 1, 2]


async def test_trouble_when_asking_again_is_the_answer() -> None:
    """A foreign answer and then a broken connection: the second is what is told."""
    async with (
        RawServer(replying(evil()), [READ, CLOSE]) as server,
        client_of(server, retry=ONCE) as client,
    ):
        with pytest.raises(TransportError) as raised:
            await client.retrieve("t")

        assert raised.value.reason == "disconnected"
        assert len(server.requests) == 2


async def test_an_answer_to_the_right_task_the_second_time_is_no_alias() -> None:
    """After a stray answer the right one is given, and no name is remembered."""
    async with RawServer(replying(evil(), running), DONE) as server, client_of(server) as client:
        assert (await client.retrieve("t")).succeeded
        assert client._exchange._aliases == {}
        assert len(server.requests) == 2


@pytest.mark.fault("S6")
async def test_unknown_words_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A status that nobody knows is taken for alive, and said once per word."""
    replies = [response(task("t", word)) for word in ("musing", "musing", "dreaming")]
    async with RawServer(replying(*replies)) as server, client_of(server) as client:
        words = [(await client.retrieve("t")).status for _reply in replies]

    assert words == ["processing"] * 3
    assert [record.args[0] for record in caplog.records] == ["musing", "dreaming"]  # type: ignore[index]


async def test_a_server_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """After a thousand unknown words no further one is said."""
    replies = [response(task("t", f"word {number}")) for number in range(1005)]
    async with RawServer(replying(*replies)) as server, client_of(server) as client:
        for _reply in replies:
            await client.retrieve("t")

    assert len(caplog.records) == 1000


@pytest.mark.fault("H7")
async def test_a_route_that_has_answered_is_being_deployed() -> None:
    """A missing route is a wrong base url at first, and passing trouble once it has worked."""
    missing = response(b"<html>", "Content-Type: text/html", status="404 No")
    async with (
        RawServer(replying(missing, done, missing, done)) as server,
        client_of(server) as client,
    ):
        with pytest.raises(ValueError, match="does base_url end with /v1"):
            await client.retrieve("t")
        await client.retrieve("t")
        await client.retrieve("t")

        assert len(server.requests) == 4
