"""From options to a client: the key, the server, the rate."""

from __future__ import annotations

import asyncio
import os
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from ezvideo_async import (
    AsyncVideoClient,
    BadResponseError,
    RequestBudget,
    ServerError,
    TransportError,
)
from ezvideo_async.cli.clean import clean
from ezvideo_async.cli.exit_codes import UsageError, say
from ezvideo_async.instrumentation import PollFailed

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from ezvideo_async.instrumentation import Observer, TelemetryEvent

_LONGEST_KEY = 10_000  # characters
_SAY_EVERY = 60.0  # seconds
_OF_THE_SERVER = (TransportError, ServerError, BadResponseError)


class FailureStreak:
    """
    An observer that says why no answers come: the first failure, then one a minute.

    A mistyped host must not look like a task that takes long.
    """

    def __init__(self) -> None:
        self._said_at = -inf

    def __call__(self, signal: TelemetryEvent) -> None:
        """Hear of one thing that happened."""
        if not isinstance(signal, PollFailed) or not isinstance(signal.error, _OF_THE_SERVER):
            return
        now = asyncio.get_running_loop().time()
        if now - self._said_at >= _SAY_EVERY:
            self._said_at = now
            say(f"ezvideo: {clean(str(signal.error))}; still trying")


def client_of(args: Namespace, *, observers: Sequence[Observer] = ()) -> AsyncVideoClient:
    """
    Make the client that the options ask for.

    Raises:
        UsageError: There is no key.
        ConfigError: The key, the base url or the rate can't be used.
    """
    if args.base_url is not None and not args.base_url.strip():
        raise UsageError("--base-url is empty; give one like https://www.ezmodel.cloud/v1")
    return AsyncVideoClient(
        _key(args.api_key_file),
        base_url=args.base_url,
        budget=RequestBudget(rate=args.rate),
        observers=observers,
    )


def _key(file: str | None) -> str:
    if file is not None:
        return _first_line(Path(file))
    key = os.environ.get("EZVIDEO_API_KEY", "").strip()
    if not key:
        raise UsageError("there is no API key; set EZVIDEO_API_KEY or give --api-key-file FILE")
    return key


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            key = file.readline(_LONGEST_KEY).strip()
    except OSError as error:
        raise UsageError(f"the key file {path} can't be read: {error.strerror}") from None
    if not key:
        raise UsageError(f"the first line of {path} is empty; write the key there")
    return key
