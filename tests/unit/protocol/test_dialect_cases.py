"""Every recorded or documented answer of every dialect, read as its row demands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ezvideo_async._domain.task import VideoTask
from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ConfigError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TaskNotFoundError,
)
from tests.support.response_bodies import outcome_of

SAMPLES = Path(__file__).parents[2] / "samples" / "cases.jsonl"
CASES = [json.loads(line) for line in SAMPLES.read_text("utf-8").splitlines()]

FAMILIES = {
    "NotFound": (TaskNotFoundError,),
    "Auth": (AuthenticationError, PermissionDeniedError),
    "RateLimit": (RateLimitError,),
    "Server": (ServerError,),
    "BadRequest": (BadRequestError,),
    "BadResponse": (BadResponseError,),
}

DECIDED_OTHERWISE = {
    # A redirect never heals: the base_url is wrong, so the caller must mend the set-up.
    "redirect-301": (ConfigError,),
    # No such route, whatever the id: again the set-up, not the task.
    "newapi-404-route": (ConfigError,),
    # No credit: the same reaction as a key that may not, stop and see to the account.
    "402-payment": (PermissionDeniedError,),
}
"""Cases in which the design decides for another class than the case's family."""


def _shown(outcome: Any) -> dict[str, Any]:
    if not isinstance(outcome, VideoTask):
        return {"error_code": outcome.code, "error_message": outcome.message}
    error = outcome.error
    return {
        "status": str(outcome.status),
        "progress": outcome.progress,
        "url": outcome.url,
        "created_at": outcome.created_at and outcome.created_at.timestamp(),
        "error_code": error and error.code,
        "error_message": error and error.message,
    }


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_every_case_is_read_as_its_row_demands(case):
    """Status, progress, url, time, code and message, or the family of the error, are the row's."""
    outcome = outcome_of(
        case["body"], status=case["http_status"], headers=case.get("headers"), ask=case["ask"]
    )

    expected = case["expect"]
    family = DECIDED_OTHERWISE.get(case["name"], FAMILIES.get(expected["raises"], VideoTask))
    assert isinstance(outcome, family)
    shown = _shown(outcome)
    assert {name: expected[name] for name in shown} == shown


@pytest.mark.parametrize("name", sorted(DECIDED_OTHERWISE))
def test_every_decision_of_ours_is_about_a_case(name):
    """The table of differences names no case that is gone."""
    assert name in {case["name"] for case in CASES}


def test_every_task_keeps_the_whole_answer():
    """What a case sent is what ``raw`` gives, wrappers included."""
    sent = [case for case in CASES if case["expect"]["raises"] is None]

    for case in sent:
        outcome = outcome_of(case["body"], status=case["http_status"], ask=case["ask"])
        assert isinstance(outcome, VideoTask)
        if isinstance(case["body"], dict):
            assert case["body"] == outcome.raw
        assert outcome.id == case["ask"]
