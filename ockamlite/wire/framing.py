"""Ockam's framing of a byte stream: a version byte once, then frames with a 32-bit length.

    01 | length: u32 big-endian | length bytes of CBOR | length | …

No I/O: bytes in, frames out.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from ockamlite.errors import DecodeError
from ockamlite.limits import LIMITS

VERSION: Final = b"\x01"
"""The only version; Ockam 0.128 and later."""
LENGTH: Final = Struct(">I")
LENGTH_BYTES: Final = 4


def check_version(byte: int) -> None:
    """Check the first byte a peer sent.

    Raises:
        DecodeError: another protocol, or another version of this one; says which where it shows.
    """
    if byte == VERSION[0]:
        return
    guess = {0x16: "it looks like TLS", 0x53: "it looks like SSH"}.get(
        byte, "it looks like HTTP" if byte in b"CDGHOPT" else "no Ockam node sends that"
    )
    raise DecodeError(f"first byte {byte:#04x} is not Ockam's version 1: {guess}")


def check_length(length: int, limit: int = LIMITS.message_bytes) -> None:
    """Check the length in the head of a frame.

    Raises:
        DecodeError: zero, or more than ``limit`` bytes.
    """
    if not 0 < length <= limit:
        raise DecodeError(f"frame of {length} bytes, allowed are 1 to {limit}")
