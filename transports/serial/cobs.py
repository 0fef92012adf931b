"""Frames on a line: COBS with CRC-32 between zero bytes. No I/O: bytes in, frames out.

    00 | COBS( frame | crc32 of the frame, little-endian ) | 00

COBS (Cheshire and Baker, 1999) removes every zero at the cost of a byte in 254. A zero therefore is
always the end of something, and whoever reads is in step again at the next one, whatever came before.
The zero in front may be left out while frames follow each other closely.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import Final

_CRC: Final = Struct("<I")
_RUN: Final = 254
"""Most bytes other than zero behind one code byte."""


def encode(data: bytes) -> bytes:
    """The bytes of ``data`` without zeros: 1 byte longer, and 1 more for each 254 without a zero."""
    out = bytearray()
    for part in data.split(b"\0"):
        at = 0
        while len(part) - at >= _RUN:
            out.append(0xFF)
            out += part[at : at + _RUN]
            at += _RUN
        out.append(len(part) - at + 1)
        out += part[at:]
    return bytes(out)


def decode(data: bytes) -> bytes | None:
    """Undo :func:`encode`; None if it was not made by it."""
    out = bytearray()
    at, end = 0, len(data)
    while at < end:
        code = data[at]
        stop = at + code
        if code == 0 or stop > end:
            return None
        out += data[at + 1 : stop]
        at = stop
        if code != 0xFF and at < end:
            out.append(0)
    # A run of 254 bytes at the end may or may not be followed by an empty one; ours always is.
    return None if 0 in data or not data else bytes(out)


def line_bytes(frame_bytes: int) -> int:
    """The most bytes that a frame occupies on the line, delimiters included."""
    inner = frame_bytes + _CRC.size
    return inner + inner // _RUN + 3


def pack(frame: bytes) -> bytes:
    """A frame as it goes on the line, with the zero behind it but not the one in front."""
    return encode(frame + _CRC.pack(zlib.crc32(frame))) + b"\0"


class Unpacker:
    """Cuts frames out of what comes over a line.

    Args:
        frame_bytes: the longest frame; longer ones are damage and are not kept.
    """

    __slots__ = ("_limit", "_rest", "_skipping", "noise", "printable")

    def __init__(self, frame_bytes: int) -> None:
        self._limit = line_bytes(frame_bytes)
        self._rest = bytearray()
        self._skipping = False
        self.noise = 0
        """Bytes so far that belonged to no good frame."""
        self.printable = 0
        """How many of them are text: a console or a boot loader writes those."""

    def feed(self, data: bytes) -> list[bytes | None]:
        """The frames that became whole, in order; None stands for one that is damaged."""
        out: list[bytes | None] = []
        pieces = data.split(b"\0")
        for piece in pieces[:-1]:
            self._add(piece, out)
            self._end(out)
        self._add(pieces[-1], out)
        return out

    def unframed(self) -> tuple[int, int]:
        """Bytes so far that belong to no good frame, unfinished ones included; how many are text."""
        return self.noise + len(self._rest), self.printable + _text_bytes(self._rest)

    def _add(self, piece: bytes, out: list[bytes | None]) -> None:
        if self._skipping:
            self._count(piece)
            return
        self._rest += piece
        if len(self._rest) > self._limit:
            self._count(self._rest)
            self._rest.clear()
            self._skipping = True
            out.append(None)

    def _end(self, out: list[bytes | None]) -> None:
        if self._skipping:
            self._skipping = False
            return
        if not self._rest:
            return
        whole = bytes(self._rest)
        self._rest.clear()
        inner = decode(whole)
        if inner is not None and len(inner) > _CRC.size:
            frame = inner[: -_CRC.size]
            if zlib.crc32(frame) == _CRC.unpack_from(inner, len(frame))[0]:
                out.append(frame)
                return
        self._count(whole)
        out.append(None)

    def _count(self, noise: bytes | bytearray) -> None:
        self.noise += len(noise)
        self.printable += _text_bytes(noise)


def _text_bytes(data: bytes | bytearray) -> int:
    return sum(0x20 <= byte < 0x7F or byte in b"\r\n\t\x1b" for byte in data)
