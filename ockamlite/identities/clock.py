"""A clock that cannot be right is worse than none: every check of validity rests on it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ockamlite.errors import ClockError

CLOCK_FLOOR: Final = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
"""Before this program was written."""


def check_clock(now: float, *, floor: int = CLOCK_FLOOR) -> None:
    """Refuse to work with a clock that stands before ``floor``, as after a power loss without battery.

    Args:
        now: seconds since 1970.
        floor: the earliest time that can be true.

    Raises:
        ClockError: the clock stands before it.
    """
    if now < floor:
        shown = datetime.fromtimestamp(max(now, 0), UTC).date()
        raise ClockError(
            f"this machine's clock stands at {shown}, which cannot be",
            hint="set the clock, or wait until it is synchronized (timedatectl status)",
        )
