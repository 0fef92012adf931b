"""Nodes on loopback, the wires between them, the services behind them, and proof that nothing is left."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from ockamlite.identities.local import LocalIdentity
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.secure_channels.trust import TrustIdentifiers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ockamlite.events import Event
    from ockamlite.paths import Path as RoutePath
    from ockamlite.portals.inlet import Inlet
    from ockamlite.portals.outlet import Outlet

    Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    Hook: TypeAlias = Callable[[bytes], list[bytes]]

PATIENCE_S = 20.0
QUICK = dataclasses.replace(LIMITS, portal_stall_s=5.0, portal_connect_s=5.0, portal_close_grace_s=0.2)


async def until(holds: Callable[[], object]) -> None:
    """Wait until ``holds`` does."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.001)


class Host(Node):
    """A node that remembers what happened in it."""

    def __init__(self, **options: Any) -> None:
        self.seen: list[Event] = []
        super().__init__(
            on_event=self.seen.append,
            identity=LocalIdentity.ephemeral(int(time.time())),
            **options,
        )

    def events(self, kind: str) -> list[Any]:
        """The events of one kind so far."""
        return [event for event in self.seen if event.kind == kind]

    def addresses(self) -> int:
        """How many addresses the router has, but for those by which channels ask for a sign of life."""
        probing = sum(channel._probe_address is not None for channel in self._channels._channels)
        return len(self.router) - probing

    async def event(self, kind: str, number: int = 1) -> Any:
        """The ``number``-th event of one kind, once it has come."""
        await until(lambda: len(self.events(kind)) >= number)
        return self.events(kind)[number - 1]


class Wire:
    """Stands between two nodes and sees, drops, holds or repeats each frame."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.seen = bytearray()
        """Every byte that crossed, either way."""
        self.to_listener: Hook = lambda frame: [frame]
        self.to_dialler: Hook = lambda frame: [frame]
        self.links = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.links += 1
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there[1]}
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pass(reader, there[1], onward=True))
            both.create_task(self._pass(there[0], writer, onward=False))
        self._writers -= {writer, there[1]}

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, onward: bool
    ) -> None:
        try:
            writer.write(await reader.readexactly(1))
            while True:
                head = await reader.readexactly(4)
                frame = await reader.readexactly(struct.unpack(">I", head)[0])
                self.seen += frame
                for out in (self.to_listener if onward else self.to_dialler)(frame):
                    writer.write(struct.pack(">I", len(out)) + out)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def cut(self) -> None:
        """Break what is joined; new links are taken."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await until(lambda: not self._writers)


@dataclasses.dataclass
class Portal:
    """A gateway with an outlet, a laptop with an inlet, and how they are joined."""

    gateway: Host
    laptop: Host
    outlet: Outlet
    inlet: Inlet
    path: RoutePath
    wire: Wire | None
    addresses: tuple[int, int] = (0, 0)

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the inlet."""
        return await asyncio.open_connection("127.0.0.1", self.inlet.port)

    async def is_clean(self) -> None:
        """Wait until no connection, and no address of one, is left."""
        await until(lambda: not self.inlet.sessions and not self.outlet.sessions)
        await until(lambda: (self.gateway.addresses(), self.laptop.addresses()) == self.addresses)

    def remember(self) -> None:
        """Note what there is while no connection is open."""
        self.addresses = (self.gateway.addresses(), self.laptop.addresses())


class Busy:
    """A target whose queue of connections is full: who dials it waits."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", 0))
        self._sock.listen(0)
        self.port: int = self._sock.getsockname()[1]
        self._fillers: list[socket.socket] = []

    async def fill(self) -> None:
        """Take the places of the queue."""
        loop = asyncio.get_running_loop()
        while True:
            filler = socket.socket()
            filler.setblocking(False)
            self._fillers.append(filler)
            try:
                async with asyncio.timeout(0.05):
                    await loop.sock_connect(filler, ("127.0.0.1", self.port))
            except TimeoutError:
                return

    async def accept(self) -> None:
        """Serve as an echo from now on; who waits is let in when the kernel tries again."""
        await self._network.echo(self._sock)
        self._close_fillers()

    def _close_fillers(self) -> None:
        for filler in self._fillers:
            filler.close()

    def close(self) -> None:
        """Free the sockets."""
        self._close_fillers()
        self._sock.close()


class Network:
    """What a test builds; closed, and searched for remains, at its end."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self.wires: list[Wire] = []
        self.servers: list[asyncio.Server] = []
        self.clients: list[asyncio.StreamWriter] = []
        self.busy_ones: list[Busy] = []

    async def node(self, **limits: Any) -> Host:
        """Start a node with short limits."""
        host = Host(limits=dataclasses.replace(QUICK, **limits))
        self.hosts.append(host)
        await host.__aenter__()
        return host

    async def serve(self, serve: Serve, *, sock: socket.socket | None = None, **options: Any) -> int:
        """Start a service; the port."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        where = ("127.0.0.1", 0) if sock is None else (None, None)
        server = await asyncio.start_server(handle, *where, sock=sock, backlog=1024, **options)
        self.servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def busy(self) -> Busy:
        """A service that accepts nobody for now."""
        busy = Busy(self)
        self.busy_ones.append(busy)
        await busy.fill()
        return busy

    async def echo(self, sock: socket.socket | None = None) -> int:
        """A service that returns what it gets, and then its end."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        return await self.serve(serve, sock=sock)

    async def wire(self, target: int) -> Wire:
        """A wire to the port of a node."""
        wire = Wire(target)
        await wire.start()
        self.wires.append(wire)
        return wire

    async def portal(self, target: int, *, secure: bool = True, wired: bool = False, **limits: Any) -> Portal:
        """A gateway whose outlet leads to ``target``, and a laptop whose inlet leads there."""
        gateway, laptop = await self.node(**limits), await self.node(**limits)
        listener = await gateway.listen("tcp:127.0.0.1:0")
        port = listener.endpoint.host_port.port
        wire = await self.wire(port) if wired else None
        outlet = gateway.outlet(f"tcp:127.0.0.1:{target}")
        hops = f"tcp:127.0.0.1:{wire.port if wire is not None else port}"
        if secure:
            channels = gateway.secure_channel_listener(trust=TrustIdentifiers(laptop.identity.identifier))
            gateway.open(channels.address, listener)
            gateway.open("outlet", channels)
            hops += ",secure:secure_channel_listener"
        else:
            gateway.open("outlet", listener)
        path = laptop.path(f"{hops},outlet", trust=TrustIdentifiers(gateway.identity.identifier))
        await path.wait(PATIENCE_S)
        if path.opened is not None and path.opened.channel is not None:
            await path.opened.channel.confirmed
        inlet = await laptop.inlet("tcp:127.0.0.1:0", path)
        portal = Portal(gateway, laptop, outlet, inlet, path, wire)
        portal.remember()
        return portal

    async def close(self) -> None:
        """Close it all, in an order that breaks no one."""
        for host in self.hosts:
            await host.close()
        for wire in self.wires:
            await wire.close()
        for server in self.servers:
            server.close()
        for busy in self.busy_ones:
            busy.close()


def open_sockets() -> int:
    """How many sockets this process has open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith("socket:")
        except OSError:
            pass
    return found


@pytest.fixture
async def net() -> AsyncIterator[Network]:
    """A network; after the test no task and no socket of it may be left."""
    tasks, sockets = asyncio.all_tasks(), open_sockets()
    network = Network()
    yield network
    await network.close()

    def left() -> set[asyncio.Task[Any]]:
        return {task for task in asyncio.all_tasks() - tasks if task is not asyncio.current_task()}

    try:
        await until(lambda: not left() and open_sockets() <= sockets)
    except TimeoutError:
        pytest.fail(f"left behind: {left()}, {open_sockets() - sockets} sockets")


@pytest.fixture(name="until")
def until_() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Wait until something holds."""
    return until


@pytest.fixture
def reset() -> Callable[[asyncio.StreamWriter], None]:
    """Close a connection with an error for its other end."""

    def close(writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return close
