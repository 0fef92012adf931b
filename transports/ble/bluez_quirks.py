"""What BlueZ does not do, or not say, in some of its versions: found by its version, or by asking it.

- Before 5.67 it has one socket per characteristic, not per device: what any central writes comes out of the
  same one, and what is notified goes to all. Until 5.76 notifications still went to all.
- A device that it remembers has the MTU of before, and no signal tells the new one.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Final

from dbus_fast import BusType, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, DBusError

from transports.ble import bluez

if TYPE_CHECKING:
    from bleak.backends.characteristic import BleakGATTCharacteristic

logger = logging.getLogger(__name__)

_SEVERAL_SINCE: Final = (5, 77)
_ASK_S: Final = 2.0
_VERSION: Final = re.compile(rb"(\d+)\.(\d+)")


async def installed_version() -> tuple[int, int] | None:
    """The version of BlueZ on this machine, of its tool; None if that is not there."""
    try:
        process = await asyncio.create_subprocess_exec(
            "bluetoothctl", "--version", stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None
    try:
        async with asyncio.timeout(_ASK_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    found = _VERSION.search(said)
    return (int(found[1]), int(found[2])) if found else None


def serves_several(version: tuple[int, int] | None) -> bool:
    """True if a peripheral on this BlueZ can tell its centrals apart; one of unknown version cannot."""
    return version is not None and version >= _SEVERAL_SINCE


async def present_mtu(characteristic: BleakGATTCharacteristic) -> int:
    """The MTU of a connection as BlueZ has it now, not as it last told; 0 if it cannot be asked."""
    path = characteristic.obj[0] if isinstance(characteristic.obj, tuple) else ""
    if not str(path).startswith("/org/bluez/"):
        return 0
    bus = MessageBus(bus_type=BusType.SYSTEM)
    try:
        async with asyncio.timeout(_ASK_S):
            await bus.connect()
            reply = await bus.call(
                bluez.call(path, bluez.PROPERTIES, "Get", "ss", bluez.CHARACTERISTIC, "MTU")
            )
    except (AuthError, DBusError, OSError, EOFError, TimeoutError) as error:
        logger.debug("the MTU cannot be asked: %s", error)
        return 0
    finally:
        bus.disconnect()
    if reply.message_type is not MessageType.METHOD_RETURN:
        return 0
    return bluez.option({"MTU": reply.body[0]}, "MTU", int) or 0
