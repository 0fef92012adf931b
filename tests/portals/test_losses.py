"""A plain portal never delivers a gap: what a bad hop does to messages, and what applications see."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.secure_channels.trust import TrustEveryone

if TYPE_CHECKING:
    from collections.abc import Callable


class Fault:
    """Does something once to the frames of one direction, beginning with the next."""

    def __init__(self, wire: Any, direction: str, act: Callable[[list[bytes]], list[bytes] | None]) -> None:
        self._held: list[bytes] = []
        self._act = act
        self._wire = wire
        self._direction = direction
        self.done = asyncio.Event()
        setattr(wire, direction, self._frame)

    def _frame(self, frame: bytes) -> list[bytes]:
        self._held.append(frame)
        out = self._act(self._held)
        if out is None:
            return []
        setattr(self._wire, self._direction, lambda frame: [frame])
        self.done.set()
        return out


def drop(frames: list[bytes]) -> list[bytes] | None:
    return []


def swap(frames: list[bytes]) -> list[bytes] | None:
    return [frames[1], frames[0]] if len(frames) == 2 else None


def delay(frames: list[bytes]) -> list[bytes] | None:
    return [*frames[1:], frames[0]] if len(frames) == 4 else None


def repeat(frames: list[bytes]) -> list[bytes] | None:
    return [frames[0], frames[0], frames[0]]


def flip(frames: list[bytes]) -> list[bytes] | None:
    return [frames[0][:-1] + bytes([frames[0][-1] ^ 1])]


class Application:
    """A service that numbers what it writes on demand and keeps what it reads."""

    def __init__(self) -> None:
        self.came = bytearray()
        self.error: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.writer: asyncio.StreamWriter | None = None

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.writer is not None:  # a later connection: an echo
            while data := await reader.read(65_536):
                writer.write(data)
            return
        self.writer = writer
        try:
            while data := await reader.read(65_536):
                self.came += data
            self.error.set_result(None)
        except ConnectionError as error:
            self.error.set_result(error)


async def chunks(writer: asyncio.StreamWriter, session: Any, count: int, until: Any) -> bytes:
    """Write chunks that each travel in a message of their own."""
    sent = b""
    for number in range(count):
        chunk = bytes([number]) * 1000
        before = session.portal.sent_bytes
        writer.write(chunk)
        sent += chunk
        await until(lambda before=before: session.portal.sent_bytes == before + 1000)
    return sent


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("fault", [drop, swap, delay, flip], ids=["drop", "reorder", "delay", "damage"])
async def test_a_gap_is_an_error_for_both_applications_and_the_channel_lives_on(
    net: Any, until: Any, fault: Any, direction: str
) -> None:
    application = Application()
    portal = await net.portal(await net.serve(application), wired=True)
    channel = portal.path.opened.channel
    reader, writer = await portal.client()
    await portal.laptop.event("session-open")
    await until(lambda: application.writer is not None)
    (here,), (there,) = portal.inlet.sessions, portal.outlet.sessions
    source: Any = writer if direction == "up" else application.writer
    session = here if direction == "up" else there
    first = await chunks(source, session, 1, until)
    if direction == "up":
        await until(lambda: bytes(application.came) == first)
    else:
        assert await reader.readexactly(1000) == first
    doing = Fault(portal.wire, "to_listener" if direction == "up" else "to_dialler", fault)
    sent = b""
    for number in range(1, 5):
        sent += bytes([number]) * 1000
        source.write(bytes([number]) * 1000)
        await until(lambda n=number: session.portal.sent_bytes >= 1000 * (n + 1) or session.portal.is_done)
    await doing.done.wait()
    for host in (portal.laptop, portal.gateway):
        closed = await host.event("session-close")
        assert closed.reason in ("messages were lost on the way", "reset by the peer")
    # Each application has an error, and of what was sent an unbroken beginning at most.
    error = await application.error
    if direction == "up":
        assert isinstance(error, ConnectionError)
        assert (first + sent).startswith(bytes(application.came))
    else:
        found = b""
        try:
            while data := await reader.read(65_536):
                found += data
            pytest.fail("the client saw a good end")
        except ConnectionError:
            assert sent.startswith(found)
    writer.close()
    await portal.is_clean()
    assert portal.path.opened.channel is channel
    assert not channel.closed.done()
    reader, writer = await portal.client()
    writer.write(b"a new connection works")
    assert await reader.readexactly(22) == b"a new connection works"
    writer.close()
    await portal.is_clean()


@pytest.mark.parametrize("direction", ["to_listener", "to_dialler"])
async def test_a_repeated_message_has_no_effect(net: Any, direction: str) -> None:
    portal = await net.portal(await net.echo(), wired=True)
    reader, writer = await portal.client()
    setattr(portal.wire, direction, lambda frame: [frame, frame])
    for number in range(50):
        writer.write(bytes([number]) * 1000)
        assert await reader.readexactly(1000) == bytes([number]) * 1000
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await portal.is_clean()
    assert len(portal.gateway.events("session-open")) == 1


async def test_a_lost_ping_turns_the_client_away_and_the_next_is_served(net: Any) -> None:
    portal = await net.portal(await net.echo(), wired=True, portal_connect_s=0.3)
    Fault(portal.wire, "to_listener", drop)
    reader, writer = await portal.client()
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    assert "did not answer" in (await portal.laptop.event("refused")).reason
    reader, writer = await portal.client()
    writer.write(b"next")
    assert await reader.readexactly(4) == b"next"
    writer.close()
    await portal.is_clean()


async def test_a_gap_while_a_client_waits_turns_it_away_and_its_pong_finds_nobody(
    net: Any, until: Any
) -> None:
    busy = await net.busy()
    portal = await net.portal(busy.port, wired=True, portal_connect_s=1.5)
    reader, writer = await portal.client()
    await until(lambda: portal.outlet.sessions)
    route = portal.path.opened.channel.route
    fault = Fault(portal.wire, "to_dialler", drop)
    lost = asyncio.ensure_future(portal.laptop.ask(route / "echo", b"lost", timeout_s=20.0))
    await fault.done.wait()
    await portal.laptop.ask(route / "echo", b"shows the gap")
    lost.cancel()
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    assert "lost on the way" in (await portal.laptop.event("refused")).reason
    await busy.accept()
    assert (await portal.gateway.event("session-close")).reason == "reset by the peer"
    await portal.is_clean()


async def test_a_channel_that_the_other_end_never_accepted_is_opened_anew(net: Any) -> None:
    """Its last handshake message, which nobody answers, is lost for good."""
    gateway, laptop = await net.node(), await net.node(portal_connect_s=0.5)
    listener = await gateway.listen("tcp:127.0.0.1:0")
    gateway.outlet(f"tcp:127.0.0.1:{await net.echo()}")
    channels = gateway.secure_channel_listener(trust=TrustEveryone())
    gateway.open(channels.address, listener)
    gateway.open("outlet", channels)
    wire = await net.wire(listener.endpoint.host_port.port)
    crossed: list[bytes] = []

    def only_the_first_of_the_first_link(frame: bytes) -> list[bytes]:
        crossed.append(frame)
        return [frame] if wire.links > 1 or len(crossed) == 1 else []

    wire.to_listener = only_the_first_of_the_first_link
    hops = f"tcp:127.0.0.1:{wire.port},secure:secure_channel_listener,outlet"
    path = laptop.path(hops, trust=TrustEveryone())
    first = await path.wait(10.0)
    inlet = await laptop.inlet("tcp:127.0.0.1:0", path)
    reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    assert await path.wait(10.0) != first
    reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()


async def test_an_outlet_that_does_not_answer_costs_a_proven_channel_nothing(net: Any) -> None:
    portal = await net.portal(1, portal_connect_s=0.3)
    await portal.outlet.close()
    route = portal.path.current
    reader, writer = await portal.client()
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    await portal.laptop.event("refused")
    assert portal.path.current == route


async def test_a_channel_whose_peer_is_gone_without_a_word_is_opened_anew_when_a_client_needs_it(
    net: Any,
) -> None:
    portal = await net.portal(await net.echo(), wired=True, portal_connect_s=0.4)
    wire, route = portal.wire, portal.path.current
    wire.to_dialler = lambda frame: [frame] if wire.links > 1 else []
    reader, writer = await portal.client()
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    assert await portal.path.wait(10.0) != route
    reader, writer = await portal.client()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()


async def test_connections_that_stand_still_do_not_keep_a_channel_whose_peer_is_gone(net: Any) -> None:
    portal = await net.portal(await net.echo(), wired=True, portal_connect_s=0.4)
    still_reader, still_writer = await portal.client()
    still_writer.write(b"x")
    await still_reader.readexactly(1)
    portal.wire.to_dialler = lambda frame: []
    reader, writer = await portal.client()
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    with pytest.raises(ConnectionError):
        await still_reader.readexactly(1)
    closed = await portal.laptop.event("session-close")
    assert closed.reason == "the way to the peer is gone: the other end fell silent"
    writer.close()
    still_writer.close()


async def test_a_channel_on_which_something_moves_is_kept(net: Any) -> None:
    portal = await net.portal(await net.echo(), wired=True, portal_connect_s=0.4)
    moving_reader, moving_writer = await portal.client()
    moving_writer.write(b"x")
    await moving_reader.readexactly(1)
    route = portal.path.current
    portal.wire.to_dialler = lambda frame: []
    reader, writer = await portal.client()
    await asyncio.sleep(0)
    while len(portal.inlet.sessions) < 2:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.2)  # what moves sooner may have been under way when a peer died
    moving_writer.write(b"y")
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    assert portal.path.current == route
    assert len(portal.inlet.sessions) == 1
    moving_writer.close()
