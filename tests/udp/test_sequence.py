"""The order of messages restored: whatever overtakes what, nothing is handed on late or twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite.wire.sequence import PATIENCE_S, Sequence


def test_what_was_overtaken_is_put_back_in_order() -> None:
    row: Sequence[str] = Sequence()
    assert row.arrived(65_535, "a", 0.0) == ["a"]
    assert row.arrived(1, "c", 0.0) == []
    assert row.arrived(2, "d", 0.0) == []
    assert row.arrived(0, "b", 0.001) == ["b", "c", "d"]
    assert row.next_timer() == float("inf")


def test_a_gap_is_waited_for_only_so_long_and_what_comes_later_is_dropped() -> None:
    row: Sequence[str] = Sequence()
    row.arrived(5, "a", 0.0)
    assert row.arrived(8, "d", 1.0) == []
    assert row.next_timer() == pytest.approx(1.0 + PATIENCE_S)
    assert row.on_timer(1.0) == []
    assert row.on_timer(row.next_timer()) == ["d"]
    assert row.lost == 2
    assert row.arrived(7, "c", 2.0) == []
    assert row.arrived(9, "e", 2.0) == ["e"]
    assert row.lost == 2


def test_a_heartbeat_that_passes_a_long_message_does_not_make_it_late() -> None:
    row: Sequence[str] = Sequence()
    row.arrived(5, "a", 0.0)
    assert row.arrived(7, None, 0.0) == []
    assert row.next_timer() == float("inf")
    assert row.arrived(6, "long", 9.0) == ["long"]
    assert row.arrived(8, "b", 9.0) == ["b"]


def test_a_heartbeat_of_a_far_number_moves_nothing() -> None:
    row: Sequence[str] = Sequence()
    assert row.arrived(40_000, None, 0.0) == []
    assert row.arrived(5, "a", 0.0) == ["a"]
    assert row.arrived(5 + 32_768, None, 0.0) == []
    assert row.arrived(20_000, None, 0.0) == []
    assert row.arrived(6, "b", 0.0) == ["b"]
    assert row.lost == 0


def test_what_is_missing_behind_messages_that_were_handed_on_before_is_missed() -> None:
    row: Sequence[str] = Sequence()
    row.passed(65_535)
    row.passed(65_534)
    assert row.arrived(0, None, 0.0) == []
    assert row.arrived(2, "c", 0.0) == []
    timer = row.next_timer()
    assert timer is not None
    assert row.on_timer(timer) == ["c"]
    assert row.lost == 1


def test_a_heartbeat_that_passes_the_first_message_leaves_no_gap() -> None:
    row: Sequence[str] = Sequence()
    assert row.arrived(6, None, 0.0) == []
    assert row.arrived(5, "a", 0.0) == ["a"]
    assert row.arrived(7, "b", 0.0) == ["b"]
    assert row.lost == 0


def test_a_jump_to_far_numbers_counts_what_it_passes_over() -> None:
    row: Sequence[str] = Sequence()
    row.arrived(5, "a", 0.0)
    row.arrived(8, "d", 0.0)
    assert row.arrived(100, "z", 0.0) == ["d", "z"]
    assert row.lost == 93


def test_a_peer_that_starts_anew_is_heard_at_once() -> None:
    row: Sequence[str] = Sequence()
    row.arrived(5, "a", 0.0)
    assert row.arrived(30_000, "far", 0.0) == ["far"]
    assert row.arrived(30_001, "next", 0.0) == ["next"]
    assert row.arrived(10, "older", 0.0) == ["older"]


@given(
    st.permutations(range(20)), st.lists(st.floats(0, 0.06), min_size=20, max_size=20), st.integers(0, 65_535)
)
def test_in_whatever_order_they_come_they_leave_in_order_and_once(
    order: list[int], pauses: list[float], base: int
) -> None:
    row: Sequence[int] = Sequence()
    out = row.arrived(base, 0, 0.0)
    now = 0.0
    for number, pause in zip(order, pauses, strict=True):
        now += pause
        out += row.on_timer(now)
        out += row.arrived((base + 1 + number) % 65_536, number + 1, now)
    while row.next_timer() != float("inf"):
        out += row.on_timer(row.next_timer())
    assert out == sorted(set(out))
    if sum(pauses) < PATIENCE_S:
        assert out == list(range(21))
