"""Ockam's datagrams: a routing message cut into pieces.

Two dialects share one version byte. Dialect A (up to Ockam 0.144) says where a piece begins and whether it
is the last; dialect B (since 0.145) says which of how many it is. Element 3 tells them apart.

    A   [1, number, byte offset of the piece, is_last, piece]
    B   [1, number, index of the piece,       total,   piece]

No I/O; :mod:`ockamlite.wire.reassembly` puts the pieces together again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from ockamlite.cbor import bytes_head
from ockamlite.errors import DecodeError
from ockamlite.routing.codec import array_at, array_head, bytes_at, skip_slots

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTING_NUMBERS: Final = 1 << 16
OVERHEAD_BYTES: Final = 15
"""What a datagram holds besides its piece, at the most; one byte more than needed, as in Rust."""
SMALL_DATAGRAM_BYTES: Final = 508
"""What every peer can receive: the receive buffer of Rust peers is no larger."""
MOST_PIECES: Final = (1 << 16) - 1

_FALSE: Final = 0xF4
_TRUE: Final = 0xF5
_SLOTS: Final = 5


class Dialect(Enum):
    """How a datagram says which piece it holds."""

    A = "a"
    B = "b"


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a routing message."""

    dialect: Dialect
    number: int
    """Which message it belongs to; consecutive, modulo 65536."""
    place: int
    """Dialect A: the offset of its first byte. Dialect B: its index."""
    total: int
    """Dialect A: 1 if it is the last piece, else 0. Dialect B: how many pieces there are."""
    data: bytes


def encode_piece(piece: Piece) -> bytes:
    """The datagram that holds ``piece``."""
    is_last = bytes((_TRUE if piece.total else _FALSE,))
    ending = is_last if piece.dialect is Dialect.A else _uint(piece.total)
    head = array_head(_SLOTS) + b"\x01" + _uint(piece.number) + _uint(piece.place) + ending
    return head + bytes_head(len(piece.data)) + piece.data


def decode_piece(datagram: bytes | memoryview) -> Piece:
    """Read a datagram of either dialect; the version, and whatever follows the piece, is not looked at.

    Raises:
        DecodeError: it is neither.
    """
    count, at = array_at(datagram, 0)
    if 0 <= count < _SLOTS:
        raise DecodeError(f"datagram of {count} slots")
    _, at = _uint_at(datagram, at, 0xFF)
    number, at = _uint_at(datagram, at, 0xFFFF)
    if at >= len(datagram):
        raise DecodeError("a datagram ends early")
    place, at = _uint_at(datagram, at, 0xFFFF_FFFF)
    third = datagram[at] if at < len(datagram) else -1
    if third in (_FALSE, _TRUE):
        dialect, total, at = Dialect.A, third - _FALSE, at + 1
    else:
        dialect = Dialect.B
        total, at = _uint_at(datagram, at, 0xFFFF)
        if place >= total:
            raise DecodeError(f"piece {place} of {total}")
    start, end = bytes_at(datagram, at)
    if count != _SLOTS:
        skip_slots(datagram, end, count - _SLOTS if count > 0 else -1)
    if start == end and not (total if dialect is Dialect.A else place == total - 1):
        raise DecodeError("an empty piece that is not the last")
    return Piece(dialect, number, place, total, bytes(datagram[start:end]))


def split(message: bytes, number: int, dialect: Dialect, datagram_bytes: int) -> Iterator[bytes]:
    """Cut ``message`` into datagrams of at most ``datagram_bytes``; never an empty piece behind others."""
    size = datagram_bytes - OVERHEAD_BYTES
    total = max(1, -(-len(message) // size))
    for index in range(total):
        data = message[index * size : (index + 1) * size]
        if dialect is Dialect.A:
            piece = Piece(dialect, number, index * size, int(index == total - 1), data)
        else:
            piece = Piece(dialect, number, index, total, data)
        yield encode_piece(piece)


def _uint(value: int) -> bytes:
    if value < 24:
        return bytes((value,))
    if value < 0x100:
        return bytes((0x18, value))
    if value < 0x10000:
        return b"\x19" + value.to_bytes(2, "big")
    return b"\x1a" + value.to_bytes(4, "big")


def _uint_at(data: bytes | memoryview, at: int, most: int) -> tuple[int, int]:
    first = data[at] if at < len(data) else 0xFF
    if first < 24:
        return first, at + 1
    end = at + 1 + (1 << (first - 24)) if first <= 27 else 0
    if not end or end > len(data):
        raise DecodeError("a number of a datagram is missing or ends early")
    value = int.from_bytes(data[at + 1 : end], "big")
    if value > most:
        raise DecodeError(f"number {value} in a datagram, allowed are 0 to {most}")
    return value, end
