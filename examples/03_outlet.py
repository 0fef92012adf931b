"""An outlet that is reached through a secure channel, and in no other way."""

import asyncio
import sys

from ockamlite import Node, TrustEveryone


async def main(target: str = "127.0.0.1:5000", port: str = "4000") -> None:
    async with Node() as node:
        outlet = node.outlet(f"tcp:{target}")
        channels = node.secure_channel_listener(trust=TrustEveryone())
        node.open(outlet.address, channels)
        links = await node.listen(f"tcp:127.0.0.1:{port}")
        node.open(channels.address, links)
        print(f"{links.endpoint} -> secure channel -> outlet -> tcp:{target}", flush=True)
        await node.until_interrupted()


asyncio.run(main(*sys.argv[1:]))
