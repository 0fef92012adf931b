"""How fast a tunnel takes new connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.load import connections_at_once, connections_in_turn
from benchmarks.measures.measure import Measure
from benchmarks.tables import Column

if TYPE_CHECKING:
    from benchmarks.bench import Bench

_WIDTH = 50


class Connections(Measure):
    """Connect, one byte there and back, close."""

    name = "connections"
    title = "New connections a second"
    columns: tuple[Column, ...] = (
        Column("one", "one after the other", ratio=True),
        Column("many", f"{_WIDTH} at once", ratio=True),
        Column("cpu", "tunnel CPU ms each", 2),
    )
    notes: tuple[str, ...] = (
        "A fresh tunnel each round: some slow down with every connection they have had.",
    )

    def take(self, bench: Bench, row: str) -> dict[str, float]:
        """Open as many as the sizes say, in turn, then several at a time."""
        bench.drop(row)
        running, count = bench.running(row), bench.sizes.new_connections
        meter = bench.meter(running.pids)
        one = connections_in_turn(running.port, count)
        many = connections_at_once(running.port, count, _WIDTH)
        figures = {"one": one, "many": many}
        if running.pids:
            figures["cpu"] = meter().tunnel_s / (2 * count) * 1e3
        return figures
