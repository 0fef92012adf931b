"""Outlets: they stand near a service and dial it, once for each connection asked for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ockamlite.errors import AlreadyExistsError, DecodeError
from ockamlite.events import Refused, SessionOpened
from ockamlite.portals.dial import dial
from ockamlite.portals.protocol import DISCONNECT, PONG, Kind, State, decode
from ockamlite.portals.session import Session
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ockamlite.events import OnEvent
    from ockamlite.limits import Limits
    from ockamlite.routing.address import Address
    from ockamlite.routing.endpoint import HostPort
    from ockamlite.routing.router import AccessControl, Router
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)


class Outlet:
    """A worker that answers Pings: it connects to its target and joins the two.

    Made by ``Node.outlet``. Whoever its address is opened to can reach the target, nothing else.
    """

    def __init__(
        self,
        router: Router,
        limits: Limits,
        on_event: OnEvent,
        spawn: Callable[[Coroutine[object, object, None], str], asyncio.Task[None]],
        shared: bytearray,
        address: Address,
        target: HostPort,
        allowed: AccessControl | None,
    ) -> None:
        self.address = address
        self.target = target
        self.sessions: set[Session] = set()
        self._router = router
        self._limits = limits
        self._on_event = on_event
        self._spawn = spawn
        self._shared = shared
        self._count = 0
        self._dialling: dict[Session, asyncio.Task[None]] = {}
        router.add(address, self._handle, allowed=allowed)

    async def close(self) -> None:
        """Answer no more and end what runs; may be called twice."""
        self._router.remove(self.address)
        for session in tuple(self.sessions):
            session.end("the outlet is closing")

    def _handle(self, message: Message) -> Gate | None:
        try:
            kind, _, _ = decode(message.payload)
        except DecodeError as error:
            logger.info("outlet %s: %s", self.address.name, error)
            return None
        if kind is not Kind.PING:
            logger.debug("outlet %s: %s ignored, only pings come here", self.address.name, kind.name)
            return None
        if len(self.sessions) >= self._limits.portal_connections:
            self._refuse(message, f"{len(self.sessions)} connections are open, no more are allowed")
            back = Route((self.address,))
            return self._router.deliver(Message(message.return_route, back, DISCONNECT))
        self._count += 1
        session = Session(self._count, self._router, self._limits, self._on_event, self._shared, self._closed)
        try:
            session.attach(message.flow, message.return_route)
        except AlreadyExistsError:
            self._router.remove(session.address)
            return None
        self.sessions.add(session)
        self._dialling[session] = self._spawn(
            self._connect(session, message), f"outlet {self.address.name} dials"
        )
        return None

    def _closed(self, session: Session) -> None:
        self.sessions.discard(session)
        task = self._dialling.pop(session, None)
        if task is not None:
            task.cancel()

    async def _connect(self, session: Session, message: Message) -> None:
        try:
            async with asyncio.timeout(self._limits.portal_connect_s):
                failure = await dial(self.target, session)
        except TimeoutError:
            failure = f"no answer within {self._limits.portal_connect_s:g} s"
        except asyncio.CancelledError:
            session.end("the outlet is closing")
            raise
        finally:
            self._dialling.pop(session, None)
        if session.portal.state is State.CLOSED:
            return
        if failure is not None:
            self._refuse(message, f"{self.target}: {failure}")
            session.end(failure)
            return
        session.opened(message.return_route)
        self._on_event(
            SessionOpened(
                session.number,
                session.peer_text,
                str(message.return_route),
                target=f"tcp:{self.target}",
            )
        )
        session.send(PONG)

    def _refuse(self, message: Message, reason: str) -> None:
        """Say why here. An inlet of ours that is told closes its client at once, one of Rust's in time."""
        logger.warning("outlet %s: %s", self.address.name, reason)
        peer = message.flow.peer if message.flow is not None else None
        self._on_event(Refused(str(peer) if peer is not None else None, f"tcp:{self.target}", reason))
