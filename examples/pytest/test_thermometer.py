"""A device that measures, and a gateway that asks it: tested without either, and without waiting."""

import asyncio

from boards.network import Network
from ockamlite import Context, Received, TrustEveryone


async def thermometer(context: Context, message: Received) -> None:
    await context.reply(message, b"21.5 C")


async def test_it_answers_again_when_the_cable_is_back(network: Network) -> None:
    gateway, device = await network.node("gateway"), await network.node("device")
    line = await network.serial(gateway, device, baud=9600, noise=1e-4)
    channels = device.secure_channel_listener(trust=TrustEveryone())
    device.open(channels.address, line.listener)
    device.open(device.start_worker("thermometer", thermometer), channels)
    way = gateway.path(f"{line.endpoint},secure:secure_channel_listener", trust=TrustEveryone())
    for _ in range(3):
        reply = await gateway.ask(await way.wait(60) / "thermometer", b"?", timeout_s=60)
        assert reply.payload == b"21.5 C"
        line.cut()
        await asyncio.sleep(600)
        line.heal()
    assert not network.trace.links_that_saw(b"21.5 C")
