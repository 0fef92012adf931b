"""A connection between two adapters of the fake bluetoothd: values between applications and the air."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final

from dbus_fast import Variant

from transports.ble import bluez
from transports.ble.gatt import LEAST_VALUE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from boards.emulation.air_link import AirEnd
    from boards.emulation.fake_bluez.daemon import Application, FakeBluez
    from ockamlite.errors import OckamError

_READ_BYTES: Final = 1024
_FIRST_HANDLE: Final = 16


class PeripheralSide:
    """The peripheral's bluetoothd: hands values to the application, and takes its notifications."""

    def __init__(self, daemon: FakeBluez, adapter: str, end: AirEnd, application: Application) -> None:
        self.end = end
        self.application = application
        self.path = daemon.device_path(adapter, end.peer)
        self._daemon = daemon
        self._loop = asyncio.get_running_loop()
        self._values: asyncio.Queue[bytes] = asyncio.Queue()
        self._writes: socket.socket | None = None
        self._notify: socket.socket | None = None
        self._task = self._loop.create_task(self._hand_on())
        end.start(self)

    def value_received(self, value: bytes) -> None:
        """A write came."""
        self._values.put_nowait(value)

    def room_changed(self) -> None:
        """The daemon's queue has no bound."""

    def connection_lost(self, error: OckamError | None) -> None:
        """The device is gone."""
        self._task.cancel()
        keeps = self._daemon.faults.kept_sockets
        for ours in (self._writes, self._notify):
            if ours is not None:
                self._loop.remove_reader(ours)
                if keeps:
                    self._daemon.kept.append(ours)
                else:
                    ours.close()
        self._writes = self._notify = None
        self._daemon.change(self.path, bluez.DEVICE, Connected=Variant("b", False))
        if not keeps:
            self._daemon.remove(self.path)
        self._daemon.peripheral_sides.pop(self.path, None)

    async def subscribe(self) -> None:
        """The central subscribed."""
        if self._notify is None:
            reply = await self.ask("AcquireNotify", self._characteristic("notify"), "a{sv}", self._options())
            self._notify = ours = socket.socket(fileno=reply.unix_fds[0])
            ours.setblocking(False)
            self._loop.add_reader(ours, self._notified)

    def unsubscribe(self) -> None:
        """The central, or the process that was it, unsubscribed."""
        ours, self._notify = self._notify, None
        if ours is not None:
            self._loop.remove_reader(ours)
            ours.close()

    async def read(self, path: str) -> bytes:
        """Read a characteristic of the application."""
        reply = await self.ask("ReadValue", path, "a{sv}", self._options())
        return bytes(reply.body[0])

    async def ask(self, member: str, path: str, signature: str, *body: Any) -> Any:
        """Call the application."""
        return await self._daemon.ask(
            self.application.sender, path, bluez.CHARACTERISTIC, member, signature, *body
        )

    def _options(self) -> dict[str, Variant]:
        return {
            "device": Variant("o", self.path),
            "mtu": Variant("q", self._daemon.mtu_of(self.end)),
            "link": Variant("s", "LE"),
        }

    def _characteristic(self, flag: str) -> str:
        return next(path for path, flags in self.application.characteristics() if flag in flags)

    async def _hand_on(self) -> None:
        while True:
            value = await self._values.get()
            if self._writes is None:
                path = self._characteristic("write-without-response")
                reply = await self.ask("AcquireWrite", path, "a{sv}", self._options())
                self._writes = socket.socket(fileno=reply.unix_fds[0])
                self._writes.setblocking(False)
            try:
                self._writes.send(value)
            except BlockingIOError:
                self._daemon.lost_values += 1  # as bluetoothd does: it says so in its log at most
            except OSError:
                self._writes.close()
                self._writes = None

    def _notified(self) -> None:
        assert self._notify is not None  # noqa: S101  (it is its reader)
        try:
            value = self._notify.recv(_READ_BYTES)
        except OSError:
            value = b""
        if value:
            self.end.write_frame(value)
        else:
            self.unsubscribe()


class CentralSide:
    """The central's bluetoothd: the device's GATT tree, and what comes of it."""

    def __init__(self, daemon: FakeBluez, adapter: str, end: AirEnd, other: PeripheralSide) -> None:
        self.path = daemon.device_path(adapter, end.peer)
        self.end = end
        self.other = other
        self.characteristics: dict[str, str] = {}
        """Paths here, with the path in the application."""
        self.subscribers: set[str] = set()
        self._daemon = daemon
        self._acquired: socket.socket | None = None
        self._tx = ""
        self._mtu = daemon.mtu_of(end)
        end.start(self)

    def show_services(self) -> None:
        """Put the application's tree up as objects."""
        handle = _FIRST_HANDLE
        shown: dict[str, str] = {}
        quiet = self._daemon.faults.quiet_mtu
        for path, interfaces in sorted(self.other.application.objects.items()):
            for interface, props in interfaces.items():
                handle += 1
                if interface == bluez.SERVICE:
                    shown[path] = f"{self.path}/service{handle:04x}"
                    more = {"Primary": Variant("b", True), "Device": Variant("o", self.path)}
                elif interface == bluez.CHARACTERISTIC:
                    parent = shown[props["Service"].value]
                    shown[path] = f"{parent}/char{handle:04x}"
                    self.characteristics[shown[path]] = path
                    more = {
                        "Service": Variant("o", parent),
                        "Flags": props["Flags"],
                        "Value": Variant("ay", b""),
                        "MTU": Variant("q", LEAST_VALUE_BYTES + 3 if quiet else self._mtu),
                    }
                    if "notify" in props["Flags"].value:
                        self._tx = shown[path]
                        more |= {"Notifying": Variant("b", False), "NotifyAcquired": Variant("b", False)}
                else:
                    continue
                self._daemon.add(shown[path], {interface: {"UUID": props["UUID"], **more}})
        if quiet:
            self._tell_mtu()

    def value_received(self, value: bytes) -> None:
        """A notification came."""
        if self._acquired is not None:
            try:
                self._acquired.send(value)
            except OSError:
                self._daemon.lost_values += 1
        elif self.subscribers:
            self._daemon.change(self._tx, bluez.CHARACTERISTIC, Value=Variant("ay", value))

    def room_changed(self) -> None:
        """The MTU may have grown."""
        mtu = self._daemon.mtu_of(self.end)
        if mtu != self._mtu:
            self._mtu = mtu
            self._tell_mtu()

    def _tell_mtu(self) -> None:
        daemon = self._daemon
        change = daemon.change_quietly if daemon.faults.quiet_mtu else daemon.change
        for path in self.characteristics:
            change(path, bluez.CHARACTERISTIC, MTU=Variant("q", self._mtu))

    def connection_lost(self, error: OckamError | None) -> None:
        """The device is gone."""
        if self._acquired is not None:
            self._acquired.close()
            self._acquired = None
        self._daemon.change(
            self.path, bluez.DEVICE, ServicesResolved=Variant("b", False), Connected=Variant("b", False)
        )
        if self._daemon.faults.stale_services:
            self._daemon.stale.add(self.path)
            self._daemon.change(self.path, bluez.DEVICE, UUIDs=Variant("as", []))
        self._daemon.remove(f"{self.path}/")
        self._daemon.central_sides.pop(self.path, None)

    async def acquire(self, sender: str) -> socket.socket:
        """Give notifications to a socket; returns the end for the program."""
        self._acquired, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._acquired.setblocking(False)
        await self.subscribe(sender)
        return theirs

    async def subscribe(self, sender: str) -> None:
        """A program subscribed."""
        self.subscribers.add(sender)
        await self.other.subscribe()
        self._daemon.change(self._tx, bluez.CHARACTERISTIC, Notifying=Variant("b", True))

    def unsubscribe(self, sender: str) -> None:
        """A program unsubscribed, or ended."""
        if sender in self.subscribers:
            self.subscribers.discard(sender)
            if not self.subscribers:
                self.other.unsubscribe()


def after(seconds: float, action: Callable[[], None]) -> None:
    """Do something later."""
    asyncio.get_running_loop().call_later(seconds, action)
