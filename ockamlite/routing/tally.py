"""Counting what strangers can cause as often as they like, and saying so only now and then."""

from __future__ import annotations

from typing import Final

_MOST: Final = 64
"""Counted apart; strangers can be as many as they like, so all who come later are counted together."""


class Tally:
    """How often something happened; it is worth a line of log each time that has doubled."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> bool:
        """Count one; True for the 1st, 2nd, 4th, 8th…: a flood must not become a flood of log lines."""
        self.count += 1
        return self.count & (self.count - 1) == 0


class Tallies:
    """A tally for each of many, so that the noise of one does not hide what another does."""

    __slots__ = ("_rest", "_tallies")

    def __init__(self) -> None:
        self._tallies: dict[object, Tally] = {}
        self._rest = Tally()

    def add(self, whose: object) -> int:
        """Count one of ``whose`` (hashable); how many there were if that is worth a line of log, else 0."""
        tally = self._tallies.get(whose, self._rest)
        if tally is self._rest and len(self._tallies) < _MOST:
            tally = self._tallies[whose] = Tally()
        return tally.count if tally.add() else 0
