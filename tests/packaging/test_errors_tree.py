"""The tree of errors is as it is drawn, and its members travel well."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

import ezvideo_async
from ezvideo_async import errors
from ezvideo_async._domain.task import ErrorInfo, TaskStatus, VideoTask

ERRORS = [getattr(errors, name) for name in errors.__all__]
_BRANCH = re.compile(r"    ((?:[│ ]   )*)(?:[├└]── )?(\w+)(?: \((\w+)\))?$")

ANSWERED = {
    "status": 418,
    "reason": "schema",
    "code": "tea",
    "server_message": "short and stout",
    "error_type": "teapot",
    "request_id": "req_1",
    "retry_after": 2.5,
    "body_excerpt": "<html>",
}
TASK = VideoTask(id="vid_1", status=TaskStatus.FAILED, error=ErrorInfo(code="c", message="m"))
FIELDS = {
    errors.TransportError: {"reason": "dns"},
    errors.TaskFailedError: {"task": TASK},
    errors.WaitTimeoutError: {
        "task": TASK,
        "last_error": errors.ServerError("HTTP 500", status=500),
        "waited": 12.5,
    },
    errors.BadResponseError: {**ANSWERED, "paths": ("expected @ $",), "answered_id": "vid_2"},
}


def _drawn():
    """Read the drawing: name of a class, its parent in the tree, its other base."""
    parents = {}
    above = []
    for line in errors.__doc__.splitlines():
        found = _BRANCH.match(line)
        if found is None or not line.startswith("    "):
            continue
        depth = 0 if "── " not in line else len(found[1]) // 4 + 1
        above = [*above[:depth], found[2]]
        parents[found[2]] = (above[depth - 1] if depth else "Exception", found[3])
    return parents


def _public_parent(kind):
    return next(base.__name__ for base in kind.__mro__[1:] if not base.__name__.startswith("_"))


def _made(kind):
    fields = next((FIELDS[base] for base in kind.__mro__ if base in FIELDS), {})
    if "server_message" in inspect.signature(kind).parameters:
        fields = ANSWERED | fields
    limit = {} if kind in {errors.TaskFailedError, errors.WaitTimeoutError} else {"retryable": True}
    made = kind("it went wrong", task_id="vid_1", **limit, **fields)
    made.open_ids = ("vid_1", "vid_3")
    return made


def test_the_tree_is_as_it_is_drawn():
    """The module's drawing names every class, its parent and its builtin base, and no other."""
    bases = {
        kind.__name__: (
            _public_parent(kind),
            next(
                (
                    base.__name__
                    for base in kind.__bases__
                    if base.__module__ == "builtins" and base is not Exception
                ),
                None,
            ),
        )
        for kind in ERRORS
    }

    assert bases == _drawn()


def test_the_list_of_names_is_sorted_and_exported():
    """Every error has its home here and is re-exported at the top."""
    assert sorted(errors.__all__) == errors.__all__
    assert all(getattr(ezvideo_async, name) is getattr(errors, name) for name in errors.__all__)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_one_of_ours_and_documented(kind):
    """``except EzVideoError`` catches it, and its docstring says what the caller does about it."""
    assert issubclass(kind, errors.EzVideoError)
    assert kind.__doc__.strip()


@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_copies_and_pickles_with_all_it_knows(kind, travel):
    """Text, type and every attribute survive; nested errors and tasks too."""
    made = _made(kind)

    there = travel(made)

    assert type(there) is kind
    assert str(there) == "it went wrong"
    assert there.args == made.args
    assert {name: repr(value) for name, value in vars(made).items()} == {
        name: repr(value) for name, value in vars(there).items()
    }


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_made_of_a_text_alone_has_every_attribute(kind):
    """Nothing but the text is required, so that fakes can raise what they like."""
    made = kind("it went wrong")

    assert made.task_id is None
    assert made.open_ids == ()
    assert set(vars(_made(kind))) == set(vars(made))


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [
        (errors.EzVideoError, False),
        (errors.ConfigError, False),
        (errors.InvalidTaskIdError, False),
        (errors.TransportError, True),
        (errors.RequestTimeoutError, True),
        (errors.TLSError, False),
        (errors.BadResponseError, True),
        (errors.APIStatusError, False),
        (errors.TaskFailedError, False),
        (errors.WaitTimeoutError, True),
        (errors.ClosedError, False),
    ],
)
def test_retryable_has_a_sane_default(kind, retryable):
    """Where no answer came asking again may help; where something is refused it does not."""
    assert kind("x").retryable is retryable


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
def test_reason_has_its_default(kind, reason):
    """The reason of a transport error is always told."""
    assert reason == kind("x").reason


def test_the_builtin_families_catch_what_they_should():
    """``except ValueError`` and ``except TimeoutError`` work as a caller expects."""
    with pytest.raises(ValueError, match="bad"):
        raise errors.ConfigError("bad")
    with pytest.raises(TimeoutError):
        raise errors.WaitTimeoutError("late")
    with pytest.raises(errors.TransportError):
        raise errors.RequestTimeoutError("late")
