"""One remote address as a link: what waits for it, what it has sent, and when it has ended."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

from ockamlite.errors import DecodeError, LinkBrokenError, LinkClosedError, OckamError, RemoteError
from ockamlite.routing.codec import array_at, decode_message, decode_route_at
from ockamlite.wire.failures import describe
from ockamlite.wire.gate import Gate
from ockamlite.wire.heartbeats import Heartbeat, Kind
from ockamlite.wire.sequence import Sequence

if TYPE_CHECKING:
    from ockamlite.limits import Limits
    from ockamlite.routing.endpoint import HostPort
    from ockamlite.wire.datagram_path import DatagramPath
    from ockamlite.wire.link import LinkReceiver
    from transports.udp_socket import Remote

logger = logging.getLogger(__name__)

_CLOSE_S = 1.0


class Port(Protocol):
    """What a link needs of its socket."""

    @property
    def endpoint(self) -> str:
        """Our endpoint."""

    @property
    def room(self) -> int:
        """What one peer may have under way to us."""

    def send(self, datagram: bytes, remote: Remote | None) -> bool:
        """Send, or lose; False if the socket is full."""

    def when_writable(self, link: UdpLink) -> None:
        """Let ``link`` go on when the socket takes more."""

    def ended(self, link: UdpLink) -> None:
        """Forget a link."""


class UdpLink:
    """A link over datagrams. The gate of its receiver holds what came; the sender's window bounds it."""

    def __init__(
        self, port: Port, path: DatagramPath, address: Remote | None, remote: HostPort, limits: Limits
    ) -> None:
        self.path = path
        self.address = address
        """The remote address on a listening socket; None on a dialled one."""
        self._port = port
        self._remote = str(remote)
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._gate = Gate(self._loop)
        self._receiver: LinkReceiver | None = None
        self._started = False
        self._held = False
        self._inbound: deque[bytes] = deque()
        self._inbound_bytes = 0
        self._ask: tuple[Heartbeat, int] | None = None
        """The last question while the link is held: its answer says that there is room again."""
        self._bye = False
        self._sequence: Sequence[bytes | Heartbeat] = Sequence()
        self._unsent: bytes | None = None
        self._closing = False
        self._ended = False
        self._error: OckamError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closes: asyncio.TimerHandle | None = None
        self._first_answer: asyncio.Future[None] = self._loop.create_future()
        self._refusal: OSError | None = None

    # -- the core's side ------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """Our endpoint, as dialled or listened on."""
        return self._port.endpoint

    @property
    def remote(self) -> str:
        """The other end's address."""
        return self._remote

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to hand on what comes."""
        self._started = True
        if self._ended:
            self._loop.call_soon(receiver.link_closed, self._error or LinkClosedError("closed at once"))
            return
        self._receiver = receiver
        self._loop.call_soon(self._go_on)

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> Gate | None:
        """Send one message, in as many datagrams as it takes."""
        if self._closing:
            return None
        message = b"".join((head, payload))
        if len(message) > self._limits.message_bytes:
            logger.warning("%s: message of %d bytes is too long and not sent", self.endpoint, len(message))
            return None
        if not self.path.is_proven:
            self._disclose(head)
        self.path.send(message)
        self.flush()
        if self.path.queued_bytes > self._limits.link_buffer_bytes:
            self._gate.shut()
        return self._gate if self._gate.is_shut else None

    def close(self) -> None:
        """Send what waits, then close; at the latest after a second."""
        if self._closing:
            return
        self._closing = True
        if self.path.queued_bytes:
            self._closes = self._loop.call_later(_CLOSE_S, self._end, None)
        else:
            self._loop.call_soon(self._end, None)

    def abort(self, error: OckamError) -> None:
        """Close at once."""
        self._end(error)

    # -- the socket's side ----------------------------------------------------------------------

    async def answered(self, timeout_s: float) -> None:
        """Wait a little for the first answer.

        Raises:
            OSError: the other end refuses.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._first_answer
        except TimeoutError:
            pass
        finally:
            if not self._first_answer.done():
                self._first_answer.cancel()
        if self._refusal is not None:
            raise self._refusal

    def refused(self, error: OSError) -> None:
        """The other end's host says that nobody is there."""
        if self._refusal is None:
            self._refusal = error
        if not self._first_answer.done():
            self._first_answer.set_result(None)
        self._end(LinkBrokenError(f"link broken: {describe(error)}"))

    def arrived(self, number: int, item: bytes | tuple[Heartbeat, int]) -> None:
        """Take a message, or a heartbeat and the length of its datagram, in the order of their numbers.

        Raises:
            DecodeError: a message that is none, while that matters.
        """
        waiting: bytes | Heartbeat | None = item if isinstance(item, bytes) else item[0]
        if isinstance(item, tuple) and item[0].kind is not Kind.BYE:
            self._heartbeat(*item)
            waiting = None
        if self.path.speaks_heartbeats:
            lost = self._sequence.lost
            items = self._sequence.arrived(number, waiting, self._loop.time())
            self._tell_lost(lost)
            for released in items:
                self._taken(released)
        elif waiting is not None:
            # Other nodes of Ockam number the messages to all their peers in one row: gaps mean nothing.
            self._sequence.passed(number)
            self._taken(waiting)

    def _tell_lost(self, before: int) -> None:
        """Tell the receiver if more is missing than before, ahead of what comes behind the gap."""
        if self._sequence.lost != before and self._receiver is not None:
            self._receiver.messages_lost()

    def _taken(self, item: bytes | Heartbeat) -> None:
        if isinstance(item, bytes):
            self._take(item)
        else:
            self._heartbeat(item, 0)

    def _heartbeat(self, heartbeat: Heartbeat, size: int) -> None:
        now = self._loop.time()
        match heartbeat.kind:
            case Kind.ANSWER:
                self.path.answered(heartbeat, now)
                if self.path.speaks_heartbeats and not self._first_answer.done():
                    self._first_answer.set_result(None)
            case Kind.ASK if self._held:
                self._ask = heartbeat, size
            case Kind.ASK:
                self.path.asked(heartbeat, size, room=self._port.room, now=now)
            case Kind.BYE:
                self._bye = self.path.is_genuine(heartbeat)
                if self._bye and not self._inbound:
                    self._end(LinkClosedError("closed by the peer"))

    def _take(self, message: bytes) -> None:
        """Hand on a message, or keep it while the receiver is busy."""
        if not self.path.is_proven:
            onward, _, _ = decode_message(message)
            if onward:
                self.path.addressed(onward[0].body)
        if not self._held and self._receiver is not None and not self._inbound:
            self._hand_on(message)
        elif not self._inbound or self._inbound_bytes + len(message) <= 2 * self._limits.link_buffer_bytes:
            self._inbound.append(message)
            self._inbound_bytes += len(message)

    def flush(self) -> None:
        """Send what may leave now."""
        if self._ended:
            return
        now = self._loop.time()
        try:
            while (datagram := self._unsent or self.path.next_datagram(now)) is not None:
                self._unsent = None
                if not self._sent(datagram, now):
                    self._unsent = datagram
                    self._port.when_writable(self)
                    break
        except OSError as error:
            self._loop.call_soon(self.refused, error)
            return
        if self._gate.is_shut and self.path.queued_bytes <= self._limits.link_buffer_bytes // 4:
            self._gate.open()
        if self._closes is not None and not self.path.queued_bytes:
            self._end(None)
        else:
            self._arm()

    # -- inside ---------------------------------------------------------------------------------

    def _sent(self, datagram: bytes, now: float) -> bool:
        try:
            return self._port.send(datagram, self.address)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self.path.too_large(len(datagram), now)
            return True

    def _disclose(self, head: bytes) -> None:
        try:
            _, at = decode_route_at(head, array_at(head, 0)[1])
            back, _ = decode_route_at(head, at)
        except DecodeError:
            return
        if back:
            self.path.disclosed(back[0].body)

    def _hand_on(self, message: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        try:
            gate = receiver.frame_received(memoryview(message))
        except RemoteError as error:
            # Anybody can send a datagram in the peer's name: it must not end the link.
            logger.debug("datagrams from %s ignored: %s", self.remote, error)
            return
        if gate is not None and not self._ended:
            self._held = True
            gate.when_open(self._go_on)

    def _go_on(self) -> None:
        self._held = False
        while self._inbound and not self._held and not self._ended:
            message = self._inbound.popleft()
            self._inbound_bytes -= len(message)
            self._hand_on(message)
        if self._held or self._ended:
            return
        if self._ask is not None:
            ask, size = self._ask
            self._ask = None
            self.path.asked(ask, size, room=self._port.room, now=self._loop.time())
        if self._bye:
            self._end(LinkClosedError("closed by the peer"))
        self.flush()

    def _arm(self) -> None:
        due = min(self.path.next_timer(), self._sequence.next_timer())
        if self._timer is not None:
            if self._timer.when() == due and not self._timer.cancelled():
                return
            self._timer.cancel()
            self._timer = None
        if due != float("inf"):
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        error = self.path.on_timer(now)
        lost = self._sequence.lost
        items = self._sequence.on_timer(now)
        self._tell_lost(lost)
        for released in items:
            try:
                self._taken(released)
            except DecodeError as failure:
                logger.debug("datagrams from %s ignored: %s", self.remote, failure)
        if error is not None:
            self._end(error)
        else:
            self.flush()

    def _end(self, error: OckamError | None) -> None:
        if self._ended:
            return
        self._ended = self._closing = True
        self._error = error
        for timer in (self._timer, self._closes):
            if timer is not None:
                timer.cancel()
        bye = self.path.bye()
        if bye is not None and not isinstance(error, LinkClosedError) and self._refusal is None:
            try:
                self._port.send(bye, self.address)
            except OSError as failure:
                logger.debug("%s: not told of the end: %s", self.remote, failure)
        self._inbound.clear()
        self._inbound_bytes = 0
        self._port.ended(self)
        self._gate.open()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self._loop.call_soon(receiver.link_closed, error)
