"""An outlet on a node of its own, reached over TCP without a secure channel: for trying only."""

import asyncio
import sys

from ockamlite import Node


async def main(target: str = "127.0.0.1:5000", port: str = "4000") -> None:
    async with Node() as node:
        outlet = node.outlet(f"tcp:{target}")
        links = await node.listen(f"tcp:127.0.0.1:{port}")
        node.open(outlet.address, links)
        print(f"{links.endpoint} -> outlet -> tcp:{target}", flush=True)
        await node.until_interrupted()


asyncio.run(main(*sys.argv[1:]))
