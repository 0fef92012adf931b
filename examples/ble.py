"""A secure channel over Bluetooth LE: Bob advertises his name, Alice finds him by it."""

import asyncio
import sys

from ockamlite import Node, TrustIdentifiers


async def main(listen: str = "ble:bob", dial: str = "ble:bob") -> None:
    async with Node() as bob, Node() as alice:
        links = await bob.listen(listen)
        channels = bob.secure_channel_listener("bob", trust=TrustIdentifiers(alice.identity.identifier))
        bob.open(channels.address, links)
        bob.open(bob.uppercase(), channels)

        path = alice.path(f"{dial},secure:bob,uppercase", trust=TrustIdentifiers(bob.identity.identifier))
        reply = await alice.ask(await path.wait(10), "through the air")
        print(path.text, "->", reply.text)


asyncio.run(main(*sys.argv[1:]))
