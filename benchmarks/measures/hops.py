"""What each further hop of a route costs: one channel, end to end, over up to eight links in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.awake import cores_awake
from benchmarks.bench import temporary
from benchmarks.figures import Spread, percentile, straight_line
from benchmarks.load import blocks_of, bulk_up, round_trips
from benchmarks.measures.measure import Measure
from benchmarks.tables import Column
from benchmarks.tunnels.ockamlite import Ockamlite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.bench import Bench

_HOPS = {"1 hop": 1, "2 hops": 2, "4 hops": 4, "8 hops": 8}


class Hops(Measure):
    """A chain of ockamlite nodes that forward; the time for a hop should not depend on how many there are."""

    name = "hops"
    title = "ockamlite over several TCP hops"
    base = "1 hop"
    columns: tuple[Column, ...] = (
        Column("rtt", "idle p50 µs", ratio=True),
        Column("up", "bulk up MiB/s", ratio=True),
        Column("cpu", "all CPU s/GiB", 2, ratio=True),
    )

    def rows(self, bench: Bench) -> list[str]:
        """The lengths of the chain, if ockamlite is measured at all."""
        return list(_HOPS) if "ockamlite" in bench.tunnels else []

    def take(self, bench: Bench, row: str) -> dict[str, float]:
        """Round trips and a bulk transfer over a chain that stays up between rounds."""
        tunnel, sizes = bench.tunnels["ockamlite"], bench.sizes
        assert isinstance(tunnel, Ockamlite)
        opener = temporary(lambda stack, folder: tunnel.chain(stack, folder, bench.target_port, _HOPS[row]))
        running = bench.running(row, opener)
        with cores_awake():
            rtt = percentile(round_trips(running.port, count=sizes.round_trips, seconds=5.0), 0.5)
        meter = bench.meter(running.pids)
        mib = max(sizes.bulk_mib // 4, 32)
        took = bulk_up(running.port, blocks_of(mib))
        return {"rtt": rtt * 1e6, "up": mib / took, "cpu": meter().tunnel_s / (mib / 1024)}

    def remarks(self, results: Mapping[str, Mapping[int, Mapping[str, float]]]) -> list[str]:
        """The cost of one more hop, and how straight the line through the figures is."""
        said = []
        for key, unit, digits in (("rtt", "µs a round trip", 0), ("cpu", "CPU s/GiB", 2)):
            points = [
                (float(_HOPS[row]), Spread.of([figures[key] for figures in rounds.values()]).middle)
                for row, rounds in results.items()
                if rounds
            ]
            if len(points) > 2:
                line = straight_line(points)
                said.append(
                    f"Each further hop adds {line.slope:.{digits}f} {unit} (line, r² {line.fit:.3f})."
                )
        return said

    def finish(self, bench: Bench) -> None:
        """Stop the chains."""
        for row in _HOPS:
            bench.drop(row)
