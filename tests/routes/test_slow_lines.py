"""Portals over slow lines: a transfer that takes minutes does not pass for a silent peer.

Nor does it where the slow line comes behind a quick one, whose sender and nodes in the middle could take
far more than the line carries in that time.
"""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from boards.network import Network
from ockamlite import TrustIdentifiers
from ockamlite.wire.reliable.engine import ReliableLink

if TYPE_CHECKING:
    from boards.network_link import Hop
    from boards.network_node import NetworkNode

SENT = random.Random("slow").randbytes(60_000)
NOTICED_S = 45.0
"""A peer that dies in the middle of a transfer over a slow line is noticed within this: the half minute
of a quick way, and what lay before the question that is not answered."""


async def gives(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(SENT)
    writer.write_eof()
    await reader.read()
    writer.close()


async def takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert await reader.read() == SENT
    writer.write(b"all of it")
    writer.close()


async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(SENT)
    writer.write_eof()
    assert await reader.read() == SENT
    writer.close()


SERVICES = {"fetched": gives, "sent": takes, "both": both}


class Row:
    """Nodes in a row, a line or radio between each two, and a portal from the first to the last."""

    nodes: list[NetworkNode]
    hops: list[Hop]
    inlet: Any
    path: Any

    def __init__(self, network: Network) -> None:
        self.network = network

    async def open(self, kinds: str, serve: Any) -> Row:
        network = self.network
        self.nodes = [await network.node(f"node-{number}") for number in range(kinds.count(",") + 2)]
        self.hops = [
            await self._join(*kind.partition(" "), *ends)
            for kind, ends in zip(kinds.split(","), pairwise(self.nodes), strict=True)
        ]
        for node, onward in zip(self.nodes[1:], self.hops[1:], strict=False):
            node.forward(onward.endpoint)
        near, far = self.nodes[0], self.nodes[-1]
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        channels = far.secure_channel_listener(trust=TrustIdentifiers(near.identity.identifier))
        far.open(channels.address, self.hops[-1].listener)
        far.open(far.outlet(f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}").address, channels)
        hops = ",".join(hop.endpoint for hop in self.hops)
        self.path = near.path(
            f"{hops},secure:secure_channel_listener,outlet", trust=TrustIdentifiers(far.identity.identifier)
        )
        await self.path.wait(60)
        self.inlet = await near.inlet("tcp:127.0.0.1:0", self.path)
        return self

    async def _join(self, kind: str, _: str, baud: str, here: NetworkNode, there: NetworkNode) -> Hop:
        options = {"baud": int(baud)} if baud else {}
        hop: Hop = await getattr(self.network, kind)(here, there, **options)
        return hop

    async def transfer(self, way: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.inlet.port)
        if way != "fetched":
            writer.write(SENT)
            writer.write_eof()
        came = await reader.read()
        writer.close()
        return came


def arrives(kinds: str, way: str) -> None:
    async def body(network: Network) -> None:
        row = await Row(network).open(kinds, SERVICES[way])
        assert await row.transfer(way) == (b"all of it" if way == "sent" else SENT)

    network = Network(seed=1)
    network.run(body(network))


@pytest.mark.parametrize("baud", [9600, 19_200])
@pytest.mark.parametrize("way", ["fetched", "sent"])
def test_what_takes_longer_than_a_peer_may_be_silent_arrives_whole(baud: int, way: str) -> None:
    arrives(f"serial {baud}", way)


@pytest.mark.parametrize("way", SERVICES)
@pytest.mark.parametrize(
    "kinds",
    [
        "tcp,serial 9600",
        "ble,serial 9600",
        "serial 115200,serial 9600",
        "serial 9600,tcp",
        "serial 9600,serial 9600",
    ],
)
def test_a_slow_line_before_or_behind_a_quick_one_carries_all_of_it(kinds: str, way: str) -> None:
    arrives(kinds, way)


def test_four_slow_lines_in_a_row_carry_all_of_it() -> None:
    arrives("serial 9600,serial 9600,serial 9600,serial 9600", "sent")


@pytest.mark.parametrize("way", ["fetched", "sent"])
@pytest.mark.parametrize("kinds", ["tcp,serial 9600", "ble,serial 9600", "serial 115200,serial 9600"])
def test_the_node_before_a_slow_line_keeps_little_of_what_goes_there(
    kinds: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[int] = []
    send = ReliableLink.send

    def counts(self: ReliableLink, *message: Any) -> int:
        waiting = send(self, *message)
        queued.append(self.queued_bytes)
        return waiting

    monkeypatch.setattr(ReliableLink, "send", counts)
    arrives(kinds if way == "sent" else ",".join(reversed(kinds.split(","))), way)
    assert max(queued) < 24_000


@pytest.mark.parametrize("kinds", ["tcp,serial 9600", "serial 9600,tcp"])
@pytest.mark.parametrize("way", ["fetched", "sent"])
def test_a_peer_that_dies_in_the_middle_of_a_slow_transfer_is_noticed(kinds: str, way: str) -> None:
    async def body(network: Network) -> tuple[float, str]:
        row = await Row(network).open(kinds, SERVICES[way])
        loop = asyncio.get_running_loop()
        transfer = loop.create_task(row.transfer(way))
        await asyncio.sleep(20)
        channel = row.path.opened.channel
        assert not channel.closed.done()
        # It says nothing more, and every link lives on.
        row.nodes[-1].router.deliver = lambda message: None  # type: ignore[method-assign]
        died_at = loop.time()
        reason = await channel.closed
        await asyncio.wait([transfer])
        assert isinstance(transfer.exception(), ConnectionError)
        return loop.time() - died_at, reason

    network = Network(seed=1)
    noticed_s, reason = network.run(body(network))
    assert reason == "the peer fell silent"
    assert noticed_s < NOTICED_S
