"""A secure channel over a serial line: Bob waits at one end of it, Alice dials at the other."""

import asyncio
import sys

from ockamlite import Node, TrustIdentifiers


async def main(listen: str = "serial:/dev/ttyUSB0", dial: str = "serial:/dev/ttyUSB1") -> None:
    async with Node() as bob, Node() as alice:
        links = await bob.listen(listen)
        channels = bob.secure_channel_listener("bob", trust=TrustIdentifiers(alice.identity.identifier))
        bob.open(channels.address, links)
        bob.open(bob.uppercase(), channels)

        path = alice.path(f"{dial},secure:bob,uppercase", trust=TrustIdentifiers(bob.identity.identifier))
        reply = await alice.ask(await path.wait(10), "over a serial line")
        print(path.text, "->", reply.text)


asyncio.run(main(*sys.argv[1:]))
