"""Both roles on controllers of our own, by bumble: here on bumble's emulated controllers in this process."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.errors import LinkBrokenError, LinkClosedError, UnavailableError
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import Endpoint
from transports.ble import BleTransport

bumble_link = pytest.importorskip("bumble.link", reason="needs bumble: pip install 'ockamlite[bumble]'")

from bumble.controller import Controller as Emulated  # noqa: E402
from bumble.device import Device  # noqa: E402
from bumble.hci import Address  # noqa: E402
from bumble.host import Host  # noqa: E402
from bumble.transport.common import AsyncPipeSink  # noqa: E402

from transports.ble.hci import Controller, HciRadio  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable


class Room:
    """Controllers that hear each other."""

    def __init__(self, end: Callable[[Any], Any]) -> None:
        self.link = bumble_link.LocalLink()
        self.open: dict[int, Any] = {}
        self.accepted: list[Any] = []
        self.came = asyncio.Event()
        self._end = end

    def transport(self, number: int) -> BleTransport:
        async def open_one() -> Controller:
            address = Address(f"F0:F0:F0:F0:F0:{number:02X}")
            emulated = Emulated(f"controller {number}", link=self.link, public_address=address)
            emulated.le_acl_data_packet_length = 251
            self.open[number] = Device(name="", address=address, host=Host(emulated, AsyncPipeSink(emulated)))

            async def close() -> None:
                del self.open[number]

            return Controller(self.open[number], close)

        return BleTransport(LIMITS, HciRadio(open_one), search_s=2)

    def accept(self, link: Any) -> None:
        self.accepted.append(self._end(link))
        self.came.set()

    async def listen(self, transport: BleTransport, name: str = "pi") -> Any:
        return await transport.listen(Endpoint.parse(f"ble:{name}"), self.accept)

    async def dial(self, number: int, to: str = "pi") -> Any:
        return self._end(await self.transport(number).connect(Endpoint.parse(f"ble:{to}")))

    async def wait_accepted(self, count: int) -> Any:
        while len(self.accepted) < count:
            self.came.clear()
            await self.came.wait()
        return self.accepted[count - 1]

    async def all_closed(self) -> None:
        async with asyncio.timeout(10):
            while self.open:
                await asyncio.sleep(0.05)


@pytest.fixture
def room(receiver: Any) -> Room:
    # What its emulated controllers say when both ends disconnect at once.
    logging.getLogger("bumble").setLevel(logging.CRITICAL)
    return Room(receiver)


async def test_messages_arrive_once_and_in_order_from_several_centrals(
    room: Room, messages: Callable[..., list[bytes]]
) -> None:
    listener = await room.listen(room.transport(1))
    ends = []
    for count, number in enumerate((2, 3), 1):
        here = await room.dial(number)
        there = await room.wait_accepted(count)
        assert here.link.remote == "pi (F0:F0:F0:F0:F0:01)"
        assert there.link.remote == f"F0:F0:F0:F0:F0:{number:02X}"
        ends.append((here, there))
    up, down = messages(60, seed=1), messages(60, seed=2)
    for here, there in ends:
        await asyncio.gather(here.send_all(up), there.send_all(down))
        assert await there.wait_frames(60) == up
        assert await here.wait_frames(60) == down
    await listener.close()
    for here, there in ends:
        here.link.close()
        assert await here.closed is None
        assert isinstance(await there.closed, LinkClosedError)
    await room.all_closed()


async def test_a_central_that_is_switched_off_breaks_its_link(room: Room) -> None:
    listener = await room.listen(room.transport(1))
    here = await room.dial(2, "*")
    there = await room.wait_accepted(1)
    for connection in tuple(room.open[2].connections.values()):
        await connection.disconnect()
    assert isinstance(await here.closed, LinkBrokenError)
    assert isinstance(await there.closed, LinkBrokenError)
    again = await room.dial(2)
    again.link.send(b"", b"again")
    assert await (await room.wait_accepted(2)).wait_frames(1) == [b"again"]
    again.link.close()
    await again.closed
    await listener.close()
    await room.all_closed()


async def test_a_device_that_nobody_hears_is_unavailable_and_the_controller_is_closed(room: Room) -> None:
    with pytest.raises(UnavailableError, match="no device 'pi'"):
        await room.dial(2)
    await room.all_closed()


async def test_a_controller_that_cannot_be_opened_is_named() -> None:
    transport = BleTransport(LIMITS)
    for name in ("serial:/dev/no-such-controller", "nonsense:1"):
        with pytest.raises(UnavailableError, match=name) as caught:
            await transport.connect(Endpoint("ble", "pi", (("hci", name),)))
        assert "plugged in" in caught.value.hint
