"""The relay's side: registrations, and the addresses that forward."""

from __future__ import annotations

import logging
import os
from collections import Counter
from typing import TYPE_CHECKING, Final

from ockamlite import bare
from ockamlite.errors import OckamError, ProtocolError, RemoteError
from ockamlite.events import Refused
from ockamlite.relays.protocol import PREFIX, RANDOM_SERVICE, STATIC_SERVICE, decode_registration
from ockamlite.routing.address import Address
from ockamlite.routing.message import Flow, Message
from ockamlite.routing.route import Route
from ockamlite.routing.tally import Tallies

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.events import OnEvent
    from ockamlite.limits import Limits
    from ockamlite.routing.router import Router
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

_CLEAN_UP_ABOVE: Final = 64
"""Who has left is forgotten once a registrant has talked to more than this, or to twice as many as stay."""


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
        self._held: Counter[object] = Counter()
        """How many of them each link has, or each identity over all its channels."""
        self._talks: dict[Flow, Conversations] = {}
        self._open_to: list[Flow] = []
        self._refusals = Tallies()
        self._takeovers = Tallies()
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
        for talks in tuple(self._talks.values()):
            talks.end()
        for address in self.addresses:
            self._router.remove(address)

    def _register(self, message: Message) -> Gate | None:
        flow = message.flow
        if flow is not None and flow.closed is not None:
            return None
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
            self._refuse(flow, message.onward[0], error)
            return None
        answer = bare.encode_str(relay.address.name)
        return self._router.deliver(Message(message.return_route, Route((relay.address,)), answer))

    def _refuse(self, flow: Flow | None, at: Address, error: RemoteError) -> None:
        """Say why, as long as that is news."""
        peer = str(flow.peer) if flow is not None and flow.peer is not None else None
        if count := self._refusals.add(peer):
            logger.warning("relay registration refused: %s (%d so far)", error, count)
            self._on_event(Refused(peer, at.name, str(error)))

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
            others = self._held[_holder(flow)] - (known is not None and known.flow.peer is not None)
            if others >= self._limits.relays_per_peer:
                raise ProtocolError("this peer has as many registrations as it may")
            # Two that both want a name take it in turns, for as long as they like.
            is_news = known is None or self._takeovers.add(address)
            if known is not None:
                known.end("registered anew", is_news=bool(is_news))
            known = Relay(self._router, address, flow, self._conversations(flow), self._forget)
            self._relays[address] = known
            self._held[_holder(flow)] += 1
            self._router.open(address, self._open_to)
            if is_news:
                logger.info("relay %s registered by %s", address.name, flow.name)
        known.onward = Route(back[:-1])
        return known

    def _conversations(self, flow: Flow) -> Conversations:
        known = self._talks.get(flow)
        if known is None:
            known = Conversations(self._router, flow, lambda: self._talks.pop(flow, None))
            self._talks[flow] = known
        return known

    def _forget(self, relay: Relay) -> None:
        if self._relays.pop(relay.address, None) is None:
            return
        holder = _holder(relay.flow)
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]


def _holder(flow: Flow) -> object:
    """Whose number of registrations is bounded."""
    return flow if flow.peer is None else flow.peer


class Conversations:
    """Who has come to a registrant, by any of its names, and may go on without the name.

    They last as long as the registrant's link or channel, also if its name is taken over meanwhile:
    that must not cut what is under way.
    """

    def __init__(self, router: Router, flow: Flow, on_end: Callable[[], object]) -> None:
        self._router = router
        self._registrant = flow
        self._others: set[Flow] = set()
        self._clean_up_above = _CLEAN_UP_ABOVE
        self._on_end = on_end
        flow.watch(self)

    def join(self, other: Flow) -> None:
        """Let the two sides answer each other; the answers do not pass the relay's address.

        Whoever registered may ask itself through us, to see whether it is still registered.
        """
        ours, theirs = self._registrant.address, other.address
        if ours is None or theirs is None or other in self._others:
            return
        if len(self._others) > self._clean_up_above:
            self._others = {known for known in self._others if known.closed is None}
            self._clean_up_above = max(_CLEAN_UP_ABOVE, 2 * len(self._others))
        self._others.add(other)
        self._router.open(theirs, (self._registrant,))
        self._router.open(ours, (other,))

    def end(self) -> None:
        """Take the permissions back."""
        self._registrant.watchers.discard(self)
        for other in self._others:
            if self._registrant.address is not None:
                other.consumers.discard(self._registrant.address)
            if other.address is not None:
                self._registrant.consumers.discard(other.address)
        self._others.clear()
        self._on_end()

    def flow_lost_messages(self) -> None:
        """A relay promises no order."""

    def flow_closed(self, reason: str) -> None:
        """Whoever registered is gone."""
        self.end()


class Relay:
    """One registered name: what comes here goes on along the route of its registration."""

    def __init__(
        self,
        router: Router,
        address: Address,
        flow: Flow,
        conversations: Conversations,
        on_end: Callable[[Relay], None],
    ) -> None:
        self.address = address
        self.flow = flow
        self.onward = Route()
        """The way to whoever registered; the last hop of its return route, its own address, left out."""
        self._router = router
        self._on_end = on_end
        self._conversations = conversations
        router.add(address, self._forward)
        try:
            flow.watch(self)
        except OckamError:
            router.remove(address)
            raise

    def end(self, reason: str, *, is_news: bool = True) -> None:
        """Forward no more."""
        self.flow.watchers.discard(self)
        self._router.remove(self.address)
        self._on_end(self)
        if is_news:
            logger.info("relay %s ended: %s", self.address.name, reason)

    def flow_lost_messages(self) -> None:
        """A relay promises no order."""

    def flow_closed(self, reason: str) -> None:
        """Whoever registered is gone."""
        self.end(reason)

    def _forward(self, message: Message) -> Gate | None:
        onward, back, payload, flow = message
        if flow is not None:
            self._conversations.join(flow)
        elif back and back[0] in self._router:
            self._router.open(back[0], (self.flow,))  # somebody in this node asks
        return self._router.deliver(Message(Route((*self.onward, *onward[1:])), back, payload))
