"""Two ends on an emulated air, and what they have sent each other."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import Air, AirEvent, AirModel
from boards.emulation.clock import run
from boards.emulation.fake_bluez import VARIABLE, FakeBluez, PrivateBus
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import Endpoint
from transports.ble import BleTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from ockamlite.errors import OckamError
    from ockamlite.limits import Limits
    from ockamlite.wire.gate import Gate
    from ockamlite.wire.link import Link


class Receiver:
    """Keeps what a link brings."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.frames: list[bytes] = []
        self.came = asyncio.Event()
        self.closed: asyncio.Future[OckamError | None] = asyncio.get_running_loop().create_future()
        link.start(self)

    def frame_received(self, frame: memoryview) -> Gate | None:
        self.frames.append(bytes(frame))
        self.came.set()
        return None

    def messages_lost(self) -> None:
        raise AssertionError("links of this kind lose nothing")

    def link_closed(self, error: OckamError | None) -> None:
        self.closed.set_result(error)

    async def wait_frames(self, count: int) -> list[bytes]:
        while len(self.frames) < count:
            self.came.clear()
            await self.came.wait()
        return self.frames

    async def send_all(self, messages: list[bytes]) -> None:
        for message in messages:
            gate = self.link.send(b"", message)
            if gate is not None:
                await gate.wait()


class World:
    """An air, a peripheral ``pi`` that listens, and as many centrals as wanted."""

    def __init__(self, model: AirModel | None = None, *, seed: int = 1, limits: Limits = LIMITS) -> None:
        self.events: list[AirEvent] = []
        self.air = Air(model, seed=seed, observe=self.events.append)
        self.limits = limits
        self.pi_radio = self.air.radio()
        self._draw = random.Random(seed)
        self.pi = self.transport(self.pi_radio)
        self.accepted: list[Receiver] = []
        self.came = asyncio.Event()

    def transport(self, radio: Any) -> BleTransport:
        return BleTransport(self.limits, radio, draw=lambda: self._draw.randrange(1, 2**32))

    def accept(self, link: Link) -> None:
        self.accepted.append(Receiver(link))
        self.came.set()

    async def listen(self, name: str = "pi") -> Any:
        return await self.pi.listen(Endpoint.parse(f"ble:{name}"), self.accept)

    async def dial(self, to: str = "pi", *, radio: Any = None) -> Receiver:
        transport = self.transport(radio if radio is not None else self.air.radio())
        return Receiver(await transport.connect(Endpoint.parse(f"ble:{to}")))

    async def wait_accepted(self, count: int = 1) -> Receiver:
        while len(self.accepted) < count:
            self.came.clear()
            await self.came.wait()
        return self.accepted[count - 1]

    def of(self, kind: str) -> list[AirEvent]:
        return [event for event in self.events if event.kind == kind]


@pytest.fixture
def virtual() -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    """Runs a coroutine in virtual time, two hours of it at most."""
    return lambda body: run(asyncio.wait_for(body(), 7200))


@pytest.fixture
def world() -> type[World]:
    return World


@pytest.fixture
def messages() -> Callable[..., list[bytes]]:
    """Messages of many sizes, the same for the same seed."""

    def make(count: int, *, longest: int = 5000, seed: int = 7) -> list[bytes]:
        draw = random.Random(seed)
        return [draw.randbytes(draw.randrange(1, longest)) for _ in range(count)]

    return make


class Process:
    """A process of ours, with its lines."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []

    def line(self, part: str) -> str:
        """The next line that has ``part`` in it; the end of the process is a failure."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if part in line:
                return line.rstrip("\n")
        raise AssertionError(f"ended with {self.process.wait()} before {part!r}: {''.join(self.said)}")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.said += self.process.stdout.readlines()
        self.process.stdout.close()
        return self.process.wait(10)


class Launcher:
    """Starts processes that share a folder and an environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        root = Path(__file__).parents[2]
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("OCKAMLITE_")
        } | {"PYTHONPATH": str(root)}
        self.processes: list[Process] = []

    def __call__(self, *arguments: str, **more: str) -> Process:
        made = Process(arguments, self.environment | more)
        self.processes.append(made)
        return made

    def command(self, who: str, *arguments: str) -> Process:
        """``ockamlite`` with the state of its own that ``who`` names."""
        return self("-m", "ockamlite", *arguments, OCKAMLITE_HOME=str(self.folder / who))

    def close(self) -> None:
        for process in reversed(self.processes):
            if process.process.poll() is None:
                process.process.kill()
                process.process.wait()
            if process.process.stdout is not None:
                process.process.stdout.close()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    made = Launcher(tmp_path)
    yield made
    made.close()


@pytest.fixture
def receiver() -> type[Receiver]:
    return Receiver


FAST = AirModel(interval_s=0.0075, packets_per_event=20, advertising_s=0.05)


class Machine:
    """A fake bluetoothd with a peripheral ``pi`` on hci0 and centrals on hci1."""

    def __init__(self, air: Air, daemon: FakeBluez, address: str, end: Callable[[Any], Any]) -> None:
        self.air = air
        self.daemon = daemon
        self.address = address
        self.accepted: list[Any] = []
        self._end = end
        self._came = asyncio.Event()
        self.central = BleTransport(LIMITS)
        self.peripheral = BleTransport(LIMITS)

    def accept(self, link: Any) -> None:
        self.accepted.append(self._end(link))
        self._came.set()

    async def listen(self, adapter: str = "hci0") -> Any:
        return await self.peripheral.listen(Endpoint.parse(f"ble:pi?adapter={adapter}"), self.accept)

    async def dial(self, adapter: str = "hci1") -> Any:
        return self._end(await self.central.connect(Endpoint.parse(f"ble:pi?adapter={adapter}")))

    async def wait_accepted(self, count: int = 1) -> Any:
        while len(self.accepted) < count:
            self._came.clear()
            await self._came.wait()
        return self.accepted[count - 1]

    def addresses(self) -> tuple[str, str]:
        radios = [adapter.radio.address for adapter in self.daemon.adapters.values()]
        return radios[0], radios[1]


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Any) -> AsyncIterator[Machine]:
    async with PrivateBus(tmp_path) as bus:
        monkeypatch.setenv(VARIABLE, bus.address)
        air = Air(FAST, seed=1)
        async with FakeBluez(air, bus.address) as daemon:
            yield Machine(air, daemon, bus.address, receiver)


class Website:
    """A server on this machine that answers each request with the same page."""

    page = bytes(range(256)) * 200

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def fetch(self, port: int) -> bytes:
        """The page as it comes out of a portal at ``port``."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        got = await reader.read()
        writer.close()
        return got

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.page)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the portal gave up
        writer.close()


@pytest.fixture
async def website() -> AsyncIterator[Website]:
    made = Website()
    await made.start()
    yield made
    await made.close()
