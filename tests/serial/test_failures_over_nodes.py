"""What goes wrong on a line, as nodes and the users of portals see it, in virtual time.

Nothing is corrupted, doubled, leaked or stuck; what ended says why; and what was lost is opened again by the
path that wants it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import struct
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation import clock
from boards.emulation.line import MemoryLine
from boards.emulation.uart import QUIET, Noise
from ockamlite.bare import encode_uint
from ockamlite.errors import OckamError, UnavailableError
from ockamlite.events import LinkDown, SessionClosed
from ockamlite.identities.local import LocalIdentity
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.endpoint import Endpoint
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers
from ockamlite.wire.reliable import frames
from ockamlite.wire.reliable.engine import ReliableLink
from ockamlite.wire.reliable.profile import SERIAL
from transports.serial import SerialTransport
from transports.serial.cobs import Unpacker, pack
from transports.serial.options import line_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

NUMBER = struct.Struct(">IH")
"""Which body, and which try of it."""
FIFTY = 50
GATEWAY, LAPTOP = 0, 1


class Site:
    """A gateway that listens at one end of a line, a laptop with a path along it at the other."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.line = MemoryLine(seed=3)
        self.ledger: list[bytes] = []
        """All that came to the gateway's worker, in the order it came."""
        self.down: tuple[list[str], list[str]] = ([], [])
        """Why links ended, at each end."""
        self.closed: tuple[list[SessionClosed], list[SessionClosed]] = ([], [])
        """Connections through the portal that ended, at each end."""
        self.ended_well: list[bytes] = []
        """What connections brought to the target until a good end."""

    async def start(self, query: str = "", *, gateway_query: str | None = None, beyond: str = "") -> None:
        self.gateway, self.laptop = await self._node(GATEWAY), await self._node(LAPTOP)
        self.channels = self.gateway.secure_channel_listener(trust=TrustEveryone())

        async def note(context: Any, message: Any) -> None:
            self.ledger.append(message.payload)
            await context.reply(message, message.payload[: NUMBER.size])

        self.gateway.open(self.gateway.start_worker("ledger", note), self.channels)
        await self.listen(query if gateway_query is None else gateway_query)
        self.path = self.laptop.path(
            f"serial:b{query},secure:secure_channel_listener{beyond}",
            trust=TrustIdentifiers(self.gateway.identity.identifier),
        )

    async def listen(self, query: str = "") -> None:
        self.listener = await self.gateway.listen(f"serial:a{query}")
        self.gateway.open(self.channels.address, self.listener)

    async def portal(self) -> int:
        """A target behind the gateway that sends back what comes; the port of the laptop's inlet to it."""
        server = await asyncio.start_server(self._echo, "127.0.0.1", 0)
        self.gateway.open(
            self.gateway.outlet(f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}").address, self.channels
        )
        await self.path.wait(60)
        return (await self.laptop.inlet("tcp:127.0.0.1:0", self.path)).port

    async def tell(self, number: int, body: bytes) -> int:
        """Have a body noted; sent again, as another try, whenever the way was lost. How often it was."""
        for again in range(1000):
            route = await self.path.wait(300)
            told = NUMBER.pack(number, again) + body
            try:
                answer = await self.laptop.ask(route / "ledger", told, timeout_s=20)
            except OckamError:
                continue
            assert answer.payload == told[: NUMBER.size]
            return again
        raise AssertionError(f"{number} was never noted")

    async def pull(self, end: int, away_s: float) -> None:
        self.line.unplug(end)
        await asyncio.sleep(away_s)
        self.line.plug(end)

    def addresses(self) -> list[int]:
        """How many each node has, but for those by which channels ask for a sign of life."""
        return [
            len(node.router) - sum(channel._probe_address is not None for channel in node._channels._channels)
            for node in (self.gateway, self.laptop)
        ]

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came = b""
        try:
            while data := await reader.read(65_536):
                came += data
                writer.write(data)
                await writer.drain()
            self.ended_well.append(came)
            writer.write_eof()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _node(self, end: int) -> Node:
        def noted(event: object) -> None:
            if isinstance(event, LinkDown):
                self.down[end].append(event.reason)
            elif isinstance(event, SessionClosed):
                self.closed[end].append(event)

        transport = SerialTransport(LIMITS, open_port=self.line.open_port)
        identity = LocalIdentity.ephemeral(1_700_000_000)
        return await self._stack.enter_async_context(
            Node(identity=identity, transports=[transport], on_event=noted)
        )


def at_site(body: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    """Run a body with a site, for ten hours at most."""

    async def main() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(36_000):
            await body(Site(stack))

    clock.run(main())


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(600):
        while not holds():
            await asyncio.sleep(0.01)


# -- the cable -------------------------------------------------------------------------------------


def test_a_cable_pulled_fifty_times_in_a_transfer_costs_time_and_nothing_else() -> None:
    async def body(site: Site) -> None:
        await site.start()
        await site.tell(0, b"before")
        addresses = site.addresses()
        draw = random.Random(1)
        bodies = [draw.randbytes(draw.randrange(4000)) for _ in range(200)]
        number, again = 0, 0

        async def pulling() -> None:
            for _ in range(FIFTY):
                await site.path.wait(300)
                await asyncio.sleep(draw.random())
                await site.pull(draw.randrange(2), 2 * draw.random())
                await asyncio.sleep(0.1)

        pulls = asyncio.ensure_future(pulling())
        while not pulls.done() or number < len(bodies):
            number += 1
            again += await site.tell(number, bodies[number % len(bodies)])
        await pulls
        assert again >= FIFTY // 2, "there was a transfer under way when it was pulled"
        assert len(set(site.ledger)) == len(site.ledger), "nothing came twice"
        for came in site.ledger[1:]:
            of, _ = NUMBER.unpack_from(came)
            assert came[NUMBER.size :] == bodies[of % len(bodies)]
        assert {NUMBER.unpack_from(came)[0] for came in site.ledger} == set(range(number + 1))
        for reasons in site.down:
            assert len(reasons) >= FIFTY // 4
            assert all(known(reason) for reason in reasons), set(reasons)
        await until(lambda: site.addresses() == addresses)
        assert len(site.listener.links) == len(site.channels.channels) == 1

    at_site(body)


def known(reason: str) -> bool:
    """True for what a cable that is pulled at either end can be the reason of."""
    return any(
        words in reason
        for words in ("unplugged", "restarted", "nothing heard for", "not acknowledged", "closed")
    )


def test_connections_of_a_portal_end_with_an_error_when_the_cable_is_pulled_and_the_next_ones_work() -> None:
    async def body(site: Site) -> None:
        await site.start("?baud=921600", beyond=",outlet")
        port = await site.portal()
        draw = random.Random(2)
        data = draw.randbytes(60_000)
        assert await exchange(port, data) == (data, "ended")
        addresses, cut = site.addresses(), 0
        for number in range(FIFTY):
            going = asyncio.ensure_future(exchange(port, data))
            await asyncio.sleep(0.2 + draw.random())
            end, ended = draw.randrange(2), len(site.down[LAPTOP])
            await site.pull(end, 0.2)
            came, how = await going
            await until(lambda: len(site.down[LAPTOP]) > ended)  # noqa: B023  (called here)
            cut += how != "ended"
            assert data.startswith(came), "what comes is exact as far as it comes"
            assert (how == "ended") == (came == data), "no end that looks good and is not"
            await site.path.wait(60)
            assert await exchange(port, b"%d" % number) == (b"%d" % number, "ended")
        assert cut > FIFTY // 2
        assert len(site.ended_well) > FIFTY
        for came in site.ended_well:
            assert came in (data, *(b"%d" % number for number in range(FIFTY))), "nor at the target"
        broken = [event.reason for event in site.closed[LAPTOP] if event.reason != "done"]
        assert len(broken) == cut
        assert all(reason.startswith("the way to the peer is gone: ") for reason in broken), set(broken)
        await until(lambda: site.addresses() == addresses)

    at_site(body)


async def exchange(port: int, data: bytes) -> tuple[bytes, str]:
    """Send through an echo; what came back, and how the connection ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came = bytearray()

    async def send() -> None:
        try:
            writer.write(data)
            await writer.drain()
            writer.write_eof()
        except ConnectionError:
            pass

    sending = asyncio.ensure_future(send())
    try:
        while chunk := await reader.read(65_536):
            came += chunk
        how = "ended"
    except ConnectionError:
        how = "broken"
    sending.cancel()
    writer.transport.abort()
    return bytes(came), how


def test_what_is_sent_while_the_cable_is_out_is_reported_and_not_swallowed() -> None:
    async def body(site: Site) -> None:
        await site.start()
        route = await site.path.wait(60)
        asking = asyncio.ensure_future(site.laptop.ask(route / "ledger", b"\0" * 8000, timeout_s=60))
        await asyncio.sleep(0.1)
        site.line.unplug(LAPTOP)
        with pytest.raises(OckamError, match="unplugged"):
            await asking
        with pytest.raises(OckamError):
            await site.laptop.ask(route / "ledger", bytes(NUMBER.size), timeout_s=60)
        with pytest.raises(UnavailableError, match="no way along serial:b,.*: serial:b: b: no such device"):
            await site.path.wait(20)
        site.line.plug(LAPTOP)
        await site.path.wait(10)
        assert site.ledger == []

    at_site(body)


@pytest.mark.parametrize("cut", [GATEWAY, LAPTOP])
def test_a_wire_that_breaks_one_way_is_told_at_both_ends_and_asked_questions_end(cut: int) -> None:
    async def body(site: Site) -> None:
        await site.start()
        await site.tell(0, b"before")
        site.line.wires[cut].is_cut = True
        began, route = now(), await site.path.wait(1)
        with pytest.raises(OckamError, match="nothing heard for 15 s|closed by the other side"):
            await site.laptop.ask(route / "ledger", NUMBER.pack(1, 0) + bytes(900), timeout_s=60)
        await until(lambda: all(site.down))
        assert now() - began < 25
        # Who hears nothing says so, and the other end hears that.
        told = ["nothing heard for 15 s", "closed by the other side"]
        assert [site.down[1 - cut][0], site.down[cut][0]] == told
        await asyncio.sleep(30)
        assert site.path.current is None
        site.line.wires[cut].is_cut = False
        await site.tell(2, b"after")
        kept = [NUMBER.unpack_from(came)[0] for came in site.ledger]
        assert kept == ([0, 1, 2] if cut == GATEWAY else [0, 2])

    at_site(body)


# -- noise -----------------------------------------------------------------------------------------


def test_bursts_of_noise_delay_a_portal_and_change_nothing() -> None:
    async def body(site: Site) -> None:
        await site.start(beyond=",outlet")
        port = await site.portal()
        draw = random.Random(4)

        async def bursts() -> None:
            while True:
                await asyncio.sleep(draw.random())
                for end, wire in enumerate(site.line.wires):
                    site.line.inject(end, draw.randbytes(draw.randrange(300)))
                    wire.noise = Noise(bit_error_ratio=draw.choice([0.001, 0.01, 0.2]), gap_ratio=0.01)
                await asyncio.sleep(draw.random() / 2)
                for wire in site.line.wires:
                    wire.noise = QUIET

        noise = asyncio.ensure_future(bursts())
        for size in (1, 2000, 60_000):
            data = draw.randbytes(size)
            assert await exchange(port, data) == (data, "ended")
        noise.cancel()
        assert site.down == ([], [])
        assert min(wire.turned_bits for wire in site.line.wires) > 1000

    at_site(body)


def test_noise_that_does_not_end_is_told_as_silence_and_the_path_comes_back_after_it() -> None:
    async def body(site: Site) -> None:
        await site.start()
        await site.tell(1, b"before")
        for wire in site.line.wires:
            wire.noise = Noise(bit_error_ratio=0.3)
        await asyncio.sleep(60)
        assert site.down == (["nothing heard for 15 s"], ["nothing heard for 15 s"])
        assert "b: nobody answers" in str(site.path.failure)
        for wire in site.line.wires:
            wire.noise = QUIET
        await site.tell(2, b"after")
        assert [came[NUMBER.size :] for came in site.ledger] == [b"before", b"after"]

    at_site(body)


# -- ends that take nothing ------------------------------------------------------------------------


def test_a_node_that_takes_nothing_is_given_up_in_45_seconds_and_both_say_why() -> None:
    async def body(site: Site) -> None:
        await site.start()
        going_on = asyncio.Event()

        async def stuck(_: Any, __: Any) -> None:
            await going_on.wait()

        site.gateway.open(site.gateway.start_worker("stuck", stuck), site.channels)
        await site.tell(1, b"before")
        route = await site.path.wait(1) / "stuck"
        context = site.laptop.context()
        began, sent = now(), 0
        while not site.down[LAPTOP]:
            try:
                async with asyncio.timeout(100):
                    await context.send(route, bytes(3000))
            except OckamError:
                break
            sent += 1
            assert sent < 200, "what is sent into a link that has broken is not swallowed"
        assert site.down[LAPTOP] == ["the peer took nothing for 45 s"]
        assert 45 < now() - began < 120, "some of it was taken before"
        await until(lambda: site.down[GATEWAY])
        assert site.down[GATEWAY] == ["closed by the other side"]
        going_on.set()
        await site.tell(2, b"after")

    at_site(body)


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gateway_baud", "laptop_baud"), [(9600, 115_200), (115_200, 9600)])
def test_another_baud_at_one_end_is_named_within_five_seconds_and_mended_by_the_right_one(
    gateway_baud: int, laptop_baud: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(site: Site) -> None:
        await site.start(f"?baud={laptop_baud}", gateway_query=f"?baud={gateway_baud}")
        await asyncio.sleep(5)
        assert f"do both ends have the same baud and parity ({gateway_baud} here)" in caplog.text
        with pytest.raises(UnavailableError, match=rf"nothing came over the line \({laptop_baud} baud\)"):
            await site.path.wait(20)
        assert site.path.failure is not None
        assert "at the same baud" in site.path.failure.hint
        await site.listener.close()
        await site.listen(f"?baud={laptop_baud}")
        assert await site.tell(1, b"at last") == 0

    with caplog.at_level(logging.WARNING):
        at_site(body)


# -- hostile ends ----------------------------------------------------------------------------------


class Hostile(asyncio.Protocol):
    """At the laptop's end of the line: speaks the link's protocol as far as it likes."""

    def __init__(self, site: Site, session: int) -> None:
        self.site = site
        self.link: Any = ReliableLink(SERIAL, session=session, now=now())
        self.sent = 0
        self._unpacker = Unpacker(2000)

    async def begin(self) -> None:
        self.port: Any = await self.site.line.open_port(line_settings(Endpoint.parse("serial:b")), self)
        # Where a frame of the gateway's was cut, its answer to our first HELLO may be damaged.
        while not self.link.is_up:
            self.link.on_timer(now())
            self._pump()
            await asyncio.sleep(0.05)

    def data_received(self, data: bytes) -> None:
        for frame in self._unpacker.feed(data):
            if frame is not None:
                self.link.receive(frame, now())
        self._pump()

    def fragment(self, octet: int, payload: bytes) -> None:
        frame = frames.encode_data(frames.DATA << 5 | octet, 0, self.sent, payload, self.link._seed_out)
        self.sent += 1
        self.port.write(pack(frame))

    async def all_sent(self) -> None:
        await until(lambda: not self.port.waiting_bytes())

    async def leave(self) -> None:
        self.port.abort()
        await asyncio.sleep(0.01)

    def _pump(self) -> None:
        for frame in self.link.frames_to_send(now(), 10_000):
            self.port.write(pack(frame))


def now() -> float:
    return asyncio.get_running_loop().time()


def test_messages_that_never_become_whole_take_a_bounded_memory_until_their_link_ends() -> None:
    async def body(site: Site) -> None:
        await site.start()
        await site.tell(0, b"before")
        addresses = site.addresses()
        for turn in range(1, 11):
            site.line.unplug(LAPTOP)
            site.line.plug(LAPTOP)
            hostile = Hostile(site, turn)
            await hostile.begin()
            for slot in range(8):
                hostile.fragment(frames.FIRST | slot, encode_uint(130_000) + bytes(200))
            for _ in range(40):
                hostile.fragment(turn % 8, bytes(200))
            await hostile.all_sent()
            assert 8 * 200 < kept(site) < 16_000
            hostile.fragment(frames.LAST | turn % 8, b"too short")
            await until(lambda turn=turn: len(site.down[GATEWAY]) == 2 * turn)
            assert "broke the rules of the link: message in slot" in site.down[GATEWAY][-1]
            await hostile.leave()
            await site.tell(turn, b"next")
            assert kept(site) == 0
        assert [NUMBER.unpack_from(came)[0] for came in site.ledger] == list(range(11))
        await until(lambda: site.addresses() == addresses)
        assert len(site.listener.links) == 1

    at_site(body)


def kept(site: Site) -> int:
    """Bytes of unfinished messages at the gateway."""
    listener: Any = site.listener._inner
    reassembly = listener._line.shell.engine._reassembly
    return sum(len(fragments or b"") for fragments in reassembly._slots)


def test_more_than_a_link_has_room_for_is_refused_when_it_is_announced() -> None:
    async def body(site: Site) -> None:
        await site.start()
        hostile = Hostile(site, 1)
        await hostile.begin()
        for slot in range(8):
            hostile.fragment(frames.FIRST | slot, encode_uint(200_000) + bytes(200))
        await until(lambda: site.down[GATEWAY])
        assert "message of 200000 bytes, more than is allowed" in site.down[GATEWAY][0]
        await hostile.leave()
        await site.tell(1, b"next")

    at_site(body)
