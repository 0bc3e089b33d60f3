"""
Aliases of tasks: ids that a server uses in its responses in place of the asked ones.

1. An alias belongs to one task.  An id that was itself asked for, that is the alias of another
   task, or that came for two asked ids is nobody's alias: a cache or a proxy mixes responses up.
2. What was asked for is looked up among the watched ids and the last 10,000 others, and only for
   an id that is not the asked one: a healthy poll costs nothing here.
3. Everything is bounded: 8 aliases for each id that is watched or among the last 10,000 others,
   and 10,000 other foreign ids, none of them longer than a task id may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakSet

from ezvideo_async._domain.validation import MAX_ID_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ALIASES: Final = 8
"""Aliases of one task: LiteLLM puts the deployment, one of a few, into the id."""

MAX_OTHERS: Final = 10_000
"""Ids that are not watched, and foreign ids that are no alias."""


class _Watched(Protocol):
    def get(self, task_id: str) -> object: ...


class TaskAliases:
    """
    The aliases of all tasks of one client, and who has asked for what.

    Attributes:
        known: The aliases by asked id, of tasks that have some.
    """

    def __init__(self) -> None:
        self._watched: WeakSet[_Watched] = WeakSet()
        self._others: dict[str, None] = {}
        self.known: dict[str, tuple[str, ...]] = {}
        self._asked_ids: dict[str, str] = {}  # by each alias
        self._foreign: dict[str, str | None] = {}  # the asked id, None after two of them

    # -- which ids were asked for -----------------------------------------------------------------

    def add_watched(self, watched: _Watched) -> None:
        """Look up asked ids in *watched* too, for as long as it exists."""
        self._watched.add(watched)

    def add_other(self, task_id: str) -> None:
        """Record an id that is asked for without a watcher."""
        self._others.pop(task_id, None)
        self._others[task_id] = None
        if len(self._others) > MAX_OTHERS:
            oldest = next(iter(self._others))
            del self._others[oldest]
            if not self._is_watched(oldest):
                self.forget(oldest)

    def drop_watched(self, task_ids: Sequence[str]) -> None:
        """Forget the aliases of ids that are not watched any more; they stay asked for."""
        if self.known:
            for task_id in task_ids:
                self.forget(task_id)
        for task_id in task_ids[-MAX_OTHERS:]:
            self.add_other(task_id)

    def _was_asked_for(self, task_id: str) -> bool:
        return task_id in self._others or self._is_watched(task_id)

    def _is_watched(self, task_id: str) -> bool:
        return any(watched.get(task_id) is not None for watched in self._watched)

    # -- whose a foreign id is --------------------------------------------------------------------

    def of(self, task_id: str) -> tuple[str, ...]:
        """Return the aliases of a task, without those that have been asked for since."""
        if not self.known:
            return ()
        aliases = self.known.get(task_id, ())
        for alias in aliases:
            if self._was_asked_for(alias):
                self._remove(alias)
        return self.known.get(task_id, ()) if aliases else ()

    def note_foreign(self, foreign: str, task_id: str, *, is_fresh: bool) -> None:
        """
        Record that a response to a request for *task_id* has the id *foreign*.

        An alias of another task is lost by it only if the connection was fresh: on a used one it
        can be a response that came twice.
        """
        if len(foreign) > MAX_ID_CHARACTERS:
            return
        owner = self._asked_ids.get(foreign)
        if owner is None:
            seen_for = self._foreign.get(foreign, task_id)
            self._note(foreign, task_id if seen_for == task_id else None)
        elif owner != task_id and is_fresh:
            self._remove(foreign)
            self._note(foreign, None)

    def accept(self, foreign: str, task_id: str) -> bool:
        """Make a foreign id that was noted an alias, and return True, unless it is nobody's."""
        if self._foreign.get(foreign) != task_id or self._was_asked_for(foreign):
            return False
        aliases = (*self.known.get(task_id, ()), foreign)
        for dropped in aliases[:-MAX_ALIASES]:
            self._remove(dropped)
        del self._foreign[foreign]
        self.known[task_id] = aliases[-MAX_ALIASES:]
        self._asked_ids[foreign] = task_id
        return True

    def forget(self, task_id: str) -> None:
        """Forget the aliases of a task; they still belong to no other one.  Idempotent."""
        for alias in self.known.pop(task_id, ()):
            del self._asked_ids[alias]
            self._note(alias, task_id)

    def _remove(self, alias: str) -> None:
        """Make an alias, if it is one, a foreign id again."""
        task_id = self._asked_ids.pop(alias, None)
        if task_id is None:
            return
        left = tuple(each for each in self.known[task_id] if each != alias)
        if left:
            self.known[task_id] = left
        else:
            del self.known[task_id]
        self._note(alias, task_id)

    def _note(self, foreign: str, task_id: str | None) -> None:
        self._foreign.pop(foreign, None)
        self._foreign[foreign] = task_id
        if len(self._foreign) > MAX_OTHERS:
            del self._foreign[next(iter(self._foreign))]
