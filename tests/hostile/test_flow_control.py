"""What a stranger's messages reach: what was opened to their link or channel, and nothing else.

A node with everything that could be misused: workers opened and not, somebody else's link and channel,
a relay, an outlet, links that may be dialled and links that may not. Hypothesis makes up the routes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockamlite.cbor import bytes_head
from ockamlite.errors import LinkBrokenError
from ockamlite.limits import LIMITS
from ockamlite.links import Link
from ockamlite.node import Node
from ockamlite.routing.address import Address
from ockamlite.routing.codec import decode_message, encode_route
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustEveryone

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.errors import OckamError
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.wire.link import LinkListener, LinkReceiver

NAMES = (
    "secret",  # a worker opened to nobody
    "worker",  # a worker opened to strangers
    "echo",
    "api",
    "uppercase",
    "outlet",  # opened to the victim's channel alone
    "forwarding_service",
    "static_forwarding_service",
    "forward_to_victim",
    "forward_to_stranger",
    "",
)
LIVE = (
    "victim link",
    "victim encryptor",
    "victim decryptor",
    "victim probe",
    "stranger link",
    "stranger encryptor",
    "dial allowed",
    "dial refused",
)
hops = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(LIVE),
    st.builds(Address, st.integers(0, 255), st.binary(max_size=40)),
)
routes = st.one_of(st.lists(hops, max_size=6), st.lists(hops, min_size=60, max_size=LIMITS.route_hops))
payloads = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([b"\x08stranger", b"\x08register", b"\x00", b"\x01\x00", b"\x05hello", bytes(64)]),
)
messages = st.lists(st.tuples(routes, routes, payloads), min_size=1, max_size=12)


class Wire:
    """A link that ends in the test."""

    endpoint = "tcp:127.0.0.1:1"
    remote = "127.0.0.1:2"

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.receiver: LinkReceiver | None = None
        self.aborted: list[OckamError] = []

    def start(self, receiver: LinkReceiver) -> None:
        self.receiver = receiver

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> None:
        self.sent.append(head + bytes(payload))

    def close(self) -> None:
        if self.receiver is not None:
            self.receiver.link_closed(None)
            self.receiver = None

    def abort(self, error: OckamError) -> None:
        self.aborted.append(error)


class Dialled:
    """A transport that notes where it was asked to go."""

    kind = "tcp"
    options = ()

    def __init__(self) -> None:
        self.to: list[str] = []

    async def connect(self, endpoint: Endpoint) -> Wire:
        self.to.append(str(endpoint))
        raise LinkBrokenError("nobody there")

    async def listen(self, endpoint: Endpoint, accept: Callable[[Any], None]) -> LinkListener:
        raise AssertionError("nothing here listens")


class Stage:
    """The node, the victim, and the stranger."""

    async def start(self) -> Stage:
        self.dialled = Dialled()
        self.node = await Node(transports=[self.dialled]).__aenter__()  # type: ignore[list-item]
        self.reached: list[tuple[str, Message]] = []
        for name in ("secret", "worker"):
            self.node.router.add(Address.local(name), self._note(name))
        self.node.uppercase()
        channels = self.node.secure_channel_listener("api", trust=TrustEveryone())
        outlet = self.node.outlet("tcp:127.0.0.1:9", name="outlet")
        self.victim_wire, self.stranger_wire = Wire(), Wire()
        self.victim = self._link(self.victim_wire)
        self.stranger = self._link(self.stranger_wire)
        self.relay = self.node.relay_service(open_to=(self.victim.flow, self.stranger.flow))
        for address in self.relay.addresses:
            self.node.open(address, self.victim, self.stranger)
        self.node.open("worker", self.stranger, channels)
        self.node.open("api", self.victim, self.stranger)
        self.node.forward("tcp:192.0.2.1:4000")
        self.peer = await Node(transports=[Dialled()]).__aenter__()  # type: ignore[list-item]
        self.victim_channel = await self._channel(self.victim, self.victim_wire)
        self.stranger_channel = await self._channel(self.stranger, self.stranger_wire)
        self.node.router.open(outlet.address, (self.victim_channel.flow,))
        self.live = {
            "victim link": self.victim.address,
            "victim encryptor": self.victim_channel.address,
            "victim decryptor": self.victim_channel._decryptor,
            "victim probe": self.victim_channel._probe_address or self.victim.address,
            "stranger link": self.stranger.address,
            "stranger encryptor": self.stranger_channel.address,
            "dial allowed": Address(1, b"192.0.2.1:4000"),
            "dial refused": Address(1, b"192.0.2.2:4000"),
        }
        self.victim_wire.sent.clear()
        self.stranger_wire.sent.clear()
        return self

    def _note(self, name: str) -> Callable[[Message], None]:
        return lambda message: self.reached.append((name, message))

    def _link(self, wire: Wire) -> Link:
        link = Link(self.node.router, wire, self.node.limits, self.node._emit)  # type: ignore[arg-type]
        self.node.router.open(self.node._echo, (link.flow,))
        self.node._adopt(link)
        return link

    async def _channel(self, link: Link, wire: Wire) -> Any:
        """The node's end of a channel with somebody at the other end of ``link``."""
        before = set(self.node._channels._channels)
        far = Wire()
        there = Link(self.peer.router, far, self.peer.limits, self.peer._emit)  # type: ignore[arg-type]
        self.peer._adopt(there)
        opening = asyncio.ensure_future(
            self.peer.secure_channel(there.route / "api", trust=TrustEveryone())
        )  # fmt: skip
        while not opening.done() or not set(self.node._channels._channels) - before:
            await asyncio.sleep(0)
            for source, sink in ((far, link), (wire, there)):
                while source.sent:
                    sink.frame_received(memoryview(source.sent.pop(0)))
        self.far = far
        self.theirs = opening.result()
        return (set(self.node._channels._channels) - before).pop()

    def route(self, parts: list[str | Address]) -> Route:
        """A route of names, of what is alive now, and of whatever else."""
        return Route.of(*(self.live.get(part, part) if isinstance(part, str) else part for part in parts))

    def send(self, onward: list[Any], back: list[Any], payload: bytes) -> None:
        """The stranger sends over its bare link."""
        there, here = encode_route(self.route(onward)), encode_route(self.route(back))
        frame = b"".join((b"\x83", there, here, bytes_head(len(payload)), payload))
        self.stranger.frame_received(memoryview(frame))

    def send_sealed(self, onward: list[Any], back: list[Any], payload: bytes) -> None:
        """The stranger sends through its channel."""
        route = Route((self.theirs.address, *self.route(onward)))
        self.far.sent.clear()
        self.peer.router.deliver(Message(route, self.route(back), payload))
        for frame in self.far.sent:
            self.stranger.frame_received(memoryview(frame))

    async def check(self, before: set[Address]) -> None:
        """Nothing was reached that was not opened."""
        for _ in range(5):
            await asyncio.sleep(0)
        assert not [message for name, message in self.reached if name == "secret"]
        assert all(message.flow is not None for _, message in self.reached)
        assert self.victim_wire.sent == []
        assert set(self.dialled.to) <= {"tcp:192.0.2.1:4000"}
        assert self.stranger_wire.aborted == []
        assert not self.victim_channel.closed.done()
        assert not self.victim.closed.done()
        made = set(self.node.router._table) - before
        assert len(made) <= 64
        for frame in self.stranger_wire.sent:
            decode_message(frame)

    async def close(self) -> None:
        self.node._forwarder._waiting.clear()  # type: ignore[union-attr]
        await self.node.close()
        await self.peer.close()


def scene(sealed: bool, sent: list[tuple[list[Any], list[Any], bytes]]) -> None:
    async def play() -> None:
        stage = await Stage().start()
        try:
            before = set(stage.node.router._table)
            for onward, back, payload in sent:
                (stage.send_sealed if sealed else stage.send)(onward, back, payload)
            await stage.check(before)
        finally:
            await stage.close()

    asyncio.run(play())


@settings(max_examples=100, deadline=None)
@given(messages)
def test_no_route_over_a_link_reaches_what_was_not_opened(sent: Any) -> None:
    scene(False, sent)


@settings(max_examples=100, deadline=None)
@given(messages)
def test_no_route_through_a_channel_reaches_what_was_not_opened(sent: Any) -> None:
    scene(True, sent)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("first", [*LIVE, "secret", "outlet"])
def test_nothing_alive_can_be_used_as_a_first_hop(sealed: bool, first: str) -> None:
    """Also not by way of what was opened."""
    ways = [[], ["secret"], ["echo"], ["victim link", "secret"], ["secret"] * 60]
    scene(
        sealed,
        [([*via, first, *way], [first], b"?") for way in ways for via in ([], ["echo"], ["worker"])],
    )


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "back", [[], ["secret"], ["victim link", "x"], ["victim encryptor", "secret", "x"]], ids=str
)
def test_a_registration_cannot_make_the_relay_forward_into_its_own_node(
    sealed: bool, back: list[Any]
) -> None:
    ways = [[], ["secret"], ["victim link", "x"], ["victim encryptor", "secret"], ["dial refused", "x"]]
    scene(
        sealed,
        [
            (["static_forwarding_service"], back, b"\x08stranger"),
            *[(["forward_to_stranger", *way], ["x"], b"?") for way in ways],
        ],
    )


def test_a_worker_that_was_opened_is_reached_and_knows_by_whom() -> None:
    async def play() -> None:
        stage = await Stage().start()
        stage.send(["worker"], ["secret", "victim link"], b"hello")
        stage.send_sealed(["worker"], ["secret"], b"sealed")
        (_, first), (_, second) = stage.reached
        assert first.flow is stage.stranger.flow
        assert first.return_route == Route.of(stage.stranger.address, stage.route(["secret", "victim link"]))
        assert second.flow is stage.stranger_channel.flow
        assert second.return_route[0] == stage.stranger_channel.address
        await stage.close()

    asyncio.run(play())


def test_what_is_opened_to_a_listener_is_closed_with_it() -> None:
    async def play() -> None:
        async with Node() as there, Node() as here:
            listener = await there.listen("tcp:127.0.0.1:0")
            there.start_worker("w", _ignore)
            there.open("w", listener)
            link = await here.connect(listener.endpoint)
            await here.ask(link.route / "echo", b"")
            (accepted,) = listener.links
            assert accepted.flow.reaches(Address.local("w"))
            assert not accepted.flow.reaches(Address.local("other"))
            await there.stop_worker("w")
            assert not accepted.flow.reaches(Address.local("w"))
            there.start_worker("w", _ignore)
            assert not accepted.flow.reaches(Address.local("w")), "a new worker is opened to nobody"
            there.open("w", accepted)
            assert accepted.flow.reaches(Address.local("w"))
            await listener.close()
            assert not accepted.flow.reaches(Address.local("echo"))

    asyncio.run(play())


async def _ignore(context: object, message: object) -> None:
    pass
