"""The frames of a reliable link, and the check that binds each to its session. No I/O.

    HELLO, HELLO_ACK   type 00000 | version | session: u32 | echo: u32 | payload: u16 |
                       window | log2 message | crc32: u32
    DATA               type F L slot | ack | seq | payload | check: u16
    ACK, PONG          type D 0 000  | ack | received: 0 to 4 octets | check: u16
    PING, BYE          type 00000    | ack | check: u16

Numbers are big-endian, ``received`` is a little-endian bit map without its last zero octets. ``check``
is the complement of a CRC-16 (polynomial 0x1021) whose start value both ends know and nobody sends: the
two sessions, in order, and the upper bits of ``seq`` and ``ack``. So a frame of an older session, an
echo of our own, or a frame from 256 numbers ago does not pass, at no cost in bytes.
"""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass
from struct import Struct
from typing import Final
from zlib import crc32

from ockamlite.errors import DecodeError
from ockamlite.wire.reliable.events import Parameters

VERSION: Final = 1

HELLO: Final = 1
HELLO_ACK: Final = 2
DATA: Final = 3
ACK: Final = 4
PING: Final = 5
PONG: Final = 6
BYE: Final = 7

FIRST: Final = 0x10
"""DATA: the first fragment of a message."""
LAST: Final = 0x08
"""DATA: the last one."""
DAMAGED: Final = 0x10
"""ACK: a frame came that could not be read."""
SLOTS: Final = 8
SLOT_MASK: Final = 7
MAX_WINDOW: Final = 32
"""What the bit map can tell of."""

CHECK_BYTES: Final = 2
DATA_HEAD_BYTES: Final = 3
DATA_OVERHEAD_BYTES: Final = DATA_HEAD_BYTES + CHECK_BYTES
LEAST_PAYLOAD_BYTES: Final = 8
"""The shortest payload an end may ask for: the first fragment holds the length and the reference."""
RESIDUE: Final = 0x1D0F
"""The CRC over a whole frame, check included; not 0, or zeros behind a frame would go unnoticed."""
LEAST_BYTES: Final = 2 + CHECK_BYTES
"""The shortest frame there is."""

_HELLO: Final = Struct(">BBIIHBB")
_CRC: Final = Struct(">I")
HELLO_BYTES: Final = _HELLO.size + _CRC.size
"""Fits the smallest GATT value."""


@dataclass(frozen=True, slots=True)
class Hello:
    """How a link begins. ``echo`` is the session heard from the other end, 0 if none."""

    version: int
    session: int
    echo: int
    parameters: Parameters | None
    """None if the version is not ours: then only what stands in front is known."""

    def encode(self, *, answer: bool) -> bytes:
        """The frame: a HELLO, or as the ``answer`` to one a HELLO_ACK."""
        assert self.parameters is not None  # noqa: S101  (only what was received has none)
        body = _HELLO.pack(
            (HELLO_ACK if answer else HELLO) << 5,
            self.version,
            self.session,
            self.echo,
            self.parameters.payload_bytes,
            self.parameters.window,
            self.parameters.message_bytes.bit_length() - 1,
        )
        return body + _CRC.pack(crc32(body))

    @classmethod
    def decode(cls, frame: bytes) -> Hello:
        """Read a HELLO or HELLO_ACK.

        Raises:
            DecodeError: damaged, or parameters that nobody may offer.
        """
        # Later versions may be longer; these fields and the checksum stay where they are.
        if len(frame) < HELLO_BYTES or _CRC.unpack_from(frame, len(frame) - 4)[0] != crc32(frame[:-4]):
            raise DecodeError("a damaged HELLO")
        octet, version, session, echo, payload, window, message = _HELLO.unpack_from(frame)
        if version != VERSION:
            return cls(version, session, echo, None)
        if len(frame) != HELLO_BYTES or octet & 0x1F or not session:
            raise DecodeError("a malformed HELLO")
        if not (payload >= LEAST_PAYLOAD_BYTES and 1 <= window <= MAX_WINDOW and 8 <= message <= 31):
            raise DecodeError("a HELLO with parameters out of range")
        return cls(version, session, echo, Parameters(payload, window, 1 << message))


def session_seed(sender: int, receiver: int) -> int:
    """Where the check of frames from ``sender`` to ``receiver`` starts."""
    return crc32(_CRC.pack(sender) + _CRC.pack(receiver)) & 0xFFFF


def check_start(seed: int, seq: int, ack: int) -> int:
    """The start value of a frame's check.

    Args:
        seed: of the sessions and the direction.
        seq: the whole number of a DATA frame, 0 for others.
        ack: the whole number acknowledged.
    """
    return seed ^ ((seq >> 8) * 0x9E37 + (ack >> 8) * 0x85EB) & 0xFFFF


def encode_data(octet: int, ack: int, seq: int, payload: bytes, seed: int) -> bytes:
    """A DATA frame; ``octet`` has type, flags and slot."""
    head = bytes((octet, ack & 0xFF, seq & 0xFF))
    check = crc_hqx(payload, crc_hqx(head, check_start(seed, seq, ack))) ^ 0xFFFF
    return b"".join((head, payload, check.to_bytes(2, "big")))


def encode_control(octet: int, ack: int, seed: int, received: int = 0) -> bytes:
    """An ACK, PONG, PING or BYE; ``received`` is the bit map, bit 0 for number ``ack`` itself."""
    body = bytes((octet, ack & 0xFF)) + received.to_bytes((received.bit_length() + 7) // 8, "little")
    return body + (crc_hqx(body, check_start(seed, 0, ack)) ^ 0xFFFF).to_bytes(2, "big")


def is_intact(frame: bytes, seed: int, seq: int, ack: int) -> bool:
    """True if the check of a frame holds for the whole numbers it abbreviates."""
    return crc_hqx(frame, check_start(seed, seq, ack)) == RESIDUE


def whole_ack(low: int, next_seq: int) -> int:
    """The whole number that ``low`` abbreviates: the nearest that was sent, or negative."""
    return next_seq - ((next_seq - low) & 0xFF)


def whole_seq(low: int, expected: int) -> int:
    """The whole number that ``low`` abbreviates: the nearest to ``expected``; may be negative."""
    return expected + ((low - expected + 128) & 0xFF) - 128
