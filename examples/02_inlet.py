"""An inlet on a node of its own that reaches the outlet of 02_outlet.py over TCP."""

import asyncio
import sys

from ockamlite import Node


async def main(listen: str = "127.0.0.1:4001", port: str = "4000") -> None:
    async with Node() as node:
        path = node.path(f"tcp:127.0.0.1:{port},outlet")
        inlet = await node.inlet(f"tcp:{listen}", path)
        print(f"inlet {inlet.endpoint} -> {path.text}", flush=True)
        await node.until_interrupted()


asyncio.run(main(*sys.argv[1:]))
