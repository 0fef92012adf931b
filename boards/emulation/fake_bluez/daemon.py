"""bluetoothd, faked: its objects and methods on a D-Bus, its adapters radios on an emulated air.

Programs that use the real one, bleak's stock backend and our peripheral, find nothing different here,
except what its switches make go wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from boards.emulation.fake_bluez.connection import CentralSide, PeripheralSide, after
from ockamlite.errors import OckamError
from transports.ble import bluez
from transports.ble.gatt import LEAST_VALUE_BYTES, Advertisement

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from boards.emulation.air import Air, AirRadio, AirServing
    from boards.emulation.air_link import AirEnd

logger = logging.getLogger(__name__)

_EARLY_S: Final = 0.3
"""How long services that count as found too early stay away."""
_ABORTED_S: Final = 0.05
_RULES: Final = ("type='signal',member='NameOwnerChanged'",)


class _RefusedError(Exception):
    """A D-Bus error as an answer."""

    def __init__(self, name: str, text: str = "") -> None:
        super().__init__(text or name)
        self.name = name if name.startswith("org.") else f"org.bluez.Error.{name}"


@dataclass(slots=True)
class Faults:
    """What goes wrong."""

    connects: deque[str] = field(default_factory=deque)
    """What the next calls to connect end with: ``aborted``, ``busy``, or any other text."""
    busy_writes: int = 0
    """How many writes are answered by InProgress."""
    early_services: int = 0
    """How many times services count as found before they are there."""
    quiet_mtu: bool = False
    """Programs are not told the MTU, only answered, as about a device that BlueZ remembers."""
    stale_services: bool = False
    """A device that was connected lists none of its services, whatever it advertises, until it is forgotten:
    so BlueZ has it if the device ended its service first."""
    kept_sockets: bool = False
    """Of a central that has left, the peripheral is told, but its sockets stay open and the device known."""
    no_advertising: bool = False
    """Advertisements are refused as too many."""


@dataclass(slots=True)
class Application:
    """What a peripheral registered."""

    sender: str
    adapter: str
    objects: dict[str, dict[str, dict[str, Variant]]]

    def characteristics(self) -> list[tuple[str, list[str]]]:
        """Paths of the characteristics with their flags."""
        return [
            (path, interfaces[bluez.CHARACTERISTIC]["Flags"].value)
            for path, interfaces in sorted(self.objects.items())
            if bluez.CHARACTERISTIC in interfaces
        ]


@dataclass(slots=True)
class Adapter:
    """An adapter: its radio, who scans with it, what it advertises."""

    path: str
    radio: AirRadio
    scans: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    advertised: tuple[str, str, AirServing] | None = None
    """Who advertises, the path of the advertisement, and what the radio does for it."""


class FakeBluez:
    """The daemon; use it as ``async with``.

    Args:
        air: where its adapters are.
        address: of the bus on which it owns ``org.bluez``.
        adapters: how many it has.
    """

    def __init__(self, air: Air, address: str, *, adapters: int = 2) -> None:
        self.air = air
        self.faults = Faults()
        self.adapters = {
            f"/org/bluez/hci{n}": Adapter(f"/org/bluez/hci{n}", air.radio()) for n in range(adapters)
        }
        self.lost_values = 0
        """Values lost because a program did not read."""
        self.kept: list[socket.socket] = []
        """Sockets of centrals that have left."""
        self.stale: set[str] = set()
        """Paths of devices whose advertised services are not taken."""
        self.central_sides: dict[str, CentralSide] = {}
        self.peripheral_sides: dict[str, PeripheralSide] = {}
        self._address = address
        self._bus: MessageBus | None = None
        self._objects: dict[str, dict[str, dict[str, Variant]]] = {}
        self._applications: list[Application] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> FakeBluez:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it."""
        await self.stop()

    # -- switches -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Come up with all adapters."""
        bus = self._bus = MessageBus(
            bus_address=self._address, bus_type=BusType.SYSTEM, negotiate_unix_fd=True
        )
        await bus.connect()
        bus.add_message_handler(self._received)
        for rule in _RULES:
            await bus.call(
                Message(bluez.BUS, "/org/freedesktop/DBus", bluez.BUS, "AddMatch", signature="s", body=[rule])
            )
        for path in self.adapters:
            self._show_adapter(path)
        await bus.request_name(bluez.BLUEZ)

    async def stop(self) -> None:
        """Go down with everything, as a daemon that is killed does."""
        for path in self.adapters:
            self._clear_adapter(path)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)
        for kept in self.kept:
            kept.close()
        self.kept.clear()
        self._objects.clear()
        self._applications.clear()
        if self._bus is not None:
            self._bus.disconnect()
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
            self._bus = None

    def power(self, adapter: str, *, on: bool) -> None:
        """Turn an adapter, ``hci0``, on or off."""
        path = f"/org/bluez/{adapter}"
        if not on:
            self._clear_adapter(path)
        self.change(path, bluez.ADAPTER, Powered=Variant("b", on))

    def pull(self, adapter: str) -> None:
        """Pull an adapter out."""
        path = f"/org/bluez/{adapter}"
        self._clear_adapter(path)
        self.remove(path)

    def plug(self, adapter: str) -> None:
        """Plug it back in."""
        self._show_adapter(f"/org/bluez/{adapter}")

    # -- objects --------------------------------------------------------------------------------

    def device_path(self, adapter: str, address: str) -> str:
        """Where a device is shown."""
        return f"{adapter}/dev_{address.replace(':', '_')}"

    def mtu_of(self, end: AirEnd) -> int:
        """The ATT MTU of a connection as the system tells it."""
        return self.air.model.mtu if end.value_bytes > LEAST_VALUE_BYTES else LEAST_VALUE_BYTES + 3

    def add(self, path: str, interfaces: dict[str, dict[str, Variant]]) -> None:
        """Show an object."""
        self._objects[path] = interfaces
        self._signal("/", bluez.OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", path, interfaces)

    def remove(self, path: str) -> None:
        """Take an object away, and those below it; only these if it ends in a slash."""
        below = path.rstrip("/") + "/"
        for known in sorted((p for p in self._objects if p == path or p.startswith(below)), reverse=True):
            gone = list(self._objects.pop(known))
            self._signal("/", bluez.OBJECT_MANAGER, "InterfacesRemoved", "oas", known, gone)

    def change(self, path: str, interface: str, **properties: Variant) -> None:
        """Change properties of an object, if it is there."""
        if path in self._objects:
            self.change_quietly(path, interface, **properties)
            self._signal(path, bluez.PROPERTIES, "PropertiesChanged", "sa{sv}as", interface, properties, [])

    def change_quietly(self, path: str, interface: str, **properties: Variant) -> None:
        """Change properties of an object and tell nobody who does not ask."""
        self._objects[path][interface] = self._objects[path][interface] | properties

    async def ask(
        self, sender: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> Message:
        """Call a method of a program."""
        assert self._bus is not None  # noqa: S101  (it is up)
        reply = await self._bus.call(
            Message(sender, path, interface, member, signature=signature, body=list(body))
        )
        assert reply is not None  # noqa: S101  (asked for)
        if reply.message_type is MessageType.ERROR:
            raise _RefusedError("Failed", f"{reply.error_name}: {reply.body}")
        return reply

    def _signal(self, path: str, interface: str, member: str, signature: str, *body: Any) -> None:
        if self._bus is not None and self._bus.connected:
            self._later(
                self._bus.send(
                    Message(
                        path=path, interface=interface, member=member, signature=signature,
                        body=list(body), message_type=MessageType.SIGNAL,
                    )
                )
            )  # fmt: skip

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.debug("the fake bluetoothd: %r", task.exception())

    def _show_adapter(self, path: str) -> None:
        self.add(
            path,
            {
                bluez.ADAPTER: {
                    "Address": Variant("s", self.adapters[path].radio.address),
                    "Name": Variant("s", "fake"),
                    "Alias": Variant("s", "fake"),
                    "Powered": Variant("b", True),
                    "Discovering": Variant("b", False),
                    "UUIDs": Variant("as", []),
                    "Roles": Variant("as", ["central", "peripheral"]),
                },
                bluez.GATT_MANAGER: {},
                bluez.ADVERTISING: {"ActiveInstances": Variant("y", 0)},
            },
        )

    def _clear_adapter(self, path: str) -> None:
        """End all that an adapter does."""
        adapter = self.adapters[path]
        for scan in adapter.scans.values():
            scan.cancel()
        adapter.scans.clear()
        if adapter.advertised is not None:
            adapter.radio.stop_serving()
            adapter.advertised = None
        self._applications = [known for known in self._applications if known.adapter != path]
        for link in tuple(adapter.radio.links):
            link.drop("the adapter is gone")

    # -- calls ----------------------------------------------------------------------------------

    def _received(self, message: Message) -> bool | None:
        if message.message_type is MessageType.SIGNAL:
            if message.member == "NameOwnerChanged" and not message.body[2]:
                self._left(message.body[0])
            return None
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        self._later(self._answer(message))
        return True

    async def _answer(self, message: Message) -> None:
        theirs: socket.socket | None = None
        try:
            signature, body, theirs = await self._dispatch(message)
            handles = [theirs.fileno()] if theirs is not None else []
            reply = Message.new_method_return(message, signature, body, handles)
        except _RefusedError as error:
            reply = Message.new_error(message, error.name, str(error))
        if self._bus is not None:
            await self._bus.send(reply)
        if theirs is not None:
            theirs.close()

    async def _dispatch(self, message: Message) -> tuple[str, list[Any], socket.socket | None]:
        path, body, sender = message.path or "", message.body, message.sender or ""
        if message.interface == bluez.OBJECT_MANAGER:
            return "a{oa{sa{sv}}}", [self._objects], None
        if path not in self._objects:
            raise _RefusedError("org.freedesktop.DBus.Error.UnknownObject", path)
        match (message.interface, message.member):
            case (bluez.PROPERTIES, "GetAll"):
                return "a{sv}", [self._objects[path].get(body[0], {})], None
            case (bluez.PROPERTIES, "Get"):
                return "v", [self._objects[path][body[0]][body[1]]], None
            case (bluez.PROPERTIES, "Set"):
                self.change(path, body[0], **{body[1]: body[2]})
            case (bluez.ADAPTER, member):
                self._adapter_called(member or "", self.adapters[path], sender, body)
            case (bluez.GATT_MANAGER, "RegisterApplication"):
                reply = await self.ask(sender, body[0], bluez.OBJECT_MANAGER, "GetManagedObjects")
                self._applications.append(Application(sender, path, reply.body[0]))
            case (bluez.ADVERTISING, "RegisterAdvertisement"):
                await self._advertise(self.adapters[path], sender, body[0])
            case (bluez.ADVERTISING, "UnregisterAdvertisement"):
                self._advertise_no_more(self.adapters[path], sender)
            case (bluez.DEVICE, "Connect"):
                await self._connect(path)
            case (bluez.DEVICE, "Disconnect"):
                self._disconnect(path)
            case (bluez.CHARACTERISTIC, member):
                return await self._characteristic_called(member or "", path, sender, body)
            case _:
                raise _RefusedError(bluez.UNKNOWN)
        return "", [], None

    def _adapter_called(self, member: str, adapter: Adapter, sender: str, body: list[Any]) -> None:
        powered = self._objects[adapter.path][bluez.ADAPTER]["Powered"].value
        match member:
            case "SetDiscoveryFilter":
                pass
            case "StartDiscovery" if not powered:
                raise _RefusedError("NotReady", "Resource Not Ready")
            case "StartDiscovery" if sender not in adapter.scans:
                scan = asyncio.ensure_future(adapter.radio.scan(self._hearer(adapter.path)))
                adapter.scans[sender] = scan
                self.change(adapter.path, bluez.ADAPTER, Discovering=Variant("b", True))
            case "StopDiscovery":
                scan_or_none = adapter.scans.pop(sender, None)
                if scan_or_none is None:
                    raise _RefusedError("Failed", "No discovery started")
                scan_or_none.cancel()
                self.change(adapter.path, bluez.ADAPTER, Discovering=Variant("b", bool(adapter.scans)))
            case "RemoveDevice":
                self._disconnect(body[0])
                self.stale.discard(body[0])
                self.remove(body[0])
            case _:
                raise _RefusedError("InProgress")

    def _hearer(self, adapter: str) -> Callable[[Advertisement], bool]:
        def heard(device: Advertisement) -> bool:
            path = self.device_path(adapter, device.address)
            told = {
                "Name": Variant("s", device.name),
                "Alias": Variant("s", device.name),
                "UUIDs": Variant("as", list(device.services)),
                "RSSI": Variant("n", device.rssi),
            }
            if path in self.stale:
                del told["UUIDs"]
            if path in self._objects:
                self.change(path, bluez.DEVICE, **told)
            else:
                self.add(path, self._device(adapter, device.address, told))
            return False

        return heard

    def _device(self, adapter: str, address: str, told: dict[str, Variant]) -> dict[str, dict[str, Variant]]:
        flags = ("Paired", "Bonded", "Trusted", "Blocked", "Connected", "ServicesResolved")
        return {
            bluez.DEVICE: {
                "Address": Variant("s", address),
                "AddressType": Variant("s", "public"),
                "Adapter": Variant("o", adapter),
                "Alias": Variant("s", address),
                **{flag: Variant("b", False) for flag in flags},
                **told,
            }
        }

    async def _advertise(self, adapter: Adapter, sender: str, path: str) -> None:
        if adapter.advertised is not None and adapter.advertised[:2] == (sender, path):
            raise _RefusedError("AlreadyExists")
        if self.faults.no_advertising or adapter.advertised is not None:
            raise _RefusedError("NotPermitted", "Maximum advertisements reached")
        reply = await self.ask(sender, path, bluez.PROPERTIES, "GetAll", "s", bluez.ADVERTISEMENT)
        serving = await adapter.radio.serve(
            reply.body[0]["LocalName"].value, lambda end: self._central_came(adapter.path, end)
        )
        adapter.advertised = (sender, path, serving)

    def _advertise_no_more(self, adapter: Adapter, sender: str) -> None:
        if adapter.advertised is None or adapter.advertised[0] != sender:
            raise _RefusedError("DoesNotExist")
        adapter.radio.stop_serving()
        adapter.advertised = None

    def _central_came(self, adapter: str, end: Any) -> None:
        application = next((known for known in self._applications if known.adapter == adapter), None)
        if application is None:
            end.abort()
            return
        path = self.device_path(adapter, end.peer)
        self.add(path, self._device(adapter, end.peer, {"Connected": Variant("b", True)}))
        self.peripheral_sides[path] = PeripheralSide(self, adapter, end, application)

    async def _connect(self, path: str) -> None:
        props = self._objects[path][bluez.DEVICE]
        adapter = self.adapters[props["Adapter"].value]
        if self.faults.connects:
            fault = self.faults.connects.popleft()
            if fault == "aborted":
                # The connection is there for a moment; bleak waits for it to end.
                self.change(path, bluez.DEVICE, Connected=Variant("b", True))
                after(_ABORTED_S, lambda: self.change(path, bluez.DEVICE, Connected=Variant("b", False)))
                raise _RefusedError("Failed", "le-connection-abort-by-local")
            raise _RefusedError("InProgress" if fault == "busy" else "Failed", fault)
        try:
            end: Any = await adapter.radio.connect(Advertisement(props["Address"].value, "", (), 0))
        except OckamError as error:
            raise _RefusedError("Failed", str(error)) from error
        their_adapter = next(
            known.path for known in self.adapters.values() if known.radio.address == end.peer
        )
        other = self.peripheral_sides.get(self.device_path(their_adapter, end.address))
        if other is None:
            raise _RefusedError("Failed", "the device has no services")
        side = self.central_sides[path] = CentralSide(self, adapter.path, end, other)
        self.change(path, bluez.DEVICE, Connected=Variant("b", True))
        if self.faults.early_services:
            self.faults.early_services -= 1
            after(_EARLY_S, side.show_services)
        else:
            side.show_services()
        self.change(path, bluez.DEVICE, ServicesResolved=Variant("b", True))

    def _disconnect(self, path: str) -> None:
        side = self.central_sides.get(path) or self.peripheral_sides.get(path)
        if side is not None:
            side.end.abort()

    async def _characteristic_called(
        self, member: str, path: str, sender: str, body: list[Any]
    ) -> tuple[str, list[Any], socket.socket | None]:
        side = next((side for side in self.central_sides.values() if path in side.characteristics), None)
        if side is None:
            raise _RefusedError("Failed", "Not connected")
        match member:
            case "ReadValue":
                return "ay", [await side.other.read(side.characteristics[path])], None
            case "WriteValue" if self.faults.busy_writes:
                self.faults.busy_writes -= 1
                raise _RefusedError("InProgress", "In Progress")
            case "WriteValue":
                side.end.write_frame(bytes(body[0]))
            case "StartNotify":
                await side.subscribe(sender)
            case "AcquireNotify":
                return "hq", [0, self.mtu_of(side.end)], await side.acquire(sender)
            case "StopNotify":
                side.unsubscribe(sender)
            case _:
                raise _RefusedError(bluez.UNKNOWN)
        return "", [], None

    def _left(self, sender: str) -> None:
        """A program has left the bus; connections it made stay, as they do with the real one."""
        for adapter in self.adapters.values():
            scan = adapter.scans.pop(sender, None)
            if scan is not None:
                scan.cancel()
            if adapter.advertised is not None and adapter.advertised[0] == sender:
                self._advertise_no_more(adapter, sender)
        for side in tuple(self.central_sides.values()):
            side.unsubscribe(sender)
        for known in tuple(self._applications):
            if known.sender == sender:
                self._applications.remove(known)
                for served in tuple(self.peripheral_sides.values()):
                    if served.application is known:
                        served.end.abort()
