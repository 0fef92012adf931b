"""Networks of emulated links: what is built carries messages, what is cut does not, and heals."""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import AirModel
from boards.emulation.clock import RealTimeError
from boards.emulation.model import Conditions
from boards.emulation.uart import Noise
from ockamlite import AnswerTimeoutError, LinkError, LocalError, Received, TrustEveryone

if TYPE_CHECKING:
    from boards.network import Network
    from boards.network_link import Hop
    from boards.network_node import NetworkNode

LINKS: dict[str, dict[str, Any]] = {"memory": {}, "serial": {"baud": 38_400}, "ble": {"mtu": 100}, "tcp": {}}


async def joined(network: Network, kind: str, **options: Any) -> tuple[NetworkNode, NetworkNode, Hop]:
    here, there = await network.node("here"), await network.node("there")
    hop: Hop = await getattr(network, kind)(here, there, **{**LINKS[kind], **options})
    return here, there, hop


@pytest.mark.parametrize("kind", LINKS)
def test_a_link_carries_what_is_asked_and_answered(played: Any, kind: str) -> None:
    async def body(network: Network) -> None:
        here, _, hop = await joined(network, kind)
        link = await here.connect(hop.endpoint)
        for size in (0, 1, 5000):
            assert (await here.ask(link.route / "echo", b"x" * size)).payload == b"x" * size

    assert not played(body).trace.lost()


@pytest.mark.parametrize("kind", LINKS)
def test_nothing_passes_a_link_that_is_cut_and_a_path_returns_when_it_is_healed(
    played: Any, kind: str
) -> None:
    async def body(network: Network) -> None:
        here, there, hop = await joined(network, kind)
        channels = there.secure_channel_listener(trust=TrustEveryone())
        there.open(channels.address, hop.listener)
        path = here.path(f"{hop.endpoint},secure:secure_channel_listener", trust=TrustEveryone())
        route = await path.wait(60)
        assert (await here.ask(route / "echo", b"one")).payload == b"one"
        hop.cut()
        arrived = len(network.trace.on(event="arrived"))
        with pytest.raises((LinkError, LocalError)):
            await here.ask(route / "echo", b"two")
        await asyncio.sleep(120)
        assert path.current is None
        assert len(network.trace.on(event="arrived")) - arrived <= 1  # what was under way
        hop.heal()
        route = await path.wait(60)
        assert (await here.ask(route / "echo", b"three")).payload == b"three"

    played(body)


def test_a_node_has_links_of_every_kind_at_once(played: Any) -> None:
    async def body(network: Network) -> None:
        middle = await network.node("middle")
        others = [await network.node(name) for name in ("a", "b", "c", "d", "e", "f")]
        hops: list[Hop] = []
        for first, second, third in (others[:3], others[3:]):
            hops += [await network.memory(middle, first), await network.serial(middle, second)]
            hops.append(await network.ble(middle, third))
        links = [await middle.connect(hop.endpoint) for hop in hops]
        replies = [await middle.ask(link.route / "echo", b"%d" % n) for n, link in enumerate(links)]
        assert [reply.payload for reply in replies] == [b"%d" % n for n in range(6)]

    trace = played(body).trace
    assert {step.target for step in trace.on(source="middle")} == set("abcdef")


def test_two_centrals_reach_one_peripheral(played: Any) -> None:
    async def body(network: Network) -> None:
        one, other, device = [await network.node(name) for name in ("one", "other", "device")]
        for central in (one, other):
            hop = await network.ble(central, device)
            link = await central.connect(hop.endpoint)
            assert (await central.ask(link.route / "echo", b"hi")).payload == b"hi"

    played(body)


def test_a_route_passes_nodes_that_forward_and_none_that_does_not(played: Any) -> None:
    async def body(network: Network) -> None:
        laptop, gateway, device = [await network.node(name) for name in ("laptop", "gateway", "device")]
        first, second = await network.ble(laptop, gateway), await network.ble(gateway, device)
        opened = await laptop.open_hops(f"{first.endpoint},{second.endpoint}")
        with pytest.raises(AnswerTimeoutError):
            await laptop.ask(opened.route / "echo", b"x")
        gateway.forward("ble")
        assert (await laptop.ask(opened.route / "echo", b"x")).payload == b"x"

    played(body)


def test_a_channel_over_four_hops_takes_less_than_a_second(played: Any) -> None:
    async def body(network: Network) -> None:
        nodes = [await network.node(name) for name in ("laptop", "one", "two", "three", "device")]
        hops: list[Hop] = [await network.serial(*nodes[:2])]
        for here, there in pairwise(nodes[1:]):
            hops.append(await network.ble(here, there, loss=0.02))
            here.forward("ble")
        channels = nodes[-1].secure_channel_listener(trust=TrustEveryone())
        nodes[-1].open(channels.address, hops[-1].listener)
        route = ",".join([*(hop.endpoint for hop in hops), f"secure:{channels.address.name}"])
        opened = await nodes[0].open_hops(route, trust=TrustEveryone())
        reply = await nodes[0].ask(opened.route / "echo", bytes(10_000), timeout_s=60)
        assert reply.payload == bytes(10_000)

    began = time.monotonic()
    trace = played(body).trace
    assert time.monotonic() - began < 1
    assert not [step for step in trace.on() if step.readable]


def test_losses_of_a_memory_link_are_in_its_trace(played: Any) -> None:
    async def body(network: Network) -> None:
        here, there, hop = await joined(network, "memory", loss=0.3, latency_s=0.05)
        got: list[bytes] = []

        async def count(context: object, message: Received) -> None:
            got.append(message.payload)

        there.open(there.start_worker("count", count), hop.listener)
        context = here.context()
        link = await here.connect(hop.endpoint)
        for number in range(200):
            await context.send(link.route / "count", b"%d" % number)
        await asyncio.sleep(1)
        assert len(got) == 200 - len(network.trace.lost())
        assert 30 < len(network.trace.lost()) < 90

    played(body)


def test_anything_a_model_knows_can_happen_on_a_memory_link(played: Any) -> None:
    async def body(network: Network) -> None:
        here, _, hop = await joined(network, "memory", conditions=Conditions(duplicate_ratio=1.0))
        link = await here.connect(hop.endpoint)
        await here.ask(link.route / "echo", b"x")
        await asyncio.sleep(1)

    steps = played(body).trace.on(event="arrived", target="there")
    assert [step.number for step in steps] == [1, None]


def test_noise_costs_a_line_time_and_nothing_else(played: Any) -> None:
    async def body(network: Network, noise: float | Noise, took: list[float]) -> None:
        here, _, hop = await joined(network, "serial", noise=noise)
        link = await here.connect(hop.endpoint)
        began = asyncio.get_running_loop().time()
        for _ in range(20):
            reply = await here.ask(link.route / "echo", bytes(1000), timeout_s=60)
            assert reply.payload == bytes(1000)
        took.append(asyncio.get_running_loop().time() - began)

    took: list[float] = []
    for noise in (0.0, 1e-4, Noise(gap_ratio=1e-3)):
        played(lambda network, noise=noise: body(network, noise, took))
    assert took[0] < took[1]
    assert took[0] < took[2]


def test_a_small_mtu_slows_bluetooth_down(played: Any) -> None:
    async def body(network: Network, mtu: int, took: list[float]) -> None:
        here, _, hop = await joined(network, "ble", mtu=mtu)
        link = await here.connect(hop.endpoint)
        began = asyncio.get_running_loop().time()
        await here.ask(link.route / "echo", bytes(20_000), timeout_s=60)
        took.append(asyncio.get_running_loop().time() - began)

    took: list[float] = []
    for mtu in (23, 517):
        played(lambda network, mtu=mtu: body(network, mtu, took))
    assert took[0] > 2 * took[1]


def test_a_model_of_the_air_is_kept_to_unless_told_otherwise(played: Any) -> None:
    async def body(network: Network) -> None:
        here, there = await network.node("here"), await network.node("there")
        bad = AirModel(mtu=100, packet_loss=0.1, swapped=0.05)
        assert (await network.ble(here, there, model=bad)).air.model == bad
        assert (await network.ble(here, there, model=bad, loss=0.0)).air.model == replace(
            bad, packet_loss=0.0
        )
        assert (await network.ble(here, there, model=bad, mtu=23)).air.model == replace(bad, mtu=23)

    played(body)


@pytest.mark.parametrize(
    "wrong", [{"packet_loss": 1.5}, {"swapped": -0.1}, {"mtu": 22}, {"mtu": 600}, {"interval_s": 0.0}]
)
def test_an_air_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"not 0 to 1|MTU|interval"):
        AirModel(**wrong)  # type: ignore[arg-type]


def test_links_and_nodes_of_one_name_are_told_apart(played: Any) -> None:
    async def body(network: Network) -> None:
        one, two = await network.node("pi"), await network.node("pi")
        assert (one.name, two.name) == ("pi", "pi.2")
        hops = [await network.serial(one, two) for _ in range(3)]
        assert len({hop.endpoint for hop in hops}) == len({hop.label for hop in hops}) == 3

    played(body)


def test_an_endpoint_of_no_link_is_an_error_that_lists_those_there_are(played: Any) -> None:
    async def body(network: Network) -> None:
        here, _, hop = await joined(network, "memory")
        with pytest.raises(LocalError, match=f"this node has {hop.endpoint}"):
            await here.connect("memory:elsewhere")

    played(body)


def test_udp_is_refused_in_virtual_time(played: Any) -> None:
    async def body(network: Network) -> None:
        await network.udp(await network.node(), await network.node())

    with pytest.raises(RealTimeError, match="virtual clock"):
        played(body)


def test_udp_in_real_time_can_be_cut_and_healed(played: Any) -> None:
    async def body(network: Network) -> None:
        here, there = await network.node("here"), await network.node("there")
        hop = await network.udp(here, there, latency_s=0.001)
        link = await here.connect(hop.endpoint)
        assert (await here.ask(link.route / "echo", bytes(3000))).payload == bytes(3000)
        hop.cut()
        with pytest.raises(AnswerTimeoutError):
            await here.ask(link.route / "echo", b"x", timeout_s=0.1)
        hop.heal()
        assert (await here.ask(link.route / "echo", b"x")).payload == b"x"

    played(body, real_time=True)


def test_a_run_that_takes_too_long_ends(played: Any) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        played(lambda _: asyncio.sleep(7200), within_s=3600)
    assert time.monotonic() - began < 5


def test_chance_and_date_are_the_same_each_time_and_as_before_afterwards(played: Any) -> None:
    drawn: list[tuple[bytes, float, float]] = []

    async def body(network: Network) -> None:
        await asyncio.sleep(3600)
        drawn.append((os.urandom(8), random.random(), time.time()))

    real = os.urandom, time.time
    random.seed(5)
    expected = random.random()
    random.seed(5)
    for seed in (1, 1, 2):
        played(body, seed=seed)
    assert drawn[0] == drawn[1]
    assert drawn[0][:2] != drawn[2][:2]
    assert (os.urandom, time.time) == real
    assert random.random() == expected
    assert abs(drawn[0][2] - drawn[2][2]) < 1e-6
