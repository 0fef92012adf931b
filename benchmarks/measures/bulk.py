"""Bulk transfers up and down, what they cost, and whether the bytes did take the way they should."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.load import blocks_of, bulk_down, bulk_up
from benchmarks.machine import loopback_bytes
from benchmarks.measures.measure import Measure
from benchmarks.tables import Column

if TYPE_CHECKING:
    from benchmarks.bench import Bench


class Bulk(Measure):
    """One connection, every byte compared at its arrival."""

    name = "bulk"
    title = "Bulk transfer, one connection"
    columns: tuple[Column, ...] = (
        Column("up", "up MiB/s", ratio=True),
        Column("down", "down MiB/s", ratio=True),
        Column("cpu", "tunnel CPU s/GiB", 2, ratio=True),
        Column("load", "load CPU s/GiB", 2),
        Column("crossed", "loopback / payload", 1),
    )
    notes: tuple[str, ...] = (
        "Tunnel CPU: both ends, kernel time and child processes included. Load CPU: generator and service.",
        "loopback / payload: bytes on the loopback interface over bytes sent; 1 without a tunnel, "
        "at least 3 with one (client to near end, near to far end, far end to service). "
        "Other programs add to it.",
    )

    def take(self, bench: Bench, row: str) -> dict[str, float]:
        """Send and receive as much as the sizes say."""
        running, mib = bench.running(row), bench.sizes.bulk_mib
        meter, crossed = bench.meter(running.pids), loopback_bytes()
        up = bulk_up(running.port, blocks_of(mib))
        down = bulk_down(running.port, blocks_of(mib))
        cost, crossed = meter(), loopback_bytes() - crossed
        gib = 2 * mib / 1024
        figures = {
            "up": mib / up,
            "down": mib / down,
            "load": cost.load_s / gib,
            "crossed": crossed / (gib * 2**30),
        }
        if running.pids:
            figures["cpu"] = cost.tunnel_s / gib
        return figures
