"""Runs a program with the memory and the share of a processor that a board has; a process of its own.

    python -m boards.emulation.supervisor MEMORY_MB SHARE PROGRAM ARGUMENT…

PROGRAM is what ``python`` is given: ``app.py`` or ``-m MODULE``. It gets all of stdout and stderr. The
supervisor ends it when its own stdin is closed, also because whoever started it is gone, and ends with its
exit code, or 128 and the number of the signal that killed it.

Memory is limited by the kernel (RLIMIT_DATA): an allocation beyond it fails. The processor is shared by
stopping the process (SIGSTOP) when it has used up its part of the time, for a few milliseconds each.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import time
from typing import Final

from boards.emulation.cpu_share import CpuShare

_LOOK_S: Final = 0.004
"""How often the process is looked at: it cannot use more than this at a time."""
_REST_S: Final = 0.05
"""The same if its share has no limit."""
_CLOSE_S: Final = 3.0
"""How long the program may take to end once it is told to."""
_MB: Final = 1024 * 1024


def run(memory_mb: int, share: float, program: list[str]) -> int:
    """Run a program to its end, or until stdin is closed; its exit code."""

    def limit() -> None:
        if memory_mb:
            resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * _MB, memory_mb * _MB))

    child = subprocess.Popen(  # noqa: S603  (what our caller gave)
        [sys.executable, "-m", "boards.emulation.board_program", *program],
        stdin=subprocess.DEVNULL,
        preexec_fn=limit,
    )
    code = _watch(child, CpuShare(share))
    return code if code >= 0 else 128 - code


def _watch(child: subprocess.Popen[bytes], cpu: CpuShare) -> int:
    rest_s = _LOOK_S if cpu.share < 1 else _REST_S
    end: float | None = None
    while (code := child.poll()) is None:
        now = time.monotonic()
        pause_s = cpu.pause_s(_cpu_s(child.pid), now)
        if pause_s:
            child.send_signal(signal.SIGSTOP)
        if end is None and _stdin_closes_within(pause_s or rest_s):
            end = now + _CLOSE_S
            child.terminate()
        elif end is not None:
            time.sleep(pause_s or rest_s)
        if pause_s:
            child.send_signal(signal.SIGCONT)
        if end is not None and now >= end:
            child.kill()
    return code


def _stdin_closes_within(seconds: float) -> bool:
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 1024)


def _cpu_s(pid: int) -> float:
    """The processor time of a process of ours, all its threads together."""
    # The clock of a process, as clock_getcpuclockid(3) makes it; a process that is gone keeps its name
    # until it is waited for, so that this cannot fail.
    return time.clock_gettime(~pid << 3 | 2)


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
