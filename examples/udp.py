"""A secure channel over UDP: Alice asks a worker of Bob, who listens at a port for datagrams."""

import asyncio
import sys

from ockamlite import Node, TrustIdentifiers


async def main(listen: str = "udp:127.0.0.1:0") -> None:
    async with Node() as bob, Node() as alice:
        links = await bob.listen(listen)
        channels = bob.secure_channel_listener("bob", trust=TrustIdentifiers(alice.identity.identifier))
        bob.open(channels.address, links)
        bob.open(bob.uppercase(), channels)

        path = alice.path(
            f"{links.endpoint},secure:bob,uppercase", trust=TrustIdentifiers(bob.identity.identifier)
        )
        reply = await alice.ask(await path.wait(10), "over datagrams")
        print(path.text, "->", reply.text)


asyncio.run(main(*sys.argv[1:]))
