"""A portal within one node: what connects to the inlet talks to the target of the outlet."""

import asyncio
import sys

from ockamlite import Node, Route


async def main(listen: str = "127.0.0.1:4001", target: str = "127.0.0.1:5000") -> None:
    async with Node() as node:
        outlet = node.outlet(f"tcp:{target}")
        inlet = await node.inlet(f"tcp:{listen}", Route.of(outlet.address))
        print(f"inlet {inlet.endpoint} -> outlet -> tcp:{target}", flush=True)
        await node.until_interrupted()


asyncio.run(main(*sys.argv[1:]))
