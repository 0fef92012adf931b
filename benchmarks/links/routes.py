"""Routes over four mixed hops under virtual time: what a test of that kind costs of real time."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks.links.figure import Figure, Run, figures_table
from benchmarks.links.portal import Service, joined, up
from boards.network import Network

if TYPE_CHECKING:
    from benchmarks.tables import Table
    from boards.network_link import Hop

_ROUTES = ("memory,ble,serial,tcp", "ble,serial,ble,tcp", "serial,tcp,ble,serial")
_BYTES = 12_000


def routes(run: Run) -> Table:
    """Wall clock of each."""
    figures = []
    for kinds in _ROUTES:
        took = []
        for seed in range(run.rounds):
            began = time.perf_counter()
            network = Network(seed=seed)
            network.run(_sent(network, kinds.split(",")))
            took.append(time.perf_counter() - began)
        figures.append(Figure(kinds.replace(",", ", "), took, "s", 2, most=1.0))
    notes = (
        f"Wall clock of a whole run: five nodes, four links, a channel, a portal, {_BYTES:,} bytes that are "
        "compared, the trace, and the end of it all.",
    )
    return figures_table("Four mixed hops in virtual time", figures, notes)


async def _sent(network: Network, kinds: list[str]) -> None:
    nodes = [await network.node(f"node-{number}") for number in range(len(kinds) + 1)]
    hops: list[Hop] = [
        await getattr(network, kind)(*ends) for kind, ends in zip(kinds, pairwise(nodes), strict=True)
    ]
    for node, onward in zip(nodes[1:], hops[1:], strict=False):
        node.forward(onward.endpoint)
    async with Service() as service:
        way = ",".join(hop.endpoint for hop in hops)
        inlet = await joined(nodes[0], nodes[-1], way, hops[-1].listener, service.port)
        await up(inlet.port, _BYTES)
