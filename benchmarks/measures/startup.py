"""How long a person waits: for help, for an inlet, for the first byte through it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import round_trips
from benchmarks.measures.measure import Measure
from benchmarks.tables import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench import Bench

_INTERPRETER = "python -c pass"
_TIMES = 3


class Startup(Measure):
    """Times of fresh processes; files are in the page cache after the first round."""

    name = "startup"
    title = "Start-up, ms"
    columns: tuple[Column, ...] = (
        Column("help", "help or version"),
        Column("ready", "near end ready"),
        Column("first", "first byte through it"),
    )
    notes: tuple[str, ...] = (
        "Near end ready: from the start of its process until it says so. `ssh` has logged in by then, "
        "an inlet of ockamlite has bound its port.",
        "First byte: one there and back on a new connection, counted from the same start.",
    )

    def rows(self, bench: Bench) -> list[str]:
        """The interpreter alone, and all tunnels but the direct way."""
        return [_INTERPRETER, *(name for name in bench.tunnels if name != "direct")]

    def take(self, bench: Bench, row: str) -> dict[str, float]:
        """Start the help a few times, then a near end beside a far end that is already up."""
        if row == _INTERPRETER:
            return {"help": _fastest([sys.executable, "-c", "pass"])}
        tunnel = bench.tunnels[row]
        command = tunnel.help_command()
        figures = {"help": _fastest(command)} if command else {}
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            far = tunnel.open_far(stack, folder, bench.target_port)
            start = time.perf_counter()
            near = tunnel.open_near(stack, folder, far)
            round_trips(near.port, count=1, seconds=10.0)
            first = time.perf_counter() - start
        return figures | {"ready": near.ready_s * 1e3, "first": first * 1e3}


def _fastest(command: Sequence[str]) -> float:
    took = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=20)
        took.append(time.perf_counter() - start)
    return min(took) * 1e3
