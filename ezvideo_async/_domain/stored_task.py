"""Values of the durable watch set: what a store keeps of each watched id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ezvideo_async._domain.events import FinalKind
    from ezvideo_async._domain.task import TaskStatus


@frozen(kw_only=True)
class StoredTask:
    """
    One watched id as it is stored.

    Attributes:
        task_id: The id.
        tag: Its tag as JSON; None without one.
        added_at: When it was added, Unix seconds.
        deadline_at: When it is lost, Unix seconds; None means never.
        status: The last status seen; None before the first response.
        changed_at: When status or progress last changed, or the id was added, Unix seconds; None
            when ``TaskStalled`` was delivered since.
        body: The last response, without the queries of its urls; None if it was too long to be
            stored.
        base_url: The base of relative urls in the body.
        request_id: The request id of the last response.
        final_kind: The kind of a final event that was not acknowledged; None while the id is open.
        loss: Of a lost id, its reason and error as JSON.
        version: The revision in a store that is shared by several processes; 0 in a file.
    """

    task_id: str
    tag: str | None = None
    added_at: float
    deadline_at: float | None = None
    status: TaskStatus | None = None
    changed_at: float | None = None
    body: bytes | None = None
    base_url: str | None = None
    request_id: str | None = None
    final_kind: FinalKind | None = None
    loss: str | None = None
    version: int = 0


@frozen(kw_only=True)
class OpenedStore:
    """
    What a store holds when it is opened.

    Attributes:
        tasks: Its ids, in the order in which they were added.
        acknowledged: Those of the ids asked for that finished and were acknowledged lately.
        is_same_key: Whether it was last used with the API key of today.
    """

    tasks: Sequence[StoredTask]
    acknowledged: frozenset[str]
    is_same_key: bool


class TaskStore(Protocol):
    """
    A durable watch set in one process.

    Every call raises ``StoreError`` if it fails.
    """

    def open(
        self,
        *,
        base_url: str,
        fingerprint: Callable[[bytes], bytes | None],
        task_ids: Sequence[str],
    ) -> Awaitable[OpenedStore]:
        """
        Lock the store, check it, and read it.

        Args:
            base_url: The server that its ids belong to.
            fingerprint: Returns the fingerprint of the API key with a salt; None if there is none.
            task_ids: The ids for which to return whether they were acknowledged.
        """
        ...

    def write(
        self,
        tasks: Sequence[StoredTask],
        *,
        acknowledged: Sequence[str] = (),
        removed: Sequence[str] = (),
        durable: bool,
    ) -> Awaitable[None]:
        """
        Write changes in one transaction; an id is in one of the three at most.

        Args:
            tasks: New rows, which replace those of the same ids.
            acknowledged: Finished ids that need no row any more, remembered for 7 days.
            removed: Ids that are forgotten.
            durable: Whether the changes survive a power cut; a kill they survive anyway.
        """
        ...

    def accept_key(self) -> Awaitable[None]:
        """Store the fingerprint of the API key of today."""
        ...

    def aclose(self) -> Awaitable[None]:
        """Close the store and unlock it.  Idempotent."""
        ...
