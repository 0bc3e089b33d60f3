"""
Faults on a real wire between two network namespaces, and one that takes ten real seconds.

The scenarios are programs; all start with the first test that asks and run side by side.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.resilience.scenario import SCENARIOS
from tests.resilience.wires import IDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
UNSHARE = ("unshare", "--net", "--mount")
PATIENCE = 40.0
"""Real seconds; the longest scenario takes eleven."""


def hindrance() -> str | None:
    """Say why no network namespace can be made here, if so."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    missing = [tool for tool in ("ip", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: iproute2, util-linux)"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return f"no new network namespace: {tried.stderr}" if tried.returncode else None


def started(name: str) -> subprocess.Popen[str]:
    """Start one scenario."""
    program = [sys.executable, "-W", "error", "-m", "tests.resilience.scenario", name]
    return subprocess.Popen(
        program if name == "failover" else [*UNSHARE, *program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def play() -> Iterator[Callable[[str], dict[str, Any]]]:
    """Give what the clients saw in a scenario."""
    hindered = hindrance()
    running = {name: started(name) for name in SCENARIOS if not hindered or name == "failover"}

    def told(name: str) -> dict[str, Any]:
        if name not in running:
            pytest.skip(str(hindered))
        found, errors = running[name].communicate(timeout=PATIENCE)
        assert running[name].returncode == 0, errors
        seen: dict[str, Any] = json.loads(found)
        return seen

    yield told
    for process in running.values():
        with process:
            process.kill()


BOTH = [list(IDS)] * 2
TIMED_OUT = ["RequestTimeoutError timeout"] * 2


@pytest.mark.fault("N3")
def test_a_new_address_is_used_after_ten_seconds(play: Callable[[str], Any]) -> None:
    """A name that was looked up and then moved leads to the new server 10 s later."""
    assert play("failover") == {"first": 2, "second": 2}


@pytest.mark.fault("N6")
def test_a_link_that_was_down_is_outlived(play: Callable[[str], Any]) -> None:
    """Kept connections time out, new ones are refused; the same client goes on when it is up."""
    assert play("link_down") == {
        "kept": TIMED_OUT,
        "fresh": ["TransportError connect"] * 2,
        "ended_early": False,
        "completed": BOTH,
        "sent": [5, 5],
    }


@pytest.mark.fault("N7")
def test_broken_ipv6_costs_less_than_a_second(play: Callable[[str], Any]) -> None:
    """An address of IPv6 that nobody answers at, or no route leads to, is passed by."""
    told = play("broken_ipv6")

    assert told["tried"] == [6, 6]
    assert told["seen"] == 12
    assert all(0.2 < seconds < 1.0 for seconds in told["seconds"]["silent"])
    assert all(seconds < 1.0 for seconds in told["seconds"]["unreachable"])


@pytest.mark.fault("N12")
def test_a_peer_that_vanishes_is_left(play: Callable[[str], Any]) -> None:
    """No FIN, no RST, no answer: the try ends at its limit, its place is free, the next works."""
    told = play("half_open")

    assert told["errors"] == TIMED_OUT
    assert 2.0 <= told["seconds"] < 4.0
    assert told["in_flight"] == [0, 0]
    assert told["completed"] == BOTH


@pytest.mark.fault("N22")
def test_a_slow_wire_is_success_or_a_time_out(play: Callable[[str], Any]) -> None:
    """A thousand bytes a second carry a small answer; a large one ends with the try's limit."""
    told = play("slow_wire")

    assert told["found"] == [True, True]
    assert told["errors"] == TIMED_OUT
    assert 2.0 <= told["seconds"] < 4.0


@pytest.mark.fault("N22")
def test_packets_may_overtake_each_other(play: Callable[[str], Any]) -> None:
    """Large answers in disorder are read right, each asked for once."""
    told = play("reordered")

    assert told["overtaken"] > 100
    assert told["completed"] == BOTH
    assert told["sent"] == told["seen"] == 6
