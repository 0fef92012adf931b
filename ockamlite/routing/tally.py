"""Counting what strangers can cause as often as they like, and saying so only now and then."""

from __future__ import annotations


class Tally:
    """How often something happened; it is worth a line of log each time that has doubled."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> bool:
        """Count one; True for the 1st, 2nd, 4th, 8th…: a flood must not become a flood of log lines."""
        self.count += 1
        return self.count & (self.count - 1) == 0
