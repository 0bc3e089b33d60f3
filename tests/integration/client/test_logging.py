"""Log records of a client: at which level, and when there is none."""

from __future__ import annotations

import logging

import pytest

from ezvideo_async import EzVideoError
from ezvideo_async.testing import FakeVideoServer
from tests.support.fake_transport import FakeTransport, fake_client
from tests.support.raw_server import KEY, client_of


async def test_each_request_is_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """With the status or the error; the API key is in neither."""
    caplog.set_level(logging.DEBUG, "ezvideo_async")
    async with FakeVideoServer() as server, client_of(server) as client:
        task_id = server.add_task()
        await client.retrieve(task_id)
        with pytest.raises(EzVideoError):
            await client.retrieve("vid_none")
    succeeded, failed = [record.getMessage() for record in caplog.records]

    assert succeeded == f"'{task_id}': pending, after 0.000 s"
    assert failed.startswith("'vid_none': HTTP 404: the server has no task with this id")
    assert KEY not in succeeded + failed


async def test_interval_stretched_by_the_budget_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One record at INFO has both intervals."""
    caplog.set_level(logging.INFO, "ezvideo_async")
    async with fake_client(FakeTransport()) as client:
        async with client.watch(f"vid_{number}" for number in range(900)) as watcher:
            watcher.add(*(f"more_{number}" for number in range(100)))

    assert [record.getMessage() for record in caplog.records] == [
        "900 tasks at 100 requests per second: each is polled every 9.0 s instead of 5.0 s"
    ]
