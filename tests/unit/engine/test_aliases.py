"""Aliases of tasks: whose a foreign id is, what is bounded, and what is forgotten."""

from __future__ import annotations

import pytest

from ezvideo_async._engine.aliases import MAX_ALIASES, MAX_OTHERS, TaskAliases


class Watched(dict[str, object]):
    """Ids that a watcher polls."""

    __hash__ = object.__hash__


def accepting(*pairs: tuple[str, str]) -> TaskAliases:
    """Make aliases of pairs of a foreign id and its task, each shown twice."""
    aliases = TaskAliases()
    for foreign, task_id in pairs:
        aliases.note_foreign(foreign, task_id, is_fresh=True)
        assert aliases.accept(foreign, task_id)
    return aliases


def test_id_that_was_not_noted_is_no_alias() -> None:
    """Only what a response has shown is accepted."""
    aliases = TaskAliases()

    assert not aliases.known
    assert not aliases.accept("x", "a")
    assert aliases.of("a") == ()


def test_noted_id_is_accepted_for_its_task_only() -> None:
    """Noting it again for the same task changes nothing."""
    aliases = accepting(("x", "a"))
    aliases.note_foreign("x", "a", is_fresh=True)

    assert aliases.known
    assert aliases.of("a") == ("x",)
    assert aliases.of("b") == ()


@pytest.mark.parametrize("is_fresh", [False, True])
def test_id_of_two_tasks_is_nobodys(*, is_fresh: bool) -> None:
    """Before it is an alias, it does not matter which connection showed it."""
    aliases = TaskAliases()
    for task_id in ("a", "b", "a"):
        aliases.note_foreign("x", task_id, is_fresh=is_fresh)

    assert not aliases.accept("x", "a")
    assert not aliases.accept("x", "b")


def test_alias_is_lost_to_another_task_on_a_fresh_connection() -> None:
    """On a used one the response can be one that came twice."""
    aliases = accepting(("x", "a"), ("y", "a"))
    aliases.note_foreign("x", "b", is_fresh=False)
    assert aliases.of("a") == ("x", "y")
    aliases.note_foreign("x", "b", is_fresh=True)

    assert aliases.of("a") == ("y",)
    assert not aliases.accept("x", "b")
    assert not aliases.accept("x", "a")


def test_asked_id_is_no_alias() -> None:
    """Whether a watcher asks for it, or a single call did."""
    aliases, watched = TaskAliases(), Watched(w=object())
    aliases.add_watched(watched)
    aliases.add_other("o")
    for foreign in ("w", "o"):
        aliases.note_foreign(foreign, "a", is_fresh=True)
        assert not aliases.accept(foreign, "a")


def test_alias_that_is_asked_for_later_is_one_no_more() -> None:
    """It is looked up when the task is polled again."""
    aliases = accepting(("x", "a"), ("y", "a"))
    aliases.add_other("x")
    assert aliases.of("a") == ("y",)
    watched = Watched(y=object())
    aliases.add_watched(watched)

    assert aliases.of("a") == ()
    assert not aliases.known


def test_ids_of_a_freed_watcher_are_not_asked_for() -> None:
    """Watchers are referenced weakly."""
    aliases = TaskAliases()
    aliases.add_watched(Watched(x=object()))
    aliases.note_foreign("x", "a", is_fresh=True)

    assert aliases.accept("x", "a")


def test_dropped_id_stays_asked_for() -> None:
    """Its aliases are forgotten, but belong to no other task."""
    aliases = accepting(("x", "a"), ("y", "b"))
    aliases.drop_watched(["a"])
    assert aliases.of("a") == ()
    assert aliases.of("b") == ("y",)
    for foreign in ("a", "x"):
        aliases.note_foreign(foreign, "b", is_fresh=True)
        assert not aliases.accept(foreign, "b")
    aliases.drop_watched(["b"])

    assert not aliases.known


@pytest.mark.fault("Q12")
def test_task_has_at_most_eight_aliases() -> None:
    """The oldest goes, and can come back."""
    aliases = accepting(*((f"x{number}", "a") for number in range(MAX_ALIASES + 1)))
    assert aliases.of("a") == tuple(f"x{number}" for number in range(1, MAX_ALIASES + 1))
    aliases.note_foreign("x0", "a", is_fresh=True)

    assert aliases.accept("x0", "a")
    assert len(aliases.of("a")) == MAX_ALIASES


@pytest.mark.fault("Q19")
def test_what_a_server_can_add_is_bounded() -> None:
    """Of foreign ids and of asked ones the last 10,000 are kept, and no text without end."""
    aliases = TaskAliases()
    aliases.add_other("a0")
    aliases.note_foreign("x0", "a0", is_fresh=True)
    assert aliases.accept("x0", "a0")
    for number in range(1, MAX_OTHERS + 1):
        aliases.add_other(f"a{number}")
        aliases.note_foreign(f"y{number}", "a", is_fresh=True)
    aliases.note_foreign("x" * 2049, "a", is_fresh=True)

    assert not aliases.known  # a0 is none of the last 10,000, and not watched
    assert not aliases.accept("x" * 2049, "a")
    assert not aliases.accept("y1", "a")
    assert aliases.accept("y2", "a")


def test_watched_id_keeps_its_aliases_when_a_single_call_is_long_ago() -> None:
    """Only ids that nobody watches are forgotten so."""
    aliases, watched = accepting(("x", "a")), Watched(a=object())
    aliases.add_watched(watched)
    aliases.add_other("a")
    for number in range(MAX_OTHERS):
        aliases.add_other(f"b{number}")

    assert aliases.of("a") == ("x",)
