"""
What callers give us, task ids, states, base urls and headers, checked before anything is sent.

No await, no clock, no randomness, no I/O.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, TypeGuard
from urllib.parse import urlsplit

from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async.errors import ConfigError, InvalidTaskIdError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_ID_CHARACTERS = 512
"""Longer ids are somebody's mistake, and slow to quote."""

_LONGEST = 31_536_000.0
"""A year, in seconds: whoever asks for more mistook the unit."""

_LONGEST_SHOWN = 10**18
"""Integers beyond this are not written out: Python itself refuses thousands of digits."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,4000}\Z")
_OUR_HEADERS = frozenset({"authorization", "host", "content-length", "transfer-encoding"})


def validate_task_id(task_id: object) -> str:
    """
    Let a usable task id pass, verbatim.

    Raises:
        InvalidTaskIdError: It is no text, empty or blank, ``.`` or ``..``, over 512 characters,
            or holds control characters or lone surrogates.
    """
    if not isinstance(task_id, str):
        message = f"a task id must be text, got {type(task_id).__name__}"
        raise InvalidTaskIdError(message)
    trouble = _trouble_with_id(task_id)
    if trouble:
        message = f"{task_id[:80]!a} can't be a task id: it {trouble}"
        raise InvalidTaskIdError(message)
    return task_id


def validate_task_ids(task_ids: Iterable[str]) -> list[str]:
    """
    Copy usable ids.

    Raises:
        InvalidTaskIdError: One is not usable, or *task_ids* is a single text.
    """
    if isinstance(task_ids, str | bytes):
        message = "task_ids must be a list of ids, not one text: put it in brackets"
        raise InvalidTaskIdError(message)
    return [validate_task_id(task_id) for task_id in task_ids]


def _trouble_with_id(task_id: str) -> str | None:
    if len(task_id) > MAX_ID_CHARACTERS:
        return f"has {len(task_id)} characters, at most {MAX_ID_CHARACTERS} are allowed"
    if task_id.isascii() and task_id.isprintable() and task_id.strip(" .") != "":
        return None
    if not task_id.strip():
        return "is empty or blank"
    if task_id in {".", ".."}:
        return "would change the path of the url"
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in task_id):
        return "holds control characters or lone surrogates"
    return None


def validate_task(task: object) -> None:
    """
    Refuse what is no state of a task.

    Raises:
        TypeError: It is no ``VideoTask``, or its status is a plain text.
    """
    if not isinstance(task, VideoTask):
        message = f"feed() takes a VideoTask, got {type(task).__name__}; see VideoTask.from_dict"
        raise TypeError(message)
    status: object = task.status
    if not isinstance(status, TaskStatus):
        message = f"the status of a VideoTask is a TaskStatus, got {type(status).__name__}"
        raise TypeError(message)


def validate_base_url(base_url: object) -> str:
    """
    Let a usable base url pass, without its trailing slashes.

    Raises:
        ConfigError: It is no ``http(s)`` url with a host, or carries a user, a query or a
            fragment.
    """
    if not isinstance(base_url, str) or not base_url.strip():
        raise _bad_base_url("is empty")
    url = base_url.strip()
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise _bad_base_url("holds characters that no url may hold")
    try:
        parts = urlsplit(url)
        port = parts.port
        _read_host(parts.hostname or "")
    except ValueError:
        raise _bad_base_url("has a host or port that can't be read") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise _bad_base_url("does not begin with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise _bad_base_url("holds a user or password; pass the key as api_key")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise _bad_base_url("holds a query or fragment")
    if {".", ".."} & set(parts.path.split("/")):
        raise _bad_base_url("holds . or .. in its path")
    return url.rstrip("/")


def _read_host(host: str) -> None:
    """
    Read a host as aiohttp and the name look-up will: what they refuse never gets a request.

    Raises:
        ValueError: It is a number but no canonical address, or has a label of 0 or over 63
            characters.
    """
    if host.replace(".", "").isdigit():
        IPv4Address(host)
    (host.rstrip(".") or host).encode("idna")


def _bad_base_url(trouble: str) -> ConfigError:
    return ConfigError(f"base_url {trouble}; give one like https://www.ezmodel.cloud/v1")


def sends_in_clear(base_url: str) -> bool:
    """Tell whether a checked base url would send the key unencrypted over a network."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    is_local = host in {"localhost", "::1"} or host.startswith("127.")
    return parts.scheme == "http" and not is_local


def validate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """
    Let usable headers pass.

    Raises:
        ConfigError: A name or value can't be sent, or is ours to set.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.match(name):
            message = f"headers: {name!a} is no header name"
            raise ConfigError(message)
        if name.lower() in _OUR_HEADERS:
            message = f"headers: {name} is set by the client itself; pass the key as api_key"
            raise ConfigError(message)
        if not isinstance(value, str) or not _HEADER_VALUE.match(value):
            message = f"headers: the value of {name} must be printable ASCII text"
            raise ConfigError(message)
    return dict(headers)


# -- numbers ---


def is_number(value: object) -> TypeGuard[float]:
    """Tell a number from all else; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def describe_value(value: object) -> str:
    """Show a refused value: a number of sane length as it is, of all else only the type."""
    is_short = isinstance(value, float) or (is_number(value) and abs(value) < _LONGEST_SHOWN)
    return repr(value) if is_short else type(value).__name__


def validate_seconds(name: str, value: float, *, low: float, high: float = _LONGEST) -> float:
    """
    Check a number of seconds given by the caller.

    Raises:
        ConfigError: *value* is no number, or not within *low* and *high*.
    """
    if not is_number(value):
        message = f"{name} must be a number of seconds, got {describe_value(value)}"
        raise ConfigError(message)
    if not low <= value <= high:  # neither is NaN
        message = (
            f"{name} must be between {low:g} and {high:g} seconds, got {describe_value(value)}"
        )
        raise ConfigError(message)
    return float(value)


def validate_timeout(name: str, value: float | None) -> float | None:
    """
    Check a time limit given by the caller: seconds above 0, or None for no limit.

    Raises:
        ConfigError: It is neither.
    """
    if value is None:
        return None
    seconds = validate_seconds(name, value, low=0.0)
    if seconds == 0.0:
        message = f"{name} must be more than 0 seconds; None means no limit"
        raise ConfigError(message)
    return seconds
