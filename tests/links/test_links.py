"""Links of a node: what they make of frames, and what they do to what is sent."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING

import pytest

from ockamlite.errors import LinkClosedError
from ockamlite.limits import LIMITS
from ockamlite.links import HeldFlow, Link
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

    def start(self, receiver: LinkReceiver) -> None:
        self.receiver = receiver

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> None:
        self.sent.append(head + bytes(payload))

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
