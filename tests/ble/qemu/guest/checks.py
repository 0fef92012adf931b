"""The checks, in their order; the name of each is what it shows."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, Final

from ockamlite.limits import LIMITS
from tests.ble.qemu.guest.commands import Command, transfer
from tests.ble.qemu.guest.services import block
from tests.ble.qemu.guest.world import ADAPTERS, ALL_ON, DIALLER, LISTENER, NAME, SECOND
from transports.ble import BleTransport, gatt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.ble.qemu.guest.world import World

    Check = Callable[[World], Awaitable[str | None]]

LIMIT_S: Final = 60.0
_BULK: Final = 300_000
_LONG: Final = 1_000_000


async def adapters_come_up(world: World) -> None:
    for number in range(len(ADAPTERS)):
        await world.services.controllers(f"plug {number}")
    await world.daemon.wait_powered(ALL_ON)


async def a_command_listens(world: World) -> None:
    await world.outlet()


async def a_scan_hears_its_name(world: World) -> str:
    await world.outlet()
    heard: list[gatt.Advertisement] = []
    await BleTransport(LIMITS).scan(lambda device: bool(heard.append(device)) or True, adapter=DIALLER)
    assert heard[0].name == NAME
    return f"{heard[0].name} at {heard[0].address}"


async def a_portal_moves_every_octet(world: World) -> str:
    port = await world.port()
    first, _ = await transfer(port)
    _, up = await transfer(port, up=_BULK)
    _, down = await transfer(port, down=_BULK)
    mtu = (await world.daemon.characteristic(DIALLER, gatt.RX)).get("MTU")
    return f"first octet {first:.1f} s, up {_speed(up)}, down {_speed(down)}, MTU {mtu}"


async def a_second_central_waits_and_disturbs_nobody(world: World) -> str:
    await world.works()
    moving = asyncio.ensure_future(transfer(await world.port(), up=_BULK))
    second = await world.inlet(SECOND)
    port = await world.port(SECOND)
    while not any("it serves another device" in str(event.get("reason")) for event in second.events):
        try:
            await transfer(port)
        except ConnectionError:
            continue
        raise AssertionError("the second was served beside the first")
    await moving
    await world.works()
    await (await world.inlet()).end()
    waited = await world.works(SECOND)
    await second.end()
    return f"served {waited} s after the first had ended"


async def a_central_that_ended_dials_again(world: World) -> str:
    await world.works()
    assert await (await world.inlet()).end() == 0
    return f"after {await world.works()} s"


async def a_central_that_was_killed_dials_again(world: World) -> str:
    await world.works()
    await (await world.inlet()).end(signal.SIGKILL)
    return f"after {await world.works()} s"


async def a_peripheral_that_ended_is_dialled_again(world: World) -> str:
    return await _restarted(world, signal.SIGTERM)


async def a_peripheral_that_was_killed_is_dialled_again(world: World) -> str:
    return await _restarted(world, signal.SIGKILL)


async def out_of_range_in_a_transfer(world: World) -> str:
    return await _broken(world, lambda: world.services.controllers("fade"))


async def adapter_of_the_central_off_and_on(world: World) -> str:
    return await _switched(world, DIALLER)


async def adapter_of_the_peripheral_off_and_on(world: World) -> str:
    return await _switched(world, LISTENER)


async def adapter_of_the_central_pulled_and_plugged(world: World) -> str:
    return await _plugged(world, 1)


async def adapter_of_the_peripheral_pulled_and_plugged(world: World) -> str:
    return await _plugged(world, 0)


async def bluetoothd_restarted(world: World) -> str:
    return await _broken(world, lambda: _restart(world))


async def a_portal_with_one_channel(world: World) -> str:
    await world.end()
    await _restart(world, "Channels=1")
    return await a_portal_moves_every_octet(world)


async def what_is_wrong_is_told(world: World) -> str:
    await world.end()
    told = [await _told("no Bluetooth adapter 'hci7'", "hci7")]
    await world.daemon.power(DIALLER, on=False)
    told.append(await _told("adapter is off", DIALLER))
    await world.daemon.power(DIALLER, on=True)
    await asyncio.to_thread(block, blocked=True)
    await world.daemon.wait_powered(dict.fromkeys(ADAPTERS, False))
    told.append(await _told("blocked by rfkill", DIALLER))
    await asyncio.to_thread(block, blocked=False)
    await world.services.end_bluetoothd()
    told.append(await _told("bluetoothd does not run", DIALLER))
    await world.services.start_bluetoothd()
    return "; ".join(told)


ALL: Final[tuple[Check, ...]] = (
    adapters_come_up,
    a_command_listens,
    a_scan_hears_its_name,
    a_portal_moves_every_octet,
    a_second_central_waits_and_disturbs_nobody,
    a_central_that_ended_dials_again,
    a_central_that_was_killed_dials_again,
    a_peripheral_that_ended_is_dialled_again,
    a_peripheral_that_was_killed_is_dialled_again,
    out_of_range_in_a_transfer,
    adapter_of_the_central_off_and_on,
    adapter_of_the_peripheral_off_and_on,
    adapter_of_the_central_pulled_and_plugged,
    adapter_of_the_peripheral_pulled_and_plugged,
    bluetoothd_restarted,
    a_portal_with_one_channel,
    what_is_wrong_is_told,
)
ALWAYS: Final[tuple[Check, ...]] = (adapters_come_up,)
"""Those that the others need."""


def _speed(seconds: float) -> str:
    return f"{_BULK / seconds / 1000:.0f} KB/s"


async def _restarted(world: World, number: int) -> str:
    await world.works()
    await (await world.outlet()).end(number)
    await world.outlet()
    return f"after {await world.works()} s"


async def _switched(world: World, adapter: str) -> str:
    async def off_and_on() -> None:
        await world.daemon.power(adapter, on=False)
        await world.daemon.wait_powered(ALL_ON | {adapter: False})
        await world.daemon.power(adapter, on=True)

    return await _broken(world, off_and_on)


async def _plugged(world: World, number: int) -> str:
    async def out_and_in() -> None:
        await world.services.controllers(f"pull {number}")
        await world.daemon.wait_powered({name: True for name in ADAPTERS if name != ADAPTERS[number]})
        await world.services.controllers(f"plug {number}")
        await world.daemon.wait_powered(ALL_ON)

    return await _broken(world, out_and_in)


async def _restart(world: World, *settings: str) -> None:
    await world.services.end_bluetoothd()
    await world.services.start_bluetoothd(*settings)
    await world.daemon.wait_powered(ALL_ON)


async def _broken(world: World, fault: Callable[[], Awaitable[Any]]) -> str:
    """Break something in a transfer: it ends, what came is right, and the same inlet works again."""
    await world.works()
    quarter = asyncio.Event()
    moving = asyncio.ensure_future(transfer(await world.port(), down=_LONG, broken=quarter))
    waiting = asyncio.ensure_future(quarter.wait())
    await asyncio.wait((moving, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await fault()
    try:
        await moving
    except ConnectionError:
        return f"ended with an error; works again after {await world.works()} s"
    raise AssertionError("the transfer did not notice")


async def _told(text: str, adapter: str) -> str:
    """Both roles name what is wrong, and say what to do."""
    for arguments in (
        ("send", f"ble:{NAME}?adapter={adapter},echo", "hello"),
        ("node", "--listen", f"ble:x?adapter={adapter}"),
    ):
        command = await Command.start(*arguments, "--trust-everyone", "--ephemeral")
        code = await command.result()
        assert code == 69, (arguments, code, command.log)
        assert text in command.log, (arguments, command.log)
        assert "try: " in command.log, (arguments, command.log)
    return text
