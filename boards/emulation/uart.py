"""What a serial wire does to bytes: takes its time, turns bits, loses bytes, garbles another baud. Pure.

A byte goes as a start bit (0), eight data bits from the lowest, and a stop bit (1); an idle line is 1. A
turned data bit changes the byte; a turned start or stop bit loses it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

_FRAME_BITS = 10


@dataclass(frozen=True, slots=True)
class Noise:
    """How bad a wire is."""

    bit_error_ratio: float = 0.0
    """Chance of each bit to be turned, start and stop bits included."""
    gap_ratio: float = 0.0
    """Chance of each byte to begin a gap: bytes lost in a row, as a slow interrupt loses them."""
    gap_bytes: int = 16
    """Longest gap."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.bit_error_ratio < 1.0 and 0.0 <= self.gap_ratio < 1.0 and self.gap_bytes >= 1):
            raise ValueError("ratios are at least 0 and below 1, and a gap has a byte")


QUIET = Noise()


class Wire:
    """One direction of a line.

    Args:
        noise: how bad it is; may be replaced at any time.
        seed: decides everything.
    """

    def __init__(self, noise: Noise = QUIET, *, seed: int = 0) -> None:
        self.noise = noise
        self.is_cut = False
        """True: nothing passes, and who sends does not notice."""
        self.turned_bits = 0
        self.lost_bytes = 0
        self._bits = random.Random(f"{seed} bits")  # noqa: S311  (emulation)
        self._gaps = random.Random(f"{seed} gaps")  # noqa: S311

    def carry(self, data: bytes, sent_baud: int = 0, read_baud: int = 0) -> bytes:
        """What arrives of ``data``."""
        if self.is_cut:
            self.lost_bytes += len(data)
            return b""
        if self.noise.bit_error_ratio:
            data = self._with_errors(data)
        if self.noise.gap_ratio:
            data = self._with_gaps(data)
        if abs(sent_baud - read_baud) > 0.03 * read_baud:
            data = misread(data, sent_baud, read_baud)
        return data

    def _with_errors(self, data: bytes) -> bytes:
        out = bytearray()
        done = 0
        scale = math.log1p(-self.noise.bit_error_ratio)
        bit = -1
        while True:
            # From one turned bit to the next, which is cheaper than to ask for each.
            bit += 1 + int(math.log(1.0 - self._bits.random()) / scale)
            at, place = divmod(bit, _FRAME_BITS)
            if at >= len(data):
                return bytes(out + data[done:])
            out += data[done:at]
            done = max(done, at)
            self.turned_bits += 1
            if done > at:
                continue  # the byte has been dealt with
            done = at + 1
            if place in (0, _FRAME_BITS - 1):
                self.lost_bytes += 1
            else:
                out.append(data[at] ^ 1 << (place - 1))

    def _with_gaps(self, data: bytes) -> bytes:
        out = bytearray()
        left = 0
        for byte in data:
            if not left and self._gaps.random() < self.noise.gap_ratio:
                left = self._gaps.randint(1, self.noise.gap_bytes)
            if left:
                left -= 1
                self.lost_bytes += 1
            else:
                out.append(byte)
        return bytes(out)


def misread(data: bytes, sent_baud: int, read_baud: int) -> bytes:
    """What a UART at ``read_baud`` makes of bytes sent at ``sent_baud`` one behind the other."""
    levels = [level for byte in data for level in (0, *(byte >> n & 1 for n in range(8)), 1)]
    per_bit = sent_baud / read_baud
    out = bytearray()
    at = 0.0
    end = len(levels)

    def level(time: float) -> int:
        return levels[int(time)] if time < end else 1

    while at < end:
        if levels[int(at)]:
            at = math.floor(at) + 1.0
            continue
        # The middle of each bit, counted from the falling edge.
        out.append(sum(level(at + (n + 1.5) * per_bit) << n for n in range(8)))
        at += 9.5 * per_bit
        while at < end and not levels[int(at)]:
            at = math.floor(at) + 1.0  # no stop bit: wait for the line to be idle
    return bytes(out)
