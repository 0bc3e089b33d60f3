"""What ends an id or a watch, and what does not: rows Q, through a watcher or ``wait()``."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from ezvideo_async import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ConfigError,
    PermissionDeniedError,
    PollPolicy,
    StatusChanged,
    TaskCompleted,
    TaskLost,
    TaskNotFoundError,
    TaskStalled,
    TransportError,
    WaitTimeoutError,
)
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client
from tests.support.raw_server import now

if TYPE_CHECKING:
    from ezvideo_async import TaskWatcher
    from tests.support.fake_transport import Reply

STEADY = PollPolicy(jitter=0.0)
HTML = {"content-type": "text/html"}


def refusal(status: int, *, code: str = "no", message: str = "no") -> Reply:
    """Make an error response in the API's shape."""
    return status, {}, json.dumps({"error": {"code": code, "message": message}}).encode()


REDIRECT: Reply = (307, {"location": "https://api.example.test/v1/videos/x"}, b"")
WRONG_ROUTE: Reply = (404, HTML, b"<html>404 page not found</html>")
PAGE: Reply = (200, HTML, b"<html>welcome</html>")
AMBIGUOUS = TaskNotFoundError("HTTP 404", status=404, server_message="Not Found", is_ambiguous=True)
CONNECT = TransportError("connection refused (api.example.test)", reason="connect")


async def finals(watcher: TaskWatcher) -> dict[str, Any]:
    """Read the final events until each id has ended."""
    return {event.task_id: event async for event in watcher if event.is_final}


def kinds(events: dict[str, Any]) -> dict[str, str]:
    """Return the kind of each final event, or the reason of a loss."""
    return {
        task_id: event.reason if isinstance(event, TaskLost) else event.kind
        for task_id, event in events.items()
    }


def set_all(server: FakeTransport, *ids: str, **fields: Any) -> None:
    """Give tasks the same state or fault."""
    for task_id in ids:
        server.tasks[task_id] = FakeTask(**{"status": "processing", **fields})


# -- errors of key and configuration ---------------------------------------------------------------


@pytest.mark.fault("Q1")
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (refusal(401), AuthenticationError),
        (refusal(402), PermissionDeniedError),
        (refusal(403), PermissionDeniedError),
        (REDIRECT, ConfigError),
        (WRONG_ROUTE, ConfigError),
        (refusal(404, message="Invalid URL (GET /videos/a)"), ConfigError),
    ],
    ids=["401", "402", "403", "redirect", "page", "invalid url"],
)
async def test_wrong_configuration_ends_a_new_watch_at_once(fault: Reply, kind: type) -> None:
    """One request shows it, while nothing valid has come."""
    server = FakeTransport()
    set_all(server, "a", "b", fault=fault)
    async with fake_client(server) as client, client.watch(["a", "b"]) as watcher:
        with pytest.raises(kind) as raised:
            await finals(watcher)

        assert raised.value.open_ids == ("a", "b")
        assert server.sends == 1


@pytest.mark.fault("Q2")
@pytest.mark.parametrize(
    ("fault", "kind", "seconds"),
    [(refusal(401), AuthenticationError, 60.0), (REDIRECT, ConfigError, 300.0)],
    ids=["401", "redirect"],
)
async def test_lasting_configuration_error_ends_a_running_watch(
    fault: Reply, kind: type, seconds: float
) -> None:
    """Five in a row, and nothing valid for that long; a shorter one loses no id."""
    ids = [f"vid_{number}" for number in range(20)]
    server = FakeTransport()
    set_all(server, *ids)
    async with fake_client(server) as client, client.watch(ids, policy=STEADY) as watcher:
        reading = asyncio.ensure_future(finals(watcher))
        await asyncio.sleep(10.0)
        server.outage = fault
        await asyncio.sleep(seconds - 1.0)
        server.outage = None
        await asyncio.sleep(70.0)
        assert len(watcher.open_ids) == 20

        began, server.outage = now(), fault
        with pytest.raises(kind) as raised:
            await reading

        assert seconds <= now() - began <= seconds + 70.0
        assert raised.value.open_ids == tuple(ids)


@pytest.mark.fault("Q2")
async def test_valid_response_of_retrieve_counts() -> None:
    """The key was right then: an odd 401 in a watch is a failed poll."""
    server = FakeTransport(a="processing", b="completed")
    async with fake_client(server) as client:
        await client.retrieve("a")
        server.outage = refusal(401)
        async with client.watch(["b"], policy=STEADY) as watcher:
            await asyncio.sleep(1.0)
            server.outage = None

            assert kinds(await finals(watcher)) == {"b": "task_completed"}


@pytest.mark.fault("Q1b")
async def test_nothing_but_ambiguous_404s_is_a_wrong_route_after_the_grace() -> None:
    """``wait`` says so after 10 s instead of an hour of silence."""
    server = FakeTransport()
    set_all(server, "a", fault=AMBIGUOUS)
    async with fake_client(server) as client:
        with pytest.raises(ConfigError, match=r"does base_url end with /v1\?") as raised:
            await client.wait("a", policy=STEADY)

    assert raised.value.reason == "route"
    assert server.request_times() == [0.0, 5.0, 10.0]


@pytest.mark.fault("Q1b")
async def test_ambiguous_404s_of_a_rollout_lose_no_task() -> None:
    """An ingress that answers so for 20 s."""
    ids = [f"vid_{number:03}" for number in range(300)]
    server = FakeTransport()
    set_all(server, *ids)
    async with fake_client(server) as client, client.watch(ids) as watcher:
        reading = asyncio.ensure_future(finals(watcher))
        await asyncio.sleep(10.0)
        server.outage = AMBIGUOUS
        await asyncio.sleep(20.0)
        server.outage = None
        set_all(server, *ids, status="completed")

        assert set(kinds(await reading).values()) == {"task_completed"}


@pytest.mark.fault("Q1c")
async def test_three_first_ids_refused_alike_end_the_watch() -> None:
    """With the server's sentence; of two, each is lost after three polls (Q6)."""
    server = FakeTransport()
    ids = ["a", "b", "c"]
    set_all(server, *ids, fault=refusal(400, code="400", message="No connected db."))
    async with fake_client(server) as client:
        async with client.watch(ids) as watcher:
            with pytest.raises(ConfigError, match=r"No connected db\.") as raised:
                await finals(watcher)
        assert raised.value.reason == "refused"
        assert raised.value.open_ids == ("a", "b", "c")
        assert server.sends == 3
    async with fake_client(server) as client, client.watch(["a", "b"], policy=STEADY) as watcher:
        assert kinds(await finals(watcher)) == {"a": "refused", "b": "refused"}


@pytest.mark.fault("Q3")
@pytest.mark.parametrize(
    ("fault", "got"),
    [(PAGE, "got text/html"), ((200, {}, b"OK"), "got no JSON")],
    ids=["html", "text"],
)
async def test_pages_in_place_of_the_api_end_a_new_watch(
    fault: Reply, got: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After five over half a minute; the first one is a warning at once."""
    server = FakeTransport()
    set_all(server, "a", "b", fault=fault)
    async with fake_client(server) as client, client.watch(["a", "b"]) as watcher:
        reading = asyncio.ensure_future(finals(watcher))
        await asyncio.sleep(0.1)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "check that base_url leads to the API" in caplog.text
        with pytest.raises(ConfigError) as raised:
            await reading

        assert raised.value.reason == "not_the_api"
        assert f"{got} from https://api.example.test/v1/videos/" in str(raised.value)
        assert 30.0 <= now() <= 90.0


@pytest.mark.fault("Q3")
async def test_json_that_is_no_task_is_a_warning_and_a_failed_poll(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may become one."""
    server = FakeTransport()
    set_all(server, "a", fault=(200, {}, b'{"hello": "world"}'))
    async with fake_client(server) as client, client.watch(["a"]) as watcher:
        await asyncio.sleep(3600.0)

        assert watcher.open_ids == ("a",)
        assert caplog.text.count("no valid response from https://api.example.test/v1 yet") == 1


@pytest.mark.fault("Q4")
async def test_maintenance_pages_end_nothing() -> None:
    """For an hour, after a valid response."""
    server = FakeTransport(a="processing")
    async with fake_client(server) as client, client.watch(["a"]) as watcher:
        await anext(watcher)
        server.outage = PAGE
        await asyncio.sleep(3600.0)
        server.outage = None
        server.tasks["a"].status = "completed"

        assert kinds(await finals(watcher)) == {"a": "task_completed"}


# -- one id ----------------------------------------------------------------------------------------


@pytest.mark.fault("Q5", "Q18", "Q18b")
@pytest.mark.parametrize(
    ("fault", "is_first"),
    [
        (REDIRECT, True),
        (WRONG_ROUTE, True),
        (refusal(403), True),
        (refusal(400), True),
        (REDIRECT, False),
        (WRONG_ROUTE, False),
        (refusal(401), False),
        (refusal(403), False),
        (refusal(400), False),
    ],
)
async def test_id_of_one_visitor_ends_no_hub(fault: Reply, *, is_first: bool) -> None:
    """An encoded slash that FastAPI answers by 307: that id is refused, the others complete."""
    server = FakeTransport(good="processing")
    set_all(server, "x/", fault=fault)
    async with fake_client(server) as client, client.watch(policy=STEADY) as hub:
        if not is_first:
            assert not (await _first_state(hub, "good")).is_terminal
        odd = asyncio.ensure_future(hub.wait("x/"))
        await asyncio.sleep(4.0)
        assert not (await _first_state(hub, "good")).is_terminal
        with pytest.raises(
            (ConfigError, AuthenticationError, PermissionDeniedError, BadRequestError)
        ):
            await odd
        server.tasks["good"].status = "completed"

        assert (await hub.wait("good")).succeeded
        assert hub.get("x/").final_event.reason == "refused"  # type: ignore[union-attr]
        assert 10.0 <= now() <= 40.0


async def _first_state(hub: TaskWatcher, task_id: str) -> Any:
    hub.add(task_id)
    async with hub.subscribe(task_id) as events:
        return (await anext(events)).task


@pytest.mark.fault("Q18b")
async def test_odd_path_asked_first_ends_no_watch_made_with_ids() -> None:
    """Only a second distinct id makes it a configuration error."""
    server = FakeTransport(a="completed")
    set_all(server, "x/y", fault=REDIRECT)
    async with fake_client(server) as client, client.watch(["x/y", "a"], policy=STEADY) as watcher:
        assert kinds(await finals(watcher)) == {"a": "task_completed", "x/y": "refused"}
    set_all(server, "a", "x/y", fault=REDIRECT)
    async with fake_client(server) as client, client.watch(["x/y", "a"], policy=STEADY) as watcher:
        with pytest.raises(ConfigError):
            await finals(watcher)


@pytest.mark.fault("Q5")
async def test_seen_id_outlives_a_rolling_deploy() -> None:
    """Half a minute of refusals about one id, while another is answered, lose nothing."""
    server = FakeTransport(a="processing", b="processing")
    async with fake_client(server) as client, client.watch(["a", "b"], policy=STEADY) as watcher:
        reading = asyncio.ensure_future(finals(watcher))
        await asyncio.sleep(6.0)
        server.tasks["a"].fault = refusal(403)
        await asyncio.sleep(50.0)
        server.tasks["a"] = FakeTask("completed")
        await asyncio.sleep(60.0)
        server.tasks["b"].fault = refusal(400)

        assert kinds(await reading) == {"a": "task_completed", "b": "refused"}
        assert now() >= 116.0 + 60.0


@pytest.mark.fault("Q6")
async def test_only_id_is_lost_when_it_is_refused_three_times() -> None:
    """Over at least 10 s; ``wait`` raises the server's refusal."""
    server = FakeTransport()
    set_all(server, "a", fault=refusal(400, message="malformed id"))
    async with fake_client(server) as client:
        with pytest.raises(BadRequestError, match="malformed id"):
            await client.wait("a", policy=STEADY)

    assert server.request_times() == [0.0, 7.5, 20.0]


@pytest.mark.fault("Q7")
@pytest.mark.parametrize(
    "fault",
    [
        BadRequestError("HTTP 400", status=400, retryable=True, body_excerpt="Bad Request"),
        "firewall",
    ],
    ids=["400 without JSON", "403 page"],
)
async def test_refusals_of_a_firewall_are_failed_polls(fault: Any) -> None:
    """For an hour, before any valid response."""
    server = FakeTransport()
    set_all(server, "a", fault=fault)
    async with fake_client(server) as client, client.watch(["a"]) as watcher:
        await asyncio.sleep(3600.0)
        server.tasks["a"] = FakeTask("completed")

        assert kinds(await finals(watcher)) == {"a": "task_completed"}


@pytest.mark.fault("Q8")
async def test_limit_shorter_than_the_grace_says_not_found() -> None:
    """It is no deadline: the server has said that it does not know the id."""
    server = FakeTransport()
    async with fake_client(server) as client:
        with pytest.raises(TaskNotFoundError):
            await client.wait("a", timeout=7.0)
        async with client.watch(["a"], timeout=7.0) as watcher:
            lost = (await finals(watcher))["a"]

        assert (lost.reason, type(lost.error), now()) == ("not_found", TaskNotFoundError, 14.0)
        async with client.watch(["a"], policy=STEADY) as watcher:
            assert kinds(await finals(watcher)) == {"a": "not_found"}
        assert now() == 24.0


@pytest.mark.fault("Q9")
async def test_replicas_without_shared_state_lose_no_task() -> None:
    """The id comes back after "not found": from then on it takes ten minutes."""
    server = FakeTransport(a="processing")
    async with fake_client(server) as client, client.watch(["a"], policy=STEADY) as watcher:
        reading = asyncio.ensure_future(finals(watcher))
        for fault in ("not-found", None, "not-found"):
            await asyncio.sleep(50.0)
            server.tasks["a"].fault = fault
        began = now()
        await asyncio.sleep(590.0)
        assert watcher.open_ids == ("a",)

        assert kinds(await reading) == {"a": "vanished"}
        assert 600.0 <= now() - began <= 670.0


@pytest.mark.fault("Q9", "H10")
async def test_seen_task_that_is_gone_vanishes_at_the_second_410() -> None:
    """Without a minute's wait."""
    server = FakeTransport(a="processing")
    async with fake_client(server) as client, client.watch(["a"], policy=STEADY) as watcher:
        await anext(watcher)
        server.tasks["a"].fault = "gone"

        assert kinds(await finals(watcher)) == {"a": "vanished"}
        assert server.request_times() == [0.0, 5.0, 12.5]


@pytest.mark.fault("Q11")
async def test_body_over_the_limit_loses_the_id_at_the_third_poll() -> None:
    """The error says which option to raise."""
    too_large = BadResponseError("raise max_response_bytes", status=200, reason="too_large")
    server = FakeTransport(a="processing")
    async with fake_client(server) as client, client.watch(["a"], policy=STEADY) as watcher:
        await anext(watcher)
        server.tasks["a"].fault = too_large
        lost = (await finals(watcher))["a"]

        assert (lost.reason, str(lost.error)) == ("too_large", "raise max_response_bytes")
        assert server.request_times() == [0.0, 5.0, 12.5, 25.0]


# -- nobody waits in silence -----------------------------------------------------------------------


@pytest.mark.fault("Q15")
async def test_task_whose_polls_all_fail_is_stalled_once_after_each_change() -> None:
    """The event has the last error, and no task if none was ever seen."""
    policy = PollPolicy(jitter=0.0, stalled_after=60.0)
    server = FakeTransport(a="processing")
    server.outage = "503"
    async with fake_client(server) as client, client.watch(["a"], policy=policy) as watcher:
        unseen = await anext(watcher)
        assert isinstance(unseen, TaskStalled)
        assert (unseen.task, type(unseen.error).__name__) == (None, "ServerError")
        assert 60.0 <= now() <= 130.0
        server.outage = None
        assert isinstance(await anext(watcher), StatusChanged)
        changed, server.outage = now(), "garbage"

        stalled = await anext(watcher)
        assert isinstance(stalled, TaskStalled)
        assert isinstance(stalled.error, BadResponseError)
        assert stalled.task is not None
        assert stalled.at - stalled.since == now() - changed >= 60.0
        await asyncio.sleep(600.0)
        assert watcher.stats.unread == 0
        server.outage = None
        server.tasks["a"].status = "completed"
        assert isinstance(await anext(watcher), TaskCompleted)


@pytest.mark.fault("Q16")
async def test_first_failure_before_any_response_is_a_warning_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once, with what to check; after a valid response an outage is none."""
    server = FakeTransport(a="processing")
    server.outage = CONNECT
    async with fake_client(server) as client, client.watch(["a"]) as watcher:
        await asyncio.sleep(0.1)
        (warning,) = caplog.records
        assert warning.levelno == logging.WARNING
        assert warning.getMessage() == (
            "no valid response from https://api.example.test/v1 yet, and polling continues: "
            "task 'a': connection refused (api.example.test); "
            "check base_url, the network and the proxy"
        )
        await asyncio.sleep(60.0)
        server.outage = None
        await anext(watcher)
        server.outage = PAGE
        await asyncio.sleep(60.0)

        assert sum("no valid response" in record.message for record in caplog.records) == 1


@pytest.mark.fault("Q16")
@pytest.mark.parametrize("is_seen", [False, True])
async def test_end_of_a_wait_names_and_chains_its_last_error(*, is_seen: bool) -> None:
    """The task may still be billed only if it was ever seen."""
    server = FakeTransport(a="processing")
    async with fake_client(server) as client, client.watch(["a"], timeout=30.0) as watcher:
        if is_seen:
            await anext(watcher)
        server.outage = CONNECT
        lost = (await finals(watcher))["a"] if is_seen else None
        with pytest.raises(WaitTimeoutError) as raised:
            await client.wait("a", timeout=30.0)

    for error in [raised.value, *([lost.error] if lost else [])]:
        assert "(last error: connection refused (api.example.test))" in str(error)
        assert isinstance(error.__cause__, TransportError)
        assert error.__cause__ is error.last_error
    assert "billed" not in str(raised.value)
    if lost is not None:
        assert lost.reason == "deadline"
        assert "it may still complete and be billed" in str(lost.error)


@pytest.mark.fault("Q17")
async def test_stats_show_an_outage_and_its_end() -> None:
    """In Unix seconds; ``last_error`` is None while polls succeed."""
    server = FakeTransport(a="processing")
    async with fake_client(server) as client:
        watcher = client.watch(["a"], policy=STEADY)
        assert (watcher.stats.last_response_at, watcher.stats.last_error) == (None, None)
        async with watcher:
            added = (await anext(watcher)) and watcher.get("a").added_at  # type: ignore[union-attr]
            await asyncio.sleep(3.0)
            assert watcher.stats.last_response_at == added
            assert (watcher.stats.failing_since, watcher.stats.last_error) == (None, None)
            server.outage = "503"
            await asyncio.sleep(20.0)
            stats = watcher.stats
            assert (stats.last_response_at, stats.failing_since) == (added, added + 5.0)
            assert type(stats.last_error).__name__ == "ServerError"
            server.outage = None
            await asyncio.sleep(60.0)
            assert (watcher.stats.failing_since, watcher.stats.last_error) == (None, None)
