"""What the client writes to the log, and when it is silent."""

from __future__ import annotations

import logging

import pytest

from ezvideo_async import AsyncVideoClient, EzVideoError
from ezvideo_async.testing import FakeVideoServer

KEY = "canary-0123456789"


async def test_each_request_is_a_line_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """An answer is logged with its status, a failure with its error, and the key with neither."""
    caplog.set_level(logging.DEBUG, "ezvideo_async")
    async with (
        FakeVideoServer() as server,
        AsyncVideoClient(KEY, base_url=server.base_url) as client,
    ):
        task_id = server.add_task()
        await client.retrieve(task_id)
        with pytest.raises(EzVideoError):
            await client.retrieve("vid_none")
    answered, failed = [record.getMessage() for record in caplog.records]

    assert answered == f"'{task_id}': pending, after 0.000 s"
    assert failed.startswith("'vid_none': HTTP 404: the server knows no task of this id")
    assert KEY not in answered + failed


async def test_the_happy_path_is_silent_above_debug(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged at INFO or above while all is well."""
    caplog.set_level(logging.INFO, "ezvideo_async")
    async with (
        FakeVideoServer() as server,
        AsyncVideoClient(KEY, base_url=server.base_url) as client,
    ):
        await client.wait(server.add_task())

    assert caplog.records == []


@pytest.mark.fault("X7")
async def test_a_key_sent_in_clear_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Plain http to another machine is one warning, at the door."""
    async with AsyncVideoClient(KEY, base_url="http://gateway.example.test:3000/v1"):
        pass

    assert [record.getMessage() for record in caplog.records] == [
        "the key goes to http://gateway.example.test:3000/v1 in clear: use https if it can"
    ]
