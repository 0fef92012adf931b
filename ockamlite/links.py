"""Where links meet the router: what a link sends and receives, as messages."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

from ockamlite.cbor import bytes_head
from ockamlite.errors import LinkBrokenError, LocalError, OckamError, RemoteError
from ockamlite.events import LinkDown, LinkUp
from ockamlite.routing.codec import RouteMemory, decode_message, encode_message_head
from ockamlite.routing.message import Flow, Message
from ockamlite.routing.route import Route
from ockamlite.routing.tally import Tally
from ockamlite.wire.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.events import OnEvent
    from ockamlite.limits import Limits
    from ockamlite.routing.address import Address
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.routing.router import Router
    from ockamlite.wire import link as wire

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
"""Between two looks for links that are not used, while all are."""
_PLACES_LOOK_S = 5.0
"""The same at a transport with few places, where nobody can ask while all are taken."""
_MESSAGE_BYTES = 256
"""What a waiting message takes besides its payload."""


class HeldFlow(Flow):
    """A flow that knows whether something in this node is why it brings nothing."""

    __slots__ = ("held_by", "under")

    def __init__(
        self, name: str, *, parent: Flow | None = None, peer: object = None, under: Flow | None = None
    ) -> None:
        super().__init__(name, parent=parent, peer=peer)
        self.held_by: Gate | None = None
        """The last gate that its messages ran into."""
        self.under = under
        """For a channel: the flow that carries it."""

    @property
    def is_held(self) -> bool:
        """True while it, or what carries it, waits for a worker or a link of this node."""
        if self.held_by is not None and self.held_by.is_shut:
            return True
        return isinstance(self.under, HeldFlow) and self.under.is_held


def carrier(flow: Flow | None) -> Flow | None:
    """The flow of the link at the bottom of a channel, or of channels in channels."""
    while isinstance(flow, HeldFlow) and flow.under is not None:
        flow = flow.under
    return flow


class Link:
    """One open link of a node: a local address whose messages go to the node at the other end.

    Its flow reaches nothing until workers are opened to it (or to the listener that accepted it).
    """

    def __init__(
        self, router: Router, link: wire.Link, limits: Limits, on_event: OnEvent, parent: Flow | None = None
    ) -> None:
        self._router = router
        self._link = link
        self._limits = limits
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._on_closed: Callable[[Link], None] | None = None
        self.closed: asyncio.Future[str] = self._loop.create_future()
        """Done, with the reason, when the link has ended."""
        self.error: OckamError | None = None
        """What ended it; None while it lives, and if our side closed it."""
        self.flow = HeldFlow(f"link {link.endpoint} ({link.remote})", parent=parent)
        self.address: Address = router.add_random(self._send, flow=self.flow)
        """Where to send what shall go over the link."""
        self.flow.address = self.address
        self._back = Route((self.address,))
        self._memory = RouteMemory()
        self.heard = False
        """Something came since the listener looked."""
        # Who has never said anything is not waited for as long.
        self.silent_since = self._loop.time() - max(0.0, limits.link_unused_s - limits.link_hello_s)
        """Since when nothing has come, as far as the listener knows."""
        self._dropped = Tally()
        self._gate: Gate | None = None
        """Our own, once it was shut."""
        self._excess_bytes = 0
        """What links brought for the peer since the link is full."""
        self._overflowed = Tally()

    @property
    def endpoint(self) -> str:
        """Our endpoint, as dialled or listened on."""
        return self._link.endpoint

    @property
    def remote(self) -> str:
        """The other end's address as this end sees it."""
        return self._link.remote

    @property
    def route(self) -> Route:
        """The route to the node at the other end: this link."""
        return self._back

    def start(self, on_closed: Callable[[Link], None]) -> None:
        """Begin to read; ``on_closed`` is called once at the end."""
        self._on_closed = on_closed
        self._on_event(LinkUp(self.endpoint, self.remote))
        self._link.start(self)

    def close(self) -> None:
        """Close the link; may be called twice."""
        self._link.close()

    def abort(self, error: OckamError) -> None:
        """Close at once because of ``error``."""
        self._link.abort(error)

    def frame_received(self, frame: memoryview) -> Gate | None:
        """Route what came (see :class:`ockamlite.wire.link.LinkReceiver`)."""
        router = self._router
        self.heard = True
        try:
            onward, back, payload = decode_message(frame, self._memory)
            if not onward:
                return None  # a heartbeat
            if len(back) >= self._limits.route_hops:
                self._malformed(f"return route of {len(back)} hops")
                return None
            back = Route((self.address, *back)) if back else self._back
            router.reading = True
            gate = router.deliver(Message(onward, back, payload, self.flow))
            return None if gate is None else self._hold(gate)
        except LocalError as error:
            # A worker on the way wanted to go on to something that has ended meanwhile.
            logger.debug("message from %s not delivered: %s", self.remote, error)
        except RemoteError as error:
            # The link stays: a node in the middle may have passed on what somebody else made too long.
            self._malformed(error)
        finally:
            router.reading = False
        return None

    def _hold(self, gate: Gate) -> Gate | None:
        """What to wait for before the next frame: a worker or an application, but no link for long.

        Two nodes that wait for each other's reading would wait for ever, and a peer that does not read
        would keep everybody else from being heard.
        """
        full = gate.owner
        if isinstance(full, Link):
            if full is self and not self._has_excess():
                return None
            alone = full is not self and self._ways(self.flow) <= 1
            patience_s = self._limits.link_hold_alone_s if alone else self._limits.link_hold_s
            left_s = gate.shut_since + patience_s - self._loop.time()
            if left_s <= 0:
                return None
            held, gate = gate, Gate(self._loop)
            gate.shut()
            timer = self._loop.call_later(left_s, gate.open)
            held.when_open(_Release(gate, timer))
        self.flow.held_by = gate
        return gate

    def _ways(self, flow: Flow) -> int:
        """To how many links or channels what comes by ``flow`` and its channels may go on."""
        ways = sum(1 for address in flow.consumers if self._router.flow_of(address) is not None)
        for watcher in flow.watchers:
            inner = getattr(watcher, "flow", None)
            if isinstance(inner, HeldFlow) and inner.under is flow:
                ways += self._ways(inner)
        return ways

    def _malformed(self, reason: object) -> None:
        if self._dropped.add():
            logger.info("message from %s ignored: %s (%d so far)", self.remote, reason, self._dropped.count)

    def messages_lost(self) -> None:
        """What needs all messages of the link, and has nothing to tell it that some are missing, ends."""
        self.flow.lost_messages()

    def link_closed(self, error: OckamError | None) -> None:
        """Take the link out of the node."""
        reason = str(error) if error is not None else "closed here"
        self.error = error
        self._router.remove(self.address)
        self.flow.close(reason)
        self._on_event(LinkDown(self.endpoint, self.remote, reason))
        logger.info("link %s (%s) down: %s", self.endpoint, self.remote, reason)
        if not self.closed.done():
            self.closed.set_result(reason)
        if self._on_closed is not None:
            self._on_closed(self)

    def _send(self, message: Message) -> Gate | None:
        onward, back, payload, _ = message
        gate = self._gate
        if gate is not None and gate.is_shut and self._router.reading and self._overflows(gate, len(payload)):
            return None
        head = encode_message_head(onward.rest, back) + bytes_head(len(payload))
        gate = self._link.send(head, payload)
        if gate is not None:
            gate.owner = self
            self._gate = gate
        return gate

    def _overflows(self, gate: Gate, size: int) -> bool:
        """True if what a link brought for this full one is to be dropped, as its sender cannot wait."""
        if not self._has_excess() or self._loop.time() - gate.shut_since < self._limits.link_hold_s:
            if not self._excess_bytes:
                gate.when_open(self._caught_up)
            self._excess_bytes += size + _MESSAGE_BYTES
            self._router.excess_bytes += size + _MESSAGE_BYTES
            return False
        if self._overflowed.add():
            logger.info(
                "%s takes too little: %d messages for it dropped", self.remote, self._overflowed.count
            )
        return True

    def _has_excess(self) -> bool:
        return (
            self._excess_bytes > self._limits.link_excess_bytes
            or self._router.excess_bytes > self._limits.node_excess_bytes
        )

    def _caught_up(self) -> None:
        self._router.excess_bytes -= self._excess_bytes
        self._excess_bytes = 0


def _host(link: Link) -> str:
    return link.remote.rpartition(":")[0]


class _Release:
    """Opens a link's gate once another is open, and spares the timer that would have."""

    __slots__ = ("_gate", "_timer")

    def __init__(self, gate: Gate, timer: asyncio.TimerHandle) -> None:
        self._gate = gate
        self._timer = timer

    def __call__(self) -> None:
        self._timer.cancel()
        self._gate.open()


class Listener:
    """An endpoint where a node accepts links; its flow is the parent of theirs."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._look_again = 0.0
        self._inner: wire.LinkListener | None = None
        self._looking: asyncio.TimerHandle | None = None
        self.links: dict[Link, None] = {}
        """The links it accepted, oldest first."""
        self.flow = Flow("listener")

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens; port 0 is replaced by the port that was given."""
        assert self._inner is not None  # noqa: S101  (handed out only once bound)
        return self._inner.endpoint

    def bound(self, inner: wire.LinkListener) -> None:
        """Take over the transport's listener."""
        self._inner = inner
        self.flow.name = f"listener {inner.endpoint}"
        self._look_soon()

    def has_room(self) -> bool:
        """True if one more link is accepted; one that is not used may give way to it.

        Of the host that has most, the one that was silent for longest. Links with traffic stay: they
        may be on the way to somebody else, and whoever came later has no better right.
        """
        if len(self.links) < self._limits.links_per_listener:
            return True
        now = self._loop.time()
        if now < self._look_again:
            return False
        self._look_again = now + _LOOK_S
        if not self._drop_unused("unused, and another one needed its place"):
            return False
        self._look_again = now
        return True

    def _drop_unused(self, reason: str) -> bool:
        """Close the link that needs its place least; False if all are used."""
        now = self._loop.time()
        for link in self.links:
            if link.heard:
                link.heard, link.silent_since = False, now
        before = now - self._limits.link_unused_s
        unused = [link for link in self.links if link.silent_since <= before and not link.flow.watchers]
        if not unused:
            return False
        of_host = Counter(_host(link) for link in self.links)
        one = min(unused, key=lambda link: (-of_host[_host(link)], link.silent_since))
        self.links.pop(one)
        one.abort(LinkBrokenError(reason))
        return True

    def _look_soon(self) -> None:
        """Where places are few, look again and again whether all are taken: nobody gets through to ask."""
        if self._looking is None and self.links and self._places() is not None:
            self._looking = self._loop.call_later(_PLACES_LOOK_S, self._keep_a_place)

    def _keep_a_place(self) -> None:
        self._looking = None
        places = self._places()
        if places is not None and len(self.links) >= places:
            self._drop_unused("unused, and every place is taken")
        self._look_soon()

    def _places(self) -> int | None:
        places: int | None = getattr(self._inner, "places", None)
        return places

    def add(self, link: Link) -> None:
        """Count a link that was accepted."""
        self.links[link] = None
        link.closed.add_done_callback(lambda _: self.links.pop(link, None))
        self._look_soon()

    async def close(self) -> None:
        """Accept no more links and close those that are open."""
        if self._looking is not None:
            self._looking.cancel()
        if self._inner is not None:
            await self._inner.close()
        for link in tuple(self.links):
            link.close()
        # Links that close slowly reach nothing any more.
        self.flow.close("closed here")
