"""
Tables of server dialects: status values, field aliases, places of the url, error codes.

Rules:

1. Data only; a row is added with its source, and nothing is guessed.
2. The status values are in their normalized form: lower case, runs of blanks and hyphens as ``_``.
3. A status value that is in no row is read as ``processing``, so that it never ends a wait.  So are
   yunwu's ``video_generation_completed`` and ``video_generation_failed``: upsampling may follow,
   and only its last status values are known to be final.
4. The order of aliases and places is the order of preference.
"""

from __future__ import annotations

from typing import Final

from ezvideo_async._domain.task import TaskStatus

# -- status ----------------------------------------------------------------------------------

STATUS_FIELDS: Final = ("status", "state", "task_status")

_PENDING_VALUES: Final = (
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
    "not_start",  # new-api, before its first request upstream
    "not_started",
    "notstart",
    "notstarted",
    "unknown",  # new-api's public form of NOT_START: just submitted
)
_PROCESSING_VALUES: Final = (
    "processing",  # the API document
    "in_progress",  # OpenAI
    "inprogress",  # SiliconFlow
    "running",  # Azure
    "generating",  # aimlapi
    "preprocessing",  # Azure
    "rendering",
    "started",
    "cancelling",  # animgen: not yet final
    "canceling",
    "image_downloading",  # yunwu
    "video_generating",  # yunwu
    "video_upsampling",  # yunwu
)
_COMPLETED_VALUES: Final = (
    "completed",  # the API document
    "complete",
    "succeeded",  # Azure, new-api's documents
    "succeed",  # Kling
    "success",  # new-api
    "successful",
    "done",  # xAI, Jimeng
    "finished",
)
_FAILED_VALUES: Final = (
    "failed",  # the API document
    "fail",  # Hailuo
    "failure",  # new-api
    "error",  # aimlapi
    "errored",
    "timeout",  # budgetpixel: final
    "timed_out",
    "rejected",
    "interrupted",  # Seedance MCP
)
_CANCELLED_VALUES: Final = (
    "cancelled",  # ezmodel, OpenRouter, Together, Inworld
    "canceled",  # Azure
    "aborted",
    "deleted",  # SGLang, in response to DELETE
)
_EXPIRED_VALUES: Final = ("expired",)  # OpenRouter, xAI

STATUS_VALUES: Final = {
    **dict.fromkeys(_PENDING_VALUES, TaskStatus.PENDING),
    **dict.fromkeys(_PROCESSING_VALUES, TaskStatus.PROCESSING),
    **dict.fromkeys(_COMPLETED_VALUES, TaskStatus.COMPLETED),
    **dict.fromkeys(_FAILED_VALUES, TaskStatus.FAILED),
    **dict.fromkeys(_CANCELLED_VALUES, TaskStatus.FAILED),
    **dict.fromkeys(_EXPIRED_VALUES, TaskStatus.FAILED),
}
"""Normalized status value to status."""

STATUS_VALUES_BESIDE_A_URL: Final = frozenset({"ready"})  # OpenMausBot
"""Normalized status values that mean ``completed`` beside a url, and are unknown without one."""

CALL_SUCCESS_VALUES: Final = frozenset({"success", "ok"})  # JSend
CALL_ERROR_VALUES: Final = frozenset({"error", "fail"})  # JSend
"""
Normalized status values of a call.

Without an id at the same level they say how the request went, not how the task did.
"""

TASK_FIELDS: Final = frozenset({"progress", "model"})
"""Keys of tasks that no envelope has; beside one of them ``success`` is the task's status."""

CODES_OF_STATUS_VALUES: Final = {
    **dict.fromkeys(_CANCELLED_VALUES, "cancelled"),
    **dict.fromkeys(_EXPIRED_VALUES, "expired"),
    "timeout": "timeout",
    "timed_out": "timed_out",
}
"""Normalized status value to the error code that it stands for when the server sent no code."""

# -- fields ----------------------------------------------------------------------------------

ENVELOPE_FIELDS: Final = (
    "data",  # new-api's TaskDto, JSend, Kling
    "task",  # MiniMax
    "video_task",
    "output",  # DashScope
    "result",
    "response",
)
"""Keys under which gateways nest the task."""

MAX_ENVELOPES: Final = 3
MAX_NESTED: Final = 1_000
"""Objects that are searched for another task or status."""

EVENT_TYPE_FIELDS: Final = ("type", "event", "event_type")
"""Keys of a webhook's kind, such as ``video.completed``; the id beside it is the event's."""

NO_TASK_FIELDS: Final = frozenset({"error", "errors", "metadata", "base_resp"})
"""Keys under which an id or a status is not that of a task."""

ID_FIELDS: Final = (
    "id",
    "task_id",
    "video_id",
    "generation_id",
    "job_id",
    "taskId",  # KIE
)
TRACE_ID_FIELD: Final = "request_id"
"""
xAI's id of a new task, fal's of every task.

It is a trace id unless it is the asked id, or nothing else can be the id and there is no error.
"""

REQUEST_ID_HEADERS: Final = (
    "x-request-id",
    "x-oneapi-request-id",  # new-api
    "x-litellm-call-id",
)

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
    ("data", "output_url"),  # MAX-API
    ("data", "outputs"),
    ("data",),  # LocalAI: [{"url": ...}]
    ("results", "url"),  # GrsAI
    ("results", "video_url"),  # DashScope
    ("videos",),
    ("resultUrl",),  # orpheus
    ("videoUrl",),
)
"""Places of the url; of a list the first item is read, of an object its ``url``."""

URL_FIELDS_WHEN_COMPLETED: Final = (
    "fail_reason",  # CometAPI, old new-api: the result's url
    "remixed_from_video_id",  # Agnes
)
"""Fields with another meaning, in which only a text that begins with ``http`` is a url."""

# -- errors ----------------------------------------------------------------------------------

NO_ERROR_CODES: Final = frozenset({"", "0", "200", "success", "ok"})
"""Codes that mean "no error" on a task that has not failed (PiAPI, new-api)."""

SUCCESS_MESSAGES: Final = frozenset(
    {"success", "succeed", "succeeded", "successful", "ok", "done", "成功"}
)
SUCCESS_ENDINGS: Final = ("successfully", "successful", "succeeded", "completed", "成功", "完成")
"""Messages, in lower case, that mean "no error" whatever the code beside them (Jimeng: 10000)."""

FAILURE_FLAGS: Final = (("success", False), ("ok", False), ("error", True))
"""Fields with the value that means that the call failed."""

CODE_FIELDS: Final = (
    "code",
    "error_code",
    "errorCode",
    "errcode",
    "failCode",  # KIE
    "status_code",
    "statusCode",  # Fastify
)
MESSAGE_FIELDS: Final = ("message", "msg", "error_message", "errorMsg", "error_msg", "errmsg")
ERROR_MESSAGE_FIELDS: Final = (*MESSAGE_FIELDS, "detail", "raw_message")  # the last: PiAPI
"""Fields of an error object."""

BASE_RESPONSE_FIELD: Final = "base_resp"
"""MiniMax's error object, with ``status_code`` and ``status_msg``; the code 0 is no error."""

FAILURE_REASON_FIELDS: Final = (
    "fail_reason",  # new-api
    "failure_reason",  # Azure
    "failure",
    "reason",
    "error_message",
    "err_msg",
    "errorMsg",
    "failMsg",  # KIE
    "task_status_msg",  # Kling
)

MISPLACED_REASON_PLACES: Final = (
    ("metadata", "url"),  # new-api's Hailuo channel
    ("url",),
    ("video_url",),  # wxart
)
"""Places of the url in which the reason of a failure stands, as a text that is no url."""

NOT_FOUND_CODES: Final = frozenset(
    {
        "task_not_found",
        "task_not_exist",
        "task_not_exists",
        "video_not_found",
        "video_not_exist",
        "job_not_found",
        "generation_not_found",
        "not_found",
        "resource_not_found",
    }
)
PERMISSION_CODES: Final = frozenset({"403", "forbidden", "permission_denied"})
AUTHENTICATION_CODES: Final = frozenset(
    {"invalid_api_key", "invalid_token", "unauthorized", "access_denied", "auth_error", "401"}
)
RATE_LIMIT_CODES: Final = frozenset({"rate_limit_exceeded", "too_many_requests", "429"})
CALL_CODES: Final = (
    NOT_FOUND_CODES | PERMISSION_CODES | AUTHENTICATION_CODES | RATE_LIMIT_CODES | {"404"}
)
"""Codes that are about the request, never about how a task went."""

QUOTA_CODES: Final = frozenset(
    {"insufficient_quota", "insufficient_user_quota", "billing_limit_exceeded"}
)
"""Codes of a 429 that waiting does not end."""

WRONG_ROUTE_PREFIXES: Final = ("Invalid URL (", "404 page not found")
"""Messages of new-api and of Go's router for a path that they do not serve."""
