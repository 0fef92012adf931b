"""Resident memory of both ends: fresh, after bulk, with many busy connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.load import BusyConnections, blocks_of, bulk_down, bulk_up
from benchmarks.measures.measure import Measure
from benchmarks.processes import rss_mib
from benchmarks.tables import Column

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.tunnels.tunnel import Running

_BUSY = 200


class Memory(Measure):
    """A fresh tunnel each round."""

    name = "memory"
    title = "Resident memory, MiB"
    columns: tuple[Column, ...] = (
        Column("start", "start", ratio=True),
        Column("start_near", "near"),
        Column("start_far", "far"),
        Column("bulk", "after bulk", ratio=True),
        Column("bulk_near", "near"),
        Column("bulk_far", "far"),
        Column("busy", f"{_BUSY} busy connections", ratio=True),
        Column("busy_near", "near"),
        Column("busy_far", "far"),
        Column("rate", "their messages/s"),
    )
    notes: tuple[str, ...] = (
        "Sums of all processes of an end, so pages they share count several times. "
        "Near is the client's end (inlet, ssh), far the service's (outlet, sshd).",
    )

    def rows(self, bench: Bench) -> list[str]:
        """All but the direct way, which has no processes."""
        return [name for name in bench.tunnels if name != "direct"]

    def take(self, bench: Bench, row: str) -> dict[str, float]:
        """Start, transfer, then let connections talk, reading the sizes in between."""
        figures: dict[str, float] = {}
        with bench.tunnels[row].opened(bench.target_port) as running:
            _read(running, "start", figures)
            blocks = blocks_of(min(bench.sizes.bulk_mib, 256))
            bulk_up(running.port, blocks)
            bulk_down(running.port, blocks)
            _read(running, "bulk", figures)
            with BusyConnections(running.port, _BUSY) as busy:
                chatter = busy.run(bench.sizes.seconds)
                _read(running, "busy", figures)
        figures["rate"] = chatter.round_trips / chatter.seconds
        return figures


def _read(running: Running, moment: str, figures: dict[str, float]) -> None:
    near, far = rss_mib(running.near.pids), rss_mib(running.far.pids)
    figures |= {moment: near + far, f"{moment}_near": near, f"{moment}_far": far}
