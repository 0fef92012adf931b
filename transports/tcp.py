"""Ockam's TCP transport: links over TCP, dialled and accepted.

One protocol object per connection reads into a buffer that all links of the transport share, cuts
frames in place and hands them on; nothing is queued. What a link cannot send at once waits in the
socket transport, up to a bound, behind a gate.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from typing import TYPE_CHECKING, ClassVar, cast

from ockamlite.errors import (
    DecodeError,
    LinkBrokenError,
    LinkClosedError,
    OckamError,
    UnavailableError,
)
from ockamlite.routing.endpoint import Endpoint, HostPort
from ockamlite.routing.tally import Tally
from ockamlite.wire.failures import cannot_listen, describe
from ockamlite.wire.framing import LENGTH, LENGTH_BYTES, VERSION, check_length, check_version
from ockamlite.wire.gate import Gate
from ockamlite.wire.ports import holder_of_port

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ockamlite.limits import Limits
    from ockamlite.wire.link import Link, LinkReceiver

logger = logging.getLogger(__name__)

_READ_BYTES = 256 * 1024
_NOTSENT_BYTES = 128 * 1024
_BACKLOG = 512
"""Connections that wait in the kernel until they are accepted."""
_CONNECT_TIMEOUT_S = 10.0
_FRAME_TIMEOUT_S = 60.0
"""How long a begun frame may take: a megabyte at modem speed, but not a byte a second for ever."""
_JOIN_BYTES = 4096
"""Up to here a payload is copied behind its head: cheaper than giving the kernel two pieces."""
_LONG_BYTES = _READ_BYTES // 2
"""What has come of a frame when it is given a buffer of its own."""


class _Shared:
    """What the links of a transport share: the buffer they read into, and room for long frames."""

    def __init__(self, limits: Limits) -> None:
        self.view = memoryview(bytearray(_READ_BYTES))
        """Where they all read, each before the next."""
        self.room = limits.long_frames_bytes
        self.long: dict[TcpLink, int] = {}
        """Who has begun a long frame, in this order, and the bytes of its buffer."""

    def make_room(self, size: int, newcomer: TcpLink) -> bool:
        """Close links whose host takes most, the oldest frame first; False if that is the newcomer."""
        while self.room < size:
            taken: dict[str, int] = {}
            for link, held in self.long.items():
                taken[link.host] = taken.get(link.host, 0) + held
            if not taken:
                return False
            heaviest = max(taken, key=lambda host: taken[host])
            oldest = next(link for link in self.long if link.host == heaviest)
            if oldest is newcomer:
                return False
            oldest.give_way()
        return True


class StreamLinks:
    """Makes the links of a transport whose connections are streams: TCP's, and those of others.

    Args:
        limits: what the links keep to, each and all together.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._shared = _Shared(limits)

    def link(self, endpoint: Endpoint, accept: Callable[[Link], None] | None = None) -> TcpLink:
        """Make the protocol of one connection, which ``accept`` is given once it is connected."""
        return TcpLink(str(endpoint), self._shared, self._limits, accept=accept)


class TcpTransport:
    """Makes TCP links; see :class:`ockamlite.wire.link.Transport`."""

    kind: ClassVar[str] = "tcp"
    options: ClassVar[Collection[str]] = ()

    def __init__(self, limits: Limits) -> None:
        self._links = StreamLinks(limits)

    async def connect(self, endpoint: Endpoint) -> Link:
        """Dial ``tcp:host:port``, every address the name resolves to, in order."""
        target = HostPort.parse(endpoint.details)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                transport, link = await loop.create_connection(
                    lambda: self._links.link(endpoint),
                    target.host,
                    target.port,
                )
        except TimeoutError as error:
            raise UnavailableError(f"{endpoint}: no answer within {_CONNECT_TIMEOUT_S:.0f} s") from error
        except (OSError, UnicodeError) as error:
            raise UnavailableError(f"{endpoint}: {describe(error)}") from error
        _tune(transport.get_extra_info("socket"))
        return link

    async def listen(self, endpoint: Endpoint, accept: Callable[[Link], None]) -> TcpListener:
        """Accept links at ``tcp:host:port``; port 0 picks one."""
        target = HostPort.parse(endpoint.details, allow_any_host=True)
        listener = TcpListener(endpoint)
        loop = asyncio.get_running_loop()

        def accepted() -> TcpLink:
            return self._links.link(listener.endpoint, accept)

        try:
            # One by one: asyncio tries as often in each round, and tells of each that fails as there are no
            # descriptors left.
            server = await loop.create_server(accepted, target.host, target.port, backlog=1)
        except (OSError, UnicodeError, OverflowError) as error:
            raise cannot_listen(str(endpoint), error, lambda: holder_of_port(target.port)) from error
        _let_wait(server)
        listener.started(server)
        return listener


class StreamListener:
    """An endpoint where a server of asyncio's listens."""

    def __init__(self, endpoint: Endpoint, server: asyncio.Server | None = None) -> None:
        self.endpoint = endpoint
        self._server = server

    async def close(self) -> None:
        """Free the endpoint; links that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None


class TcpListener(StreamListener):
    """A listening TCP endpoint."""

    def started(self, server: asyncio.Server) -> None:
        """Take over the server and note the port it was given."""
        self._server = server
        bound = HostPort.parse(self.endpoint.details, allow_any_host=True)
        port: int = server.sockets[0].getsockname()[1]
        self.endpoint = Endpoint(self.endpoint.kind, str(HostPort(bound.host, port)), self.endpoint.options)


def _let_wait(server: asyncio.Server) -> None:
    """Let more connections wait in the kernel than are accepted at a time."""
    for sock in server.sockets:
        try:
            with sock.dup() as same:
                same.listen(_BACKLOG)
        except (OSError, AttributeError) as error:  # no descriptor left; or an event loop without sockets
            logger.debug("few connections wait until they are accepted: %s", error)


def _tune(sock: socket.socket) -> None:
    """Notice within half a minute that a peer vanished, and at once whether a slow one still takes something.

    Without the last option the kernel takes megabytes from us and then, for seconds, nothing: what is
    sent beside a bulk transfer would wait behind them, and a slow peer would seem to have stopped.
    asyncio has set TCP_NODELAY already.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 10),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 60_000),
        ("TCP_NOTSENT_LOWAT", _NOTSENT_BYTES),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class TcpLink(asyncio.BufferedProtocol):
    """One connection, TCP or another stream, as a link. Reads only while its receiver takes what comes."""

    def __init__(
        self, endpoint: str, shared: _Shared, limits: Limits, *, accept: Callable[[Link], None] | None
    ) -> None:
        self.endpoint = endpoint
        self.remote = ""
        self._limits = limits
        self.host = ""
        """Of the other end."""
        self._loop = asyncio.get_running_loop()
        self._gate = Gate(self._loop)
        self._accept = accept
        self._receiver: LinkReceiver | None = None
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        """For writing past asyncio's own transport; other loops' queue what we could not see."""
        self._shared = shared
        self._long: bytearray | None = None
        """The buffer of a long frame; it grows with what really arrives."""
        self._long_bytes = 0
        """What has come of the long frame."""
        self._long_whole = 0
        self._tail = b""
        """Bytes of a frame not yet whole, or frames not yet handed on."""
        self._version_seen = False
        self._held = False
        self._error: OckamError | None = None
        self._closing = False
        self._check: asyncio.TimerHandle | None = None
        self._began = self._loop.time()
        """When the frame (or version byte) we wait for was begun; infinite when none is."""
        self._too_long = Tally()
        self._stalled_since = math.inf
        """Since when it is full, or has taken another buffer's worth."""
        self._stalled_bytes = 0
        """What waited then, and all that came to it since."""

    # -- the core's side ------------------------------------------------------------------------

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to read."""
        self._receiver = receiver
        assert self._transport is not None  # noqa: S101  (a link is handed out once connected)
        if self._transport.is_closing():
            self._loop.call_soon(receiver.link_closed, self._error or LinkClosedError("closed at once"))
            self._receiver = None
            return
        self._transport.resume_reading()

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> Gate | None:
        """Send one frame."""
        transport = self._transport
        if self._closing or transport is None or transport.is_closing():
            return None
        size = len(head) + len(payload)
        if size > self._limits.message_bytes:
            # The link stays: others may be able to make us forward what grew too long on its way.
            if self._too_long.add():
                text = "%s: message of %d bytes is too long and not sent (%d so far)"
                logger.warning(text, self.endpoint, size, self._too_long.count)
            return None
        if self._gate.is_shut:
            self._stalled_bytes += size
        head = LENGTH.pack(size) + head
        if self._fd >= 0 and not transport.get_write_buffer_size():
            # asyncio would join the pieces, and copies what it cannot send.
            if len(payload) <= _JOIN_BYTES:
                head, payload = b"".join((head, payload)), b""
            try:
                sent = os.writev(self._fd, (head, payload)) if payload else os.write(self._fd, head)
            except OSError:
                sent = 0  # full; or broken, which the transport finds out and reports
            size += LENGTH_BYTES
            if sent == size:
                return None
            rest = sent - len(head)
            if rest > 0:
                head, payload = b"", memoryview(payload)[rest:]
            else:
                head = head[sent:]
        transport.write(b"".join((head, payload)))
        return self._gate if self._gate.is_shut else None

    def close(self) -> None:
        """Send what waits, then close; at the latest after a second."""
        transport = self._transport
        if self._closing or transport is None:
            return
        self._closing = True
        transport.close()
        if transport.get_write_buffer_size():
            self._loop.call_later(1.0, transport.abort)

    def abort(self, error: OckamError) -> None:
        """Close at once."""
        if self._error is None:
            self._error = error
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's side -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send our version byte, which waits for nothing."""
        is_plain = isinstance(transport, asyncio.Transport)
        transport = self._transport = cast("asyncio.Transport", transport)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if is_plain and sock is not None:
            self._fd = sock.fileno()
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.host = peer[0]
            self.remote = str(HostPort(peer[0], peer[1]))
        else:
            self.remote = "gone" if peer is None else str(peer) or self.endpoint  # a Unix socket's name
        transport.pause_reading()
        transport.set_write_buffer_limits(self._limits.link_buffer_bytes, self._limits.link_buffer_bytes // 4)
        transport.write(VERSION)
        self._look()
        if self._accept is not None and sock is not None:
            if self.host:
                _tune(sock)
            self._accept(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room behind what has come of an unfinished frame."""
        if self._long is not None:
            return memoryview(self._long)[self._long_bytes :]
        tail, buffer = self._tail, self._shared.view
        if not tail:
            return buffer
        buffer[: len(tail)] = tail
        return buffer[len(tail) :]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on the frames that are whole."""
        long = self._long
        if long is None:
            end = len(self._tail) + nbytes
            self._tail = b""
            self._take(self._shared.view[:end])
            return
        self._long_bytes += nbytes
        if self._long_bytes == self._long_whole:
            self._drop_long()
            self._take(memoryview(long))
        elif self._long_bytes == len(long):
            self._grow_long(long)

    def eof_received(self) -> None:
        """The peer will send no more: the link is over, half-open ones carry nothing."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the receiver why."""
        error = self._error
        if error is None and exc is not None:
            error = LinkBrokenError(f"link broken: {describe(exc)}")
        if error is None and not self._closing:
            rest = " in the middle of a frame" if self._tail or self._long else ""
            error = LinkClosedError(f"closed by the peer{rest}")
        self._closing = True
        self._error = error
        if self._check is not None:
            self._check.cancel()
        self._gate.open()
        self._tail = b""
        self._drop_long()
        if self._receiver is not None:
            self._receiver.link_closed(error)
            self._receiver = None

    def pause_writing(self) -> None:
        """The peer takes less than we send."""
        self._gate.shut()
        self._stalled_since = self._loop.time()
        assert self._transport is not None  # noqa: S101
        self._stalled_bytes = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """The peer took what waited."""
        self._stalled_since = math.inf
        self._gate.open()

    # -- inside ---------------------------------------------------------------------------------

    def _take(self, data: memoryview) -> None:
        at, end, stop, limit = 0, len(data), 0, self._limits.message_bytes
        try:
            if not self._version_seen and end:
                check_version(data[0])
                self._version_seen = True
                at = 1
            receiver = self._receiver
            while not self._held and end - at >= LENGTH_BYTES and receiver is not None:
                body = at + LENGTH_BYTES
                length: int = LENGTH.unpack_from(data, at)[0]
                if not 0 < length <= limit:
                    check_length(length, limit)
                stop = body + length
                if stop > end:
                    break
                gate = receiver.frame_received(data[body:stop])
                at = stop
                if gate is not None:
                    self._hold(gate)
                receiver = self._receiver
        except OckamError as error:
            self.abort(error if isinstance(error, DecodeError) else LinkBrokenError(str(error)))
            return
        if stop > end and end - at >= _LONG_BYTES and not self._held:
            self._long_whole = stop - at
            self._grow_long(data[at:end])
        else:
            self._tail = bytes(data[at:end]) if at < end else b""
        if self._held or not (self._tail or self._long or not self._version_seen):
            self._began = math.inf
        elif at or self._began == math.inf:
            self._began = self._loop.time()

    def _grow_long(self, begun: bytearray | memoryview) -> None:
        """Go on reading a long frame, of which ``begun`` has come, into a larger buffer."""
        size = min(2 * len(begun), self._long_whole)
        more = size - len(self._long or b"")
        if not self._shared.make_room(more, self):
            self.give_way()
            return
        self._shared.room -= more
        self._shared.long[self] = size
        self._long = bytearray(size)
        self._long[: len(begun)] = begun
        self._long_bytes = len(begun)

    def give_way(self) -> None:
        """Close, as others need the room of our unfinished frame."""
        self.abort(LinkBrokenError("more long messages come at once than this node has room for"))
        self._drop_long()

    def _drop_long(self) -> None:
        if self._long is not None:
            self._shared.room += self._shared.long.pop(self)
            self._long = None

    def _hold(self, gate: Gate) -> None:
        self._held = True
        if self._transport is not None:
            self._transport.pause_reading()
        gate.when_open(self._go_on)

    def _go_on(self) -> None:
        self._held = False
        if self._closing or self._transport is None:
            return
        tail, self._tail = self._tail, b""
        self._take(memoryview(tail))
        if not self._held and not self._closing:
            self._transport.resume_reading()

    def _look(self) -> None:
        """Look now and then whether the peer keeps us waiting; one timer for all it may be late with."""
        now, limits = self._loop.time(), self._limits
        transport = self._transport
        if self._closing or transport is None:
            return
        allowed = _FRAME_TIMEOUT_S if self._version_seen else limits.link_hello_s
        if now - self._began > allowed:
            what = "finish a frame" if self._version_seen else "send a version byte"
            self.abort(LinkBrokenError(f"the peer did not {what} within {allowed:.0f} s"))
            return
        waiting = transport.get_write_buffer_size()
        if self._gate.is_shut and self._stalled_bytes - waiting >= limits.link_buffer_bytes:
            # Slow, but it moves.
            self._stalled_since, self._stalled_bytes = now, waiting
        if now - self._stalled_since > limits.link_stall_s:
            self.abort(LinkBrokenError(f"the peer took nothing for {limits.link_stall_s:.0f} s"))
            return
        self._check = self._loop.call_later(
            min(limits.link_hello_s, limits.link_stall_s, _FRAME_TIMEOUT_S) / 4, self._look
        )
