"""Nodes over emulated Bluetooth LE: channels in virtual time, portals with real sockets, a bridge to TCP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import AirModel
from ockamlite.identities.local import LocalIdentity
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers
from transports.ble import BleTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    World = Any
    Virtual = Callable[[Callable[[], Any]], None]


def node(radio: Any) -> Node:
    return Node(identity=LocalIdentity.ephemeral(1_700_000_000), transports=[BleTransport(LIMITS, radio)])


def test_a_secure_channel_over_bluetooth_answers_within_a_second_and_a_half(
    world: type[World], virtual: Virtual
) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        air = world().air
        async with node(air.radio()) as pi, node(air.radio()) as laptop:
            listener = await pi.listen("ble:pi")
            channels = pi.secure_channel_listener(trust=TrustEveryone())
            pi.open(channels.address, listener)
            began = loop.time()
            link = await laptop.connect("ble:pi")
            channel = await laptop.secure_channel(
                link.route / "secure_channel_listener", trust=TrustIdentifiers(pi.identity.identifier)
            )
            answer = await laptop.ask(channel.route / "echo", "hello")
            assert answer.text == "hello"
            assert loop.time() - began < 1.5

    virtual(body)


def test_two_bluetooth_hops_join_nodes_that_do_not_hear_each_other(
    world: type[World], virtual: Virtual
) -> None:
    async def body() -> None:
        air = world().air
        radios = [air.radio() for _ in range(3)]
        air.part(radios[0].address, radios[2].address)
        nodes = [node(radio) for radio in radios]
        async with nodes[0] as bob, nodes[1] as gateway, nodes[2] as alice:
            at_bob = await bob.listen("ble:bob")
            channels = bob.secure_channel_listener(trust=TrustEveryone())
            bob.open(channels.address, at_bob)
            await gateway.listen("ble:gateway")
            gateway.forward("ble:bob")
            path = alice.path(
                "ble:gateway,ble:bob,secure:secure_channel_listener",
                trust=TrustIdentifiers(bob.identity.identifier),
            )
            route = await path.wait(10)
            assert (await alice.ask(route / "echo", "two hops")).text == "two hops"

    virtual(body)


@pytest.mark.parametrize(
    "model", [AirModel(), AirModel(mtu=23, packets_per_event=40)], ids=["usual", "MTU of 23"]
)
async def test_a_portal_over_bluetooth_is_whole_and_unreadable_on_the_air(
    world: type[World], website: Any, model: AirModel
) -> None:
    air = world(model)
    async with node(air.pi_radio) as pi, node(air.air.radio()) as laptop:
        listener = await pi.listen("ble:pi")
        channels = pi.secure_channel_listener(trust=TrustEveryone())
        pi.open(channels.address, listener)
        outlet = pi.outlet(f"tcp:127.0.0.1:{website.port}")
        pi.open(outlet.address, channels)
        path = laptop.path(
            "ble:pi,secure:secure_channel_listener,outlet", trust=TrustIdentifiers(pi.identity.identifier)
        )
        inlet = await laptop.inlet("tcp:127.0.0.1:0", path)
        assert await website.fetch(inlet.port) == website.page
    carried = b"".join(event.value for event in air.of("value"))
    assert len(carried) > len(website.page)
    assert b"GET /" not in carried
    assert bytes(range(16)) not in carried


async def test_bluetooth_then_tcp(world: type[World]) -> None:
    """The route of the guides: a gateway bridges a device on Bluetooth to a network."""
    air = world().air
    async with node(air.radio()) as bob, node(air.radio()) as gateway, node(air.radio()) as device:
        at_bob = await bob.listen("tcp:127.0.0.1:0")
        channels = bob.secure_channel_listener(trust=TrustEveryone())
        bob.open(channels.address, at_bob)
        await gateway.listen("ble:gateway")
        gateway.forward(str(at_bob.endpoint))
        path = device.path(
            f"ble:gateway,{at_bob.endpoint},secure:secure_channel_listener",
            trust=TrustIdentifiers(bob.identity.identifier),
        )
        route = await path.wait(10)
        assert (await device.ask(route / "echo", "over two links")).text == "over two links"
