"""Inlets: they listen, stand near the client, and ask an outlet for each connection."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from ockamlite import bare
from ockamlite.errors import AlreadyExistsError, NotFoundError, OckamError
from ockamlite.events import Refused, SessionOpened
from ockamlite.links import HeldFlow, carrier
from ockamlite.paths import Path
from ockamlite.portals.protocol import DISCONNECT, PING, RESET, Kind, State, decode
from ockamlite.portals.session import Session
from ockamlite.portals.sockets import Acceptor, SocketTransport
from ockamlite.portals.surroundings import FlowUse, Surroundings
from ockamlite.routing.endpoint import HostPort, host_port_text
from ockamlite.routing.message import Message
from ockamlite.routing.route import EMPTY_ROUTE, Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.routing.address import Address
    from ockamlite.routing.message import Flow
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

_DOUBT: Final = 0.75
"""After this part of the time for an answer we ask whether anybody is there at all."""
_SETTLED: Final = 0.25
"""After this part of it nothing moves any more that moved by itself."""
_LOOKS: Final = 8
"""How often we look, within that time, who still waits."""
_ECHO: Final = Route.of("echo")
_SIGN: Final = bare.encode_str("alive?")


class Way(Protocol):
    """How an inlet gets to its outlet; kept open by whoever made it."""

    @property
    def text(self) -> str:
        """The route as the user wrote it."""

    @property
    def current(self) -> Route | None:
        """The route to the outlet, or None while there is none."""

    async def wait(self, timeout_s: float) -> Route:
        """Wait for the route.

        Raises:
            OckamError: there is none within the time; says why.
        """


class FixedWay:
    """A route that needs nobody to keep it open."""

    def __init__(self, route: Route) -> None:
        self.current = route
        self.text = str(route)

    async def wait(self, timeout_s: float) -> Route:
        """The route."""
        return self.current


class Inlet:
    """A listening port whose connections continue at an outlet. Made by ``Node.inlet``."""

    def __init__(self, surroundings: Surroundings, way: Way) -> None:
        self.way = way
        self.sessions: set[Session] = set()
        self._host = ""
        self._surroundings = surroundings
        self._router = surroundings.router
        self._limits = surroundings.limits
        self._on_event = surroundings.on_event
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._acceptor = Acceptor(self._accepted)
        self._asking: dict[Session, asyncio.Task[None]] = {}
        self._waiting: dict[InletSession, float] = {}
        """Who waits for an answer, and since when, less the time in which this node did not read answers."""
        self._looked_at = 0.0
        self._look_timer: asyncio.TimerHandle | None = None
        self._late: dict[Address, asyncio.TimerHandle] = {}
        self._uses: dict[Flow | None, FlowUse] = {}

    @property
    def port(self) -> int:
        """The port that is listened at."""
        return self._acceptor.port

    @property
    def endpoint(self) -> str:
        """Where clients connect to; port 0 is replaced by the port that was given."""
        return f"tcp:{HostPort(self._host, self.port)}"

    async def listen(self, bind: HostPort, in_use: Callable[[int], str]) -> None:
        """Bind the port.

        Raises:
            UnavailableError: it cannot be bound.
        """
        await self._acceptor.listen(bind, in_use)
        self._host = bind.host

    async def close(self) -> None:
        """Free the port and end what runs; may be called twice."""
        self._acceptor.close()
        for session in tuple(self.sessions):
            session.end("the inlet is closing")
        if self._look_timer is not None:
            self._look_timer.cancel()
        for address, timer in tuple(self._late.items()):
            timer.cancel()
            self._router.remove(address)
        self._late.clear()

    def _accepted(self) -> Session:
        self._count += 1
        session = InletSession(self._count, self._surroundings, self)
        self.sessions.add(session)
        return session

    def closed(self, session: Session) -> None:
        """A connection has ended."""
        self.sessions.discard(session)
        task = self._asking.pop(session, None)
        if task is not None:
            task.cancel()

    def connected(self, session: InletSession) -> None:
        """A client is there: ask the outlet, now or when there is a way to it."""
        if len(self.sessions) > self._limits.portal_connections:
            self.turn_away(session, f"{self._limits.portal_connections} connections are open already")
            return
        route = self.way.current
        if route is not None:
            self._ask(session, route)
        else:
            self._asking[session] = self._surroundings.spawn(
                self._ask_later(session), "inlet waits for its way"
            )

    async def _ask_later(self, session: InletSession) -> None:
        try:
            route = await self.way.wait(self._limits.portal_connect_s)
        except OckamError as error:
            self._asking.pop(session, None)
            self.turn_away(session, str(error))
            return
        self._asking.pop(session, None)
        self._ask(session, route)

    def _ask(self, session: InletSession, route: Route) -> None:
        flow = self._router.flow_of(route[0])
        session.use = self._use_of(flow)
        try:
            session.attach(flow, EMPTY_ROUTE)
            session.ask(route)
        except (AlreadyExistsError, NotFoundError) as error:
            self.turn_away(session, f"the way to the outlet is gone: {error}")
            return
        now = self._waiting[session] = self._loop.time()
        if self._look_timer is None:
            self._looked_at = now
            self._look_timer = self._loop.call_later(self._limits.portal_connect_s / _LOOKS, self._look)

    def answered(self, session: InletSession) -> None:
        """The session waits no more."""
        self._waiting.pop(session, None)

    def _look(self) -> None:
        """One timer for all that wait: nearly every answer comes before it has to look."""
        self._look_timer = None
        limit, now = self._limits.portal_connect_s, self._loop.time()
        before, self._looked_at = self._looked_at, now
        for session, since in tuple(self._waiting.items()):
            link = carrier(session.flow)
            if isinstance(link, HeldFlow) and link.is_held:
                # Somebody here holds the link: the answer is not late, we do not read it.
                self._waiting[session] += now - max(since, before)
            else:
                session.look(now - since)
        if self._waiting:
            oldest = min(self._waiting.values())
            self._look_timer = self._loop.call_later(
                max(0.0, min(limit / _LOOKS, oldest + limit - now)), self._look
            )

    def turn_away(self, session: InletSession, reason: str, *, answer_may_come: bool = False) -> None:
        """Close a client whose outlet cannot be reached, and say why."""
        logger.warning("inlet %s: client %s turned away: %s", self.endpoint, session.remote, reason)
        self._on_event(Refused(session.peer_text, self.endpoint, reason))
        flow = session.flow
        session.end(reason)
        if not answer_may_come or (flow is not None and flow.closed is not None):
            return
        # The outlet may still be connecting, for as long as we waited; its Pong must not leave a
        # connection behind.
        address = session.address
        self._router.add(address, self._too_late)
        self._router.open(address, (flow,))
        late_s = 2 * self._limits.portal_connect_s
        self._late[address] = self._loop.call_later(late_s, self._forget, address)

    def _forget(self, address: Address) -> None:
        self._late.pop(address, None)
        self._router.remove(address)

    def _too_late(self, message: Message) -> Gate | None:
        try:
            kind, _, _ = decode(message.payload)
        except OckamError:
            return None
        if kind is not Kind.PONG or not message.return_route:
            return None
        # Nobody is here who could take what its target still says.
        answer = Message(message.return_route, Route((message.onward[0],)), RESET)
        self._router.deliver(answer)
        return self._router.deliver(answer._replace(payload=DISCONNECT))

    def _use_of(self, flow: Flow | None) -> FlowUse:
        if flow not in self._uses:
            self._uses = {known: use for known, use in self._uses.items() if known and known.closed is None}
            self._uses[flow] = FlowUse()
        return self._uses[flow]

    def waits_to_send(self, flow: Flow | None) -> bool:
        """True if a connection over ``flow`` waits to send."""
        return any(session.waits_to_send for session in self.sessions if session.flow is flow)

    def announce(self, session: InletSession) -> None:
        """A connection is there."""
        self._on_event(
            SessionOpened(session.number, session.peer_text, self.way.text, client=session.remote)
        )  # fmt: skip


class InletSession(Session):
    """A client's connection."""

    def __init__(self, number: int, surroundings: Surroundings, inlet: Inlet) -> None:
        super().__init__(number, surroundings, inlet.closed)
        self._inlet = inlet
        self._sign: Address | None = None
        """Where a sign of life of the peer is expected; None if we did not ask, or it has come."""
        self._doubted = False
        """We asked for one because no answer came."""
        self._use_before = (0, 0)
        """Of the channel: open connections and bytes moved, when we asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self.remote = host_port_text(name[0], name[1]) if name else "gone"
        self._inlet.connected(self)

    def ask(self, route: Route) -> None:
        """Ask the outlet at the end of ``route`` for a connection.

        Raises:
            NotFoundError: the route is gone.
        """
        self._use_before = (self.use.open, self.use.moved_bytes)
        self._router.deliver(Message(route, self._back, PING))
        if self.use.answers_signs is None:
            self._ask_for_a_sign()

    def pong_received(self, message: Message) -> None:
        """The outlet has connected."""
        self._inlet.answered(self)
        self.opened(message.return_route)
        self._inlet.announce(self)
        if isinstance(self._transport, SocketTransport):
            self._transport.read_now()  # most clients speak first, and have

    def peer_finished(self) -> None:
        """The outlet ended the connection, or could not make it."""
        if self.portal.state is State.WAITING:
            self._inlet.turn_away(self, "the outlet could not reach its target")
        else:
            super().peer_finished()

    def look(self, waited_s: float) -> None:
        """No answer came so far."""
        limit = self._limits.portal_connect_s
        if waited_s >= limit:
            self._no_answer(limit)
            return
        if waited_s < _SETTLED * limit:
            # What was under way when a peer died was still counted; that is no sign of life.
            self._use_before = (self.use.open, self.use.moved_bytes)
        if waited_s >= _DOUBT * limit and not self._doubted:
            self._doubted = True
            self._ask_for_a_sign()

    def _no_answer(self, limit: float) -> None:
        flow = self.flow
        no_sign = self._sign is not None
        self._inlet.turn_away(
            self,
            f"the outlet did not answer within {limit:g} s; it may not be there or not trust us",
            answer_may_come=True,
        )
        # A peer that never answers is only given up if that costs nobody anything; one that did, if
        # nothing moved meanwhile: behind much data on a slow link its answers come late.
        use = self.use
        is_still = self._use_before == (use.open, use.moved_bytes) and not self._inlet.waits_to_send(flow)
        is_silent = no_sign and (not use.open or (is_still and bool(use.answers_signs)))
        for watcher in tuple(flow.watchers) if flow is not None else ():
            if isinstance(watcher, Path):
                watcher.flow_unanswered(is_silent=is_silent)

    def flow_lost_messages(self) -> None:
        """The answer may be among what was lost."""
        if self.portal.state is State.WAITING:
            self._inlet.turn_away(self, "messages were lost on the way", answer_may_come=True)
        else:
            super().flow_lost_messages()

    def flow_closed(self, reason: str) -> None:
        """The channel or link to the outlet is gone."""
        if self.portal.state is State.WAITING:
            self._inlet.turn_away(self, f"the way to the outlet is gone: {reason}")
        else:
            super().flow_closed(reason)

    def _release(self, reason: str) -> None:
        self._inlet.answered(self)
        self._forget_sign()
        super()._release(reason)

    def _ask_for_a_sign(self) -> None:
        """Is it the outlet alone that does not answer, or is its whole node gone?"""
        flow = self.flow
        if flow is None or flow.peer is None or flow.address is None:
            return
        self._forget_sign()
        self.use.answers_signs = self.use.answers_signs or False
        self._sign = self._router.add_random(self._sign_came)
        self._router.open(self._sign, (flow,))
        try:
            self._router.deliver(Message(Route((flow.address, *_ECHO)), Route((self._sign,)), _SIGN))
        except NotFoundError as error:
            logger.debug("session %d: %s", self.number, error)

    def _sign_came(self, message: Message) -> None:
        self.use.answers_signs = True
        self._forget_sign()

    def _forget_sign(self) -> None:
        if self._sign is not None:
            self._router.remove(self._sign)
            self._sign = None
