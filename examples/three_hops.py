"""One secure channel over three TCP connections: the two nodes in the middle only pass it on."""

import asyncio

from ockamlite import Node, TrustIdentifiers


async def main() -> None:
    async with Node() as bob, Node() as second, Node() as first, Node() as alice:
        at_bob = await bob.listen("tcp:127.0.0.1:0")
        at_second = await second.listen("tcp:127.0.0.1:0")
        at_first = await first.listen("tcp:127.0.0.1:0")
        second.forward(str(at_bob.endpoint))
        first.forward(str(at_second.endpoint))

        channels = bob.secure_channel_listener("bob", trust=TrustIdentifiers(alice.identity.identifier))
        bob.open(channels.address, at_bob)
        bob.open(bob.uppercase(), channels)

        hops = f"{at_first.endpoint},{at_second.endpoint},{at_bob.endpoint},secure:bob,uppercase"
        path = alice.path(hops, trust=TrustIdentifiers(bob.identity.identifier))
        reply = await alice.ask(await path.wait(10), "through three hops")
        print(path.text, "->", reply.text)


asyncio.run(main())
