"""Values that a watcher reports: its counts, and what it knows of one id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from ezvideo_async._domain.events import AnyFinalEvent
    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async.errors import EzVideoError


@frozen(kw_only=True)
class WatcherStats:
    """
    Counts of one watcher, and the health of its client's server.

    Attributes:
        open: Ids that have not ended.
        completed: Ids that completed.
        failed: Ids that failed.
        lost: Ids that are no longer polled without a final state.
        unread: Events that the watcher's own iteration has not read.
        polls: Polls that have ended, well or not.
        in_flight: Polls that wait for their response.
        last_response_at: When the client's last valid response came, Unix seconds; None before
            the first one.
        failing_since: When the first failed poll since then ended, Unix seconds; None if none
            failed.
        last_error: The last failure since then; None if none failed.
        unsaved: Changes that are not written to the store yet; 0 without one.
    """

    open: int
    completed: int
    failed: int
    lost: int
    unread: int
    polls: int
    in_flight: int
    last_response_at: float | None = None
    failing_since: float | None = None
    last_error: EzVideoError | None = None
    unsaved: int = 0


@frozen(kw_only=True)
class WatchedTask:
    """
    What a watcher knows of one id.

    Attributes:
        task: The last state; None before the first response.
        final_event: The final event, with the reason of a lost id; None while the id is open.
        last_error: The last failure since the last valid response; None if the last poll
            succeeded.  Not compared.
        added_at: When it was added, Unix seconds.
        tag: The value given to ``add(..., tag=...)``.
    """

    task: VideoTask | None
    final_event: AnyFinalEvent | None
    last_error: EzVideoError | None = field(eq=False)
    added_at: float
    tag: Any
