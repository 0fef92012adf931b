"""The central: devices found and connected to with bleak, by its public interface alone.

What bleak and the system under it have queued cannot be seen, so one value is written at a time and few
wait here; what limits the rest is the window of the reliable link.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final

from bleak import BleakClient, BleakScanner
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakDeviceNotFoundError,
    BleakError,
)
from dbus_fast.errors import AuthError, DBusError

from ockamlite.errors import OckamError, UnavailableError
from transports.ble import unavailable
from transports.ble.bluez import is_not_running
from transports.ble.bluez_quirks import present_mtu
from transports.ble.gatt import (
    ATT_HEAD_BYTES,
    INFO,
    LEAST_VALUE_BYTES,
    RX,
    SERVICE,
    TX,
    Advertisement,
    check_info,
    value_bytes,
)
from transports.ble.queued import GONE, QueuedConnection
from transports.ble.radio import ConnectFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bleak.backends.characteristic import BleakGATTCharacteristic
    from bleak.backends.client import BaseBleakClient
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData, BaseBleakScanner

logger = logging.getLogger(__name__)

_CONNECT_S: Final = 15.0
_DISCONNECT_S: Final = 5.0
_MTU_LOOKS: Final = 40
_MTU_LOOK_S: Final = 0.05
"""The system may tell the MTU late: it is looked for two seconds long."""
_SCAN_AGAIN_S: Final = 0.5

_NO_DAEMON: Final = (".NoReply", ".ServiceUnknown", ".NameHasNoOwner", ".Disconnected")
_NO_DEVICE: Final = (".UnknownObject", ".UnknownMethod", ".NotConnected", ".DoesNotExist")

FAILURES: Final = (BleakError, DBusError, OSError, EOFError, TimeoutError, AssertionError)
"""What bleak raises when a device, the daemon or the bus goes; it asserts that the bus is there."""


class BleakCentral:
    """See :class:`transports.ble.radio.Radio`; it cannot serve.

    Args:
        adapter: of the system; empty for its first.
        client: what bleak connects with, if not with what the system has.
        scanner: the same for scans.
    """

    def __init__(
        self,
        adapter: str,
        *,
        client: type[BaseBleakClient] | None = None,
        scanner: type[BaseBleakScanner] | None = None,
    ) -> None:
        self._adapter = adapter
        self._client = client
        self._scanner = scanner
        self._bluez: Any = {"adapter": adapter} if adapter else {}

    async def scan(self, heard: Callable[[Advertisement], bool]) -> None:
        """Hear who advertises our service."""
        ended = asyncio.Event()

        def detected(device: BLEDevice, data: AdvertisementData) -> None:
            name = data.local_name or device.name or ""
            services = tuple(uuid.lower() for uuid in data.service_uuids)
            if heard(Advertisement(device.address, name, services, data.rssi, device)):
                ended.set()

        while not ended.is_set():
            scanner = BleakScanner(
                detected, service_uuids=[SERVICE], bluez=self._bluez, backend=self._scanner
            )
            try:
                async with scanner:
                    await ended.wait()
            except FAILURES as error:
                if ended.is_set():
                    return
                if not _is_busy(error):
                    raise _unavailable(error, self._adapter) from error
                logger.debug("the adapter is busy: %s", error)
                await asyncio.sleep(_SCAN_AGAIN_S)

    async def connect(self, device: Advertisement) -> BleakConnection:
        """Connect, find our service, check INFO and subscribe."""
        connection = BleakConnection(device)
        client = BleakClient(
            device.handle,  # type: ignore[arg-type]  # what the scan gave
            disconnected_callback=connection.disconnected,
            timeout=_CONNECT_S,
            bluez=self._bluez,
            backend=self._client,
        )
        try:
            await client.connect()
            await connection.open(client)
        except FAILURES as error:
            await _leave(client, device)
            raise _failed(error, self._adapter) from error
        except (OckamError, asyncio.CancelledError):
            await _leave(client, device)
            raise
        return connection

    async def serve(self, name: str, accept: Callable[[Any], None]) -> Any:
        """Centrals do not."""
        raise UnavailableError(f"bleak cannot advertise {name!r}")


async def _leave(client: BleakClient, device: Advertisement) -> None:
    """Disconnect, and let BlueZ forget the device, unless its user has chosen it.

    While BlueZ remembers a device that it was connected to, it lists the services of then, whatever is
    advertised, and does not signal its MTU.
    """
    details = getattr(device.handle, "details", None)
    props = details.get("props", {}) if isinstance(details, dict) else {}
    try:
        async with asyncio.timeout(_DISCONNECT_S):
            await client.disconnect()
    except FAILURES as error:
        logger.debug("not disconnected in order: %s", error)
    if props.get("Paired", True) or props.get("Trusted", True):
        return
    try:
        async with asyncio.timeout(_DISCONNECT_S):
            await client.unpair()
    except (*FAILURES, NotImplementedError) as error:
        logger.debug("%s was not forgotten: %s", device.address, error)


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, BleakDBusError) and "InProgress" in error.dbus_error


def _failed(error: BaseException, adapter: str) -> OckamError:
    """What a failed attempt to connect means."""
    if isinstance(error, BleakBluetoothNotAvailableError):
        return _unavailable(error, adapter)
    if isinstance(error, TimeoutError):
        return ConnectFailedError(f"no connection within {_CONNECT_S:.0f} s", pause_s=1.0)
    if isinstance(error, BleakDeviceNotFoundError):
        return ConnectFailedError("the system forgot the device")
    text = str(error) or type(error).__name__
    if isinstance(error, BleakDBusError):
        text = error.dbus_error_details or error.dbus_error
        if _is_busy(error) or "abort" in text:
            return ConnectFailedError(text, pause_s=0.25)
    return ConnectFailedError(text, pause_s=0.5)


def _unavailable(error: BaseException, adapter: str) -> UnavailableError:
    """What it means that a scan could not be started."""
    if isinstance(error, BleakBluetoothNotAvailableError):
        reason = error.reason
        if reason is BleakBluetoothNotAvailableReason.POWERED_OFF:
            return unavailable.powered_off()
        if reason.name.startswith("DENIED"):
            return unavailable.denied()
        return unavailable.no_adapter(adapter)
    if isinstance(error, AuthError):
        return unavailable.denied()
    if isinstance(error, (FileNotFoundError, ConnectionError)):
        return unavailable.no_bus()
    if isinstance(error, BleakDBusError):
        name = error.dbus_error
        if is_not_running(name):
            return unavailable.no_daemon()
        if name.endswith("NotReady"):
            return unavailable.powered_off()
        if name.endswith("AccessDenied"):
            return unavailable.denied()
    if adapter and "not found" in str(error):
        return unavailable.no_adapter(adapter)
    return UnavailableError(f"Bluetooth fails: {str(error) or type(error).__name__}")


class BleakConnection(QueuedConnection):
    """A connection to a device, over bleak."""

    failures: ClassVar[tuple[type[Exception], ...]] = FAILURES

    def __init__(self, device: Advertisement) -> None:
        super().__init__(f"{device.name} ({device.address})" if device.name else device.address)
        self._device = device
        self._client: BleakClient | None = None
        self._rx: BleakGATTCharacteristic | None = None

    async def open(self, client: BleakClient) -> None:
        """Find our service on a connected device, check INFO and subscribe.

        Raises:
            ConnectFailedError: it is not there, or not yet.
            RemoteError: INFO is not ours.
        """
        self._client = client
        # Failed attempts that bleak repeats by itself count as disconnections, too.
        self._gone = not client.is_connected
        rx, tx, info = (client.services.get_characteristic(uuid) for uuid in (RX, TX, INFO))
        if rx is None or tx is None or info is None:
            raise ConnectFailedError("the device does not show our service", pause_s=0.5)
        if not check_info(bytes(await client.read_gatt_char(info))):
            raise ConnectFailedError("it serves another device, and its BlueZ only one", pause_s=4.0)
        await client.start_notify(tx, lambda _, value: self.received(bytes(value)))
        self._rx = rx
        self._look_at_mtu(0)
        if self.value_bytes == LEAST_VALUE_BYTES:
            self._allow_mtu(await present_mtu(rx))

    async def put(self, value: bytes) -> None:
        """Write without response; bleak answers once the system has queued it."""
        assert self._client is not None  # noqa: S101  (opened)
        assert self._rx is not None  # noqa: S101
        await self._client.write_gatt_char(self._rx, value, response=False)

    def why(self, failure: Exception) -> str:
        """What it means that a write failed: the system knows of the end before it tells."""
        if not isinstance(failure, BleakDBusError):
            return super().why(failure)
        if failure.dbus_error.endswith(_NO_DAEMON):
            return "bluetoothd ended"
        text = failure.dbus_error_details or failure.dbus_error
        if failure.dbus_error.endswith(_NO_DEVICE) or "not connected" in text.lower():
            return GONE
        return f"writing to the device failed: {text}"

    async def leave(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await _leave(self._client, self._device)

    def disconnected(self, _: BleakClient) -> None:
        """The device, the daemon or the adapter is gone."""
        self.is_gone()

    def _look_at_mtu(self, looks: int) -> None:
        if self._rx is None or self.is_over:
            return
        self._allow_mtu(self._rx.max_write_without_response_size + ATT_HEAD_BYTES)
        if self.value_bytes == LEAST_VALUE_BYTES and looks < _MTU_LOOKS:
            asyncio.get_running_loop().call_later(_MTU_LOOK_S, self._look_at_mtu, looks + 1)

    def _allow_mtu(self, mtu: int) -> None:
        size = value_bytes(mtu)
        if size > self.value_bytes:
            logger.debug("values for %s have %d bytes at most", self.remote, size)
            self.allow(size)
