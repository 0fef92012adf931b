"""How often a device may begin a link."""

from __future__ import annotations

from transports.ble.visits import BURST, DEVICES, EVERY_S, Visits


def test_a_device_may_begin_a_few_links_at_once_and_then_one_each_time_that_passed() -> None:
    visits = Visits()
    assert [visits.admit("one", 100.0) for _ in range(BURST + 3)] == [True] * BURST + [False] * 3
    assert not visits.admit("one", 100.0 + EVERY_S / 2)
    assert visits.admit("one", 100.0 + EVERY_S)
    assert not visits.admit("one", 100.0 + EVERY_S)
    assert sum(visits.admit("one", 102.0 + EVERY_S + tick / 10) for tick in range(600)) == 60 / EVERY_S


def test_a_device_that_was_quiet_may_begin_as_many_again() -> None:
    visits = Visits()
    assert sum(visits.admit("one", 0.0) for _ in range(100)) == BURST
    later = BURST * EVERY_S
    assert sum(visits.admit("one", later) for _ in range(100)) == BURST


def test_devices_do_not_pay_for_each_other() -> None:
    visits = Visits()
    while visits.admit("one", 0.0):
        pass
    assert visits.admit("other", 0.0)


def test_no_more_devices_are_remembered_than_stated_and_the_busiest_stay() -> None:
    visits = Visits()
    for device in range(10 * DEVICES):
        visits.admit("busy", device * 0.01)
        assert visits.admit(str(device), device * 0.01)
        assert len(visits._paid_until) <= DEVICES
    assert not visits.admit("busy", 10 * DEVICES * 0.01)
