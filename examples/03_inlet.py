"""An inlet that reaches the outlet of 03_outlet.py through a secure channel over TCP."""

import asyncio
import sys

from ockamlite import Node, TrustEveryone


async def main(listen: str = "127.0.0.1:4001", port: str = "4000") -> None:
    async with Node() as node:
        hops = f"tcp:127.0.0.1:{port},secure:secure_channel_listener,outlet"
        path = node.path(hops, trust=TrustEveryone())
        inlet = await node.inlet(f"tcp:{listen}", path)
        print(f"inlet {inlet.endpoint} -> {path.text}", flush=True)
        await node.until_interrupted()


asyncio.run(main(*sys.argv[1:]))
