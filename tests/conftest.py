"""Fixtures of all tests: the virtual clock of async tests, and Hypothesis profiles."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from ezvideo_async.testing import VirtualClockLoop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockbuster import BlockBuster

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=1_000, deadline=None)
settings.register_profile(
    "fuzz", max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("mutants", deadline=None, database=None, phases=[Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_configure(config: pytest.Config) -> None:
    """Measure coverage in the processes that run tests, and not in those that tests start."""
    is_controller = getattr(config.option, "numprocesses", None) and not hasattr(
        config, "workerinput"
    )
    if not is_controller:
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run every async test on asyncio in virtual time, unless it overrides this fixture."""
    return "asyncio", {"loop_factory": virtual_loop}


def virtual_loop() -> VirtualClockLoop:
    """Make a loop in virtual time; with ``EAGER_TASKS`` set, with eager tasks."""
    loop = VirtualClockLoop()
    if os.environ.get("EAGER_TASKS") and sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


@pytest.fixture
def no_blocking_calls() -> Iterator[BlockBuster]:
    """Raise an error when the package makes a blocking call (file, socket, sleep) in the loop."""
    from blockbuster import blockbuster_ctx

    with blockbuster_ctx("ezvideo_async") as guard:
        yield guard
