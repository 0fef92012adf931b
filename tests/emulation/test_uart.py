"""What a serial wire does to bytes, bit by bit."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boards.emulation.uart import Noise, Wire, misread

DATA = random.Random(7).randbytes(100_000)


def test_a_quiet_wire_changes_nothing() -> None:
    assert Wire().carry(DATA) == DATA


def test_the_same_seed_gives_the_same_noise_however_the_bytes_are_cut() -> None:
    one, two = (Wire(Noise(bit_error_ratio=1e-3, gap_ratio=1e-3), seed=3) for _ in range(2))
    assert one.carry(DATA) == two.carry(DATA)
    assert one.carry(DATA) != DATA


def test_bits_are_turned_as_often_as_the_ratio_says() -> None:
    wire = Wire(Noise(bit_error_ratio=1e-4), seed=1)
    wire.carry(DATA)
    assert 60 < wire.turned_bits < 140  # 100 of a million


def test_a_fifth_of_the_turned_bits_lose_their_byte() -> None:
    wire = Wire(Noise(bit_error_ratio=1e-3), seed=1)
    arrived = wire.carry(DATA)
    assert len(arrived) == len(DATA) - wire.lost_bytes
    assert 0.15 < wire.lost_bytes / wire.turned_bits < 0.25


def test_a_gap_loses_bytes_in_a_row() -> None:
    wire = Wire(Noise(gap_ratio=1e-4, gap_bytes=16), seed=1)
    arrived = wire.carry(bytes(range(256)) * 200)
    assert len(arrived) == 256 * 200 - wire.lost_bytes < 256 * 200
    jumps = [(b - a) % 256 for a, b in itertools.pairwise(arrived)]
    assert 1 < max(jumps) <= 33


def test_a_cut_wire_carries_nothing() -> None:
    wire = Wire()
    wire.is_cut = True
    assert wire.carry(DATA) == b""


@given(st.binary(min_size=1, max_size=50), st.sampled_from([9600, 57_600, 115_200]))
def test_a_reader_of_the_same_baud_reads_what_was_sent(data: bytes, baud: int) -> None:
    assert misread(data, baud, baud) == data


@given(st.binary(min_size=1, max_size=50))
def test_two_percent_off_is_read_all_the_same(data: bytes) -> None:
    assert misread(data, 102_000, 100_000) == data


@pytest.mark.parametrize(("sent", "read"), [(115_200, 57_600), (9600, 115_200), (115_200, 9600)])
def test_another_baud_reads_garbage_of_another_length(sent: int, read: int) -> None:
    garbage = Wire().carry(DATA[:1000], sent, read)
    assert garbage
    assert garbage not in DATA
    assert 0.02 < len(garbage) * sent / read / 1000 < 1.5


@pytest.mark.parametrize("wrong", [{"bit_error_ratio": 1.0}, {"gap_ratio": -0.1}, {"gap_bytes": 0}])
def test_impossible_noise_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ratios"):
        Noise(**wrong)  # type: ignore[arg-type]
