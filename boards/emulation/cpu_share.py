"""When a process has had its share of a processor, and for how long it has to stop then. Pure."""

from __future__ import annotations

from typing import Final

from ockamlite.errors import UsageError

_BURST_S: Final = 0.005
"""What may be used at once after a pause: less than anybody notices."""


class CpuShare:
    """Counts the processor time of a process against what it may use.

    Args:
        share: of one core, above 0; 1 and more is no limit.
    """

    def __init__(self, share: float) -> None:
        if share <= 0:
            raise UsageError(f"a share of {share:g} of a core is none")
        self.share = share
        self._credit_s = _BURST_S
        self._at: tuple[float, float] | None = None

    def pause_s(self, used_s: float, now: float) -> float:
        """How long the process has to stop; 0 if it may go on.

        Args:
            used_s: the processor time it has used since it began.
            now: seconds of a clock that never goes back.
        """
        if self.share >= 1:
            return 0.0
        used_before, before = self._at or (used_s, now)
        self._at = used_s, now
        # What was not used is lost, or a long rest would be followed by a time without limits.
        earned_s = self.share * (now - before)
        self._credit_s = min(_BURST_S, self._credit_s + earned_s - (used_s - used_before))
        return max(0.0, -self._credit_s / self.share)
