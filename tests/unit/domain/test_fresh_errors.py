"""Copies of errors: equal fields, no frames, and errors of ours within them copied too."""

from __future__ import annotations

import pytest

from ezvideo_async import AuthenticationError, EzVideoError, WaitTimeoutError
from ezvideo_async._domain.fresh_errors import fresh_error


def raised(error):
    """Raise an error while another one is handled, as a reader may do."""
    try:
        {}["the reader's own"]
    except KeyError:
        try:
            raise error
        except EzVideoError as caught:
            return caught


def test_copy_has_the_fields_and_no_trace_of_who_raised_it():
    """Type, text and attributes are kept; frames and context are not."""
    error = AuthenticationError("no", task_id="vid_1", status=401, code="bad", retryable=False)
    error.open_ids = ("vid_1",)

    fresh = fresh_error(raised(error))

    assert fresh is not error
    assert (type(fresh), fresh.args, vars(fresh)) == (type(error), error.args, vars(error))
    assert (fresh.__traceback__, fresh.__context__, fresh.__cause__) == (None, None, None)
    assert not fresh.__suppress_context__


def test_cause_of_others_is_kept_itself():
    """It was raised once, where it came from."""
    error = EzVideoError("no")
    error.__cause__ = cause = ValueError("x")

    assert fresh_error(error).__cause__ is cause


@pytest.mark.parametrize("is_cause", [False, True])
def test_errors_of_ours_within_it_are_copied(is_cause):
    """The last error of a timeout is a copy, and its cause too; one object stays one."""
    last_error, other = EzVideoError("last"), EzVideoError("other")
    error = WaitTimeoutError("late", last_error=raised(last_error))
    error.__cause__ = last_error if is_cause else raised(other)

    fresh = fresh_error(error)

    assert (str(fresh.last_error), fresh.last_error.__traceback__) == ("last", None)
    assert (fresh.__cause__ is fresh.last_error) is is_cause
    assert fresh.__cause__ not in {error, last_error, other}
    assert (str(fresh.__cause__), fresh.__cause__.__traceback__) == (
        "last" if is_cause else "other",
        None,
    )
