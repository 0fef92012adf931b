"""What ``ockamlite node`` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ockamlite.cli.run.announcing import announced, check_announcement
from ockamlite.cli.run.loop import serve
from ockamlite.cli.run.output import ServingOutput
from ockamlite.cli.run.serving import (
    for_ever,
    forwarded,
    listen_for,
    offered,
    read_listen,
    running_node,
    transports,
)
from ockamlite.cli.run.state import State, open_state
from ockamlite.cli.run.trust import chosen_trust, refusal, warn_of_everyone, warn_of_insecure
from ockamlite.cli.run.ways import read_service_name

if TYPE_CHECKING:
    from ockamlite.cli.options import Common
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.secure_channels.trust import Trust
    from ockamlite.wire.link import Transport

_DEFAULT = "tcp:127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class _Plan:
    """The options, checked."""

    listen: list[Endpoint]
    trust: Trust | None
    insecure: bool
    service: str
    listener: str
    forward: tuple[str, ...]
    announce: str | None


def run(
    common: Common,
    *,
    listen: tuple[str, ...],
    insecure: bool,
    service: str,
    listener: str,
    forward: tuple[str, ...],
    announce: str | None,
    **_: object,
) -> None:
    """Check the options, then serve until a signal."""
    plan = _Plan(
        listen=read_listen(listen or (_DEFAULT,)),
        trust=chosen_trust(),
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
            "nobody is allowed to reach this node",
            "--allow IDENTIFIER (of the other machine), --trust-everyone, or --insecure (no secure channel)",
        )
    carriers = transports([*plan.listen, *forwarded(plan.forward)])
    output = ServingOutput(common, "node")
    try:
        warn_of_everyone(plan.trust)
        warn_of_insecure(service, insecure)
        serve(_serve(plan, state, carriers, output))
    finally:
        output.close()


async def _serve(plan: _Plan, state: State, carriers: list[Transport], output: ServingOutput) -> None:
    async with running_node(state, carriers, output.event) as node:
        node.forward(*plan.forward)
        offer = offered(
            node,
            lambda: node.uppercase(plan.service),
            service=plan.service,
            listener=plan.listener,
            trust=plan.trust,
            insecure=plan.insecure,
        )
        links = await listen_for(node, plan.listen, offer)
        at = [str(link.endpoint) for link in links]
        identifier = str(state.identity.identifier)
        async with announced(plan.announce, links) as told:
            output.ready(
                f"{', '.join(at)} as {identifier}",
                identifier=identifier,
                listening=at,
                relays=[],
                service=plan.service,
                **told,
            )
            await for_ever()
