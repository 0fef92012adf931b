"""Two nodes in one process: Alice asks Bob's worker, through a secure channel that only she may open."""

import asyncio

from ockamlite import Context, Node, Received, TrustIdentifiers


async def greet(context: Context, message: Received) -> None:
    await context.reply(message, f"Hello {message.text}! Your channel proves that you are {message.peer}.")


async def main() -> None:
    async with Node() as bob, Node() as alice:
        channels = bob.secure_channel_listener("bob", trust=TrustIdentifiers(alice.identity.identifier))
        greeter = bob.start_worker("greeter", greet)
        bob.open(greeter, channels)
        links = await bob.listen("tcp:127.0.0.1:0")
        bob.open(channels.address, links)
        print("Bob listens at", links.endpoint)

        link = await alice.connect(links.endpoint)
        channel = await alice.secure_channel(
            link.route / "bob", trust=TrustIdentifiers(bob.identity.identifier)
        )
        reply = await alice.ask(channel.route / "greeter", "Alice")
        print("Alice received:", reply.text)


asyncio.run(main())
