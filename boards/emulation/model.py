"""What a link does to packets: delays, loses, repeats, damages and reorders them. Pure; no clock.

One seed decides everything that happens: the same packets at the same times come out the same. Each
kind of fault draws from a sequence of its own, so that more of one leaves the others where they were.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple


class Outage(NamedTuple):
    """A time in which nothing passes, in seconds on the clock of ``now``; ``end_s`` is not part of it."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a link is like. The default is perfect: everything arrives at once."""

    bytes_per_s: float | None = None
    """Bandwidth; None: no limit."""
    queue_bytes: int | None = None
    """What may wait for the bandwidth; a packet that finds more is lost. None: no limit."""
    latency_s: float = 0.0
    jitter_s: float = 0.0
    """Up to so much is added to the latency, evenly; later packets do not overtake because of it."""
    loss_ratio: float = 0.0
    """Packets lost by themselves."""
    burst_ratio: float = 0.0
    """Chance of a packet to begin a burst of losses."""
    burst_packets: float = 4.0
    """Mean length of a burst."""
    duplicate_ratio: float = 0.0
    reorder_ratio: float = 0.0
    """Packets that are held up by ``reorder_s`` while others pass."""
    reorder_s: float = 0.05
    corrupt_ratio: float = 0.0
    """Packets in which one bit is turned."""
    mtu_bytes: int | None = None
    """Longer packets are lost."""
    outages: tuple[Outage, ...] = ()

    def __post_init__(self) -> None:
        names = ("loss_ratio", "burst_ratio", "duplicate_ratio", "reorder_ratio", "corrupt_ratio")
        wrong = [name for name in names if not 0.0 <= getattr(self, name) <= 1.0]
        if wrong:
            raise ValueError(f"{wrong[0]} is not 0 to 1")
        if self.burst_packets < 1.0 or min(self.latency_s, self.jitter_s, self.reorder_s) < 0.0:
            raise ValueError("a burst has one packet at least, and no delay is negative")
        if self.bytes_per_s is not None and self.bytes_per_s <= 0.0:
            raise ValueError("a link without bandwidth is an outage")


PERFECT = Conditions()


class Delivery(NamedTuple):
    """A packet that arrives."""

    at: float
    packet: bytes


@dataclass(slots=True)
class Counts:
    """What happened so far."""

    sent: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0


class LinkModel:
    """One direction of a link.

    Args:
        conditions: what it is like; may be replaced at any time.
        seed: decides everything.
    """

    def __init__(self, conditions: Conditions = PERFECT, *, seed: int = 0) -> None:
        self.conditions = conditions
        self.counts = Counts()
        self._loss = random.Random(f"{seed} loss")  # noqa: S311  (emulation)
        self._burst = random.Random(f"{seed} burst")  # noqa: S311
        self._delay = random.Random(f"{seed} delay")  # noqa: S311
        self._reorder = random.Random(f"{seed} reorder")  # noqa: S311
        self._repeat = random.Random(f"{seed} duplicate")  # noqa: S311
        self._damage = random.Random(f"{seed} corrupt")  # noqa: S311
        self._burst_left = 0
        self._free_at = 0.0
        """When the link will have taken what was sent."""
        self._last_at = 0.0

    def send(self, packet: bytes, now: float) -> list[Delivery]:
        """Send a packet at ``now``, which never goes back; what arrives of it, and when."""
        it = self.conditions
        self.counts.sent += 1
        # All are drawn for every packet, so that what happens to one does not change the luck of others.
        lost = self._is_lost()
        jitter = self._delay.random() * it.jitter_s
        late = self._reorder.random() < it.reorder_ratio
        twice = self._repeat.random() < it.duplicate_ratio
        damaged = self._damage.random() < it.corrupt_ratio
        position = self._damage.random()
        if any(start <= now < end for start, end in it.outages):
            lost = True
        if it.mtu_bytes is not None and len(packet) > it.mtu_bytes:
            lost = True
        gone_at = self._gone_at(len(packet), now)
        if lost or gone_at is None:
            self.counts.lost += 1
            return []
        at = max(gone_at + it.latency_s + jitter, self._last_at)
        if late:
            self.counts.reordered += 1
            at += it.reorder_s
        else:
            self._last_at = at
        if damaged and packet:
            self.counts.corrupted += 1
            packet = _with_bit_turned(packet, int(position * 8 * len(packet)))
        self.counts.delivered += 1
        if not twice:
            return [Delivery(at, packet)]
        self.counts.duplicated += 1
        return [Delivery(at, packet), Delivery(at + jitter, packet)]

    def _gone_at(self, size: int, now: float) -> float | None:
        """When the last byte has left; None if the queue is full."""
        it = self.conditions
        if it.bytes_per_s is None:
            return now
        waiting = max(0.0, self._free_at - now) * it.bytes_per_s
        if it.queue_bytes is not None and waiting + size > it.queue_bytes:
            return None
        self._free_at = max(now, self._free_at) + size / it.bytes_per_s
        return self._free_at

    def _is_lost(self) -> bool:
        it = self.conditions
        alone = self._loss.random() < it.loss_ratio
        if self._burst_left:
            self._burst_left -= 1
            return True
        if self._burst.random() < it.burst_ratio:
            while self._burst.random() < 1.0 - 1.0 / it.burst_packets:
                self._burst_left += 1
            return True
        return alone


def _with_bit_turned(packet: bytes, bit: int) -> bytes:
    out = bytearray(packet)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)
