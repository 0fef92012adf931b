"""The end of a connection whose values a library writes one by one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from transports.ble.queued import QueuedConnection

if TYPE_CHECKING:
    from ockamlite.errors import OckamError


class Slow(QueuedConnection):
    """Takes its time to disconnect."""

    def __init__(self) -> None:
        super().__init__("a slow device")
        self.leaving = asyncio.Event()
        self.go_on = asyncio.Event()
        self.has_left = False

    async def put(self, value: bytes) -> None:
        pass

    async def leave(self) -> None:
        self.leaving.set()
        await self.go_on.wait()
        self.has_left = True


class User:
    def __init__(self) -> None:
        self.ends: list[OckamError | None] = []
        self.ended = asyncio.Event()

    def value_received(self, value: bytes) -> None:
        pass

    def room_changed(self) -> None:
        pass

    def connection_lost(self, error: OckamError | None) -> None:
        self.ends.append(error)
        self.ended.set()


async def test_a_disconnect_that_takes_long_is_not_cut_short_by_an_abort() -> None:
    connection, user = Slow(), User()
    connection.start(user)
    connection.is_gone()
    connection.close()
    await connection.leaving.wait()
    connection.abort()
    await asyncio.sleep(0)
    connection.go_on.set()
    async with asyncio.timeout(5):
        await user.ended.wait()
    assert connection.has_left
    assert user.ends == [None]
