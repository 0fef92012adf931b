"""A controller of our own, without BlueZ, by bumble: a USB dongle, a serial controller, or an emulated one.

``ble:NAME?hci=usb:0``. The controller is ours alone while it is used; the system's Bluetooth must leave it
be. bumble is an extra, pinned to one release, because its interface moves.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final

import bumble.core
import bumble.device
import bumble.gatt
import bumble.hci
import bumble.transport

from ockamlite.errors import UnavailableError
from transports.ble import gatt
from transports.ble.gatt import Advertisement
from transports.ble.queued import QueuedConnection
from transports.ble.radio import ConnectFailedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transports.ble.radio import Connection

logger = logging.getLogger(__name__)

FAILURES: Final = (bumble.core.BaseBumbleError, OSError, TimeoutError, asyncio.InvalidStateError)
_MTU: Final = 517
_LEAVE_S: Final = 5.0
_UNUSED_S: Final = 1.0
_ADVERTISING_MS: Final = 100.0
_SHORT_NAME_BYTES: Final = 8
"""A name that has room beside the service's UUID; a longer one is told to who asks for it."""
_Data: Final = bumble.core.AdvertisingData
_UUID_LISTS: Final = (
    _Data.Type.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
    _Data.Type.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
)


class Controller:
    """A bumble device on an open controller, and how it is closed."""

    def __init__(self, device: Any, close: Callable[[], Awaitable[None]]) -> None:
        self.device = device
        self.close = close


async def open_controller(name: str) -> Controller:
    """Open a controller by its name, as bumble has it: ``usb:0``, ``serial:/dev/ttyACM0,1000000``.

    Raises:
        UnavailableError: it cannot be opened.
    """
    try:
        transport: Any = await bumble.transport.open_transport(name)
    except (*FAILURES, ValueError, ImportError) as error:
        raise UnavailableError(
            f"the controller {name} cannot be opened: {error}",
            hint="is it plugged in, is it yours to use, and does the system leave it be?",
        ) from error
    address = bumble.hci.Address.generate_static_address()
    device = bumble.device.Device.with_hci("", address, transport.source, transport.sink)
    return Controller(device, transport.close)


class HciRadio:
    """See :class:`transports.ble.radio.Radio`.

    Args:
        open_one: opens the controller, when it is first needed; it is closed when nothing uses it.
    """

    def __init__(self, open_one: Callable[[], Awaitable[Controller]]) -> None:
        self._open_one = open_one
        self._controller: Controller | None = None
        self._users = 0
        self._turn = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    async def scan(self, heard: Callable[[Advertisement], bool]) -> None:
        """Hear who advertises our service."""
        device = await self.hold()
        ended = asyncio.Event()

        def detected(found: Any) -> None:
            services = tuple(
                uuid.to_hex_str("-").lower() for kind in _UUID_LISTS for uuid in found.data.get(kind) or ()
            )
            if gatt.SERVICE in services:
                name = found.data.get(_Data.Type.COMPLETE_LOCAL_NAME) or ""
                address = found.address.to_string(False)
                if heard(Advertisement(address, str(name), services, found.rssi, found.address)):
                    ended.set()

        device.on("advertisement", detected)
        try:
            await device.start_scanning(active=True, filter_duplicates=False)
            await ended.wait()
        except FAILURES as error:
            raise UnavailableError(f"the controller does not scan: {error}") from error
        finally:
            device.remove_listener("advertisement", detected)
            try:
                await device.stop_scanning()
            except FAILURES:
                pass
            await self.drop()

    async def connect(self, device: Advertisement) -> Connection:
        """Connect, find our service, check INFO and subscribe."""
        ours = await self.hold()
        try:
            link = await ours.connect(device.handle)
        except FAILURES as error:
            await self.drop()
            raise ConnectFailedError(f"{str(error) or type(error).__name__}") from error
        except asyncio.CancelledError:
            await self.drop()
            raise
        made = CentralConnection(
            self, link, f"{device.name} ({device.address})" if device.name else device.address
        )
        try:
            await made.open()
        except BaseException as error:
            await made.leave()
            if isinstance(error, FAILURES):
                raise ConnectFailedError(f"{str(error) or type(error).__name__}") from error
            raise
        return made

    async def serve(self, name: str, accept: Callable[[Connection], None]) -> HciServing:
        """Advertise and accept."""
        device = await self.hold()
        serving = HciServing(self, device, name, accept)
        try:
            await serving.start()
        except FAILURES as error:
            await self.drop()
            raise UnavailableError(f"the controller does not advertise: {error}") from error
        return serving

    async def hold(self) -> Any:
        """The device, opened if it is not; to be dropped."""
        async with self._turn:
            if self._controller is None:
                made = await self._open_one()
                try:
                    await made.device.power_on()
                except FAILURES as error:
                    await made.close()
                    raise UnavailableError(f"the controller does not start: {error}") from error
                self._controller = made
            self._users += 1
            return self._controller.device

    async def drop(self) -> None:
        """One user less; a controller that nobody uses is closed after a while, as to open it takes long."""
        self._users -= 1
        if not self._users:
            self._closing = asyncio.get_running_loop().create_task(self._close_unused())

    async def _close_unused(self) -> None:
        await asyncio.sleep(_UNUSED_S)
        async with self._turn:
            if not self._users and self._controller is not None:
                controller, self._controller = self._controller, None
                await controller.close()


class HciConnection(QueuedConnection):
    """A connection of a bumble device, in either role."""

    failures: ClassVar[tuple[type[Exception], ...]] = FAILURES

    def __init__(self, radio: HciRadio, link: Any, remote: str) -> None:
        super().__init__(remote)
        self._radio = radio
        self._link = link
        self._left = False
        self._disconnected = False
        link.once("disconnection", self._ended)

    async def leave(self) -> None:
        """Disconnect, and let go of the controller."""
        if self._left:
            return
        self._left = True
        try:
            async with asyncio.timeout(_LEAVE_S):
                if not self._disconnected:
                    await self._link.disconnect()
        except FAILURES as error:
            logger.debug("not disconnected in order: %s", error)
        await self._radio.drop()

    def _ended(self, _: object) -> None:
        self._disconnected = True
        self.is_gone()


class CentralConnection(HciConnection):
    """Writes to RX, is notified of TX."""

    _rx: Any = None

    async def open(self) -> None:
        """Find our service, check INFO and subscribe.

        Raises:
            ConnectFailedError: our service is not there.
            RemoteError: INFO is not ours.
        """
        peer = bumble.device.Peer(self._link)
        mtu = await peer.request_mtu(_MTU)
        await peer.discover_service(gatt.SERVICE)
        await peer.discover_characteristics()
        found = [peer.get_characteristics_by_uuid(bumble.core.UUID(u)) for u in (gatt.RX, gatt.TX, gatt.INFO)]
        if not all(found):
            raise ConnectFailedError("the device does not show our service", pause_s=0.5)
        (self._rx, *_), (tx, *_), (info, *_) = found
        gatt.check_info(bytes(await info.read_value()))
        await tx.subscribe(lambda value: self.received(bytes(value)))
        self.allow(gatt.value_bytes(mtu))

    async def put(self, value: bytes) -> None:
        """Write without response; waits for the controller's credits."""
        await self._rx.write_value(value, with_response=False)
        await self._link.drain()


class PeripheralConnection(HciConnection):
    """Notifies of TX, is written to RX."""

    last_word_s = 0.1  # the central waits longer: two that disconnect at once confuse controllers

    def __init__(self, radio: HciRadio, device: Any, link: Any, tx: Any) -> None:
        super().__init__(radio, link, link.peer_address.to_string(False))
        self._device = device
        self._tx = tx
        self.allow(gatt.value_bytes(link.att_mtu))

    async def put(self, value: bytes) -> None:
        """Notify; waits for the controller's credits."""
        await self._device.notify_subscriber(self._link, self._tx, value)
        await self._link.drain()


def _written_by(write: Callable[[Any, bytes], None]) -> Any:
    return bumble.gatt.CharacteristicValue(write=write)


class HciServing:
    """See :class:`transports.ble.radio.Serving`."""

    def __init__(self, radio: HciRadio, device: Any, name: str, accept: Callable[[Connection], None]) -> None:
        self._radio = radio
        self._device = device
        self._name = name
        self._accept: Callable[[Connection], None] | None = accept
        self._links: dict[Any, PeripheralConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._advertising = asyncio.Lock()

    async def start(self) -> None:
        """Put the service up and advertise."""
        of = bumble.gatt.Characteristic
        self._tx = of(gatt.TX, of.Properties.NOTIFY, of.Permissions(0), b"")
        rx: Any = of(
            gatt.RX,
            of.Properties.WRITE_WITHOUT_RESPONSE | of.Properties.WRITE,
            of.WRITEABLE,
            _written_by(self._written),
        )
        info = of(gatt.INFO, of.Properties.READ, of.READABLE, gatt.encode_info())
        self._device.add_service(bumble.gatt.Service(gatt.SERVICE, [rx, self._tx, info]))
        self._tx.on("subscription", self._subscribed)
        self._device.on("connection", self._connected)
        await self._advertise()

    async def close(self) -> None:
        """Advertise no more; connections stay."""
        if self._accept is None:
            return
        self._accept = None
        self._device.remove_listener("connection", self._connected)
        async with self._advertising:
            try:
                await self._device.stop_advertising()
            except FAILURES:
                pass
        await self._radio.drop()

    async def _advertise(self) -> None:
        advertised = [
            (_Data.Type.FLAGS, b"\x06"),
            (_Data.Type.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, bytes(bumble.core.UUID(gatt.SERVICE))),
        ]
        name = [(_Data.Type.COMPLETE_LOCAL_NAME, self._name.encode())]
        if len(name[0][1]) <= _SHORT_NAME_BYTES:
            advertised, name = advertised + name, []
        await self._device.start_advertising(
            advertising_data=bytes(_Data(advertised)),
            scan_response_data=bytes(_Data(name)),
            advertising_interval_min=_ADVERTISING_MS,
            advertising_interval_max=_ADVERTISING_MS,
        )

    def _connected(self, _: Any) -> None:
        """A controller stops to advertise when it is connected to; the next central wants it again."""
        if self._accept is not None:
            task = asyncio.get_running_loop().create_task(self._advertise_again())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _advertise_again(self) -> None:
        async with self._advertising:
            if self._accept is None:
                return
            try:
                await self._device.stop_advertising()
                await self._advertise()
            except FAILURES as error:
                # It has as many connections as it takes; when one of them ends, this is tried again.
                logger.debug("not advertised again: %s", error)

    def _subscribed(self, link: Any, notify: bool, _: bool) -> None:
        known = self._links.get(link)
        if not notify:
            if known is not None:
                known.is_gone()
            return
        if self._accept is None or known is not None:
            return
        made = self._links[link] = PeripheralConnection(self._radio, self._device, link, self._tx)
        link.once("disconnection", lambda _: self._forget(link))
        task = asyncio.get_running_loop().create_task(self._count(made))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _count(self, made: PeripheralConnection) -> None:
        await self._radio.hold()
        if self._accept is None:
            await made.leave()
        else:
            self._accept(made)

    def _forget(self, link: Any) -> None:
        self._links.pop(link, None)
        self._connected(link)

    def _written(self, link: Any, value: bytes) -> None:
        known = self._links.get(link)
        if known is not None:
            if len(value) > known.value_bytes:
                known.allow(gatt.value_bytes(len(value) + gatt.ATT_HEAD_BYTES))
            known.received(bytes(value))
