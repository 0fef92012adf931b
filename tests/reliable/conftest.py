"""Two engines joined by a line that exists only on a clock of its own: byte times, noise, faults."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.cbor import bytes_head
from ockamlite.routing.codec import encode_message_head
from ockamlite.routing.route import Route
from ockamlite.wire.reliable.engine import MessageReceived, ReliableLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.wire.reliable.events import Event
    from ockamlite.wire.reliable.profile import Profile

FRAMING_BYTES = 6
"""CRC-32, one octet of COBS and a delimiter; COBS adds another one per 254."""
IDLE_S = 0.1


def wire_bytes(frame: bytes) -> int:
    """How many bytes a frame takes on a serial line."""
    return len(frame) + FRAMING_BYTES + (len(frame) + 4) // 254


class Noise:
    """Where on a line the next bit is wrong: ten bits a byte, independent errors."""

    def __init__(self, bit_error_rate: float, seed: int) -> None:
        self._rate = bit_error_rate
        self._random = random.Random(seed)
        self._left = self._gap()

    def _gap(self) -> float:
        if not self._rate:
            return math.inf
        return math.log(1 - self._random.random()) / math.log(1 - self._rate)

    def hit_next(self) -> None:
        """Damage what comes next."""
        self._left = 0.0

    def hits(self, size: int) -> bool:
        """True if one of the next ``size`` bytes is damaged."""
        self._left -= size * 10
        if self._left >= 0:
            return False
        while self._left < 0:
            self._left += self._gap()
        return True


@dataclass
class End:
    """An engine, the line out of it, and what it told."""

    link: ReliableLink
    noise: Noise
    peer: End | None = None
    line_free_at: float = 0.0
    on_line: int = 0
    """Bytes in the driver's queue."""
    sent_bytes: int = 0
    frames: int = 0
    damaged: int = 0
    messages: list[tuple[float, bytes]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    armed: float | None = None
    cut: bool = False
    """What it sends gets lost."""


class Line:
    """A full-duplex serial line with two ends, driven by a clock of its own."""

    def __init__(
        self,
        profile: Profile,
        *,
        baud: float = 115_200,
        bit_error_rate: float = 0.0,
        seed: int = 1,
        queue_frames: int = 2,
        profiles: tuple[Profile, Profile] | None = None,
    ) -> None:
        self.now = 0.0
        self._rate = baud / 10
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._queue_bytes = queue_frames * (profile.payload_max + 12)
        first, second = profiles or (profile, profile)
        self.a = End(ReliableLink(first, session=0xA0000000 + seed, now=0.0), Noise(bit_error_rate, seed))
        self.b = End(ReliableLink(second, session=0xB0000000 + seed, now=0.0), Noise(bit_error_rate, -seed))
        self.a.peer, self.b.peer = self.b, self.a
        self.at(0.0, lambda: self.pump(self.a))
        self.at(0.0, lambda: self.pump(self.b))

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a time."""
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, action))

    def send(self, end: End, head: bytes, payload: bytes) -> None:
        """Queue a message at an end."""
        end.link.send(head, payload, self.now)
        self.pump(end)

    def pump(self, end: End) -> None:
        """What a shell does after every call."""
        budget = self._queue_bytes - end.on_line
        for frame in end.link.frames_to_send(self.now, budget):
            # After a pause a delimiter goes in front as well.
            size = wire_bytes(frame) + (self.now - end.line_free_at >= IDLE_S)
            end.on_line += size
            end.sent_bytes += size
            end.frames += 1
            end.line_free_at = max(end.line_free_at, self.now) + size / self._rate
            self.at(end.line_free_at, partial(self._arrive, end, frame, size))
        due = end.link.next_timer()
        if due is not None and (end.armed is None or due < end.armed):
            end.armed = due
            self.at(max(due, self.now), lambda: self._timer(end, due))

    def _arrive(self, end: End, frame: bytes, size: int) -> None:
        end.on_line -= size
        assert end.peer is not None
        if end.cut:
            pass
        elif end.noise.hits(size):
            end.damaged += 1
            end.peer.link.bad_frame(self.now)
        else:
            self.take(end.peer, end.peer.link.receive(frame, self.now))
        self.pump(end.peer)
        self.pump(end)

    def _timer(self, end: End, due: float) -> None:
        if end.armed != due:
            return
        end.armed = None
        wanted = end.link.next_timer()
        if wanted is not None and wanted <= self.now:
            self.take(end, end.link.on_timer(self.now))
        self.pump(end)

    def take(self, end: End, events: list[Event]) -> None:
        """Note what an engine told."""
        for event in events:
            if isinstance(event, MessageReceived):
                end.messages.append((self.now, event.message))
            else:
                end.events.append(event)

    def run(self, seconds: float = 60.0, until: Callable[[], bool] | None = None) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end and not (until is not None and until()):
            self.now, _, action = heapq.heappop(self._heap)
            action()
        if until is None:
            self.now = end

    def bring_up(self) -> None:
        """Run until both ends are up."""
        self.run(10.0, lambda: self.a.link.is_up and self.b.link.is_up)
        assert self.a.link.is_up
        assert self.b.link.is_up


@pytest.fixture
def line() -> Callable[..., Line]:
    """Make a line: profile, then baud, bit_error_rate, seed, queue_frames, profiles."""
    return Line


@pytest.fixture
def head() -> Callable[..., bytes]:
    """The head of a message of a flow."""

    def make(flow: str, payload: bytes) -> bytes:
        return encode_message_head(Route.of(f"to-{flow}"), Route.of(f"back-{flow}")) + bytes_head(
            len(payload)
        )

    return make


@pytest.fixture
def joined() -> Callable[..., Any]:
    """Exchange frames between two engines until both are silent; what each told."""

    def exchange(
        a: ReliableLink, b: ReliableLink, now: float = 0.0, budget: int = 1 << 20
    ) -> tuple[list[Event], list[Event]]:
        told: tuple[list[Event], list[Event]] = ([], [])
        for _ in range(10_000):
            ours, theirs = a.frames_to_send(now, budget), b.frames_to_send(now, budget)
            if not ours and not theirs:
                return told
            for frame in ours:
                told[1].extend(b.receive(frame, now))
            for frame in theirs:
                told[0].extend(a.receive(frame, now))
        raise AssertionError("the engines never fall silent")

    return exchange


@pytest.fixture(name="line_bytes")
def line_bytes_() -> Callable[[bytes], int]:
    """How many bytes a frame takes on a serial line."""
    return wire_bytes
