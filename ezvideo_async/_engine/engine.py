"""
Engine of one client: the composition root that client, poller and watchers share.

It is made without an event loop, and bound to the loop and process of its first use.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ezvideo_async._engine.admission import AdmissionQueue
from ezvideo_async._engine.aliases import TaskAliases
from ezvideo_async._engine.requester import Requester
from ezvideo_async._engine.telemetry import TelemetryEmitter
from ezvideo_async._lifetime import LoopAffinity, running_loop
from ezvideo_async._limits.budget import rate_limiter_of
from ezvideo_async._scheduling.server_history import ServerHistory
from ezvideo_async.errors import ClosedError, ConfigError, EzVideoError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezvideo_async._domain.telemetry import Observer
    from ezvideo_async._engine.poller import Poller
    from ezvideo_async._limits.budget import RequestBudget
    from ezvideo_async._limits.rate_limiter import RateLimiter
    from ezvideo_async._protocol.requests import StatusRoute
    from ezvideo_async._protocol.stored_response import FinalBodies
    from ezvideo_async._scheduling.duration_estimator import DurationEstimator
    from ezvideo_async._transport.credentials import Credentials
    from ezvideo_async._transport.transport import Transport


class Engine:
    """
    What one client needs to send requests.

    Args:
        base_url: Valid, without a trailing slash.
        route: Of a task's state at *base_url*.
        budget: Limits what is sent; may be shared with other clients.
        rand: Gives numbers in [0, 1); the only source of randomness.
    """

    def __init__(
        self,
        *,
        base_url: str,
        route: StatusRoute,
        credentials: Credentials,
        transport: Transport,
        budget: RequestBudget,
        observers: Sequence[Observer],
        rand: Callable[[], float],
    ) -> None:
        self.base_url = base_url
        self.route = route
        self.budget = budget
        self.limiter: RateLimiter = rate_limiter_of(budget)
        self.rand = rand
        self.telemetry: TelemetryEmitter = TelemetryEmitter(observers)
        self.admission: AdmissionQueue = AdmissionQueue(self.limiter, self.telemetry, rand)
        self.history: ServerHistory = ServerHistory()
        self.aliases: TaskAliases = TaskAliases()
        self.requester: Requester = Requester(
            base_url=base_url,
            credentials=credentials,
            transport=transport,
            admission=self.admission,
            telemetry=self.telemetry,
            history=self.history,
            aliases=self.aliases,
        )
        self._credentials = credentials
        self._transport = transport
        self._affinity: LoopAffinity | None = None
        self._closing: dict[Callable[[], None], None] = {}
        self.is_closed: bool = False

    @cached_property
    def poller(self) -> Poller:
        """Polls ids for schedulers; imported late, since a single ``retrieve()`` needs none."""
        from ezvideo_async._engine.poller import Poller  # noqa: PLC0415 -- see above

        return Poller(self)

    @cached_property
    def estimator(self) -> DurationEstimator:
        from ezvideo_async._scheduling.duration_estimator import (  # noqa: PLC0415 -- as above
            DurationEstimator,
        )

        return DurationEstimator()

    @cached_property
    def final_bodies(self) -> FinalBodies:
        """The account of the large responses that watchers keep."""
        from ezvideo_async._protocol.stored_response import FinalBodies  # noqa: PLC0415 -- as above

        return FinalBodies()

    async def fingerprint(self) -> Callable[[bytes], bytes | None]:
        """Return what makes a fingerprint of the API key with a salt; None if there is no key."""
        try:
            api_key = await self._credentials.api_key()
        except EzVideoError:
            return lambda _salt: None
        return api_key.fingerprint

    @property
    def requests_sent(self) -> int:
        return self._transport.sends

    @property
    def is_bound(self) -> bool:
        return self._affinity is not None

    def bind(self) -> None:
        """
        Bind to the running event loop and process at the first use.  Idempotent.

        Raises:
            ClosedError: It was closed, or belongs to another event loop or process.
            ConfigError: No asyncio event loop is running.
        """
        if self.is_closed:
            raise ClosedError("this client was closed; make a new one")
        if self._affinity is not None:
            self._affinity.check()
            return
        if running_loop() is None:
            raise ConfigError(
                "no asyncio event loop is running; trio is not supported, as aiohttp is not"
            )
        self.admission.open()
        self._affinity = LoopAffinity("client")

    def on_close(self, callback: Callable[[], None]) -> None:
        self._closing[callback] = None

    def off_close(self, callback: Callable[[], None]) -> None:
        """Undo ``on_close``.  Idempotent."""
        self._closing.pop(callback, None)

    async def aclose(self) -> None:
        """Close the connections that were opened here; calls that wait fail.  Idempotent."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._affinity is None:
            return
        for callback in tuple(self._closing):
            callback()
        self.admission.close()
        await self._transport.aclose()
