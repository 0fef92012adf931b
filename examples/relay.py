"""A relay: others register here and are reached through it, and it sees ciphertext only."""

import asyncio
import sys

from ockamlite import Node


async def main(port: str = "4000") -> None:
    async with Node() as node:
        links = await node.listen(f"tcp:127.0.0.1:{port}")
        node.relay_service(open_to=[links.flow])
        print("relay", links.endpoint, flush=True)
        await node.until_interrupted()


asyncio.run(main(*sys.argv[1:]))
