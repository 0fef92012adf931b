"""A link on a serial line at 115,200 Bd, on a clock of its own: speed under noise, delay, idle cost."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.wire.reliable.events import LinkDown, LinkUp
from ockamlite.wire.reliable.profile import SERIAL, Profile

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Any]

BYTES_PER_S = 11_520
CHUNK = bytes(range(256)) * 16


def goodput(line: Any, head: Callable[..., bytes], size: int) -> float:
    """Send ``size`` bytes from a to b, some 16 KiB waiting; share of the line used by payload."""
    line.bring_up()
    start, count = line.now, size // len(CHUNK)
    sent = 0
    while len(line.b.messages) < count:
        while line.a.link.queued_bytes < 16_384 and sent < count:
            line.send(line.a, head("bulk", CHUNK), CHUNK)
            sent += 1
        line.run(0.02)
        assert line.a.link.is_up
    assert all(message.endswith(CHUNK) for _, message in line.b.messages)
    assert len(line.b.messages) == count
    return float(size / (line.b.messages[-1][0] - start) / BYTES_PER_S)


@pytest.mark.parametrize(
    ("bit_error_rate", "least"), [(0.0, 0.95), (1e-6, 0.94), (1e-5, 0.90), (1e-4, 0.70), (5e-4, 0.25)]
)
@pytest.mark.parametrize("seed", [1, 2])
def test_noise_costs_little_more_than_what_it_destroys(
    line: Make, head: Make, bit_error_rate: float, least: float, seed: int
) -> None:
    assert goodput(line(SERIAL, bit_error_rate=bit_error_rate, seed=seed), head, 256 * 1024) >= least


@pytest.mark.parametrize("baud", [9600, 921_600, 3_000_000])
def test_other_speeds_are_used_as_well(line: Make, head: Make, baud: int) -> None:
    profile = Profile.serial(baud)
    link = line(profile, baud=baud)
    share = goodput(link, head, 32 * 1024 if baud < 100_000 else 512 * 1024) * BYTES_PER_S / (baud / 10)
    assert share >= (0.8 if baud < 100_000 else 0.9)


@pytest.mark.parametrize(("bit_error_rate", "least"), [(0.0, 0.94), (1e-5, 0.89), (1e-4, 0.65)])
def test_both_directions_at_once_keep_most_of_the_line(
    line: Make, head: Make, bit_error_rate: float, least: float
) -> None:
    link = line(SERIAL, bit_error_rate=bit_error_rate)
    link.bring_up()
    start = link.now
    for end in (link.a, link.b):
        for _ in range(32):
            link.send(end, head("bulk", CHUNK), CHUNK)
    link.run(60.0)
    for end in (link.a, link.b):
        assert len(end.messages) == 32
        assert 32 * len(CHUNK) / (end.messages[-1][0] - start) / BYTES_PER_S >= least


@pytest.mark.parametrize(("bulks", "both_ways"), [(1, False), (3, False), (8, False), (1, True)])
def test_a_keystroke_passes_a_bulk_transfer(line: Make, head: Make, bulks: int, both_ways: bool) -> None:
    link = line(SERIAL)
    link.bring_up()
    chance = random.Random(5)
    chunk = bytes(48 * 1024)
    pressed: list[float] = []

    def fill() -> None:
        for end in (link.a, link.b) if both_ways else (link.a,):
            for number in range(bulks):
                bulk = head(f"bulk{number}", chunk)
                while end.link.flow_bytes(bulk) < 4096:
                    link.send(end, bulk, chunk)
        link.at(link.now + 0.1, fill)

    def press() -> None:
        key = len(pressed).to_bytes(2, "big") + bytes(64)
        pressed.append(link.now)
        link.send(link.a, head("keys", key), key)
        if len(pressed) < 200:
            link.at(link.now + chance.uniform(0.05, 0.3), press)

    fill()
    link.at(3.0, press)
    link.run(45.0)
    arrived = [(time, message) for time, message in link.b.messages if len(message) < 200]
    delays = sorted(time - pressed[int.from_bytes(message[-66:-64], "big")] for time, message in arrived)
    assert len(delays) == 200
    assert delays[190] <= 0.060, "the 95th percentile"
    assert link.a.sent_bytes >= 0.95 * BYTES_PER_S * 44, "the line was full all the time"


def test_an_idle_link_costs_less_than_five_bytes_a_second(line: Make) -> None:
    link = line(SERIAL)
    link.bring_up()
    before = link.a.sent_bytes + link.b.sent_bytes
    link.run(3600.0)
    assert link.a.link.is_up
    assert link.b.link.is_up
    cost = (link.a.sent_bytes + link.b.sent_bytes - before) / 3600
    assert cost == pytest.approx(4.4, abs=0.1), "both directions together"


def test_silence_ends_the_link_after_fifteen_seconds(line: Make) -> None:
    link = line(SERIAL)
    link.bring_up()
    link.run(20.0)
    link.a.cut = link.b.cut = True
    cut_at = link.now
    link.run(600.0, lambda: link.b.link.is_closed and link.a.link.is_closed)
    assert link.now - cut_at <= 15.1
    assert link.a.events[-1] == LinkDown("nothing heard for 15 s")


def test_a_link_that_carries_one_way_only_ends_at_both_ends(line: Make, head: Make) -> None:
    link = line(SERIAL)
    link.bring_up()
    link.a.cut = True
    link.send(link.a, head("x", b"lost"), b"lost")
    link.run(600.0, lambda: link.b.link.is_closed and link.a.link.is_closed)
    assert link.now <= 35.0
    assert not link.b.messages


def test_a_lost_keystroke_comes_again_before_anybody_notices(line: Make, head: Make) -> None:
    link = line(SERIAL)
    link.bring_up()
    for _ in range(5):
        link.send(link.a, head("x", b"k"), b"k")
        link.run(1.0)
    link.a.noise.hit_next()
    link.send(link.a, head("x", b"z"), b"z")
    pressed = link.now
    link.run(1.0)
    assert link.a.damaged == 1
    time, message = link.b.messages[-1]
    assert message.endswith(b"z")
    assert time - pressed <= 0.030, "the peer tells of damage at once"


def test_a_link_survives_a_line_that_is_out_for_ten_seconds(line: Make, head: Make) -> None:
    link = line(SERIAL)
    link.bring_up()
    for _ in range(25):
        link.send(link.a, head("x", CHUNK), CHUNK)
    link.at(3.0, lambda: setattr(link.a, "cut", True))
    link.at(3.0, lambda: setattr(link.b, "cut", True))
    link.at(13.0, lambda: setattr(link.a, "cut", False))
    link.at(13.0, lambda: setattr(link.b, "cut", False))
    link.run(60.0)
    assert len(link.b.messages) == 25
    assert [type(event) for event in link.a.events] == [LinkUp]


class SparesShortFrames:
    """Noise that damages every long frame until it is told to stop."""

    until = math.inf

    def __init__(self, line: Any) -> None:
        self._line = line

    def hits(self, size: int) -> bool:
        return size > 100 and self._line.now < self.until


def test_noise_that_no_long_frame_passes_does_not_end_the_link_soon(line: Make, head: Make) -> None:
    link = line(SERIAL)
    link.bring_up()
    link.a.noise = SparesShortFrames(link)
    link.a.noise.until = 25.0
    link.send(link.a, head("x", CHUNK), CHUNK)
    link.run(30.0)
    assert [message for _, message in link.b.messages] == [head("x", CHUNK) + CHUNK]
    link.a.noise.until = math.inf
    link.send(link.a, head("x", CHUNK), CHUNK)
    link.run(60.0)
    assert link.a.events[-1] == LinkDown("what was sent is not acknowledged"), "nor does it go on for ever"


def test_the_same_seed_gives_the_same_run(line: Make, head: Make) -> None:
    runs = []
    for _ in range(2):
        link = line(SERIAL, bit_error_rate=1e-4, seed=9)
        goodput(link, head, 64 * 1024)
        runs.append((link.a.messages, link.b.messages, link.a.sent_bytes, link.b.sent_bytes))
    assert runs[0] == runs[1]
