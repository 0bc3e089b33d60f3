"""Telemetry: which events observers get, their errors, and log records of pauses."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest

from ezvideo_async import AsyncVideoClient, RetryPolicy
from ezvideo_async._domain.telemetry import (
    CircuitClosed,
    CircuitOpened,
    PollFailed,
    PollSucceeded,
    RateLimited,
    RetryScheduled,
    TelemetryEvent,
)
from ezvideo_async._engine.telemetry import LimitLog, TelemetryEmitter
from ezvideo_async.errors import APIStatusError, ConfigError, ServerError, TaskNotFoundError
from tests.support.raw_server import READ, RawServer, client_of, done, replying, response

BUSY = response(b"{}", status="503 Busy")


async def test_observers_get_requests_and_retries() -> None:
    """A failed request, the retry after it, and the response, each with its numbers."""
    events: list[TelemetryEvent] = []
    async with (
        RawServer([READ, BUSY, READ, 0.5, done]) as server,
        client_of(server, observers=[events.append]) as client,
    ):
        await client.retrieve("t")

    failed, retry, succeeded = events
    assert isinstance(failed, PollFailed)
    assert isinstance(failed.error, ServerError)
    assert (failed.task_id, failed.elapsed) == ("t", 0.0)
    assert retry == RetryScheduled(task_id="t", failures=1, delay=0.25)
    assert succeeded == PollSucceeded(task_id="t", status="completed", elapsed=0.5)  # type: ignore[arg-type]


async def test_observers_get_retries_of_a_wait() -> None:
    """A failed poll with the delay after it; an error that ends the wait has no retry."""
    events: list[TelemetryEvent] = []
    script = replying(BUSY, response(b"{}", status="410 Gone"))
    async with RawServer(script) as server, client_of(server, observers=[events.append]) as client:
        with pytest.raises(TaskNotFoundError):
            await client.wait("t", not_found_grace=0.0)

    assert [type(event) for event in events] == [PollFailed, RetryScheduled, PollFailed]
    assert events[1] == RetryScheduled(task_id="t", failures=1, delay=7.5)


async def test_observers_get_cool_downs_and_outages() -> None:
    """A cool-down, and the opening and closing of the circuit, once each."""
    events: list[TelemetryEvent] = []
    script = replying(response(b"{}", status="429 Many"), *[BUSY] * 11, done)
    retry = RetryPolicy(attempts=1)
    async with (
        RawServer(script) as server,
        client_of(server, observers=[events.append], retry=retry) as client,
    ):
        for _ in range(12):
            with pytest.raises(APIStatusError):
                await client.retrieve("t")
        await client.retrieve("t")

    cool_down, opened, closed = (
        event for event in events if not isinstance(event, PollFailed | PollSucceeded)
    )
    assert isinstance(cool_down, RateLimited)
    assert cool_down.seconds == 1.5
    assert opened == CircuitOpened(failures=10)
    assert isinstance(closed, CircuitClosed)
    assert closed.outage == server.times[-1] - server.times[10]


@pytest.mark.fault("C22")
def test_observer_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """It is still called, each of its errors is counted, and the others get all events."""
    event = CircuitOpened(failures=10)
    calls: list[str] = []

    def broken(_event: TelemetryEvent) -> None:
        calls.append("broken")
        raise ValueError

    emitter = TelemetryEmitter([broken, lambda _event: calls.append("sound")])
    for _ in range(3):
        emitter.emit(event)

    assert emitter
    assert calls == ["broken", "sound"] * 3
    assert emitter.failures == 3
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "an observer raised" in caplog.text


async def test_no_event_is_made_without_observers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests and retries cost nothing then."""

    def forbidden(**_fields: object) -> None:
        raise AssertionError("an event was made without an observer")

    for module in (
        "_engine.requester.PollSucceeded",
        "_engine.requester.PollFailed",
        "_engine.poller.RetryScheduled",
        "_client.RetryScheduled",
    ):
        monkeypatch.setattr(f"ezvideo_async.{module}", forbidden)
    script = replying(BUSY, done, BUSY, done)
    async with RawServer(script) as server, client_of(server) as client:
        await client.retrieve("t")
        await client.wait("t")

        assert len(server.requests) == 4


def test_pauses_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A 429 is a warning at most once per minute."""
    caplog.set_level(logging.DEBUG)
    log = LimitLog()
    for at in (0.0, 59.0, 60.0):
        log.log(RateLimited(seconds=3.0, rate=12.5), at)
    log.log(CircuitOpened(failures=20), 61.0)
    log.log(CircuitClosed(outage=35.2), 96.2)

    rate_limited = "rate limited: no requests for 3.0 s, then 12.5 per second"
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", rate_limited),
        ("DEBUG", rate_limited),
        ("WARNING", rate_limited),
        ("WARNING", "circuit open after 20 failures; sending one probe at a time"),
        ("INFO", "circuit closed: the server responds again after 35.2 s"),
    ]


class AsyncObserver:
    """Observer that would have to be awaited."""

    async def __call__(self, event: TelemetryEvent) -> None:
        """Never run."""


@pytest.mark.parametrize(
    ("observers", "problem"),
    [
        (None, "must be a sequence of callables, got NoneType"),
        (5, "must be a sequence of callables, got int"),
        ("print", "must be a sequence of callables, got str"),
        (print, "must be a sequence of callables, got builtin_function_or_method; put it in a"),
        ([print, None], "must be callables, got NoneType"),
        (["print"], "must be callables, got str"),
        ([AsyncObserver], "must be callables, got the class AsyncObserver"),
        ([AsyncObserver()], "must not be async"),
        ([AsyncObserver().__call__], "must not be async"),
        ([partial(AsyncObserver().__call__)], "must not be async"),
    ],
)
def test_wrongly_typed_observers_are_refused(observers: Any, problem: str) -> None:
    """When the client is made, with a sentence."""
    with pytest.raises(ConfigError, match=f"^observers {problem}"):
        AsyncVideoClient("key", observers=observers)


def test_observers_may_be_any_iterable_of_callables() -> None:
    """Such as functions, bound methods, partial functions and instances with __call__."""
    assert TelemetryEmitter(each for each in (print, [].append, partial(print)))  # type: ignore[arg-type]
    assert not TelemetryEmitter({})  # type: ignore[arg-type]
