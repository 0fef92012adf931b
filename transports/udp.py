"""Ockam's UDP transport: links over datagrams, dialled and accepted.

A dialled link is a socket with a fixed peer. A listening socket makes a link for each remote address that has
sent a whole routing message. Nothing is repeated: what a network loses is lost, and what is above must see it
(secure channels do).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import OrderedDict
from hashlib import blake2s
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ockamlite.errors import DecodeError, LinkBrokenError, UnavailableError, UsageError
from ockamlite.routing.codec import decode_message
from ockamlite.routing.endpoint import Endpoint, HostPort
from ockamlite.wire.datagram_path import Advance, DatagramPath
from ockamlite.wire.datagrams import OVERHEAD_BYTES, Dialect, decode_piece, split
from ockamlite.wire.failures import cannot_listen, describe
from ockamlite.wire.heartbeats import (
    TOKEN_BYTES,
    Heartbeat,
    Kind,
    answer_to,
    decode_heartbeat,
    encode_heartbeat,
)
from ockamlite.wire.ports import holder_of_port
from ockamlite.wire.reassembly import Reassembler
from transports.udp_link import UdpLink
from transports.udp_socket import DatagramSocket, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ockamlite.limits import Limits
    from ockamlite.wire.datagrams import Piece
    from ockamlite.wire.link import Link
    from transports.udp_socket import Remote

_LEAST_ROOM_BYTES: Final = 20 * 1024
_ANSWER_S: Final = 0.1
"""How long dialling waits for an answer or a refusal; other nodes of Ockam send neither."""
_RESOLVE_S: Final = 10.0
_READS: Final = 64
"""Datagrams taken in one turn of the loop."""
_DATAGRAM_BYTES: Final = 65_536


class UdpTransport:
    """Makes UDP links; see :class:`ockamlite.wire.link.Transport`."""

    kind: ClassVar[str] = "udp"
    options: ClassVar[Collection[str]] = ("dialect",)

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def connect(self, endpoint: Endpoint) -> Link:
        """Dial ``udp:host:port``, every address the name resolves to, in order.

        A refusal is only seen where the host sends one; a link to a host that is silent opens.
        """
        target = HostPort.parse(endpoint.details)
        dialect = _dialect(endpoint)
        if not target.port:
            raise UsageError(f"{endpoint}: port 0 cannot be dialled")
        error: OSError | None = None
        for family, address in await _resolve(endpoint, target):
            port = UdpPort(str(endpoint), self._limits, dialect)
            try:
                port.open(family, dial=address)
                link = port.dialled(HostPort(address[0], address[1]))
                await link.answered(_ANSWER_S)
            except OSError as failure:
                port.close()
                error = failure
            except BaseException:
                port.give_up()
                raise
            else:
                return link
        reason = describe(error) if error is not None else "host unknown"
        raise UnavailableError(f"{endpoint}: {reason}") from error

    async def listen(self, endpoint: Endpoint, accept: Callable[[Link], None]) -> UdpListener:
        """Accept links at ``udp:host:port``; port 0 picks one."""
        target = HostPort.parse(endpoint.details, allow_any_host=True)
        dialect = _dialect(endpoint)
        family, address = (await _resolve(endpoint, target))[0]
        port = UdpPort(str(endpoint), self._limits, dialect, accept)
        try:
            bound = port.open(family, bind=address)
        except (OSError, OverflowError) as error:
            port.close()
            raise cannot_listen(str(endpoint), error, lambda: holder_of_port(target.port, "udp")) from error
        found = Endpoint(endpoint.kind, str(HostPort(target.host, bound)), endpoint.options)
        port.endpoint = str(found)
        return UdpListener(found, port)


class UdpListener:
    """A listening UDP endpoint."""

    def __init__(self, endpoint: Endpoint, port: UdpPort) -> None:
        self.endpoint = endpoint
        self._port = port

    async def close(self) -> None:
        """Make no more links; the port is free when those that are open have ended."""
        self._port.accept_no_more()


class UdpPort:
    """One socket, and the links over it."""

    def __init__(
        self,
        endpoint: str,
        limits: Limits,
        dialect: Dialect,
        accept: Callable[[Link], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._limits = limits
        self._dialect = dialect
        self._accept = accept
        self._loop = asyncio.get_running_loop()
        self._socket: DatagramSocket | None = None
        self._only: UdpLink | None = None
        """The link of a dialled socket."""
        self._links: OrderedDict[Remote, UdpLink] = OrderedDict()
        """The links of a listening one by remote address, longest silent first."""
        self._proven: OrderedDict[Remote, bytes] = OrderedDict()
        self._known = Reassembler(
            limits,
            peer_bytes=limits.datagram_peer_bytes,
            all_bytes=limits.datagram_pending_bytes,
            peers=limits.datagram_peers,
            repeats=limits.datagram_repeats,
        )
        self._strangers = Reassembler(
            limits,
            peer_bytes=limits.datagram_unproven_peer_bytes,
            all_bytes=limits.datagram_unproven_pending_bytes,
            peers=limits.datagram_peers,
            repeats=limits.datagram_unproven_repeats,
        )
        self._expiry: asyncio.TimerHandle | None = None
        self._advance = Advance(limits.datagram_advance_bytes_per_s, self._loop.time())
        self._secret = os.urandom(16)
        self._buffer = memoryview(bytearray(_DATAGRAM_BYTES))
        self._room = _LEAST_ROOM_BYTES
        self._waiting: list[UdpLink] = []

    # -- the socket -----------------------------------------------------------------------------

    def open(self, family: int, *, bind: Any = None, dial: Any = None) -> int:
        """Open the socket; the port it was given.

        Raises:
            OSError: it cannot be bound or dialled.
        """
        sock = self._socket = DatagramSocket(family, bind=bind, dial=dial)
        self._room = sock.room
        self._loop.add_reader(sock, self._readable)
        return sock.port

    def close(self) -> None:
        """Give the socket up; may be called twice."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def give_up(self) -> None:
        """Close a socket whose dialling was cancelled, and tell its peer."""
        if self._only is not None:
            self._only.abort(LinkBrokenError("given up"))
        self.close()

    def send(self, datagram: bytes, remote: Remote | None) -> bool:
        """Send, or lose; False if the socket is full.

        Raises:
            OSError: the peer of a dialled socket refuses, or the datagram is too large.
        """
        return self._socket is None or self._socket.send(datagram, remote)

    def when_writable(self, link: UdpLink) -> None:
        """Let ``link`` go on when the socket takes more."""
        if self._socket is None:
            return
        if not self._waiting:
            self._loop.add_writer(self._socket, self._writable)
        self._waiting.append(link)

    def _writable(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
        for link in waiting:
            link.flush()

    def _readable(self) -> None:
        for _ in range(_READS):
            sock = self._socket
            if sock is None:
                return
            try:
                size, remote = sock.receive(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if self._only is not None and is_refusal(error):
                    self._only.refused(error)
                continue
            self._datagram(self._buffer[:size], remote)

    # -- what comes -----------------------------------------------------------------------------

    def _datagram(self, data: memoryview, remote: Remote) -> None:
        now = self._loop.time()
        try:
            piece = decode_piece(data)
        except DecodeError:
            return
        link = self._only or self._links.get(remote)
        proven = remote in self._proven
        if link is not None:
            link.path.received(len(data), piece.dialect, now)
            proven = link.path.is_proven
            if self._only is None:
                self._links.move_to_end(remote)
        pool = self._known
        if not proven or self._strangers.has_begun(remote, piece.number):
            pool = self._strangers
        message = pool.add(remote, piece, now)
        if self._expiry is None:
            self._expire_later()
        if message is not None:
            try:
                heartbeat = decode_heartbeat(message)
                if link is not None:
                    link.arrived(piece.number, message if heartbeat is None else (heartbeat, len(data)))
                elif heartbeat is not None:
                    self._heartbeat(heartbeat, len(data), piece.dialect, remote)
                else:
                    self._first(message, piece, remote)
            except DecodeError:
                return
        if link is not None:
            link.flush()

    def _expire_later(self) -> None:
        """Look after what was begun also when nothing more comes that would be the occasion to."""
        self._expiry = self._loop.call_later(self._limits.datagram_reassembly_s, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        now = self._loop.time()
        for pool in (self._known, self._strangers):
            pool.expire(now)
        if self._known.peers or self._strangers.peers:
            self._expire_later()

    def _heartbeat(self, heartbeat: Heartbeat, size: int, dialect: Dialect, remote: Remote) -> None:
        """Answer somebody without a link; nothing is kept until it shows that an answer arrived."""
        if heartbeat.kind is not Kind.ASK or self._accept is None:
            return
        offer = self._offer(remote)
        if heartbeat.proof == offer:
            self._proven[remote] = heartbeat.offer
            self._proven.move_to_end(remote)
            if len(self._proven) > self._limits.datagram_proven_peers:
                self._proven.popitem(last=False)
        answer = encode_heartbeat(answer_to(heartbeat, size, offer=offer, room=self.room))
        if len(answer) + OVERHEAD_BYTES <= size:
            for datagram in split(answer, self._number(), dialect, len(answer) + OVERHEAD_BYTES):
                self.send(datagram, remote)

    def _first(self, message: bytes, piece: Piece, remote: Remote) -> None:
        """Make a link for a remote that has sent a whole message.

        Raises:
            DecodeError: it is no routing message.
        """
        if self._accept is None or not decode_message(message)[0] or not self._has_place(remote):
            return
        now = self._loop.time()
        path = self._path(piece.dialect, remote, dialled=False)
        path.received(len(message), piece.dialect, now)
        if remote in self._proven:
            path.is_proven = True
            path.proof = self._proven[remote]
            path.hello(now)
        host, port = remote.address[:2]
        link = UdpLink(self, path, remote, HostPort(host, port), self._limits)
        self._links[remote] = link
        self._accept(link)
        link.arrived(piece.number, message)
        link.flush()

    def _has_place(self, remote: Remote) -> bool:
        if len(self._links) < self._limits.datagram_peers:
            return True
        now = self._loop.time()
        victim = next((link for link in self._links.values() if not link.path.is_proven), None)
        if victim is None:
            oldest = next(iter(self._links.values()))
            is_idle = oldest.path.silent_s(now) > self._limits.datagram_quiet_s
            victim = oldest if is_idle or remote in self._proven else None
        if victim is None:
            return False
        victim.abort(LinkBrokenError("idle, and another one needed its place"))
        return True

    # -- links ----------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """What one peer may have under way to us."""
        shared = self._room // max(1, len(self._links))
        return max(_LEAST_ROOM_BYTES, min(self._limits.link_buffer_bytes, shared))

    def dialled(self, remote: HostPort) -> UdpLink:
        """The link of a dialled socket."""
        path = self._path(self._dialect, None, dialled=True)
        path.hello(self._loop.time())
        self._only = UdpLink(self, path, None, remote, self._limits)
        self._only.flush()
        return self._only

    def ended(self, link: UdpLink) -> None:
        """Forget a link."""
        address = link.address
        if address is None:
            self.close()
        else:
            self._known.forget(address)
            self._strangers.forget(address)
            if self._links.get(address) is link:
                del self._links[address]
                self._close_if_unused()

    def accept_no_more(self) -> None:
        """Make no more links."""
        self._accept = None
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._accept is None and not self._links:
            self.close()

    def _path(self, dialect: Dialect, remote: Remote | None, *, dialled: bool) -> DatagramPath:
        return DatagramPath(
            self._limits,
            dialect=dialect,
            number=self._number(),
            token=lambda: os.urandom(TOKEN_BYTES),
            now=self._loop.time(),
            dialled=dialled,
            offer=self._offer(remote),
            advance=self._advance,
        )

    def _number(self) -> int:
        return int.from_bytes(os.urandom(2), "big")

    def _offer(self, remote: Remote | None) -> bytes:
        return blake2s(repr(remote).encode(), key=self._secret, digest_size=TOKEN_BYTES).digest()


def _dialect(endpoint: Endpoint) -> Dialect:
    named = dict(endpoint.options).get("dialect", "b")
    try:
        return Dialect(named)
    except ValueError as error:
        raise UsageError(f"{endpoint}: dialect {named!r} is neither a nor b") from error


async def _resolve(endpoint: Endpoint, target: HostPort) -> list[tuple[int, Any]]:
    """The families and addresses of a host.

    Raises:
        UnavailableError: it has none.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
    except TimeoutError as error:
        raise UnavailableError(f"{endpoint}: its name was not resolved within {_RESOLVE_S:.0f} s") from error
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"{endpoint}: {describe(error)}") from error
    return [(family, address) for family, _, _, _, address in found]
