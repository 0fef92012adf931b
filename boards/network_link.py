"""The links of a :class:`boards.network.Network`: where they are dialled, how they are cut and healed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from boards.emulation.model import Conditions, LinkModel
from ockamlite.errors import LinkBrokenError
from ockamlite.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from boards.emulation.air import Air, AirRadio
    from boards.emulation.line import MemoryLine
    from boards.tap import TappedLink
    from ockamlite.links import Listener


class Hop:
    """One link of a network: from the node that dials to the one that listens.

    Attributes:
        name: of the link; its two nodes.
        label: what the trace calls it: kind and name.
        listener: of the second node; open workers to it to offer them to the first.
    """

    dialled: Endpoint
    listener: Listener

    def __init__(self, name: str) -> None:
        self.name = name
        self.label = name
        self.is_cut = False
        self._open: dict[TappedLink, None] = {}

    @property
    def endpoint(self) -> str:
        """What the first node dials, also as a hop of its routes."""
        return str(self.dialled)

    @property
    def refuses(self) -> bool:
        """True if dialling fails at once."""
        return False

    def cut(self) -> None:
        """Let nothing pass, until :meth:`heal`; may be called twice."""
        self.is_cut = True

    def heal(self) -> None:
        """Let everything pass again."""
        self.is_cut = False

    def opened(self, link: TappedLink) -> None:
        """An end of a link was opened."""
        self._open[link] = None

    def closed(self, link: TappedLink) -> None:
        """It has ended."""
        self._open.pop(link, None)

    def close(self) -> None:
        """Take the link away, when its nodes are closed."""


class StreamHop(Hop):
    """TCP. When it is cut, both ends know it at once."""

    @property
    def refuses(self) -> bool:
        """True while it is cut."""
        return self.is_cut

    def cut(self) -> None:
        """Break it."""
        super().cut()
        for link in tuple(self._open):
            link.abort(LinkBrokenError("link broken: it was cut"))


class MemoryHop(StreamHop):
    """Messages handed over within the process. When it is cut, both ends know it at once."""

    def __init__(self, name: str, conditions: Conditions) -> None:
        super().__init__(name)
        self.conditions = conditions
        """For links that are opened from now on."""


class LineHop(Hop):
    """A serial line. When it is cut, its ends hear nothing more and find out by themselves."""

    def __init__(self, name: str, line: MemoryLine) -> None:
        super().__init__(name)
        self.line = line
        """To unplug its ends, to hold them, to inject bytes."""

    def cut(self) -> None:
        """Cut its wires."""
        super().cut()
        self._set_wires()

    def heal(self) -> None:
        """Join its wires."""
        super().heal()
        self._set_wires()

    def _set_wires(self) -> None:
        for wire in self.line.wires:
            wire.is_cut = self.is_cut


class AirHop(Hop):
    """Bluetooth LE. When it is cut, the devices are out of each other's range."""

    def __init__(self, name: str, air: Air, central: AirRadio, peripheral: AirRadio) -> None:
        super().__init__(name)
        self.air = air
        """To change its model, to end connections, to let dialling fail."""
        self.central = central
        self.peripheral = peripheral

    def cut(self) -> None:
        """Take the devices out of range."""
        super().cut()
        self.air.part(self.central.address, self.peripheral.address)

    def heal(self) -> None:
        """Bring them back."""
        super().heal()
        self.air.join(self.central.address, self.peripheral.address)


class DatagramHop(Hop):
    """UDP through a port that loses and delays. When it is cut, no datagram passes."""

    def __init__(self, name: str, conditions: Conditions, seed: int) -> None:
        super().__init__(name)
        self._models = (LinkModel(conditions, seed=2 * seed), LinkModel(conditions, seed=2 * seed + 1))
        self._front: _Front | None = None

    async def open(self, port: int) -> Endpoint:
        """Lead to a UDP port of this machine; where to dial instead."""
        loop = asyncio.get_running_loop()
        _, self._front = await loop.create_datagram_endpoint(
            lambda: _Front(self, port), local_addr=("127.0.0.1", 0)
        )
        return Endpoint.parse(f"udp:127.0.0.1:{self._front.port}")

    def pass_on(
        self, datagram: bytes, address: tuple[str, int], out: asyncio.DatagramTransport, way: int
    ) -> None:
        """Send a datagram on, late, twice or not at all; ``way`` 0 is to the node that listens."""
        if self.is_cut:
            return
        loop = asyncio.get_running_loop()
        for at, arriving in self._models[way].send(datagram, loop.time()):
            loop.call_at(at, _send, out, arriving, address)

    def close(self) -> None:
        """Close the ports."""
        if self._front is not None:
            self._front.close()


def _send(out: asyncio.DatagramTransport, datagram: bytes, address: tuple[str, int] | None) -> None:
    if not out.is_closing():
        out.sendto(datagram, address)


class _Front(asyncio.DatagramProtocol):
    """The port that is dialled; for each who does, it has another behind it."""

    def __init__(self, hop: DatagramHop, target: int) -> None:
        self._hop = hop
        self._target = ("127.0.0.1", target)
        self._out: asyncio.DatagramTransport | None = None
        self._backs: dict[tuple[str, int], _Back] = {}
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it is."""
        assert self._out is not None  # noqa: S101  (it was opened with it)
        port: int = self._out.get_extra_info("sockname")[1]
        return port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self._out = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Pass a datagram on."""
        assert self._out is not None  # noqa: S101
        back = self._backs.get(addr)
        if back is None:
            back = self._backs[addr] = _Back(self._hop, self._out, addr)
            task = asyncio.get_running_loop().create_task(self._open(back))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        back.take(data, self._target)

    async def _open(self, back: _Back) -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: back, local_addr=("127.0.0.1", 0))

    def close(self) -> None:
        """Close all ports."""
        for task in tuple(self._opening):
            task.cancel()
        for back in self._backs.values():
            back.close()
        if self._out is not None:
            self._out.close()


class _Back(asyncio.DatagramProtocol):
    """The port by which one who dials is known to the node that listens."""

    def __init__(self, hop: DatagramHop, front: asyncio.DatagramTransport, dialler: tuple[str, int]) -> None:
        self._hop = hop
        self._front = front
        self._dialler = dialler
        self._out: asyncio.DatagramTransport | None = None
        self._early: list[tuple[bytes, tuple[str, int]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what waited for the socket."""
        self._out = cast("asyncio.DatagramTransport", transport)
        for datagram, address in self._early:
            self.take(datagram, address)
        self._early.clear()

    def take(self, datagram: bytes, address: tuple[str, int]) -> None:
        """A datagram to the node that listens."""
        if self._out is None:
            self._early.append((datagram, address))
        else:
            self._hop.pass_on(datagram, address, self._out, 0)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A datagram from it."""
        self._hop.pass_on(data, self._dialler, self._front, 1)

    def close(self) -> None:
        """Close the port."""
        if self._out is not None:
            self._out.close()
