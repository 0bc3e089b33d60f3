"""
Wordings of "not found": about a task, or about a route that the server does not have.

Gateways answer a wrong base_url with a bare ``Not Found`` in any shape, and name the task, the
video or the id when it is the task that they do not have.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ezvideo_async._protocol import dialects

if TYPE_CHECKING:
    from ezvideo_async._protocol.error_body import ErrorBody

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SEPARATORS = re.compile(r"[\s_.:-]+")

_ROUTE = re.compile(
    r"(?<![a-z])(?:routes?|urls?|endpoints?|paths?|pages?|handlers?|methods?)(?![a-z])"
)
_TASK = re.compile(
    r"(?<![a-z])(?:tasks?|videos?|jobs?|generations?|predictions?|operations?)(?![a-z])"
    r"|任务|视频|作业"
)
_MISSING = re.compile(
    r"not ?(?:be )?(?:found|exist|available)|n.t exist|no such"
    r"|no (?:task|video|job|generation)|unknown|missing|invalid|expired|deleted|gone"
    r"|(?:can ?not|can't|could not|couldn't|unable to) (?:be )?(?:find|found|locate)"
    r"|不存在|未找到|找不到|没有找到|查无|无此|没有|无效|过期|已删除"
)


def normalized_code(code: str | None) -> str:
    """Return a code in the form of the tables: ``TaskNotExist`` is ``task_not_exist``."""
    return _SEPARATORS.sub("_", _CAMEL.sub("_", code or "").strip()).lower()


def is_about_a_task(error: ErrorBody, excerpt: str | None, task_id: str) -> bool:
    """
    Return True if a 404 says that the server does not have the task.

    Args:
        error: The code and message of the body.
        excerpt: The start of a body that is no JSON.
        task_id: The asked id.
    """
    code = normalized_code(error.code)
    if code in dialects.NOT_FOUND_CODES or _names_a_missing_task(code.replace("_", " ")):
        return True
    the_id = re.compile(rf"(?<![\w/]){re.escape(task_id)}(?!\w)")
    text, occurrences = the_id.subn("task", error.message or excerpt or "")
    # Routers echo the path: "Cannot GET /videos/x".
    words = " ".join(word for word in text.lower().split() if "/" not in word)
    if _ROUTE.search(words):
        return False
    return occurrences > 0 or _names_a_missing_task(words)


def _names_a_missing_task(words: str) -> bool:
    return bool(_TASK.search(words) and _MISSING.search(words))
