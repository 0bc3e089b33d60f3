"""
``AsyncVideoClient``: one status request, read right; one task awaited; many watched.

The client owns what is shared: the key, the connections, the budget.  It decides nothing about
when to ask: that is the scheduler's and the policies' part.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import warnings
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn, Self

from ezvideo_async._domain.policies import PollPolicy, RetryPolicy, is_local_stall
from ezvideo_async._domain.task import VideoTask
from ezvideo_async._domain.telemetry import RetryScheduled
from ezvideo_async._domain.validation import (
    sends_in_clear,
    validate_base_url,
    validate_headers,
    validate_seconds,
    validate_task_id,
    validate_timeout,
)
from ezvideo_async._engine.admission import AdmissionQueue
from ezvideo_async._engine.requester import Requester
from ezvideo_async._engine.telemetry import TelemetryEmitter
from ezvideo_async._lifetime import running_loop
from ezvideo_async._limits.budget import RequestBudget
from ezvideo_async._transport.credentials import Credentials, KeySource
from ezvideo_async._transport.transport import Transport
from ezvideo_async.errors import (
    BadRequestError,
    ClosedError,
    ConfigError,
    EzVideoError,
    RateLimitError,
    RequestTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    import aiohttp

    from ezvideo_async._domain.telemetry import Observer
    from ezvideo_async._engine.poller import Poller
    from ezvideo_async._watcher import TaskWatcher

_log = logging.getLogger("ezvideo_async")

DEFAULT_BASE_URL = "https://www.ezmodel.cloud/v1"
"""The API document's server."""


class AsyncVideoClient:
    """
    A client of one server, for one event loop; enter it before use.

    Args:
        api_key: The key, or an async callable that gives one and is asked once more after a
            401; None reads ``EZVIDEO_API_KEY``.
        base_url: Up to and including ``/v1``, with or without a slash at the end; None reads
            ``EZVIDEO_BASE_URL``, else ``https://www.ezmodel.cloud/v1``.
        request_timeout: Seconds for one request, from connecting to the last byte.
        retry: How often ``retrieve()`` tries; watches have their own policy.
        budget: What the server is asked at most; share one among clients of one server.
        session: An aiohttp session to borrow, for its connector's sake; it is never closed, and
            its middlewares are not used.  None opens connections of our own when they are needed,
            which takes half the CPU time.
        headers: Sent with every request; not ``Authorization``.
        observers: Called with every ``TelemetryEvent``.
        rand: Gives numbers in [0, 1); the only source of chance.

    Raises:
        ConfigError: There is no key, or an argument can't be used.
    """

    _base_url = ""  # what ``repr`` shows of a client that was refused

    def __init__(
        self,
        api_key: KeySource | None = None,
        *,
        base_url: str | None = None,
        request_timeout: float = 15.0,
        retry: RetryPolicy | None = None,
        budget: RequestBudget | None = None,
        session: aiohttp.ClientSession | None = None,
        headers: Mapping[str, str] | None = None,
        observers: Sequence[Observer] = (),
        rand: Callable[[], float] = random.random,
    ) -> None:
        try:
            self._credentials = Credentials(_or_environment(api_key, "EZVIDEO_API_KEY", None))
        finally:
            del api_key  # no traceback shows it
        self._base_url = validate_base_url(
            _or_environment(base_url, "EZVIDEO_BASE_URL", DEFAULT_BASE_URL)
        )
        patience = validate_seconds("request_timeout", request_timeout, low=0.001)
        self._credentials.patience = patience
        self._retry = retry if retry is not None else RetryPolicy()
        self._budget = budget if budget is not None else RequestBudget()
        self._observers = TelemetryEmitter(observers)
        self._rand = rand
        self._transport = Transport(
            base_url=self._base_url,
            headers=validate_headers(headers or {}),
            request_timeout=patience,
            session=session,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._is_closed = False
        self._gate: AdmissionQueue
        self._exchange: Requester

    def __repr__(self) -> str:
        return f"AsyncVideoClient(base_url={self._base_url!r})"

    def __reduce__(self) -> NoReturn:
        message = "a client is not pickled or copied; make a new one"
        raise TypeError(message)

    @property
    def base_url(self) -> str:
        """The server, without a slash at the end."""
        return self._base_url

    @property
    def budget(self) -> RequestBudget:
        """What the server is asked at most; its rate may be set while running."""
        return self._budget

    @property
    def requests_sent(self) -> int:
        """Requests put on the wire so far, exactly what the server was sent."""
        return self._transport.sends

    # -- lifetime ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._is_closed:
            message = "this client was closed; make a new one"
            raise ClosedError(message)
        if self._loop is not None:
            self._check_usable()
            message = "this client is entered already"
            raise ClosedError(message)
        loop = running_loop()
        if loop is None:
            message = "no asyncio event loop runs here; trio can't be used, because aiohttp can't"
            raise ConfigError(message)
        self._gate = AdmissionQueue(self._budget, self._observers, self._rand)
        self._loop = loop
        self._process = os.getpid()
        self._exchange = Requester(
            base_url=self._base_url,
            credentials=self._credentials,
            transport=self._transport,
            gate=self._gate,
            observers=self._observers,
        )
        if sends_in_clear(self._base_url):
            _log.warning("the key goes to %s in clear: use https if it can", self._base_url)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections of our own; watches end with ``ClosedError``.  Again is nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._loop is None:
            return
        self._gate.close()
        await self._transport.aclose()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if getattr(self, "_loop", None) is not None and not self._is_closed:
            _warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)

    def _check_usable(self) -> None:
        if self._is_closed:
            message = "this client was closed; make a new one"
            raise ClosedError(message)
        if self._loop is None:
            message = "enter the client first: async with AsyncVideoClient(...) as client"
            raise ClosedError(message)
        if self._process != os.getpid():
            message = "this client belongs to the parent process; make a new one after the fork"
            raise ClosedError(message)
        if self._loop is not running_loop():
            message = "this client belongs to another event loop; make one client per loop"
            raise ClosedError(message)

    # -- one task ---------------------------------------------------------------------------------

    async def retrieve(self, task_id: str) -> VideoTask:
        """
        Ask once for a task's state, with up to ``retry.attempts`` requests in passing trouble.

        Pauses have full jitter; ``Retry-After`` is obeyed up to ``retry.retry_after_max``.  In
        an outage the client's retry budget runs dry and calls fail after one request.

        Raises:
            InvalidTaskIdError: Before anything is sent.
            TaskNotFoundError: The server knows no such task.
            AuthenticationError: The key was refused, a renewed one too.
            APIStatusError: Any other error status, by its subclass.
            BadResponseError: The answer is not a task.
            TransportError: No answer came; ``RequestTimeoutError`` when it took too long.
            ConfigError: The server redirects, or has no such route.
            ClosedError: The client is not open in this event loop.
        """
        validate_task_id(task_id)
        self._check_usable()
        now = asyncio.get_running_loop().time()
        limit = inf if self._retry.deadline is None else now + self._retry.deadline
        failures, throttled = 0, False
        while True:
            await self._enter(task_id, limit)
            answer = await self._exchange.ask(task_id, poll=False)
            if isinstance(answer.outcome, VideoTask):
                self._budget.credit_retry(retried=failures > 0, throttled=throttled)
                return answer.outcome
            error = answer.outcome
            assert isinstance(error, EzVideoError), "nothing was known that could be shown again"
            failures += not is_local_stall(error)
            throttled = isinstance(error, RateLimitError)
            pause = self._delay_before_retry(error, max(failures, 1), limit)
            if pause is None:
                raise error
            if self._observers:
                self._observers.tell(
                    RetryScheduled(task_id=task_id, failures=failures, delay=pause)
                )
            await self._gate.pause(pause)

    async def _enter(self, task_id: str, limit: float) -> None:
        """Wait for a turn, but not beyond the call's own limit."""
        patience = asyncio.timeout_at(None if limit == inf else limit)
        try:
            async with patience:
                self._check_cool_down(task_id, limit)
                while delay := await self._gate.enter(poll=False):
                    await self._gate.pause(delay)
                    self._check_cool_down(task_id, limit)
                return
        except TimeoutError:
            if not patience.expired():
                raise
        message = (
            "the client's budget gave this call no turn in time; raise its rate or max_in_flight"
        )
        raise RequestTimeoutError(message, task_id=task_id, reason="budget")

    def _check_cool_down(self, task_id: str, limit: float) -> None:
        """Fail at once when the server's cool-down is longer than a call waits for one."""
        now = asyncio.get_running_loop().time()
        left = self._budget.cool_down_left(now)
        if left > min(self._retry.retry_after_max, limit - now):
            message = f"rate limited (429): no request for another {left:.0f} s"
            raise RateLimitError(
                message, task_id=task_id, retryable=True, retry_after=left, status=429
            )

    def _delay_before_retry(self, error: EzVideoError, failures: int, limit: float) -> float | None:
        """Seconds until the next attempt; None when this error is the caller's to see."""
        if not error.retryable or (isinstance(error, BadRequestError) and failures > 1):
            return None
        throttled = isinstance(error, RateLimitError)
        delay = self._retry.delay(
            failures=failures,
            rand=self._rand(),
            throttled=throttled,
            retry_after=getattr(error, "retry_after", None),
        )
        if delay is None or asyncio.get_running_loop().time() + delay > limit:
            return None
        return delay if self._budget.take_retry(throttled=throttled) else None

    async def wait(
        self,
        task_id: str,
        *,
        timeout: float | None = 3600.0,  # noqa: ASYNC109 -- its own error carries the task
        policy: PollPolicy | None = None,
        raise_on_failure: bool = True,
        not_found_grace: float = 10.0,
    ) -> VideoTask:
        """
        Wait until a task has ended: looks first, sleeps after.

        Passing trouble never ends the wait; the deadline does, and cancels the request in
        flight.  Waiting again with the same id costs nothing but requests.

        Args:
            task_id: The task.
            timeout: Seconds, more than 0; None waits for ever.
            policy: When to ask; None is ``PollPolicy()``.
            raise_on_failure: False returns a failed task instead of raising.
            not_found_grace: Seconds in which "not found" is taken for "not yet".

        Returns:
            The task, completed; or failed with ``raise_on_failure=False``.

        Raises:
            TaskFailedError: The task ended without a video; ``.task`` says why.
            WaitTimeoutError: The time was up; carries the last task and the last error.
            TaskNotFoundError: The server does not know the task (any more).
            AuthenticationError: The key was refused; PermissionDeniedError, ConfigError and
                TLSError likewise: trouble that waiting does not heal.
            BadRequestError: The server refuses to answer for this task; ServerError when it does
                so with a 501.
            InvalidTaskIdError: Before anything is sent.
            ClosedError: The client is not open in this event loop.
        """
        validate_task_id(task_id)
        limit = validate_timeout("timeout", timeout)
        grace = validate_seconds("not_found_grace", not_found_grace, low=0.0)
        self._check_usable()
        return await self._poller.wait(
            task_id,
            policy=policy or PollPolicy(),
            not_found_grace=grace,
            limit=limit,
            raise_on_failure=raise_on_failure,
        )

    @cached_property
    def _poller(self) -> Poller:
        # Who asks once needs nothing of what waits: a quarter of what is imported.
        from ezvideo_async._engine.poller import Poller  # noqa: PLC0415 -- see the line above

        return Poller(self._exchange, self._gate, self._observers, self._rand)

    # -- many tasks -------------------------------------------------------------------------------

    def watch(self, task_ids: Iterable[str] = (), **watcher_options: Any) -> TaskWatcher:
        """Make a :class:`TaskWatcher` of this client; its options are that class's."""
        # The watcher stands on the client's floor, not under it.
        from ezvideo_async._watcher import TaskWatcher  # noqa: PLC0415 -- imports go down only

        return TaskWatcher(self, task_ids, **watcher_options)


def _or_environment(argument: Any, name: str, default: Any) -> Any:
    """Read a variable in the place of an argument left out; an empty one counts as unset."""
    return (os.environ.get(name) or default) if argument is None else argument


def poller_of(client: AsyncVideoClient) -> Poller:
    """
    Give the engine of an open client to the watcher, one floor up.

    Raises:
        ClosedError: The client is not open in this event loop and process.
    """
    client._check_usable()  # noqa: SLF001 -- the client's own module
    return client._poller  # noqa: SLF001 -- the client's own module
