"""Sockets of applications, taken and dialled with as little between them and a session as can be.

asyncio makes a task and a future for every connection it accepts or dials, and passes through its loop
eleven times from the first byte to the last. Tunnels are asked for many short connections, where that
costs more than the cryptography; here it is six.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import socket
from collections import deque
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final

from ockamlite.wire.failures import cannot_listen, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ockamlite.routing.endpoint import HostPort

logger = logging.getLogger(__name__)

_NEXT_ADDRESS_S: Final = 0.25
"""How long an address of a name may take before the next is tried beside it (RFC 8305)."""
_BACKLOG: Final = 1024
_AT_ONCE: Final = 64
"""Connections accepted before others have their turn."""
_GATHER: Final = 16
"""Waiting pieces sent with one call."""
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_EXHAUSTED_S: Final = 1.0


class SocketTransport(asyncio.Transport):
    """A connected TCP socket under a buffered protocol.

    What asyncio's transport does, in fewer turns of the loop: the protocol is told at once that the
    connection is there. As there, ``connection_lost`` comes in a turn of its own, and reading begins
    with :meth:`resume_reading`.
    """

    def __init__(self, sock: socket.socket, protocol: asyncio.BufferedProtocol, peer: object = None) -> None:
        super().__init__({"socket": sock, "peername": peer})
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._reading = False
        self._closing = False
        self._ended = False
        self._eof = False
        self._buffer: deque[memoryview] = deque()
        self._waiting = 0
        self._high, self._low = 65_536, 16_384
        self._full = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol.connection_made(self)

    def is_closing(self) -> bool:
        """True if it is closed, or will be once what waits was sent."""
        return self._closing

    def is_reading(self) -> bool:
        """True if what comes is read."""
        return self._reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """How many waiting bytes make the protocol pause, and how few let it go on."""
        self._high = 65_536 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent."""
        return self._waiting

    def pause_reading(self) -> None:
        """Read no more for now."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Read what comes."""
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; what does not go out at once waits. A view is kept until it was sent."""
        if self._closing:
            return
        if not self._buffer:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._end(error)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            self._loop.add_writer(self._fd, self._writable)
        self._buffer.append(memoryview(data))
        self._waiting += len(data)
        if self._waiting > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """It can be half closed."""
        return True

    def write_eof(self) -> None:
        """Tell the other end, behind what waits, that no more comes."""
        if not self._eof and not self._closing:
            self._eof = True
            if not self._buffer:
                self._shut_down()

    def close(self) -> None:
        """Send what waits, then close."""
        if self._closing:
            return
        self.pause_reading()
        self._closing = True
        if not self._buffer:
            self._end(None)

    def abort(self) -> None:
        """Close at once."""
        self._end(None)

    def read_now(self) -> None:
        """Take what has come by now, without waiting for the loop to say so."""
        if self._reading:
            self._readable()

    def _readable(self) -> None:
        protocol = self._protocol
        try:
            count = self._sock.recv_into(protocol.get_buffer(-1))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if count:
            protocol.buffer_updated(count)
            return
        self.pause_reading()
        if not protocol.eof_received():
            self.close()

    def _writable(self) -> None:
        try:
            sent = self._sock.sendmsg([*islice(self._buffer, _GATHER)])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        self._waiting -= sent
        while sent:
            first = self._buffer.popleft()
            if len(first) > sent:
                self._buffer.appendleft(first[sent:])
                break
            sent -= len(first)
        if not self._buffer:
            self._loop.remove_writer(self._fd)
        if self._full and self._waiting <= self._low:
            self._full = False
            self._protocol.resume_writing()
        if not self._buffer:
            if self._closing:
                self._end(None)
            elif self._eof:
                self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError | None) -> None:
        if self._ended:
            return
        self.pause_reading()
        self._ended = self._closing = True
        if self._buffer:
            self._loop.remove_writer(self._fd)
            self._buffer.clear()
            self._waiting = 0
        self._loop.call_soon(self._lost, error)

    def _lost(self, error: OSError | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()


class Dial:
    """A connection to a target; from :meth:`start` on it is under way, and the protocol is told of its end.

    Args:
        target: where to; an address is dialled at once, a name is looked up each time.
        protocol: what the connection is for.
        timeout_s: how long it may take.
        failed: told in a few words why it cannot be reached.
        spawn: runs a task of the owner's, with a name.
    """

    def __init__(
        self,
        target: HostPort,
        protocol: asyncio.BufferedProtocol,
        timeout_s: float,
        failed: Callable[[str], None],
        spawn: Callable[[Coroutine[object, object, None], str], asyncio.Task[None]],
    ) -> None:
        self._target = target
        self._protocol = protocol
        self._timeout_s = timeout_s
        self._failed = failed
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Dial. A target on this machine may be there when this returns."""
        family = _family(self._target.host)
        if family is None:
            self._wait()
            self._task = self._spawn(self._look_up(), f"dialling {self._target}")
        else:
            self._connect(family)

    def cancel(self) -> None:
        """Give up; nobody is told."""
        self._stop_waiting()
        if self._task is not None:
            self._task.cancel()
        if self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _wait(self) -> None:
        timeout_s = self._timeout_s
        self._timer = self._loop.call_later(timeout_s, self._fail, f"no answer within {timeout_s:g} s")

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _fail(self, reason: str) -> None:
        self.cancel()
        self._failed(reason)

    def _connect(self, family: socket.AddressFamily) -> None:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._loop.call_soon(self._fail, describe(error))
            return
        where = (self._target.host, self._target.port)
        number = sock.connect_ex(where)
        if number == errno.EINPROGRESS:
            number = sock.connect_ex(where)  # one on this machine has answered meanwhile
        if not number:
            SocketTransport(sock, self._protocol)
            return
        self._sock = sock
        if number == errno.EALREADY:
            self._wait()
            self._loop.add_writer(sock.fileno(), self._connected)
        else:
            self._loop.call_soon(self._fail, describe(OSError(number, os.strerror(number))))

    def _connected(self) -> None:
        sock = self._sock
        if sock is None:
            return
        self._loop.remove_writer(sock.fileno())
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._fail(describe(OSError(number, os.strerror(number))))
            return
        self._stop_waiting()
        self._sock = None
        SocketTransport(sock, self._protocol)

    async def _look_up(self) -> None:
        try:
            await self._loop.create_connection(
                lambda: self._protocol,
                self._target.host,
                self._target.port,
                happy_eyeballs_delay=_NEXT_ADDRESS_S,
            )
        except UnicodeError:
            reason = "host unknown"
        except OSError as error:
            reason = describe(error)
        else:
            self._stop_waiting()
            return
        self._task = None
        self._fail(reason)


@lru_cache(maxsize=64)
def _family(host: str) -> socket.AddressFamily | None:
    """The family of an address that needs no looking up."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return socket.AF_INET if version == 4 else socket.AF_INET6


class Acceptor:
    """A listening port; each connection becomes a protocol.

    Args:
        accepted: makes the protocol of a connection.
    """

    def __init__(self, accepted: Callable[[], asyncio.BufferedProtocol]) -> None:
        self.port = 0
        """The port that was given, if 0 was asked for."""
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._burst = 1
        """How many are accepted in a turn: as many as came in the last, or twice as many."""

    async def listen(self, bind: HostPort, in_use: Callable[[int], str]) -> None:
        """Bind every address of a host, all to the same port.

        Raises:
            UnavailableError: one cannot be bound.
        """
        try:
            found = await self._loop.getaddrinfo(
                bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, address in dict.fromkeys(found):
                self._bind(family, address)
        except (OSError, UnicodeError, OverflowError) as error:
            self.close()
            raise cannot_listen(f"tcp:{bind}", error, lambda: in_use(bind.port)) from error

    def _bind(self, family: int, address: tuple[object, ...]) -> None:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address[0], address[1] or self.port, *address[2:]))
        self.port = sock.getsockname()[1]
        sock.listen(_BACKLOG)
        self._loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Free the port; may be called twice."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _accept(self, sock: socket.socket) -> None:
        for count in range(self._burst):
            if sock not in self._sockets:
                return  # closed by what the last connection set off
            try:
                connection, peer = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._burst = max(1, count)
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                logger.error("no more connections for now: %s", describe(error))
                self._loop.remove_reader(sock)
                self._loop.call_later(_EXHAUSTED_S, self._go_on, sock)
                return
            connection.setblocking(False)
            SocketTransport(connection, self._accepted(), peer)
        self._burst = min(_AT_ONCE, 2 * self._burst)

    def _go_on(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)
