"""
Faults between two network namespaces, and one that takes ten real seconds.

The scenarios are programs; all start with the first test that needs one, and run in parallel.
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
TIMEOUT = 120.0
"""Real seconds; the longest scenario takes eleven on a quiet machine."""
REQUEST_TIMEOUT = 15.0  # seconds, the default of the client


def missing_support() -> str | None:
    """Return why no network namespace can be made here; None if it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: iproute2, util-linux)"
    tried = subprocess.run(
        [*UNSHARE, "true"], capture_output=True, text=True, check=False, timeout=60
    )
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
    """Return a function that gives what the clients saw in a scenario."""
    missing = missing_support()
    running = {name: started(name) for name in SCENARIOS if not missing or name == "failover"}

    def result(name: str) -> dict[str, Any]:
        if name not in running:
            pytest.skip(str(missing))
        found, errors = running[name].communicate(timeout=TIMEOUT)
        assert running[name].returncode == 0, errors
        seen: dict[str, Any] = json.loads(found)
        return seen

    yield result
    for process in running.values():
        with process:
            process.kill()


BOTH = [list(IDS)] * 2
TIMED_OUT = ["RequestTimeoutError timeout"] * 2


@pytest.mark.fault("N3")
def test_a_new_address_of_a_name_is_used_after_ten_seconds(play: Callable[[str], Any]) -> None:
    """A name that gets another address leads to the new server 10 s later."""
    assert play("failover") == {"first": 2, "second": 2}


@pytest.mark.fault("N6")
def test_the_client_recovers_when_a_link_is_up_again(play: Callable[[str], Any]) -> None:
    """Kept connections time out, new ones are refused, and polls succeed when the link is up."""
    assert play("link_down") == {
        "kept": TIMED_OUT,
        "fresh": ["TransportError connect"] * 2,
        "ended_early": False,
        "completed": BOTH,
        "sent": [5, 5],
    }


@pytest.mark.fault("N7")
def test_broken_ipv6_falls_back_to_ipv4(play: Callable[[str], Any]) -> None:
    """An IPv6 address that is silent or has no route is skipped, long before the timeout."""
    result = play("broken_ipv6")

    assert result["tried"] == [6, 6]
    assert result["seen"] == 12
    assert all(0.2 < seconds < REQUEST_TIMEOUT for seconds in result["seconds"]["silent"])
    assert all(seconds < REQUEST_TIMEOUT for seconds in result["seconds"]["unreachable"])


@pytest.mark.fault("N12")
def test_a_request_to_a_vanished_peer_times_out(play: Callable[[str], Any]) -> None:
    """Without FIN or RST the request ends at its timeout, frees its slot, and the next works."""
    result = play("half_open")

    assert result["errors"] == TIMED_OUT
    assert 2.0 <= result["seconds"] < REQUEST_TIMEOUT
    assert result["in_flight"] == [0, 0]
    assert result["completed"] == BOTH


@pytest.mark.fault("N22")
def test_a_slow_network_delays_or_times_out_a_request(play: Callable[[str], Any]) -> None:
    """At 1,000 bytes a second a small response arrives; a large one ends with the timeout."""
    result = play("slow_wire")

    assert result["found"] == [True, True]
    assert result["errors"] == TIMED_OUT
    assert 2.0 <= result["seconds"] < REQUEST_TIMEOUT


@pytest.mark.fault("N22")
def test_reordered_packets_are_read_correctly(play: Callable[[str], Any]) -> None:
    """Large responses in reordered packets need one request each."""
    result = play("reordered")

    assert result["reordered"] > 10
    assert result["completed"] == BOTH
    assert result["sent"] == result["seen"] == 6
