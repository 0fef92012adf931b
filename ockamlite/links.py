"""Where links meet the router: what a link sends and receives, as messages."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ockamlite.cbor import bytes_head
from ockamlite.errors import LinkBrokenError, LocalError, OckamError, RemoteError
from ockamlite.events import LinkDown, LinkUp
from ockamlite.routing.codec import RouteMemory, decode_message, encode_message_head
from ockamlite.routing.message import Flow, Message
from ockamlite.routing.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.events import OnEvent
    from ockamlite.limits import Limits
    from ockamlite.routing.address import Address
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.routing.router import Router
    from ockamlite.wire import link as wire
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)


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
        self._on_closed: Callable[[Link], None] | None = None
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when the link has ended."""
        self.error: OckamError | None = None
        """What ended it; None while it lives, and if our side closed it."""
        self.flow = HeldFlow(f"link {link.endpoint} ({link.remote})", parent=parent)
        self.address: Address = router.add_random(self._send, flow=self.flow)
        """Where to send what shall go over the link."""
        self.flow.address = self.address
        self._back = Route((self.address,))
        self._memory = RouteMemory()
        self._dropped = 0

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
        try:
            onward, back, payload = decode_message(frame, self._memory)
            if not onward:
                return None  # a heartbeat
            if len(back) >= self._limits.route_hops:
                self._malformed(f"return route of {len(back)} hops")
                return None
            back = Route((self.address, *back)) if back else self._back
            gate = self._router.deliver(Message(onward, back, payload, self.flow))
            if gate is not None:
                self.flow.held_by = gate
            return gate  # noqa: TRY300  (an else would only move it)
        except LocalError as error:
            # A worker on the way wanted to go on to something that has ended meanwhile.
            logger.debug("message from %s not delivered: %s", self.remote, error)
        except RemoteError as error:
            # The link stays: a node in the middle may have passed on what somebody else made too long.
            self._malformed(error)
        return None

    def _malformed(self, reason: object) -> None:
        self._dropped += 1
        if self._dropped & (self._dropped - 1) == 0:
            # Powers of two: a flood of bad messages must not become a flood of log lines.
            logger.info("message from %s ignored: %s (%d so far)", self.remote, reason, self._dropped)

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
        head = encode_message_head(onward.rest, back) + bytes_head(len(payload))
        return self._link.send(head, payload)


class Listener:
    """An endpoint where a node accepts links; its flow is the parent of theirs."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._inner: wire.LinkListener | None = None
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

    def has_room(self) -> bool:
        """True if one more link is accepted; the oldest on which nothing lives gives way to it."""
        if len(self.links) < self._limits.links_per_listener:
            return True
        unused = next((link for link in self.links if not link.flow.watchers), None)
        if unused is None:
            return False
        unused.abort(LinkBrokenError("unused, and another one needed its place"))
        self.links.pop(unused)
        return True

    def add(self, link: Link) -> None:
        """Count a link that was accepted."""
        self.links[link] = None
        link.closed.add_done_callback(lambda _: self.links.pop(link, None))

    async def close(self) -> None:
        """Accept no more links and close those that are open."""
        if self._inner is not None:
            await self._inner.close()
        for link in tuple(self.links):
            link.close()
        # Links that close slowly reach nothing any more.
        self.flow.close("closed here")
