"""A backend for bleak, by its public interface, that drives a controller of our own with bumble.

What is above bleak does not know the difference: names, errors and MTU are told as on a system's adapter.
Unlike there a write without response waits until the controller has room. Nothing is paired here.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import bumble.att
import bumble.core
import bumble.device
import bumble.hci
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakError, BleakGATTProtocolError
from bleak.uuids import normalize_uuid_str

from transports.ble.hci_controller import FAILURES, room

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from bleak.args import SizedBuffer

    from transports.ble.hci import HciRadio

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MTU: Final = 517
_LEAST_MTU: Final = 23
_HEAD_BYTES: Final = 3
_CANCEL_S: Final = 1.0
_PROPERTIES: Final[tuple[Any, ...]] = (
    "broadcast",
    "read",
    "write-without-response",
    "write",
    "notify",
    "indicate",
    "authenticated-signed-writes",
    "extended-properties",
)
"""As bleak names them, in the order of their bits."""
_Data: Final = bumble.core.AdvertisingData
_UUID_LISTS: Final = (
    _Data.Type.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
    _Data.Type.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
    _Data.Type.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
    _Data.Type.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
)


def backends(holder: HciRadio) -> tuple[type[BaseBleakClient], type[BaseBleakScanner]]:
    """The classes that ``BleakClient`` and ``BleakScanner`` take as ``backend``, for one controller."""

    class Client(BumbleClient):
        radio = holder

    class Scanner(BumbleScanner):
        radio = holder

    return Client, Scanner


def _uuid(uuid: Any) -> str:
    return normalize_uuid_str(uuid.to_hex_str("-"))


def _told(error: BaseException) -> BleakError:
    """An error of bumble as bleak would tell it."""
    if isinstance(error, bumble.att.ATT_Error):
        return BleakGATTProtocolError(error.error_code)
    return BleakError(str(error) or type(error).__name__)


class BumbleScanner(BaseBleakScanner):
    """Listens with a controller of our own."""

    radio: ClassVar[HciRadio]

    def __init__(
        self, detection_callback: Any, service_uuids: list[str] | None, scanning_mode: str, **_: Any
    ) -> None:
        super().__init__(detection_callback, service_uuids)

    async def start(self) -> None:
        """Listen."""
        self.seen_devices = {}
        try:
            await self.radio.listen(self._heard)
        except FAILURES as error:
            raise BleakError(f"the controller does not scan: {error}") from error

    async def stop(self) -> None:
        """Listen no more."""
        await self.radio.listen_no_more(self._heard)

    def _heard(self, found: Any) -> None:
        data = found.data
        services = [_uuid(uuid) for kind in _UUID_LISTS for uuid in data.get(kind) or ()]
        if not self.is_allowed_uuid(services):
            return
        name = data.get(_Data.Type.COMPLETE_LOCAL_NAME) or data.get(_Data.Type.SHORTENED_LOCAL_NAME)
        told = AdvertisementData(name and str(name), {}, {}, services, None, found.rssi, (found,))
        address = found.address.to_string(False)
        details = {"address": found.address}
        self.call_detection_callbacks(
            self.create_or_update_device(address, address, told.local_name, details, told), told
        )


class BumbleClient(BaseBleakClient):
    """A connection of a controller of our own, as the central."""

    radio: ClassVar[HciRadio]

    def __init__(
        self, address_or_ble_device: BLEDevice | str, *, services: set[str] | None = None, **more: Any
    ) -> None:
        super().__init__(address_or_ble_device, **more)
        if isinstance(address_or_ble_device, BLEDevice):
            self._name = address_or_ble_device.name or self.address
            self._target = address_or_ble_device.details["address"]
        else:
            self._name = self.address
            self._target = bumble.hci.Address(self.address)
        self._wanted = services
        self._device: Any = None
        self._link: Any = None
        self._mtu = _LEAST_MTU

    @property
    def name(self) -> str:
        """The device's name, or its address."""
        return self._name

    @property
    def mtu_size(self) -> int:
        """The ATT MTU."""
        return self._mtu

    @property
    def is_connected(self) -> bool:
        """True while connected."""
        return self._link is not None

    # -- connecting -------------------------------------------------------------------------------

    async def connect(self, pair: bool, **_: Any) -> None:
        """Connect, agree on the MTU, and find the services."""
        if self._device is not None:
            raise BleakError("connected already")
        if pair:
            raise BleakError("nothing is paired over a controller of our own")
        self._device = device = await self.radio.hold()
        try:
            self._link = await self._open(device)
        except BaseException:
            self._device = None
            self.radio.drop(device)
            raise
        self._link.once("disconnection", self._ended)
        try:
            await self._ask(self._discover(bumble.device.Peer(self._link)))
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """Disconnect, if connected."""
        link = self._link
        if link is None:
            return
        try:
            await link.disconnect()
        except FAILURES as error:
            raise _told(error) from error
        finally:
            self._ended()

    async def pair(self, *_: Any, **__: Any) -> None:
        """Not here."""
        raise BleakError("nothing is paired over a controller of our own")

    async def unpair(self) -> None:
        """Not here."""
        raise BleakError("nothing is paired over a controller of our own")

    async def _open(self, device: Any) -> Any:
        try:
            link = await device.connect(self._target, timeout=self._timeout)
        except bumble.core.TimeoutError as error:
            raise TimeoutError from error
        except FAILURES as error:
            raise _told(error) from error
        except asyncio.CancelledError:
            await self._give_up(device)
            raise
        if link.role != bumble.hci.Role.CENTRAL:
            # bumble hands out the first connection that comes, whoever made it.
            await self._give_up(device)
            raise BleakError("another device connected to this one first")
        return link

    async def _give_up(self, device: Any) -> None:
        """Let the controller connect no more; bumble forgets to tell it."""
        try:
            async with asyncio.timeout(_CANCEL_S):
                await device.send_sync_command(bumble.hci.HCI_LE_Create_Connection_Cancel_Command())
        except FAILURES as error:
            logger.debug("the attempt was over already: %s", error)

    def _ended(self, *_: object) -> None:
        if self._link is None:
            return
        device, self._device = self._device, None
        self._link = None
        self.services = None
        self._mtu = _LEAST_MTU
        self.radio.drop(device)
        if self._disconnected_callback is not None:
            self._disconnected_callback()

    async def _discover(self, peer: Any) -> None:
        try:
            self._mtu = await peer.request_mtu(_MTU)
        except bumble.att.ATT_Error as error:
            logger.debug("%s stays with the smallest MTU: %s", self.address, error)
        found = BleakGATTServiceCollection()
        await peer.discover_services()
        for theirs in peer.services:
            service = BleakGATTService(theirs, theirs.handle, _uuid(theirs.uuid))
            if self._wanted is not None and service.uuid not in self._wanted:
                continue
            found.add_service(service)
            for each in await theirs.discover_characteristics():
                properties = [name for bit, name in enumerate(_PROPERTIES) if each.properties >> bit & 1]
                characteristic = BleakGATTCharacteristic(
                    each, each.handle - 1, _uuid(each.uuid), properties, self._longest, service
                )
                found.add_characteristic(characteristic)
                for inner in await each.discover_descriptors():
                    found.add_descriptor(
                        BleakGATTDescriptor(inner, inner.handle, _uuid(inner.type), characteristic)
                    )
        self.services = found

    def _longest(self) -> int:
        return self._mtu - _HEAD_BYTES

    # -- values -----------------------------------------------------------------------------------

    async def read_gatt_char(
        self, characteristic: BleakGATTCharacteristic, *, use_cached: bool = False, **_: Any
    ) -> bytearray:
        """Read; nothing is cached."""
        return bytearray(await self._ask(characteristic.obj.read_value()))

    async def read_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, *, use_cached: bool = False, **_: Any
    ) -> bytearray:
        """Read; nothing is cached."""
        return bytearray(await self._ask(descriptor.obj.read_value()))

    async def write_gatt_char(
        self, characteristic: BleakGATTCharacteristic, data: SizedBuffer, response: bool
    ) -> None:
        """Write; without response as well it waits until the controller takes more."""
        value = bytes(data)
        if response:
            await self._ask(characteristic.obj.write_value(value, with_response=True))
            return
        link = self._link
        if link is None:
            raise BleakError("not connected")
        if len(value) > self._longest():
            raise BleakError(f"a value of {len(value)} bytes, {self._longest()} may be written")
        try:
            await characteristic.obj.write_value(value, with_response=False)
        except FAILURES as error:
            raise _told(error) from error
        await room(link)

    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: SizedBuffer) -> None:
        """Write."""
        await self._ask(descriptor.obj.write_value(bytes(data), with_response=True))

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: Callable[[bytearray], None], **_: Any
    ) -> None:
        """Subscribe, to notifications rather than indications."""
        await self._ask(
            characteristic.obj.subscribe(
                lambda value: callback(bytearray(value)), prefer_notify="notify" in characteristic.properties
            )
        )

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        """Unsubscribe."""
        await self._ask(characteristic.obj.unsubscribe())

    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Wait for an answer; that the device goes is an error, and not a cancelled task as in bumble."""
        if self._link is None:
            question.close()
            raise BleakError("not connected")
        asking = asyncio.ensure_future(question)
        try:
            await asyncio.wait((asking,))
        except asyncio.CancelledError:
            asking.cancel()
            raise
        if asking.cancelled():
            raise BleakError("the device disconnected")
        try:
            return asking.result()
        except FAILURES as error:
            raise _told(error) from error
        except (ValueError, LookupError, struct.error) as error:
            raise BleakError(f"the device's answer has no sense: {error}") from error
