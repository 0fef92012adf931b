"""Bluetooth LE, then TCP: a gateway passes on what it cannot read, from a device to a server."""

import asyncio
import sys

from ockamlite import Node, TrustIdentifiers


async def main(listen: str = "ble:gateway", dial: str = "ble:gateway") -> None:
    async with Node() as server, Node() as gateway, Node() as device:
        at_server = await server.listen("tcp:127.0.0.1:0")
        await gateway.listen(listen)
        gateway.forward(str(at_server.endpoint))

        trust = TrustIdentifiers(device.identity.identifier)
        channels = server.secure_channel_listener("server", trust=trust)
        server.open(channels.address, at_server)
        server.open(server.uppercase(), channels)

        hops = f"{dial},{at_server.endpoint},secure:server,uppercase"
        path = device.path(hops, trust=TrustIdentifiers(server.identity.identifier))
        reply = await device.ask(await path.wait(10), "over bluetooth, then tcp")
        print(path.text, "->", reply.text)


asyncio.run(main(*sys.argv[1:]))
