"""One connection of a portal: an application's socket on one side, a route on the other.

Used by both ends; what differs (who asks, who connects) is in ``inlet`` and ``outlet``.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import socket
import struct
import termios
from typing import TYPE_CHECKING, cast

from ockamlite.errors import NotFoundError, RemoteError
from ockamlite.events import SessionClosed
from ockamlite.links import HeldFlow, carrier
from ockamlite.portals.protocol import (
    DISCONNECT,
    HEAD_BYTES,
    RESET,
    Kind,
    MissingDataError,
    Portal,
    ResetError,
    State,
    encode_payload_head,
)
from ockamlite.portals.stalls import StallWatch
from ockamlite.portals.surroundings import FlowUse, Surroundings
from ockamlite.routing.message import Flow, Message, Payload
from ockamlite.routing.route import EMPTY_ROUTE, Route
from ockamlite.wire.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


logger = logging.getLogger(__name__)

_RESET = struct.pack("ii", 1, 0)
_QUICK_S = 0.004
"""Chunks that follow one another within this time go where 100 Mbit/s and more do."""
_REST_S = 30.0
"""How long we go on sending to a peer that ended its side, if it may be one that listens no more."""
_DELIVERED_LOOK_S = 0.2
_FIRST_BYTES = 4096
"""Read at a time until it is known how quickly that goes out."""
_LEAST_BYTES = 1024
_MESSAGE_S = 1.0
"""How long one message may keep a slow way busy: the channel's signs of life wait behind it."""
_OUR_ADDRESS_BYTES = 12
"""Length of the address of a session of ours; Rust's have 32. Ours go on listening after their end."""


class Session(asyncio.BufferedProtocol):
    """The protocol object of an application's connection."""

    def __init__(self, number: int, surroundings: Surroundings, on_closed: Callable[[Session], None]) -> None:
        self.number = number
        self.portal = Portal()
        self.flow: Flow | None = None
        self.use = FlowUse()
        self.remote = ""
        """The application's address."""
        router = self._router = surroundings.router
        limits = self._limits = surroundings.limits
        self._on_event = surroundings.on_event
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._shared = surroundings.shared
        first = min(_FIRST_BYTES, limits.portal_chunk_bytes)
        self._chunk = memoryview(self._shared)[HEAD_BYTES : HEAD_BYTES + first]
        self._filled_at = -math.inf
        """When the application last filled a chunk."""
        self._waited = False
        """It had to wait for the way since then."""
        self._peer_route = EMPTY_ROUTE
        self._transport: asyncio.Transport | None = None
        self._gate = Gate(self._loop)
        self._stall: StallWatch | None = None
        self._rest_until = 0.0
        self._linger: asyncio.TimerHandle | None = None
        self._held = False
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

    @property
    def waits_to_send(self) -> bool:
        """True while what the application writes has to wait for the way to the peer."""
        return self._held

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
        self.use.open += 1
        self.portal.opened()
        self._announced = True
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()

    def finish(self, reason: str) -> None:
        """End in good order: what the application is still owed is delivered, then it is closed."""
        self._release(reason)
        if self._transport is not None:
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self._stall = StallWatch(self, self._limits.portal_stall_s)

    def _close_once_delivered(self) -> None:
        """Close. Where the application still writes this is a reset, which overtakes what is under way."""
        if self._transport is None:
            return
        if self._unread_bytes():
            self._linger = self._loop.call_later(_DELIVERED_LOOK_S, self._close_once_delivered)
        else:
            self._transport.close()

    def _write_eof(self, transport: asyncio.Transport) -> bool:
        """Tell the application that no more comes; False if it is gone."""
        try:
            transport.write_eof()
        except OSError:
            self.end("reset by the application")
            return False
        return True

    def end(self, reason: str, *, tell: bool = True) -> None:
        """End at once, so that the application sees an error and not the end of the data."""
        if tell:
            self._tell_end()
        self._release(reason)
        self._reset()

    def _tell_end(self) -> None:
        """Tell the peer that nothing more comes, and nothing more is taken."""
        if self.portal.state is State.CLOSED or not self._peer_route:
            return
        try:
            if self.portal.state is State.OPEN:
                self._router.deliver(Message(self._peer_route, self._back, RESET))
            self._router.deliver(Message(self._peer_route, self._back, DISCONNECT))
        except NotFoundError:
            logger.debug("session %d: the peer is gone already", self.number)

    def _reset(self) -> None:
        """Close the application's socket with an error."""
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
        self.use.open -= self.portal.state is State.OPEN
        self.portal.closed()
        self._router.remove(self.address)
        if self.flow is not None:
            self.flow.watchers.discard(self)
        for timer in (self._stall, self._linger):
            if timer is not None:
                timer.cancel()
        self._stall = self._linger = None
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
        """The channel or link to the peer is gone; an application whose data is all here still gets it."""
        transport = self._transport
        if self.portal.remote_done and transport is not None and self.portal.state is State.OPEN:
            self._release("done" if self.portal.local_done else "closed by the peer")
            transport.pause_reading()
            if self._write_eof(transport):
                self._stall = StallWatch(self, self._limits.portal_stall_s)
                self._close_once_delivered()
            return
        self.end(f"the way to the peer is gone: {reason}", tell=False)

    # -- the peer's side ------------------------------------------------------------------------

    def _from_peer(self, message: Message) -> Gate | None:
        if message.flow is not self.flow and message.flow is not None:
            logger.debug("session %d: message of another peer ignored", self.number)
            return None
        try:
            kind, data = self.portal.receive(message.payload)
        except ResetError as error:
            self.end(str(error), tell=False)
            return None
        except MissingDataError as error:
            self.end(f"data is missing: {error}")
            return None
        except RemoteError as error:
            logger.debug("session %d: %s", self.number, error)
            return None
        if kind is Kind.PAYLOAD:
            self.use.moved_bytes += len(data)
            return self._to_application(data)
        if kind is Kind.DISCONNECT:
            self.peer_finished()
        elif kind is Kind.PONG:
            self.pong_received(message)
        else:
            logger.debug("session %d: ping ignored", self.number)
        return None

    def pong_received(self, message: Message) -> None:
        """The outlet has connected; only an inlet expects it."""

    def peer_finished(self) -> None:
        """The peer will send no more."""
        if self.portal.state is State.CLOSED:
            return
        transport = self._transport
        if transport is None:
            self.end("closed by the peer", tell=False)
        elif self.portal.local_done or transport.is_closing():
            self.finish("done")
        else:
            # Its application may still answer what it was asked; a Rust peer does not wait for it.
            if self._write_eof(transport):
                self._await_rest()

    def _await_rest(self) -> None:
        """After one side has ended, the other may go on, as long as somebody may be there to hear it."""
        ours = len(self._peer_route[-1].body) == _OUR_ADDRESS_BYTES if self._peer_route else True
        now = self._loop.time()
        self._rest_until = now + _REST_S if self.portal.remote_done and not ours else math.inf
        self._look_later(ours, now, (self.portal.sent_bytes, self.portal.received_bytes, 0))

    def _look_later(self, ours: bool, moved_at: float, state: tuple[int, int, int]) -> None:
        pause_s = min(self._limits.portal_close_grace_s, self._patience_s(ours=ours)) / 2
        self._linger = self._loop.call_later(pause_s, self._look_at_rest, ours, moved_at, state)

    def _patience_s(self, *, ours: bool) -> float:
        return self._limits.portal_half_closed_s if ours else self._limits.portal_close_grace_s

    def _look_at_rest(self, ours: bool, moved_at: float, before: tuple[int, int, int]) -> None:
        now = self._loop.time()
        state = (self.portal.sent_bytes, self.portal.received_bytes, self._unread_bytes())
        if state != before:
            moved_at = now
        patience = self._patience_s(ours=ours)
        if now - moved_at < patience and now < self._rest_until:
            self._look_later(ours, moved_at, state)
        elif ours:
            self.end(f"nothing moved for {patience:.0f} s after one side had ended")
        else:
            # Peers of this kind forget a connection once they have ended their side of it, or we ours.
            if not self.portal.local_done:
                self.portal.local_done = True
                self.send(DISCONNECT)
            self.finish("closed by the peer" if self.portal.remote_done else "closed by the application")

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
        transport = cast("asyncio.Transport", transport)
        if self.portal.state is State.CLOSED:
            transport.abort()  # ended while its target was being dialled
            return
        self._transport = transport
        transport.pause_reading()
        high = self._limits.portal_buffer_bytes
        transport.set_write_buffer_limits(high, high // 4)

    def get_buffer(self, sizehint: int) -> memoryview:
        """One chunk; all sessions share the memory, each empties it before the next reads."""
        return self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        """Send what the application wrote."""
        self.portal.sent_bytes += nbytes
        self.use.moved_bytes += nbytes
        head = encode_payload_head(nbytes)
        start = HEAD_BYTES - len(head)
        self._shared[start:HEAD_BYTES] = head
        # In place, before the data: whoever keeps a payload copies it.
        gate = self.send(memoryview(self._shared)[start : HEAD_BYTES + nbytes])
        if gate is not None:
            self._pause(gate)
        if nbytes == len(self._chunk):
            self._fit_chunk()

    def _fit_chunk(self) -> None:
        """Read more at a time while it goes out quickly, and no more than a slow way takes in a moment."""
        now, limits = self._loop.time(), self._limits
        took, self._filled_at = now - self._filled_at, now
        waited, self._waited = self._waited, False
        size = len(self._chunk)
        if took < _QUICK_S:
            size = min(2 * size, limits.portal_bulk_chunk_bytes)
        elif not waited or took < _MESSAGE_S / 2:
            size = min(2 * size, limits.portal_chunk_bytes)
        elif took > _MESSAGE_S:
            size = max(_LEAST_BYTES, int(size * _MESSAGE_S / took))
        if size != len(self._chunk):
            self._chunk = memoryview(self._shared)[HEAD_BYTES : HEAD_BYTES + size]

    def eof_received(self) -> bool:
        """The application has written everything; what it asked for is still delivered."""
        self._application_done()
        return self.portal.state is not State.CLOSED

    def connection_lost(self, exc: Exception | None) -> None:
        """The application's socket is gone."""
        self._transport = None
        for timer in (self._stall, self._linger):
            if timer is not None:
                timer.cancel()
        self._tell_end()
        self._release("closed here" if exc is None else "reset by the application")

    def _application_done(self) -> None:
        if self.portal.state is State.CLOSED:
            return
        if self.portal.state is State.WAITING:
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
        if self._stall is None:
            self._stall = StallWatch(self, self._limits.portal_stall_s)
        else:
            self._stall.holds_now()

    def resume_writing(self) -> None:
        """The application took what waited."""
        if self._stall is not None and self.portal.state is not State.CLOSED:
            self._stall.cancel()
            self._stall = None
        self._gate.open()

    @property
    def holds(self) -> bool:
        """True while the application takes less than comes for it, so that the link waits."""
        return self._gate.is_shut

    @property
    def is_owed(self) -> bool:
        """True once the connection has ended; what its application has not taken by then it still gets."""
        return self.portal.state is State.CLOSED

    @property
    def taken_bytes(self) -> int:
        """What the application has taken so far."""
        return self.portal.received_bytes - self._unread_bytes()

    def neighbours(self) -> Iterator[Session]:
        """The connections that share the link."""
        return _sessions(carrier(self.flow))

    def watch_stall(self) -> None:
        """Watch whether the application takes anything, if something waits for it."""
        if self._stall is None and self._unread_bytes():
            self._stall = StallWatch(self, self._limits.portal_stall_s)

    def moves(self) -> None:
        """The application takes what comes."""
        self._stall = None

    def stalled(self, stall_s: float) -> None:
        """The application took nothing for too long."""
        reason = f"the application took nothing for {stall_s:g} s"
        logger.warning("session %d with %s: %s", self.number, self.peer_text or "a plain peer", reason)
        self.end(reason)

    def _unread_bytes(self) -> int:
        """What the application's end has not acknowledged, here and in the kernel.

        The kernel takes from us in lumps of a megabyte: by them alone a slow reader would seem dead.
        """
        transport = self._transport
        if transport is None:
            return 0
        sock = transport.get_extra_info("socket")
        try:
            in_kernel: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        except (OSError, ValueError):
            in_kernel = 0
        return transport.get_write_buffer_size() + in_kernel

    def _pause(self, gate: Gate) -> None:
        if self._held or self._transport is None:
            return
        self._held = self._waited = True
        self._transport.pause_reading()
        gate.when_open(self._go_on)

    def _go_on(self) -> None:
        self._held = False
        transport = self._transport
        if transport is None or transport.is_closing() or self.portal.local_done:
            return
        if self.portal.state is State.OPEN:
            transport.resume_reading()


def _sessions(flow: Flow | None) -> Iterator[Session]:
    """The connections over a link and over the channels on it."""
    for watcher in flow.watchers if flow is not None else ():
        if isinstance(watcher, Session):
            yield watcher
            continue
        inner = getattr(watcher, "flow", None)
        if isinstance(inner, HeldFlow) and inner.under is flow:
            yield from _sessions(inner)
