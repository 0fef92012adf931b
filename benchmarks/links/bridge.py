"""A node in the middle, between Bluetooth LE and a serial line that is full, in a process of its own."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.links.figure import Figure, Run, attempt, figures_table
from benchmarks.links.portal import Service, down, up
from benchmarks.links.serial import limit_bytes_per_s
from benchmarks.processes import cpu_seconds, program
from benchmarks.tunnels.ockamlite import Ockamlite

if TYPE_CHECKING:
    from benchmarks.tables import Table

_CASES = ((115_200, 160_000, 15.0), (921_600, 400_000, None))


def bridge(run: Run) -> Table:
    """Both bauds, both ways."""
    figures: list[Figure] = []
    failures: list[str] = []
    for baud, size, most in _CASES:
        moved = attempt(failures, f"{baud:,} Bd", partial(_run, run, baud, run.size(size)))
        for way, (rate, share) in zip(("up", "down"), moved or (), strict=False):
            what = f"{baud:,} Bd, {way}"
            figures.append(Figure.rate(f"{what}: moved", [rate], limit=limit_bytes_per_s(baud)))
            figures.append(Figure(f"{what}: processor", [share], "% of a core", 1, most=most))
    notes = (
        "Real time, all by the command line: `emulate` holds air and line (a pair of terminals), `node "
        "--forward` is the bridge, an outlet is behind the line, an inlet before the air. Processor time is "
        "that of the bridge alone, from /proc, while a portal through a channel fills the line. A message "
        "has to arrive whole before it goes on, so two links as fast as each other share their time.",
        *failures,
    )
    return figures_table("A node that bridges Bluetooth LE and a serial line", figures, notes)


def _run(run: Run, baud: int, size: int) -> list[tuple[float, float]]:
    return asyncio.run(_measured(run, baud, size))


async def _measured(run: Run, baud: int, size: int) -> list[tuple[float, float]]:
    """Up and down: bytes a second, and the bridge's share of a core in percent."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-bridge-")))
        ends = folder / "here", folder / "there"
        command = [
            *run.ockamlite,
            "emulate",
            "--serial",
            f"{ends[0]}:{ends[1]}",
            "--ble",
            "--baud",
            str(baud),
        ]
        world = stack.enter_context(program([*command, "--output", "json"], folder, "world"))
        air: dict[str, str] = world.ready()["environment"]
        tunnel = Ockamlite(run.ockamlite, environment=air)
        here, there = (f"serial:{end}?baud={baud}" for end in ends)
        async with Service() as service:
            far = tunnel.outlet(stack, folder, service.port, "--listen", there)
            middle = tunnel.forwarding(stack, folder, "ble:bridge", here)
            near = tunnel.inlet(stack, folder, far, "--via", f"ble:bridge,{here}")
            await up(near.port, 1000)
            moved = []
            for move in (up, down):
                began, before = time.perf_counter(), cpu_seconds(middle.pids)
                rate = await move(near.port, size)
                took = time.perf_counter() - began
                moved.append((rate, 100 * (cpu_seconds(middle.pids) - before) / took))
    return moved
