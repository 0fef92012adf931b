"""Ports of this machine: real terminals, and a device whose flow control stops it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.line import PtyLine
from ockamlite.errors import LinkBrokenError, UnavailableError
from transports.serial.options import LineSettings
from transports.serial.port import SerialPort, open_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


HOLDER = """
import serial, sys
port = serial.Serial(sys.argv[1], exclusive=True)
print(flush=True)
input()
"""


class Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.paused = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class StoppedDevice:
    """A serial device that takes bytes and never sends them: nobody raises CTS."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.out_waiting = 0
        self.events: list[str] = []
        self.closed_by: int | None = None
        self.timeout = self.write_timeout = None

    def fileno(self) -> int:
        return self.ours.fileno()

    def read(self, size: int) -> bytes:
        return self.ours.recv(size)

    def write(self, data: bytes) -> int:
        room = 100 - self.out_waiting
        if room <= 0:
            raise BlockingIOError
        taken = min(len(data), room)
        self.out_waiting += taken
        return taken

    def flush(self) -> None:
        self.events.append("flush")
        time.sleep(30)

    def reset_output_buffer(self) -> None:
        self.events.append("discard")

    def reset_input_buffer(self) -> None: ...

    def close(self) -> None:
        self.events.append("close")
        self.closed_by = threading.get_ident()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[PtyLine]:
    async with PtyLine([tmp_path / "a", tmp_path / "b"]) as made:
        yield made


async def test_bytes_go_through_a_real_terminal(line: PtyLine, until: Callable[..., Any]) -> None:
    a, b = Protocol(), Protocol()
    one = await open_port(LineSettings(line.devices[0]), a)
    two = await open_port(LineSettings(line.devices[1]), b)
    one.write(b"hello")
    await until(lambda: b.data == b"hello")
    for port, protocol in ((one, a), (two, b)):
        port.close()
        assert await protocol.lost is None


async def test_a_port_may_be_opened_again_as_soon_as_its_end_is_told(line: PtyLine) -> None:
    for _ in range(5):
        protocol = Protocol()
        port = await open_port(LineSettings(line.devices[0]), protocol)
        port.abort()
        await protocol.lost


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_line_that_sends_nothing_never_holds_up_the_loop(how: str) -> None:
    device = StoppedDevice()
    protocol = Protocol()
    loop = asyncio.get_running_loop()
    port = SerialPort(loop, protocol, device)
    port.write(bytes(150))
    port.write(bytes(150))
    await asyncio.sleep(0)
    assert port.waiting_bytes() == 300
    began, last, longest = loop.time(), loop.time(), 0.0
    getattr(port, how)()
    while not protocol.lost.done():
        await asyncio.sleep(0.001)
        longest, last = max(longest, loop.time() - last), loop.time()
    assert await protocol.lost is None
    assert device.events == ["discard", "close"]
    assert device.closed_by != threading.get_ident(), "a driver may take long to close"
    assert longest < 0.5
    assert loop.time() - began < (2.0 if how == "close" else 0.5)


async def test_an_adapter_that_is_pulled_is_an_error_of_the_protocol_only(line: PtyLine) -> None:
    reading, writing = Protocol(), Protocol()
    await open_port(LineSettings(line.devices[0]), reading)
    port = await open_port(LineSettings(line.devices[1]), writing)
    port.pause_reading()
    line.unplug(0)
    line.unplug(1)
    port.write(b"x")
    assert isinstance(await reading.lost, OSError)
    assert isinstance(await writing.lost, OSError)


async def test_a_device_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="gone: no such device"):
        await open_port(LineSettings(str(tmp_path / "gone")), Protocol())


async def test_what_is_no_serial_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for device in (str(tmp_path / "file"), "/dev/null"):
        with pytest.raises(UnavailableError, match=f"{device}: this is no serial line"):
            await open_port(LineSettings(device), Protocol())


async def test_a_second_process_on_a_port_is_told_who_has_it(line: PtyLine) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
            line.devices[0],
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UnavailableError, match=rf"in use by .* \(pid {holder.pid}\)"):
            await open_port(LineSettings(line.devices[0]), Protocol())
    finally:
        holder.communicate(b"\n")
    protocol = Protocol()
    (await open_port(LineSettings(line.devices[0]), protocol)).abort()
    await protocol.lost


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
async def test_who_may_not_open_a_port_is_told_which_group_may(line: PtyLine, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    terminal = Path(line.devices[0]).resolve()
    terminal.chmod(0o660)
    os.chown(terminal, 0, 54_321)
    os.seteuid(65_534)
    try:
        with pytest.raises(UnavailableError, match="permission denied: it is open to group 54321") as caught:
            await open_port(LineSettings(str(terminal)), Protocol())
    finally:
        os.seteuid(0)
    assert caught.value.hint.startswith("sudo usermod -aG 54321 ")


async def test_links_over_real_terminals_survive_noise_and_a_pulled_adapter(
    line: PtyLine, end: Any, whole: Callable[[bytes], bytes]
) -> None:
    a, b = end(line.devices[0], None), end(line.devices[1], None)
    await a.listen()
    link = await b.connect()
    line.inject(0, b"\xff\x00\x55 noise")
    for n in range(10):
        link.send(bytes([n]) * 300)
    async with asyncio.timeout(20):
        there = await a.accepted()
        assert await there.wait(10) == [whole(bytes([n]) * 300) for n in range(10)]
        line.unplug(0)
        assert isinstance(await there.closed, LinkBrokenError)
        line.plug(0)
        link.send(b"lost")
        await link.closed
        again = await b.connect()
        again.send(b"again")
        while not a.receivers[-1].messages or a.receivers[-1] is there:
            await asyncio.sleep(0.01)
        assert a.receivers[-1].messages == [whole(b"again")]
        again.link.close()
        await again.closed
        await a.close()


async def test_a_port_is_used_once_in_a_process(line: PtyLine, end: Any) -> None:
    a = end(line.devices[0], None)
    await a.listen()
    with pytest.raises(UnavailableError, match=rf"in use by .*pid {os.getpid()}"):
        await a.connect()
    await a.close()
