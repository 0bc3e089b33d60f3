"""Fixtures of all tests: a virtual clock under every async test, and Hypothesis profiles."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings

from ezvideo_async.testing import VirtualClockLoop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockbuster import BlockBuster

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=1_000, deadline=None)
settings.register_profile("mutants", deadline=None, database=None, phases=[Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_configure(config: pytest.Config) -> None:
    """Have coverage count where tests run, shared out or not, and not in what they start."""
    shares_out = getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")
    if not shares_out:
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Every async test runs on asyncio, in virtual time; a test may ask for another loop."""
    return "asyncio", {"loop_factory": virtual_loop}


def virtual_loop() -> VirtualClockLoop:
    """Make a loop in virtual time; with ``EAGER_TASKS`` set, tasks begin when they are made."""
    loop = VirtualClockLoop()
    if os.environ.get("EAGER_TASKS") and sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


@pytest.fixture
def no_blocking_calls() -> Iterator[BlockBuster]:
    """A blocking call (file, socket, sleep) made by the package inside the loop is an error."""
    from blockbuster import blockbuster_ctx

    with blockbuster_ctx("ezvideo_async") as guard:
        yield guard
