"""What the benchmarks compute and print, without measuring anything."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from benchmarks import pattern
from benchmarks.errors import WrongBytesError
from benchmarks.figures import Spread, percentile, ratios, straight_line
from benchmarks.links import Figure, Run, figures_table
from benchmarks.links.figure import attempt
from benchmarks.links.serial import CASES, serial
from benchmarks.report import LINKS, TUNNELS, markdown, placed
from benchmarks.tables import ABSENT, Column, Table, round_table


def test_a_spread_is_the_median_between_the_extremes():
    assert Spread.of([9.0, 1.0, 4.0]) == Spread(4.0, 1.0, 9.0)
    assert Spread.of([1.0, 2.0]).middle == 1.5


def test_a_spread_that_prints_alike_is_one_number():
    assert Spread(4.0, 1.0, 9.0).text(0) == "4 (1..9)"
    assert Spread(1.01, 1.0, 1.02).text(1) == "1.0"


def test_no_values_have_neither_spread_nor_percentile():
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_percentile_is_a_value_that_occurred(share, value):
    assert percentile(list(range(100, 0, -1)), share) == value


def test_ratios_are_taken_within_a_round():
    # The machine doubled its speed between the rounds; the ratio did not change.
    assert ratios({0: 10.0, 1: 20.0}, {0: 5.0, 1: 10.0}) == [2.0, 2.0]


def test_a_round_without_both_sides_has_no_ratio():
    assert ratios({0: 10.0, 1: 20.0, 2: 30.0}, {1: 10.0, 2: 0.0}) == [2.0]


def test_a_straight_line_is_found_exactly():
    line = straight_line([(1, 5.0), (2, 7.0), (8, 19.0)])
    assert (line.slope, line.offset, line.fit) == pytest.approx((2.0, 3.0, 1.0))


def test_points_off_the_line_lower_the_fit():
    assert straight_line([(1, 1.0), (2, 4.0), (3, 9.0), (8, 64.0)]).fit < 0.98


def test_one_x_makes_no_line():
    with pytest.raises(ValueError, match="two different x"):
        straight_line([(1, 1.0), (1, 2.0)])


COLUMNS = (Column("up", "up", ratio=True), Column("cpu", "cpu", 1))
RESULTS = {
    "ssh": {0: {"up": 100.0, "cpu": 2.0}, 1: {"up": 200.0, "cpu": 2.0}},
    "ours": {0: {"up": 150.0}, 1: {"up": 300.0}},
}


def test_a_row_shows_spread_ratio_and_what_is_missing():
    table = round_table("Bulk", COLUMNS, RESULTS, base="ssh")
    assert list(table.headings) == ["", "up", "x ssh", "cpu"]
    assert [list(row) for row in table.rows] == [
        ["ssh", "150 (100..200)", "1.00", "2.0"],
        ["ours", "225 (150..300)", "1.50", ABSENT],
    ]


def test_without_its_base_a_table_has_no_ratios():
    table = round_table("Bulk", COLUMNS, {"ours": RESULTS["ours"]}, base="ssh")
    assert list(table.headings) == ["", "up", "cpu"]


def test_text_columns_line_up():
    lines = Table("T", ["", "MiB/s"], [["a", "1"], ["longer", "1000"]], ["note"]).text().splitlines()
    assert lines[2:] == ["        MiB/s", "------  -----", "a           1", "longer   1000", "  note"]


def test_a_markdown_cell_cannot_end_its_cell():
    text = Table("T", ["", "x"], [["a|b", "1"]]).markdown()
    assert text.splitlines() == ["### T", "", "|  | x |", "| --- | ---: |", "| a\\|b | 1 |"]


def _generated(part, title):
    return markdown(part, [Table(title, ["", "x"], [["a", "1"]])], {"kernel": "Linux"}, "python", [])


@pytest.mark.parametrize("part", [TUNNELS, LINKS])
def test_a_generated_part_replaces_itself_and_spares_the_prose(part):
    document = placed(part, "# Performance\n\nBefore.\n", _generated(part, "One")) + "\nAfter.\n"
    again = placed(part, document, _generated(part, "Two"))
    assert again.startswith("# Performance\n\nBefore.\n")
    assert again.endswith(f"{part.end}\n\nAfter.\n")
    assert "### Two" in again
    assert "### One" not in again
    assert again.count(part.begin) == 1


def test_each_generated_part_spares_the_other():
    document = placed(LINKS, placed(TUNNELS, "", _generated(TUNNELS, "Tunnels")), _generated(LINKS, "Links"))
    again = placed(TUNNELS, placed(LINKS, document, _generated(LINKS, "L2")), _generated(TUNNELS, "T2"))
    assert again == document.replace("### Tunnels", "### T2").replace("### Links", "### L2")


@pytest.mark.parametrize("part", [TUNNELS, LINKS])
def test_an_empty_document_gets_a_heading(part):
    assert placed(part, "", f"{part.begin}\n{part.end}\n").startswith("# Performance\n")


def test_a_figure_is_shown_beside_what_is_possible_and_what_was_to_be_reached():
    figure = Figure.rate("9,600 Bd", [816.0], limit=960.0, least_share=0.9)
    table = figures_table("Lines", [figure])
    assert [list(row) for row in table.rows] == [
        ["9,600 Bd", "816 B/s", "960 B/s", "85.0%", "≥ 90%", "**no**"],
    ]


def test_large_rates_are_told_in_megabytes():
    row = Figure.rate("air", [1.5e6, 2.5e6, 9e6], limit=5e6, least=1e6).row()
    assert row == ["air", "2.5 (1.5..9.0) MB/s", "5.0 MB/s", "50.0%", "≥ 1.0 MB/s", "yes"]


@pytest.mark.parametrize(
    ("aims", "reached"),
    [
        ({}, None),
        ({"least": 4.0}, True),
        ({"least": 4.1}, False),
        ({"most": 6.0}, True),
        ({"most": 5.9}, False),  # the worst counts
        ({"limit": 8.0, "least_share": 0.5}, True),
        ({"limit": 8.0, "least_share": 0.51}, False),
        ({"limit": 8.0}, None),
    ],
)
def test_an_aim_is_reached_or_not(aims, reached):
    assert Figure("it", [2.0, 4.0, 6.0], "s", **aims).is_reached is reached


def test_a_measurement_that_fails_is_noted_and_ends_no_run():
    failures: list[str] = []

    def failing():
        raise WrongBytesError("other bytes")

    assert attempt(failures, "it", failing) is None
    assert failures == ["it failed: WrongBytesError: other bytes"]
    assert attempt(failures, "that", lambda: 3) == 3


def test_links_are_measured_in_virtual_time_the_same_each_time():
    run = Run(rounds=1, quick=True, ockamlite=())
    table = serial(run)
    assert table == serial(run)
    reached = [row[-1] for row in table.rows]
    assert len(reached) == 2 * len(CASES) + 1
    assert "**no**" not in reached


def _received(sent):
    """What the receiver says to these bytes."""
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(10)
        far.settimeout(10)

        def send():
            with suppress(OSError):  # the receiver closes at the first difference
                for piece in sent:
                    near.sendall(piece)
                near.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            return pattern.receive(far)
        finally:
            far.close()
            sender.join()


def test_the_pattern_arrives_as_it_was_sent():
    near, far = socket.socketpair()
    with near, far:
        sender = threading.Thread(target=pattern.send, args=(near, lambda number: number < 5))
        sender.start()
        assert pattern.receive(far) == 5
        sender.join()


def test_blocks_differ_from_each_other():
    assert len({bytes(pattern.block(number)) for number in range(20)}) == 20


@pytest.mark.parametrize(
    "sent",
    [
        [pattern.block(0), pattern.block(2)],  # lost
        [pattern.block(0), pattern.block(0)],  # repeated
        [pattern.block(1), pattern.block(0)],  # exchanged
        [bytes(pattern.block(0)[:-1]) + b"\0"],  # changed
        [pattern.block(0), pattern.block(1)[:100]],  # cut off
    ],
)
def test_any_other_bytes_are_noticed(sent):
    with pytest.raises(WrongBytesError):
        _received(sent)
