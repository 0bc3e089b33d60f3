"""
What callers give us, task ids, states, base urls and headers, checked before anything is sent.

No await, no clock, no randomness, no I/O.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ezvideo_async._models import TaskStatus, VideoTask
from ezvideo_async.errors import ConfigError, InvalidTaskIdError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_ID_CHARACTERS = 512
"""Longer ids are somebody's mistake, and slow to quote."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,4000}\Z")
_OUR_HEADERS = frozenset({"authorization", "host", "content-length", "transfer-encoding"})


def checked_task_id(task_id: object) -> str:
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


def checked_task_ids(task_ids: Iterable[str]) -> list[str]:
    """
    Copy usable ids.

    Raises:
        InvalidTaskIdError: One is not usable, or *task_ids* is a single text.
    """
    if isinstance(task_ids, str | bytes):
        message = "task_ids must be a list of ids, not one text: put it in brackets"
        raise InvalidTaskIdError(message)
    return [checked_task_id(task_id) for task_id in task_ids]


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


def check_task(task: object) -> None:
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


def checked_base_url(base_url: object) -> str:
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


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
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
