"""The peripheral: our GATT service and advertisement at BlueZ, over D-Bus.

Whoever ends bluetoothd, turns the adapter off or pulls it out ends the links; once it is back, the service
is registered again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any, Final

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, DBusError

from ockamlite.errors import UnavailableError
from transports.ble import bluez, gatt, unavailable
from transports.ble.bluez_link import BluezConnection
from transports.ble.bluez_quirks import installed_version, serves_several
from transports.ble.queued import GONE
from transports.ble.radio import AGAIN_S, SUBSCRIBE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from transports.ble.radio import Connection

logger = logging.getLogger(__name__)

_DEVICES: Final = 32
"""Devices served at a time; adapters take some seven."""
_CLOSE_S: Final = 1.0
_PROMISE_S: Final = 2.0
_GONE: Final = (DBusError, OSError, EOFError)
"""What dbus-fast raises when the bus goes."""


class Peripheral:
    """See :class:`transports.ble.radio.Serving`."""

    def __init__(
        self, bus: MessageBus, adapter: str, name: str, accept: Callable[[Connection], None]
    ) -> None:
        self._bus = bus
        self._adapter = adapter
        self._path = ""
        self._daemon: str | None = None
        """bluetoothd's name on the bus: nobody else may call us."""
        self._name = name
        self._several = False
        """True if BlueZ tells several centrals apart."""
        self._promised = ("", 0.0)
        """The device that was told that it will be served, and until when that holds."""
        self._accept: Callable[[Connection], None] | None = accept
        self._devices: dict[str, BluezConnection] = {}
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[Any]] = set()

    @classmethod
    async def start(cls, adapter: str, name: str, accept: Callable[[Connection], None]) -> Peripheral:
        """Register at BlueZ and advertise.

        Raises:
            UnavailableError: it cannot be; says what to do.
        """
        bus = MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
        try:
            await bus.connect()
            made = cls(bus, adapter, name, accept)
            bus.add_message_handler(made._received)
            for rule in (
                f"type='signal',sender='{bluez.BLUEZ}',interface='{bluez.PROPERTIES}',path_namespace='/org/bluez'",
                f"type='signal',sender='{bluez.BLUEZ}',interface='{bluez.OBJECT_MANAGER}'",
                f"type='signal',sender='{bluez.BUS}',member='NameOwnerChanged',arg0='{bluez.BLUEZ}'",
            ):
                await made._call(
                    Message(
                        bluez.BUS, "/org/freedesktop/DBus", bluez.BUS, "AddMatch", signature="s", body=[rule]
                    )
                )
            await made._register()
        except AuthError as error:
            bus.disconnect()
            raise unavailable.denied() from error
        except _GONE as error:
            bus.disconnect()
            raise unavailable.no_bus() from error
        except (UnavailableError, asyncio.CancelledError):
            bus.disconnect()
            raise
        made._task = asyncio.get_running_loop().create_task(made._keep(), name=f"advertise {name}")
        return made

    async def close(self) -> None:
        """Advertise no more; the service stays while devices are connected."""
        if self._accept is None:
            return
        self._accept = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        unregister = bluez.call(
            self._path, bluez.ADVERTISING, "UnregisterAdvertisement", "o", bluez.ADVERTISEMENT_PATH
        )
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._call(unregister)
        except (*_GONE, TimeoutError) as error:
            logger.debug("the advertisement was not taken back: %s", error)
        self._leave_if_unused()

    # -- registering ----------------------------------------------------------------------------

    async def _register(self) -> None:
        """Register the service and the advertisement at the adapter.

        Raises:
            UnavailableError: no adapter, or it refuses.
        """
        self._path = await self._find_adapter()
        self._several = serves_several(await installed_version())
        for interface, member, what in (
            (bluez.GATT_MANAGER, "RegisterApplication", bluez.APPLICATION),
            (bluez.ADVERTISING, "RegisterAdvertisement", bluez.ADVERTISEMENT_PATH),
        ):
            reply = await self._call(bluez.call(self._path, interface, member, "oa{sv}", what, {}))
            refused = reply.message_type is MessageType.ERROR
            if refused and not (reply.error_name or "").endswith("AlreadyExists"):
                raise bluez.registering_failed(reply, self._adapter)

    async def _find_adapter(self) -> str:
        reply = await self._call(bluez.call("/", bluez.OBJECT_MANAGER, "GetManagedObjects"))
        if reply.message_type is MessageType.ERROR:
            raise bluez.registering_failed(reply, self._adapter)
        off = False
        self._daemon = reply.sender
        found: dict[str, dict[str, Any]] = reply.body[0]
        for path in sorted(found):
            interfaces = found[path]
            if bluez.ADAPTER not in interfaces or self._adapter not in ("", path.rpartition("/")[2]):
                continue
            if not bluez.option(interfaces[bluez.ADAPTER], "Powered", bool):
                off = True
            elif bluez.ADVERTISING in interfaces and bluez.GATT_MANAGER in interfaces:
                return path
            else:
                raise UnavailableError("this adapter cannot be a peripheral", hint="another adapter")
        raise unavailable.powered_off() if off else unavailable.no_adapter(self._adapter)

    async def _keep(self) -> None:
        """Register again when bluetoothd or the adapter came back."""
        while True:
            await self._again.wait()
            for pause in (*AGAIN_S, *AGAIN_S[-1:] * 1000):
                self._again.clear()
                await asyncio.sleep(pause)
                try:
                    await self._register()
                except UnavailableError as error:
                    logger.info("not advertised as %s yet: %s", self._name, error)
                else:
                    logger.info("advertised as %s again", self._name)
                    break

    async def _call(self, message: Message) -> Message:
        reply = await self._bus.call(message)
        assert reply is not None  # noqa: S101  (we ask for an answer)
        return reply

    # -- what comes over the bus ----------------------------------------------------------------

    def _received(self, message: Message) -> bool | None:
        if message.message_type is MessageType.SIGNAL:
            if message.sender in (self._daemon, bluez.BUS):
                self._signalled(message)
            return None
        ours = (message.path or "").startswith(bluez.APPLICATION)
        if message.message_type is not MessageType.METHOD_CALL or not ours:
            return None
        reply, theirs = self._answer(message)
        sending = asyncio.ensure_future(self._send(reply, theirs))
        self._sends.add(sending)
        sending.add_done_callback(self._sends.discard)
        return True

    async def _send(self, reply: Message, theirs: socket.socket | None) -> None:
        """Send an answer; a socket in it may be closed once it has left."""
        try:
            await self._bus.send(reply)
        except _GONE as error:
            logger.debug("an answer to BlueZ was lost: %s", error)
        finally:
            if theirs is not None:
                theirs.close()

    def _answer(self, message: Message) -> tuple[Message, socket.socket | None]:
        path, body = message.path or "", message.body
        if message.sender != self._daemon:
            return Message.new_error(message, bluez.DENIED, "only bluetoothd may call"), None
        match (message.interface, message.member):
            case (bluez.OBJECT_MANAGER, "GetManagedObjects"):
                return Message.new_method_return(message, "a{oa{sa{sv}}}", [bluez.objects()]), None
            case (bluez.PROPERTIES, "GetAll"):
                found = bluez.properties(path, body[0], self._name)
                return Message.new_method_return(message, "a{sv}", [found]), None
            case (bluez.CHARACTERISTIC, "ReadValue") if path == bluez.INFO_PATH:
                info = gatt.encode_info(is_busy=not self._can_serve(body[0]))
                return Message.new_method_return(message, "ay", [info]), None
            case (bluez.CHARACTERISTIC, "WriteValue") if path == bluez.RX_PATH:
                device = self._device(body[1])
                if device is not None:
                    device.received(bytes(body[0]))
                    return Message.new_method_return(message), None
            case (bluez.CHARACTERISTIC, "AcquireWrite" | "AcquireNotify" as member):
                device = self._device(body[0])
                if device is not None:
                    mtu = bluez.option(body[0], "mtu", int) or 0
                    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                    theirs.setblocking(False)
                    ours.setblocking(False)
                    self._acquired(device, member, ours, mtu)
                    reply = Message.new_method_return(message, "hq", [0, mtu], [theirs.fileno()])
                    return reply, theirs
            case (bluez.CHARACTERISTIC, "StartNotify" | "StopNotify" | "Confirm") | (
                bluez.ADVERTISEMENT,
                "Release",
            ):
                if message.member == "Release":
                    self._again.set()
                return Message.new_method_return(message), None
            case _:
                return Message.new_error(message, bluez.UNKNOWN, "no such method"), None
        return Message.new_error(message, bluez.FAILED, "too many devices"), None

    def _can_serve(self, options: dict[str, Any]) -> bool:
        """True if the device that asks would be told apart from those that are served."""
        path = bluez.option(options, "device", str) or ""
        now = asyncio.get_running_loop().time()
        promised, until = self._promised
        others = {*self._devices, promised if now < until else path} - {path}
        if self._several or not others:
            self._promised = (path, now + _PROMISE_S)
            return True
        logger.info("%s is not served: another is, and this BlueZ can serve one", bluez.device_address(path))
        asyncio.get_running_loop().call_later(_PROMISE_S, self._turn_away, path)
        return False

    def _turn_away(self, path: str) -> None:
        """Disconnect who was not to stay, and did."""
        if path not in self._devices and self._bus.connected:
            leaving = asyncio.ensure_future(self._disconnect(path))
            self._sends.add(leaving)
            leaving.add_done_callback(self._sends.discard)

    def _device(self, options: dict[str, Any]) -> BluezConnection | None:
        """The connection of the device that a call is about; new if it is not known."""
        path = bluez.option(options, "device", str)
        if path is None:
            return None
        found = self._devices.get(path)
        if found is None and len(self._devices) < _DEVICES and self._accept is not None:
            found = self._devices[path] = BluezConnection(path, self._let_go)
            asyncio.get_running_loop().call_later(SUBSCRIBE_S, self._subscribes_late, found)
        return found

    def _subscribes_late(self, device: BluezConnection) -> None:
        """Nobody may keep one of the few connections that an adapter has by writing to nobody."""
        if self._devices.get(device.path) is device and not device.is_subscribed:
            logger.debug("%s did not subscribe within %g s", device.remote, SUBSCRIBE_S)
            device.abort()

    def _acquired(self, device: BluezConnection, member: str, ours: socket.socket, mtu: int) -> None:
        if member == "AcquireWrite":
            device.write_acquired(ours, mtu)
            return
        if device.is_subscribed:
            # The same central subscribed anew: what it had before is over.
            device.lost("the device subscribed again")
            device = self._devices[device.path] = BluezConnection(device.path, self._let_go)
        device.notify_acquired(ours, mtu)
        if self._accept is not None:
            self._accept(device)

    def _signalled(self, message: Message) -> None:
        body = message.body
        match message.member:
            case "PropertiesChanged" if message.path in self._devices and body[0] == bluez.DEVICE:
                if bluez.option(body[1], "Connected", bool) is False:
                    self._lose(message.path, GONE)
            case "PropertiesChanged" if message.path == self._path and body[0] == bluez.ADAPTER:
                powered = bluez.option(body[1], "Powered", bool)
                if powered is False:
                    self._lose("", "the Bluetooth adapter was turned off")
                elif powered:
                    self._again.set()
            case "InterfacesRemoved" if body[0] in self._devices and bluez.DEVICE in body[1]:
                self._lose(body[0], GONE)
            case "InterfacesRemoved" if body[0] == self._path and bluez.ADAPTER in body[1]:
                self._lose("", "the Bluetooth adapter was removed")
                self._again.set()
            case "NameOwnerChanged" if body[0] == bluez.BLUEZ:
                self._lose("", "bluetoothd ended")
                self._again.set()
            case _:
                pass

    def _lose(self, path: str, reason: str) -> None:
        """End the connection of one device, or of all."""
        for known, device in tuple(self._devices.items()):
            if path in ("", known):
                device.lost(reason)

    def _let_go(self, device: BluezConnection, disconnect: bool) -> None:
        """A connection is over."""
        if self._devices.get(device.path) is device:
            del self._devices[device.path]
            if disconnect:
                leaving = asyncio.ensure_future(self._disconnect(device.path))
                self._sends.add(leaving)
                leaving.add_done_callback(self._sends.discard)
        self._leave_if_unused()

    async def _disconnect(self, path: str) -> None:
        try:
            await self._bus.call(bluez.call(path, bluez.DEVICE, "Disconnect"))
        except _GONE as error:
            logger.debug("%s was not disconnected: %s", path, error)
        finally:
            self._sends.discard(asyncio.current_task())
            self._leave_if_unused()

    def _leave_if_unused(self) -> None:
        if self._accept is None and not self._devices and not self._sends and self._bus.connected:
            self._bus.disconnect()
