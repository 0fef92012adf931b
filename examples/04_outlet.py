"""An outlet that listens nowhere: it registers at a relay and prints the address it got there."""

import asyncio
import sys

from ockamlite import Node, TrustEveryone


async def main(target: str = "127.0.0.1:5000", relay: str = "127.0.0.1:4000") -> None:
    async with Node() as node:
        outlet = node.outlet(f"tcp:{target}")
        channels = node.secure_channel_listener(trust=TrustEveryone())
        node.open(outlet.address, channels)
        registration = node.register(node.path(f"tcp:{relay}"), offer=[channels.address])
        print((await registration.registered()).name, flush=True)
        await node.until_interrupted()


asyncio.run(main(*sys.argv[1:]))
