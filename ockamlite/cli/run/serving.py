"""What commands that serve have in common: their node, their links, their ready line."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Final

from ockamlite.cli.run.frames import shown_frames
from ockamlite.cli.run.ways import read_endpoint
from ockamlite.errors import AlreadyExistsError, UsageError
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from ockamlite.cli.run.state import State
    from ockamlite.events import OnEvent
    from ockamlite.links import Listener
    from ockamlite.routing.address import Address
    from ockamlite.routing.hops import Hop
    from ockamlite.secure_channels.trust import Trust
    from ockamlite.wire.link import Transport


_KNOWN: Final = {
    "ble": "transports.ble:BleTransport",
    "serial": "transports.serial:SerialTransport",
    "tcp": "transports.tcp:TcpTransport",
    "udp": "transports.udp:UdpTransport",
}
"""Transports that come with us: to look through all that is installed takes as long as starting does."""


def transports(endpoints: Iterable[Endpoint]) -> list[Transport]:
    """The transports for these endpoints; only those are imported.

    Raises:
        UsageError: none is installed for one of them.
    """
    return [_transport(kind) for kind in sorted({endpoint.kind for endpoint in endpoints})]


def _transport(kind: str) -> Transport:
    if kind == "ble":
        # Only here: to know boards takes as long as starting does.
        from ockamlite.cli.run.auto import ble_transport

        return ble_transport()
    if kind in _KNOWN:
        module, _, name = _KNOWN[kind].partition(":")
        make: type[Transport] = getattr(import_module(module), name)
        return make(LIMITS)
    from importlib.metadata import entry_points

    known = {entry.name: entry for entry in entry_points(group="ockamlite.transports")}
    if kind not in known:
        listed = ", ".join(sorted({*known, *_KNOWN}))
        raise UsageError(f"no transport for {kind}: is installed; installed are {listed}")
    made: Transport = known[kind].load()(LIMITS)
    return made


def forwarded(allowed: Iterable[str]) -> list[Endpoint]:
    """An endpoint of each kind that ``--forward`` allows and whose transport depends on the board."""
    return [Endpoint("ble", "*")] if any(text.partition(":")[0] == "ble" for text in allowed) else []


def first_links(routes: Iterable[tuple[Hop, ...]]) -> list[Endpoint]:
    """The endpoints that the routes begin with."""
    return [hop.endpoint for hops in routes for hop in hops[:1] if hasattr(hop, "endpoint")]


@asynccontextmanager
async def running_node(
    state: State, carriers: list[Transport], on_event: OnEvent | None = None
) -> AsyncIterator[Node]:
    """A node with our identity and these transports; closes the store when it has ended."""
    try:
        async with Node(
            identity=state.identity, store=state.store, transports=shown_frames(carriers), on_event=on_event
        ) as node:
            yield node
    finally:
        state.store.close()


def read_listen(texts: Sequence[str]) -> list[Endpoint]:
    """The endpoints of ``--listen``.

    Raises:
        UsageError: one is malformed.
        UnavailableError: one is ``serial:auto``, and no port is free.
    """
    return [read_endpoint("--listen", text) for text in texts]


async def listen(node: Node, endpoints: Iterable[Endpoint]) -> list[Listener]:
    """Listen at all of them.

    Raises:
        UnavailableError: one cannot be bound.
    """
    return [await node.listen(endpoint) for endpoint in endpoints]


async def listen_for(node: Node, endpoints: Iterable[Endpoint], offer: Iterable[str]) -> list[Listener]:
    """Listen at all of them, and let what comes there reach the addresses of ``offer``.

    Raises:
        UnavailableError: one cannot be bound.
    """
    listeners = await listen(node, endpoints)
    for listener in listeners:
        for address in offer:
            node.open(address, listener)
    return listeners


def offered(
    node: Node,
    start: Callable[[], Address],
    *,
    service: str,
    listener: str,
    trust: Trust | None,
    insecure: bool,
) -> list[str]:
    """Start a service and, if anybody may open one, the channel listener; what links may reach.

    Raises:
        UsageError: the names are the same, or one is taken.
    """
    offer = []
    try:
        address = start()
        if trust is not None:
            node.open(address, node.secure_channel_listener(listener, trust=trust))
            offer.append(listener)
    except AlreadyExistsError as error:
        raise UsageError(str(error), hint="another name for --service or --listener") from error
    if insecure:
        offer.append(service)
    return offer


async def for_ever() -> None:
    """Serve, until cancelled."""
    await asyncio.get_running_loop().create_future()
