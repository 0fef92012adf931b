"""What runs beside us: D-Bus, bluetoothd, the emulated controllers; and bluetoothd's view of them."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from transports.ble import bluez

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable

BLUETOOTHD: Final = "/usr/libexec/bluetooth/bluetoothd"
SETTINGS: Final = Path("/etc/bluetooth/main.conf")
_RFKILL: Final = Path("/sys/class/rfkill")
_LOOK_S: Final = 0.1


class Services:
    """Starts and ends them; all are the children of this process."""

    def __init__(self) -> None:
        self._dbus: Process | None = None
        self._bluetoothd: Process | None = None
        self._btmon: Process | None = None
        self._controllers: Process | None = None

    async def start(self, *, trace: bool) -> None:
        """Start all, without controllers plugged in."""
        Path("/run/dbus").mkdir(parents=True, exist_ok=True)
        shutil.copy(SETTINGS, "/run/main.conf")
        self._dbus = await asyncio.create_subprocess_exec(
            "dbus-daemon", "--system", "--nofork", "--nopidfile", "--print-address",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._dbus.stdout is not None
        await self._dbus.stdout.readline()
        self._controllers = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-m", "tests.ble.qemu.guest.controllers",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        if trace:
            self._btmon = await asyncio.create_subprocess_exec("btmon", "--time")
        await self.start_bluetoothd()

    async def start_bluetoothd(self, *settings: str) -> None:
        """Start bluetoothd with Debian's settings and further lines of ``[GATT]``."""
        plain = await asyncio.to_thread(Path("/run/main.conf").read_text)
        changed = plain.replace("[GATT]\n", "\n".join(("[GATT]", *settings, "")))
        await asyncio.to_thread(SETTINGS.write_text, changed)
        self._bluetoothd = await asyncio.create_subprocess_exec(BLUETOOTHD, "--nodetach")

    async def end_bluetoothd(self) -> None:
        """End bluetoothd as the system does."""
        assert self._bluetoothd is not None
        self._bluetoothd.terminate()
        await self._bluetoothd.wait()

    async def controllers(self, *commands: str) -> None:
        """Tell the controllers something, and wait until it is done."""
        process = self._controllers
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        for command in commands:
            process.stdin.write(f"{command}\n".encode())
            if not await process.stdout.readline():
                raise AssertionError(f"the controllers ended at {command!r}")


async def said_by(*command: str) -> str:
    """What a program prints."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode().strip()


class Daemon:
    """bluetoothd as programs see it."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus

    @classmethod
    async def connect(cls) -> Daemon:
        """Connect to the bus."""
        return cls(await MessageBus(bus_type=BusType.SYSTEM).connect())

    async def objects(self) -> dict[str, dict[str, dict[str, Variant]]]:
        """All it has; nothing if it does not run."""
        reply = await self._call("/", bluez.OBJECT_MANAGER, "GetManagedObjects")
        return reply.body[0] if reply.message_type is MessageType.METHOD_RETURN else {}

    async def powered(self) -> dict[str, bool]:
        """The adapters, and whether they are on."""
        return {
            path.rpartition("/")[2]: interfaces[bluez.ADAPTER]["Powered"].value
            for path, interfaces in (await self.objects()).items()
            if bluez.ADAPTER in interfaces
        }

    async def wait_powered(self, expected: dict[str, bool]) -> None:
        """Wait until the adapters are these, on and off as given."""
        while await self.powered() != expected:
            await asyncio.sleep(_LOOK_S)

    async def power(self, adapter: str, *, on: bool) -> None:
        """Turn an adapter on or off."""
        arguments = (bluez.ADAPTER, "Powered", Variant("b", on))
        while True:
            reply = await self._call(f"/org/bluez/{adapter}", bluez.PROPERTIES, "Set", "ssv", *arguments)
            if reply.message_type is MessageType.METHOD_RETURN:
                return
            if not (reply.error_name or "").endswith("Busy"):
                raise AssertionError(f"{adapter} cannot be powered: {reply.error_name} {reply.body}")
            await asyncio.sleep(_LOOK_S)

    async def connected(self, adapter: str) -> list[str]:
        """The addresses of the devices that an adapter is connected to."""
        return [
            bluez.device_address(path)
            for path, interfaces in (await self.objects()).items()
            if path.startswith(f"/org/bluez/{adapter}/")
            and bluez.option(interfaces.get(bluez.DEVICE, {}), "Connected", bool)
        ]

    async def devices(self, adapter: str) -> dict[str, dict[str, Any]]:
        """What an adapter knows of devices, by their addresses."""
        return {
            bluez.device_address(path): {
                name: variant.value for name, variant in interfaces[bluez.DEVICE].items()
            }
            for path, interfaces in (await self.objects()).items()
            if path.startswith(f"/org/bluez/{adapter}/") and bluez.DEVICE in interfaces
        }

    async def characteristic(self, adapter: str, uuid: str) -> dict[str, Any]:
        """The properties of a device's characteristic, as a central sees them."""
        for path, interfaces in (await self.objects()).items():
            found = interfaces.get(bluez.CHARACTERISTIC, {})
            if path.startswith(f"/org/bluez/{adapter}/") and bluez.option(found, "UUID", str) == uuid:
                return {name: variant.value for name, variant in found.items()}
        return {}

    async def _call(self, path: str, interface: str, member: str, signature: str = "", *body: Any) -> Message:
        reply = await self._bus.call(bluez.call(path, interface, member, signature, *body))
        assert reply is not None
        return reply


def block(*, blocked: bool) -> None:
    """Block the radios as ``rfkill block bluetooth`` does, or no more."""
    for switch in _RFKILL.iterdir():
        if (switch / "type").read_text().strip() == "bluetooth":
            (switch / "soft").write_text(str(int(blocked)))


async def until(true: Callable[[], bool]) -> None:
    """Wait until something holds."""
    while not true():
        await asyncio.sleep(_LOOK_S)
