"""A clock before the time of the program is refused."""

from __future__ import annotations

import pytest

from ockamlite.errors import StateError
from ockamlite.identities.clock import CLOCK_FLOOR, check_clock


def test_w23_a_clock_before_the_floor_is_refused_with_a_hint() -> None:
    check_clock(CLOCK_FLOOR)
    with pytest.raises(StateError, match="2025-12-31") as raised:
        check_clock(CLOCK_FLOOR - 1)
    assert "clock" in raised.value.hint


@pytest.mark.parametrize("now", [0, -5, 1.5])
def test_a_clock_that_was_never_set_is_refused(now: float) -> None:
    with pytest.raises(StateError, match="1970"):
        check_clock(now)
