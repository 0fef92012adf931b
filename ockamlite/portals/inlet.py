"""Inlets: they listen, stand near the client, and ask an outlet for each connection."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from ockamlite import bare
from ockamlite.errors import AlreadyExistsError, NotFoundError, OckamError
from ockamlite.events import Refused, SessionOpened
from ockamlite.paths import Path
from ockamlite.portals.protocol import DISCONNECT, PING, RESET, Kind, State, decode
from ockamlite.portals.session import Session
from ockamlite.portals.sockets import Acceptor
from ockamlite.routing.endpoint import HostPort
from ockamlite.routing.message import Message
from ockamlite.routing.route import EMPTY_ROUTE, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ockamlite.events import OnEvent
    from ockamlite.limits import Limits
    from ockamlite.routing.address import Address
    from ockamlite.routing.message import Flow
    from ockamlite.routing.router import Router
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

_DOUBT: Final = 0.75
"""After this part of the time for an answer we ask whether anybody is there at all."""
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

    def __init__(
        self,
        router: Router,
        limits: Limits,
        on_event: OnEvent,
        spawn: Callable[[Coroutine[object, object, None], str], asyncio.Task[None]],
        shared: bytearray,
        way: Way,
    ) -> None:
        self.way = way
        self.sessions: set[Session] = set()
        self._host = ""
        self._router = router
        self._limits = limits
        self._on_event = on_event
        self._spawn = spawn
        self._shared = shared
        self._count = 0
        self._acceptor = Acceptor(self._accepted)
        self._asking: dict[Session, asyncio.Task[None]] = {}
        self._late: dict[Address, asyncio.TimerHandle] = {}
        self._signs: dict[Flow, bool] = {}

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
        for address, timer in tuple(self._late.items()):
            timer.cancel()
            self._router.remove(address)
        self._late.clear()

    def _accepted(self) -> Session:
        self._count += 1
        session = InletSession(
            self._count, self._router, self._limits, self._on_event, self._shared, self._closed, self
        )
        self.sessions.add(session)
        return session

    def _closed(self, session: Session) -> None:
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
            self._asking[session] = self._spawn(self._ask_later(session), "inlet waits for its way")

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
        try:
            session.attach(self._router.flow_of(route[0]), EMPTY_ROUTE)
            session.ask(route)
        except (AlreadyExistsError, NotFoundError) as error:
            self.turn_away(session, f"the way to the outlet is gone: {error}")

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
        self._late[address] = asyncio.get_running_loop().call_later(late_s, self._forget, address)

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

    def traffic(self, flow: Flow | None) -> tuple[int, int, bool]:
        """Of the connections over ``flow``: how many are open, bytes moved, and whether one waits to send."""
        found = [s for s in self.sessions if s.flow is flow and s.portal.state is State.OPEN]
        moved = sum(s.portal.sent_bytes + s.portal.received_bytes for s in found)
        return len(found), moved, any(s.waits_to_send for s in found)

    def answers_signs(self, flow: Flow | None) -> bool | None:
        """Whether the peer has ever given a sign of life when asked; None if it was never asked."""
        return self._signs.get(flow) if flow is not None else None

    def note_sign(self, flow: Flow, *, came: bool) -> None:
        """Remember that a sign of life was asked for, or has come."""
        self._signs = {known: sign for known, sign in self._signs.items() if known.closed is None}
        self._signs[flow] = came or self._signs.get(flow, False)

    def announce(self, session: InletSession) -> None:
        """A connection is there."""
        self._on_event(
            SessionOpened(session.number, session.peer_text, self.way.text, client=session.remote)
        )  # fmt: skip


class InletSession(Session):
    """A client's connection."""

    def __init__(
        self,
        number: int,
        router: Router,
        limits: Limits,
        on_event: OnEvent,
        shared: bytearray,
        on_closed: Callable[[Session], None],
        inlet: Inlet,
    ) -> None:
        super().__init__(number, router, limits, on_event, shared, on_closed)
        self._inlet = inlet
        self._patience: asyncio.TimerHandle | None = None
        self._doubt: asyncio.TimerHandle | None = None
        self._sign: Address | None = None
        """Where a sign of life of the peer is expected; None if we did not ask, or it has come."""
        self._traffic = (0, 0, False)
        """Of the others over the same channel, when we asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self.remote = str(HostPort(name[0], name[1])) if name else "gone"
        self._inlet.connected(self)

    def ask(self, route: Route) -> None:
        """Ask the outlet at the end of ``route`` for a connection.

        Raises:
            NotFoundError: the route is gone.
        """
        limit = self._limits.portal_connect_s
        self._patience = self._loop.call_later(limit, self._no_answer, limit)
        self._doubt = self._loop.call_later(_DOUBT * limit, self._ask_for_a_sign)
        self._traffic = self._inlet.traffic(self.flow)
        self._router.deliver(Message(route, self._back, PING))
        if self._inlet.answers_signs(self.flow) is None:
            self._ask_for_a_sign()

    def pong_received(self, message: Message) -> None:
        """The outlet has connected."""
        self._stop_waiting()
        self._inlet.announce(self)
        self.opened(message.return_route)

    def peer_finished(self) -> None:
        """The outlet ended the connection, or could not make it."""
        if self.portal.state is State.WAITING:
            self._inlet.turn_away(self, "the outlet could not reach its target")
        else:
            super().peer_finished()

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
        traffic = self._inlet.traffic(flow)
        count, _, waits_to_send = traffic
        is_still = traffic == self._traffic and not waits_to_send and bool(self._inlet.answers_signs(flow))
        is_silent = no_sign and (not count or is_still)
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
        self._stop_waiting()
        self._forget_sign()
        super()._release(reason)

    def _ask_for_a_sign(self) -> None:
        """Is it the outlet alone that does not answer, or is its whole node gone?"""
        flow = self.flow
        if flow is None or flow.peer is None or flow.address is None:
            return
        self._forget_sign()
        self._inlet.note_sign(flow, came=False)
        self._sign = self._router.add_random(self._sign_came)
        self._router.open(self._sign, (flow,))
        try:
            self._router.deliver(Message(Route((flow.address, *_ECHO)), Route((self._sign,)), _SIGN))
        except NotFoundError as error:
            logger.debug("session %d: %s", self.number, error)

    def _sign_came(self, message: Message) -> None:
        if self.flow is not None:
            self._inlet.note_sign(self.flow, came=True)
        self._forget_sign()

    def _forget_sign(self) -> None:
        if self._sign is not None:
            self._router.remove(self._sign)
            self._sign = None

    def _stop_waiting(self) -> None:
        for timer in (self._patience, self._doubt):
            if timer is not None:
                timer.cancel()
        self._patience = self._doubt = None
