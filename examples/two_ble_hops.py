"""Two hops of Bluetooth LE: Alice is too far from Bob, and reaches him through a repeater between them."""

import asyncio
import sys

from ockamlite import Node, TrustIdentifiers


async def main(repeater_at: str = "ble:repeater", bob_at: str = "ble:bob") -> None:
    async with Node() as bob, Node() as repeater, Node() as alice:
        at_bob = await bob.listen(bob_at)
        await repeater.listen(repeater_at)
        repeater.forward("ble:bob")

        channels = bob.secure_channel_listener("bob", trust=TrustIdentifiers(alice.identity.identifier))
        bob.open(channels.address, at_bob)
        bob.open(bob.uppercase(), channels)

        hops = "ble:repeater,ble:bob,secure:bob,uppercase"
        path = alice.path(hops, trust=TrustIdentifiers(bob.identity.identifier))
        reply = await alice.ask(await path.wait(10), "from one to the next")
        print(path.text, "->", reply.text)


asyncio.run(main(*sys.argv[1:]))
