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
        "        if watch.state is _IN_FLIGHT:\n            due =",
        "        if True:\n            due =",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "final event twice",
        "_scheduling/scheduler.py",
        "        if watch.state is not _IN_FLIGHT:\n"
        "            return None\n"
        "        if task is None:",
        "        if task is None:",
        first="tests/unit/scheduling/test_scheduler.py",
    ),
    Mutant(
        "final event lost when the mailbox is full",
        "_delivery/mailbox.py",
        "        if watch not in self._unread:\n            self._put(watch, event)\n",
        "        if len(self._unread) >= 1000:\n            return\n"
        "        if watch not in self._unread:\n            self._put(watch, event)\n",
        first="tests/contracts/test_crowd.py",
    ),
    Mutant(
        "final event merged away",
        "_delivery/mailbox.py",
        "        case _:\n            return event",
        "        case _:\n            return waiting",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "subscription misses the final event",
        "_delivery/subscription.py",
        "            if event.is_final:\n                self._open.discard(watch)\n",
        "            if event.is_final:\n                self._open.discard(watch)\n"
        "                return\n",
        first="tests/contracts/test_delivery.py",
    ),
    Mutant(
        "404 ends at once after the task was seen",
        "_scheduling/tracked_task.py",
        "_LOOKS_AFTER_VANISHING = 2",
        "_LOOKS_AFTER_VANISHING = 0",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "an error ends the iteration silently",
        "_delivery/subscription.py",
        "            raise fault.with_traceback(None)\n\n\nclass Subscription",
        "            raise StopAsyncIteration\n\n\nclass Subscription",
        first="tests/contracts/test_delivery.py",
    ),
    Mutant(
        "open ids not named",
        "_watcher.py",
        '["open_ids"] = self._scheduler.open_ids',
        '["open_ids"] = ()',
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
        " if not self._is_watched(task_id)]",
        "]",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "discard does not drop the response in flight",
        "_scheduling/scheduler.py",
        "        del self._watches[task_id]\n        self._close(watch)\n",
        "        del self._watches[task_id]\n        self._open -= 1\n",
        first="tests/contracts/test_model.py",
    ),
    # -- slots ------------------------------------------------------------------------------------
    Mutant(
        "slot not released on timeout",
        "_engine/requester.py",
        "        self._gate.finish(error,",
        "        isinstance(error, TimeoutError) or self._gate.finish(error,",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "slot not released on cancel",
        "_engine/requester.py",
        "            self._gate.abandon(started=started, poll=poll)\n            raise",
        "            raise",
        first="tests/contracts/test_delivery.py",
    ),
    Mutant(
        "backoff sleeps while holding a slot",
        "_engine/requester.py",
        "        self._gate.finish(error,",
        "        if error is not None:\n            await asyncio.sleep(5.0)\n"
        "        self._gate.finish(error,",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "task not awaited at exit",
        "_watcher.py",
        "        await self._pump.ended()\n",
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
        "        self.seen_at, self.trouble = unix_now, None\n",
        "        self.seen_at = unix_now\n",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "min_interval ignored by poll_now",
        "_scheduling/scheduler.py",
        "            self._wait(watch, self.pace.earliest(watch, now))\n        return True",
        "            self._wait(watch, now)\n        return True",
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
        "self.gate.loop.time(), time.time(), self.rand()",
        "time.time(), time.time(), self.rand()",
        first="tests/contracts/test_model.py",
    ),
    # -- budget and outage ------------------------------------------------------------------------
    Mutant(
        "cool-down for one id instead of all",
        "_limits/budget.py",
        "max(now, self._arrival - tolerance, self._cool_until)",
        "max(now, self._arrival - tolerance)",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "rate not cut by a 429",
        "_limits/budget.py",
        "            self._cut_to = max(",
        "            self._cut_to = self._rate or max(",
        first="tests/contracts/test_crowd.py",
    ),
    Mutant(
        "spread after a cool-down removed",
        "_engine/dispatcher.py",
        "        if ready > budget.burst:\n",
        "        if False:\n",
        first="tests/resilience/test_outage.py",
    ),
    Mutant(
        "rate limiter counts calls, not sends",
        "_client.py",
        "            await self._enter(task_id, limit)\n            answer",
        "            if failures:\n                self._budget._in_flight += 1\n"
        "            else:\n                await self._enter(task_id, limit)\n            answer",
        first="tests/integration",
    ),
    Mutant(
        "circuit breaker ends the watch",
        "_engine/poller.py",
        "        if is_fatal(error) or isinstance(error, ClosedError):",
        "        if is_fatal(error) or isinstance(error, ClosedError) or "
        "self.gate.budget.is_server_out:",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "circuit breaker never half-opens",
        "_limits/circuit_breaker.py",
        "        return inf if self._probing else self._next_probe",
        "        return inf",
        first="tests/contracts/test_crowd.py",
    ),
    Mutant(
        "probes not one at a time",
        "_limits/circuit_breaker.py",
        "        return inf if self._probing else self._next_probe",
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
        "_is_stale(outcome):\n            self._carrier.sends += 1\n",
        first="tests/integration",
    ),
    Mutant(
        "id check off",
        "_protocol/responses.py",
        "    other = shown.foreign_id(task_id)\n",
        "    other = None\n",
        first="tests/integration/engine/test_task_identity.py",
    ),
    Mutant(
        "key renewed once for each refused request",
        "_transport/credentials.py",
        "            if self._secret is refused:\n",
        "            if True:\n",
        first="tests/integration/transport/test_credentials.py",
    ),
    Mutant(
        "error raised with aiohttp's as its context",
        "_transport/transport.py",
        '        if getattr(failure, "status", None) == PROXY_LOGIN:',
        "        error.__context__ = failure\n"
        '        if getattr(failure, "status", None) == PROXY_LOGIN:',
        first="tests/integration",
    ),
)
