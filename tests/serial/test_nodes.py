"""Nodes joined by a serial line: messages, secure channels, portals, and the command itself."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.line import PtyLine
from boards.emulation.uart import Noise
from ockamlite import TrustIdentifiers
from ockamlite.errors import UnavailableError
from ockamlite.limits import LIMITS
from transports.serial import SerialTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[PtyLine]:
    async with PtyLine([tmp_path / "a", tmp_path / "b"], seed=1) as made:
        yield made


def on_serial(host: Any) -> Any:
    """Give a node the transport that an installed ockamlite has by itself."""
    host._transports["serial"] = SerialTransport(LIMITS)
    return host


async def portal(net: Any, line: PtyLine, query: str = "") -> tuple[Any, Any, Any, Any]:
    """A gateway with an outlet to an echo service at end a, and a laptop with an inlet at end b."""
    gateway, laptop = on_serial(await net.node()), on_serial(await net.node())
    listener = await gateway.listen(f"serial:{line.devices[0]}{query}")
    channels = gateway.secure_channel_listener(trust=TrustIdentifiers(laptop.identity.identifier))
    gateway.open(channels.address, listener)
    gateway.outlet(f"tcp:127.0.0.1:{await net.echo()}")
    gateway.open("outlet", channels)
    path = laptop.path(
        f"serial:{line.devices[1]}{query},secure:secure_channel_listener,outlet",
        trust=TrustIdentifiers(gateway.identity.identifier),
    )
    await path.wait(20)
    return gateway, laptop, path, await laptop.inlet("tcp:127.0.0.1:0", path)


async def echoed(port: int, data: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.write_eof()
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("query", "noise", "size"),
    [
        ("", Noise(), 6000),
        ("", Noise(bit_error_ratio=1e-4), 4000),
        ("?baud=1000000", Noise(bit_error_ratio=1e-5, gap_ratio=1e-4), 60_000),
    ],
)
async def test_a_portal_through_a_secure_channel_works_over_a_line(
    net: Any, line: PtyLine, query: str, noise: Noise, size: int
) -> None:
    for wire in line.wires:
        wire.noise = noise
    _, _, _, inlet = await portal(net, line, query)
    await echoed(inlet.port, random.Random(1).randbytes(size))


async def test_a_portal_comes_back_after_the_adapter_was_pulled(
    net: Any, line: PtyLine, until: Callable[..., Any]
) -> None:
    _, _, path, inlet = await portal(net, line, "?baud=1000000")
    for end in (0, 1):
        await echoed(inlet.port, b"before" * 100)
        line.unplug(end)
        if end == 1:
            await until(lambda: path.current is None)
        await asyncio.sleep(0)
        line.plug(end)
        if end == 0:
            path.drop("the gateway's adapter was pulled")
            await until(lambda: path.current is None)
        await path.wait(20)
        await echoed(inlet.port, b"after" * 100)


HOLDER = """
import sys
from serial_asyncio import serial
port = serial.Serial(sys.argv[1], exclusive=True)
print("ready", flush=True)
sys.stdin.read()
"""


async def holder(device: str) -> asyncio.subprocess.Process:
    """Another process that has a port open."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, device),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_a_port_that_another_process_uses_is_told_with_its_name_and_used_when_it_is_free(
    net: Any, line: PtyLine
) -> None:
    gateway, laptop = on_serial(await net.node()), on_serial(await net.node())
    here, there = f"serial:{line.devices[0]}", f"serial:{line.devices[1]}"
    other = await holder(line.devices[0])
    told = rf"cannot listen at {here}: .*: in use by \S+ \(pid {other.pid}\)"
    with pytest.raises(UnavailableError, match=told) as raised:
        await gateway.listen(here)
    assert "end the other program" in raised.value.hint
    await other.communicate(b"enough")
    listener = await gateway.listen(here)
    gateway.open(gateway.uppercase(), listener)

    other = await holder(line.devices[1])
    path = laptop.path(there)
    told = rf"no way along {there}: .*: in use by \S+ \(pid {other.pid}\)"
    with pytest.raises(UnavailableError, match=told):
        await path.wait(0.3)
    await other.communicate(b"enough")
    route = await path.wait(20)
    assert (await laptop.ask(route / "uppercase", "free")).text == "FREE"


async def test_messages_of_two_nodes_cross_a_line(net: Any, line: PtyLine) -> None:
    bob, alice = on_serial(await net.node()), on_serial(await net.node())
    bob.open(bob.uppercase(), await bob.listen(f"serial:{line.devices[0]}"))
    link = await alice.connect(f"serial:{line.devices[1]}")
    assert (await alice.ask(link.route / "uppercase", "over a line")).text == "OVER A LINE"
    assert link.endpoint == f"serial:{line.devices[1]}"


async def test_the_command_carries_a_portal_over_a_line(net: Any, line: PtyLine, tmp_path: Path) -> None:
    # What an installed package declares, for a checkout that was installed before there were serial lines.
    declared = tmp_path / "declared" / "ockamlite_serial-0.dist-info"
    declared.mkdir(parents=True)
    (declared / "METADATA").write_text("Metadata-Version: 2.1\nName: ockamlite-serial\nVersion: 0\n")
    (declared / "entry_points.txt").write_text(
        "[ockamlite.transports]\nserial = transports.serial:SerialTransport\n"
    )

    async def serve(home: str, *arguments: str) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ockamlite", *arguments, "--output", "json"),
            env=os.environ
            | {
                "OCKAMLITE_HOME": str(tmp_path / home),
                "PYTHONPATH": os.pathsep.join((str(ROOT), str(declared.parent))),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(20):
            first = await process.stdout.readline()
        assert first, (await process.stderr.read()).decode()
        ready: dict[str, Any] = json.loads(first)
        return process, ready

    target = f"tcp:127.0.0.1:{await net.echo()}"
    a, b = (f"serial:{device}?baud=921600" for device in line.devices)
    outlet, ready = await serve("gateway", "outlet", target, "--listen", a, "--trust-everyone")
    assert ready["listening"] == [a]
    inlet, ready = await serve("laptop", "inlet", "tcp:127.0.0.1:0", "--via", b, "--trust-everyone")
    port = int(ready["listening"][0].rpartition(":")[2])
    await echoed(port, random.Random(3).randbytes(20_000))
    for process in (inlet, outlet):
        process.send_signal(signal.SIGTERM)
        _, complaints = await process.communicate()
        assert process.returncode == 0, complaints
        assert b"Traceback" not in complaints


async def test_one_byte_through_a_portal_and_a_channel_costs_at_most_80_on_the_line(
    net: Any, line: PtyLine
) -> None:
    _, _, _, inlet = await portal(net, line)
    reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
    costs = []
    async with asyncio.timeout(20):
        for _ in range(4):
            before = -1
            while before != sum(line.crossed_bytes):  # acknowledgements are still on their way
                before = sum(line.crossed_bytes)
                await asyncio.sleep(0.15)
            onward = line.crossed_bytes[1]
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            costs.append(line.crossed_bytes[1] - onward)
    writer.close()
    await writer.wait_closed()
    # The first of a connection names its routes, which later ones refer to.
    assert all(70 <= cost <= 80 for cost in costs[1:]), costs
