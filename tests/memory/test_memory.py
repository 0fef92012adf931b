"""Memory links through a model, and nodes joined by them."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from ockamlite.errors import UnavailableError
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.endpoint import Endpoint
from ockamlite.secure_channels.trust import TrustEveryone
from transports.memory import MemoryNetwork, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ockamlite.errors import OckamError
    from ockamlite.wire.link import Link

    Model = Callable[[bytes, float], Iterable[tuple[float, bytes]]]


class End:
    """A receiver that keeps what came, and when."""

    def __init__(self, link: Link) -> None:
        self.came: list[bytes] = []
        self.times: list[float] = []
        self.closed: asyncio.Future[OckamError | None] = asyncio.get_running_loop().create_future()
        self.link = link
        link.start(self)

    def frame_received(self, frame: memoryview) -> None:
        self.came.append(bytes(frame))
        self.times.append(asyncio.get_running_loop().time())

    def messages_lost(self) -> None:
        raise AssertionError("links of this kind lose nothing")

    def link_closed(self, error: OckamError | None) -> None:
        self.closed.set_result(error)


async def joined(network: MemoryNetwork) -> tuple[End, End]:
    accepted: list[End] = []
    transport = MemoryTransport(LIMITS, network)
    where = (await transport.listen(endpoint("memory:a"), lambda link: accepted.append(End(link)))).endpoint
    return End(await transport.connect(where)), accepted[0]


def endpoint(text: str) -> Endpoint:
    return Endpoint.parse(text)


async def test_a_model_delays_loses_repeats_and_changes_what_passes() -> None:
    def model() -> Model:
        def pass_on(frame: bytes, now: float) -> list[tuple[float, bytes]]:
            if frame == b"lost":
                return []
            if frame == b"twice":
                return [(now, frame), (now, frame)]
            if frame == b"damaged":
                return [(now, b"dAmaged")]
            return [(now + 0.02, frame)] if frame == b"late" else [(now, frame)]

        return pass_on

    here, there = await joined(MemoryNetwork(model))
    began = asyncio.get_running_loop().time()
    for frame in (b"late", b"lost", b"twice", b"damaged"):
        here.link.send(frame, b"")
    here.link.close()
    assert await here.closed is None
    assert "closed by the peer" in str(await there.closed)
    assert there.came == [b"twice", b"twice", b"dAmaged", b"late"]
    assert there.times[-1] >= began + 0.019


async def test_each_direction_of_each_link_has_a_model_of_its_own() -> None:
    made: list[list[bytes]] = []

    def model() -> Model:
        seen: list[bytes] = []
        made.append(seen)

        def pass_on(frame: bytes, now: float) -> list[tuple[float, bytes]]:
            seen.append(frame)
            return [(now, frame)]

        return pass_on

    here, there = await joined(MemoryNetwork(model))
    here.link.send(b"out", b"")
    there.link.send(b"back", b"")
    assert made == [[b"out"], [b"back"]]
    here.link.close()
    await there.closed


async def test_networks_do_not_meet() -> None:
    lonely, other = MemoryTransport(LIMITS), MemoryTransport(LIMITS)
    listener = await lonely.listen(endpoint("memory:a"), lambda link: None)
    with pytest.raises(UnavailableError, match="nobody listens"):
        await other.connect(listener.endpoint)


async def test_nodes_joined_in_memory_open_channels_and_find_each_other_again_after_a_cut() -> None:
    network = MemoryNetwork()
    async with (
        Node(transports=[MemoryTransport(LIMITS, network)]) as alice,
        Node(transports=[MemoryTransport(LIMITS, network)]) as bob,
    ):
        listener = await bob.listen("memory:bob")
        channels = bob.secure_channel_listener(trust=TrustEveryone())
        bob.open(channels.address, listener)
        bob.open(bob.uppercase(), channels)
        path = alice.path("memory:bob,secure:secure_channel_listener,uppercase", trust=TrustEveryone())
        for _ in range(3):
            route = await path.wait(10)
            assert (await alice.ask(route, "hello")).text == "HELLO"
            network.cut()
            await asyncio.sleep(0)


async def test_the_same_seed_gives_the_same_run() -> None:
    async def run(seed: int) -> list[bytes]:
        luck = random.Random(seed)

        def model() -> Model:
            return lambda frame, now: [(now, frame)] if luck.random() < 0.5 else []

        here, there = await joined(MemoryNetwork(model))
        for number in range(100):
            here.link.send(b"%d" % number, b"")
        here.link.close()
        await there.closed
        return there.came

    assert await run(1) == await run(1) != await run(2)
