"""Applications that take nothing, beside each other on one link: none may hold it after the other."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from boards.emulation.clock import run
from ockamlite.portals.stalls import StallWatch
from tests.portals.connections import MEBIBYTE
from tests.portals.test_pressure import narrow, narrow_client, read_all

if TYPE_CHECKING:
    import socket

STALL_S = 15.0


class Reader:
    """Stands for a connection on a link that only one of them holds at a time."""

    def __init__(self, link: list[Reader]) -> None:
        self.link = link
        self.taken_bytes = 0
        self.holds = False
        self.is_owed = False
        self.watch: StallWatch | None = None
        self.ended_at: float | None = None
        link.append(self)

    def neighbours(self) -> list[Reader]:
        return self.link

    def watch_stall(self) -> None:
        if self.watch is None:
            self.watch = StallWatch(self, STALL_S)

    def hold(self) -> None:
        """The link brought more than there is room for."""
        self.holds = True
        if self.watch is None:
            self.watch_stall()
        else:
            self.watch.holds_now()

    def stalled(self, stall_s: float) -> None:
        assert stall_s == STALL_S
        self.ended_at = asyncio.get_running_loop().time()
        self.link.remove(self)
        if self.link:
            self.link[0].hold()

    def moves(self) -> None:
        self.watch = None


def test_two_hundred_that_take_nothing_end_together() -> None:
    async def hold() -> None:
        link: list[Reader] = []
        readers = [Reader(link) for _ in range(200)]
        readers[0].hold()
        await asyncio.sleep(1000)
        ended = [reader.ended_at or 0.0 for reader in readers]
        assert ended[0] == STALL_S
        assert max(ended) <= 1.5 * STALL_S

    run(hold())


def test_who_took_something_meanwhile_has_all_its_time_when_it_holds_the_link() -> None:
    async def hold() -> None:
        link: list[Reader] = []
        first, second = Reader(link), Reader(link)
        first.hold()
        await asyncio.sleep(STALL_S - 1)
        second.taken_bytes += 1
        await asyncio.sleep(1000)
        assert first.ended_at == STALL_S
        assert (second.ended_at or 0.0) >= 2 * STALL_S - 1

    run(hold())


def test_who_takes_nothing_but_has_room_is_not_ended() -> None:
    async def hold() -> None:
        link: list[Reader] = []
        first, second = Reader(link), Reader(link)
        first.hold()
        await asyncio.sleep(10.0)
        first.holds = False
        first.taken_bytes += 1
        await asyncio.sleep(1000)
        assert (first.ended_at, second.ended_at) == (None, None)
        assert first.watch is None
        assert second.watch is not None
        second.watch.cancel()

    run(hold())


async def test_many_that_never_read_cost_their_neighbours_a_wait_and_nothing_else(
    net: Any, until: Any
) -> None:
    go_on = asyncio.Event()
    many, stall_s, answer = 20, 2.0, os.urandom(MEBIBYTE)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"a":
            writer.write(answer)
            await writer.drain()
            writer.write_eof()
            await reader.read()
        writer.write(bytes(65_536))
        await go_on.wait()
        while True:
            writer.write(bytes(65_536))
            await writer.drain()

    # Nobody's answer comes in time while the link is held.
    portal = await net.portal(await net.serve(serve), portal_stall_s=stall_s, portal_connect_s=0.3)
    route = portal.path.current
    lazy: list[socket.socket] = [await narrow_client(portal.inlet.port) for _ in range(many)]
    await portal.laptop.event("session-open", many)
    narrow(portal.inlet)
    sessions = tuple(portal.inlet.sessions)
    diligent, writer = await portal.client()
    await portal.laptop.event("session-open", many + 1)
    loop = asyncio.get_running_loop()
    for client in lazy:
        await loop.sock_sendall(client, b"f")
    await until(lambda: all(session._unread_bytes() for session in sessions))
    go_on.set()
    await until(lambda: any(session.holds for session in sessions))
    began = loop.time()
    new_one, new_writer = await portal.client()
    writer.write(b"a")
    new_writer.write(b"a")
    assert await diligent.read() == answer
    assert await new_one.read() == answer
    for number in range(many):
        closed = await portal.laptop.event("session-close", number + 1)
        assert closed.reason == "the application took nothing for 2 s"
    # One after the other they would hold it for 40 s; found one look after the other, for 12 s.
    assert loop.time() - began < 3 * stall_s
    assert not portal.laptop.events("refused")
    assert portal.path.current == route
    for client in lazy:
        assert not (await read_all(client))[1]
        client.close()
    writer.close()
    new_writer.close()
    await portal.is_clean()
