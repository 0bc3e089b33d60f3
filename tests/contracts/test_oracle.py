"""The oracle can fail: for each promise a run that breaks it, and nothing else."""

from __future__ import annotations

import re
from math import inf

import pytest

from ezvideo_async import (
    AuthenticationError,
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskStatus,
    VideoTask,
    WaitTimeoutError,
)
from tests.support import oracle
from tests.support.oracle import (
    AddedAgain,
    Complained,
    Discarded,
    Finished,
    Joined,
    Left,
    Limits,
    Raised,
    Stalled,
    Trace,
    Unread,
    Waits,
    Woke,
    check,
)

LIMITS = Limits(max_in_flight=3, rate=10.0, burst=2.0, patience=100.0)


BREACHES = []


def breaks(name):
    """Say which promise the run that a function tells of breaks."""

    def note(story):
        BREACHES.append(pytest.param(name, story, id=f"{name}-{story.__name__}"))
        return story

    return note


class Run:
    """A run made by hand: every line is what happened next."""

    def __init__(self, *task_ids):
        self.trace = Trace()
        self.seq = {}
        for task_id in task_ids:
            self.add(task_id)

    def note(self, record):
        self.trace.records.append(record)
        return self

    def add(self, task_id, at=0.0, *, deadline=inf):
        self.trace.added(task_id, at, deadline=deadline)
        return self

    def asks(self, task_id, at, *, resend=False):
        return self.trace.asked(task_id, at, resend=resend)

    def ask(self, task_id, at, status=None, *, ended=None, kind=None, hint=None, progress=None):
        """A request with its answer or trouble, over at *ended*."""
        asked = self.asks(task_id, at)
        self.close(asked, at if ended is None else ended, kind or "ok", hint)
        if status:
            self.trace.answered(task_id, asked.ended, status, progress, asked=asked)
        return self

    def close(self, asked, at, kind, hint=None):
        self.trace.closed(asked, at, kind, hint=hint)
        return self

    def tell(self, event, task_id, at, *, reader=0, tag=None, seq=None, status=None, **fields):
        """Tell what was shown last, or *status*."""
        number = self.seq[reader] = self.seq.get(reader, 0) + 1 if seq is None else seq
        tag = self.trace.numbers.get(task_id) if tag is None else tag
        task = VideoTask.from_dict({"id": task_id, "status": status, **fields.pop("state", {})})
        told = event(task_id=task_id, task=task, seq=number, at=at, tag=tag, **fields)
        self.trace.told(told, at, reader=reader)
        return self

    def change(self, task_id, at, previous, status, **options):
        steps = {"previous": previous and TaskStatus(previous), "current": TaskStatus(status)}
        return self.tell(StatusChanged, task_id, at, status=status, **steps, **options)

    def complete(self, task_id, at, **options):
        return self.tell(TaskCompleted, task_id, at, status="completed", **options)

    def lose(self, task_id, at, reason, **options):
        error = WaitTimeoutError("lost", task_id=task_id)
        options |= {"reason": reason, "error": error, "status": "processing"}
        return self.tell(TaskLost, task_id, at, **options)

    def breaches(self):
        return {breach.partition(":")[0] for breach in check(self.trace, LIMITS)}


def begun():
    """One id, seen as processing and told so."""
    return Run("vid").ask("vid", 0.0, "processing").change("vid", 0.0, None, "processing")


def ended():
    """And completed, and told so."""
    return begun().ask("vid", 5.0, "completed").complete("vid", 5.0)


def test_a_sound_run_breaks_nothing():
    """Two readers, a failure, a loss, a discard, a second watch, an end: nothing to blame."""
    run = Run("vid", "gone", "off")
    run.ask("vid", 0.0, "pending").ask("gone", 0.1, kind="well").ask("off", 0.2, "processing")
    run.change("vid", 0.2, None, "pending").change("off", 0.2, None, "processing")
    run.lose("gone", 0.3, "not_found").note(Waits(0.3)).note(Unread(0, 0.3))
    run.note(Discarded("off", 1, 0.4))
    run.note(Joined(reader=1, at=0.5, watches=frozenset({("vid", 1)}), later=False))
    run.change("vid", 0.5, None, "pending", reader=1)
    run.ask("vid", 5.0, ended=6.0, kind="trouble").ask("vid", 16.0, "completed")
    run.complete("vid", 16.0).complete("vid", 16.0, reader=1)
    run.add("vid", 17.0).ask("vid", 17.0, "completed").complete("vid", 17.0)
    run.note(Finished(17.0)).note(Finished(17.0, reader=1)).note(Woke(90, 17.0))

    assert check(run.trace, LIMITS) == []


@breaks("INV-3")
def early_deadline():
    run = Run().add("vid", deadline=50.0).ask("vid", 0.0, kind="trouble")
    return run.lose("vid", 49.0, "deadline")


@breaks("INV-3")
def second_watch_told_by_the_first_ones_answer():
    run = Run("vid")
    asked = run.asks("vid", 0.0)
    run.note(Discarded("vid", 1, 0.1)).add("vid", 0.1).close(asked, 0.2, "ok")
    run.trace.answered("vid", 0.2, "pending", asked=asked)
    return run.change("vid", 0.2, None, "pending")


@breaks("INV-3b")
def out_of_order():
    run = Run("vid").ask("vid", 0.0, "pending").ask("vid", 5.0, "processing")
    return run.change("vid", 6.0, None, "processing").change("vid", 6.0, "processing", "pending")


@breaks("INV-3b")
def waiting_in_ignorance():
    return begun().ask("vid", 5.0, "pending").note(Waits(5.1))


@breaks("INV-3b")
def waiting_without_the_end():
    return begun().ask("vid", 5.0, "completed").note(Waits(5.1))


@breaks("INV-3b")
def subscriber_in_ignorance():
    run = begun().note(Joined(reader=1, at=1.0, watches=frozenset({("vid", 1)})))
    return run.note(Waits(1.0, reader=1))


@breaks("INV-4")
def told_after_the_end():
    run = begun().ask("vid", 5.0, "pending").ask("vid", 10.0, "completed").complete("vid", 10.0)
    return run.change("vid", 10.0, "processing", "pending")


@breaks("INV-5")
def asked_after_the_end():
    return begun().ask("vid", 5.0, "completed").ask("vid", 10.0, "completed").complete("vid", 10.0)


@breaks("INV-5")
def asked_after_a_loss():
    run = Run("vid").ask("vid", 0.0, kind="well").lose("vid", 1.0, "not_found")
    return run.ask("vid", 6.0, "pending")


@breaks("INV-5")
def asked_after_an_end_not_told_yet():
    run = Run("vid").ask("vid", 0.0, kind="well")
    run.trace.ended("vid", 1.0)
    return run.ask("vid", 6.0, "pending").lose("vid", 6.0, "not_found")


@breaks("INV-6")
def in_flight_twice():
    run = Run("vid")
    asked = run.asks("vid", 0.0)
    return run.ask("vid", 2.0, "pending").close(asked, 3.0, "neither")


@breaks("INV-7")
def two_results():
    run = Run("vid")
    asked = run.asks("vid", 0.0)
    return run.close(asked, 1.0, "ok").close(asked, 1.0, "neither")


@breaks("INV-7")
def without_a_result():
    run = Run("vid")
    run.asks("vid", 0.0)
    run.trace.answered("vid", 1.0, "completed")  # fed
    return run.complete("vid", 1.0).note(Finished(2.0))


@breaks("INV-8")
def asked_after_a_discard():
    return begun().note(Discarded("vid", 1, 1.0)).ask("vid", 5.0, "processing")


@breaks("INV-9")
def told_a_second_watch():
    run = begun().note(AddedAgain("vid", "again", 1.0))
    return run.change("vid", 5.0, None, "processing", tag="again")


@breaks("INV-10")
def too_many_in_flight():
    run = Run(*"abcd")
    requests = [run.asks(task_id, number / 10) for number, task_id in enumerate("abcd")]
    for request in requests:
        run.close(request, 1.0, "neither")
    return run


@breaks("INV-11")
def too_fast_again_after_the_end():
    return ended().add("vid", 5.1).ask("vid", 5.5, "pending")


@breaks("INV-12")
def too_many_at_once():
    run = Run(*"abcd")
    for task_id in "abcd":
        run.ask(task_id, 0.0, "pending")
    return run


@breaks("INV-13")
def sent_after_a_bare_429():
    run = Run("vid", "other").ask("vid", 0.0, kind="throttled")
    return run.ask("other", 0.5, "pending")


@breaks("INV-13")
def sent_before_the_retry_after_is_over():
    run = Run("vid", "other").ask("vid", 0.0, kind="throttled", hint=20.0)
    return run.ask("other", 19.5, "pending")


@breaks("INV-13")
def sent_in_a_longer_cool_down():
    """The second bare 429 in a row doubles the pause."""
    run = Run(*"abcd").ask("a", 0.0, kind="throttled").ask("b", 2.0, kind="throttled")
    return run.ask("c", 3.5, "pending")


@breaks("INV-13b")
def too_fast_after_a_429():
    ids = [f"vid_{number}" for number in range(60)]
    run = Run(*ids)
    for number, task_id in enumerate(ids[:40]):
        run.ask(task_id, number / 10, "pending")  # 10 a second
    run.ask(ids[40], 4.0, kind="throttled")
    for number, task_id in enumerate(ids[41:]):
        run.ask(task_id, 5.0 + number / 10, "pending")  # and again
    return run


def outage(probe=None):
    """Twenty failures in a row; *probe* is one more, sent after a pause."""
    ids = [f"vid_{number}" for number in range(25)]
    run = Run(*ids)
    for number, task_id in enumerate(ids[:20]):
        run.ask(task_id, number / 10, kind="trouble")
    return run, ids[20:]


@breaks("INV-13c")
def two_probes_at_once():
    run, (first, second, *_) = outage()
    asked = run.asks(first, 10.0)
    return run.ask(second, 14.0, kind="trouble").close(asked, 15.0, "trouble")


@breaks("INV-13c")
def probes_too_close():
    run, (first, second, *_) = outage()
    return run.ask(first, 10.0, kind="trouble").ask(second, 13.0, kind="trouble")


@breaks("INV-13c")
def a_cancelled_probe_replaced_too_soon():
    run, (first, second, *_) = outage()
    return run.ask(first, 10.0, kind="cancelled").ask(second, 12.0, kind="trouble")


@breaks("INV-13c")
def ended_by_an_outage():
    return Run("vid").ask("vid", 0.0, kind="trouble").lose("vid", 1.0, "refused")


def raised(run, *open_ids, kind=AuthenticationError):
    error = kind("refused")
    error.open_ids = open_ids
    return run.note(Raised(error, 1.0))


@breaks("INV-17")
def told_after_a_discard():
    run = begun().ask("vid", 5.0, "pending").note(Discarded("vid", 1, 6.0))
    return run.change("vid", 6.0, "processing", "pending")


@breaks("INV-19")
def told_after_leaving():
    run = begun().ask("vid", 5.0, "pending").note(Left(6.0))
    return run.change("vid", 6.0, "processing", "pending")


@breaks("INV-22")
def starved():
    """Nine ids are asked for every five seconds, the tenth after twenty."""
    ids = [f"vid_{number}" for number in range(10)]
    run = Run(*ids).ask(ids[0], 0.0, "pending", ended=3.0)
    for at in range(0, 25, 5):
        for number, task_id in enumerate(ids[1:], start=1):
            run.ask(task_id, at + number / 10, "pending")
        if at == 15:
            run.ask(ids[0], 19.9, "pending")
    return run


@breaks("INV-23")
def busy():
    run = begun().note(Woke(50, 0.0)).ask("vid", 5.0, "processing")
    return run.note(Woke(500, 5.0))


@breaks("INV-27")
def a_group():
    return raised(begun(), "vid", kind=lambda text: ExceptionGroup(text, [KeyError()]))


@breaks("INV-2b")
def repeated_progress():
    run = Run("vid").ask("vid", 0.0, "processing", progress=7)
    run.change("vid", 0.0, None, "processing", state={"progress": 7})
    run.ask("vid", 5.0, "processing", progress=7)
    steps = {"previous": 7, "current": 7}
    return run.tell(
        ProgressChanged, "vid", 5.0, status="processing", state={"progress": 7}, **steps
    )


@breaks("INV-1")
def a_first_event_numbered_two():
    return Run("vid").ask("vid", 0.0, "completed").complete("vid", 0.0, seq=2)


@breaks("INV-1")
def a_number_told_twice():
    return begun().ask("vid", 5.0, "completed").complete("vid", 5.0, seq=1)


@breaks("INV-2")
def completed_but_failed():
    return Run("vid").ask("vid", 0.0, "failed").tell(TaskCompleted, "vid", 0.0, status="failed")


@breaks("INV-2")
def failed_but_completed():
    return Run("vid").ask("vid", 0.0, "completed").tell(TaskFailed, "vid", 0.0, status="completed")


@breaks("INV-2")
def an_end_told_as_a_change():
    return Run("vid").ask("vid", 0.0, "completed").change("vid", 0.0, None, "completed")


@breaks("INV-2b")
def the_same_status_twice():
    return begun().ask("vid", 5.0, "processing").change("vid", 5.0, "processing", "processing")


@breaks("INV-2b")
def a_second_first_observation():
    return begun().ask("vid", 5.0, "pending").change("vid", 5.0, None, "pending")


@breaks("INV-3")
def an_invented_end():
    return Run("vid").ask("vid", 0.0, "pending").complete("vid", 0.0)


@breaks("INV-4")
def two_ends():
    return ended().complete("vid", 5.0)


@breaks("INV-8")
def a_stranger_asked_for():
    return ended().ask("stranger", 5.0, "pending")


@breaks("INV-8")
def a_stranger_told_of():
    return ended().change("stranger", 5.0, None, "pending", tag=1)


@breaks("INV-11")
def asked_too_soon():
    return begun().ask("vid", 0.9, "processing")


@breaks("INV-16")
def over_without_an_end():
    return begun().note(Finished(1.0))


@breaks("INV-16")
def an_open_id_not_named():
    return raised(begun())


@breaks("INV-16")
def an_ended_id_named():
    return raised(ended(), "vid")


@breaks("INV-19")
def asked_after_leaving():
    return begun().note(Left(1.0)).ask("vid", 5.0, "processing")


@breaks("INV-19")
def asked_after_all_broke_off():
    return raised(begun(), "vid").ask("vid", 5.0, "processing")


@breaks("INV-20")
def a_complaint_of_the_loop():
    return begun().note(Complained("exception was never retrieved", 1.0))


@breaks("INV-21")
def forgotten_in_calm():
    return begun().note(Waits(12.0))


@breaks("INV-21")
def forgotten_after_trouble():
    return Run("vid").ask("vid", 0.0, kind="trouble").note(Waits(101.0))


@breaks("INV-21")
def forgotten_after_a_stall():
    return begun().note(Stalled(1.0, 1.0)).note(Waits(101.0))


@breaks("INV-26")
def two_unread_of_one_watch():
    return begun().note(Unread(2, 1.0))


@breaks("INV-26")
def unread_after_the_end():
    return ended().note(Unread(1, 6.0))


@breaks("INV-27")
def a_builtin_error():
    return raised(begun(), "vid", kind=ValueError)


@pytest.mark.parametrize(("name", "story"), BREACHES)
def test_a_broken_promise_is_named(name, story):
    """A run that breaks one promise is blamed for that one, and for no other."""
    run = story()

    assert {name} == run.breaches()


def test_every_promise_of_the_oracle_can_be_broken():
    """No promise that the oracle claims to judge is without a run that breaks it."""
    claimed = re.findall(r"^INV-[0-9]+[bc]?", oracle.__doc__, re.MULTILINE)

    assert {row.values[0] for row in BREACHES} == set(claimed)
