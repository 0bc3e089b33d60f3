"""From options to a client: the key, the server, the rate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ezvideo_async import AsyncVideoClient, RequestBudget
from ezvideo_async.cli._exits import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

_LONGEST_KEY = 10_000  # characters


def client_of(args: Namespace) -> AsyncVideoClient:
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
