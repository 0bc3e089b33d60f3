"""The ``ezvideo store`` command: the tasks that a watch has saved in a file."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from ezvideo_async import TaskLost
from ezvideo_async._scheduling.restoring import from_stored, stored_final_event
from ezvideo_async.cli.exit_codes import COMPLETED
from ezvideo_async.cli.formatting import clean, count_text, error_record, lost_line, task_line
from ezvideo_async.cli.output import print_message, print_record
from ezvideo_async.cli.summary import NO_STATUS
from ezvideo_async.store import read_store

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from ezvideo_async import FinalEvent, VideoTask
    from ezvideo_async.store import StoredTask


def command(args: Namespace) -> int:
    """
    Print one line per task of a store and return 0.

    Raises:
        StoreError: The file is missing, in use, damaged, or not a store.
    """
    rows = read_store(args.file)
    for row in rows:
        task, final = _state_of(row)
        if args.json:
            print_record(_record(row, task, final))
        else:
            print(_line(row, task, final))
    print_message(_summary_line(rows))
    return COMPLETED


def _state_of(row: StoredTask) -> tuple[VideoTask | None, FinalEvent | None]:
    """Return the last state, and the final event that the next watch delivers."""
    tracked = from_stored(row, epoch=0.0, now=time.time())
    return tracked.task, stored_final_event(row, tracked)


def _line(row: StoredTask, task: VideoTask | None, final: FinalEvent | None) -> str:
    if isinstance(final, TaskLost):
        return lost_line(final)
    return f"{clean(row.task_id)} {NO_STATUS}" if task is None else task_line(task)


def _record(row: StoredTask, task: VideoTask | None, final: FinalEvent | None) -> dict[str, Any]:
    loss = None
    if isinstance(final, TaskLost):
        loss = {"reason": final.reason, "error": error_record(final.error)}
    return {
        "task_id": row.task_id,
        "status": row.status,
        "final_kind": row.final_kind,
        "tag": row.tag and json.loads(row.tag),
        "added_at": row.added_at,
        "deadline_at": row.deadline_at,
        "changed_at": row.changed_at,
        "task": task and task.to_dict(),
        "loss": loss,
    }


def _summary_line(rows: Sequence[StoredTask]) -> str:
    ended = sum(row.final_kind is not None for row in rows)
    delivered = "; the next watch delivers their final events" if ended else ""
    return (
        f"{count_text(len(rows), 'task')}: {len(rows) - ended:,} open, {ended:,} ended{delivered}"
    )
