"""An inlet that reaches the outlet of 04_outlet.py through a relay, end-to-end encrypted."""

import asyncio
import sys

from ockamlite import Node, TrustEveryone


async def main(listen: str, forwarding_address: str, relay: str = "127.0.0.1:4000") -> None:
    async with Node() as node:
        hops = f"tcp:{relay},{forwarding_address},secure:secure_channel_listener,outlet"
        path = node.path(hops, trust=TrustEveryone())
        inlet = await node.inlet(f"tcp:{listen}", path)
        print(f"inlet {inlet.endpoint} -> {path.text}", flush=True)
        await node.until_interrupted()


if len(sys.argv) < 3:
    sys.exit("usage: 04_inlet.py HOST:PORT FORWARDING_ADDRESS [RELAY_HOST:PORT]")
asyncio.run(main(*sys.argv[1:]))
