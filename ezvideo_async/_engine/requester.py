"""
One request and its repetitions: a renewed key, a fresh connection for a doubtful response.

The requester adds the key, sends, has the response read, repeats at once where that is no retry,
and reports to the admission queue and to telemetry.  It never sleeps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, TypeVar

from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._domain.telemetry import PollFailed, PollSucceeded
from ezvideo_async._protocol.fields import is_known_status
from ezvideo_async._protocol.messages import FRESH, Evidence
from ezvideo_async._protocol.responses import decode_task
from ezvideo_async._scheduling.failure_kinds import proves_server
from ezvideo_async.errors import AuthenticationError, BadResponseError, ConfigError, EzVideoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezvideo_async._engine.admission import AdmissionQueue
    from ezvideo_async._engine.aliases import TaskAliases
    from ezvideo_async._engine.telemetry import TelemetryEmitter
    from ezvideo_async._protocol.messages import Request, Response
    from ezvideo_async._scheduling.server_history import ServerHistory
    from ezvideo_async._scheduling.tracked_task import TrackedTask
    from ezvideo_async._transport.backend import Connection
    from ezvideo_async._transport.credentials import ApiKey, Credentials
    from ezvideo_async._transport.transport import Transport

    T = TypeVar("T", bound=VideoTask | TrackedTask)
    Read = Callable[[Response, Evidence], T | EzVideoError]
    _Attempt = tuple[T | EzVideoError, Response | None, Connection | None]

_log = logging.getLogger("ezvideo_async")

_USED = Evidence()
_HTTP_STATUSES = range(200, 600)
_MISDIRECTED = 421

_LOGGED_MAX = 1000  # unknown status values logged, once each; a server may send any number
_LOGGED_CHARACTERS = 200  # of each that are kept
_UNCONFIRMED_MAX = 10_000  # ids whose last response was a url alone


class Requester:
    """Sends requests to one server and has their responses read."""

    def __init__(
        self,
        *,
        base_url: str,
        credentials: Credentials,
        transport: Transport,
        admission: AdmissionQueue,
        telemetry: TelemetryEmitter,
        history: ServerHistory,
        aliases: TaskAliases,
    ) -> None:
        self._base_url = base_url
        self._credentials = credentials
        self._transport = transport
        self._admission = admission
        self._telemetry = telemetry
        self._history = history
        self._aliases = aliases
        self._logged: set[str] = set()
        self._unconfirmed_urls: dict[str, tuple[int, int]] = {}  # by id, each as a digest

    async def request(self, request: Request, read: Read[T], *, poll: bool) -> T | EzVideoError:
        """
        Send a request that was admitted, and repeat it at once where its response asks for that.

        *read* is called with each response, and with what else is known of it; it returns what the
        response shows.  A refused key, a foreign id and a final state that names no task are
        errors that lead to a second send.

        Returns:
            What was read, or the error.  Raises nothing but a cancellation and what the
            caller's key callable raises.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            api_key = await self._credentials.api_key()
            if poll and request.task_id in self._unconfirmed_urls:
                found, _, connection = await self._poll_unconfirmed(request, read, api_key)
            else:
                found, _, connection = await self._attempt(request, read, api_key)
            if isinstance(found, EzVideoError):
                found = await self._repeat(request, read, api_key, found, connection, poll=poll)
        except EzVideoError as raised:  # there is no key to send
            found = raised.with_traceback(None)
        except BaseException:
            self._admission.abandon(started=started, poll=poll)
            raise
        error = found if isinstance(found, EzVideoError) else None
        self._admission.finish(error, started=started, poll=poll)
        self._note(request.task_id, found, loop.time())
        self._report(request.task_id, found, started)
        return found

    async def _repeat(
        self,
        request: Request,
        read: Read[T],
        api_key: ApiKey,
        found: EzVideoError,
        connection: Connection | None,
        *,
        poll: bool,
    ) -> T | EzVideoError:
        """Send again where the response asks for that; return what is found in the end."""
        result: T | EzVideoError = found
        if isinstance(found, AuthenticationError):
            renewed = await self._credentials.renewed(api_key)
            if renewed is not None:
                result, _, connection = await self._attempt(request, read, renewed)
        if not isinstance(result, BadResponseError) or connection is None:
            return result
        if result.received_id is not None:
            is_fresh = not connection.was_used
            connection.close()
            return await self._attempt_after_foreign_id(request, read, result, is_fresh=is_fresh)
        if result.unconfirmed is not None:
            return await self._confirm(request, read, result, connection, poll=poll)
        return result

    async def _attempt(
        self, request: Request, read: Read[T], api_key: ApiKey, *, fresh: bool = False
    ) -> _Attempt[T]:
        """Send once; return what was read, the response unless none came, and its connection."""
        try:
            response, connection = await self._transport.send(request, api_key, fresh=fresh)
        except EzVideoError as error:
            return error.with_traceback(None), None, None
        if response.status == _MISDIRECTED or response.status not in _HTTP_STATUSES:
            connection.close()  # it leads to another server, or after a 101 it is not HTTP
        found = read(response, self._evidence(request.task_id, is_fresh=not connection.was_used))
        return found, response, connection

    def _evidence(self, task_id: str, *, is_fresh: bool) -> Evidence:
        aliases = self._aliases.of(task_id) if self._aliases.known else ()
        if aliases:
            return Evidence(aliases, is_fresh)
        return FRESH if is_fresh else _USED

    async def _attempt_after_foreign_id(
        self, request: Request, read: Read[T], error: BadResponseError, *, is_fresh: bool
    ) -> T | EzVideoError:
        """
        Send again on a fresh connection, where no stray response can be waiting.

        The same foreign id again is the server's own name for the task, unless it is another's.
        """
        task_id, foreign = request.task_id, error.received_id
        assert foreign is not None
        self._aliases.note_foreign(foreign, task_id, is_fresh=is_fresh)
        level = self._first_time_level("a response about another task")
        _log.log(level, "response for task %.200a is about %.200a; sending again", task_id, foreign)
        api_key = await self._credentials.api_key()
        found, response, connection = await self._attempt(request, read, api_key, fresh=True)
        again = _foreign_id(found)
        if again is None or response is None or connection is None:
            return found
        self._aliases.note_foreign(again, task_id, is_fresh=True)
        if again == foreign and self._aliases.accept(foreign, task_id):
            level = self._first_time_level("an alias")
            _log.log(
                level,
                "server answers with id %.200a for task %.200a; accepting it as an alias",
                foreign,
                task_id,
            )
            return read(response, self._evidence(task_id, is_fresh=True))
        connection.close()
        return found

    async def _confirm(
        self,
        request: Request,
        read: Read[T],
        error: BadResponseError,
        connection: Connection,
        *,
        poll: bool,
    ) -> T | EzVideoError:
        """
        Find out whether a fresh connection shows the same state that names no task.

        A url alone is read again by the next poll, but at once by a single call.
        """
        assert error.unconfirmed is not None
        url, is_url_only = error.unconfirmed.url, error.unconfirmed.raw_status is None
        connection.close()  # the response to this request may still come
        if poll and is_url_only:
            self._remember_url(request.task_id, url)
            return error
        api_key = await self._credentials.api_key()
        found, response, connection_2 = await self._attempt(request, read, api_key, fresh=True)
        if _foreign_id(found) is not None and connection_2 is not None:
            connection_2.close()
        again = _unconfirmed(found)
        if again is None or response is None:
            return found
        if poll:
            self._remember_url(request.task_id, again.url)
        elif again.url == url:
            return read(response, self._confirmed(request.task_id))
        return found

    async def _poll_unconfirmed(
        self, request: Request, read: Read[T], api_key: ApiKey
    ) -> _Attempt[T]:
        """Poll an id whose last response was a url alone: the same one again is its state."""
        attempt = await self._attempt(request, read, api_key, fresh=True)
        found, response, connection = attempt
        if response is None:
            return attempt
        seen = self._unconfirmed_urls.pop(request.task_id, None)
        again = _unconfirmed(found)
        if again is not None and _digest(again.url) == seen:
            return read(response, self._confirmed(request.task_id)), response, connection
        return attempt

    def _confirmed(self, task_id: str) -> Evidence:
        return Evidence(self._aliases.of(task_id), is_fresh=True, is_confirmed=True)

    def _remember_url(self, task_id: str, url: str | None) -> None:
        self._unconfirmed_urls.pop(task_id, None)
        self._unconfirmed_urls[task_id] = _digest(url)
        if len(self._unconfirmed_urls) > _UNCONFIRMED_MAX:
            del self._unconfirmed_urls[next(iter(self._unconfirmed_urls))]

    def decode(
        self, response: Response, task_id: str, evidence: Evidence
    ) -> VideoTask | EzVideoError:
        """Decode the response to a status request, and log an unknown status value once."""
        task = decode_task(
            response,
            task_id=task_id,
            base_url=self._base_url,
            unix_now=time.time(),
            evidence=evidence,
        )
        if isinstance(task, VideoTask) and task.status is TaskStatus.PROCESSING:
            value = task.raw_status
            if value is not None and not is_known_status(value) and self._is_first_time(value):
                _log.warning(
                    "unknown status %.200a for task %.200a; treating it as processing",
                    value,
                    task_id,
                )
        return task

    def _note(
        self, task_id: str, found: VideoTask | TrackedTask | EzVideoError, now: float
    ) -> None:
        history = self._history
        if isinstance(found, EzVideoError):
            if proves_server(found):
                history.record_valid(task_id, now)
            elif isinstance(found, ConfigError) and found.reason == "route":
                # A server that has responded has the route: it is being deployed, not misspelt.
                found.retryable = history.last_valid is not None
            return
        history.record_valid(task_id, now)
        if self._aliases.known and found.status is not None and found.status.is_terminal:
            self._aliases.forget(task_id)

    def _first_time_level(self, what: str) -> int:
        return logging.WARNING if self._is_first_time(what) else logging.DEBUG

    def _is_first_time(self, what: str) -> bool:
        what = what[:_LOGGED_CHARACTERS]
        if what in self._logged or len(self._logged) >= _LOGGED_MAX:
            return False
        self._logged.add(what)
        return True

    def _report(
        self, task_id: str, found: VideoTask | TrackedTask | EzVideoError, started: float
    ) -> None:
        """Log a request that has ended, and emit its telemetry event."""
        is_logged = _log.isEnabledFor(logging.DEBUG)
        if not is_logged and not self._telemetry:
            return
        elapsed = asyncio.get_running_loop().time() - started
        if is_logged:
            shown = found if isinstance(found, EzVideoError) else found.status
            _log.debug("%.200a: %s, after %.3f s", task_id, shown, elapsed)
        if not self._telemetry:
            return
        if isinstance(found, EzVideoError):
            self._telemetry.emit(PollFailed(task_id=task_id, error=found, elapsed=elapsed))
        elif found.status is not None:
            self._telemetry.emit(
                PollSucceeded(task_id=task_id, status=found.status, elapsed=elapsed)
            )


def _foreign_id(found: object) -> str | None:
    return found.received_id if isinstance(found, BadResponseError) else None


def _unconfirmed(found: object) -> VideoTask | None:
    return found.unconfirmed if isinstance(found, BadResponseError) else None


def _digest(url: str | None) -> tuple[int, int]:
    """Return what stands for a url, which may be a whole video."""
    return len(url or ""), hash(url)
