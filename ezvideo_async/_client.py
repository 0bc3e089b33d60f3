"""
``AsyncVideoClient``: status requests to one server, for single tasks and for watchers.

The client owns the API key, the connections and the budget.
"""

from __future__ import annotations

import asyncio
import os
import random
import warnings
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn, Self

from ezvideo_async._domain.policies import PollPolicy, RetryPolicy
from ezvideo_async._domain.telemetry import RetryScheduled
from ezvideo_async._domain.validation import (
    task_id_of,
    validate_base_url,
    validate_bytes,
    validate_encrypted,
    validate_headers,
    validate_instance,
    validate_query,
    validate_seconds,
    validate_status_path,
    validate_timeout,
)
from ezvideo_async._engine.engine import Engine
from ezvideo_async._limits.budget import RequestBudget
from ezvideo_async._protocol.requests import (
    MAX_STATUS_BYTES,
    STATUS_PATH,
    StatusRoute,
    retrieve_request,
)
from ezvideo_async._scheduling.failure_kinds import is_local_stall
from ezvideo_async._transport.credentials import Credentials, KeySource
from ezvideo_async._transport.proxy import choose_proxy
from ezvideo_async._transport.transport import Transport
from ezvideo_async.errors import BadRequestError, EzVideoError, RateLimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    import aiohttp

    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async._domain.telemetry import Observer
    from ezvideo_async._engine.persistence import Acknowledge, StoreArgument
    from ezvideo_async._protocol.messages import Evidence, Response
    from ezvideo_async._watcher import TaskWatcher

DEFAULT_BASE_URL = "https://www.ezmodel.cloud/v1"
"""The API document's server."""


class AsyncVideoClient:
    """
    A client of one server.

    It is usable at once, and belongs to the event loop and process of its first use.  Close it
    with ``async with`` or :meth:`aclose`.

    Args:
        api_key: The API key, or an async callable that returns one and is called once more after
            a 401; None reads ``EZVIDEO_API_KEY``.
        base_url: Up to and including ``/v1``, with or without a slash at the end; None reads
            ``EZVIDEO_BASE_URL``, else ``https://www.ezmodel.cloud/v1``.
        request_timeout: Seconds for one request, from connecting to the last byte.
        retry: How often ``retrieve()`` tries; watchers have their own policy.
        budget: Limits what is sent to the server; share one among the clients of one server.
        session: An aiohttp session whose connector is used; it is never closed, and its
            middlewares are not used.  None opens connections of its own, at half the CPU time.
        headers: Sent with every request; ``Authorization`` is not allowed.
        query: Added to the url of every request, such as ``{"api-version": "2025-04-01"}``.
        status_path: Path of a task's state after *base_url*, with ``{task_id}`` once.
        max_response_bytes: Bytes of a status response; a longer one is a ``BadResponseError``
            with reason ``too_large``.  Any other response is at most 1 MiB.
        proxy: Url of an HTTP proxy, or ``"environment"`` for ``HTTPS_PROXY``, ``HTTP_PROXY`` and
            ``NO_PROXY`` as they are now; None connects directly, or as *session* does.
        allow_insecure: Whether a *base_url* of plain ``http://`` may lead to another machine:
            everyone who can read the traffic gets the API key.
        observers: Called with every telemetry event.

    Raises:
        ConfigError: There is no API key, or an argument is not valid.
    """

    _base_url = ""  # for the repr of a client whose arguments were refused

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
        query: Mapping[str, str] | None = None,
        status_path: str = STATUS_PATH,
        max_response_bytes: int = MAX_STATUS_BYTES,
        proxy: str | None = None,
        allow_insecure: bool = False,
        observers: Sequence[Observer] = (),
    ) -> None:
        source = _or_environment(api_key, "EZVIDEO_API_KEY", None)
        del api_key
        try:
            timeout = validate_seconds("request_timeout", request_timeout, low=0.001)
            credentials = Credentials(source, timeout=timeout)
            self._base_url = validate_base_url(
                _or_environment(base_url, "EZVIDEO_BASE_URL", DEFAULT_BASE_URL)
            )
            chosen_proxy = choose_proxy(proxy, base_url=self._base_url)
        finally:
            del source, proxy  # no traceback shows them
        if not validate_instance("allow_insecure", allow_insecure, bool):
            proxy_host = None if chosen_proxy is None else chosen_proxy.host
            validate_encrypted(self._base_url, proxy_host=proxy_host)
        self._retry = validate_instance("retry", retry, RetryPolicy) or RetryPolicy()
        transport = Transport(
            base_url=self._base_url,
            headers=validate_headers({} if headers is None else headers),
            request_timeout=timeout,
            session=session,
            proxy=chosen_proxy,
            rand=random.random,
        )
        self._engine = Engine(
            base_url=self._base_url,
            route=StatusRoute(
                self._base_url,
                path=validate_status_path(status_path),
                query=validate_query({} if query is None else query),
                max_bytes=validate_bytes("max_response_bytes", max_response_bytes),
            ),
            credentials=credentials,
            transport=transport,
            budget=validate_instance("budget", budget, RequestBudget) or RequestBudget(),
            observers=observers,
            rand=random.random,
        )

    def __repr__(self) -> str:
        return f"AsyncVideoClient(base_url={self._base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client cannot be pickled or copied; make a new one")

    @property
    def base_url(self) -> str:
        """The server, without a slash at the end."""
        return self._base_url

    @property
    def budget(self) -> RequestBudget:
        """The limits of what is sent to the server; its rate may be set while running."""
        return self._engine.budget

    @property
    def requests_sent(self) -> int:
        """Requests put on the wire: exactly those that the server was sent."""
        return self._engine.requests_sent

    # -- lifetime ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._engine.bind()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close our own connections; watchers end with ``ClosedError``.  Idempotent."""
        await self._engine.aclose()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        engine = getattr(self, "_engine", None)
        if engine is not None and engine.is_bound and not engine.is_closed:
            _warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)

    # -- one task ---------------------------------------------------------------------------------

    async def retrieve(self, task: str | VideoTask) -> VideoTask:
        """
        Request a task's state, with up to ``retry.attempts`` requests after transient failures.

        Delays have full jitter; ``Retry-After`` is obeyed up to ``retry.retry_after_max``.  In
        an outage the client's retry quota runs out, and calls fail after one request.

        Raises:
            InvalidTaskIdError: Before anything is sent.
            TaskNotFoundError: The server knows no such task.
            AuthenticationError: The API key was refused, a renewed one too.
            APIStatusError: Any other error status, by its subclass.
            BadResponseError: The response is not a task.
            TransportError: No response came; ``RequestTimeoutError`` when it took too long.
            ConfigError: The server redirects, or has no such route.
            ClosedError: The client was closed, or belongs to another event loop.
        """
        task_id = task_id_of(task)
        engine, retry = self._engine, self._retry
        engine.bind()
        now = asyncio.get_running_loop().time
        deadline = inf if retry.deadline is None else now() + retry.deadline
        engine.aliases.add_other(task_id)
        request = retrieve_request(engine.route, task_id)
        requester, quota = engine.requester, engine.limiter.retry_quota

        def read(response: Response, evidence: Evidence) -> VideoTask | EzVideoError:
            return requester.decode(response, task_id, evidence)

        failures, rate_limited = 0, False
        while True:
            await engine.admission.admit_call(
                task_id, deadline=deadline, cool_down_max=retry.retry_after_max
            )
            found = await requester.request(request, read, poll=False)
            if not isinstance(found, EzVideoError):
                quota.credit(retried=failures > 0, rate_limited=rate_limited)
                return found
            failures += not is_local_stall(found)
            rate_limited = isinstance(found, RateLimitError)
            delay = self._delay_before_retry(found, max(failures, 1), deadline - now())
            if delay is None:
                raise found
            if engine.telemetry:
                event = RetryScheduled(task_id=task_id, failures=failures, delay=delay)
                engine.telemetry.emit(event)
            await engine.admission.sleep(delay)

    def _delay_before_retry(self, error: EzVideoError, failures: int, left: float) -> float | None:
        """Return the seconds until the next attempt; None to raise the error."""
        if not error.retryable or (isinstance(error, BadRequestError) and failures > 1):
            return None
        rate_limited = isinstance(error, RateLimitError)
        delay = self._retry.delay(
            failures=failures,
            rand=self._engine.rand(),
            rate_limited=rate_limited,
            retry_after=getattr(error, "retry_after", None),
        )
        if delay is None or delay > left:
            return None
        has_quota = self._engine.limiter.retry_quota.take(rate_limited=rate_limited)
        return delay if has_quota else None

    async def wait(
        self,
        task: str | VideoTask,
        *,
        timeout: float | None = 3600.0,  # noqa: ASYNC109 -- its own error carries the task
        policy: PollPolicy | None = None,
        raise_on_failure: bool = True,
        not_found_grace: float = 10.0,
    ) -> VideoTask:
        """
        Poll immediately, then at intervals, until the task finishes.

        A failed poll never ends the wait; the timeout does, and cancels the request in flight.
        The errors below end it once they are confirmed by repetition.

        Args:
            task: The task, or its id.
            timeout: Seconds, more than 0; None means no limit.
            policy: The delays between polls; None means ``PollPolicy()``.
            raise_on_failure: False returns a failed task instead of raising.
            not_found_grace: Seconds in which "not found" means "not yet".

        Raises:
            TaskFailedError: The task finished without a video; ``.task`` says why.
            WaitTimeoutError: It did not finish in time; carries the last task and the last error.
            TaskNotFoundError: The server does not know the task (any more).
            AuthenticationError: The API key was refused; likewise PermissionDeniedError,
                ConfigError and TLSError, which waiting does not repair.
            BadRequestError: The server refuses requests about this task; ServerError for a 501.
            InvalidTaskIdError: Before anything is sent.
            ClosedError: The client was closed, or belongs to another event loop.
        """
        task_id = task_id_of(task)
        limit = validate_timeout("timeout", timeout)
        grace = validate_seconds("not_found_grace", not_found_grace, low=0.0)
        chosen = validate_instance("policy", policy, PollPolicy) or PollPolicy()
        self._engine.bind()
        self._engine.aliases.add_other(task_id)
        return await self._engine.poller.wait(
            task_id,
            policy=chosen,
            not_found_grace=grace,
            timeout=limit,
            raise_on_failure=raise_on_failure,
        )

    # -- many tasks -------------------------------------------------------------------------------

    def watch(
        self,
        tasks: Iterable[str | VideoTask] | Mapping[str, Any] = (),
        *,
        policy: PollPolicy | None = None,
        timeout: float | None = 86_400.0,
        progress: bool = False,
        keep_open: bool = False,
        not_found_grace: float = 10.0,
        retain_ended: float = 300.0,
        tag: Any = None,
        store: StoreArgument = None,
        acknowledge: Acknowledge = "on_next",
        iterate: bool = True,
    ) -> TaskWatcher:
        """
        Make a watcher of many tasks: ``async with client.watch(ids) as watcher``.

        Args:
            tasks: The first tasks or their ids, or a mapping from id to tag.
            policy: The delays between polls; None means ``PollPolicy()``.
            timeout: Seconds until an id is lost with reason ``deadline``, at once if the server,
                refusing, asks to wait for longer; None means no limit.
            progress: Whether changes of progress alone are delivered.
            keep_open: Whether the watcher continues when all ids have ended.
            not_found_grace: Seconds after ``add`` in which "not found" means "not yet".
            retain_ended: Seconds for which an ended id stays known to late readers.
            tag: Anything; returned with every event of the first tasks.
            store: The path of a file that keeps the ids, their tags and their unread final events
                across restarts; a ``MemoryStore`` in tests; None keeps nothing.
            acknowledge: ``"on_next"``: reading on acknowledges a final event, which then does not
                come again after a restart; ``"by_hand"``: ``watcher.acknowledge()`` does.
            iterate: False for a watcher that only ``wait()`` and ``subscribe()`` read: no event
                waits for its own iteration.

        Raises:
            ConfigError: An option is out of its range, or a tag cannot be stored.
            InvalidTaskIdError: An id is not valid.
        """
        from ezvideo_async._watcher import TaskWatcher  # noqa: PLC0415 -- it is a layer above

        return TaskWatcher(
            self._engine,
            tasks,
            policy=policy,
            timeout=timeout,
            progress=progress,
            keep_open=keep_open,
            not_found_grace=not_found_grace,
            retain_ended=retain_ended,
            tag=tag,
            store=store,
            acknowledge=acknowledge,
            iterate=iterate,
        )


def _or_environment(argument: Any, name: str, default: Any) -> Any:
    """Read an environment variable if the argument is None; an empty one counts as unset."""
    return (os.environ.get(name) or default) if argument is None else argument
