"""Links of a node: what they make of frames, and what they do to what is sent."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING

import pytest

from ockamlite.cbor import bytes_head
from ockamlite.errors import LinkClosedError
from ockamlite.limits import LIMITS
from ockamlite.links import HeldFlow, Link, Listener
from ockamlite.node import Node
from ockamlite.routing.address import Address
from ockamlite.routing.codec import decode_message, encode_message_head
from ockamlite.routing.message import Message
from ockamlite.routing.route import EMPTY_ROUTE, Route
from ockamlite.routing.router import Router
from ockamlite.wire.gate import Gate

if TYPE_CHECKING:
    from ockamlite.errors import OckamError
    from ockamlite.events import Event
    from ockamlite.wire.link import LinkReceiver


class Wire:
    """A link that ends in the test."""

    endpoint = "tcp:127.0.0.1:1"
    remote = "127.0.0.1:2"

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = 0
        self.gate = Gate(asyncio.get_running_loop())

    def start(self, receiver: LinkReceiver) -> None:
        self.receiver = receiver

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> Gate | None:
        self.sent.append(head + bytes(payload))
        return self.gate if self.gate.is_shut else None

    def close(self) -> None:
        self.closed += 1

    def abort(self, error: OckamError) -> None:
        self.closed += 1


class Bench:
    """A link on a router, and a worker opened to it."""

    def __init__(self) -> None:
        self.router = Router()
        self.wire = Wire()
        self.events: list[Event] = []
        self.got: list[Message] = []
        self.gate: Gate | None = None
        self.link = Link(self.router, self.wire, LIMITS, self.events.append)  # type: ignore[arg-type]
        self.link.start(lambda link: None)
        self.router.add(Address.local("w"), self._take)
        self.router.open(Address.local("w"), (self.link.flow,))

    def _take(self, message: Message) -> Gate | None:
        self.got.append(message._replace(payload=bytes(message.payload)))
        return self.gate

    def receive(self, onward: Route, back: Route = EMPTY_ROUTE, payload: bytes = b"") -> Gate | None:
        frame = encode_message_head(onward, back) + bytes((0x40 | len(payload),)) + payload
        return self.link.frame_received(memoryview(frame))


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_what_comes_is_answered_over_the_link_that_brought_it(bench: Bench) -> None:
    bench.receive(Route.of("w"), Route.of("far", "away"), b"hello")
    (message,) = bench.got
    assert message.return_route == Route.of(bench.link.address, "far", "away")
    assert message.flow is bench.link.flow
    bench.router.deliver(Message(message.return_route, Route.of("w"), b"answer"))
    onward, back, payload = decode_message(bench.wire.sent[0])
    assert (onward, back, payload) == (Route.of("far", "away"), Route.of("w"), b"answer")


async def test_an_empty_onward_route_is_a_heartbeat(bench: Bench) -> None:
    assert bench.receive(EMPTY_ROUTE, Route.of("x"), b"") is None
    assert bench.got == []


async def test_the_longest_return_route_has_room_for_one_more_hop(bench: Bench) -> None:
    hops = [Address.local(f"{n}") for n in range(LIMITS.route_hops)]
    bench.receive(Route.of("w"), Route(hops[1:]), b"fits")
    bench.receive(Route.of("w"), Route(hops), b"too long")
    assert [message.payload for message in bench.got] == [b"fits"]
    assert not bench.wire.closed


async def test_bad_frames_are_counted_not_listed(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(10_000):
        bench.link.frame_received(memoryview(b"not a message"))
    assert 10 < len(caplog.records) < 16
    assert "(8192 so far)" in caplog.records[-1].getMessage()
    assert not bench.wire.closed


async def test_a_worker_that_hands_on_to_what_has_ended_does_not_end_the_link(bench: Bench) -> None:
    def hands_on(message: Message) -> Gate | None:
        return bench.router.deliver(Message(Route.of("gone"), EMPTY_ROUTE, b""))

    bench.router.add(Address.local("hop"), hands_on)
    bench.router.open(Address.local("hop"), (bench.link.flow,))
    assert bench.receive(Route.of("hop")) is None
    assert not bench.wire.closed


async def test_a_gate_that_holds_the_link_is_known_to_its_flow_and_to_what_it_carries(bench: Bench) -> None:
    inner = HeldFlow("channel", under=bench.link.flow)
    assert not inner.is_held
    bench.gate = Gate(asyncio.get_running_loop())
    bench.gate.shut()
    assert bench.receive(Route.of("w")) is bench.gate
    assert bench.link.flow.is_held
    assert inner.is_held
    bench.gate.open()
    assert not inner.is_held


async def test_a_link_that_ended_takes_its_address_and_permissions_with_it(bench: Bench) -> None:
    bench.link.link_closed(LinkClosedError("closed by the peer"))
    assert await bench.link.closed == "closed by the peer"
    assert bench.link.address not in bench.router
    assert not bench.link.flow.reaches(Address.local("w"))
    bench.receive(Route.of("w"), payload=b"late")
    assert bench.got == []


async def test_a_message_that_grew_too_long_is_not_sent_and_ends_no_link(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A relay adds a hop to the way back, so its neighbour's limit is passed by a frame it accepted."""
    limits = dataclasses.replace(LIMITS, message_bytes=2000)
    async with Node(limits=limits) as there, Node() as here:
        listener = await there.listen("tcp:127.0.0.1:0")
        link = await here.connect(listener.endpoint)
        await here.ask(link.route / "echo", b"")
        (theirs,) = listener.links
        there.router.deliver(Message(theirs.route / "x", EMPTY_ROUTE, bytes(1999)))
        assert (await here.ask(link.route / "echo", b"alive")).payload == b"alive"
    assert "is too long and not sent" in caplog.text


# -- links that are full ---------------------------------------------------------------------------

QUICK = dataclasses.replace(
    LIMITS, link_hold_s=0.02, link_hold_alone_s=0.06, link_excess_bytes=10_000, node_excess_bytes=25_000
)


class Crossing:
    """Links on one router, each of which may send on to every other."""

    def __init__(self, count: int) -> None:
        self.router = Router()
        self.wires = [Wire() for _ in range(count)]
        self.links = [Link(self.router, wire, QUICK, lambda _: None) for wire in self.wires]  # type: ignore[arg-type]
        for link in self.links:
            link.start(lambda _: None)

    def join(self, here: int, there: int) -> None:
        self.router.open(self.links[there].address, (self.links[here].flow,))

    def bring(self, here: int, there: int, size: int = 20) -> Gate | None:
        frame = encode_message_head(Route.of(self.links[there].address, "x"), EMPTY_ROUTE)
        return self.links[here].frame_received(memoryview(frame + bytes_head(size) + bytes(size)))


async def held_s(gate: Gate | None) -> float:
    """For how long a gate holds."""
    assert gate is not None
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await gate.wait()
    return loop.time() - begun


async def test_a_full_link_holds_who_sends_there_until_it_has_room() -> None:
    crossing = Crossing(2)
    crossing.join(0, 1)
    crossing.wires[1].gate.shut()
    gate = crossing.bring(0, 1)
    assert gate is not None
    assert crossing.links[0].flow.is_held
    crossing.wires[1].gate.open()
    assert await held_s(gate) < QUICK.link_hold_alone_s
    assert not crossing.links[0].flow.is_held


async def test_a_full_link_holds_who_also_sends_elsewhere_for_a_short_while() -> None:
    crossing = Crossing(3)
    crossing.join(0, 1)
    crossing.wires[1].gate.shut()
    alone = crossing.bring(0, 1)
    crossing.join(0, 2)
    assert await held_s(crossing.bring(0, 1)) < QUICK.link_hold_alone_s - 0.01
    assert alone is not None
    assert alone.is_shut, "nobody else waits behind it"
    await alone.wait()
    assert crossing.bring(0, 1) is None
    assert not crossing.links[0].flow.is_held


async def test_what_links_bring_for_one_that_stays_full_is_dropped_beyond_a_bound() -> None:
    crossing = Crossing(3)
    crossing.join(0, 1)
    crossing.join(0, 2)
    gate = crossing.wires[1].gate
    gate.shut()
    await held_s(crossing.bring(0, 1))
    for _ in range(100):
        assert crossing.bring(0, 1, 1000) is None
    assert 8 <= len(crossing.wires[1].sent) <= 11
    crossing.router.deliver(Message(crossing.links[1].route / "x", EMPTY_ROUTE, b"made here"))
    assert crossing.wires[1].sent[-1].endswith(b"made here"), "who waits himself loses nothing"
    assert crossing.bring(0, 2) is None
    assert len(crossing.wires[2].sent) == 1
    gate.open()
    await gate.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    assert crossing.router.excess_bytes == 0
    before = len(crossing.wires[1].sent)
    assert crossing.bring(0, 1) is None
    assert len(crossing.wires[1].sent) == before + 1


async def test_a_link_waits_for_itself_only_with_much_under_way_and_not_for_long() -> None:
    crossing = Crossing(1)
    crossing.join(0, 0)
    crossing.wires[0].gate.shut()
    taken = 0
    while (gate := crossing.bring(0, 0, 1000)) is None:
        taken += 1
    assert 8 <= taken <= 11
    assert await held_s(gate) < QUICK.link_hold_alone_s - 0.01
    sent = len(crossing.wires[0].sent)
    for _ in range(100):
        assert crossing.bring(0, 0, 1000) is None
    assert len(crossing.wires[0].sent) == sent


async def test_full_links_take_no_more_together_than_the_node_has_room_for() -> None:
    crossing = Crossing(20)
    for number in range(20):
        crossing.join(number, number)
        crossing.wires[number].gate.shut()
        for _ in range(100):
            crossing.bring(number, number, 1000)
            if crossing.links[number].flow.is_held:
                break
    assert crossing.router.excess_bytes < QUICK.node_excess_bytes + 20 * 2 * 1256
    for wire in crossing.wires:
        wire.gate.open()
    for _ in range(5):
        await asyncio.sleep(0)
    assert crossing.router.excess_bytes == 0


async def test_two_nodes_that_ask_each_other_without_a_pause_get_all_answers() -> None:
    async with Node() as here, Node() as there:
        listener = await there.listen("tcp:127.0.0.1:0")
        link = await here.connect(listener.endpoint)
        await here.ask(link.route / "echo", b"")
        (back,) = listener.links

        async def ask(node: Node, over: Link) -> None:
            context = node.context()
            node.open(context.address, over)

            async def send() -> None:
                for _ in range(400):
                    await context.send(over.route / "echo", bytes(40_000))

            sending = asyncio.ensure_future(send())
            for _ in range(400):
                await context.receive(timeout_s=5)
            await sending

        await asyncio.gather(ask(here, link), ask(there, back))


# -- listeners that are full -----------------------------------------------------------------------


class Hall:
    """A listener with room for a few links, at a time that the test tells."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.limits = dataclasses.replace(LIMITS, links_per_listener=count)
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        self.listener = Listener(self.limits)
        self.router = Router()

    def enter(self, remote: str) -> Link | None:
        if not self.listener.has_room():
            return None
        wire = Wire()
        wire.remote = remote
        link = Link(self.router, wire, self.limits, lambda _: None)  # type: ignore[arg-type]
        self.listener.add(link)
        return link

    def speak(self, *links: Link | None) -> None:
        for link in links:
            assert link is not None
            link.frame_received(memoryview(b"\x83\x80\x80\x40"))

    def is_in(self, link: Link | None) -> bool:
        return link in self.listener.links


async def test_links_with_traffic_give_way_to_no_newcomer(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall(3, monkeypatch)
    links = [hall.enter(f"192.0.2.1:{port}") for port in range(3)]
    for _ in range(100):
        hall.now += 20
        hall.speak(*links)
        assert hall.enter("192.0.2.9:1") is None
    hall.speak(*links)
    hall.now += 100
    assert hall.enter("192.0.2.9:1") is None, "spoke since the last look"
    hall.now += 61
    assert hall.enter("192.0.2.9:1") is not None


async def test_who_never_speaks_gives_way_before_who_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall(2, monkeypatch)
    pauses, silent = hall.enter("192.0.2.1:1"), hall.enter("192.0.2.2:2")
    hall.speak(pauses)
    hall.now += LIMITS.link_hello_s - 1
    assert hall.enter("192.0.2.3:3") is None
    hall.now += 2
    assert hall.enter("192.0.2.3:3") is not None
    assert hall.is_in(pauses)
    assert not hall.is_in(silent)


async def test_the_host_with_most_links_loses_one_first(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall(4, monkeypatch)
    oldest = hall.enter("192.0.2.1:1")
    hall.now += 1
    many = [hall.enter(f"[2001:db8::1]:{port}") for port in range(3)]
    hall.now += 120
    for number in range(2):
        assert hall.enter("192.0.2.7:7") is not None
        assert hall.is_in(oldest)
        assert sum(map(hall.is_in, many)) == 2 - number


async def test_a_link_on_which_something_lives_never_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lives:
        def flow_lost_messages(self) -> None: ...

        def flow_closed(self, reason: str) -> None: ...

    hall = Hall(1, monkeypatch)
    link = hall.enter("192.0.2.1:1")
    assert link is not None
    link.flow.watch(Lives())
    hall.now += 10_000
    assert hall.enter("192.0.2.2:2") is None
    assert hall.is_in(link)


async def test_messages_too_long_to_send_are_counted_not_listed(caplog: pytest.LogCaptureFixture) -> None:
    limits = dataclasses.replace(LIMITS, message_bytes=2000)
    async with Node(limits=limits) as there, Node() as here:
        listener = await there.listen("tcp:127.0.0.1:0")
        link = await here.connect(listener.endpoint)
        await here.ask(link.route / "echo", b"")
        (theirs,) = listener.links
        for _ in range(1000):
            there.router.deliver(Message(theirs.route / "x", EMPTY_ROUTE, bytes(1999)))
    lines = [record for record in caplog.records if "too long and not sent" in record.getMessage()]
    assert len(lines) == 10
