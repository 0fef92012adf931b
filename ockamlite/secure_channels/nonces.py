"""The encrypted stream: nonces that count up, a new key every 32 messages, a wide window to receive.

A packet is ``nonce (8 bytes, big-endian) || ciphertext || tag (16 bytes)``: AES-256-GCM without
associated data, nonce preceded by four zero bytes. ``key[n // 32 + 1] = REKEY(key[n // 32])`` (Noise
rev 34, §4.2), the counter runs on. No I/O, no clock.

What the receiver remembers of the past is which messages of an interval of 32 are missing, and
that interval's key, erased with the last of them. Messages in order leave nothing behind.
"""

from __future__ import annotations

from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Final, NamedTuple

from ockamlite.errors import ClosedError, DecodeError, ProtocolError, VerificationError
from ockamlite.limits import LIMITS
from ockamlite.vault.primitives import KEY_BYTES, TAG_BYTES, Aead

if TYPE_CHECKING:
    from ockamlite.routing.codec import Data

NONCE_BYTES: Final = 8
OVERHEAD_BYTES: Final = NONCE_BYTES + TAG_BYTES

_INTERVAL_BITS: Final = 5
_INTERVAL: Final = 1 << _INTERVAL_BITS
_ALL_MISSING: Final = (1 << _INTERVAL) - 1
_NEVER: Final = (1 << 64) - 1  # the nonce of REKEY itself
_REKEY_NONCE: Final = bytes(4) + b"\xff" * 8
_NONCE: Final = Struct(">Q")
_COPIED_BYTES: Final = 1024
"""Up to here a packet is put together from pieces, which is quicker than to write into a buffer."""
_tuple_new: Final = tuple.__new__


def rekey(cipher: Aead) -> bytes:
    """The key of the next interval."""
    return cipher.seal(_REKEY_NONCE, bytes(KEY_BYTES), None)[:KEY_BYTES]


class Sealer:
    """The sending half of a channel."""

    __slots__ = ("_cipher", "_nonce", "_turn")

    def __init__(self, key: bytes) -> None:
        self._cipher = Aead(key)
        self._nonce = 0
        self._turn = _INTERVAL
        """The nonce that needs another key than the current one."""

    @property
    def sent(self) -> int:
        """How many messages were sealed."""
        return self._nonce

    def seal(self, plaintext: Data) -> bytes | bytearray:
        """Encrypt one message.

        Raises:
            ClosedError: all nonces are used.
        """
        if len(plaintext) > _COPIED_BYTES:
            buffer = bytearray(len(plaintext) + OVERHEAD_BYTES)
            self.seal_into(buffer, 0, plaintext)
            return buffer
        nonce = self._nonce
        if nonce == self._turn:
            self._next_interval()
        full = nonce.to_bytes(12, "big")
        packet = full[4:] + self._cipher.seal(full, plaintext, None)
        self._nonce = nonce + 1
        return packet

    def seal_into(self, buffer: bytearray | memoryview, at: int, plaintext: Data) -> int:
        """Encrypt one message to ``buffer[at:]``, which must not overlap ``plaintext``.

        Returns:
            The position behind the packet: it takes ``OVERHEAD_BYTES`` more than the plaintext.

        Raises:
            ClosedError: all nonces are used.
        """
        nonce = self._nonce
        if nonce == self._turn:
            self._next_interval()
        end = at + OVERHEAD_BYTES + len(plaintext)
        full = nonce.to_bytes(12, "big")
        self._cipher.seal_into(full, plaintext, None, memoryview(buffer)[at + NONCE_BYTES : end])
        buffer[at : at + NONCE_BYTES] = full[4:]
        self._nonce = nonce + 1
        return end

    def _next_interval(self) -> None:
        if self._turn == _NEVER:
            raise ClosedError("the channel has used all its nonces")
        self._cipher = Aead(rekey(self._cipher))
        self._turn = min(self._turn + _INTERVAL, _NEVER)


class RekeyBudget:
    """How many keys unauthenticated nonces may make us derive: so many per second, for all channels."""

    __slots__ = ("_full", "_left", "_since")

    def __init__(self, per_second: int = LIMITS.speculative_rekeys_per_s) -> None:
        self._full = per_second
        self._left = float(per_second)
        self._since = 0.0

    def take(self, keys: int, now: float) -> bool:
        """True if ``keys`` may be derived now; ``now`` in seconds, of a clock that never goes back."""
        self._left = min(self._full, self._left + (now - self._since) * self._full)
        self._since = now
        if keys > self._left:
            return False
        self._left -= keys
        return True


class _Interval:
    """An interval of the past of which messages are missing."""

    __slots__ = ("key", "missing")

    def __init__(self, key: bytes, missing: int) -> None:
        self.key = key
        self.missing = missing
        """Bit i stands for the interval's i-th nonce."""


class Opened(NamedTuple):
    """A packet that holds."""

    plaintext: bytes
    gap: bool
    """True if messages before it did not come yet: whoever needs all of them, in order, lost."""
    late: bool
    """True if newer ones came before it."""


class Opener:
    """The receiving half of a channel.

    Accepts each nonce once: ahead of the newest by at most ``LIMITS.forward_jump_messages``, behind it
    by at most ``LIMITS.backlog_messages``. Whatever is refused leaves the window as it was.
    """

    __slots__ = (
        "_ahead",
        "_budget",
        "_cipher",
        "_interval",
        "_key",
        "_missing",
        "_next",
        "_open",
        "_past",
        "_turn",
    )

    def __init__(self, key: bytes, budget: RekeyBudget) -> None:
        self._budget = budget
        self._key = key
        self._cipher = Aead(key)
        self._open = self._cipher.open_raw
        self._next = 0
        """One more than the newest nonce accepted."""
        self._interval = 0
        """The interval of the newest nonce; its key is the current one."""
        self._turn = _INTERVAL
        """The nonce behind it."""
        self._missing = 0
        """What did not come yet of the current interval, below ``_next``."""
        self._past: dict[int, _Interval] = {}
        self._ahead: list[bytes] = []
        """Keys of the intervals to come, as far as somebody made us derive them."""

    @property
    def expected(self) -> int:
        """The nonce that comes next if nothing is lost."""
        return self._next

    def open(self, packet: Data, now: float) -> Opened:
        """Check and decrypt one packet.

        Args:
            packet: nonce, ciphertext and tag.
            now: seconds, for the budget of derived keys.

        Raises:
            DecodeError: too short.
            ProtocolError: it came before, is too far behind or ahead.
            VerificationError: it is not authentic.
        """
        try:
            nonce: int = _NONCE.unpack_from(packet)[0]
        except struct_error as error:
            raise DecodeError(f"packet of {len(packet)} bytes is too short") from error
        if nonce != self._next or nonce == self._turn:
            return self._open_out_of_turn(nonce, packet, now)
        try:
            plaintext = self._open(nonce.to_bytes(12, "big"), memoryview(packet)[NONCE_BYTES:], None)
        except Aead.WRONG as error:
            raise VerificationError("authentication tag does not fit") from error
        self._next = nonce + 1
        return _tuple_new(Opened, (plaintext, False, False))

    def _open_out_of_turn(self, nonce: int, packet: Data, now: float) -> Opened:
        skipped = nonce - self._next
        if skipped < 0:
            return self._open_late(nonce, packet)
        if skipped >= LIMITS.forward_jump_messages or nonce == _NEVER:
            raise ProtocolError(f"nonce {nonce} is too far ahead of {self._next}")
        number = nonce >> _INTERVAL_BITS
        cipher = self._cipher
        if number > self._interval:
            cipher = Aead(self._key_ahead(number - self._interval, now))
        plaintext = cipher.open(nonce.to_bytes(12, "big"), memoryview(packet)[NONCE_BYTES:], None)
        # Authentic: only now anything changes.
        if number > self._interval:
            self._enter(number, cipher)
        self._missing |= _bits(max(self._next, number << _INTERVAL_BITS), nonce)
        self._next = nonce + 1
        return Opened(plaintext, gap=skipped > 0, late=False)

    def _open_late(self, nonce: int, packet: Data) -> Opened:
        number = nonce >> _INTERVAL_BITS
        bit = 1 << (nonce & (_INTERVAL - 1))
        past = self._past.get(number)
        current = self._missing if number == self._interval else 0
        missing = current if past is None else past.missing
        if not missing & bit or self._next - 1 - nonce > LIMITS.backlog_messages:
            raise ProtocolError(f"message {nonce} came before or is too late")
        cipher = self._cipher if past is None else Aead(past.key)
        plaintext = cipher.open(nonce.to_bytes(12, "big"), memoryview(packet)[NONCE_BYTES:], None)
        if past is None:
            self._missing ^= bit
        elif missing == bit:
            del self._past[number]
        else:
            past.missing ^= bit
        return Opened(plaintext, gap=False, late=True)

    def _key_ahead(self, intervals: int, now: float) -> bytes:
        """The key of the interval so many after the current one; derived at most once."""
        ahead = self._ahead
        needed = intervals - len(ahead)
        # The next one is free: it is due, and no flood elsewhere may keep it from us.
        if needed > 0 and intervals > 1 and not self._budget.take(needed, now):
            raise ProtocolError("too many packets from far ahead")
        while len(ahead) < intervals:
            ahead.append(rekey(Aead(ahead[-1]) if ahead else self._cipher))
        return ahead[intervals - 1]

    def _enter(self, number: int, cipher: Aead) -> None:
        """Make a later interval the current one; keep the keys of those of which messages are missing."""
        intervals = number - self._interval
        # What is missing of intervals before this one is too late, whichever nonce comes first.
        oldest = ((number << _INTERVAL_BITS) - LIMITS.backlog_messages) >> _INTERVAL_BITS
        if self._past:
            self._past = {past: entry for past, entry in self._past.items() if past >= oldest}
        missing = self._missing | _bits(self._next, self._turn)
        key = self._key
        for passed in range(self._interval, number):
            if missing and passed >= oldest:
                self._past[passed] = _Interval(key, missing)
            key = self._ahead[passed - self._interval]
            missing = _ALL_MISSING
        del self._ahead[:intervals]
        self._key = key
        self._cipher = cipher
        self._open = cipher.open_raw
        self._missing = 0
        self._interval = number
        self._turn = min((number + 1) << _INTERVAL_BITS, _NEVER)


def _bits(first: int, end: int) -> int:
    """The nonces from ``first`` up to but not including ``end``, all of one interval, as bits."""
    return ((1 << (end - first)) - 1) << (first & (_INTERVAL - 1)) if end > first else 0
