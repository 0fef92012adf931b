"""Our GATT service: what the two ends of a Bluetooth LE link find and say before the link's own HELLO.

    service                         7a1e0001-5c3b-4d09-9f6e-6f636b616d6c
    RX    write without response    7a1e0002-…   frames towards the peripheral, one per value
    TX    notify                    7a1e0003-…   frames towards the central, one per value
    INFO  read                      7a1e0004-…   version: u8 | flags: u8 | longest value: u16 big-endian

Bit 0 of the flags says that the peripheral serves another central and can serve no more; the others are 0 and
ignored when read, octets behind the fourth as well. The central reads INFO once: the answer proves that the
connection lives, and tells another version before the first frame.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import Struct
from typing import Final

from ockamlite.errors import DecodeError, ProtocolError, UsageError

SERVICE: Final = "7a1e0001-5c3b-4d09-9f6e-6f636b616d6c"
RX: Final = "7a1e0002-5c3b-4d09-9f6e-6f636b616d6c"
TX: Final = "7a1e0003-5c3b-4d09-9f6e-6f636b616d6c"
INFO: Final = "7a1e0004-5c3b-4d09-9f6e-6f636b616d6c"

VERSION: Final = 1
LEAST_VALUE_BYTES: Final = 20
"""What fits the smallest ATT MTU, 23."""
MOST_VALUE_BYTES: Final = 495
"""Two link-layer packets of 251 octets; values may have 512, but some stacks lose those longer than this."""
ATT_HEAD_BYTES: Final = 3
NAME_BYTES: Final = 29
"""What a scan response has room for."""

_INFO: Final = Struct(">BBH")
_BUSY: Final = 1
_DIGITS: Final = re.compile(r"[0-9a-f]{12}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def value_bytes(mtu: int) -> int:
    """The longest value that we send at an ATT MTU."""
    return max(LEAST_VALUE_BYTES, min(mtu - ATT_HEAD_BYTES, MOST_VALUE_BYTES))


def encode_info(*, is_busy: bool = False) -> bytes:
    """What INFO reads as."""
    return _INFO.pack(VERSION, _BUSY if is_busy else 0, MOST_VALUE_BYTES)


def check_info(value: bytes) -> bool:
    """Check what INFO of a peer reads as; True if it can serve us, False if it serves another.

    Raises:
        DecodeError: too short.
        ProtocolError: another version.
    """
    if len(value) < _INFO.size:
        raise DecodeError(f"INFO of {len(value)} bytes is too short")
    if value[0] != VERSION:
        raise ProtocolError(
            f"the device speaks version {value[0]} of the link over Bluetooth LE, we {VERSION}"
        )
    return not value[1] & _BUSY


@dataclass(frozen=True, slots=True)
class Advertisement:
    """A device of which a scan heard."""

    address: str
    """As the system writes it; six octets with colons on Linux."""
    name: str
    """Empty if it tells none."""
    services: tuple[str, ...]
    rssi: int
    """Signal strength in dBm, nearer to 0 is stronger."""
    handle: object = None
    """What the radio needs to connect to it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which device an endpoint means: ``ble:NAME``, ``ble:ADDRESS``, ``ble:UUID`` of a service, ``ble:*``."""

    text: str

    def matches(self, heard: Advertisement) -> bool:
        """True if ``heard`` is the device; whatever it is, it must offer our service."""
        if SERVICE not in heard.services:
            return False
        text = self.text
        if text in ("*", heard.name):
            return True
        folded = text.lower()
        if _UUID.fullmatch(folded):
            return folded in heard.services
        return folded.replace(":", "") == heard.address.lower().replace(":", "")

    @property
    def might_be_address(self) -> bool:
        """True if it is written as an address."""
        return _DIGITS.fullmatch(self.text.lower().replace(":", "")) is not None


def check_name(name: str) -> str:
    """Check a name to advertise.

    Raises:
        UsageError: a device could not be called so, or not be found by it.
    """
    size = len(name.encode())
    if size > NAME_BYTES:
        raise UsageError(
            f"the name {name!r} has {size} bytes, an advertisement has room for {NAME_BYTES}",
            hint="a shorter name",
        )
    wanted = Wanted(name)
    if name == "*" or wanted.might_be_address or _UUID.fullmatch(name.lower()) or not name.isprintable():
        raise UsageError(f"{name!r} is not a name that a device can be found by", hint="listen at ble:NAME")
    return name
