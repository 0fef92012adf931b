"""What ``ockamlite outlet`` does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ockamlite.cli.run.announcing import announced, check_announcement
from ockamlite.cli.run.loop import serve
from ockamlite.cli.run.output import ServingOutput
from ockamlite.cli.run.serving import (
    first_links,
    for_ever,
    forwarded,
    listen_for,
    offered,
    read_listen,
    running_node,
    transports,
)
from ockamlite.cli.run.state import State, open_state
from ockamlite.cli.run.trust import chosen_trust, refusal, relay_trust, warn_of_everyone, warn_of_insecure
from ockamlite.cli.run.ways import (
    OUTLET,
    check_no_name,
    opens_channel,
    read_hops,
    read_portal_endpoint,
    read_relay_name,
    read_service_name,
)
from ockamlite.errors import UsageError
from ockamlite.relays.protocol import PREFIX
from ockamlite.routing.hops import NameHop

if TYPE_CHECKING:
    from ockamlite.cli.options import Common
    from ockamlite.node import Node
    from ockamlite.relays.remote import RemoteRelay
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.routing.hops import Hop
    from ockamlite.secure_channels.trust import Trust
    from ockamlite.wire.link import Transport

_OTHER_RELAYS_S: Final = 2.0
"""With one relay registered, how long the ready line waits for the others."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """The options, checked."""

    target: Endpoint
    listen: list[Endpoint]
    relays: list[tuple[Hop, ...]]
    name: str | None
    trust: Trust | None
    relay_trust: Trust
    insecure: bool
    service: str
    listener: str
    forward: tuple[str, ...]
    announce: str | None


def run(
    common: Common,
    *,
    target: str,
    listen: tuple[str, ...],
    relay: tuple[str, ...],
    name: str | None,
    insecure: bool,
    service: str,
    listener: str,
    forward: tuple[str, ...],
    announce: str | None,
    **_: object,
) -> None:
    """Check the options, then serve until a signal."""
    if not listen and not relay:
        raise UsageError(
            "how to get to this outlet?", hint="--listen ENDPOINT, --relay HOPS --name NAME, or both"
        )
    if not relay:
        check_no_name()
    relays = [read_hops("--relay", text) for text in relay]
    plan = _Plan(
        target=read_portal_endpoint("TARGET", target),
        listen=read_listen(listen),
        relays=relays,
        name=read_relay_name(name) if name is not None else None,
        trust=chosen_trust(),
        relay_trust=relay_trust(is_known=any(map(opens_channel, relays))),
        insecure=insecure,
        service=read_service_name("--service", service),
        listener=read_service_name("--listener", listener),
        forward=forward,
        announce=announce,
    )
    check_announcement(plan.announce, plan.listen)
    state = open_state(common)
    if plan.trust is None and not insecure:
        raise refusal(
            common,
            state,
            "nobody is allowed to reach this outlet",
            "--allow IDENTIFIER (of the other machine), --trust-everyone, or --insecure (no secure channel)",
        )
    carriers = transports([*plan.listen, *first_links(plan.relays), *forwarded(plan.forward)])
    output = ServingOutput(common, "outlet")
    try:
        warn_of_everyone(plan.trust)
        warn_of_insecure("the outlet", insecure)
        serve(_serve(plan, state, carriers, output))
    finally:
        output.close()


async def _serve(plan: _Plan, state: State, carriers: list[Transport], output: ServingOutput) -> None:
    async with running_node(state, carriers, output.event) as node:
        node.forward(*plan.forward)
        offer = offered(
            node,
            lambda: node.outlet(plan.target, name=plan.service).address,
            service=plan.service,
            listener=plan.listener,
            trust=plan.trust,
            insecure=plan.insecure,
        )
        links = await listen_for(node, plan.listen, offer)
        registered = await _register(plan, node, offer)
        at = [str(link.endpoint) for link in links]
        relays = [
            {"at": relay.path.text, "address": relay.address.name}
            for relay in registered
            if relay.address is not None
        ]
        ways = [*(f"{relay['address'].removeprefix(PREFIX)} via {relay['at']}" for relay in relays), *at]
        named = "" if plan.service == OUTLET else f" as {NameHop(plan.service)}"
        async with announced(plan.announce, links) as told:
            output.ready(
                f"{', '.join(ways)} -> {plan.target}{named}",
                identifier=str(state.identity.identifier),
                listening=at,
                relays=relays,
                service=plan.service,
                target=str(plan.target),
                **told,
            )
            await for_ever()


async def _register(plan: _Plan, node: Node, offer: list[str]) -> list[RemoteRelay]:
    """Register at the relays; wait for one, and for the others a moment longer."""
    relays = [
        node.register(node.path(hops, trust=plan.relay_trust), name=plan.name, offer=offer)
        for hops in plan.relays
    ]
    waiting = {asyncio.ensure_future(relay.registered()) for relay in relays}
    try:
        if waiting:
            _, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if rest:
                await asyncio.wait(rest, timeout=_OTHER_RELAYS_S)
    finally:
        for wait in waiting:
            wait.cancel()
    return relays
