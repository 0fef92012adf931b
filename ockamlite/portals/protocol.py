"""The messages of Ockam's portals and what each end may do when. No I/O.

    00                               Ping: an inlet asks for a connection
    01                               Pong: the outlet has one
    02                               Disconnect: no more data will come
    03 | length: varint | data       Payload

The payload of a routed message is exactly one of these. Behind a Payload a peer may write a packet
counter (``01``, two bytes little-endian); no current one does.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Final

from ockamlite.bare import decode_uint, encode_uint
from ockamlite.errors import DecodeError, ProtocolError

PING: Final = b"\x00"
PONG: Final = b"\x01"
DISCONNECT: Final = b"\x02"
RESET: Final = b"\x03\x00\x01\xff\xff"
"""An end with an error: a Payload without data, with a packet counter that cannot be right. A
peer that checks the counter gives the connection up, any other finds the Disconnect behind it, which
alone would look like a good end."""
HEAD_BYTES: Final = 6
"""Room for the head of a Payload of any size that we send."""
_PAYLOAD: Final = 3
_COUNTER_BYTES: Final = 3


class Kind(Enum):
    """Which of the four messages."""

    PING = 0
    PONG = 1
    DISCONNECT = 2
    PAYLOAD = 3


_KINDS: Final = tuple(Kind)


@lru_cache(maxsize=64)
def encode_payload_head(size: int) -> bytes:
    """The bytes in front of ``size`` bytes of data."""
    return b"\x03" + encode_uint(size)


def decode(message: bytes | bytearray | memoryview) -> tuple[Kind, memoryview, int | None]:
    """Which message it is, its data (a view; empty but for a Payload) and its packet counter.

    Raises:
        DecodeError: none of the four, or a Payload that ends early.
    """
    if not len(message):
        raise DecodeError("portal message without a byte")
    view = memoryview(message)
    tag = view[0]
    if tag > _PAYLOAD:
        raise DecodeError(f"portal message of unknown kind {tag}")
    if tag != _PAYLOAD:
        return _KINDS[tag], view[:0], None
    if len(view) > 1 and view[1] < 0x80:  # as most are that somebody typed
        size, at = view[1], 2
    else:
        size, at = decode_uint(view, 1)
    end = at + size
    if end > len(view):
        raise DecodeError(f"portal payload of {size} bytes ends early")
    counter = None
    if len(view) - end >= _COUNTER_BYTES and view[end] == 1:
        counter = int.from_bytes(view[end + 1 : end + _COUNTER_BYTES], "little")
    return Kind.PAYLOAD, view[at:end], counter


class State(Enum):
    """How far a connection has come."""

    WAITING = "waiting"
    """Inlet: for the Pong. Outlet: for its target."""
    OPEN = "open"
    CLOSED = "closed"


class Portal:
    """One end of one connection: checks the order of messages, counts bytes, knows who has finished.

    Each direction ends by itself: ``local_done`` after we sent Disconnect, ``remote_done`` after the
    peer did. A Rust peer that sent Disconnect listens no more; one of ours still delivers what its
    application had asked for.
    """

    __slots__ = ("_expected", "local_done", "received_bytes", "remote_done", "sent_bytes", "state")

    def __init__(self) -> None:
        self.state = State.WAITING
        self.sent_bytes = 0
        self.received_bytes = 0
        self.local_done = False
        self.remote_done = False
        self._expected = 0

    def opened(self) -> None:
        """The other end is there: data may flow."""
        self.state = State.OPEN

    def closed(self) -> None:
        """Nothing may flow any more."""
        self.state = State.CLOSED

    @property
    def is_done(self) -> bool:
        """True if neither end has anything left to send."""
        return self.state is State.CLOSED or (self.local_done and self.remote_done)

    def receive(self, message: bytes | bytearray | memoryview) -> tuple[Kind, memoryview]:
        """Check a message from the peer.

        Returns:
            Its kind and data. A Payload is data for the application.

        Raises:
            DecodeError: malformed.
            ProtocolError: not allowed now; the caller ignores it, as Ockam does, unless it says
                that data is missing, which the application must be told.
        """
        kind, data, counter = decode(message)
        if kind is Kind.PAYLOAD:
            if counter is not None and self.state is State.OPEN and message == RESET:
                raise ResetError("reset by the peer")
            if self.state is not State.OPEN or self.remote_done:
                raise ProtocolError(f"payload in state {self.state.value}")
            if counter is not None:
                if counter != self._expected:
                    raise MissingDataError(f"packet {counter} came instead of {self._expected}")
                self._expected = (self._expected + 1) & 0xFFFF
            self.received_bytes += len(data)
        elif kind is Kind.DISCONNECT:
            self.remote_done = True
        elif self.state is not State.WAITING:
            raise ProtocolError(f"{kind.name.lower()} in state {self.state.value}")
        return kind, data


class ResetError(ProtocolError):
    """The peer ended the connection with an error."""


class MissingDataError(ProtocolError):
    """The peer counts its packets and one is missing."""
