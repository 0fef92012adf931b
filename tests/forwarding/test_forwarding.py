"""Links that a message asks for on its way: only where allowed, not too often, and nothing else opened."""

from __future__ import annotations

import asyncio
import logging
import socket
from itertools import pairwise
from typing import Any

import pytest

from ockamlite import forwarding
from ockamlite.errors import AnswerTimeoutError, NotFoundError, UnavailableError, UsageError
from ockamlite.routing.address import SERIAL, TCP, Address
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


class Way:
    """A client, a node in the middle, and a node behind it."""

    def __init__(self, client: Any, middle: Any, far: Any, link: Any, listener: Any) -> None:
        self.client = client
        self.middle = middle
        self.far = far
        self.link = link
        self.listener = listener
        self.port: int = listener.endpoint.host_port.port
        self.next = tcp(self.port)
        self.route = link.route / self.next


def tcp(port: int) -> Address:
    return Address(TCP, f"127.0.0.1:{port}".encode())


@pytest.fixture
async def way(net: Any) -> Way:
    client, middle, far = [await net.node() for _ in range(3)]
    near = await middle.listen("tcp:127.0.0.1:0")
    listener = await far.listen("tcp:0.0.0.0:0")
    far.uppercase()
    far.open("uppercase", listener)
    link = await client.connect(f"tcp:127.0.0.1:{near.endpoint.host_port.port}")
    return Way(client, middle, far, link, listener)


async def settled(way: Way) -> None:
    """Wait until the middle has handled what was sent before."""
    await way.client.ask(way.link.route / "echo", b"settled?")


async def test_nothing_is_forwarded_unless_it_was_allowed(way: Way) -> None:
    with pytest.raises(AnswerTimeoutError):
        await way.client.ask(way.route / "uppercase", "hello", timeout_s=0.1)
    assert way.middle.router.dropped == 1
    assert not way.listener.links


async def test_a_node_of_its_own_may_not_forward_either_without_a_rule(way: Way) -> None:
    with pytest.raises(NotFoundError):
        await way.middle.ask(Route.of(way.next, "uppercase"), "hello")


@pytest.mark.parametrize("rule", ["tcp", "tcp:127.0.0.1:{port}"])
async def test_what_a_rule_allows_is_forwarded_and_answered(way: Way, rule: str) -> None:
    way.middle.forward(rule.format(port=way.port))
    for _ in range(3):
        assert (await way.client.ask(way.route / "uppercase", "hello")).text == "HELLO"
    assert len(way.listener.links) == 1  # one link for all of them


@pytest.mark.parametrize("rule", ["udp", "tcp:127.0.0.1:{other}", "tcp:localhost:{port}"])
async def test_what_no_rule_allows_is_not_forwarded(way: Way, rule: str) -> None:
    way.middle.forward(rule.format(port=way.port, other=free_port()))
    with pytest.raises(AnswerTimeoutError):
        await way.client.ask(way.route / "uppercase", "hello", timeout_s=0.1)
    assert not way.listener.links


@pytest.mark.parametrize("rule", ["memory", "serial:/dev/x?speed=1", "", "tcp:nonsense", "1#127.0.0.1:4000"])
async def test_a_rule_that_says_nothing_is_refused(net: Any, rule: str) -> None:
    node = await net.node()
    with pytest.raises(UsageError):
        node.forward(rule)


@pytest.mark.parametrize(
    ("rules", "asked", "dialled"),
    [
        (["serial:/dev/a?baud=9600"], b"/dev/a", "serial:/dev/a?baud=9600"),
        (["serial:/dev/a?baud=9600"], b"/dev/a?baud=9600", "serial:/dev/a?baud=9600"),
        (["serial:/dev/a?baud=9600"], b"/dev/a?baud=115200", None),
        (["serial:/dev/a?baud=9600"], b"/dev/b", None),
        (["serial:/dev/a?baud=9600", "serial"], b"/dev/a?baud=115200", "serial:/dev/a?baud=115200"),
        (["serial:/dev/a"], b"/dev/a?baud=115200", "serial:/dev/a?baud=115200"),
        (["serial"], b"/dev/b?baud=115200", "serial:/dev/b?baud=115200"),
        (["tcp", "ble"], b"/dev/a", None),
    ],
)
async def test_a_rule_says_how_its_endpoint_is_dialled(
    net: Any, rules: list[str], asked: bytes, dialled: str | None
) -> None:
    node = await net.node()
    node.forward(*rules)
    found = node._forwarder._endpoint(Address(SERIAL, asked))
    assert (None if found is None else str(found)) == dialled


async def test_hops_that_are_no_endpoint_are_ignored(way: Way) -> None:
    way.middle.forward("tcp")
    context = way.client.context()
    for body in (b"", b"\xff\xfe", b"nonsense", b"127.0.0.1:99999", b"a b:1", b"x" * 900):
        await context.send(way.link.route / Address(TCP, body) / "uppercase", b"x")
    await context.send(way.link.route / Address(77, b"127.0.0.1:1") / "uppercase", b"x")
    await settled(way)
    assert not way.link.closed.done()
    assert (await way.client.ask(way.route / "uppercase", "after it")).text == "AFTER IT"


async def test_what_was_sent_while_the_link_was_dialled_arrives_in_order(way: Way) -> None:
    way.middle.forward("tcp")
    came: list[str] = []
    done = asyncio.Event()

    async def worker(context: Any, message: Any) -> None:
        came.append(message.text)
        if len(came) == 20:
            done.set()

    way.far.start_worker("keep", worker)
    way.far.open("keep", way.listener)
    context = way.client.context()
    for number in range(20):
        await context.send(way.route / "keep", str(number))
    await done.wait()
    assert came == [str(number) for number in range(20)]


async def test_a_flood_to_an_unreachable_target_dials_once_a_second(
    way: Way, monkeypatch: Any, until: Any
) -> None:
    monkeypatch.setattr(forwarding, "_REFUSE_S", 0.3)
    way.middle.forward("tcp")
    loop = asyncio.get_running_loop()
    dialled: list[float] = []
    connect = way.middle.connect

    async def counted(endpoint: Any) -> Any:
        dialled.append(loop.time())
        return await connect(endpoint)

    monkeypatch.setattr(way.middle._forwarder, "_connect", counted)
    nobody = tcp(free_port())
    context = way.client.context()
    while len(dialled) < 3:
        await context.send(way.link.route / nobody / "uppercase", b"flood")
        await asyncio.sleep(0)
    assert all(b - a >= 0.29 for a, b in pairwise(dialled))
    (waiting,) = way.middle._forwarder._waiting.values()
    assert len(waiting) <= 32
    assert way.link.closed.done() is False
    await until(lambda: not way.middle._forwarder._waiting)


async def test_a_thousand_targets_that_cannot_be_reached_are_few_lines(
    way: Way, monkeypatch: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forwarding, "_REFUSE_S", 0.0)
    monkeypatch.setattr(forwarding, "_LINKS_PER_SOURCE", 1000)
    monkeypatch.setattr(forwarding, "_LINKS", 1000)
    tried: list[Any] = []

    async def fails(endpoint: Any) -> Any:
        tried.append(endpoint)
        raise UnavailableError(f"cannot connect to {endpoint}")

    way.middle.forward("tcp")
    monkeypatch.setattr(way.middle._forwarder, "_connect", fails)
    context = way.client.context()
    for port in range(1, 501):
        for _ in range(2):
            await context.send(way.link.route / tcp(port) / "uppercase", b"x")
    await settled(way)
    await until(lambda: len(tried) >= 500 and not way.middle._forwarder._waiting)
    assert len([r for r in caplog.records if "cannot forward" in r.getMessage()]) < 100


async def test_a_target_that_closes_at_once_is_not_dialled_more_often(
    net: Any, way: Way, monkeypatch: Any
) -> None:
    monkeypatch.setattr(forwarding, "_REFUSE_S", 0.2)
    dialled: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.append(asyncio.get_running_loop().time())

    port = await net.serve(serve)
    way.middle.forward("tcp")
    context = way.client.context()
    while len(dialled) < 3:
        await context.send(way.link.route / tcp(port) / "uppercase", b"flood")
        await asyncio.sleep(0)
    assert all(b - a >= 0.15 for a, b in pairwise(dialled))


async def test_what_waits_for_a_link_is_bounded_in_bytes_and_the_rest_is_told(
    way: Way, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    way.middle.forward("tcp")
    go_on = asyncio.Event()
    connect = way.middle.connect

    async def slowly(endpoint: Any) -> Any:
        await go_on.wait()
        return await connect(endpoint)

    monkeypatch.setattr(way.middle._forwarder, "_connect", slowly)
    context = way.client.context()
    for _ in range(20):
        await context.send(way.route / "uppercase", bytes(100_000))
    await settled(way)
    (waiting,) = way.middle._forwarder._waiting.values()
    assert sum(len(message.payload) for message in waiting) <= 256 * 1024
    told = [record.getMessage() for record in caplog.records if "lost" in record.getMessage()]
    assert told[-1] == f"messages for {way.next} lost, as no link takes them (16 so far)"
    go_on.set()
    assert (await way.client.ask(way.route / "uppercase", "after it")).text == "AFTER IT"


async def test_what_could_not_be_sent_on_is_told(
    way: Way, monkeypatch: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(forwarding, "_REFUSE_S", 0.1)
    way.middle.forward("tcp")
    nobody = tcp(free_port())
    context = way.client.context()
    for lost in (1, 2):
        await context.send(way.link.route / nobody / "uppercase", b"x")
        told = f"messages for {nobody} lost, as no link takes them ({lost} so far)"
        await until(lambda: told in caplog.messages)  # noqa: B023  (called here)
    await until(lambda: not way.middle._forwarder._waiting)


async def test_the_number_of_links_is_bounded(way: Way, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr(forwarding, "_LINKS", 1)
    caplog.set_level(logging.INFO)
    way.middle.forward("tcp")
    await way.client.ask(way.route / "uppercase", "first")
    context = way.client.context()
    for _ in range(100):
        await context.send(way.link.route / tcp(free_port()) / "uppercase", b"x")
    await settled(way)
    assert len(way.middle._links) == 2
    said = [r for r in caplog.records if "not forwarded" in r.getMessage()]
    assert 0 < len(said) < 10  # a flood of messages is no flood of lines


async def test_the_far_node_reaches_only_who_asked(way: Way) -> None:
    way.middle.forward("tcp")
    came: list[Any] = []
    bystander_at_middle, bystander_at_client = Address.local("secret"), Address.local("secret")
    way.middle.router.add(bystander_at_middle, came.append)
    way.client.router.add(bystander_at_client, came.append)
    answer = await way.client.ask(way.route / "uppercase", "hello")
    assert answer.text == "HELLO"
    (link,) = way.listener.links
    context = way.far.context()
    named = [address for node in (way.middle, way.client) for address in node.router._table]
    for target in named:
        await context.send(link.route / target, b"x")
        await context.send(link.route / target / "secret", b"x")
        await context.send(link.route / target / target / "secret", b"x")
    await context.send(link.route / tcp(way.port) / "uppercase", b"x")
    await way.far.ask(link.route / "echo", b"after it all")
    await settled(way)
    assert not came


async def test_a_link_that_ended_is_dialled_again(net: Any, way: Way, until: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(forwarding, "_REFUSE_S", 0.05)
    way.middle.forward("tcp")
    await way.client.ask(way.route / "uppercase", "hello")
    await way.far.close()
    await until(lambda: not way.middle._forwarder._links and not way.middle._forwarder._waiting)
    again = await net.node()
    listener = await again.listen(f"tcp:127.0.0.1:{way.port}")
    again.uppercase()
    again.open("uppercase", listener)
    assert (await way.client.ask(way.route / "uppercase", "again")).text == "AGAIN"


async def test_one_peer_cannot_take_the_places_of_the_others(net: Any, way: Way, monkeypatch: Any) -> None:
    monkeypatch.setattr(forwarding, "_LINKS_PER_SOURCE", 2)
    way.middle.forward("tcp")
    greedy = await net.node()
    link = await greedy.connect(way.link.endpoint)
    context = greedy.context()
    for last in range(2, 12):  # all of them lead to the same host
        hop = Address(TCP, f"127.0.0.{last}:{way.port}".encode())
        await context.send(link.route / hop / "uppercase", b"x")
    await greedy.ask(link.route / "echo", b"settled?")
    forwarder = way.middle._forwarder
    assert len(forwarder._links) + len(forwarder._waiting) == 2
    assert (await way.client.ask(way.route / "uppercase", "hello")).text == "HELLO"


async def test_what_somebody_had_dialled_ends_with_him(net: Any, way: Way, until: Any) -> None:
    way.middle.forward("tcp")
    before = len(way.middle.router)
    other = await net.node()
    link = await other.connect(way.link.endpoint)
    await other.ask(link.route / way.next / "uppercase", "hello")
    await way.client.ask(way.route / "uppercase", "hello")
    link.close()
    await link.closed
    assert (await way.client.ask(way.route / "uppercase", "still there")).text == "STILL THERE"
    assert len(way.listener.links) == 1
    way.link.close()
    await until(lambda: not way.listener.links and not way.middle._forwarder._sources)
    assert len(way.middle.router) == before - 1  # the link of the client


async def test_a_link_that_carries_nothing_is_closed(way: Way, until: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(forwarding, "_IDLE_S", 0.2)
    monkeypatch.setattr(forwarding, "_REFUSE_S", 0.05)
    way.middle.forward("tcp")
    await way.client.ask(way.route / "uppercase", "hello")
    await until(lambda: not way.listener.links and not way.middle._forwarder._waiting)
    assert (await way.client.ask(way.route / "uppercase", "again")).text == "AGAIN"


async def test_a_link_is_used_in_either_direction(way: Way, until: Any) -> None:
    way.middle.forward("tcp")
    came: list[Any] = []
    inbox = way.client.router.add_random(came.append)
    back: list[Any] = []

    async def worker(context: Any, message: Any) -> None:
        back.append(message.return_route)

    way.far.start_worker("keep", worker)
    way.far.open("keep", way.listener)
    way.client.open(inbox, way.link)
    way.client.router.deliver(Message(way.route / "keep", Route((inbox,)), b"x"))
    await until(lambda: back)
    (dialled,) = way.middle._forwarder._links.values()
    dialled.used_at = 0.0
    await way.far.context().send(back[0], b"unasked")
    await until(lambda: came)
    used_at, dialled.used_at = dialled.used_at, 0.0
    assert used_at > 0
    await way.client.context().send(came[0].return_route, b"along the way it came")
    await until(lambda: dialled.used_at)
    await until(lambda: way.far.router.dropped)  # it did arrive: for a context, which nobody opened


async def test_when_all_places_are_taken_the_longest_idle_gives_way(way: Way, monkeypatch: Any) -> None:
    monkeypatch.setattr(forwarding, "_LINKS", 2)
    way.middle.forward("tcp")
    hops = [Address(TCP, f"127.0.0.{last}:{way.port}".encode()) for last in (1, 2, 3)]
    for hop in hops[:2]:
        await way.client.ask(way.link.route / hop / "uppercase", "x")
    with pytest.raises(AnswerTimeoutError):  # neither is idle enough
        await way.client.ask(way.link.route / hops[2] / "uppercase", "x", timeout_s=0.1)
    way.middle._forwarder._links[hops[1]].used_at -= 11
    assert (await way.client.ask(way.link.route / hops[2] / "uppercase", "x")).text == "X"
    assert list(way.middle._forwarder._links) == [hops[0], hops[2]]
