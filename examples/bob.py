"""Bob echoes what reaches him through a secure channel, wherever he is: he registers at a relay."""

import asyncio
import sys

from ockamlite import Context, Node, Received, TrustEveryone


async def echo(context: Context, message: Received) -> None:
    print(f"Address: {context.address}, Received: {message.text}", flush=True)
    await context.reply(message, message.text)


async def main(relay: str = "127.0.0.1:4000") -> None:
    async with Node() as bob:
        echoer = bob.start_worker("echoer", echo)
        channels = bob.secure_channel_listener("listener", trust=TrustEveryone())
        bob.open(echoer, channels)
        registration = bob.register(bob.path(f"tcp:{relay}"), offer=[channels.address])
        address = await registration.registered()
        print("Forwarding address for Bob is:", address.name, sep="\n", flush=True)
        await bob.until_interrupted()


asyncio.run(main(*sys.argv[1:]))
