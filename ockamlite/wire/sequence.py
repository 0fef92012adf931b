"""Messages put back into the order of their routing numbers, where networks let one overtake another.

Even a machine's own loopback does, when the sender moves to another core. No I/O, no clock.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from ockamlite.wire.datagrams import ROUTING_NUMBERS

T = TypeVar("T")

PATIENCE_S: Final = 0.05
"""How long a message waits for one before it: overtaking is a matter of milliseconds, on a busy machine of
tens of them."""
_MOST_HELD: Final = 64
_NEVER: Final = float("inf")


class Sequence(Generic[T]):
    """Releases what comes in order, a gap being waited for only so long.

    What comes after its place was given up is dropped: better lost than out of order. None stands for a
    number that holds nothing to hand on; heartbeats pass messages that are still being sent, so that they
    do not show that anything is missing.
    """

    def __init__(self) -> None:
        self.lost = 0
        """How many numbers were passed over, so far."""
        self._next = -1
        self._held: dict[int, T | None] = {}
        self._given_up: dict[int, None] = {}
        self._due = _NEVER

    def passed(self, number: int) -> None:
        """Message ``number`` was handed on without us, as it was not yet known that its row is the peer's."""
        if self._next < 0 or (number - self._next) % ROUTING_NUMBERS <= ROUTING_NUMBERS // 2:
            self._next = (number + 1) % ROUTING_NUMBERS

    def arrived(self, number: int, item: T | None, now: float) -> list[T]:
        """Take the message ``number``; what can be handed on now."""
        if self._next < 0:
            if item is None:
                # It may have passed the first message, or be of a number that says nothing.
                if len(self._held) < _MOST_HELD:
                    self._held[number] = None
                return []
            self._next = number
            self._held = {n: None for n in self._held if (n - number) % ROUTING_NUMBERS <= _MOST_HELD}
        ahead = (number - self._next) % ROUTING_NUMBERS
        if ahead > ROUTING_NUMBERS // 2:
            # From before the first we saw, or a peer that started anew; or too late.
            return [] if item is None or number in self._given_up else [item]
        if ahead > _MOST_HELD:
            if item is None:
                return []  # of what need not arrive, or is for strangers, the number says nothing
            self.lost += ahead - len(self._held)
            released = self._all()
            self._next = (number + 1) % ROUTING_NUMBERS
            return released if item is None else [*released, item]
        self._held[number] = item
        before = self._next
        released = self._ready()
        self._wait(now, afresh=self._next != before)
        return released

    def next_timer(self) -> float:
        """When :meth:`on_timer` is due; infinite if never."""
        return self._due

    def on_timer(self, now: float) -> list[T]:
        """Give up what has been waited for; what can be handed on instead."""
        if now < self._due:
            return []
        nearest = min(self._held, key=lambda number: (number - self._next) % ROUTING_NUMBERS)
        while self._next != nearest:
            self._given_up[self._next] = None
            self.lost += 1
            if len(self._given_up) > 16 * _MOST_HELD:
                del self._given_up[next(iter(self._given_up))]
            self._next = (self._next + 1) % ROUTING_NUMBERS
        released = self._ready()
        self._wait(now, afresh=True)
        return released

    def _wait(self, now: float, *, afresh: bool) -> None:
        """Wait for what is missing before the first message held."""
        if not any(item is not None for item in self._held.values()):
            self._due = _NEVER
        elif afresh or self._due == _NEVER:
            self._due = now + PATIENCE_S

    def _ready(self) -> list[T]:
        released = []
        while self._next in self._held:
            item = self._held.pop(self._next)
            if item is not None:
                released.append(item)
            self._given_up.pop(self._next, None)
            self._next = (self._next + 1) % ROUTING_NUMBERS
        return released

    def _all(self) -> list[T]:
        order = sorted(self._held, key=lambda number: (number - self._next) % ROUTING_NUMBERS)
        released = [item for number in order if (item := self._held[number]) is not None]
        self._held.clear()
        self._due = _NEVER
        return released
