"""What goes wrong on the air, as nodes see it: secure channels and what goes through them, in virtual time.

Nothing is corrupted, doubled, leaked or stuck; what ended says why; what was lost is opened again by the path
that wants it, and what was sent again by number is exact.
"""

from __future__ import annotations

import asyncio
import random
import struct
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import AirModel
from ockamlite import bare
from ockamlite.errors import LinkClosedError, OckamError, UnavailableError
from ockamlite.events import LinkDown, LinkUp
from ockamlite.identities.local import LocalIdentity
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers
from ockamlite.wire.reliable import frames
from ockamlite.wire.reliable.engine import ReliableLink
from ockamlite.wire.reliable.profile import Profile
from transports.ble import BleTransport, visits
from transports.ble.gatt import Advertisement

if TYPE_CHECKING:
    from collections.abc import Callable

    World = Any
    Virtual = Callable[[Callable[[], Any]], None]

COUNT = 40
NUMBER = struct.Struct(">I")


def bodies(seed: int, count: int = COUNT) -> list[bytes]:
    """Numbered bodies of many sizes."""
    draw = random.Random(seed)
    return [NUMBER.pack(number) + draw.randbytes(draw.randrange(2000)) for number in range(count)]


class Site:
    """A cabinet that listens over Bluetooth with a ledger behind a secure channel, and who visits it."""

    def __init__(self, world: Any, stack: AsyncExitStack) -> None:
        self.world = world
        self.air = world.air
        self.down: list[LinkDown] = []
        """Links of the cabinet that ended."""
        self.up = 0
        self.ledger: list[bytes] = []
        """All that came, in the order it came."""
        self._stack = stack

    async def start(self) -> None:
        self.cabinet = await self._node(self.world.pi_radio, self._noted)
        self.listener = await self.cabinet.listen("ble:pi")
        self.channels = self.cabinet.secure_channel_listener(trust=TrustEveryone())
        self.cabinet.open(self.channels.address, self.listener)

        async def note(context: Any, message: Any) -> None:
            self.ledger.append(message.payload)
            await context.reply(message, message.payload[: NUMBER.size])

        self.cabinet.open(self.cabinet.start_worker("ledger", note), self.channels)

    async def visitor(self, radio: Any = None) -> Visitor:
        made = Visitor(self, radio or self.air.radio())
        made.node = await self._node(made.radio, made.noted)
        made.path = made.node.path(
            "ble:pi,secure:secure_channel_listener", trust=TrustIdentifiers(self.cabinet.identity.identifier)
        )
        return made

    def _noted(self, event: object) -> None:
        self.up += isinstance(event, LinkUp)
        if isinstance(event, LinkDown):
            self.down.append(event)

    async def _node(self, radio: Any, on_event: Callable[[object], None]) -> Node:
        transport = BleTransport(LIMITS, radio)
        identity = LocalIdentity.ephemeral(1_700_000_000)
        return await self._stack.enter_async_context(
            Node(identity=identity, transports=[transport], on_event=on_event)
        )

    async def hostile(self, user: Any = None) -> Any:
        """A connection of a central that is no node."""
        radio = self.air.radio()
        connection = await radio.connect(Advertisement(self.world.pi_radio.address, "", (), 0))
        if user is not None:
            user.begin(connection)
        return connection


class Visitor:
    """A node with a path to the cabinet."""

    node: Node
    path: Any

    def __init__(self, site: Site, radio: Any) -> None:
        self.site = site
        self.radio = radio
        self.down: list[LinkDown] = []

    def noted(self, event: object) -> None:
        if isinstance(event, LinkDown):
            self.down.append(event)

    async def tell(self, body: bytes, *, patience_s: float = 300.0) -> None:
        """Have one body noted; asked again, with its number, whenever the way was lost."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while True:
            route = await self.path.wait(until - loop.time())
            try:
                answer = await self.node.ask(route / "ledger", body, timeout_s=5)
            except OckamError:
                continue
            assert answer.payload == body[: NUMBER.size]
            return

    async def tell_all(self, told: list[bytes]) -> None:
        for body in told:
            await self.tell(body)


@pytest.fixture
def at_site(world: type[World], virtual: Virtual) -> Callable[..., None]:
    """Runs a body with a site, in virtual time; after it no node is left."""

    def play(body: Callable[[Site], Any], model: AirModel | None = None) -> None:
        async def whole() -> None:
            async with AsyncExitStack() as stack:
                site = Site(world(model), stack)
                await site.start()
                await body(site)

        virtual(whole)

    return play


def once_and_exact(ledger: list[bytes], told: list[bytes], *, again: int = 0) -> None:
    """Everything came; at most ``again`` of it twice, and what came twice was the same."""
    assert sorted(set(ledger)) == sorted(told)
    assert len(ledger) <= len(told) + again


async def left_with(site: Site, links: int) -> None:
    """Wait until the cabinet has so many links."""
    async with asyncio.timeout(60):
        while len(site.listener.links) != links:
            await asyncio.sleep(0.1)


# -- out of range, killed --------------------------------------------------------------------------


def test_half_a_minute_out_of_range_is_told_at_both_ends_and_the_path_comes_back(
    at_site: Callable[..., None],
) -> None:
    async def body(site: Site) -> None:
        visitor, told = await site.visitor(), bodies(1)
        telling = asyncio.ensure_future(visitor.tell_all(told))
        while len(site.ledger) < COUNT // 2:
            await asyncio.sleep(0.05)
        site.air.silence(site.world.pi_radio.address)
        await asyncio.sleep(30)
        assert not telling.done()
        for ended in (site.down, visitor.down):
            assert [event.reason for event in ended] == ["nothing was heard of the device for 2 s"]
        assert not site.listener.links
        assert visitor.path.current is None
        site.air.restore(site.world.pi_radio.address)
        back = asyncio.get_running_loop().time()
        await visitor.path.wait(30)
        assert asyncio.get_running_loop().time() - back < 10
        await telling
        once_and_exact(site.ledger, told, again=1)

    at_site(body)


def test_a_question_that_waits_for_a_device_out_of_range_ends_with_why(at_site: Callable[..., None]) -> None:
    async def body(site: Site) -> None:
        visitor = await site.visitor()
        await visitor.tell(b"0000")
        site.air.silence(site.world.pi_radio.address)
        with pytest.raises(LinkClosedError, match="no answer: nothing was heard of the device for 2 s"):
            await visitor.node.ask(visitor.path.current / "ledger", b"0001", timeout_s=5)
        with pytest.raises(UnavailableError, match="no device 'pi'.* was heard"):
            await visitor.path.wait(30)

    at_site(body)


def test_a_central_that_is_killed_is_noticed_and_leaves_nothing_behind(at_site: Callable[..., None]) -> None:
    async def body(site: Site) -> None:
        other, killed = await site.visitor(), await site.visitor()
        await asyncio.gather(other.tell(b"0000"), killed.tell(b"0001"))
        site.air.silence(killed.radio.address)
        told = bodies(2)
        await other.tell_all(told)
        await left_with(site, 1)
        assert [event.reason for event in site.down] == ["nothing was heard of the device for 2 s"]
        assert len(site.listener.links) == len(site.channels.channels) == 1
        assert not other.down
        once_and_exact(site.ledger[2:], told)
        # Its successor has the same radio, and another identity.
        await killed.node.close()
        site.air.restore(killed.radio.address)
        successor = await site.visitor(killed.radio)
        await successor.tell(b"0002")
        assert len(site.listener.links) == len(site.channels.channels) == 2

    at_site(body)


# -- values lost, swapped, short -------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        AirModel(notification_loss=0.05, write_loss=0.05),
        AirModel(swapped=0.1),
        AirModel(mtu_exchange_s=0.2),
        AirModel(mtu=23, packet_loss=0.05, notification_loss=0.02, write_loss=0.02, swapped=0.05),
    ],
    ids=["notifications and writes lost", "pairs swapped", "MTU of 23 for 200 ms", "all of it"],
)
def test_bad_values_delay_what_goes_through_a_channel_and_change_nothing(
    at_site: Callable[..., None], model: AirModel
) -> None:
    async def body(site: Site) -> None:
        visitor, told = await site.visitor(), bodies(3)
        await visitor.tell_all(told)
        assert site.ledger == told
        assert not site.down
        assert not visitor.down
        assert site.up == 1

    at_site(body, model)


# -- many at once ----------------------------------------------------------------------------------


def test_seven_nodes_talk_at_once_and_the_eighth_is_told_and_comes_in_when_one_leaves(
    at_site: Callable[..., None],
) -> None:
    async def body(site: Site) -> None:
        visitors = [await site.visitor() for _ in range(7)]
        told = [[bytes([n]) * 4 + body for body in bodies(n, 10)] for n in range(7)]
        await asyncio.gather(*(v.tell_all(bodies) for v, bodies in zip(visitors, told, strict=True)))
        for bodies_of_one in told:
            came = [body for body in site.ledger if body[:4] == bodies_of_one[0][:4]]
            assert came == bodies_of_one
        assert len(site.channels.channels) == 7
        eighth = await site.visitor()
        with pytest.raises(UnavailableError, match="as many connections as it takes"):
            await eighth.path.wait(60)
        await visitors[0].node.close()
        await eighth.tell(b"0008")
        assert not any(visitor.down for visitor in visitors[1:])

    at_site(body)


def test_who_holds_every_place_and_uses_none_keeps_nobody_out(at_site: Callable[..., None]) -> None:
    async def body(site: Site) -> None:
        user = await site.visitor()
        await user.tell(b"0001")
        held = [await site.world.dial() for _ in range(6)]
        await left_with(site, 7)
        newcomer = await site.visitor()
        await newcomer.tell(b"0002", patience_s=60)
        await user.tell(b"0003")
        assert not user.down, "a link that is used stays"
        assert not newcomer.down
        assert sum(end.closed.done() for end in held) <= 2, "one place at a time is enough"
        assert {down.reason for down in site.down} == {"unused, and every place is taken"}

    at_site(body)


def test_links_that_the_adapter_dialled_itself_take_places_too(at_site: Callable[..., None]) -> None:
    async def body(site: Site) -> None:
        beyond = await site._node(site.air.radio(), lambda _: None)
        await beyond.listen("ble:beyond")
        onward = await site.cabinet.connect("ble:beyond")
        for _ in range(6):
            await site.world.dial()
        newcomer = await site.visitor()
        await newcomer.tell(b"0001", patience_s=60)
        assert not onward.closed.done()

    at_site(body)


def test_unused_links_stay_while_a_place_is_free(at_site: Callable[..., None]) -> None:
    async def body(site: Site) -> None:
        held = [await site.world.dial() for _ in range(6)]
        await asyncio.sleep(600)
        assert not any(end.closed.done() for end in held)

    at_site(body)


# -- hostile centrals ------------------------------------------------------------------------------


class Flood:
    """Writes values whenever there is room."""

    def __init__(self, values: Callable[[], bytes]) -> None:
        self._values = values
        self.written = 0
        self.over: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def begin(self, connection: Any) -> None:
        self.connection = connection
        connection.start(self)
        self.room_changed()

    def value_received(self, value: bytes) -> None:
        pass

    def room_changed(self) -> None:
        while self.connection.writable_bytes() and not self.over.done():
            self.connection.write_frame(self._values())
            self.written += 1

    def connection_lost(self, error: object) -> None:
        self.over.set_result(error)


class Speaker:
    """Speaks the link's protocol, and whatever else is wanted."""

    def __init__(self, session: int) -> None:
        self.link: Any = ReliableLink(Profile.ble(495), session=session, now=0.0)
        self.up = asyncio.Event()
        self.over: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def begin(self, connection: Any) -> None:
        self.connection = connection
        connection.start(self)
        self.room_changed()

    def value_received(self, value: bytes) -> None:
        self.link.receive(value, asyncio.get_running_loop().time())
        if self.link.is_up:
            self.up.set()
        self.room_changed()

    def room_changed(self) -> None:
        now = asyncio.get_running_loop().time()
        for frame in self.link.frames_to_send(now, self.connection.writable_bytes()):
            self.connection.write_frame(frame)

    def connection_lost(self, error: object) -> None:
        self.over.set_result(error)


class Unfinished:
    """Stands for a queue of messages of which the last fragment never comes."""

    waiting_bytes = 0
    budget_bytes = 0

    def __init__(self, announced: int, slots: int) -> None:
        self._left = [announced - 1] * slots
        self._announced = announced
        self._begun: set[int] = set()

    def __bool__(self) -> bool:
        return any(self._left)

    def take(self, room: int, _: object) -> tuple[int, bytes] | None:
        slot = next((slot for slot, left in enumerate(self._left) if left), None)
        if slot is None:
            return None
        octet, prefix = frames.DATA << 5 | slot, b""
        if slot not in self._begun:
            self._begun.add(slot)
            octet |= frames.FIRST
            prefix = bare.encode_uint(self._announced)
        size = min(room - len(prefix), self._left[slot])
        self._left[slot] -= size
        return octet, prefix + b"\x80" * size


@pytest.mark.parametrize("kind", ["noise", "nothing", "hello", "data"])
def test_a_central_that_floods_is_disconnected_and_harms_no_channel(
    at_site: Callable[..., None], kind: str
) -> None:
    draw = random.Random(9)
    values: dict[str, Callable[[], bytes]] = {
        "noise": lambda: draw.randbytes(draw.randrange(1, 496)),
        "nothing": lambda: b"",
        "hello": lambda: b"\x20\x01" + draw.randbytes(16),
        "data": lambda: bytes((frames.DATA << 5 | frames.FIRST, 0, 0)) + draw.randbytes(400),
    }

    async def body(site: Site) -> None:
        visitor, told = await site.visitor(), bodies(4)
        await visitor.tell(b"0000")
        flood = Flood(values[kind])
        await site.hostile(flood)
        await visitor.tell_all(told)
        assert site.ledger[1:] == told
        await flood.over
        assert flood.written > 1000
        assert (site.up, site.down, visitor.down) == (1, [], [])
        await visitor.tell(b"0001")

    at_site(body)


def test_messages_that_are_never_whole_are_bounded_and_forgotten_with_their_link(
    at_site: Callable[..., None],
) -> None:
    async def body(site: Site) -> None:
        visitor, told = await site.visitor(), bodies(5)
        await visitor.tell(b"0000")
        speaker = Speaker(77)
        hostile = await site.hostile(speaker)
        await speaker.up.wait()
        most = LIMITS.reliable_message_bytes
        speaker.link._queue = Unfinished(most // 8, 8)
        speaker.room_changed()
        await visitor.tell_all(told)
        while speaker.link._queue:
            await asyncio.sleep(0.1)
        assert site.ledger[1:] == told
        (link,) = (link for link in site.listener.links if link.remote == hostile.address)
        session: Any = link._link
        kept = session._shell.engine._reassembly._slots
        assert most * 0.9 < sum(len(part) for part in kept if part is not None) <= most
        hostile.abort()
        await asyncio.sleep(1)
        assert link not in site.listener.links
        assert [event.reason for event in site.down] == ["the other device disconnected"]
        await visitor.tell(b"0001")

    at_site(body)


def test_more_than_may_be_put_together_ends_the_link_with_the_reason(at_site: Callable[..., None]) -> None:
    async def body(site: Site) -> None:
        visitor = await site.visitor()
        await visitor.tell(b"0000")
        speaker = Speaker(77)
        await site.hostile(speaker)
        await speaker.up.wait()
        speaker.link._queue = Unfinished(LIMITS.reliable_message_bytes // 4, 8)
        speaker.room_changed()
        await speaker.over
        assert (
            "broke the rules of the link: message of 262144 bytes, more than is allowed"
            in site.down[0].reason
        )
        await visitor.tell(b"0001")
        assert not visitor.down

    at_site(body)


def test_a_device_that_connects_and_leaves_all_the_time_keeps_nobody_out_and_costs_little(
    at_site: Callable[..., None],
) -> None:
    async def body(site: Site) -> None:
        loop = asyncio.get_running_loop()
        visitor, told = await site.visitor(), bodies(6, 300)
        await visitor.tell(b"0000")
        radio, tries = site.air.radio(), 0
        began = loop.time()

        async def loop_for_ever() -> None:
            nonlocal tries
            while True:
                speaker = Speaker(tries + 1)
                connection = await radio.connect(Advertisement(site.world.pi_radio.address, "", (), 0))
                tries += 1
                speaker.begin(connection)
                up = asyncio.ensure_future(speaker.up.wait())
                await asyncio.wait((up, speaker.over), return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                await asyncio.sleep(0.05)  # until the cabinet has heard it, too
                connection.abort()

        looping = asyncio.ensure_future(loop_for_ever())
        await visitor.tell_all(told)
        newcomer = await site.visitor()
        await newcomer.tell(b"9999", patience_s=10)
        await asyncio.sleep(60)
        passed = loop.time() - began
        assert not looping.done()
        looping.cancel()
        assert tries > 3 * passed
        most = visits.BURST + passed / visits.EVERY_S + 1
        assert visits.BURST < site.up - 2 <= most
        assert (visitor.down, newcomer.down) == ([], [])
        assert site.ledger[1:-1] == told
        await asyncio.sleep(1)
        assert len(site.listener.links) == 2
        assert len(site.cabinet.router._table) < 40

    at_site(body)


def test_a_device_that_begins_session_after_session_on_one_connection_is_disconnected(
    at_site: Callable[..., None],
) -> None:
    async def body(site: Site) -> None:
        visitor = await site.visitor()
        await visitor.tell(b"0000")
        speaker = Speaker(1)
        connection = await site.hostile(speaker)
        sessions = 1
        while not speaker.over.done() and sessions < 100:
            if speaker.link.is_up:
                sessions += 1
                speaker.link = ReliableLink(
                    Profile.ble(495), session=sessions, now=asyncio.get_running_loop().time()
                )
                speaker.room_changed()
            await asyncio.sleep(0.02)
        assert visits.BURST <= sessions <= visits.BURST + 4
        reasons = {event.reason for event in site.down}
        assert reasons <= {"the peer restarted", "the device began the link anew too often"}
        assert connection.remote
        await left_with(site, 1)
        await visitor.tell(b"0001")
        assert not visitor.down

    at_site(body)
