"""The relay's side: registrations, and the addresses that forward."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from ockamlite import bare
from ockamlite.errors import OckamError, ProtocolError, RemoteError
from ockamlite.events import Refused
from ockamlite.relays.protocol import PREFIX, RANDOM_SERVICE, STATIC_SERVICE, decode_registration
from ockamlite.routing.address import Address
from ockamlite.routing.message import Flow, Message
from ockamlite.routing.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.events import OnEvent
    from ockamlite.limits import Limits
    from ockamlite.routing.router import Router
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)


class RelayService:
    """Forwards what is sent to a registered name to whoever registered it. Made by ``Node.relay_service``.

    A registration lives as long as the link or channel it came by. A name registered through a
    channel is taken over only by the same identity; one registered in clear by whoever registers it
    anew. No other address of the node can be taken.
    """

    def __init__(
        self,
        router: Router,
        limits: Limits,
        on_event: OnEvent,
        *,
        may_register: Callable[[object], bool] | None = None,
        prefix: str = PREFIX,
    ) -> None:
        self.addresses = (Address.local(STATIC_SERVICE), Address.local(RANDOM_SERVICE))
        """The services; open them to whoever may register."""
        self._router = router
        self._limits = limits
        self._on_event = on_event
        self._may_register = may_register
        self._prefix = prefix
        self._relays: dict[Address, Relay] = {}
        self._open_to: list[Flow] = []
        for address in self.addresses:
            router.add(address, self._register)

    def open_to(self, *flows: Flow) -> None:
        """Let ``flows`` register, and use the relays."""
        self._open_to.extend(flows)
        for address in (*self.addresses, *self._relays):
            self._router.open(address, flows)

    def close(self) -> None:
        """Forward no more."""
        for relay in tuple(self._relays.values()):
            relay.end("the relay is closing")
        for address in self.addresses:
            self._router.remove(address)

    def _register(self, message: Message) -> Gate | None:
        flow = message.flow
        try:
            if flow is None or flow.address is None or len(message.return_route) < 2:
                # One hop alone would be taken off, and what is forwarded would stay in this node.
                raise ProtocolError("a registration comes over a link or a channel, from an address there")
            if self._may_register is not None and not (
                flow.peer is not None and self._may_register(flow.peer)
            ):
                raise ProtocolError("not among those who may register")
            name = decode_registration(message.payload)
            relay = self._relay(name, flow, message.return_route)
        except RemoteError as error:
            peer = str(flow.peer) if flow is not None and flow.peer is not None else None
            logger.warning("relay registration refused: %s", error)
            self._on_event(Refused(peer, message.onward[0].name, str(error)))
            return None
        answer = bare.encode_str(relay.address.name)
        return self._router.deliver(Message(message.return_route, Route((relay.address,)), answer))

    def _relay(self, name: str | None, flow: Flow, back: Route) -> Relay:
        address = Address.local(self._prefix + (name if name is not None else os.urandom(16).hex()))
        known = self._relays.get(address)
        if known is not None:
            if known.flow.peer is not None and known.flow.peer != flow.peer:
                raise ProtocolError(f"the name {address.name} belongs to {known.flow.peer}")
        elif address in self._router:
            raise ProtocolError(f"{address.name} is the address of something else")
        elif len(self._relays) >= self._limits.relays:
            raise ProtocolError("this relay has as many registrations as it takes")
        if known is None or known.flow is not flow:
            others = self._registrations_of(flow) - (known is not None and known.flow.peer is not None)
            if others >= self._limits.relays_per_peer:
                raise ProtocolError("this peer has as many registrations as it may")
            if known is not None:
                known.end("registered anew")
            known = Relay(self._router, address, flow, self._forget)
            self._relays[address] = known
            self._router.open(address, self._open_to)
            logger.info("relay %s registered by %s", address.name, flow.name)
        known.onward = Route(back[:-1])
        return known

    def _registrations_of(self, flow: Flow) -> int:
        peer = flow.peer
        return sum(
            1 for relay in self._relays.values() if relay.flow is flow or (peer and relay.flow.peer == peer)
        )

    def _forget(self, relay: Relay) -> None:
        self._relays.pop(relay.address, None)


class Relay:
    """One registered name: what comes here goes on along the route of its registration."""

    def __init__(self, router: Router, address: Address, flow: Flow, on_end: Callable[[Relay], None]) -> None:
        self.address = address
        self.flow = flow
        self.onward = Route()
        """The way to whoever registered; the last hop of its return route, its own address, left out."""
        self._router = router
        self._on_end = on_end
        router.add(address, self._forward)
        try:
            flow.watch(self)
        except OckamError:
            router.remove(address)
            raise

    def end(self, reason: str) -> None:
        """Forward no more."""
        self.flow.watchers.discard(self)
        self._router.remove(self.address)
        self._on_end(self)
        logger.info("relay %s ended: %s", self.address.name, reason)

    def flow_lost_messages(self) -> None:
        """A relay promises no order."""

    def flow_closed(self, reason: str) -> None:
        """Whoever registered is gone."""
        self.end(reason)

    def _forward(self, message: Message) -> Gate | None:
        onward, back, payload, flow = message
        if flow is not None:
            self._join(flow)
        elif back and back[0] in self._router:
            self._router.open(back[0], (self.flow,))  # somebody in this node asks
        return self._router.deliver(Message(Route((*self.onward, *onward[1:])), back, payload))

    def _join(self, flow: Flow) -> None:
        """Let the two sides answer each other; the answers do not pass the relay's address.

        Whoever registered may ask itself through us, to see whether it is still registered.
        """
        ours, theirs = self.flow.address, flow.address
        if ours is None or theirs is None or theirs in self.flow.consumers:
            return
        self._router.open(theirs, (self.flow,))
        self._router.open(ours, (flow,))
