"""Outgoing access control: where a worker may send to is asked for the route of each message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ockamlite.errors import NotAllowedError
from ockamlite.routing.address import Address
from ockamlite.routing.route import Route
from ockamlite.workers.access import AllowRoutes

if TYPE_CHECKING:
    from ockamlite.node import Node
    from ockamlite.workers.context import Context
    from ockamlite.workers.mailbox import Received


async def answers(context: Context, message: Received) -> None:
    await context.reply(message, message.payload)


async def test_a_worker_sends_only_along_the_routes_it_may(node: Node) -> None:
    node.start_worker("near", answers)
    node.start_worker("far", answers)
    asked: list[bytes] = []
    refused: list[str] = []

    async def asks(context: Context, message: Received) -> None:
        for name in ("near", "far"):
            try:
                asked.append((await context.ask(name, b"hello")).payload)
            except NotAllowedError as error:
                refused.append(str(error))
        await context.send("near", b"also this")
        with pytest.raises(NotAllowedError):
            await context.send(Route(), b"nowhere")
        mine.set_result(None)

    mine = asyncio.get_running_loop().create_future()
    node.start_worker("asks", asks, may_send=AllowRoutes(Address.local("near")))
    await node.context().send("asks", b"go")
    await mine
    assert asked == [b"hello"]
    assert refused == ["asks may not send along 0#far"]
