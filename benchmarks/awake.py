"""Keeps the processor cores from sleeping while round trips are timed.

A core that sleeps between two bytes adds its own waking time, which differs between machines and hides the
tunnel's. One process a core spins at the kernel's idle priority: it yields at once to anything else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPIN = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000): pass
"""


@contextmanager
def cores_awake() -> Iterator[None]:
    """Spin one process a core while inside."""
    command = [sys.executable, "-S", "-c", _SPIN]
    spinners = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
        for spinner in spinners:
            spinner.wait()
