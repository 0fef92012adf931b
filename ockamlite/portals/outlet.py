"""Outlets: they stand near a service and dial it, once for each connection asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ockamlite.errors import AlreadyExistsError, DecodeError
from ockamlite.events import Refused, SessionOpened
from ockamlite.portals.protocol import DISCONNECT, PONG, Kind, State, decode
from ockamlite.portals.session import Session
from ockamlite.portals.sockets import Dial
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from ockamlite.routing.tally import Tally

if TYPE_CHECKING:
    import asyncio

    from ockamlite.portals.surroundings import Surroundings
    from ockamlite.routing.address import Address
    from ockamlite.routing.endpoint import HostPort
    from ockamlite.routing.router import AccessControl
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)


class Outlet:
    """A worker that answers Pings: it connects to its target and joins the two.

    Made by ``Node.outlet``. Whoever its address is opened to can reach the target, nothing else.
    """

    def __init__(
        self, surroundings: Surroundings, address: Address, target: HostPort, allowed: AccessControl | None
    ) -> None:
        self.address = address
        self.target = target
        self.sessions: set[Session] = set()
        self._surroundings = surroundings
        self._router = surroundings.router
        self._limits = surroundings.limits
        self._on_event = surroundings.on_event
        self._endpoint = f"tcp:{target}"
        self._count = 0
        self._malformed = Tally()
        self._refused = Tally()
        self._dialling: dict[Session, Dial] = {}
        self._router.add(address, self._handle, allowed=allowed)

    async def close(self) -> None:
        """Answer no more and end what runs; may be called twice."""
        self._router.remove(self.address)
        for session in tuple(self.sessions):
            session.end("the outlet is closing")

    def _handle(self, message: Message) -> Gate | None:
        try:
            kind, _, _ = decode(message.payload)
        except DecodeError as error:
            if self._malformed.add():
                text = "outlet %s: message ignored: %s (%d so far)"
                logger.info(text, self.address.name, error, self._malformed.count)
            return None
        if kind is not Kind.PING:
            logger.debug("outlet %s: %s ignored, only pings come here", self.address.name, kind.name)
            return None
        if len(self.sessions) >= self._limits.portal_connections:
            self._refuse(message, f"{len(self.sessions)} connections are open, no more are allowed")
            back = Route((self.address,))
            return self._router.deliver(Message(message.return_route, back, DISCONNECT))
        self._count += 1
        session = OutletSession(self._count, self._surroundings, self, message.return_route)
        try:
            session.attach(message.flow, message.return_route)
        except AlreadyExistsError:
            self._router.remove(session.address)
            return None
        self.sessions.add(session)
        dial = self._dialling[session] = Dial(
            self.target,
            session,
            self._limits.portal_connect_s,
            lambda reason: self._cannot_reach(session, message, reason),
            self._surroundings.spawn,
        )
        dial.start()
        return None

    def closed(self, session: Session) -> None:
        """A connection has ended."""
        self.sessions.discard(session)
        dial = self._dialling.pop(session, None)
        if dial is not None:
            dial.cancel()

    def _cannot_reach(self, session: OutletSession, message: Message, reason: str) -> None:
        self._dialling.pop(session, None)
        self._refuse(message, f"{self.target}: {reason}")
        session.end(reason)

    def connected(self, session: OutletSession) -> None:
        """The target is there: say so, to the operator and to the inlet, and let data flow."""
        self._dialling.pop(session, None)
        session.opened(session.asked_by)
        route = str(session.asked_by)
        self._on_event(SessionOpened(session.number, session.peer_text, route, target=self._endpoint))
        # Open by now: an inlet of this node answers with data at once.
        session.send(PONG)

    def _refuse(self, message: Message, reason: str) -> None:
        """Say why here. An inlet of ours that is told closes its client at once, one of Rust's in time."""
        peer = message.flow.peer if message.flow is not None else None
        if peer is None:
            if not self._refused.add():
                return  # strangers can ask as often as they like
            reason = f"{reason} ({self._refused.count} strangers refused so far)"
        logger.warning("outlet %s: %s", self.address.name, reason)
        self._on_event(Refused(str(peer) if peer is not None else None, self._endpoint, reason))


class OutletSession(Session):
    """A connection to a target."""

    def __init__(self, number: int, surroundings: Surroundings, outlet: Outlet, asked_by: Route) -> None:
        super().__init__(number, surroundings, outlet.closed)
        self.asked_by = asked_by
        """The route to the inlet that asked."""
        self._outlet = outlet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The target answered."""
        super().connection_made(transport)
        if self.portal.state is State.WAITING:
            self._outlet.connected(self)
