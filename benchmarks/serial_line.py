"""Speed of a portal over an emulated serial line: ``python -m benchmarks.serial_line``.

Through a secure channel; two nodes of one process, real terminals, real sockets, real time. The limit beside
each figure is what the line carries of payload in frames of the longest size that the link uses at that
baud, without any error.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import NamedTuple

from boards.emulation.line import PtyLine
from boards.emulation.uart import Noise
from ockamlite import Node, TrustIdentifiers
from ockamlite.limits import LIMITS
from ockamlite.wire.reliable.frames import DATA_OVERHEAD_BYTES
from ockamlite.wire.reliable.profile import Profile
from transports.serial import SerialTransport
from transports.serial.cobs import pack


class Case(NamedTuple):
    """What is measured."""

    baud: int
    bit_error_ratio: float
    size: int


CASES = (
    Case(115_200, 0.0, 120_000),
    Case(115_200, 1e-5, 120_000),
    Case(115_200, 1e-4, 80_000),
    Case(9600, 0.0, 10_000),
    Case(3_000_000, 0.0, 2_000_000),
)


def limit_bytes_per_s(baud: int) -> float:
    """Payload of a line that carries nothing but full frames, of bytes as random as those of a channel."""
    payload = Profile.serial(baud).payload_max
    rng = random.Random(1)
    sample = [len(pack(rng.randbytes(payload + DATA_OVERHEAD_BYTES))) for _ in range(500)]
    return baud / 10 * payload * len(sample) / sum(sample)


class Sink:
    """A service that counts what it gets."""

    def __init__(self) -> None:
        self.received = 0
        self.came = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read to the end."""
        try:
            while data := await reader.read(65_536):
                self.received += len(data)
                self.came.set()
        except ConnectionError:
            pass  # the end of a measurement
        writer.close()

    async def wait(self, count: int) -> None:
        """Wait until so many bytes have come."""
        while self.received < count:
            self.came.clear()
            await self.came.wait()


async def measure(case: Case) -> None:
    """Measure and print one line of the table."""
    noise = Noise(bit_error_ratio=case.bit_error_ratio)
    sink = Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    async with (
        PtyLine(noise=noise, seed=1) as line,
        Node(transports=[SerialTransport(LIMITS)]) as far,
        Node(transports=[SerialTransport(LIMITS)]) as near,
    ):
        a, b = (f"serial:{device}?baud={case.baud}" for device in line.devices)
        channels = far.secure_channel_listener(trust=TrustIdentifiers(near.identity.identifier))
        far.open(channels.address, await far.listen(a))
        far.outlet(f"tcp:127.0.0.1:{target}")
        far.open("outlet", channels)
        trust = TrustIdentifiers(far.identity.identifier)
        path = near.path(f"{b},secure:secure_channel_listener,outlet", trust=trust)
        await path.wait(30)
        inlet = await near.inlet("tcp:127.0.0.1:0", path)
        _, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
        writer.write(b"x")
        await sink.wait(1)
        await asyncio.sleep(1.0)
        before = list(line.crossed_bytes)
        writer.write(b"x")
        await sink.wait(2)
        await asyncio.sleep(1.0)
        back, onward = (now - then for now, then in zip(line.crossed_bytes, before, strict=True))
        began, cpu = time.monotonic(), time.process_time()
        writer.write(bytes(case.size))
        await sink.wait(case.size + 2)
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        rate, limit = case.size / took, limit_bytes_per_s(case.baud)
        print(
            f"| {case.baud:,} | {case.bit_error_ratio:g} | {rate:,.0f} | {limit:,.0f} | {rate / limit:.0%} "
            f"| {onward} + {back} | {cpu / took:.0%} |",
            flush=True,
        )
        writer.close()
    server.close()


async def main(wanted: list[str]) -> None:
    """Measure all, or the cases of the bauds that are named."""
    print("| baud | bit errors | B/s | limit B/s | | 1 byte on the line: onward + back | CPU, both ends |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for case in CASES:
        if not wanted or str(case.baud) in wanted:
            await measure(case)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
