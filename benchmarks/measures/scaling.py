"""From one busy connection to a thousand: throughput, latency, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import Spread, percentile, straight_line
from benchmarks.load import BusyConnections
from benchmarks.measures.measure import Measure
from benchmarks.processes import rss_mib
from benchmarks.tables import Column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.bench import Bench

_COUNTS = (1, 10, 100, 1000)


class Scaling(Measure):
    """Every connection has one message of 100 bytes on its way at any time."""

    name = "scaling"
    title = "Many busy connections"
    columns: tuple[Column, ...] = (
        Column("rate", "round trips/s"),
        Column("p50", "p50 ms", 2),
        Column("p99", "p99 ms", 2),
        Column("cpu", "tunnel CPU µs each", 1),
        Column("rss", "both ends, MiB"),
    )
    notes: tuple[str, ...] = ("The number of connections rises within a round, from a tunnel that is fresh.",)

    def rows(self, bench: Bench) -> list[str]:
        """Each tunnel with each number of connections."""
        return [f"{name}, {count}" for name in bench.tunnels for count in _COUNTS]

    def take(self, bench: Bench, row: str) -> dict[str, float]:
        """Let so many connections talk for a while."""
        name, _, count = row.rpartition(", ")
        if int(count) == _COUNTS[0]:
            bench.drop(name)
        running = bench.running(name)
        with BusyConnections(running.port, int(count)) as busy:
            meter = bench.meter(running.pids)
            chatter = busy.run(bench.sizes.seconds)
            cost, rss = meter(), rss_mib(running.pids)
        figures = {
            "rate": chatter.round_trips / chatter.seconds,
            "p50": percentile(chatter.latencies_s, 0.5) * 1e3,
            "p99": percentile(chatter.latencies_s, 0.99) * 1e3,
        }
        if running.pids:
            figures |= {"cpu": cost.tunnel_s / chatter.round_trips * 1e6, "rss": rss}
        return figures

    def remarks(self, results: Mapping[str, Mapping[int, Mapping[str, float]]]) -> list[str]:
        """Memory for each further connection of every tunnel."""
        points: dict[str, list[tuple[float, float]]] = {}
        for row, rounds in results.items():
            name, _, count = row.rpartition(", ")
            values = [figures["rss"] for figures in rounds.values() if "rss" in figures]
            if values:
                points.setdefault(name, []).append((float(count), Spread.of(values).middle))
        return [
            f"{name}: {line.slope * 1024:.1f} KiB a further connection (straight line, r² {line.fit:.3f})."
            for name, at in points.items()
            if len(at) > 2
            for line in (straight_line(at),)
        ]
