"""Fake server: tasks over time, dialects, faults, the request log, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest
from yarl import URL

from ezvideo_async.testing import FakeVideoServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EPOCH = 1_767_225_600
UNSUCCESSFUL = ("cancelled", "expired", "failed")


class Response(NamedTuple):
    """A response with its whole body."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Send = Callable[..., Awaitable[Response]]


@pytest.fixture
async def server() -> AsyncIterator[FakeVideoServer]:
    """A fake server with a known wall-clock time."""
    async with FakeVideoServer(epoch=EPOCH) as server:
        yield server


@pytest.fixture
async def send() -> AsyncIterator[Send]:
    """A function that sends one request on a fresh connection."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send_request(
            server: FakeVideoServer, path: str, method: str = "GET", **options: Any
        ) -> Response:
            url = URL(f"{server.base_url}{path}", encoded=True)
            options.setdefault("allow_redirects", False)
            async with session.request(method, url, **options) as response:
                return Response(response.status, response.headers, await response.read())

        yield send_request


async def poll_at(server: FakeVideoServer, send: Send, task_id: str, *instants: float) -> list[Any]:
    """Return the bodies of polls at some instants."""
    bodies = []
    for instant in instants:
        await asyncio.sleep(instant - asyncio.get_running_loop().time())
        bodies.append((await send(server, f"/videos/{task_id}")).json)
    return bodies


# --- tasks over time -----------------------------------------------------------------------------


async def test_task_is_queued_then_runs_then_completes(server: FakeVideoServer, send: Send) -> None:
    """A task is queued for a tenth of its duration and completes at its end."""
    task_id = server.add_task(duration=60.0)
    queued, running, late, completed = await poll_at(server, send, task_id, 5.9, 6.0, 59.9, 60.0)

    assert (queued["status"], queued["progress"]) == ("pending", 0)
    assert (running["status"], running["progress"]) == ("processing", 10)
    assert (late["status"], late["progress"]) == ("processing", 99)
    assert completed == {
        "id": "vid_000001",
        "object": "video",
        "model": "sora-1.0",
        "status": "completed",
        "progress": 100,
        "created_at": EPOCH,
        "completed_at": EPOCH + 60,
        "expires_at": EPOCH + 60 + 86_400,
        "seconds": "10.0",
        "size": "1920x1080",
        "metadata": {"fps": 30, "seed": 1},
        "url": "https://storage.example.test/videos/vid_000001.mp4",
    }


@pytest.mark.parametrize("outcome", UNSUCCESSFUL)
async def test_task_without_a_video_shows_its_outcome(
    server: FakeVideoServer, send: Send, outcome: str
) -> None:
    """A task that does not complete has its outcome as status, an error if failed, and no url."""
    (body,) = await poll_at(server, send, server.add_task(duration=10.0, outcome=outcome), 10.0)

    assert (body["status"], body["progress"]) == (outcome, 99)
    assert "url" not in body
    assert ("error" in body) == (outcome == "failed")


async def test_lost_task_is_not_found_after_its_duration(
    server: FakeVideoServer, send: Send
) -> None:
    """A lost task is shown until the end of its duration and is unknown from then on."""
    task_id = server.add_task(duration=10.0, outcome="lost")
    before, after = await poll_at(server, send, task_id, 9.0, 10.0)

    assert before["status"] == "processing"
    assert after == {"error": {"message": "Video task not found", "code": "task_not_found"}}


async def test_never_task_runs_forever(server: FakeVideoServer) -> None:
    """A task with the outcome ``never`` still runs after a month, with progress below 100."""
    task_id = server.add_task(outcome="never")
    await asyncio.sleep(30 * 86_400.0)
    state = server.state(task_id)

    assert (state.phase, state.progress, state.finished_at) == ("running", 99, None)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        ("linear", [0, 10, 49, 50, 90, 100]),
        ("coarse", [0, 30, 30, 50, 50, 100]),
        ("stuck", [0, 10, 49, 50, 50, 100]),
        ("none", [None] * 6),
    ],
)
async def test_progress_grows_by_its_kind(
    server: FakeVideoServer, send: Send, progress: str, expected: list[int | None]
) -> None:
    """Each kind of progress shows its own numbers; ``none`` leaves the field out."""
    task_id = server.add_task(duration=100.0, progress=progress)
    bodies = await poll_at(server, send, task_id, 9.0, 10.0, 49.0, 50.0, 90.0, 100.0)

    assert [body.get("progress") for body in bodies] == expected
    assert ("progress" in bodies[0]) == (progress != "none")


async def test_finish_ends_a_task_early_and_once(server: FakeVideoServer) -> None:
    """``finish`` sets any outcome but ``never`` at once, and refuses a finished task."""
    task_id = server.add_task(duration=100.0)
    await asyncio.sleep(30.0)
    with pytest.raises(ValueError, match="outcome must be one of"):
        server.finish(task_id, outcome="never")
    server.finish(task_id, outcome="failed")
    await asyncio.sleep(1.0)
    state = server.state(task_id)

    assert (state.phase, state.progress, state.finished_at) == ("failed", 30, EPOCH + 30)
    with pytest.raises(ValueError, match="has already finished: failed"):
        server.finish(task_id)


async def test_forgotten_task_is_not_found_and_its_id_is_free(
    server: FakeVideoServer, send: Send
) -> None:
    """After ``forget`` the id is not found until it is added again."""
    server.add_task("mine", duration=0.0)
    server.forget("mine")
    response = await send(server, "/videos/mine")
    server.add_task("mine", duration=60.0)

    assert response.status == 404
    assert server.state("mine").phase == "queued"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task_id": ""}, "task_id must not be empty"),
        ({"task_id": "taken"}, "task 'taken' exists already"),
        ({"duration": -1.0}, "duration must be finite seconds"),
        ({"duration": float("nan")}, "duration must be finite seconds"),
        ({"outcome": "done"}, "outcome must be one of cancelled, completed"),
        ({"progress": "fast"}, "progress must be one of coarse, linear"),
        ({"dialect": "klingon"}, "dialect must be one of ezmodel, openai"),
    ],
)
async def test_add_task_refuses_bad_arguments(
    server: FakeVideoServer, arguments: dict[str, Any], message: str
) -> None:
    """A bad argument raises a ValueError that lists what is allowed, and creates no task."""
    server.add_task("taken")
    with pytest.raises(ValueError, match=message):
        server.add_task(**arguments)

    assert server.add_task() == "vid_000002"


async def test_methods_refuse_an_unknown_id(server: FakeVideoServer) -> None:
    """The methods for one task raise a ValueError if there is no such task."""
    for method in (server.state, server.forget, server.finish):
        with pytest.raises(ValueError, match="no task 'nope'"):
            method("nope")


async def test_generated_ids_skip_existing_ones(server: FakeVideoServer) -> None:
    """Generated ids have the prefix of the dialect and never collide with given ones."""
    server.add_task("vid_000002")

    assert server.add_task() == "vid_000003"
    assert server.add_task(dialect="openai") == "video_000003"
    assert server.add_task(dialect="new-api") == "task_000004"


# --- dialects ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "path", "expected"),
    [
        ("ezmodel", ["status"], ["pending", "processing", "completed"]),
        ("openai", ["status"], ["queued", "in_progress", "completed"]),
        ("new-api", ["status"], ["queued", "in_progress", "completed"]),
        ("new-api-task", ["data", "status"], ["QUEUED", "IN_PROGRESS", "SUCCESS"]),
        ("new-api-task", ["data", "progress"], ["0%", "30%", "100%"]),
        ("xai", ["status"], [None, "pending", "done"]),
        ("openrouter", ["status"], ["pending", "in_progress", "completed"]),
    ],
)
async def test_dialect_has_its_own_status_values(
    send: Send, dialect: str, path: list[str], expected: list[str | None]
) -> None:
    """Each dialect writes queued, running and completed with its own values."""
    async with FakeVideoServer(dialect=dialect) as server:
        task_id = server.add_task(duration=100.0)
        values = await poll_at(server, send, task_id, 0.0, 30.0, 105.0)

    for key in path:
        values = [value.get(key) for value in values]
    assert values == expected


async def test_openai_sends_null_fields_and_headers(send: Send) -> None:
    """The openai dialect sends null for absent values, a request id and a poll hint."""
    async with FakeVideoServer(dialect="openai") as server:
        found = await send(server, f"/videos/{server.add_task()}")
        unknown = await send(server, "/videos/nope")

    null_fields = {name for name, value in found.json.items() if value is None}
    assert null_fields == {"completed_at", "expires_at", "remixed_from_video_id", "error"}
    assert found.headers["openai-poll-after-ms"] == "2500"
    assert found.headers["x-request-id"] == "req_000001"
    assert unknown.headers["x-request-id"] == "req_000002"
    assert "openai-poll-after-ms" not in unknown.headers


async def test_new_api_shows_changes_every_15_seconds(send: Send) -> None:
    """The new-api dialect shows the state at the gateway's last poll of its upstream."""
    async with FakeVideoServer(dialect="new-api", epoch=EPOCH) as server:
        await asyncio.sleep(1.0)
        task_id = server.add_task(duration=30.0)
        bodies = await poll_at(server, send, task_id, 14.0, 15.0, 44.0, 45.0)

    assert [(body["status"], body["progress"], body.get("completed_at")) for body in bodies] == [
        ("unknown", 0, None),
        ("in_progress", 46, EPOCH + 15),
        ("in_progress", 96, EPOCH + 30),
        ("completed", 100, EPOCH + 45),
    ]
    assert bodies[2]["metadata"] == {"url": ""}
    assert bodies[3]["metadata"]["url"].endswith("/task_000001.mp4")


OPENAI_NOT_FOUND = {
    "message": "Video with id 'a/b' not found.",
    "type": "invalid_request_error",
    "param": None,
    "code": None,
}
NEW_API_NOT_FOUND = {"code": "task_not_exist", "message": "task_not_exist", "data": None}
XAI_NOT_FOUND = {
    "code": "Some requested entity was not found",
    "error": "Video request not found",
}


@pytest.mark.parametrize(
    ("dialect", "status", "body"),
    [
        ("ezmodel", 404, {"error": {"message": "Video task not found", "code": "task_not_found"}}),
        ("openai", 404, {"error": OPENAI_NOT_FOUND}),
        ("new-api", 400, NEW_API_NOT_FOUND),
        ("new-api-task", 400, NEW_API_NOT_FOUND),
        ("xai", 404, XAI_NOT_FOUND),
        ("openrouter", 404, {"error": {"message": "Video job a/b not found", "code": 404}}),
    ],
)
async def test_unknown_id_is_not_found_in_the_shape_of_the_dialect(
    send: Send, dialect: str, status: int, body: object
) -> None:
    """An unknown id, percent-encoded in the url, is not found in the shape of the dialect."""
    async with FakeVideoServer(dialect=dialect) as server:
        response = await send(server, "/videos/a%2Fb")

    assert (response.status, response.json) == (status, body)


@pytest.mark.parametrize("dialect", FakeVideoServer.dialects)
async def test_dialect_can_show_each_outcome(send: Send, dialect: str) -> None:
    """Each outcome is a 200 response, and only a completed task has a url (never in openai)."""
    async with FakeVideoServer(dialect=dialect) as server:
        for outcome in ("completed", *UNSUCCESSFUL):
            server.add_task(f"{outcome}/b c", duration=10.0, outcome=outcome)
        await asyncio.sleep(15.0)
        responses = [
            await send(server, f"/videos/{outcome}%2Fb%20c")
            for outcome in ("completed", *UNSUCCESSFUL)
        ]

    url = b"https://storage.example.test/videos/completed%2Fb%20c.mp4"
    assert [response.status for response in responses] == [200] * 4
    assert (url in responses[0].body) == (dialect != "openai")
    assert not any(b"storage.example.test" in response.body for response in responses[1:])


async def test_task_may_have_another_dialect(server: FakeVideoServer, send: Send) -> None:
    """A task may have another dialect than its server."""
    response = await send(server, f"/videos/{server.add_task(dialect='openai')}")

    assert response.json["status"] == "queued"
    assert "x-request-id" in response.headers


# --- routes and API keys -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/videos?after=x", 404, "Invalid URL (GET /v1/videos)"),
        ("GET", "/videos/", 404, "Invalid URL (GET /v1/videos/)"),
        ("GET", "/videos/a/content", 404, "Invalid URL (GET /v1/videos/a/content)"),
        ("DELETE", "/videos/a", 404, "Invalid URL (DELETE /v1/videos/a)"),
        ("POST", "/videos", 501, "The fake server creates tasks with add_task() only"),
    ],
)
async def test_other_routes_are_refused(
    server: FakeVideoServer, send: Send, method: str, path: str, status: int, message: str
) -> None:
    """A request for anything but one task gets an error that names method and path."""
    response = await send(server, path, method)
    (record,) = server.requests()

    assert response.status == record.status == status
    assert response.json["error"]["message"] == message
    assert record.task_id is None


@pytest.mark.parametrize(
    ("api_key", "header", "status", "authorization"),
    [
        ("test-key", None, 401, "absent"),
        ("test-key", "Bearer other-key", 401, "wrong"),
        ("test-key", "test-key", 401, "wrong"),
        ("test-key", "Bearer test-key", 200, "correct"),
        (None, "Bearer other-key", 200, "present"),
    ],
)
async def test_api_key_is_checked_and_never_recorded(
    send: Send, api_key: str | None, header: str | None, status: int, authorization: str
) -> None:
    """Only the right API key is accepted if one is set, and no record holds the key sent."""
    headers = {} if header is None else {"Authorization": header}
    async with FakeVideoServer(api_key=api_key) as server:
        response = await send(server, f"/videos/{server.add_task()}", headers=headers)
    (record,) = server.requests()

    assert response.status == status
    assert record.authorization == authorization
    assert record.headers.get("authorization", "absent") == authorization
    assert "key" not in repr(record)


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("401", "invalid_api_key"),
        ("403", "access_denied"),
        ("404", "task_not_found"),
        ("429", "rate_limit_exceeded"),
        ("500", "internal_error"),
        ("502", "bad_gateway"),
        ("503", "service_unavailable"),
        ("504", "gateway_timeout"),
    ],
)
async def test_status_fault_is_an_error_response(
    server: FakeVideoServer, send: Send, kind: str, code: str
) -> None:
    """A fault named after a status is that error response, without ``Retry-After``."""
    server.fault(kind)
    response = await send(server, f"/videos/{server.add_task()}")

    assert response.status == int(kind)
    assert response.json["error"]["code"] == code
    assert "Retry-After" not in response.headers
    assert server.requests()[0].fault == kind


@pytest.mark.parametrize("dialect", FakeVideoServer.dialects)
async def test_error_response_has_the_shape_of_the_dialect(send: Send, dialect: str) -> None:
    """An error response holds its message in each dialect, and ``retry_after`` as a header."""
    async with FakeVideoServer(dialect=dialect) as server:
        server.fault("503", retry_after=20)
        response = await send(server, f"/videos/{server.add_task()}")

    assert (response.status, response.headers["Retry-After"]) == (503, "20")
    assert "The service is overloaded" in json.dumps(response.json)


@pytest.mark.parametrize(
    ("kind", "status", "start"),
    [
        ("html", 200, b"<!doctype html>"),
        ("gateway-html", 502, b"<html>"),
        ("garbage", 200, b"{not json"),
        ("empty", 200, b""),
    ],
)
async def test_body_fault_replaces_the_body(
    server: FakeVideoServer, send: Send, kind: str, status: int, start: bytes
) -> None:
    """Some faults send a web page, a body that is not JSON, or no body."""
    server.fault(kind)
    response = await send(server, f"/videos/{server.add_task()}")

    assert response.status == server.requests()[0].status == status
    assert response.body.startswith(start)
    assert bool(response.body) == bool(start)


@pytest.mark.parametrize(
    ("details", "location"),
    [({}, "/console/login"), ({"location": "https://a.example.test/"}, "https://a.example.test/")],
)
async def test_redirect_fault_has_a_location(
    server: FakeVideoServer, send: Send, details: dict[str, str], location: str
) -> None:
    """A redirect leads to the console of the server by default, or to the given location."""
    server.fault("redirect", **details)
    response = await send(server, "/videos/any")

    assert (response.status, response.headers["Location"]) == (302, location)


async def test_wrong_id_fault_changes_the_id(server: FakeVideoServer, send: Send) -> None:
    """A response gets a new foreign id each time, or the given one, and keeps its state."""
    path = f"/videos/{server.add_task()}"
    server.fault("wrong-id")
    responses = [await send(server, path), await send(server, path)]
    server.fault("wrong-id", foreign_id="theirs")
    responses.append(await send(server, path))

    ids = [response.json["id"] for response in responses]
    assert ids == ["vid_foreign1", "vid_foreign2", "theirs"]
    assert responses[0].json["status"] == "pending"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset", aiohttp.ClientOSError),
        ("close", aiohttp.ServerDisconnectedError),
        ("truncated", aiohttp.ClientPayloadError),
    ],
)
async def test_connection_fault_ends_the_connection(
    server: FakeVideoServer, send: Send, kind: str, error: type[Exception]
) -> None:
    """Each connection fault gives the client its own kind of error."""
    server.fault(kind)
    with pytest.raises(error):
        await send(server, f"/videos/{server.add_task()}")
    record = server.requests()[0]

    assert (record.fault, record.at, record.ended_at) == (kind, 0.0, 0.0)
    assert record.status == (200 if kind == "truncated" else None)


async def test_slow_response_shows_the_state_at_its_end(
    server: FakeVideoServer, send: Send
) -> None:
    """A slow response comes after the delay and shows the state of that instant."""
    server.fault("slow", delay=40.0)
    task_id = server.add_task(duration=40.0)
    response = await send(server, f"/videos/{task_id}")
    (record,) = server.requests(task_id)

    assert response.json["status"] == "completed"
    assert (record.at, record.ended_at, record.status) == (0.0, 40.0, 200)


async def test_hanging_request_ends_when_the_client_gives_up(
    server: FakeVideoServer, send: Send
) -> None:
    """A hanging request has no response and ends with the client's timeout."""
    server.fault("hang")
    with pytest.raises(TimeoutError):
        await send(server, "/videos/any", timeout=aiohttp.ClientTimeout(total=3.0))
    await asyncio.sleep(1.0)
    (record,) = server.requests()

    assert (record.fault, record.status, record.ended_at) == ("hang", None, 3.0)
    assert server.in_flight == 0


async def test_share_hits_requests_evenly(server: FakeVideoServer, send: Send) -> None:
    """A share of 0.3 hits three of ten requests, always the same ones."""
    server.fault("500", share=0.3)
    statuses = [(await send(server, "/videos/any")).status for _ in range(20)]

    hit = [number for number, status in enumerate(statuses, 1) if status == 500]
    assert hit == [4, 7, 10, 14, 17, 20]


async def test_fault_ends_after_its_seconds(server: FakeVideoServer, send: Send) -> None:
    """A fault with a duration ends exactly when it is over."""
    path = f"/videos/{server.add_task()}"
    server.fault("503", seconds=10.0)
    statuses = []
    for _ in range(3):
        statuses.append((await send(server, path)).status)
        await asyncio.sleep(5.0)

    assert statuses == [503, 503, 200]


async def test_fault_may_hit_one_task_only(server: FakeVideoServer, send: Send) -> None:
    """Requests for other tasks are not hit and do not count for the share."""
    faulty, healthy = server.add_task(), server.add_task()
    server.fault("500", task_id=faulty, share=0.5)
    order = [faulty, healthy, faulty, healthy]
    statuses = [(await send(server, f"/videos/{task_id}")).status for task_id in order]

    assert statuses == [200, 200, 500, 200]


async def test_newest_fault_applies_until_healed(server: FakeVideoServer, send: Send) -> None:
    """The newest fault applies; ``heal`` ends the faults of one kind, or all."""
    server.fault("500")
    server.fault("429")
    statuses = [(await send(server, "/videos/any")).status]
    server.heal("429")
    statuses.append((await send(server, "/videos/any")).status)
    server.heal()
    statuses.append((await send(server, "/videos/any")).status)

    assert statuses == [429, 500, 404]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("418", {}, "kind must be one of 401, 403, 404, 429, 500"),
        ("500", {"seconds": 0}, "seconds must be above 0 or None"),
        ("500", {"share": 0}, "share must be above 0 and at most 1"),
        ("500", {"share": 1.5}, "share must be above 0 and at most 1"),
        ("500", {"delay": 1}, "fault '500' accepts retry_after; not 'delay'"),
        ("hang", {"delay": 1}, "fault 'hang' accepts no details; not 'delay'"),
        ("slow", {"delay": -1}, "delay must be finite seconds"),
    ],
)
async def test_fault_refuses_bad_arguments(
    server: FakeVideoServer, kind: str, arguments: dict[str, Any], message: str
) -> None:
    """A bad argument of ``fault`` raises a ValueError that says what is allowed."""
    with pytest.raises(ValueError, match=message):
        server.fault(kind, **arguments)


# --- the request log -----------------------------------------------------------------------------


async def test_requests_are_recorded_in_order(server: FakeVideoServer, send: Send) -> None:
    """Requests are recorded in order, all or for one id, with path and headers as sent."""
    one, two = server.add_task(), server.add_task()
    for task_id in (one, two, one):
        await send(server, f"/videos/{task_id}", headers={"X-Trace": task_id})
        await asyncio.sleep(2.0)

    assert [record.task_id for record in server.requests()] == [one, two, one]
    assert [record.at for record in server.requests(one)] == [0.0, 4.0]
    assert [record.headers["x-trace"] for record in server.requests(two)] == [two]
    assert server.requests(two)[0].path == f"/v1/videos/{two}"


async def test_keep_requests_bounds_the_log(send: Send) -> None:
    """Only the newest ``keep_requests`` requests are kept."""
    async with FakeVideoServer(keep_requests=2) as server:
        for task_id in "abc":
            await send(server, f"/videos/{task_id}")

    assert [record.task_id for record in server.requests()] == ["b", "c"]


async def test_requests_in_flight_are_counted(send: Send) -> None:
    """The count of requests in flight and its peak include requests that wait for latency."""
    async with FakeVideoServer(latency=2.0) as server:
        async with asyncio.TaskGroup() as group:
            for _ in range(7):
                group.create_task(send(server, "/videos/any"))
            await asyncio.sleep(1.0)
            in_flight, ended_at = server.in_flight, server.requests()[0].ended_at

        assert (in_flight, ended_at) == (7, None)
        assert (server.in_flight, server.peak_in_flight) == (0, 7)
        assert {record.ended_at for record in server.requests()} == {2.0}


# --- start and stop ------------------------------------------------------------------------------


async def test_exit_ends_requests_in_flight(send: Send) -> None:
    """Requests in flight lose their connection at once when the server stops."""
    before = asyncio.all_tasks()
    async with FakeVideoServer() as server:
        server.fault("hang", share=0.5)
        server.fault("slow", delay=1_000.0, share=0.5)
        sends = [asyncio.ensure_future(send(server, "/videos/any")) for _ in range(6)]
        await asyncio.sleep(1.0)
        assert server.in_flight == 4
    results = await asyncio.gather(*sends, return_exceptions=True)

    assert sum(isinstance(result, aiohttp.ClientError) for result in results) == 4
    assert server.in_flight == 0
    assert asyncio.get_running_loop().time() == 1.0
    assert asyncio.all_tasks() == before
    gc.collect()


@pytest.mark.parametrize("iterations", range(6))
async def test_exit_closes_a_connection_being_accepted(iterations: int) -> None:
    """A connection that is being accepted while the server stops is closed."""
    received = []
    async with FakeVideoServer() as server:
        url = URL(server.base_url)
        connecting = asyncio.ensure_future(asyncio.open_connection(url.host, url.port))
        for _ in range(iterations):
            await asyncio.sleep(0)
    with contextlib.suppress(ConnectionError):
        reader, writer = await connecting
        with contextlib.closing(writer):
            received.append(await reader.read())

    assert received in ([], [b""])


async def test_exit_by_cancellation_stops_the_server() -> None:
    """The server stops listening when its block is cancelled."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5.0), FakeVideoServer() as server:
            await asyncio.Event().wait()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", URL(server.base_url).port)


async def test_server_starts_once() -> None:
    """A server raises a RuntimeError when used before it starts or started again."""
    server = FakeVideoServer()
    with pytest.raises(RuntimeError, match="has not started"):
        server.add_task()
    with pytest.raises(RuntimeError, match="has not started"):
        _ = server.base_url
    async with server:
        pass
    with pytest.raises(RuntimeError, match="already been started"):
        await server.__aenter__()


async def test_base_url_has_host_port_and_version() -> None:
    """The base url has the given host, the port and ``/v1``."""
    async with FakeVideoServer(host="localhost") as server:
        url = URL(server.base_url)

    assert (url.scheme, url.host, url.path) == ("http", "localhost", "/v1")
    assert url.port


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dialect": "klingon"}, "dialect must be one of"),
        ({"latency": -1.0}, "latency must be finite seconds"),
    ],
)
def test_server_refuses_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    """A bad argument raises a ValueError before the server starts."""
    with pytest.raises(ValueError, match=message):
        FakeVideoServer(**arguments)


async def test_timestamps_are_current_by_default() -> None:
    """Without an epoch, ``created_at`` is the current time."""
    async with FakeVideoServer() as server:
        state = server.state(server.add_task())

    assert state.created_at > EPOCH
