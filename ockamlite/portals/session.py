"""One connection of a portal: an application's socket on one side, a route on the other.

Used by both ends; what differs (who asks, who connects) is in ``inlet`` and ``outlet``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import TYPE_CHECKING

from ockamlite.errors import NotFoundError, RemoteError
from ockamlite.events import SessionClosed
from ockamlite.portals.protocol import DISCONNECT, Kind, MissingDataError, Portal, State, encode_payload_head
from ockamlite.routing.message import Flow, Message, Payload
from ockamlite.routing.route import EMPTY_ROUTE, Route
from ockamlite.wire.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.events import OnEvent
    from ockamlite.limits import Limits
    from ockamlite.routing.router import Router

logger = logging.getLogger(__name__)

_RESET = struct.pack("ii", 1, 0)
_STALL_LOOKS = 4
_REST_S = 30.0
"""How long a connection that one side has ended may go on, moving or not."""


class Session(asyncio.BufferedProtocol):
    """The protocol object of an application's connection."""

    def __init__(
        self,
        number: int,
        router: Router,
        limits: Limits,
        on_event: OnEvent,
        shared: bytearray,
        on_closed: Callable[[Session], None],
    ) -> None:
        self.number = number
        self.portal = Portal()
        self.flow: Flow | None = None
        self.remote = ""
        """The application's address."""
        self._router = router
        self._limits = limits
        self._on_event = on_event
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._shared = memoryview(shared)[: limits.portal_chunk_bytes]
        self._peer_route = EMPTY_ROUTE
        self._transport: asyncio.Transport | None = None
        self._gate = Gate(self._loop)
        self._stalled: asyncio.TimerHandle | None = None
        self._rest_until = 0.0
        self._linger: asyncio.TimerHandle | None = None
        self._reading = False
        self._held = False
        self._reason = ""
        self._announced = False
        self.address = router.add_random(self._from_peer)
        """Where the other end of the portal sends to."""
        self._back = Route((self.address,))

    @property
    def peer(self) -> object:
        """The authenticated peer, or None without a secure channel."""
        return self.flow.peer if self.flow is not None else None

    @property
    def peer_text(self) -> str | None:
        """The peer's identifier as text, or None."""
        return str(self.peer) if self.peer is not None else None

    # -- life -----------------------------------------------------------------------------------

    def attach(self, flow: Flow | None, peer_route: Route) -> None:
        """Bind the session to the flow its peer speaks through; it ends with it.

        Raises:
            AlreadyExistsError: the flow has ended.
        """
        if flow is not None:
            flow.watch(self)
            self._router.open(self.address, (flow,))
        self.flow = flow
        self._peer_route = peer_route

    def send(self, payload: Payload, route: Route | None = None) -> Gate | None:
        """Send a portal message to the other end (or along ``route``)."""
        try:
            return self._router.deliver(Message(route or self._peer_route, self._back, payload))
        except NotFoundError:
            self.end("the route to the peer is gone")
            return None

    def opened(self, peer_route: Route) -> None:
        """Both ends are there: let data flow."""
        self._peer_route = peer_route
        self.portal.opened()
        self._announced = True
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._reading = True
            transport.resume_reading()

    def finish(self, reason: str) -> None:
        """End in good order: what the application is still owed is delivered, then it is closed."""
        self._release(reason)
        if self._transport is not None:
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self._loop.call_later(self._limits.portal_stall_s, self._transport.abort)

    def end(self, reason: str) -> None:
        """End at once, so that the application sees an error and not the end of the data."""
        if self.portal.state is not State.CLOSED and not self.portal.local_done and self._peer_route:
            try:
                self._router.deliver(Message(self._peer_route, self._back, DISCONNECT))
            except NotFoundError:
                logger.debug("session %d: the peer is gone already", self.number)
        self._release(reason)
        transport = self._transport
        if transport is not None:
            sock: socket.socket | None = transport.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                except OSError:
                    logger.debug("session %d: socket is gone already", self.number)
            transport.abort()

    def _release(self, reason: str) -> None:
        """Take the session out of the node, once."""
        if self.portal.state is State.CLOSED:
            return
        self.portal.closed()
        self._reason = reason
        self._router.remove(self.address)
        if self.flow is not None:
            self.flow.watchers.discard(self)
        for timer in (self._stalled, self._linger):
            if timer is not None:
                timer.cancel()
        self._gate.open()
        self._on_closed(self)
        if self._announced:
            self._on_event(
                SessionClosed(
                    self.number,
                    self.peer_text,
                    self.portal.sent_bytes,
                    self.portal.received_bytes,
                    round(self._loop.time() - self._started, 3),
                    reason,
                )
            )

    def flow_lost_messages(self) -> None:
        """Data may be missing: better an error than a gap."""
        self.end("messages were lost on the way")

    def flow_closed(self, reason: str) -> None:
        """The channel or link to the peer is gone."""
        self.portal.local_done = True
        self.end(f"the way to the peer is gone: {reason}")

    # -- the peer's side ------------------------------------------------------------------------

    def _from_peer(self, message: Message) -> Gate | None:
        if message.flow is not self.flow and message.flow is not None:
            logger.info("session %d: message of another peer ignored", self.number)
            return None
        ended_before = self.portal.remote_done
        try:
            kind, data = self.portal.receive(message.payload)
        except MissingDataError as error:
            self.end(f"data is missing: {error}")
            return None
        except RemoteError as error:
            logger.debug("session %d: %s", self.number, error)
            return None
        match kind:
            case Kind.PAYLOAD:
                return self._to_application(data)
            case Kind.DISCONNECT if ended_before:
                # The second one says that the peer's application is gone altogether.
                self.portal.local_done = True
                self.end("closed by the peer")
            case Kind.DISCONNECT:
                self.peer_finished()
            case Kind.PONG:
                self.pong_received(message)
            case Kind.PING:
                logger.debug("session %d: ping ignored", self.number)
        return None

    def pong_received(self, message: Message) -> None:
        """The outlet has connected; only an inlet expects it."""

    def peer_finished(self) -> None:
        """The peer will send no more."""
        if self.portal.local_done:
            self.finish("done")
            return
        transport = self._transport
        if transport is None:
            self.end("closed by the peer")
        elif transport.is_closing():
            self.finish("done")
        else:
            # Its application may still answer what it was asked; a Rust peer does not wait for it.
            transport.write_eof()
            self._await_rest()

    def _await_rest(self) -> None:
        """After one side has ended, the other may go on as long as something moves."""
        if self._linger is not None:
            self._linger.cancel()
        if not self._rest_until:
            self._rest_until = self._loop.time() + _REST_S
        moved = (self.portal.sent_bytes, self.portal.received_bytes)
        self._linger = self._loop.call_later(self._limits.portal_close_grace_s, self._no_rest, moved)

    def _no_rest(self, before: tuple[int, int]) -> None:
        self._linger = None
        waiting = self._transport is not None and self._transport.get_write_buffer_size()
        moves = waiting or (self.portal.sent_bytes, self.portal.received_bytes) != before
        if moves and self._loop.time() < self._rest_until:
            self._await_rest()
        elif self.portal.remote_done:
            if not self.portal.local_done:
                self.portal.local_done = True
                self.send(DISCONNECT)
            self.finish("closed by the peer")
        else:
            self.end("the peer did not close in time")

    def _to_application(self, data: memoryview) -> Gate | None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return None
        # A view of the link's buffer must not outlive this call, one of a decrypted message may.
        transport.write(data if data.readonly else bytes(data))
        return self._gate if self._gate.is_shut else None

    # -- the application's side -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The application's socket is there; it is read once both ends are."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        if self.portal.state is State.CLOSED:
            transport.abort()  # ended while its target was being dialled
            return
        self._transport = transport
        transport.pause_reading()
        high = self._limits.portal_buffer_bytes
        transport.set_write_buffer_limits(high, high // 4)

    def get_buffer(self, sizehint: int) -> memoryview:
        """One chunk; all sessions share the memory, each empties it before the next reads."""
        return self._shared

    def buffer_updated(self, nbytes: int) -> None:
        """Send what the application wrote."""
        self.portal.sent_bytes += nbytes
        gate = self.send(b"".join((encode_payload_head(nbytes), self._shared[:nbytes])))
        if gate is not None:
            self._pause(gate)

    def eof_received(self) -> bool:
        """The application has written everything; what it asked for is still delivered."""
        self._application_done()
        return self.portal.state is not State.CLOSED

    def connection_lost(self, exc: Exception | None) -> None:
        """The application's socket is gone."""
        self._transport = None
        if self.portal.state is State.CLOSED:
            return
        if not self.portal.local_done or not self.portal.remote_done:
            self.portal.local_done = True
            self.send(DISCONNECT)
        self._release("closed by the application" if exc is None else "reset by the application")

    def _application_done(self) -> None:
        if self.portal.state is State.CLOSED:
            return
        if self.portal.state is State.WAITING:
            self.portal.local_done = True
            self.end("closed by the application before the peer answered")
            return
        if not self.portal.local_done:
            self.portal.local_done = True
            self.send(DISCONNECT)
        if self.portal.remote_done:
            self.finish("done")
        else:
            self._await_rest()

    def pause_writing(self) -> None:
        """The application reads less than the peer sends."""
        self._gate.shut()
        self._watch_stall(0, 0)

    def resume_writing(self) -> None:
        """The application took what waited."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        self._gate.open()

    def _watch_stall(self, before: int, looks: int) -> None:
        """An application that takes nothing holds the link for everybody; not for ever."""
        waiting = self._transport.get_write_buffer_size() if self._transport is not None else 0
        looks = looks + 1 if waiting >= before > 0 else 0
        if looks >= _STALL_LOOKS:
            self.end(f"the application took nothing for {self._limits.portal_stall_s:.0f} s")
            return
        self._stalled = self._loop.call_later(
            self._limits.portal_stall_s / _STALL_LOOKS, self._watch_stall, waiting, looks
        )

    def _pause(self, gate: Gate) -> None:
        if self._held or self._transport is None:
            return
        self._held = True
        self._transport.pause_reading()
        gate.when_open(self._go_on)

    def _go_on(self) -> None:
        self._held = False
        if self._transport is not None and not self._transport.is_closing() and not self.portal.local_done:
            self._transport.resume_reading()
