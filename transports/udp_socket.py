"""One UDP socket of the system: datagrams in, with where they came from and were sent to, and out.

A socket bound to all addresses of a machine would answer from whichever address the system likes best, and
whoever dialled another one would take no notice. So each datagram's destination is asked for, and what goes
back leaves from there.
"""

from __future__ import annotations

import errno
import socket
import sys
from struct import Struct
from typing import Any, Final, NamedTuple

_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Asked for on both sides of a socket; the system gives what it allows."""
_REFUSED: Final = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(32) if hasattr(socket, "CMSG_SPACE") else 0

# Numbers of Linux that Python has no names for.
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PATH_MTU_PROBE: Final = 3
"""Never fragment, and do not trust the path MTU that others report."""
_IP_PKTINFO: Final = 8
_INFO_4: Final = Struct("=I4s4s")
"""The interface, our address, the address in the datagram."""
_INFO_6: Final = Struct("=16sI")
"""Our address, the interface."""
_LINK_LOCAL: Final = (b"\xfe\x80", b"\xff\xc0")


class Remote(NamedTuple):
    """Who sends to a listening socket, and to which address of ours."""

    address: Any
    """As the system has it."""
    ours: bytes = b""
    """What makes an answer leave from the address that was asked; nothing where there is only one."""


class DatagramSocket:
    """A socket bound to one of our addresses, or all, or joined to one remote address.

    Raises:
        OSError: it cannot be bound or joined.
    """

    def __init__(self, family: int, *, bind: Any = None, dial: Any = None) -> None:
        self._family = family
        self._tells_ours = False
        sock = self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            if sys.platform == "linux":
                level, option = (
                    (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
                    if family == socket.AF_INET6
                    else (socket.IPPROTO_IP, _IP_MTU_DISCOVER)
                )
                sock.setsockopt(level, option, _PATH_MTU_PROBE)
            if bind is None:
                sock.connect(dial)
            else:
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if bind[0] in ("0.0.0.0", "::"):  # noqa: S104  (what the user asked for)
                    self._tells_ours = _ask_for_ours(sock, family)
                sock.bind(bind)
        except BaseException:
            sock.close()
            raise
        self.port = int(sock.getsockname()[1])
        # The system counts its bookkeeping, too, which for small datagrams is as much again.
        self.room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 4
        """Bytes of datagrams that it holds until they are read."""

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give it up; may be called twice."""
        self._socket.close()

    def receive(self, buffer: memoryview) -> tuple[int, Remote]:
        """Read one datagram into ``buffer``; its length and where it came from.

        Raises:
            BlockingIOError: there is none.
            OSError: the system reports an error about an earlier datagram.
        """
        if not self._tells_ours:
            size, address = self._socket.recvfrom_into(buffer)
            return size, Remote(address)
        size, ancillary, _, address = self._socket.recvmsg_into([buffer], _ANCILLARY_BYTES)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) >= _INFO_4.size:
                _, ours, _ = _INFO_4.unpack_from(data)
                return size, Remote(address, _INFO_4.pack(0, ours, bytes(4)))
            if (level, kind) == (socket.IPPROTO_IPV6, _ipv6("IPV6_PKTINFO")) and len(data) >= _INFO_6.size:
                ours, interface = _INFO_6.unpack_from(data)
                return size, Remote(address, answers_from(ours, interface))
        return size, Remote(address)

    def send(self, datagram: bytes, remote: Remote | None) -> bool:
        """Send, or lose; False if the socket is full.

        Args:
            datagram: what to send.
            remote: where to; None on a dialled socket.

        Raises:
            OSError: the peer of a dialled socket refuses, or the datagram is too large.
        """
        try:
            if remote is None:
                self._socket.send(datagram)
            elif remote.ours:
                kind = (
                    (socket.IPPROTO_IPV6, _ipv6("IPV6_PKTINFO"))
                    if self._family == socket.AF_INET6
                    else (socket.IPPROTO_IP, _IP_PKTINFO)
                )
                self._socket.sendmsg((datagram,), ((*kind, remote.ours),), 0, remote.address)
            else:
                self._socket.sendto(datagram, remote.address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.EMSGSIZE or (remote is None and is_refusal(error)):
                raise
        return True


def is_refusal(error: OSError) -> bool:
    """True if the other end's host, or one on the way, says that nobody is there."""
    return error.errno in _REFUSED


def _ask_for_ours(sock: socket.socket, family: int) -> bool:
    """Let each datagram tell which of our addresses it was sent to; False where that is not known how."""
    if not hasattr(sock, "recvmsg_into"):
        return False
    if family == socket.AF_INET6 and hasattr(socket, "IPV6_RECVPKTINFO"):
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        return True
    if family == socket.AF_INET and sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        return True
    return False


def _ipv6(name: str) -> int:
    return int(getattr(socket, name, -1))


def answers_from(ours: bytes, interface: int) -> bytes:
    """What makes an answer leave from the IPv6 address ``ours``; nothing for that of a group."""
    if ours[0] == 0xFF:
        return b""
    prefix, mask = _LINK_LOCAL
    is_local = bytes(a & b for a, b in zip(ours[:2], mask, strict=True)) == prefix
    return _INFO_6.pack(ours, interface if is_local else 0)
