"""
Time limit for a whole command: ``python tests/support/bounded_run.py MINUTES COMMAND...``.

Kills the command and the processes it started, and exits with 124, when it runs for longer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

TIMED_OUT = 124


def run(minutes: float, command: list[str]) -> int:
    """Run a command, for a number of minutes at most; return its exit code."""
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            return process.wait(minutes * 60.0)
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"not finished within {minutes:g} minutes: {' '.join(command)}\n")
            return TIMED_OUT
        finally:  # also when this process is interrupted
            if process.returncode is None:
                kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session, and its children where the system has groups."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TIMED_OUT))
    sys.exit(run(float(sys.argv[1]), sys.argv[2:]))
