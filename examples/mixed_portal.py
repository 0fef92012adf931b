"""A portal over Bluetooth LE, a serial line, UDP and TCP: only the route says which links it goes over."""

import asyncio
import sys

from ockamlite import Node, TrustIdentifiers


async def main(
    listen: str = "127.0.0.1:4001",
    target: str = "127.0.0.1:5000",
    line: str = "serial:/dev/ttyUSB0",
    other_end: str = "serial:/dev/ttyUSB1",
) -> None:
    async with Node() as server, Node() as third, Node() as second, Node() as first, Node() as laptop:
        at_server = await server.listen("tcp:127.0.0.1:0")
        at_third = await third.listen("udp:127.0.0.1:0")
        await second.listen(other_end)
        await first.listen("ble:first")
        hops = ["ble:first", line, str(at_third.endpoint), str(at_server.endpoint)]
        for gateway, onward in zip((first, second, third), hops[1:], strict=True):
            gateway.forward(onward)

        channels = server.secure_channel_listener(trust=TrustIdentifiers(laptop.identity.identifier))
        server.open(channels.address, at_server)
        server.open(server.outlet(f"tcp:{target}").address, channels)

        route = ",".join([*hops, "secure:secure_channel_listener", "outlet"])
        path = laptop.path(route, trust=TrustIdentifiers(server.identity.identifier))
        inlet = await laptop.inlet(f"tcp:{listen}", path)
        print(f"inlet {inlet.endpoint} -> {path.text}", flush=True)
        await laptop.until_interrupted()


asyncio.run(main(*sys.argv[1:]))
