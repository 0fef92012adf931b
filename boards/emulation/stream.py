"""A connection within one process: two transports of asyncio; what one is given comes out of the other."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any, Final

_READ_BYTES: Final = 64 * 1024


def joined(one: tuple[str, int], other: tuple[str, int]) -> tuple[Stream, Stream]:
    """The two ends of a connection between two addresses; each lives from :meth:`Stream.begin` on."""
    first, second = Stream(one, other), Stream(other, one)
    first.peer, second.peer = second, first
    return first, second


class StreamSocket:
    """What is found by who asks a connection for its socket: it can be tuned, and has no descriptor."""

    def __init__(self, name: tuple[str, int]) -> None:
        self._name = name

    def getsockname(self) -> tuple[str, int]:
        """Its address."""
        return self._name

    def fileno(self) -> int:
        """None."""
        return -1

    def setsockopt(self, *_: object) -> None:
        """There is nothing to tune."""


class Stream(asyncio.Transport):
    """One end. What it sends waits in it until the other end reads."""

    peer: Stream

    def __init__(self, name: tuple[str, int], peer_name: tuple[str, int]) -> None:
        super().__init__({"socket": StreamSocket(name), "sockname": name, "peername": peer_name})
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.BaseProtocol | None = None
        self._out = bytearray()
        self._eof = False
        """No more will be written."""
        self._eof_heard = False
        self._reading = True
        self._closing = False
        self._lost = False
        self._error: OSError | None = None
        self._turn: asyncio.Handle | None = None
        self._high, self._low = 65_536, 16_384
        self._full = False

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell the protocol that the connection is there."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self._lost:
            self._loop.call_soon(protocol.connection_lost, self._error)
        self._look()

    # -- asyncio's face -------------------------------------------------------------------------

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who uses it."""
        assert self._protocol is not None  # noqa: S101  (it has begun)
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another use it."""
        self._protocol = protocol

    def is_closing(self) -> bool:
        """True if it is closed, or will be once what waits was read."""
        return self._closing

    def is_reading(self) -> bool:
        """True if what comes is read."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Leave what comes with the other end."""
        self._reading = False

    def resume_reading(self) -> None:
        """Read again."""
        self._reading = True
        self._look()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """How many waiting bytes make the protocol pause, and how few let it go on."""
        self._high = 65_536 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Bytes that the other end has not read."""
        return len(self._out)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high."""
        return self._low, self._high

    def write(self, data: bytes | bytearray | memoryview) -> None:  # type: ignore[type-arg, unused-ignore]
        """Send."""
        if self._closing or self._eof or not data:
            return
        if self.peer._lost:  # noqa: SLF001  (the two are one thing)
            self._lose(_reset())
            return
        self._out += data
        if len(self._out) > self._high and not self._full:
            self._full = True
            self._user.pause_writing()
        self.peer._look()  # noqa: SLF001

    def can_write_eof(self) -> bool:
        """It can be half closed."""
        return True

    def write_eof(self) -> None:
        """Tell the other end, behind what waits, that no more comes."""
        self._eof = True
        self.peer._look()  # noqa: SLF001

    def close(self) -> None:
        """Close once the other end has read what waits."""
        if self._closing:
            return
        self._closing = self._eof = True
        if self._out:
            self.peer._look()  # noqa: SLF001
        else:
            self._lose(None)

    def abort(self) -> None:
        """Close at once, with an error for the other end."""
        if not self._lost:
            self._out.clear()
            self._lose(None)
            self.peer._lose(_reset())  # noqa: SLF001

    # -- between the ends -----------------------------------------------------------------------

    @property
    def _user(self) -> Any:
        return self._protocol

    def _look(self) -> None:
        """Read in the next turn, if there is something."""
        if self._turn is None and self._protocol is not None and self.is_reading():
            sender = self.peer
            if sender._out or (sender._eof and not self._eof_heard):  # noqa: SLF001
                self._turn = self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._turn = None
        if not self.is_reading():
            return
        sender = self.peer
        if data := sender._out:  # noqa: SLF001
            user = self._user
            if isinstance(user, asyncio.BufferedProtocol):
                buffer: Any = user.get_buffer(-1)
                count = min(len(buffer), len(data))
                buffer[:count] = data[:count]
                del data[:count]
                user.buffer_updated(count)
            else:
                piece = bytes(data[:_READ_BYTES])
                del data[:_READ_BYTES]
                user.data_received(piece)
            sender._was_read()  # noqa: SLF001
            self._look()
        elif sender._eof and not self._eof_heard:  # noqa: SLF001
            self._eof_heard = True
            if not self._user.eof_received():
                self.close()

    def _was_read(self) -> None:
        if self._lost:
            return
        if self._full and len(self._out) <= self._low:
            self._full = False
            self._user.resume_writing()
        if self._closing and not self._out:
            self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = self._eof = True
        self._error = error
        if error is not None:
            self._out.clear()
        if self._protocol is not None:
            self._loop.call_soon(self._user.connection_lost, error)
        if self.peer._out:  # noqa: SLF001
            self.peer._lose(_reset())  # noqa: SLF001  (it was still being written to)
        else:
            self.peer._look()  # noqa: SLF001


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
