"""How often each device may begin a link with us. No I/O.

Whoever connects, says HELLO and leaves, over and over, makes this end build up and take down a link each
time, and takes one of the few places of the adapter. Addresses can be made up: this keeps a device that
does not know what it does, or one attacker with one radio, from costing much; it keeps nobody from jamming.
"""

from __future__ import annotations

from typing import Final

BURST: Final = 8
"""Links that a device may begin at once: more than a dialler tries in a minute that goes badly."""
EVERY_S: Final = 2.0
"""And then one each two seconds: the time in which a radio notices that a link is gone."""
DEVICES: Final = 256
"""Devices remembered; of more, those are forgotten that have been quiet for longest."""


class Visits:
    """Counts the links that devices begin."""

    def __init__(self) -> None:
        self._paid_until: dict[str, float] = {}
        """When the links of a device so far will all have been due."""

    def admit(self, device: str, now: float) -> bool:
        """Count one link; False if it came too soon, and does not count."""
        paid = max(self._paid_until.get(device, now), now)
        if paid + EVERY_S > now + BURST * EVERY_S:
            return False
        self._paid_until.pop(device, None)
        if len(self._paid_until) >= DEVICES:
            self._forget(now)
        self._paid_until[device] = paid + EVERY_S
        return True

    def _forget(self, now: float) -> None:
        for device in [known for known, paid in self._paid_until.items() if paid <= now]:
            del self._paid_until[device]
        if len(self._paid_until) >= DEVICES:
            del self._paid_until[next(iter(self._paid_until))]
