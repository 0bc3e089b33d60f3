"""Validation of arguments before anything is sent: tasks, base urls, headers, numbers."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from enum import Enum
from ipaddress import IPv4Address, ip_address
from typing import Any, Final, TypeGuard, TypeVar
from urllib.parse import urlsplit

from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async.errors import ConfigError, InvalidTaskIdError

T = TypeVar("T")

MAX_ID_CHARACTERS = 2_048
"""A longer id is a mistake of the caller, and slow to percent-encode."""

_MAX_SECONDS = 31_536_000.0
"""A year: more is a mistake in the unit."""

_MAX_SHOWN = 10**18
"""Integers beyond this are not shown: Python refuses to write thousands of digits."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,4000}\Z")
_TASK_ID = "{task_id}"
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})+\Z")
_NOT_IN_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_MAX_NAME = 80  # characters of a caller's text in our message
_OWN_HEADERS = frozenset({"authorization", "host", "content-length", "transfer-encoding"})


class Unset(Enum):
    """Type of ``UNSET``, the default of an argument whose None has a meaning of its own."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return self.value


UNSET: Final = Unset.UNSET
"""The argument was not passed."""

# -- tasks ------------------------------------------------------------------------------------


def validate_task_id(task_id: object) -> str:
    """Return a valid task id unchanged; raise InvalidTaskIdError for any other value."""
    if not isinstance(task_id, str):
        raise InvalidTaskIdError(
            f"expected a task id (a str) or a VideoTask, got {type(task_id).__name__}"
        )
    if problem := _id_problem(task_id):
        raise InvalidTaskIdError(f"{task_id[:80]!a} can't be a task id: it {problem}")
    return task_id


def _id_problem(task_id: str) -> str | None:
    if len(task_id) > MAX_ID_CHARACTERS:
        return f"has {len(task_id)} characters, at most {MAX_ID_CHARACTERS} are allowed"
    if task_id.isascii() and task_id.isprintable() and task_id.strip(" .") != "":
        return None
    if not task_id.strip():
        return "is empty or blank"
    if task_id in {".", ".."}:
        return "would change the path of the url"
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in task_id):
        return "contains control characters or lone surrogates"
    return None


def task_id_of(task: str | VideoTask) -> str:
    """Return the id that *task* is or has; raise InvalidTaskIdError if it is invalid."""
    return validate_task_id(task.id if isinstance(task, VideoTask) else task)


def validate_tasks(
    tasks: Iterable[str | VideoTask] | Mapping[str, Any], *, tag: Any = None
) -> dict[str, Any]:
    """
    Return the ids of *tasks*, each with its own tag if *tasks* is a mapping, else with *tag*.

    Raises:
        InvalidTaskIdError: An id is invalid, or *tasks* is a single id or task.
    """
    if isinstance(tasks, str | bytes | VideoTask):
        raise InvalidTaskIdError(
            f"expected several tasks, got one {type(tasks).__name__}: put it in a list"
        )
    if isinstance(tasks, Mapping):
        return {task_id_of(task): own_tag for task, own_tag in tasks.items()}
    return {task_id_of(task): tag for task in tasks}


def validate_task(task: object) -> None:
    """Raise TypeError unless *task* is a ``VideoTask`` whose status is a ``TaskStatus``."""
    if not isinstance(task, VideoTask):
        raise TypeError(
            f"expected a VideoTask, got {type(task).__name__}; VideoTask.from_dict() makes one"
        )
    status: object = task.status
    if not isinstance(status, TaskStatus):
        raise TypeError(
            f"the status of a VideoTask must be a TaskStatus, got {type(status).__name__}"
        )


# -- configuration ----------------------------------------------------------------------------


def validate_instance(name: str, value: T | None, kind: type[T]) -> T | None:
    """Return *value* if it is None or an instance of *kind*, else raise ConfigError."""
    if value is None or isinstance(value, kind):
        return value
    got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    raise ConfigError(f"{name} must be a {kind.__name__}, got {got}")


def validate_json_tag(tag: Any, task_id: str) -> Any:
    """Return a tag as JSON makes it; raise ConfigError for one that JSON cannot write."""
    try:
        return json.loads(json.dumps(tag, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        pass
    raise ConfigError(
        f"the tag of task {task_id[:80]!a}, a {type(tag).__name__}, cannot be written as JSON; "
        "a store needs texts, numbers, lists and dicts"
    )


def validate_base_url(base_url: object) -> str:
    """Return a valid base url without its trailing slashes; raise ConfigError for another."""
    if not isinstance(base_url, str) or not base_url.strip():
        raise _bad_base_url("is empty")
    url = base_url.strip()
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise _bad_base_url("contains characters that are not allowed in a url")
    try:
        parts = urlsplit(url)
        port = parts.port
        _check_host(parts.hostname or "")
    except ValueError:
        raise _bad_base_url("has an invalid host or port") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise _bad_base_url("does not begin with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise _bad_base_url("contains a user or password; pass the API key as api_key")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise _bad_base_url("contains a query or fragment")
    if {".", ".."} & set(parts.path.split("/")):
        raise _bad_base_url("contains . or .. in its path")
    return url.rstrip("/")


def _check_host(host: str) -> None:
    """Raise ValueError for a host that aiohttp or the name resolution cannot use."""
    if host.replace(".", "").isdigit():
        IPv4Address(host)  # a number that is no canonical address
    (host.rstrip(".") or host).encode("idna")  # labels of 0 or more than 63 characters


def _bad_base_url(problem: str) -> ConfigError:
    return ConfigError(f"base_url {problem}; pass one like https://www.ezmodel.cloud/v1")


def validate_encrypted(base_url: str, *, proxy_host: str | None = None) -> None:
    """Raise ConfigError if a valid base url sends the API key unencrypted over a network."""
    parts = urlsplit(base_url)
    hosts = [parts.hostname or "", *([proxy_host] if proxy_host else [])]
    if parts.scheme == "http" and not all(map(_is_loopback, hosts)):
        raise ConfigError(
            "base_url is plain http: the API key would be sent unencrypted to another machine; "
            "use https, or pass allow_insecure=True if everyone in that network may read it"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def validate_status_path(path: object) -> str:
    """Return *path* if it is the path of a task's state, else raise ConfigError."""
    if not isinstance(path, str) or not path.startswith("/") or path.count(_TASK_ID) != 1:
        raise _bad_status_path(f"must begin with / and contain {_TASK_ID} once")
    rest = path.replace(_TASK_ID, "x")
    if not _PATH.match(rest):
        raise _bad_status_path("contains characters that are not allowed in the path of a url")
    if {".", ".."} & set(rest.split("/")) or "//" in path:
        raise _bad_status_path("contains an empty segment, . or ..")
    return path


def _bad_status_path(problem: str) -> ConfigError:
    return ConfigError(f"status_path {problem}; pass one like /videos/{_TASK_ID}")


def validate_query(query: object) -> dict[str, str]:
    """Return a copy of *query*; raise ConfigError unless it maps names to texts."""
    if not isinstance(query, Mapping):
        raise ConfigError(
            f"query must be a mapping from names to texts, got {type(query).__name__}"
        )
    for name, value in query.items():
        if not isinstance(name, str) or not isinstance(value, str) or not name:
            raise ConfigError("query: every name and value must be a text, and no name empty")
        if any(map(_NOT_IN_TEXT.search, (name, value))):
            raise ConfigError(
                f"query: {name[:_MAX_NAME]!a} or its value has control or surrogate characters"
            )
    return dict(query)


def validate_bytes(name: str, value: int) -> int:
    """Return *value* if it is a whole number of at least 1, else raise ConfigError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"{name} must be a whole number of bytes, 1 or more, got {describe_value(value)}"
        )
    return value


def validate_headers(headers: object) -> dict[str, str]:
    """Return a copy of *headers*; raise ConfigError if one is invalid or the client sets it."""
    if not isinstance(headers, Mapping):
        raise ConfigError(
            f"headers must be a mapping from names to texts, got {type(headers).__name__}"
        )
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.match(name):
            raise ConfigError(f"headers: {name!a} is not a header name")
        if name.lower() in _OWN_HEADERS:
            raise ConfigError(
                f"headers: {name} is set by the client itself; pass the API key as api_key"
            )
        if not isinstance(value, str) or not _HEADER_VALUE.match(value):
            raise ConfigError(f"headers: the value of {name} must be printable ASCII text")
    return dict(headers)


# -- numbers ----------------------------------------------------------------------------------


def is_number(value: object) -> TypeGuard[float]:
    """Return True for an int or float; a boolean is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def describe_value(value: object) -> str:
    """Return a number of up to 18 digits as text, and the type's name of any other value."""
    is_short = isinstance(value, float) or (is_number(value) and abs(value) < _MAX_SHOWN)
    return repr(value) if is_short else type(value).__name__


def validate_seconds(name: str, value: float, *, low: float, high: float = _MAX_SECONDS) -> float:
    """Return *value* as float if it is a number from *low* to *high*, else raise ConfigError."""
    if not is_number(value):
        raise ConfigError(f"{name} must be a number of seconds, got {describe_value(value)}")
    if not low <= value <= high:  # NaN included
        raise ConfigError(
            f"{name} must be between {low:g} and {high:g} seconds, got {describe_value(value)}"
        )
    return float(value)


def validate_timeout(name: str, value: float | None) -> float | None:
    """Return a timeout of more than 0 seconds, or None for no limit; else raise ConfigError."""
    if value is None:
        return None
    seconds = validate_seconds(name, value, low=0.0)
    if seconds == 0.0:
        raise ConfigError(f"{name} must be more than 0 seconds; None means no limit")
    return seconds
