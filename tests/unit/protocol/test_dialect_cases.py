"""Recorded and documented responses of every dialect, decoded as their rows expect."""

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

SAMPLES = Path(__file__).parents[2] / "samples"
CASES = [
    json.loads(line)
    for name in ("cases.jsonl", "cases-2.jsonl")
    for line in (SAMPLES / name).read_text("utf-8").splitlines()
]

FAMILIES = {
    "NotFound": (TaskNotFoundError,),
    "Auth": (AuthenticationError, PermissionDeniedError),
    "RateLimit": (RateLimitError,),
    "Server": (ServerError,),
    "BadRequest": (BadRequestError,),
    "BadResponse": (BadResponseError,),
}

OTHER_CLASSES = {
    # A redirect or a wrong route is a matter of base_url, whatever the task.
    "redirect-301": (ConfigError,),
    "newapi-404-route": (ConfigError,),
    # The caller must see to the account, as with a key that lacks a permission.
    "402-payment": (PermissionDeniedError,),
}
"""Cases for which the design has another class than the case's family."""


def decoded_fields(outcome: Any) -> dict[str, Any]:
    """Return the fields that a row of the cases has too."""
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
def test_case_is_decoded_as_its_row_expects(case):
    """Status, progress, url, time, code and message, or the family of the error."""
    outcome = outcome_of(
        case["body"], status=case["http_status"], headers=case.get("headers"), ask=case["ask"]
    )

    expected = case["expect"]
    family = OTHER_CLASSES.get(case["name"], FAMILIES.get(expected["raises"], VideoTask))
    fields = decoded_fields(outcome)
    assert isinstance(outcome, family)
    assert {name: expected[name] for name in fields} == fields
    if isinstance(outcome, VideoTask):
        assert outcome.id == case["ask"]
        assert not isinstance(case["body"], dict) or outcome.raw == case["body"]
