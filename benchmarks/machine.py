"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def _first_line(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return "not here"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else f"exit {done.returncode}"


def facts(ockamlite: Sequence[str]) -> dict[str, str]:
    """Processor, kernel, interpreter and versions of the tunnels, as text by name."""
    cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace")
    model = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    interpreter = f"{platform.python_implementation()} {platform.python_version()}"
    return {
        "processor": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores used by all",
        "memory": f"{int(memory[1]) / 2**20:.1f} GiB" if memory else "unknown",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{interpreter} ({platform.python_compiler()})",
        "OpenSSH": _first_line(["ssh", "-V"]),
        "ockamlite": _first_line([*ockamlite, "--version"]),
        "load average at the start": " ".join(f"{x:.2f}" for x in os.getloadavg()),
    }


def loopback_bytes() -> int:
    """Bytes received on the loopback interface since boot, headers included."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[0])
    return 0
