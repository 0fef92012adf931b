"""What goes wrong over UDP, as nodes with secure channels and portals see it, on real sockets.

Nothing is corrupted, doubled, leaked or stuck; what ended says why; and what was lost is opened again by the
path that wants it.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.model import PERFECT, Conditions, LinkModel
from boards.network_link import DatagramHop
from ockamlite.errors import AnswerTimeoutError, OckamError
from ockamlite.events import LinkDown
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers
from ockamlite.wire.datagrams import Dialect, Piece, encode_piece

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NUMBER = struct.Struct(">IH")
"""Which body, and which try of it."""
PATIENCE_S = 20.0


class Site:
    """A gateway that listens, and a laptop with a path to it through a network that can be spoilt."""

    def __init__(self, net: Any) -> None:
        self.net = net
        self.ledger: list[bytes] = []
        """All that came to the gateway's worker, in the order it came."""
        self.hop = DatagramHop("way", PERFECT, 1)

    async def start(self, **limits: Any) -> None:
        self.laptop = await self.net.node()
        await self.serve("udp:127.0.0.1:0", **limits)
        endpoint = await self.hop.open(self.listener.endpoint.host_port.port)
        self.path = self.laptop.path(
            f"{endpoint},secure:secure_channel_listener",
            trust=TrustIdentifiers(self.gateway.identity.identifier),
        )
        await self.path.wait(PATIENCE_S)

    async def serve(self, at: str, **limits: Any) -> None:
        """Start the gateway, with the identity it had."""
        self.gateway = await self.net.node(**limits)
        self.channels = self.gateway.secure_channel_listener(trust=TrustEveryone())

        async def note(context: Any, message: Any) -> None:
            self.ledger.append(message.payload)
            await context.reply(message, message.payload[: NUMBER.size])

        self.gateway.open(self.gateway.start_worker("ledger", note), self.channels)
        self.listener = await self.gateway.listen(at)
        self.gateway.open(self.channels.address, self.listener)

    def spoil(self, conditions: Conditions) -> None:
        self.hop._models = (LinkModel(conditions, seed=2), LinkModel(conditions, seed=3))

    async def tell(self, number: int, body: bytes, *, timeout_s: float = 5.0) -> list[OckamError]:
        """Have a body noted; sent again, as another try, whenever it failed. Why it did."""
        failed: list[OckamError] = []
        while True:
            route = await self.path.wait(PATIENCE_S)
            told = NUMBER.pack(number, len(failed)) + body
            try:
                answer = await self.laptop.ask(route / "ledger", told, timeout_s=timeout_s)
            except OckamError as error:
                failed.append(error)
                assert len(failed) < 100
                continue
            assert answer.payload == told[: NUMBER.size]
            return failed

    @property
    def port(self) -> Any:
        """The gateway's socket, and what is kept for it."""
        return self.listener._inner._port

    def down(self) -> list[str]:
        return [event.reason for event in self.net.events if isinstance(event, LinkDown)]


@pytest.fixture
async def site(net: Any) -> AsyncIterator[Site]:
    made = Site(net)
    yield made
    made.hop.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.002)


async def test_datagrams_doubled_late_damaged_and_lost_change_and_double_nothing(site: Site) -> None:
    await site.start()
    site.spoil(
        Conditions(
            duplicate_ratio=0.2, reorder_ratio=0.1, reorder_s=0.02, corrupt_ratio=0.03, loss_ratio=0.02
        )
    )
    draw = random.Random(5)
    bodies = [draw.randbytes(draw.choice([0, 100, 3000])) for _ in range(60)]
    failed = [error for n, body in enumerate(bodies) for error in await site.tell(n, body, timeout_s=0.2)]
    assert all(isinstance(error, AnswerTimeoutError) for error in failed), "what was lost is told"
    assert len(set(site.ledger)) == len(site.ledger), "nothing came twice"
    for came in site.ledger:
        assert came[NUMBER.size :] == bodies[NUMBER.unpack_from(came)[0]]
    assert {NUMBER.unpack_from(came)[0] for came in site.ledger} == set(range(60))
    assert not site.down()


async def test_a_network_that_is_gone_for_a_while_costs_answers_and_no_link(site: Site) -> None:
    await site.start()
    await site.tell(0, b"before")
    for number in range(1, 6):
        site.hop.cut()
        with pytest.raises(AnswerTimeoutError):
            await site.laptop.ask(site.path.current / "ledger", NUMBER.pack(number, 99), timeout_s=0.1)
        site.hop.heal()
        await site.tell(number, b"after")
    assert [NUMBER.unpack_from(came) for came in site.ledger] == [(number, 0) for number in range(6)]
    assert not site.down()


async def test_a_gateway_that_is_gone_is_told_and_its_successor_found(site: Site) -> None:
    await site.start()
    await site.tell(0, b"before")
    # Straight to the gateway: only a port of the same machine says that nobody is there.
    direct = site.laptop.path(
        f"udp:127.0.0.1:{site.listener.endpoint.host_port.port},secure:secure_channel_listener",
        trust=TrustEveryone(),
    )
    route = await direct.wait(PATIENCE_S)
    at = str(site.listener.endpoint)
    await site.gateway.close()
    with pytest.raises(OckamError):
        await site.laptop.ask(route / "ledger", NUMBER.pack(1, 0), timeout_s=PATIENCE_S)
    await until(lambda: "connection refused" in str(direct.failure))
    assert "closed by the peer" in site.down()
    await site.serve(at)
    route = await direct.wait(PATIENCE_S)
    await site.laptop.ask(route / "ledger", NUMBER.pack(2, 0))
    assert [NUMBER.unpack_from(came)[0] for came in site.ledger] == [0, 2]


async def test_a_flood_of_first_pieces_stops_no_channel_takes_no_memory_and_is_forgotten(site: Site) -> None:
    await site.start(datagram_unproven_pending_bytes=200_000, datagram_reassembly_s=0.3)
    await site.tell(0, b"before")
    port, most, sent = site.port, 0, 0
    hostile = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(20)]
    for sock in hostile:
        sock.connect(("127.0.0.1", site.listener.endpoint.host_port.port))
    draw = random.Random(6)
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_tell_all(site, [draw.randbytes(4000) for _ in range(40)]))
        while not telling.done():
            for sock in hostile:  # less than is read in a turn: what a full buffer loses is another matter
                sent += 1
                sock.send(encode_piece(Piece(Dialect.B, sent % 65_536, 0, 30_000, bytes(480))))
            most = max(most, port._strangers.pending_bytes)
            await asyncio.sleep(0)
    assert telling.result() == [], "each was answered at the first try"
    assert 100_000 < most <= 200_000
    for sock in hostile:
        sock.close()
    await until(lambda: port._strangers.pending_bytes == 0)
    assert len(site.listener.links) == 1, "none of them was given a link"


async def _tell_all(site: Site, bodies: list[bytes]) -> list[OckamError]:
    return [error for n, body in enumerate(bodies, 1) for error in await site.tell(n, body, timeout_s=1.0)]


async def test_messages_of_a_known_peer_that_never_become_whole_are_forgotten_in_time(
    site: Site, net: Any, losing: Any
) -> None:
    await site.start(datagram_reassembly_s=0.3)
    port, only_first = site.port, False
    air = await net.air(
        site.listener.endpoint.host_port.port,
        lambda data: only_first and data[:2] == b"\x85\x01" and later(data),
    )
    link = await site.laptop.connect(f"udp:127.0.0.1:{air.port}")
    context = site.laptop.context()
    await context.send(link.route / "nobody", b"first")
    await until(lambda: len(site.listener.links) == 2)
    await until(lambda: all(found._link.path.is_proven for found in site.listener.links))
    only_first = True
    for _ in range(30):
        await context.send(link.route / "nobody", bytes(40_000))
    await until(lambda: port._known.pending_bytes)
    assert port._known.pending_bytes < 30 * 17_000
    await until(lambda: port._known.pending_bytes == 0)
    only_first = False
    await site.tell(1, b"meanwhile")
    link.close()


def later(datagram: bytes) -> bool:
    """True for a piece behind the first, of datagrams whose number has 16 bits."""
    return datagram[2] == 0x19 and datagram[5] != 0


async def test_a_portal_that_loses_a_piece_ends_with_an_error_and_the_channel_lives_on(site: Site) -> None:
    await site.start()
    site.gateway.outlet(f"tcp:127.0.0.1:{await site.net.echo()}")
    site.gateway.open("outlet", site.channels)
    portal = await site.laptop.inlet("tcp:127.0.0.1:0", site.path.current / "outlet")
    data = random.Random(7).randbytes(400_000)
    for number in range(5):
        site.spoil(Conditions(loss_ratio=0.05))
        reader, writer = await asyncio.open_connection("127.0.0.1", portal.port)
        came = bytearray()
        writer.write(data)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while chunk := await reader.read(65_536):
                    came += chunk
        except ConnectionError:
            pass
        writer.transport.abort()
        assert data.startswith(came)
        assert len(came) < len(data)
        site.spoil(PERFECT)
        await site.tell(number, b"after")
    await until(lambda: not portal.sessions)
    assert not site.down()
