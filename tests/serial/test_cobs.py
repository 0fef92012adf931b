"""Framing of a serial line: exact bytes, and in step again after anything."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.serial.cobs import Unpacker, decode, encode, line_bytes, pack

FRAMES = st.binary(min_size=1, max_size=1024)
RUN = bytes(range(1, 255))


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        (b"", "01"),
        (b"\0", "01 01"),
        (b"\0\0", "01 01 01"),
        (b"\x0b\x16\0\x21", "03 0b 16 02 21"),
        (b"\x0b\x16\x21\x2c", "05 0b 16 21 2c"),
        (b"\x0b\0\0\0", "02 0b 01 01 01"),
        (RUN, "ff" + RUN.hex() + "01"),
        (RUN + b"\xff", "ff" + RUN.hex() + "02ff"),
        (b"\0" + RUN, "01ff" + RUN.hex() + "01"),
    ],
)
def test_encoding_is_as_published_but_for_the_end_of_a_full_run(data: bytes, encoded: str) -> None:
    assert encode(data) == bytes.fromhex(encoded)
    assert decode(encode(data)) == data


@given(st.binary(max_size=2000))
def test_encoding_holds_no_zero_and_is_undone(data: bytes) -> None:
    encoded = encode(data)
    assert 0 not in encoded
    assert len(encoded) <= len(data) + len(data) // 254 + 1
    assert decode(encoded) == data


@given(st.binary(max_size=600))
def test_decoding_takes_whatever_comes(data: bytes) -> None:
    decoded = decode(data)
    assert decoded is None or 0 not in data


@pytest.mark.parametrize("wrong", [b"", b"\x05abc", b"\x02\0", b"\x03a\0"])
def test_what_no_encoder_makes_is_refused(wrong: bytes) -> None:
    assert decode(wrong) is None


def test_a_frame_on_the_line_is_its_bytes_and_crc_and_a_zero() -> None:
    crc = zlib.crc32(b"frame").to_bytes(4, "little")
    assert pack(b"frame") == b"\x0aframe" + crc + b"\0"


@given(FRAMES)
def test_a_frame_is_never_longer_on_the_line_than_was_said(frame: bytes) -> None:
    assert len(b"\0" + pack(frame)) <= line_bytes(len(frame))


@given(st.lists(FRAMES, max_size=8), st.integers(1, 500), st.booleans())
def test_frames_come_out_whole_and_in_order_however_they_are_cut(
    frames: list[bytes], cut: int, leading: bool
) -> None:
    stream = b"".join(b"\0" * leading + pack(frame) for frame in frames)
    unpacker = Unpacker(1024)
    out = [f for at in range(0, len(stream), cut) for f in unpacker.feed(stream[at : at + cut])]
    assert out == frames
    assert unpacker.noise == 0


@given(st.binary(max_size=300), FRAMES)
def test_after_any_noise_a_frame_with_a_zero_in_front_comes_out(noise: bytes, frame: bytes) -> None:
    unpacker = Unpacker(1024)
    out = unpacker.feed(noise) + unpacker.feed(b"\0" + pack(frame))
    assert out[-1] == frame


def test_one_damaged_byte_anywhere_costs_two_frames_at_most_and_never_makes_one() -> None:
    rng = random.Random(5)
    frames = [rng.randbytes(20) for _ in range(5)]
    stream = b"".join(pack(frame) for frame in frames)
    for at in range(len(stream)):
        for value in (0, stream[at] ^ 0x40, stream[at] ^ 1):
            damaged = stream[:at] + bytes([value]) + stream[at + 1 :]
            good = [frame for frame in Unpacker(1024).feed(damaged) if frame is not None]
            assert set(good) <= set(frames)
            assert len(good) >= 3


def test_a_lost_byte_anywhere_costs_two_frames_at_most() -> None:
    frames = [bytes([n]) * 20 for n in range(5)]
    stream = b"".join(pack(frame) for frame in frames)
    for at in range(len(stream)):
        good = [f for f in Unpacker(1024).feed(stream[:at] + stream[at + 1 :]) if f is not None]
        assert set(good) <= set(frames)
        assert len(good) >= 3


def test_endless_noise_is_not_kept_and_is_told_once() -> None:
    unpacker = Unpacker(256)
    out = [piece for _ in range(1000) for piece in unpacker.feed(b"\x55" * 1000)]
    assert out == [None]
    assert len(unpacker._rest) == 0
    assert unpacker.noise == 1_000_000
    assert unpacker.feed(b"\0" + pack(b"frame")) == [b"frame"]


def test_a_frame_longer_than_allowed_is_damage() -> None:
    unpacker = Unpacker(100)
    assert unpacker.feed(pack(bytes(100))) == [bytes(100)]
    assert unpacker.feed(pack(bytes(120))) == [None]


def test_text_of_a_boot_loader_is_known_as_such() -> None:
    unpacker = Unpacker(1024)
    unpacker.feed(b"\r\nU-Boot 2023.04 (Apr 03 2023)\r\nHit any key to stop autoboot\r\n\0")
    assert unpacker.printable == unpacker.noise > 40
