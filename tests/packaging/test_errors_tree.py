"""Exception classes: tree, documentation, defaults, copying and pickling."""

from __future__ import annotations

import copy
import pickle
import re
from typing import get_args

import pytest

import ezvideo_async
from ezvideo_async import errors
from ezvideo_async._domain.task import ErrorInfo, TaskStatus, VideoTask

ERRORS = [getattr(errors, name) for name in errors.__all__]
_BRANCH = re.compile(r"    ((?:[│ ]   )*)(?:[├└]── )?(\w+)(?: \((\w+)\))?$")

RESPONSE_FIELDS = {
    "status": 418,
    "code": "tea",
    "server_message": "short and stout",
    "error_type": "teapot",
    "request_id": "req_1",
    "retry_after": 2.5,
    "body_excerpt": "<html>",
}
TASK = VideoTask(id="vid_1", status=TaskStatus.FAILED, error=ErrorInfo(code="c", message="m"))
FIELDS = {
    errors.ConfigError: {**RESPONSE_FIELDS, "reason": "redirect"},
    errors.TransportError: {"reason": "dns"},
    errors.BadResponseError: {
        **RESPONSE_FIELDS,
        "reason": "schema",
        "paths": ("expected @ $",),
        "received_id": "vid_2",
    },
    errors.APIStatusError: RESPONSE_FIELDS,
    errors.StoreError: {"reason": "full", "path": "watch.db", "unsaved": 3},
    errors.TaskFailedError: {"task": TASK},
    errors.WaitTimeoutError: {
        "task": TASK,
        "last_error": errors.ServerError("HTTP 500", status=500),
        "waited": 12.5,
    },
}
REASONS = {
    errors.ConfigError: errors.ConfigReason,
    errors.TransportError: errors.TransportReason,
    errors.BadResponseError: errors.BadResponseReason,
    errors.StoreError: errors.StoreReason,
}


def drawn_tree():
    """Read the docstring's drawing: class name to its parent and its other base."""
    parents = {}
    above = []
    for line in errors.__doc__.splitlines():
        found = _BRANCH.match(line)
        if found is None:
            continue
        depth = 0 if "── " not in line else len(found[1]) // 4 + 1
        above = [*above[:depth], found[2]]
        parents[found[2]] = (above[depth - 1] if depth else "Exception", found[3])
    return parents


def parents_of(kind):
    """Name the nearest public base class, and the built-in one beside it."""
    public = next(base.__name__ for base in kind.__mro__[1:] if not base.__name__.startswith("_"))
    builtin = [base.__name__ for base in kind.__bases__ if base in {ValueError, TimeoutError}]
    return public, next(iter(builtin), None)


def full_error(kind):
    """Make an error with every field set."""
    fields = next((FIELDS[base] for base in kind.__mro__ if base in FIELDS), {})
    error = kind("it failed", task_id="vid_1", **fields)
    error.retryable = not error.retryable
    error.open_ids = ("vid_1", "vid_3")
    return error


def test_drawing_names_every_class_and_its_bases():
    """The module docstring draws the tree of the classes, built-in bases included."""
    assert drawn_tree() == {kind.__name__: parents_of(kind) for kind in ERRORS}


def test_names_are_sorted_and_exported_at_the_top():
    """Every error is a name of ``ezvideo_async`` too."""
    assert sorted(errors.__all__) == errors.__all__
    assert all(getattr(ezvideo_async, name) is getattr(errors, name) for name in errors.__all__)


@pytest.mark.parametrize("kind", REASONS)
def test_docstring_names_every_reason(kind):
    """The docstring lists the values of the ``Literal`` type."""
    missing = [reason for reason in get_args(REASONS[kind]) if f"``{reason}``" not in kind.__doc__]

    assert missing == []


@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
@pytest.mark.parametrize("kind", ERRORS)
def test_error_survives_copy_and_pickle(kind, travel):
    """Type, text and every attribute are kept, nested errors and tasks included."""
    error = full_error(kind)

    copied = travel(error)

    assert type(copied) is kind
    assert copied.args == error.args == ("it failed",)
    assert {name: repr(value) for name, value in vars(copied).items()} == {
        name: repr(value) for name, value in vars(error).items()
    }


@pytest.mark.parametrize("kind", ERRORS)
def test_error_needs_only_a_message(kind):
    """Every other field has a default."""
    error = kind("it failed")

    assert (str(error), error.task_id, error.open_ids) == ("it failed", None, ())
    assert set(vars(error)) == set(vars(full_error(kind)))


def test_retryable_is_true_where_repeating_may_help():
    """By default: no response, a bad response and a timeout of ``wait()``."""
    retryable = {kind for kind in ERRORS if kind("x").retryable}

    assert retryable == {
        errors.TransportError,
        errors.RequestTimeoutError,
        errors.BadResponseError,
        errors.WaitTimeoutError,
    }


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (errors.TransportError, "connect"),
        (errors.RequestTimeoutError, "timeout"),
        (errors.TLSError, "tls"),
        (errors.ConfigError, None),
        (errors.BadResponseError, None),
    ],
)
def test_reason_has_a_default(kind, reason):
    """A transport error always has a reason."""
    assert kind("x").reason == reason
