"""Networks of nodes in one process, joined by emulated links that can be cut: what the pytest plugin offers.

    gateway, device = await network.node("gateway"), await network.node("device")
    line = await network.serial(gateway, device, baud=9600)
    link = await gateway.connect(line.endpoint)
    await gateway.ask(link.route / "echo", b"hello")
    line.cut()

Each link is one hop from its first node, who dials, to its second, who listens. They run in virtual time
(:mod:`boards.emulation.clock`), UDP alone is real; so do applications at the ends of portals, by
asyncio's own streams.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from boards.board_limits import BoardLimits, air_model, line_baud
from boards.emulation.air import Air, AirModel
from boards.emulation.chance import same_each_time
from boards.emulation.clock import VirtualLoop
from boards.emulation.line import MemoryLine
from boards.emulation.model import PERFECT, Conditions, LinkModel
from boards.emulation.uart import QUIET, Noise
from boards.network_link import AirHop, DatagramHop, Hop, LineHop, MemoryHop, StreamHop
from boards.network_node import NetworkNode, Sockets
from boards.profiles import load
from boards.tap import RouterWatch, TappedTransport
from boards.trace import Trace
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import Endpoint
from transports.ble import BleTransport
from transports.memory import MemoryNetwork, MemoryTransport
from transports.serial import SerialTransport
from transports.tcp import TcpTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import TypeVar

    from boards.emulated_board import EmulatedBoard
    from ockamlite.limits import Limits
    from ockamlite.wire.link import Transport

    T = TypeVar("T")

VIRTUAL_S = 24 * 3600.0
"""How long a run in virtual time may take, in virtual seconds, unless told otherwise."""
REAL_S = 60.0


class Network:
    """Nodes, the links between them, and the trace of what they say.

    Args:
        seed: of all chance: losses, noise, and, in :meth:`run` in virtual time, keys and addresses.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self.trace = Trace()
        self.nodes: list[NetworkNode] = []
        self.hops: list[Hop] = []
        self._watch = RouterWatch()
        self.trace.contents_of = self._watch.contents_of
        self.trace.is_random = self._watch.is_random
        self._names: set[str] = set()

    # -- building -------------------------------------------------------------------------------

    async def node(self, name: str = "", *, limits: Limits = LIMITS, **options: Any) -> NetworkNode:
        """Start a node; it is closed with the network.

        Args:
            name: in traces and endpoints; made up if absent.
            limits: bounds.
            options: those of :class:`ockamlite.Node`.
        """
        self.trace.now = asyncio.get_running_loop().time
        name = self._unused(name or "node")
        sockets = {kind: Sockets(kind) for kind in ("memory", "serial", "ble", "udp", "tcp")}
        node = NetworkNode(name, sockets, limits, **options)
        self._watch.watch(node.router, name)
        self.trace.nodes.append(name)
        self.nodes.append(node)
        await node.__aenter__()
        return node

    async def board(self, profile: str, name: str = "", **options: Any) -> NetworkNode:
        """Start a node whose lines and air are within the limits of a board; it is closed with the network.

        Its memory and processor are those of this process: :func:`boards.emulated` limits those, too.

        Args:
            profile: which board, as in ``ockamlite board list``.
            name: in traces and endpoints; that of the profile if absent.
            options: those of :meth:`node`.

        Raises:
            NotFoundError: there is no such board.
        """
        limits = BoardLimits.of(load(profile))
        node = await self.node(name or profile, **options)
        node.board_limits = limits
        return node

    async def memory(
        self,
        here: NetworkNode,
        there: NetworkNode,
        *,
        loss: float = 0.0,
        latency_s: float = 0.0,
        bytes_per_s: float | None = None,
        conditions: Conditions = PERFECT,
    ) -> MemoryHop:
        """Join two nodes by messages handed over, perfect unless told otherwise.

        Args:
            here: dials.
            there: listens.
            loss: part of the messages that get lost.
            latency_s: how long each takes.
            bytes_per_s: bandwidth; no limit if absent.
            conditions: anything else that a link may do to its messages.
        """
        name = self._unused(f"{here.name}-{there.name}")
        if loss or latency_s or bytes_per_s:
            conditions = replace(
                conditions,
                loss_ratio=loss or conditions.loss_ratio,
                latency_s=latency_s or conditions.latency_s,
                bytes_per_s=bytes_per_s or conditions.bytes_per_s,
            )
        drawn = self._chance(name)

        def model() -> Callable[[bytes, float], Any]:
            made = LinkModel(hop.conditions, seed=drawn.getrandbits(32))
            return made.send

        hop = MemoryHop(name, conditions)
        network = MemoryNetwork(None if conditions == PERFECT else model)
        await self._join(
            hop, here, there, Endpoint("memory", name), Endpoint("memory", name),
            MemoryTransport(here.limits, network), MemoryTransport(there.limits, network),
        )  # fmt: skip
        return hop

    async def serial(
        self,
        here: NetworkNode,
        there: NetworkNode,
        *,
        baud: int | None = None,
        noise: float | Noise = QUIET,
        rtscts: bool = False,
    ) -> LineHop:
        """Join two nodes by a serial line.

        Args:
            here: dials.
            there: listens.
            baud: of both ends; if absent 115,200, or the most that is recommended for both boards.
            noise: the chance of each bit to be turned, or all that a wire may do.
            rtscts: flow control by wire.

        Raises:
            UsageError: a board's port cannot do that.
        """
        baud = line_baud(_limits(here, there), baud, rtscts=rtscts)
        name = self._unused(f"{here.name}-{there.name}")
        faults = noise if isinstance(noise, Noise) else Noise(bit_error_ratio=noise)
        devices = (f"{name}/{here.name}", f"{name}/{there.name}")
        drawn = self._chance(name)
        line = MemoryLine(devices, noise=faults, seed=drawn.getrandbits(32))
        options = (("baud", str(baud)), *((("rtscts", "on"),) if rtscts else ()))

        def transport(limits: Limits) -> SerialTransport:
            return SerialTransport(
                limits, open_port=line.open_port, new_session=lambda: drawn.randrange(1, 2**32)
            )

        hop = LineHop(name, line)
        one, other = (Endpoint("serial", device, options) for device in devices)
        await self._join(hop, here, there, one, other, transport(here.limits), transport(there.limits))
        return hop

    async def ble(
        self,
        here: NetworkNode,
        there: NetworkNode,
        *,
        mtu: int | None = None,
        loss: float | None = None,
        model: AirModel | None = None,
    ) -> AirHop:
        """Join two nodes by Bluetooth LE.

        Args:
            here: the central, who dials.
            there: the peripheral, who advertises under its name.
            mtu: what the two agree on, at most; what the model says if absent.
            loss: part of the radio's packets that are lost, and repeated by it; likewise.
            model: anything else that the air may do; boards at its ends do no better than they can.

        Raises:
            UsageError: a board has no adapter.
        """
        wanted = model or AirModel()
        if mtu is not None:
            wanted = replace(wanted, mtu=mtu)
        if loss is not None:
            wanted = replace(wanted, packet_loss=loss)
        air_is = air_model(_limits(here, there), wanted)
        name = self._unused(f"{here.name}-{there.name}")
        drawn = self._chance(name)
        air = Air(air_is, seed=drawn.getrandbits(32))
        hop = AirHop(name, air, air.radio(), air.radio())
        advertised = there.name
        while advertised in there.sockets["ble"] or advertised in here.sockets["ble"]:
            advertised += "'"

        def transport(limits: Limits, radio: Any) -> BleTransport:
            return BleTransport(limits, radio, draw=lambda: drawn.randrange(1, 2**32))

        endpoint = Endpoint("ble", advertised)
        await self._join(
            hop, here, there, endpoint, endpoint,
            transport(here.limits, hop.central), transport(there.limits, hop.peripheral),
        )  # fmt: skip
        return hop

    async def tcp(self, here: NetworkNode, there: NetworkNode) -> StreamHop:
        """Join two nodes by TCP; in virtual time without sockets.

        Args:
            here: dials.
            there: listens.
        """
        hop = StreamHop(self._unused(f"{here.name}-{there.name}"))
        self.hops.append(hop)
        any_port = Endpoint.parse("tcp:127.0.0.1:0")
        self._plug(hop, there, here, any_port, TcpTransport(there.limits))
        hop.listener = await there.listen(any_port)
        hop.dialled = hop.listener.endpoint
        self._plug(hop, here, there, hop.dialled, TcpTransport(here.limits))
        return hop

    async def udp(
        self,
        here: NetworkNode,
        there: NetworkNode,
        *,
        loss: float = 0.0,
        latency_s: float = 0.0,
        conditions: Conditions = PERFECT,
    ) -> DatagramHop:
        """Join two nodes by UDP on this machine, in real time, through something that spoils it.

        Args:
            here: dials.
            there: listens.
            loss: part of the datagrams that get lost.
            latency_s: how long each takes.
            conditions: anything else that a network may do to its datagrams.
        """
        # Imported here: in virtual time there are no sockets.
        from transports.udp import UdpTransport

        name = self._unused(f"{here.name}-{there.name}")
        conditions = replace(
            conditions,
            loss_ratio=loss or conditions.loss_ratio,
            latency_s=latency_s or conditions.latency_s,
        )
        hop = DatagramHop(name, conditions, self._chance(name).getrandbits(32))
        self.hops.append(hop)
        any_port = Endpoint.parse("udp:127.0.0.1:0")
        self._plug(hop, there, here, any_port, UdpTransport(there.limits))
        hop.listener = await there.listen(any_port)
        hop.dialled = await hop.open(hop.listener.endpoint.host_port.port)
        self._plug(hop, here, there, hop.dialled, UdpTransport(here.limits))
        return hop

    def reach(self, here: NetworkNode, board: EmulatedBoard) -> None:
        """Let a node dial an emulated board at its line and its air, in real time.

        The trace has what passes at the node's end: what the board does with it, its process knows.
        """
        line = Endpoint.parse(board.serial)
        self._plug(
            Hop(self._unused(f"{here.name}-{board.name}")), here, board, line, SerialTransport(here.limits)
        )
        if board.ble is not None:
            air = Endpoint.parse(board.ble)
            hop = Hop(self._unused(f"{here.name}-{board.name}"))
            self._plug(hop, here, board, air, board.ble_transport(here.limits))

    async def _join(
        self,
        hop: Hop,
        here: NetworkNode,
        there: NetworkNode,
        dialled: Endpoint,
        listened: Endpoint,
        dialling: Transport,
        listening: Transport,
    ) -> None:
        self._plug(hop, here, there, dialled, dialling)
        self._plug(hop, there, here, listened, listening)
        hop.dialled = dialled
        hop.listener = await there.listen(listened)
        self.hops.append(hop)

    def _plug(
        self,
        hop: Hop,
        here: NetworkNode,
        there: NetworkNode | EmulatedBoard,
        endpoint: Endpoint,
        transport: Transport,
    ) -> None:
        hop.label = f"{endpoint.kind}:{hop.name}"
        tapped = TappedTransport(transport, self.trace, hop, name=hop.label, here=here.name, there=there.name)
        here.sockets[endpoint.kind].plug(endpoint.details, tapped, hop)

    def _chance(self, name: str) -> random.Random:
        """Where one link's chance comes from, so that it has the same luck whatever others there are."""
        return random.Random(f"{self.seed} {name}")  # noqa: S311  (emulation)

    def _unused(self, name: str) -> str:
        number = 1
        found = name
        while found in self._names:
            number += 1
            found = f"{name}.{number}"
        self._names.add(found)
        return found

    # -- life -----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the nodes and links; the trace ends before."""
        self.trace.is_recording = False
        for node in self.nodes:
            await node.close()
        for hop in self.hops:
            hop.close()

    def run(
        self, body: Coroutine[Any, Any, T], *, real_time: bool = False, within_s: float | None = None
    ) -> T:
        """Run what uses this network, and close it.

        Args:
            body: the coroutine.
            real_time: True if it needs sockets, terminals, threads or processes.
            within_s: how long it may take, on its own clock; a day of virtual time, or a real minute.

        Raises:
            TimeoutError: it took longer.
            StuckError: everybody waits, and nothing would ever happen again.
        """
        most_s = within_s if within_s is not None else REAL_S if real_time else VIRTUAL_S

        async def main() -> T:
            try:
                return await asyncio.wait_for(body, most_s)
            finally:
                await self.close()

        if real_time:
            return asyncio.run(main())
        with (
            asyncio.Runner(loop_factory=VirtualLoop) as runner,
            same_each_time(self.seed, runner.get_loop().time),
        ):
            return runner.run(main())


def _limits(*nodes: NetworkNode) -> list[BoardLimits]:
    """The limits of those nodes that are boards."""
    return [node.board_limits for node in nodes if node.board_limits is not None]
