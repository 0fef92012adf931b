"""Key pairs with given secrets, and nodes joined in memory whose every frame can be tampered with."""

from __future__ import annotations

import asyncio
import time as wall_clock
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.cbor import bytes_head
from ockamlite.errors import LinkClosedError, RemoteError
from ockamlite.identities.local import LocalIdentity
from ockamlite.node import Node
from ockamlite.routing.codec import decode_message, encode_message_head
from ockamlite.routing.endpoint import Endpoint
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers
from ockamlite.vault.primitives import x25519_exchange, x25519_from_secret, x25519_public

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from ockamlite.errors import OckamError
    from ockamlite.events import Event
    from ockamlite.identities.identifier import Identifier
    from ockamlite.secure_channels.channel import SecureChannel
    from ockamlite.secure_channels.noise import DhKey
    from ockamlite.secure_channels.protocol import Initiator
    from ockamlite.secure_channels.trust import Trust
    from ockamlite.wire.gate import Gate
    from ockamlite.wire.link import LinkReceiver


class FixedKey:
    """An X25519 key pair whose secret the test chose."""

    def __init__(self, secret: bytes) -> None:
        self._key = x25519_from_secret(secret)
        self.public = x25519_public(self._key)

    def exchange(self, public: bytes) -> bytes:
        return x25519_exchange(self._key, public)


@pytest.fixture(scope="session")
def dh_key() -> Callable[[bytes], DhKey]:
    return FixedKey


# -- nodes joined in memory, on a clock of their own -------------------------------------------------


class VirtualTime:
    """The clock of the running loop, which jumps to the next timer where nothing is ready."""

    def __init__(self, loop: Any) -> None:
        self.now = 1000.0
        self._loop = loop
        self._selector = loop._selector
        self._select = loop._selector.select

    def __enter__(self) -> VirtualTime:
        self._loop.time = lambda: self.now
        self._selector.select = self._skip
        return self

    def __exit__(self, *error: object) -> None:
        del self._loop.time, self._selector.select

    def _skip(self, timeout: float | None = None) -> list[Any]:
        ready: list[Any] = self._select(0)
        if not ready and timeout is None:
            raise AssertionError("nothing will ever happen")
        if not ready and timeout:
            self.now += timeout
        return ready


class MemoryLink:
    """One end of a link in memory (see :class:`ockamlite.wire.link.Link`)."""

    def __init__(self, network: Network, endpoint: str, remote: str) -> None:
        self.endpoint = endpoint
        self.remote = remote
        self.peer: MemoryLink | None = None
        self.sent: list[bytes] = []
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._receiver: LinkReceiver | None = None
        self._waiting: list[bytes] = []
        self._ended = False
        self._held: Gate | None = None

    def start(self, receiver: LinkReceiver) -> None:
        self._receiver = receiver
        self._loop.call_soon(self._hand_on)

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> Gate | None:
        frame = head + bytes(payload)
        self.sent.append(frame)
        if not self._ended and self.peer is not None:
            for passed in self._network.pass_on(self, frame):
                self._loop.call_soon(self.peer.arrive, passed)
        return None

    def arrive(self, frame: bytes) -> None:
        """A frame comes out at this end."""
        self._waiting.append(frame)
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting and self._receiver is not None and not self._ended:
            if self._held is not None and self._held.is_shut:
                return
            try:
                self._held = self._receiver.frame_received(memoryview(self._waiting.pop(0)))
            except RemoteError as error:  # as the interface demands
                self.abort(error)
                return
            if self._held is not None:
                self._held.when_open(self._hand_on)

    def close(self) -> None:
        self._end(None)
        if self.peer is not None:
            self._loop.call_soon(self.peer._end, LinkClosedError("closed by the peer"))

    def abort(self, error: OckamError) -> None:
        self._end(error)
        if self.peer is not None:
            self._loop.call_soon(self.peer._end, LinkClosedError("closed by the peer"))

    def _end(self, error: OckamError | None) -> None:
        if not self._ended:
            self._ended = True
            if self._receiver is not None:
                self._loop.call_soon(self._receiver.link_closed, error)


class Network:
    """Links in memory, and what becomes of the frames on their way."""

    def __init__(self) -> None:
        self.accepting: dict[str, Callable[[MemoryLink], None]] = {}
        self.tamper: Callable[[bytes], Iterable[bytes]] | None = None
        """Called with each frame; what it returns arrives in its place."""
        self.frames: list[bytes] = []
        """All that was sent, in order."""

    def pass_on(self, sender: MemoryLink, frame: bytes) -> Iterable[bytes]:
        self.frames.append(frame)
        return (frame,) if self.tamper is None else self.tamper(frame)

    def spoil(self, tamper: Callable[[int, bytes], Iterable[bytes]]) -> None:
        """Tamper with frames by their number, the next one being 0."""
        first = len(self.frames) + 1
        self.tamper = lambda frame: tamper(len(self.frames) - first, frame)


class MemoryTransport:
    """A transport of a network in memory."""

    kind = "memory"
    options = ()

    def __init__(self, network: Network) -> None:
        self._network = network

    async def connect(self, endpoint: Endpoint) -> MemoryLink:
        here = MemoryLink(self._network, str(endpoint), "there")
        there = MemoryLink(self._network, str(endpoint), "here")
        here.peer, there.peer = there, here
        self._network.accepting[endpoint.details](there)
        return here

    async def listen(self, endpoint: Endpoint, accept: Callable[[MemoryLink], None]) -> MemoryListener:
        self._network.accepting[endpoint.details] = accept
        return MemoryListener(self._network, endpoint)


class MemoryListener:
    """A name in a network."""

    def __init__(self, network: Network, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._network = network

    async def close(self) -> None:
        self._network.accepting.pop(self.endpoint.details, None)


class Pair:
    """Two nodes and a link in memory: Alice asks, Bob listens at ``api``."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.alice = self.node()
        self.bob = self.node()
        self.events: list[Event] = []

    def node(self, **options: Any) -> Node:
        """One more node of the network; time-outs of its handshakes are short."""
        return Node(transports=[MemoryTransport(self.network)], **options)  # type: ignore[list-item]

    async def start(self, trust: Trust | None = None) -> Pair:
        """Start both; Bob listens to ``trust``, everyone if absent, and Alice has a link to him."""
        await self.alice.__aenter__()
        await self.bob.__aenter__()
        self.listener = await self.bob.listen("memory:bob")
        self.channels = self.bob.secure_channel_listener("api", trust=trust or TrustEveryone())
        self.bob.open("api", self.listener)
        self.link = await self.alice.connect("memory:bob")
        return self

    async def channel(self, timeout_s: float = 10.0, trust: Trust | None = None) -> SecureChannel:
        """Alice's channel to Bob, whom alone she trusts."""
        bob = self.bob.identity.identifier
        return await self.alice.secure_channel(
            self.link.route / "api", trust=trust or TrustIdentifiers(bob), timeout_s=timeout_s
        )

    async def close(self) -> None:
        await self.alice.close()
        await self.bob.close()


@pytest.fixture
async def time() -> AsyncIterator[VirtualTime]:
    """An hour takes no time. For tests without sockets."""
    with VirtualTime(asyncio.get_running_loop()) as virtual:
        yield virtual


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def pair(network: Network, time: VirtualTime) -> AsyncIterator[Pair]:
    """Not started."""
    made = Pair(network)
    yield made
    await made.close()


class Stranger:
    """The other end of a link to Bob, without a node: it sends what it likes."""

    def __init__(self, link: MemoryLink) -> None:
        self.link = link
        self.got: list[tuple[Route, Route, bytes]] = []
        self._came = asyncio.Event()
        link.start(self)

    def frame_received(self, frame: memoryview) -> None:
        onward, back, payload = decode_message(bytes(frame))
        self.got.append((onward, back, bytes(payload)))
        self._came.set()

    def messages_lost(self) -> None:
        raise AssertionError("links of this kind lose nothing")

    def link_closed(self, error: OckamError | None) -> None:
        pass

    def send(self, onward: Route, back: Route, payload: bytes) -> None:
        self.link.send(encode_message_head(onward, back) + bytes_head(len(payload)), payload)

    async def wait(self, count: int) -> list[tuple[Route, Route, bytes]]:
        while len(self.got) < count:
            self._came.clear()
            await self._came.wait()
        return self.got

    async def handshake(self, core: Initiator, listener: str = "api") -> tuple[Route, bytes]:
        """Begin a handshake with Bob: where message 3 goes, and message 2."""
        before = len(self.got)
        self.send(Route.of(listener), Route.of("stranger"), core.message1)
        _, back, message2 = (await self.wait(before + 1))[before]
        return back, message2


@pytest.fixture
def stranger(network: Network) -> Callable[[], Awaitable[Stranger]]:
    """Makes links to Bob that no node is behind."""

    async def connect() -> Stranger:
        return Stranger(await MemoryTransport(network).connect(Endpoint.parse("memory:bob")))

    return connect


class ShiftedIdentity:
    """An identity on a machine whose clock is so many seconds ahead of everybody else's."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._identity = LocalIdentity.ephemeral(int(wall_clock.time()) + seconds)

    @property
    def identifier(self) -> Identifier:
        return self._identity.identifier

    def secure_channel_key(self, now: int) -> object:
        return self._identity.secure_channel_key(now + self._seconds)

    def handshake_payload(self, now: int) -> bytes:
        return self._identity.handshake_payload(now + self._seconds)


@pytest.fixture
def shifted_identity() -> type[ShiftedIdentity]:
    return ShiftedIdentity
