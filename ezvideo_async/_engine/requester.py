"""
One question, one answer: what a status request and its answer take, retries left out.

An ``Requester`` puts the key on, sends, reads the answer, asks again at once where that is no
retry (a renewed key, an answer that belongs to another request), and tells the budget and the
observers how it went.  It never sleeps.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._domain.telemetry import PollFailed, PollSucceeded
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.messages import NO_HINT, PollHint
from ezvideo_async._protocol.responses import decode_task, poll_hint, retrieve_request
from ezvideo_async._protocol.task_decoder import foreign_id
from ezvideo_async.errors import (
    AuthenticationError,
    BadResponseError,
    ConfigError,
    EzVideoError,
)

if TYPE_CHECKING:
    from ezvideo_async._domain.telemetry import TelemetryEvent
    from ezvideo_async._engine.admission import AdmissionQueue
    from ezvideo_async._engine.telemetry import TelemetryEmitter
    from ezvideo_async._protocol.progress_only import ProgressUpdate
    from ezvideo_async._transport.backend import Connection
    from ezvideo_async._transport.credentials import ApiKey, Credentials
    from ezvideo_async._transport.transport import Transport

_log = logging.getLogger("ezvideo_async")

_HTTP_STATUSES = range(200, 600)
_MISDIRECTED = 421

_WORDS_REMEMBERED = 1000
"""So many unknown words are logged, once each; a server may send any number."""


class Known(Protocol):
    """
    What is known of a task when its answer comes.

    Attributes:
        body: The answer that was read last; empty when none was.
        status: What it showed.
        progress: The progress that it showed.
    """

    @property
    def body(self) -> bytes: ...

    @property
    def status(self) -> TaskStatus | None: ...

    @property
    def progress(self) -> int | None: ...


@frozen
class Answer:
    """
    What came of one question.

    Attributes:
        outcome: The task, or the error; None when the task is as it is known, its progress when
            nothing else has changed.
        hint: When the server wants to be asked again.
    """

    outcome: VideoTask | ProgressUpdate | EzVideoError | None
    hint: PollHint = NO_HINT


class Requester:
    """
    Asks one server for tasks.

    Args:
        base_url: Checked, without a trailing slash.
        credentials: Give the key.
        transport: Sends.
        gate: Hears how each request ended.
        observers: Hear of each request.
    """

    def __init__(
        self,
        *,
        base_url: str,
        credentials: Credentials,
        transport: Transport,
        gate: AdmissionQueue,
        observers: TelemetryEmitter,
    ) -> None:
        self._base_url = base_url
        self._credentials = credentials
        self._transport = transport
        self._gate = gate
        self._observers = observers
        self._has_been_answered = False
        self._logged: set[str] = set()
        self._aliases: dict[str, str] = {}

    async def ask(self, task_id: str, *, known: Known | None = None, poll: bool = True) -> Answer:
        """
        Ask for one task; the gate must have let this request start.

        Args:
            task_id: The task.
            known: Its last state; without one, the outcome is the task or an error.
            poll: As the gate was entered.

        Never raises but for cancellation and what the caller's key provider raises.
        """
        started = self._gate.loop.time()
        try:
            answer = await self._asked(task_id, known)
        except EzVideoError as raised:  # there is no key to ask with
            answer = Answer(raised.with_traceback(None))
        except BaseException:  # cancelled, or the key provider's own: the permit goes back
            self._gate.abandon(started=started, poll=poll)
            raise
        outcome = answer.outcome
        error = outcome if isinstance(outcome, EzVideoError) else None
        self._gate.finish(error, started=started, poll=poll)
        is_logged = _log.isEnabledFor(logging.DEBUG)
        if is_logged or self._observers:
            elapsed = self._gate.loop.time() - started
            if is_logged:
                told = outcome if isinstance(outcome, EzVideoError) else _status(outcome, known)
                _log.debug("%.200a: %s, after %.3f s", task_id, told, elapsed)
            self._observers.tell(_signal(task_id, outcome, known, elapsed))
        return answer

    async def _asked(self, task_id: str, known: Known | None) -> Answer:
        secret = await self._credentials.secret()
        alias = self._aliases.get(task_id)
        answer, line = await self._sent(task_id, secret, alias, known)
        if isinstance(answer.outcome, AuthenticationError):
            renewed = await self._credentials.renewed(secret)
            if renewed is not None:
                answer, line = await self._sent(task_id, renewed, alias, known)
        foreign = _foreign_id(answer)
        if foreign is not None and line is not None:
            line.close()
            answer = await self._asked_on_fresh_line(task_id, foreign)
        self._note(answer)
        return answer

    async def _asked_on_fresh_line(self, task_id: str, foreign: str) -> Answer:
        """
        Ask again where no stray answer can be waiting.

        A pooled connection can hand over the answer to somebody else's request.  The same
        foreign id on a fresh connection is the server's own name for the task.
        """
        level = logging.WARNING if self._is_news("an answer about another task") else logging.DEBUG
        _log.log(level, "the answer about %.200a was about %.200a", task_id, foreign)
        secret = await self._credentials.secret()
        answer, line = await self._sent(task_id, secret, foreign, fresh=True)
        if line is not None and _foreign_id(answer) is not None:
            line.close()
        elif isinstance(answer.outcome, VideoTask) and _is_named(answer.outcome, foreign):
            self._aliases[task_id] = foreign
            level = logging.WARNING if self._is_news("an alias") else logging.DEBUG
            _log.log(level, "taking %.200a for the server's name of %.200a", foreign, task_id)
        return answer

    async def _sent(
        self,
        task_id: str,
        secret: ApiKey,
        alias: str | None,
        known: Known | None = None,
        *,
        fresh: bool = False,
    ) -> tuple[Answer, Connection | None]:
        try:
            response, line = await self._transport.send(
                retrieve_request(self._base_url, task_id), secret, fresh=fresh
            )
        except EzVideoError as raised:
            error = raised.with_traceback(None)
            return Answer(error), None
        if response.status == _MISDIRECTED or response.status not in _HTTP_STATUSES:
            line.close()  # it leads to another server, or after a 101 speaks no HTTP any more
        unix_now = time.time()
        outcome = decode_task(
            response,
            task_id=task_id,
            base_url=self._base_url,
            unix_now=unix_now,
            alias=alias,
            known=b"" if known is None else known.body,
            progress=None if known is None else known.progress,
        )
        return Answer(outcome, poll_hint(response, unix_now=unix_now)), line

    def _note(self, answer: Answer) -> None:
        outcome = answer.outcome
        if isinstance(outcome, VideoTask):
            self._has_been_answered = True
            self._note_word(outcome)
            if outcome.is_terminal:
                self._aliases.pop(outcome.id, None)
        elif isinstance(outcome, ConfigError) and outcome.reason == "route":
            # A server that has answered has the route: it is being deployed, not misspelt.
            outcome.retryable = self._has_been_answered

    def _note_word(self, task: VideoTask) -> None:
        word = task.raw_status
        if task.status is not TaskStatus.PROCESSING or word is None or word in self._logged:
            return
        if not dialects.is_known_status(word) and self._is_news(word):
            _log.warning("unknown status %.200a of task %.200a: taken for alive", word, task.id)

    def _is_news(self, what: str) -> bool:
        if what in self._logged or len(self._logged) >= _WORDS_REMEMBERED:
            return False
        self._logged.add(what)
        return True


def _signal(
    task_id: str,
    outcome: VideoTask | ProgressUpdate | EzVideoError | None,
    known: Known | None,
    elapsed: float,
) -> TelemetryEvent:
    if isinstance(outcome, EzVideoError):
        return PollFailed(task_id=task_id, error=outcome, elapsed=elapsed)
    return PollSucceeded(task_id=task_id, status=_status(outcome, known), elapsed=elapsed)


def _status(outcome: VideoTask | ProgressUpdate | None, known: Known | None) -> TaskStatus:
    shown = outcome if isinstance(outcome, VideoTask) else known
    assert shown is not None, "only what is known can be shown again"
    assert shown.status is not None, "what was read shows a status"
    return shown.status


def _is_named(task: VideoTask, name: str) -> bool:
    return foreign_id(task.raw, task.id) == name


def _foreign_id(answer: Answer) -> str | None:
    outcome = answer.outcome
    return outcome.answered_id if isinstance(outcome, BadResponseError) else None
