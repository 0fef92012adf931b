"""A process that may use a part of a core is stopped when it has used that; with made-up times."""

from __future__ import annotations

import pytest

from boards.emulation.cpu_share import CpuShare
from ockamlite.errors import UsageError


def run(share: float, seconds: float, *, step_s: float = 0.001) -> float:
    """What a process uses in so many seconds that never waits for anything."""
    cpu = CpuShare(share)
    now = used = 0.0
    while now < seconds:
        now += cpu.pause_s(used, now)
        now += step_s
        used += step_s
    return used


@pytest.mark.parametrize("share", [0.05, 0.168, 0.5, 0.9])
@pytest.mark.parametrize("step_s", [0.001, 0.05])
def test_who_never_waits_gets_its_share_and_no_more(share: float, step_s: float) -> None:
    assert run(share, 100, step_s=step_s) == pytest.approx(100 * share, rel=0.02)


def test_who_waits_is_not_stopped() -> None:
    cpu = CpuShare(0.2)
    assert [cpu.pause_s(0.001 * n, 0.01 * n) for n in range(100)] == [0.0] * 100


def test_a_long_rest_is_not_saved_up() -> None:
    cpu = CpuShare(0.1)
    cpu.pause_s(0.0, 0.0)
    cpu.pause_s(0.0, 3600.0)
    assert cpu.pause_s(0.1, 3600.1) == pytest.approx((0.1 - 0.005 - 0.01) / 0.1, rel=0.1)


def test_a_whole_core_is_no_limit() -> None:
    cpu = CpuShare(1.0)
    assert [cpu.pause_s(float(n), float(n) / 4) for n in range(100)] == [0.0] * 100


def test_no_share_at_all_is_refused() -> None:
    with pytest.raises(UsageError):
        CpuShare(0)
