"""Two ends on an emulated air, and what they have sent each other."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import Air, AirEvent, AirModel
from boards.emulation.clock import run
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import Endpoint
from transports.ble import BleTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

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
