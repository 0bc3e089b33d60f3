"""Serializer of tasks and events to plain data for JSON; imported late, because cattrs is slow."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from ezvideo_async._domain.events import Event, TaskEvent
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async.errors import EzVideoError

if TYPE_CHECKING:
    from collections.abc import Callable

_HIDDEN = override(omit=True)
_ALWAYS = override(omit_if_default=False)


def plain_data(value: VideoTask | TaskEvent) -> dict[str, Any]:
    """Return the plain data of a task or an event."""
    shape: dict[str, Any] = _CONVERTER.unstructure(value)
    return shape


def _make_converter() -> Converter:
    converter = Converter()
    converter.register_unstructure_hook(datetime, lambda at: int(at.timestamp()))
    converter.register_unstructure_hook(TaskStatus, str)
    converter.register_unstructure_hook(EzVideoError, _error_data)
    converter.register_unstructure_hook(VideoTask, _task_hook(converter))
    for kind in get_args(Event):
        converter.register_unstructure_hook(kind, _event_hook(kind, converter))
    return converter


def _error_data(error: EzVideoError) -> dict[str, str]:
    return {"type": type(error).__name__, "message": str(error)}


def _task_hook(converter: Converter) -> Callable[[VideoTask], dict[str, Any]]:
    fields = make_dict_unstructure_fn(
        VideoTask,
        converter,
        _cattrs_omit_if_default=True,
        progress=_ALWAYS,
        model=_ALWAYS,
        created_at=_ALWAYS,
        metadata=override(unstruct_hook=dict),
        raw_status=_HIDDEN,
        request_id=_HIDDEN,
        _body=_HIDDEN,
        _base_url=_HIDDEN,
    )
    return lambda task: {"id": task.id, "object": "video", **fields(task)}


def _event_hook(kind: type[TaskEvent], converter: Converter) -> Callable[[Event], dict[str, Any]]:
    fields = make_dict_unstructure_fn(kind, converter, _state=_HIDDEN, tag=_HIDDEN)

    def unstructure(event: Event) -> dict[str, Any]:
        task = converter.unstructure(event.task)
        shape = {"event": event.kind, **fields(event), "final": event.is_final, "task": task}
        return shape if event.tag is None else shape | {"tag": event.tag}

    return unstructure


_CONVERTER = _make_converter()
