"""Clients with random numbers and a transport of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ezvideo_async import AsyncVideoClient
from ezvideo_async._engine.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable


def make_client(
    *arguments: Any, transport: Any = None, rand: Callable[[], float] = lambda: 0.5, **options: Any
) -> AsyncVideoClient:
    """Make a client; the only place that replaces its transport and its random numbers."""
    client = AsyncVideoClient(*arguments, **options)
    engine = client._engine
    client._engine = Engine(
        base_url=client.base_url,
        route=engine.route,
        credentials=engine.requester._credentials,
        transport=engine._transport if transport is None else transport,
        budget=client.budget,
        observers=options.get("observers", ()),
        rand=rand,
    )
    return client
