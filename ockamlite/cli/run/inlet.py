"""What ``ockamlite inlet`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ockamlite.cli.run.loop import serve
from ockamlite.cli.run.output import ServingOutput
from ockamlite.cli.run.serving import first_links, for_ever, running_node, transports
from ockamlite.cli.run.state import State, open_state
from ockamlite.cli.run.trust import relay_trust, trust_for_routes, warn_of_everyone
from ockamlite.cli.run.ways import PlannedWay, PreferredWay, planned_ways, read_portal_endpoint

if TYPE_CHECKING:
    from ockamlite.cli.options import Common
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.secure_channels.trust import Trust
    from ockamlite.wire.link import Transport


def run(common: Common, *, bind: str, name: str | None, **_: object) -> None:
    """Check the options, then serve until a signal."""
    where = read_portal_endpoint("BIND", bind, listening=True)
    ways = planned_ways(name)
    middle_trust = relay_trust(is_known=any(way.relay_is_known for way in ways))
    state = open_state(common)
    trust = trust_for_routes(common, state, [way.is_secure for way in ways])
    carriers = transports(first_links(way.hops for way in ways))
    output = ServingOutput(common, "inlet")
    try:
        warn_of_everyone(trust)
        serve(_serve(where, ways, trust, middle_trust, state, carriers, output))
    finally:
        output.close()


async def _serve(
    bind: Endpoint,
    ways: list[PlannedWay],
    trust: Trust | None,
    middle_trust: Trust,
    state: State,
    carriers: list[Transport],
    output: ServingOutput,
) -> None:
    async with running_node(state, carriers, output.event) as node:
        paths = [node.path(way.hops, trust=trust, relay_trust=middle_trust) for way in ways]
        inlet = await node.inlet(bind, PreferredWay(paths, output.event))
        output.ready(
            f"{inlet.endpoint} -> {', '.join(way.shown for way in ways)}",
            identifier=str(state.identity.identifier),
            listening=[inlet.endpoint],
            relays=[
                {"at": way.relay_at, "address": way.relay_address}
                for way in ways
                if way.relay_address is not None
            ],
            service=str(ways[0].hops[-1]),
            routes=[path.text for path in paths],
        )
        await for_ever()
