"""Emulated serial lines: of real terminals, in real time, and in memory, in the time of the loop."""

from __future__ import annotations

import asyncio
import os
import random
import termios
import time
import tty
from typing import TYPE_CHECKING

import pytest

from boards.emulation import clock
from boards.emulation.line import RING_BYTES, MemoryLine, PtyLine
from boards.emulation.uart import Noise
from ockamlite.errors import UnavailableError
from transports.serial.options import LineSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Reads(asyncio.Protocol):
    """Keeps what comes out of a port, and when."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.came_at: list[float] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.came_at.append(asyncio.get_running_loop().time())

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    async def all(self, count: int) -> bytes:
        async with asyncio.timeout(20):
            while len(self.data) < count:
                await asyncio.sleep(0.001)
        return bytes(self.data)


def opened(device: str, baud: int = termios.B115200) -> int:
    """A terminal as a program opens it."""
    found = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    tty.setraw(found)
    settings = termios.tcgetattr(found)
    settings[4] = settings[5] = baud
    termios.tcsetattr(found, termios.TCSANOW, settings)
    return found


class Ends:
    """Both ends of a line, open."""

    def __init__(self, line: PtyLine) -> None:
        self.files = [opened(device) for device in line.devices]

    async def read(self, end: int, count: int) -> bytes:
        found = b""
        async with asyncio.timeout(20):
            while len(found) < count:
                try:
                    found += os.read(self.files[end], 65_536)
                except BlockingIOError:
                    await asyncio.sleep(0.001)
        return found

    def close(self) -> None:
        for file in self.files:
            os.close(file)


@pytest.fixture
async def line() -> AsyncIterator[PtyLine]:
    async with PtyLine() as made:
        yield made


@pytest.fixture
async def ends(line: PtyLine) -> AsyncIterator[Ends]:
    made = Ends(line)
    yield made
    made.close()


async def test_bytes_cross_both_ways_unchanged(ends: Ends) -> None:
    data = random.Random(1).randbytes(600)
    os.write(ends.files[0], data)
    os.write(ends.files[1], data[::-1])
    assert await ends.read(1, 600) == data
    assert await ends.read(0, 600) == data[::-1]


async def test_bytes_take_the_time_that_the_baud_of_the_terminal_says(ends: Ends) -> None:
    began = time.monotonic()
    os.write(ends.files[0], bytes(2304))
    await ends.read(1, 2304)
    assert time.monotonic() - began >= 0.2  # of 115,200 bits a second and ten to a byte


async def test_noise_damages_what_crosses(line: PtyLine, ends: Ends) -> None:
    line.wires[0].noise = Noise(bit_error_ratio=0.01)
    os.write(ends.files[0], bytes(1000))
    os.write(ends.files[1], bytes(1000))
    assert await ends.read(0, 1000) == bytes(1000)
    while line.crossed_bytes[0] < 1000:
        await asyncio.sleep(0.001)
    assert any(os.read(ends.files[1], 65_536))
    assert line.wires[0].turned_bits > 50


async def test_an_end_of_another_baud_reads_garbage(line: PtyLine) -> None:
    one, two = opened(line.devices[0]), opened(line.devices[1], termios.B9600)
    os.write(one, b"hello " * 50)
    while line.crossed_bytes[0] < 300:
        await asyncio.sleep(0.001)
    found = os.read(two, 1000)
    assert found
    assert b"hello" not in found
    os.close(one)
    os.close(two)


async def test_a_program_that_does_not_read_loses_bytes_and_they_are_counted(
    line: PtyLine, ends: Ends
) -> None:
    line.baud = 3_000_000
    data = random.Random(1).randbytes(RING_BYTES + 2000)
    sent = 0
    while sent < len(data):
        try:
            sent += os.write(ends.files[0], data[sent:])
        except BlockingIOError:
            await asyncio.sleep(0.001)
    while line.crossed_bytes[0] < len(data):
        await asyncio.sleep(0.001)
    kept = len(data) - line.overrun_bytes
    assert line.overrun_bytes > 1000
    found = await ends.read(1, kept)
    assert len(found) == kept
    assert found[:4000] == data[:4000]


async def test_an_end_comes_back_under_the_same_name(tmp_path: Path) -> None:
    async with PtyLine([tmp_path / "a", tmp_path / "b"]) as line:
        assert line.devices == (str(tmp_path / "a"), str(tmp_path / "b"))
        first = (tmp_path / "a").resolve()
        one = opened(line.devices[0])
        line.unplug(0)
        assert not (tmp_path / "a").is_symlink()
        with pytest.raises(OSError, match="Input/output"):
            os.write(one, b"x")
        line.plug(0)
        assert (tmp_path / "a").resolve() != first
        ends = Ends(line)
        os.write(ends.files[0], b"again")
        assert await ends.read(1, 5) == b"again"
        ends.close()
        os.close(one)
    assert list(tmp_path.iterdir()) == []


async def test_bytes_that_nobody_sent_can_be_let_in(line: PtyLine, ends: Ends) -> None:
    line.inject(1, b"U-Boot 2023.04\r\n")
    assert await ends.read(1, 16) == b"U-Boot 2023.04\r\n"


def test_an_idle_line_in_memory_costs_nothing_and_an_hour_passes_at_once() -> None:
    async def main() -> float:
        line = MemoryLine()
        reads = Reads()
        a = await line.open_port(LineSettings("a"), asyncio.Protocol())
        await line.open_port(LineSettings("b"), reads)
        for _ in range(3600):
            await asyncio.sleep(1.0)
            a.write(b"tick")
        await reads.all(4 * 3600)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert clock.run(main()) > 3600
    assert time.monotonic() - began < 5


def test_a_line_in_memory_is_paced_exactly() -> None:
    async def main() -> list[float]:
        line = MemoryLine()
        reads = Reads()
        a = await line.open_port(LineSettings("a", baud=9600), asyncio.Protocol())
        await line.open_port(LineSettings("b", baud=9600), reads)
        a.write(bytes(960))
        await reads.all(960)
        return reads.came_at

    came_at = clock.run(main())
    assert came_at[0] == pytest.approx(1 / 960)
    assert came_at[-1] == pytest.approx(1.0)


def test_a_line_in_memory_is_the_same_for_the_same_seed() -> None:
    async def main(seed: int) -> bytes:
        line = MemoryLine(noise=Noise(bit_error_ratio=1e-3, gap_ratio=1e-3), seed=seed)
        reads = Reads()
        a = await line.open_port(LineSettings("a"), asyncio.Protocol())
        await line.open_port(LineSettings("b"), reads)
        a.write(bytes(5000))
        await asyncio.sleep(10)
        return bytes(reads.data)

    assert clock.run(main(1)) == clock.run(main(1)) != clock.run(main(2))


def test_flow_control_holds_bytes_back_and_loses_none() -> None:
    async def main() -> tuple[int, bytes]:
        line = MemoryLine()
        reads = Reads()
        a = await line.open_port(LineSettings("a", rtscts=True), asyncio.Protocol())
        await line.open_port(LineSettings("b", rtscts=True), reads)
        line.hold(0, is_held=True)
        a.write(b"held")
        await asyncio.sleep(10)
        waiting = a.waiting_bytes()
        line.hold(0, is_held=False)
        return waiting, await reads.all(4)

    assert clock.run(main()) == (4, b"held")


def test_a_port_in_memory_has_one_user_and_may_be_pulled_out() -> None:
    async def main() -> None:
        line = MemoryLine()
        reads = Reads()
        await line.open_port(LineSettings("a"), reads)
        with pytest.raises(UnavailableError, match="a: in use"):
            await line.open_port(LineSettings("a"), Reads())
        with pytest.raises(UnavailableError, match="c: no such device"):
            await line.open_port(LineSettings("c"), Reads())
        line.unplug(0)
        assert isinstance(await reads.lost, OSError)
        with pytest.raises(UnavailableError, match="a: no such device"):
            await line.open_port(LineSettings("a"), Reads())
        line.plug(0)
        port = await line.open_port(LineSettings("a"), again := Reads())
        port.close()
        assert await again.lost is None

    clock.run(main())


def test_what_is_not_read_waits_in_a_ring_that_overflows() -> None:
    async def main() -> tuple[bytes, int]:
        line = MemoryLine()
        reads = Reads()
        a = await line.open_port(LineSettings("a"), asyncio.Protocol())
        b = await line.open_port(LineSettings("b"), reads)
        b.pause_reading()
        a.write(bytes(RING_BYTES) + b"overrun")
        await asyncio.sleep(2)
        b.resume_reading()
        return bytes(reads.data), line.overrun_bytes

    assert clock.run(main()) == (bytes(RING_BYTES), 7)
