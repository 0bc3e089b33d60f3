"""Client construction from command-line options: API key, server, rate."""

from __future__ import annotations

import asyncio
import os
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from ezvideo_async import (
    AsyncVideoClient,
    AuthenticationError,
    BadResponseError,
    ConfigError,
    PermissionDeniedError,
    RequestBudget,
    ServerError,
    TransportError,
)
from ezvideo_async.cli.exit_codes import UsageError
from ezvideo_async.cli.output import print_error
from ezvideo_async.instrumentation import PollFailed, PollSucceeded

if TYPE_CHECKING:
    from argparse import Namespace

    from ezvideo_async import EzVideoError
    from ezvideo_async.instrumentation import TelemetryEvent

_MAX_KEY_LENGTH = 10_000  # characters
_REPORT_INTERVAL = 60.0  # seconds
_STILL_TRYING = (
    "still trying; check the base URL, the network, and whether a proxy is needed (--proxy)"
)
_CONTINUES = "polling continues"

REPORTED_ERRORS = (
    TransportError,
    ServerError,
    BadResponseError,
    AuthenticationError,
    PermissionDeniedError,
    ConfigError,
)
"""Those that may be about all tasks; a 429 is logged by the client itself."""


class FailureReporter:
    """
    Observer that prints the first failed request at once, then at most one a minute.

    Without it, a mistyped host name would look like a slow task.  Failures that concern a
    single task are not printed, nor those that end the command, which prints them itself.
    """

    def __init__(self) -> None:
        self._reported_at = -inf
        self._has_response = False
        self._has_task = False

    def __call__(self, event: TelemetryEvent) -> None:
        """Print the error of a failed request unless one was printed less than a minute ago."""
        if isinstance(event, PollSucceeded):
            self._has_response = self._has_task = True
        elif isinstance(event, PollFailed):
            self._has_response = self._has_response or not isinstance(event.error, TransportError)
            # Before the first task, what waiting does not repair ends the command.
            if self._has_task or event.error.retryable:
                self._report(event.error)

    def _report(self, error: EzVideoError) -> None:
        now = asyncio.get_running_loop().time()
        is_due = now - self._reported_at >= _REPORT_INTERVAL
        if is_due and isinstance(error, REPORTED_ERRORS):
            self._reported_at = now
            print_error(f"{error}; {_CONTINUES if self._has_response else _STILL_TRYING}")


def make_client(args: Namespace) -> AsyncVideoClient:
    """
    Make a client from the command-line options; it reports failures to stderr.

    Raises:
        UsageError: There is no API key, or it, the base URL or another option is invalid.
    """
    if args.base_url is not None and not args.base_url.strip():
        raise UsageError("--base-url is empty; give a URL like https://www.ezmodel.cloud/v1")
    try:
        return AsyncVideoClient(
            _api_key(args.api_key_file),
            base_url=args.base_url,
            request_timeout=args.request_timeout,
            budget=RequestBudget(rate=args.rate),
            headers=dict(args.headers),
            proxy=args.proxy,
            allow_insecure=args.allow_insecure,
            observers=[FailureReporter()],
        )
    except ConfigError as error:
        text = str(error).replace("pass allow_insecure=True", "give --allow-insecure")
        raise UsageError(text) from None


def _api_key(file: str | None) -> str:
    if file is not None:
        return _first_line(Path(file))
    key = os.environ.get("EZVIDEO_API_KEY", "").strip()
    if not key:
        raise UsageError("no API key; set EZVIDEO_API_KEY or give --api-key-file FILE")
    return key


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            key = file.readline(_MAX_KEY_LENGTH).strip()
    except OSError as error:
        raise UsageError(f"cannot read the API key file {path}: {error.strerror}") from None
    if not key:
        raise UsageError(f"the first line of {path} is empty; write the API key there")
    return key
