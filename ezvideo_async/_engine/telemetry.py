"""Telemetry of one client: calls of its observers, and log records of cool-downs and outages."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING

from ezvideo_async._domain.telemetry import CircuitClosed, CircuitOpened, RateLimited
from ezvideo_async.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezvideo_async._domain.telemetry import Observer, TelemetryEvent

_WARNING_INTERVAL = 60.0  # seconds between two warnings of a 429; a low limit gives many

_log = logging.getLogger("ezvideo_async")


class TelemetryEmitter:
    """
    Calls all observers of one client; false when there are none.

    Raises:
        ConfigError: *observers* is not a sequence of plain callables.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = _validate_observers(observers)
        self.failures: int = 0  # calls of an observer that raised

    def __bool__(self) -> bool:
        return bool(self._observers)

    def emit(self, event: TelemetryEvent) -> None:
        """Call every observer; count what one raises, and log it the first time."""
        for observer in self._observers:
            try:
                observer(event)
            # The caller's code must not end a watch, not even by a stray cancellation.
            except (Exception, asyncio.CancelledError):  # noqa: BLE001, ASYNC103 -- see above
                self.failures += 1
                if self.failures == 1:
                    _log.exception("an observer raised; it is still called, but not logged again")


def _validate_observers(observers: object) -> tuple[Observer, ...]:
    if not isinstance(observers, Iterable) or isinstance(observers, str | bytes):
        hint = "; put it in a list" if callable(observers) else ""
        raise ConfigError(
            f"observers must be a sequence of callables, got {type(observers).__name__}{hint}"
        )
    chosen = tuple(observers)
    for observer in chosen:
        if isinstance(observer, type):
            raise ConfigError(f"observers must be callables, got the class {observer.__name__}")
        if not callable(observer):
            raise ConfigError(f"observers must be callables, got {type(observer).__name__}")
        if any(map(inspect.iscoroutinefunction, (observer, type(observer).__call__))):
            raise ConfigError(
                "observers must not be async: they are called and not awaited; "
                "let one put the events into an asyncio.Queue"
            )
    return chosen


class LimitLog:
    """Logs cool-downs and outages; warns of a 429 at most once per minute."""

    def __init__(self) -> None:
        self._warned_at = -inf

    def log(self, event: TelemetryEvent, now: float) -> None:
        match event:
            case RateLimited(seconds=seconds, rate=rate):
                level = logging.DEBUG
                if now - self._warned_at >= _WARNING_INTERVAL:
                    level, self._warned_at = logging.WARNING, now
                message = "rate limited: no requests for %.1f s, then %.1f per second"
                _log.log(level, message, seconds, rate)
            case CircuitOpened(failures=count):
                _log.warning("circuit open after %d failures; sending one probe at a time", count)
            case CircuitClosed(outage=outage):
                _log.info("circuit closed: the server responds again after %.1f s", outage)
