"""What ``ockamlite relay`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ockamlite.cli.run.announcing import announced, check_announcement
from ockamlite.cli.run.loop import serve
from ockamlite.cli.run.output import ServingOutput
from ockamlite.cli.run.serving import for_ever, forwarded, listen, read_listen, running_node, transports
from ockamlite.cli.run.state import State, open_state
from ockamlite.cli.run.trust import identifiers
from ockamlite.cli.run.ways import LISTENER
from ockamlite.secure_channels.trust import TrustEveryone

if TYPE_CHECKING:
    from ockamlite.cli.options import Common
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.secure_channels.trust import TrustIdentifiers
    from ockamlite.wire.link import Transport

_DEFAULT = "tcp:127.0.0.1:4000"


def run(
    common: Common,
    *,
    listen: tuple[str, ...],
    allow_register: tuple[str, ...],
    forward: tuple[str, ...],
    announce: str | None,
) -> None:
    """Check the options, then serve until a signal."""
    where = read_listen(listen or (_DEFAULT,))
    check_announcement(announce, where)
    may_register = identifiers("allow_register", allow_register) if allow_register else None
    state = open_state(common)
    carriers = transports([*where, *forwarded(forward)])
    output = ServingOutput(common, "relay")
    try:
        serve(_serve(where, may_register, forward, announce, state, carriers, output))
    finally:
        output.close()


async def _serve(
    where: list[Endpoint],
    may_register: TrustIdentifiers | None,
    forward: tuple[str, ...],
    announce: str | None,
    state: State,
    carriers: list[Transport],
    output: ServingOutput,
) -> None:
    async with running_node(state, carriers, output.event) as node:
        node.forward(*forward)
        # Anyone may open a channel to a relay: what counts is who registers, and that is asked there.
        listener = node.secure_channel_listener(LISTENER, trust=TrustEveryone())
        service = node.relay_service(may_register=may_register)
        service.open_to(listener.flow)
        links = await listen(node, where)
        for link in links:
            node.open(listener.address, link)
            service.open_to(link.flow)
        at = [str(link.endpoint) for link in links]
        async with announced(announce, links) as told:
            output.ready(
                ", ".join(at),
                identifier=str(state.identity.identifier),
                listening=at,
                relays=[],
                service=None,
                **told,
            )
            await for_ever()
