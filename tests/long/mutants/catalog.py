"""
Catalog of mutants: faults put into the package one at a time, each of which a test must detect.

A mutant replaces one snippet, which must be in its file exactly once.  When that code is
rewritten, update the snippet; drop the mutant only with the promise itself.
``python tests/long/mutants/run.py --check`` lists the snippets that are not found.
"""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "ezvideo_async"


@frozen
class Mutant:
    """
    One fault.

    Attributes:
        name: What is wrong with it.
        file: The changed file, relative to the package.
        old: The snippet that is replaced.
        new: What replaces it.
        first: The tests that should detect it, as an argument of pytest.
    """

    name: str
    file: str
    old: str
    new: str
    first: str = field(kw_only=True)

    def problem(self) -> str | None:
        """Return why it cannot be applied; None if it can."""
        if not (ROOT / self.first).exists():
            return f"no such tests: {self.first}"
        path = PACKAGE / self.file
        count = path.read_text("utf-8").count(self.old) if path.exists() else 0
        if count == 1:
            return None
        others = [
            str(other.relative_to(PACKAGE))
            for other in PACKAGE.rglob("*.py")
            if other != path and self.old in other.read_text("utf-8")
        ]
        found = f"; it is in {', '.join(others)}" if others else ""
        return f"the snippet is {count} times in {self.file}{found}"


MUTANTS = (
    # -- final events -----------------------------------------------------------------------------
    Mutant(
        "poll after end",
        "_scheduling/scheduler.py",
        "            self._end(tracked, found, now, unix_now)\n            return found\n",
        "            self._end(tracked, found, now, unix_now)\n",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "final event twice",
        "_scheduling/scheduler.py",
        "        if tracked.phase is not _IN_FLIGHT:\n            return None\n        reason",
        "        reason",
        first="tests/unit/scheduling/test_scheduler.py",
    ),
    Mutant(
        "final event lost when the mailbox is full",
        "_delivery/mailbox.py",
        "        if tracked not in self._unread:\n            self._put(tracked, event)\n",
        "        if len(self._unread) >= 1000:\n"
        "            return\n"
        "        if tracked not in self._unread:\n"
        "            self._put(tracked, event)\n",
        first="tests/contracts/test_crowd.py",
    ),
    Mutant(
        "final event merged away",
        "_delivery/mailbox.py",
        "        case _:\n            return event",
        "        case _:\n            return unread",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "subscription misses the final event",
        "_delivery/subscription.py",
        "            if event.is_final:\n                self._open.discard(tracked)\n",
        "            if event.is_final:\n"
        "                self._open.discard(tracked)\n"
        "                return\n",
        first="tests/contracts/test_delivery.py",
    ),
    Mutant(
        "404 ends at once after the task was seen",
        "_scheduling/verdicts.py",
        "_IN_A_ROW = 3",
        "_IN_A_ROW = 1",
        first="tests/unit/scheduling/test_verdicts.py",
    ),
    Mutant(
        "an error ends the iteration silently",
        "_delivery/broadcaster.py",
        "            raise fresh_error(self.fault)",
        "            raise StopAsyncIteration",
        first="tests/contracts/test_delivery.py",
    ),
    Mutant(
        "open ids not named",
        "_watcher.py",
        "fault.open_ids = self._scheduler.open_ids",
        "fault.open_ids = ()",
        first="tests/contracts/test_model.py",
    ),
    # -- readers ----------------------------------------------------------------------------------
    Mutant(
        "event lost on cancel between get and return",
        "_delivery/subscription.py",
        "        return event\n\n    def _raise",
        "        await asyncio.sleep(0)\n        return event\n\n    def _raise",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "duplicate add gives a second watch",
        "_scheduling/scheduler.py",
        "        return tracked is None or (restart_ended and not tracked.is_open)",
        "        return True",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "discard does not drop the response in flight",
        "_scheduling/scheduler.py",
        "            self._take_out(tracked)\n            tracked.phase = _ENDED\n",
        "            self._take_out(tracked)\n",
        first="tests/contracts/test_model.py",
    ),
    # -- slots ------------------------------------------------------------------------------------
    Mutant(
        "slot not released on timeout",
        "_engine/requester.py",
        "        self._admission.finish(error,",
        "        isinstance(error, TimeoutError) or self._admission.finish(error,",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "slot not released on cancel",
        "_engine/requester.py",
        "            self._admission.abandon(started=started, poll=poll)\n            raise",
        "            raise",
        first="tests/contracts/test_delivery.py",
    ),
    Mutant(
        "backoff sleeps while holding a slot",
        "_engine/requester.py",
        "        self._admission.finish(error,",
        "        if error is not None:\n"
        "            await asyncio.sleep(5.0)\n"
        "        self._admission.finish(error,",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "task not awaited at exit",
        "_watcher.py",
        "        await self._dispatcher.wait_stopped()\n",
        "",
        first="tests/contracts/test_delivery.py",
    ),
    # -- when to poll -----------------------------------------------------------------------------
    Mutant(
        "jitter removed",
        "_domain/policies.py",
        "(1.0 - self.jitter + 2.0 * self.jitter * rand)",
        "1.0",
        first="tests/unit/domain/test_policies.py",
    ),
    Mutant(
        "backoff never reset",
        "_scheduling/tracked_task.py",
        "        self.seen_at, self.streak = unix_now, None\n",
        "        self.seen_at = unix_now\n",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "min_interval ignored by poll_now",
        "_scheduling/scheduler.py",
        "            self._wait(tracked, self._pacer.earliest(tracked, now))\n        return True",
        "            self._wait(tracked, now)\n        return True",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "Retry-After read as milliseconds",
        "_protocol/retry_after.py",
        "        return float(text) or None",
        "        return float(text) / 1000.0 or None",
        first="tests/unit/protocol/test_retry_after.py",
    ),
    Mutant(
        "Retry-After counted from our wall clock",
        "_protocol/retry_after.py",
        "(unix_now if now is None else now)",
        "unix_now",
        first="tests/unit/protocol/test_retry_after.py",
    ),
    Mutant(
        "time.time for schedules",
        "_engine/poller.py",
        "now=now(), unix_now=time.time(), rand=rand()",
        "now=time.time(), unix_now=time.time(), rand=rand()",
        first="tests/contracts/test_model.py",
    ),
    # -- budget and outage ------------------------------------------------------------------------
    Mutant(
        "cool-down for one id instead of all",
        "_limits/rate_limiter.py",
        "max(now, self._arrival - tolerance, self._cool_until)",
        "max(now, self._arrival - tolerance)",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "rate not cut by a 429",
        "_limits/rate_limiter.py",
        "            self._cut_to = max(",
        "            self._cut_to = self._rate or max(",
        first="tests/contracts/test_crowd.py",
    ),
    Mutant(
        "spread after a cool-down removed",
        "_engine/dispatcher.py",
        " if ready > self._limiter.burst else 0.0",
        " if False else 0.0",
        first="tests/resilience/test_outage.py",
    ),
    Mutant(
        "rate limiter counts calls, not sends",
        "_client.py",
        "            await engine.admission.admit_call(\n"
        "                task_id, deadline=deadline, cool_down_max=retry.retry_after_max\n"
        "            )\n",
        "            if failures:\n"
        "                engine.limiter.in_flight += 1\n"
        "            else:\n"
        "                await engine.admission.admit_call(\n"
        "                    task_id, deadline=deadline, cool_down_max=retry.retry_after_max\n"
        "                )\n",
        first="tests/integration",
    ),
    Mutant(
        "circuit breaker ends the watch",
        "_engine/poller.py",
        "        if isinstance(error, ClosedError):",
        "        if isinstance(error, ClosedError) or self._engine.limiter.is_circuit_open:",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "circuit breaker never half-opens",
        "_limits/circuit_breaker.py",
        "        return inf if self._is_probing else self._next_probe",
        "        return inf",
        first="tests/contracts/test_crowd.py",
    ),
    Mutant(
        "probes not one at a time",
        "_limits/circuit_breaker.py",
        "        return inf if self._is_probing else self._next_probe",
        "        return self._next_probe",
        first="tests/contracts/test_crowd.py",
    ),
    # -- transport and protocol -------------------------------------------------------------------
    Mutant(
        "hidden resend on",
        "_transport/session_backend.py",
        "                    text = str(error)\n",
        "                    raise\n",
        first="tests/resilience/test_network.py",
    ),
    Mutant(
        "resend counted twice",
        "_transport/transport.py",
        "_is_stale(outcome):\n",
        "_is_stale(outcome):\n            self._backend.sends += 1\n",
        first="tests/integration",
    ),
    Mutant(
        "id check off",
        "_protocol/responses.py",
        "    if other is not None and other not in evidence.aliases:",
        "    if False:",
        first="tests/integration/engine/test_task_identity.py",
    ),
    Mutant(
        "key renewed once for each refused request",
        "_transport/credentials.py",
        "            if self._api_key is refused:\n",
        "            if True:\n",
        first="tests/integration/transport/test_credentials.py",
    ),
    Mutant(
        "error raised with aiohttp's as its context",
        "_transport/error_mapping.py",
        "    return error\n\n\ndef _classify",
        "    error.__context__ = failure\n    return error\n\n\ndef _classify",
        first="tests/integration/transport/test_error_mapping.py",
    ),
)
