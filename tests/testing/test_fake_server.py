"""The fake server: lives of tasks, dialects, faults, the request log, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from ezvideo_async.testing import FakeVideoServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EPOCH = 1_767_225_600
UNSUCCESSFUL = ("cancelled", "expired", "failed")


class Answer:
    """What a client got: status, headers, and the body as bytes or JSON."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture
async def server() -> AsyncIterator[FakeVideoServer]:
    """A fake server that started at a known wall-clock time."""
    async with FakeVideoServer(epoch=EPOCH) as server:
        yield server


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """A function that sends one request on a fresh connection."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send(
            server: FakeVideoServer, path: str, method: str = "GET", **options: Any
        ) -> Answer:
            url = URL(f"{server.base_url}{path}", encoded=True)
            options.setdefault("allow_redirects", False)
            async with session.request(method, url, **options) as response:
                return Answer(response.status, response.headers, await response.read())

        yield send


async def words(server: FakeVideoServer, ask: Ask, task_id: str, *instants: float) -> list[Any]:
    """The bodies of answers about a task at some instants."""
    bodies = []
    for instant in instants:
        await asyncio.sleep(instant - asyncio.get_running_loop().time())
        bodies.append((await ask(server, f"/videos/{task_id}")).json)
    return bodies


# --- lives ---------------------------------------------------------------------------------------


async def test_a_task_queues_runs_and_completes(server: FakeVideoServer, ask: Ask) -> None:
    """A task is queued for a tenth of its duration and completes at its end, as documented."""
    task_id = server.add_task(duration=60.0)
    queued, running, late, done = await words(server, ask, task_id, 5.9, 6.0, 59.9, 60.0)

    assert (queued["status"], queued["progress"]) == ("pending", 0)
    assert (running["status"], running["progress"]) == ("processing", 10)
    assert (late["status"], late["progress"]) == ("processing", 99)
    assert done == {
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
async def test_a_task_ends_with_its_outcome(
    server: FakeVideoServer, ask: Ask, outcome: str
) -> None:
    """A task that does not complete says how it ended, and has no url."""
    (body,) = await words(server, ask, server.add_task(duration=10.0, outcome=outcome), 10.0)

    assert (body["status"], body["progress"]) == (outcome, 99)
    assert "url" not in body
    assert ("error" in body) == (outcome == "failed")


async def test_a_lost_task_is_not_found_from_its_end_on(server: FakeVideoServer, ask: Ask) -> None:
    """A lost task answers until its end, and then as if it had never been."""
    task_id = server.add_task(duration=10.0, outcome="lost")
    before, after = await words(server, ask, task_id, 9.0, 10.0)

    assert before["status"] == "processing"
    assert after == {"error": {"message": "Video task not found", "code": "task_not_found"}}


async def test_a_task_may_run_for_ever(server: FakeVideoServer, ask: Ask) -> None:
    """A task that never ends still runs after a month, with progress below 100."""
    (body,) = await words(server, ask, server.add_task(outcome="never"), 30 * 86_400.0)

    assert (body["status"], body["progress"]) == ("processing", 99)


async def test_a_task_without_duration_has_ended_at_once(server: FakeVideoServer) -> None:
    """Duration 0 makes tasks that have ended when they are created."""
    done = server.state(server.add_task(duration=0.0))
    failed = server.state(server.add_task(duration=0.0, outcome="failed"))

    assert (done.phase, done.progress, done.finished_at) == ("completed", 100, EPOCH)
    assert (failed.phase, failed.progress) == ("failed", 99)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        ("linear", [0, 10, 49, 50, 90, 100]),
        ("coarse", [0, 30, 30, 50, 50, 100]),
        ("stuck", [0, 10, 49, 50, 50, 100]),
        ("none", [None] * 6),
    ],
)
async def test_progress_grows_as_asked(
    server: FakeVideoServer, ask: Ask, progress: str, expected: list[int | None]
) -> None:
    """Each kind of progress shows its own numbers on the way to the end."""
    task_id = server.add_task(duration=100.0, progress=progress)
    bodies = await words(server, ask, task_id, 9.0, 10.0, 49.0, 50.0, 90.0, 100.0)

    assert [body.get("progress") for body in bodies] == expected
    assert ("progress" in bodies[0]) == (progress != "none")


async def test_finish_ends_a_task_now(server: FakeVideoServer, ask: Ask) -> None:
    """A task can be ended early, with any outcome that is an end, once."""
    task_id = server.add_task(duration=100.0)
    await asyncio.sleep(30.0)
    server.finish(task_id, outcome="failed")
    (body,) = await words(server, ask, task_id, 31.0)

    assert (body["status"], body["progress"]) == ("failed", 30)
    with pytest.raises(ValueError, match="has already finished: failed"):
        server.finish(task_id)


async def test_a_forgotten_task_is_unknown_and_its_id_free(
    server: FakeVideoServer, ask: Ask
) -> None:
    """After forget() the server answers not-found until the id is given again."""
    server.add_task("mine", duration=0.0)
    server.forget("mine")
    gone = await ask(server, "/videos/mine")
    server.add_task("mine", duration=60.0)

    assert gone.status == 404
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
async def test_a_bad_task_is_refused(
    server: FakeVideoServer, arguments: dict[str, Any], message: str
) -> None:
    """A wrong argument is a ValueError that says what is right, and makes no task."""
    server.add_task("taken")
    with pytest.raises(ValueError, match=message):
        server.add_task(**arguments)

    assert server.add_task() == "vid_000002"


async def test_unknown_ids_and_outcomes_are_value_errors(server: FakeVideoServer) -> None:
    """Asking about a task that does not exist, or ending one with no end, is a ValueError."""
    task_id = server.add_task()
    for act in (server.state, server.forget, server.finish):
        with pytest.raises(ValueError, match="no task 'nope'"):
            act("nope")
    with pytest.raises(ValueError, match="outcome must be one of"):
        server.finish(task_id, outcome="never")


async def test_ids_count_up_and_step_over_taken_ones(server: FakeVideoServer) -> None:
    """Ids made by the server look like the dialect's and never collide with given ones."""
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
async def test_each_dialect_has_its_own_words(
    ask: Ask, dialect: str, path: list[str], expected: list[str | None]
) -> None:
    """The same life is told in the words of each dialect."""
    async with FakeVideoServer(dialect=dialect) as server:
        task_id = server.add_task(duration=100.0)
        bodies = await words(server, ask, task_id, 0.0, 30.0, 105.0)

    for step, word in zip(bodies, expected, strict=True):
        value = step
        for key in path:
            value = value.get(key)
        assert value == word


async def test_openai_sends_every_field_and_its_headers(ask: Ask) -> None:
    """OpenAI's dialect has null where nothing is known, a request id and a hint for pollers."""
    async with FakeVideoServer(dialect="openai", epoch=EPOCH) as server:
        answer = await ask(server, f"/videos/{server.add_task()}")
        unknown = await ask(server, "/videos/nope")

    assert {name for name, value in answer.json.items() if value is None} == {
        "completed_at",
        "expires_at",
        "remixed_from_video_id",
        "error",
    }
    assert answer.headers["openai-poll-after-ms"] == "2500"
    assert answer.headers["x-request-id"] == "req_000001"
    assert unknown.headers["x-request-id"] == "req_000002"
    assert "openai-poll-after-ms" not in unknown.headers


async def test_new_api_notices_changes_in_rounds_of_15_seconds(ask: Ask) -> None:
    """A new-api gateway knows nothing of a new task, and of its end, before its next round."""
    async with FakeVideoServer(dialect="new-api", epoch=EPOCH) as server:
        await asyncio.sleep(1.0)
        task_id = server.add_task(duration=30.0)
        steps = await words(server, ask, task_id, 14.0, 15.0, 44.0, 45.0)

    assert [step["status"] for step in steps] == [
        "unknown",
        "in_progress",
        "in_progress",
        "completed",
    ]
    assert [step["progress"] for step in steps] == [0, 46, 96, 100]
    assert [step.get("completed_at") for step in steps] == [
        None,
        EPOCH + 15,
        EPOCH + 30,
        EPOCH + 45,
    ]
    assert steps[2]["metadata"] == {"url": ""}
    assert steps[3]["metadata"]["url"].endswith("/task_000001.mp4")


@pytest.mark.parametrize(
    ("dialect", "status", "body"),
    [
        ("ezmodel", 404, {"error": {"message": "Video task not found", "code": "task_not_found"}}),
        (
            "openai",
            404,
            {
                "error": {
                    "message": "Video with id 'a/b' not found.",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": None,
                }
            },
        ),
        (
            "new-api",
            400,
            {"code": "task_not_exist", "message": "task_not_exist", "data": None},
        ),
        (
            "new-api-task",
            400,
            {"code": "task_not_exist", "message": "task_not_exist", "data": None},
        ),
        (
            "xai",
            404,
            {
                "code": "Some requested entity was not found",
                "error": "Video request not found",
            },
        ),
        ("openrouter", 404, {"error": {"message": "Video job a/b not found", "code": 404}}),
    ],
)
async def test_each_dialect_says_not_found_in_its_own_way(
    ask: Ask, dialect: str, status: int, body: object
) -> None:
    """An unknown id, percent-encoded in the url, is not found in the shape of the dialect."""
    async with FakeVideoServer(dialect=dialect) as server:
        answer = await ask(server, "/videos/a%2Fb")

    assert (answer.status, answer.json) == (status, body)


@pytest.mark.parametrize("dialect", FakeVideoServer.dialects)
@pytest.mark.parametrize("outcome", ["completed", *UNSUCCESSFUL])
async def test_each_dialect_can_tell_each_outcome(ask: Ask, dialect: str, outcome: str) -> None:
    """Every outcome has an answer in every dialect, and only a completed task has a url."""
    async with FakeVideoServer(dialect=dialect) as server:
        task_id = server.add_task("a/b c", duration=10.0, outcome=outcome)
        await asyncio.sleep(15.0)
        answer = await ask(server, "/videos/a%2Fb%20c")

    assert task_id == "a/b c"
    assert answer.status == 200
    completed = outcome == "completed" and dialect != "openai"
    assert (b"https://storage.example.test/videos/a%2Fb%20c.mp4" in answer.body) == completed


async def test_a_task_may_speak_another_dialect_than_its_server(
    server: FakeVideoServer, ask: Ask
) -> None:
    """Tasks of several dialects live on one server."""
    answer = await ask(server, f"/videos/{server.add_task(dialect='openai')}")

    assert answer.json["status"] == "queued"
    assert "x-request-id" in answer.headers


# --- routes and keys -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/videos", 404),
        ("GET", "/videos/", 404),
        ("GET", "/videos/a/content", 404),
        ("GET", "/", 404),
        ("DELETE", "/videos/a", 404),
        ("POST", "/videos", 501),
    ],
)
async def test_other_urls_are_not_served(
    server: FakeVideoServer, ask: Ask, method: str, path: str, status: int
) -> None:
    """Whatever is not the state of one task is refused in the dialect's shape."""
    answer = await ask(server, path, method)
    (record,) = server.requests()

    assert answer.status == record.status == status
    assert answer.json["error"]["message"]
    assert record.task_id is None


async def test_an_unknown_url_is_named(ask: Ask) -> None:
    """The answer to an unknown url repeats method and path, without the query."""
    async with FakeVideoServer(dialect="new-api") as server:
        answer = await ask(server, "/tasks?after=x")

    assert answer.json["error"]["message"] == "Invalid URL (GET /v1/tasks)"


@pytest.mark.parametrize(
    ("header", "status", "word"),
    [
        (None, 401, "absent"),
        ("Bearer other-key", 401, "wrong"),
        ("test-key", 401, "wrong"),
        ("Bearer test-key", 200, "correct"),
    ],
)
async def test_a_key_is_asked_for_when_set(
    ask: Ask, header: str | None, status: int, word: str
) -> None:
    """Only the right bearer token is let in, and the log holds a word in its place."""
    headers = {} if header is None else {"Authorization": header}
    async with FakeVideoServer(api_key="test-key") as server:
        answer = await ask(server, f"/videos/{server.add_task()}", headers=headers)
    (record,) = server.requests()

    assert answer.status == status
    assert record.authorization == word
    assert record.headers.get("authorization", "absent") == word
    assert "key" not in repr(record)


async def test_any_token_is_welcome_when_no_key_is_set(server: FakeVideoServer, ask: Ask) -> None:
    """Without a key of its own the server lets every token in, and still keeps it to itself."""
    headers = {"Authorization": "Bearer secret"}
    answer = await ask(server, f"/videos/{server.add_task()}", headers=headers)

    assert answer.status == 200
    assert server.requests()[0].authorization == "present"
    assert "secret" not in repr(server.requests())


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("401", 401, "invalid_api_key"),
        ("403", 403, "access_denied"),
        ("404", 404, "task_not_found"),
        ("429", 429, "rate_limit_exceeded"),
        ("500", 500, "internal_error"),
        ("502", 502, "bad_gateway"),
        ("503", 503, "service_unavailable"),
        ("504", 504, "gateway_timeout"),
    ],
)
async def test_a_status_fault_answers_in_the_dialects_shape(
    server: FakeVideoServer, ask: Ask, kind: str, status: int, code: str
) -> None:
    """A fault named after a status is that answer, also for a task in the best of health."""
    server.fault(kind)
    answer = await ask(server, f"/videos/{server.add_task()}")

    assert answer.status == status
    assert answer.json["error"]["code"] == code
    assert "Retry-After" not in answer.headers
    assert server.requests()[0].fault == kind


@pytest.mark.parametrize("dialect", FakeVideoServer.dialects)
async def test_an_error_looks_like_the_dialect(ask: Ask, dialect: str) -> None:
    """Every dialect has its own shape for an overloaded server."""
    async with FakeVideoServer(dialect=dialect) as server:
        server.fault("503")
        answer = await ask(server, f"/videos/{server.add_task()}")

    assert answer.status == 503
    assert "The service is overloaded" in json.dumps(answer.json)


async def test_retry_after_is_sent_as_given(server: FakeVideoServer, ask: Ask) -> None:
    """The detail retry_after becomes the header."""
    server.fault("429", retry_after=20)

    assert (await ask(server, "/videos/any")).headers["Retry-After"] == "20"


@pytest.mark.parametrize(
    ("kind", "status", "start"),
    [
        ("html", 200, b"<!doctype html>"),
        ("gateway-html", 502, b"<html>"),
        ("garbage", 200, b"{not json"),
        ("empty", 200, b""),
        ("redirect", 302, b""),
    ],
)
async def test_an_answer_may_not_be_an_answer(
    server: FakeVideoServer, ask: Ask, kind: str, status: int, start: bytes
) -> None:
    """Some faults send what no client can use."""
    server.fault(kind)
    answer = await ask(server, f"/videos/{server.add_task()}")

    assert answer.status == server.requests()[0].status == status
    assert answer.body.startswith(start)
    assert bool(answer.body) == bool(start)


async def test_a_redirect_points_where_it_is_told(server: FakeVideoServer, ask: Ask) -> None:
    """A redirect goes to the server's own console unless told otherwise."""
    server.fault("redirect")
    at_home = await ask(server, "/videos/any")
    server.fault("redirect", location="https://other.example.test/")
    abroad = await ask(server, "/videos/any")

    assert at_home.headers["Location"] == "/console/login"
    assert abroad.headers["Location"] == "https://other.example.test/"


async def test_an_answer_may_be_about_somebody_else(server: FakeVideoServer, ask: Ask) -> None:
    """Foreign ids differ each time, unless one is given; answers without a task stay honest."""
    path = f"/videos/{server.add_task()}"
    server.fault("wrong-id")
    first, second = (await ask(server, path), await ask(server, path))
    unknown = await ask(server, "/videos/nope")
    server.fault("wrong-id", foreign_id="theirs")
    third = await ask(server, path)

    ids = [answer.json["id"] for answer in (first, second, third)]
    assert ids == ["vid_foreign1", "vid_foreign2", "theirs"]
    assert first.json["status"] == "pending"
    assert unknown.status == 404


async def test_a_lost_task_is_not_found_even_under_a_wrong_id(
    server: FakeVideoServer, ask: Ask
) -> None:
    """A task that is gone cannot be mistaken for another one."""
    server.fault("wrong-id")
    answer = await ask(server, f"/videos/{server.add_task(duration=0.0, outcome='lost')}")

    assert answer.status == 404


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset", aiohttp.ClientOSError),
        ("close", aiohttp.ServerDisconnectedError),
        ("truncated", aiohttp.ClientPayloadError),
    ],
)
async def test_a_connection_may_break(
    server: FakeVideoServer, ask: Ask, kind: str, error: type[Exception]
) -> None:
    """A broken connection shows on the client as what it was on the wire."""
    server.fault(kind)
    with pytest.raises(error):
        await ask(server, f"/videos/{server.add_task()}")
    record = server.requests()[0]

    assert (record.fault, record.at, record.ended_at) == (kind, 0.0, 0.0)
    assert record.status == (200 if kind == "truncated" else None)


async def test_a_slow_answer_tells_the_state_at_its_end(server: FakeVideoServer, ask: Ask) -> None:
    """A slow answer comes after the delay and describes that instant."""
    server.fault("slow", delay=40.0)
    task_id = server.add_task(duration=40.0)
    answer = await ask(server, f"/videos/{task_id}")
    (record,) = server.requests(task_id)

    assert answer.json["status"] == "completed"
    assert (record.at, record.ended_at, record.status) == (0.0, 40.0, 200)


async def test_a_hanging_request_ends_with_its_client(server: FakeVideoServer, ask: Ask) -> None:
    """A request that is never answered is over when the client gives up."""
    server.fault("hang")
    timeout = aiohttp.ClientTimeout(total=3.0)
    with pytest.raises(TimeoutError):
        await ask(server, "/videos/any", timeout=timeout)
    await asyncio.sleep(1.0)
    (record,) = server.requests()

    assert (record.fault, record.status, record.ended_at) == ("hang", None, 3.0)
    assert server.in_flight == 0


async def test_a_share_of_the_requests_suffers_evenly(server: FakeVideoServer, ask: Ask) -> None:
    """A share of 0.3 is three of ten requests, spread and always the same."""
    server.fault("500", share=0.3)
    statuses = [(await ask(server, "/videos/any")).status for _ in range(20)]

    assert [index for index, status in enumerate(statuses, 1) if status == 500] == [
        4,
        7,
        10,
        14,
        17,
        20,
    ]


async def test_a_fault_lasts_as_long_as_told(server: FakeVideoServer, ask: Ask) -> None:
    """A fault with a duration is over at exactly its end."""
    path = f"/videos/{server.add_task()}"
    server.fault("503", seconds=10.0)
    statuses = []
    for _ in range(3):
        statuses.append((await ask(server, path)).status)
        await asyncio.sleep(5.0)

    assert statuses == [503, 503, 200]


async def test_a_fault_may_strike_one_task_only(server: FakeVideoServer, ask: Ask) -> None:
    """Requests for other tasks neither meet the fault nor count for its share."""
    sick, sound = server.add_task(), server.add_task()
    server.fault("500", task_id=sick, share=0.5)
    order = [sick, sound, sick, sound]
    statuses = [(await ask(server, f"/videos/{task_id}")).status for task_id in order]

    assert statuses == [200, 200, 500, 200]


async def test_the_newest_fault_wins_and_heal_ends_one_or_all(
    server: FakeVideoServer, ask: Ask
) -> None:
    """Faults stack; healing one kind uncovers the older, healing all ends the trouble."""
    path = f"/videos/{server.add_task()}"
    server.fault("500")
    server.fault("429")
    statuses = [(await ask(server, path)).status]
    server.heal("429")
    statuses.append((await ask(server, path)).status)
    server.heal()
    statuses.append((await ask(server, path)).status)

    assert statuses == [429, 500, 200]


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
async def test_a_bad_fault_is_refused(
    server: FakeVideoServer, kind: str, arguments: dict[str, Any], message: str
) -> None:
    """A fault that makes no sense is a ValueError that says what does."""
    with pytest.raises(ValueError, match=message):
        server.fault(kind, **arguments)


# --- observing -----------------------------------------------------------------------------------


async def test_the_log_tells_requests_apart(server: FakeVideoServer, ask: Ask) -> None:
    """Requests are remembered in order, whole or for one id, with headers as sent."""
    one, two = server.add_task(), server.add_task()
    for task_id in (one, two, one):
        await ask(server, f"/videos/{task_id}", headers={"X-Trace": task_id})
        await asyncio.sleep(2.0)

    assert [record.task_id for record in server.requests()] == [one, two, one]
    assert [record.at for record in server.requests(one)] == [0.0, 4.0]
    assert [record.headers["x-trace"] for record in server.requests(two)] == [two]
    assert server.requests(two)[0].path == f"/v1/videos/{two}"


async def test_the_log_forgets_the_oldest(ask: Ask) -> None:
    """No more than keep_requests requests are remembered."""
    async with FakeVideoServer(keep_requests=2) as server:
        for task_id in "abc":
            await ask(server, f"/videos/{task_id}")

    assert [record.task_id for record in server.requests()] == ["b", "c"]


async def test_requests_at_once_are_counted(ask: Ask) -> None:
    """The peak of requests under way stays known after they have ended."""
    async with FakeVideoServer(latency=2.0) as server:
        during = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(
            1.0, lambda: during.set_result((server.in_flight, server.requests()[0].ended_at))
        )
        await asyncio.gather(*(ask(server, "/videos/any") for _ in range(7)))

        assert during.result() == (7, None)
        assert (server.in_flight, server.peak_in_flight) == (0, 7)
        assert {record.ended_at for record in server.requests()} == {2.0}


# --- start and stop ------------------------------------------------------------------------------


async def test_leaving_ends_hanging_requests_at_once(ask: Ask) -> None:
    """Requests under way lose their connection when the server goes, and nothing is left."""
    before = asyncio.all_tasks()
    async with FakeVideoServer() as server:
        server.fault("hang", share=0.5)
        server.fault("slow", delay=1_000.0, share=0.5)
        asking = [asyncio.ensure_future(ask(server, "/videos/any")) for _ in range(6)]
        await asyncio.sleep(1.0)
        assert server.in_flight == 4
    results = await asyncio.gather(*asking, return_exceptions=True)

    broken = [result for result in results if isinstance(result, aiohttp.ClientError)]
    assert len(broken) == 4
    assert server.in_flight == 0
    assert asyncio.get_running_loop().time() == 1.0
    assert asyncio.all_tasks() == before
    gc.collect()


@pytest.mark.parametrize("rounds", range(6))
async def test_a_client_that_comes_at_the_last_moment_is_turned_away(rounds: int) -> None:
    """A connection that is being accepted while the server goes is closed, not lost."""
    received = []
    async with FakeVideoServer() as server:
        url = URL(server.base_url)
        connecting = asyncio.ensure_future(asyncio.open_connection(url.host, url.port))
        for _ in range(rounds):
            await asyncio.sleep(0)
    with contextlib.suppress(ConnectionError):
        reader, writer = await connecting
        with contextlib.closing(writer):
            received.append(await reader.read())

    assert received in ([], [b""])


async def test_leaving_a_cancelled_scope_leaves_nothing_behind() -> None:
    """The server closes in order also when its block is cancelled."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5.0), FakeVideoServer() as server:
            await asyncio.Event().wait()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", URL(server.base_url).port)


async def test_a_server_starts_once() -> None:
    """A server is of no use before it starts, and cannot start again."""
    server = FakeVideoServer()
    with pytest.raises(RuntimeError, match="has not started"):
        server.add_task()
    with pytest.raises(RuntimeError, match="has not started"):
        _ = server.base_url
    async with server:
        pass
    with pytest.raises(RuntimeError, match="already been started"):
        await server.__aenter__()


async def test_a_taken_port_is_an_os_error(server: FakeVideoServer) -> None:
    """Two servers cannot share a port; the failed one leaves nothing behind."""
    port = URL(server.base_url).port
    with pytest.raises(OSError, match="address already in use"):
        await FakeVideoServer(port=port or 0).__aenter__()


async def test_the_base_url_says_where() -> None:
    """The base url has host, port and version, and no slash at its end."""
    async with FakeVideoServer(host="localhost") as server:
        url = URL(server.base_url)

    assert (url.scheme, url.host, url.path) == ("http", "localhost", "/v1")
    assert url.port


def test_a_bad_server_is_refused() -> None:
    """Wrong options are a ValueError before anything is started."""
    with pytest.raises(ValueError, match="dialect must be one of"):
        FakeVideoServer(dialect="klingon")
    with pytest.raises(ValueError, match="latency must be finite seconds"):
        FakeVideoServer(latency=-1.0)


async def test_wall_clock_times_are_real_by_default() -> None:
    """Without an epoch, created_at is the machine's own time."""
    async with FakeVideoServer() as server:
        state = server.state(server.add_task())

    assert state.created_at > EPOCH
