"""What strangers repeat is counted, and worth a line each time it has doubled."""

from __future__ import annotations

from ockamlite.routing.tally import Tallies, Tally


def test_a_thousand_times_are_worth_ten_lines() -> None:
    tally = Tally()
    assert [number for number in range(1, 1001) if tally.add()] == [2**n for n in range(10)]
    assert tally.count == 1000


def test_the_noise_of_one_does_not_hide_another() -> None:
    tallies = Tallies()
    assert [count for _ in range(1000) if (count := tallies.add("noisy"))] == [2**n for n in range(10)]
    assert tallies.add("quiet") == 1


def test_a_million_names_of_a_stranger_are_worth_few_lines_and_little_memory() -> None:
    tallies = Tallies()
    lines = sum(tallies.add(number) > 0 for number in range(1_000_000))
    assert lines < 100
    assert len(tallies._tallies) == 64
