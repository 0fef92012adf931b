"""The receiving half: numbers, what came out of order, messages put together. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ockamlite.bare import decode_uint
from ockamlite.cbor import bytes_head
from ockamlite.errors import ProtocolError
from ockamlite.wire.reliable.compression import MOST_PREFIX_BYTES, HeadReader
from ockamlite.wire.reliable.frames import FIRST, LAST, SLOT_MASK, SLOTS

if TYPE_CHECKING:
    from ockamlite.wire.reliable.profile import Profile

_WHOLE: Final = FIRST | LAST


class ReceiveWindow:
    """DATA frames in, acknowledgements due, frames out in sequence."""

    def __init__(self, profile: Profile, window: int) -> None:
        self._profile = profile
        self._window = window
        self.next = 0
        """The number expected next."""
        self.is_held = False
        """True while nothing is taken out; the window then fills and the sender waits."""
        self.ack_now = False
        self.ack_at: float | None = None
        """When an acknowledgement must be sent at the latest; None if none is owed."""
        self._waiting: dict[int, tuple[int, bytes]] = {}
        self._unacknowledged = 0

    @property
    def received(self) -> int:
        """The bit map of what waits: bit 0 for the number expected next."""
        bits = 0
        for seq in self._waiting:
            bits |= 1 << (seq - self.next)
        return bits

    @property
    def has_gap(self) -> bool:
        """True if the bit map is needed to tell what came."""
        return bool(self._waiting)

    def acknowledged(self) -> None:
        """Note that the state of this window was sent."""
        self.ack_now = False
        self.ack_at = None
        self._unacknowledged = 0

    def receive(self, seq: int, octet: int, payload: bytes, now: float) -> bool:
        """Take a frame; true if something can be taken out."""
        if not self.next <= seq < self.next + self._window or seq in self._waiting:
            self.ack_now = True  # a frame sent again because our acknowledgement was lost
            return False
        in_sequence = seq == self.next and not self._waiting
        self._waiting[seq] = (octet, payload)
        self._unacknowledged += 1
        if not in_sequence or self._unacknowledged >= self._profile.ack_every:
            self.ack_now = True
        elif self.ack_at is None:
            self.ack_at = now + self._profile.ack_delay_s
        return not self.is_held and self.next in self._waiting

    def take(self) -> tuple[int, bytes] | None:
        """The next frame in sequence."""
        if self.is_held:
            return None
        frame = self._waiting.pop(self.next, None)
        if frame is not None:
            self.next += 1
        return frame


class Reassembly:
    """Fragments in sequence in, whole messages out."""

    def __init__(self, budget_bytes: int) -> None:
        self._most = budget_bytes + MOST_PREFIX_BYTES
        self._budget = budget_bytes + SLOTS * MOST_PREFIX_BYTES
        self._reader = HeadReader()
        self._slots: list[bytearray | None] = [None] * SLOTS
        self._missing = [0] * SLOTS
        """Bytes that each slot still waits for."""
        self._announced = [0] * SLOTS

    def add(self, octet: int, payload: bytes) -> bytes | None:
        """Add the next fragment; the message if it is whole with it.

        Raises:
            DecodeError: a reference that cannot be read.
            ProtocolError: fragments that do not belong together, or more than is allowed.
        """
        if octet & _WHOLE == _WHOLE:
            return self._whole(payload)
        slot = octet & SLOT_MASK
        fragments = self._slots[slot]
        if octet & FIRST:
            if fragments is not None:
                raise ProtocolError(f"a message begins in slot {slot} before the one in it has ended")
            size, at = decode_uint(payload, 0)
            if size > self._most or sum(self._announced) + size > self._budget:
                raise ProtocolError(f"message of {size} bytes, more than is allowed")
            self._announced[slot] = size
            self._slots[slot] = bytearray(payload[at:])
            self._missing[slot] = size - len(payload) + at
        elif fragments is None:
            raise ProtocolError(f"a fragment in slot {slot}, in which no message has begun")
        else:
            fragments += payload
            self._missing[slot] -= len(payload)
        missing = self._missing[slot]
        if not octet & LAST:
            if missing <= 0:
                raise ProtocolError(f"message in slot {slot} is longer than announced")
            return None
        if missing or fragments is None:
            raise ProtocolError(f"message in slot {slot} is not of the length announced")
        self._slots[slot] = None
        self._announced[slot] = 0
        return self._whole(bytes(fragments))

    def _whole(self, content: bytes) -> bytes:
        head, at = self._reader.define(content)
        if head is None:
            return content[at:]
        payload = content[at:]
        return b"".join((head, bytes_head(len(payload)), payload))
