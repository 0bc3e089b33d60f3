"""
What servers call things: status words, field names, places of the url, error codes.

Data only; no await, no clock, no randomness, no I/O.  Rules:

1. A row is added with its source; nothing here is guessed.
2. A status word is compared after ``strip().lower()`` and runs of blanks and hyphens made ``_``.
3. A word in no row means *alive* (``processing``): it never ends a wait.
   So do yunwu's ``video_generation_completed`` and ``video_generation_failed``: upsampling
   may follow, and only its last words are known to be ends.
4. The order of aliases and places is the order of preference.
"""

from __future__ import annotations

import re
from typing import Final

from ezvideo_async._domain.task import TaskStatus

# -- status ----------------------------------------------------------------------------------

STATUS_FIELDS: Final = ("status", "state", "task_status")

_PENDING_WORDS: Final = (
    "pending",  # the API document
    "queued",  # OpenAI
    "queue",
    "queueing",  # Vidu
    "queuing",
    "in_queue",  # Jimeng
    "inqueue",
    "submitted",  # Kling
    "created",  # Vidu
    "waiting",
    "accepted",
    "scheduled",
    "preparing",  # Hailuo
    "initializing",  # Qiniu
    "initialized",
    "starting",
    "throttled",  # Runway; LiteLLM reads it as queued
    "validating",
    "not_start",  # new-api, before its first look upstream
    "not_started",
    "notstart",
    "notstarted",
    "unknown",  # new-api's public form of NOT_START: just submitted
)
_PROCESSING_WORDS: Final = (
    "processing",  # the API document
    "in_progress",  # OpenAI
    "inprogress",  # SiliconFlow
    "running",  # Azure
    "generating",  # aimlapi
    "preprocessing",  # Azure
    "rendering",
    "started",
    "cancelling",  # animgen: not yet an end
    "canceling",
    "image_downloading",  # yunwu
    "video_generating",  # yunwu
    "video_upsampling",  # yunwu
)
_COMPLETED_WORDS: Final = (
    "completed",  # the API document
    "complete",
    "succeeded",  # Azure, new-api's documents
    "succeed",  # Kling
    "success",  # new-api
    "successful",
    "done",  # xAI, Jimeng
    "finished",
)
_FAILED_WORDS: Final = (
    "failed",  # the API document
    "fail",  # Hailuo
    "failure",  # new-api
    "error",  # aimlapi
    "errored",
    "timeout",  # budgetpixel: an end
    "timed_out",
    "rejected",
)
_CANCELLED_WORDS: Final = (
    "cancelled",  # ezmodel, OpenRouter, Together, Inworld
    "canceled",  # Azure
    "aborted",
    "deleted",  # SGLang, in answer to DELETE
)
_EXPIRED_WORDS: Final = ("expired",)  # OpenRouter, xAI

STATUS_VALUES: Final = {
    **dict.fromkeys(_PENDING_WORDS, TaskStatus.PENDING),
    **dict.fromkeys(_PROCESSING_WORDS, TaskStatus.PROCESSING),
    **dict.fromkeys(_COMPLETED_WORDS, TaskStatus.COMPLETED),
    **dict.fromkeys(_FAILED_WORDS, TaskStatus.FAILED),
    **dict.fromkeys(_CANCELLED_WORDS, TaskStatus.FAILED),
    **dict.fromkeys(_EXPIRED_WORDS, TaskStatus.FAILED),
}
"""Normalised word to status."""

CODES_OF_STATUS_VALUES: Final = {
    **dict.fromkeys(_CANCELLED_WORDS, "cancelled"),
    **dict.fromkeys(_EXPIRED_WORDS, "expired"),
    **{word: word for word in ("timeout", "timed_out")},
}
"""Normalised word to the error code it stands for when the server sends none."""

_BLANKS_AND_HYPHENS: Final = re.compile(r"[\s-]+")


def normalize_status(word: str) -> str:
    """Bring a status word into the form of the keys of ``STATUS_VALUES``."""
    return _BLANKS_AND_HYPHENS.sub("_", word.strip().lower())


def is_known_status(word: str) -> bool:
    """Tell whether a status word, as sent, stands in the table."""
    return normalize_status(word) in STATUS_VALUES


# -- fields ----------------------------------------------------------------------------------

ENVELOPE_FIELDS: Final = ("data", "task", "video_task")
"""Keys under which gateways hide the task (new-api's TaskDto, MiniMax)."""

MAX_ENVELOPES: Final = 3
UNWRAPPED_MARKS: Final = (*STATUS_FIELDS, "id", "task_id")
"""A text under one of these: this level is the task itself."""

ID_FIELDS: Final = ("id", "task_id", "video_id", "generation_id", "job_id")
TRACE_ID_FIELD: Final = "request_id"
"""xAI's name of a fresh task; a mere trace id beside an error (Kling-style wrappers)."""

CREATED_AT_FIELDS: Final = ("created_at", "created", "createdAt", "create_time", "submit_time")
COMPLETED_AT_FIELDS: Final = ("completed_at", "finished_at", "finish_time", "completedAt")
EXPIRES_AT_FIELDS: Final = ("expires_at", "expiresAt")
SECONDS_PLACES: Final = (("seconds",), ("duration",), ("n_seconds",), ("video", "duration"))

URL_PLACES: Final = (
    ("url",),  # the API document
    ("video_url",),  # agicto, yunwu
    ("result_url",),  # new-api's TaskDto
    ("metadata", "url"),  # new-api
    ("metadata", "video_url"),
    ("metadata", "result_url"),
    ("video",),  # xAI: {"url": ...}
    ("output", "url"),
    ("output", "video_url"),
    ("output", "video"),  # PiAPI
    ("output", "videos"),  # Inworld
    ("output",),
    ("outputs", "video_url"),  # Together
    ("outputs",),
    ("urls",),  # OpenRouter: signed
    ("unsigned_urls",),  # OpenRouter: needs the token
    ("content", "video_url"),
    ("content", "result_url"),  # Huawei
    ("content", "url"),  # MiniMax
    ("task_result", "videos"),  # Qiniu, Kling
    ("result", "url"),
    ("result", "video_url"),
    ("result_urls",),
    ("download_url",),
    ("content_url",),  # modelsell
    ("file_url",),
    ("data", "url"),
    ("data", "video_url"),
    ("data",),  # LocalAI: [{"url": ...}]
)
"""Where the url may be; of a list the first item counts, of an object its ``url``."""

URL_FIELDS_WHEN_COMPLETED: Final = (
    "fail_reason",  # CometAPI, old new-api: the result's url
    "remixed_from_video_id",  # Agnes
)
"""Fields of another meaning: only what begins with ``http`` is a url there."""

# -- errors ----------------------------------------------------------------------------------

_NO_ERROR_CODES: Final = frozenset({"", "0", "200", "success", "ok"})


def is_no_error(code: str | None) -> bool:
    """Tell whether a code says "no error" on a task that has not failed (PiAPI, new-api)."""
    return code is None or code.lower() in _NO_ERROR_CODES


ERROR_MESSAGE_FIELDS: Final = ("message", "msg", "detail")
FAILURE_REASON_FIELDS: Final = (
    "fail_reason",  # new-api
    "failure_reason",  # Azure
    "failure",
    "reason",
    "error_message",
    "err_msg",
    "task_status_msg",  # Kling
)

MISPLACED_REASON_PLACES: Final = (
    ("metadata", "url"),  # new-api's Hailuo channel: the failure's text, where the url should be
)

NOT_FOUND_CODES: Final = frozenset(
    {"task_not_found", "task_not_exist", "video_not_found", "not_found", "resource_not_found"}
)
AUTHENTICATION_CODES: Final = frozenset(
    {"invalid_api_key", "invalid_token", "unauthorized", "access_denied", "auth_error", "401"}
)
RATE_LIMIT_CODES: Final = frozenset({"rate_limit_exceeded", "too_many_requests", "429"})
QUOTA_CODES: Final = frozenset(
    {"insufficient_quota", "insufficient_user_quota", "billing_limit_exceeded"}
)
"""A 429 of these does not pass by waiting."""

WRONG_ROUTE_PREFIXES: Final = ("Invalid URL (", "404 page not found")
"""How new-api and Go's router answer a path they do not serve."""
