"""Which board this is, what is in the way of its ports, and at which of them a node can listen."""

import asyncio
import sys
from pathlib import Path

from boards.detection import detect
from boards.doctor import examine
from boards.machine import Machine
from ockamlite import Node, OckamError


async def main(root: str = "/") -> None:
    found = detect(Path(root))
    print(f"{found.profile.name}: {found.model}")
    report = examine(Machine(Path(root)), found.profile)
    for obstacle in report.obstacles:
        print(f"in the way: {obstacle.what}; try: {obstacle.fix}")
    for endpoint in report.endpoints:
        try:
            async with Node() as node:
                links = await node.listen(endpoint)
                print("a node can listen at", links.endpoint)
        except OckamError as error:
            print(f"no node can listen at {endpoint}: {error}")


asyncio.run(main(*sys.argv[1:]))
