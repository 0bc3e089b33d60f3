"""
Telling the caller's instruments what happens, whatever they do.

Nothing that an observer raises gets further than a log line and a count.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezvideo_async._domain.telemetry import Observer, TelemetryEvent

_log = logging.getLogger("ezvideo_async")


class TelemetryEmitter:
    """The observers of one client: they hear everything, and can break nothing."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self._has_logged = False
        self.failures = 0

    def __bool__(self) -> bool:
        return bool(self._observers)

    def tell(self, signal: TelemetryEvent) -> None:
        """Call every observer; what one raises is counted, and logged the first time."""
        for observer in self._observers:
            try:
                observer(signal)
            # The caller's code, which must not end a watch, not even by a stray cancellation.
            except (Exception, asyncio.CancelledError):  # noqa: BLE001, ASYNC103 -- see above
                self.failures += 1
                if not self._has_logged:
                    self._has_logged = True
                    _log.exception("an observer raised; it is still called, but not logged again")
