"""Alice sends what you type to Bob's echoer, end-to-end encrypted, through a relay both can reach."""

import asyncio
import signal
import sys

from ockamlite import Node, TrustEveryone


async def main(relay: str = "127.0.0.1:4000") -> None:
    print("Enter the forwarding address for Bob:", flush=True)
    address = await asyncio.to_thread(sys.stdin.readline)
    async with Node() as alice:
        link = await alice.connect(f"tcp:{relay}")
        route = link.route / address.strip() / "listener"
        channel = await alice.secure_channel(route, trust=TrustEveryone())
        print("Secure channel with", channel.peer, "is open. Type a message for Bob's echoer:", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            reply = await alice.ask(channel.route / "echoer", line.rstrip("\n"))
            print("Alice received an echo:", reply.text, flush=True)


signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once, even while she waits for a line
asyncio.run(main(*sys.argv[1:]))
