"""
Faults put into the package on purpose, one at a time; the tests must notice each of them.

A mutant replaces one text, which must be in its file exactly once, by another.  When the code
around a promise is rewritten, the mutant of that promise is anchored anew, not dropped.
"""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

ROOT = Path(__file__).parents[3]
PACKAGE = "ezvideo_async"


@frozen
class Mutant:
    """
    One fault.

    Attributes:
        name: What is wrong with it.
        room: The file of the package that it changes.
        old: What stands there, exactly once.
        new: What the mutant puts in its place.
        first: The tests that should notice it, as arguments of pytest.
    """

    name: str
    room: str
    old: str
    new: str
    first: str = field(kw_only=True)

    def applied(self, text: str) -> str:
        """
        Make the mutant of a file's text.

        Raises:
            ValueError: The old text is not there exactly once.
        """
        if text.count(self.old) != 1:
            message = f"{self.name}: the old text is {text.count(self.old)} times in {self.room}"
            raise ValueError(message)
        return text.replace(self.old, self.new)


MUTANTS = (
    # -- ends -------------------------------------------------------------------------------------
    Mutant(
        "poll after end",
        "_schedule.py",
        "        if watch.state is _IN_FLIGHT:\n            due =",
        "        if True:\n            due =",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "end twice",
        "_schedule.py",
        "        if watch.state is not _IN_FLIGHT:\n"
        "            return None\n"
        "        if task is None:",
        "        if task is None:",
        first="tests/unit/scheduling/test_scheduler.py",
    ),
    Mutant(
        "end lost when the buffer is full",
        "_mailbox.py",
        "        if watch not in self._unread:\n            self._put(watch, event)\n",
        "        if len(self._unread) >= 1000:\n            return\n"
        "        if watch not in self._unread:\n            self._put(watch, event)\n",
        first="tests/contracts/test_crowd.py",
    ),
    Mutant(
        "final event merged away",
        "_mailbox.py",
        "        case _:\n            return event",
        "        case _:\n            return waiting",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "subscription misses the final event",
        "_reader.py",
        "            if event.is_final:\n                self._open.discard(watch)\n",
        "            if event.is_final:\n                self._open.discard(watch)\n"
        "                return\n",
        first="tests/contracts/test_delivery.py",
    ),
    Mutant(
        "404 ends at once after the task was seen",
        "_watch.py",
        "_LOOKS_AFTER_VANISHING = 2",
        "_LOOKS_AFTER_VANISHING = 0",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "an exception is a silent end",
        "_reader.py",
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
    # -- reading ----------------------------------------------------------------------------------
    Mutant(
        "event lost on cancel between get and return",
        "_reader.py",
        "        return event\n\n    def _raise",
        "        await asyncio.sleep(0)\n        return event\n\n    def _raise",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "duplicate add gives a second watch",
        "_schedule.py",
        " if not self._is_watched(task_id)]",
        "]",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "discard does not stop the answer in flight",
        "_schedule.py",
        "        del self._watches[task_id]\n        self._close(watch)\n",
        "        del self._watches[task_id]\n        self._open -= 1\n",
        first="tests/contracts/test_model.py",
    ),
    # -- slots ------------------------------------------------------------------------------------
    Mutant(
        "slot not released on time-out",
        "_exchange.py",
        "        self._gate.finish(error,",
        "        isinstance(error, TimeoutError) or self._gate.finish(error,",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "slot not released on cancel",
        "_exchange.py",
        "            self._gate.abandon(started=started, poll=poll)\n            raise",
        "            raise",
        first="tests/contracts/test_delivery.py",
    ),
    Mutant(
        "back-off sleeps while holding a slot",
        "_exchange.py",
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
    # -- when to ask ------------------------------------------------------------------------------
    Mutant(
        "jitter removed",
        "_policy.py",
        "(1.0 - self.jitter + 2.0 * self.jitter * rand)",
        "1.0",
        first="tests/unit/domain/test_policies.py",
    ),
    Mutant(
        "back-off never reset",
        "_watch.py",
        "        self.seen_at, self.trouble = unix_now, None\n",
        "        self.seen_at = unix_now\n",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "min_interval ignored on refresh",
        "_schedule.py",
        "            self._wait(watch, self.pace.earliest(watch, now))\n        return True",
        "            self._wait(watch, now)\n        return True",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "Retry-After read as milliseconds",
        "_retry_after.py",
        "        return float(text) or None",
        "        return float(text) / 1000.0 or None",
        first="tests/unit/protocol/test_retry_after.py",
    ),
    Mutant(
        "Retry-After reckoned from our wall clock",
        "_retry_after.py",
        "(unix_now if now is None else now)",
        "unix_now",
        first="tests/unit/protocol/test_retry_after.py",
    ),
    Mutant(
        "time.time for schedules",
        "_polling.py",
        "self.gate.loop.time(), time.time(), self.rand()",
        "time.time(), time.time(), self.rand()",
        first="tests/contracts/test_model.py",
    ),
    # -- all hold back ----------------------------------------------------------------------------
    Mutant(
        "cool-down for one id instead of all",
        "_budget.py",
        "max(now, self._arrival - tolerance, self._cool_until)",
        "max(now, self._arrival - tolerance)",
        first="tests/contracts/test_model.py",
    ),
    Mutant(
        "rate not cut by a 429",
        "_budget.py",
        "            self._cut_to = max(",
        "            self._cut_to = self._rate or max(",
        first="tests/contracts/test_crowd.py",
    ),
    Mutant(
        "spread after a pause removed",
        "_pump.py",
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
        "breaker ends the watch",
        "_polling.py",
        "        if is_fatal(error) or isinstance(error, ClosedError):",
        "        if is_fatal(error) or isinstance(error, ClosedError) or "
        "self.gate.budget.is_server_out:",
        first="tests/contracts/test_polling.py",
    ),
    Mutant(
        "breaker never half-opens",
        "_breaker.py",
        "        return inf if self._probing else self._next_probe",
        "        return inf",
        first="tests/contracts/test_crowd.py",
    ),
    Mutant(
        "probes not one at a time",
        "_breaker.py",
        "        return inf if self._probing else self._next_probe",
        "        return self._next_probe",
        first="tests/contracts/test_crowd.py",
    ),
    # -- the wire ---------------------------------------------------------------------------------
    Mutant(
        "hidden resend on",
        "_session.py",
        "                    text = str(error)\n",
        "                    raise\n",
        first="tests/resilience/test_network.py",
    ),
    Mutant(
        "resend counted twice",
        "_transport.py",
        "_is_stale(outcome):\n",
        "_is_stale(outcome):\n            self._carrier.sends += 1\n",
        first="tests/integration",
    ),
    Mutant(
        "id check off",
        "_wire.py",
        "    other = shown.foreign_id(task_id)\n",
        "    other = None\n",
        first="tests/integration/engine/test_task_identity.py",
    ),
    Mutant(
        "key asked for anew by each that was refused",
        "_credentials.py",
        "            if self._secret is refused:\n",
        "            if True:\n",
        first="tests/integration/transport/test_credentials.py",
    ),
    Mutant(
        "error raised with aiohttp's as its context",
        "_transport.py",
        '        if getattr(failure, "status", None) == PROXY_LOGIN:',
        "        error.__context__ = failure\n"
        '        if getattr(failure, "status", None) == PROXY_LOGIN:',
        first="tests/integration",
    ),
)
