"""The peripheral on a controller of our own, by bumble: our GATT service, advertised."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

import bumble.att
import bumble.core
import bumble.gatt
import bumble.hci

from ockamlite.errors import UnavailableError
from transports.ble import gatt
from transports.ble.hci_controller import FAILURES, room
from transports.ble.queued import QueuedConnection
from transports.ble.radio import AGAIN_S, SUBSCRIBE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from transports.ble.hci import HciRadio
    from transports.ble.radio import Connection

logger = logging.getLogger(__name__)

_ANSWER_S: Final = 5.0
"""How long a controller may take to answer; one that was pulled out never does."""
_ADVERTISING_MS: Final = 100.0
_SHORT_NAME_BYTES: Final = 8
"""A name that has room beside the service's UUID; a longer one is told to who asks for it."""
_Data: Final = bumble.core.AdvertisingData


class PeripheralConnection(QueuedConnection):
    """Notifies of TX, is written to RX."""

    failures: ClassVar[tuple[type[Exception], ...]] = FAILURES
    last_word_s = 0.1  # the central waits longer: two that disconnect at once confuse controllers

    def __init__(self, device: Any, link: Any, tx: Any) -> None:
        super().__init__(link.peer_address.to_string(False))
        self._device = device
        self._link = link
        self._tx = tx
        self.allow(gatt.value_bytes(link.att_mtu))

    async def put(self, value: bytes) -> None:
        """Notify; waits for the controller's credits."""
        await self._device.notify_subscriber(self._link, self._tx, value)
        await room(self._link)

    async def leave(self) -> None:
        """Disconnect."""
        await disconnect(self._link)


async def disconnect(link: Any) -> None:
    """Disconnect, if still connected."""
    if link.device.connections.get(link.handle) is not link:
        return
    try:
        async with asyncio.timeout(_ANSWER_S):
            await link.disconnect()
    except FAILURES as error:
        logger.debug("not disconnected in order: %s", error)


class GattService:
    """Our service on one device: it stays there as long as the device does, advertised or not."""

    def __init__(self, radio: HciRadio, device: Any) -> None:
        self._radio = radio
        self._device = device
        self._name = ""
        self._accept: Callable[[Connection], None] | None = None
        self._links: dict[Any, PeripheralConnection | None] = {}
        """Who is connected; None for who has not subscribed."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._advertising = asyncio.Lock()
        self._again_due = False
        of = bumble.gatt.Characteristic
        self._tx: Any = of(gatt.TX, of.Properties.NOTIFY, of.Permissions(0), b"")
        writable = of.Properties.WRITE_WITHOUT_RESPONSE | of.Properties.WRITE
        rx: Any = of(gatt.RX, writable, of.WRITEABLE, _written_by(self._written))
        info: Any = of(gatt.INFO, of.Properties.READ, of.READABLE, gatt.encode_info())
        device.add_service(bumble.gatt.Service(gatt.SERVICE, [rx, self._tx, info]))
        _keep_permissions(device)
        self._tx.on("subscription", self._subscribed)
        device.on("connection", self._connected)

    async def open(self, name: str, accept: Callable[[Connection], None]) -> None:
        """Advertise, and hand on who subscribes.

        Raises:
            UnavailableError: the controller does not, or does already.
        """
        if self._accept is not None:
            raise UnavailableError(f"this controller advertises as {self._name!r} already")
        self._name, self._accept = name, accept
        try:
            async with asyncio.timeout(_ANSWER_S), self._advertising:
                await self._advertise()
        except FAILURES as error:
            self._accept = None
            reason = str(error) or f"no answer within {_ANSWER_S:g} s"
            raise UnavailableError(f"the controller does not advertise: {reason}") from error

    async def shut(self) -> None:
        """Advertise no more."""
        self._accept = None
        try:
            async with asyncio.timeout(_ANSWER_S), self._advertising:
                await self._device.stop_advertising()
        except FAILURES as error:
            logger.debug("advertising was not ended: %s", error)

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

    def _advertise_again(self) -> None:
        """A controller stops to advertise when it is connected to; the next central wants it again."""
        if self._accept is not None and not self._again_due:
            self._again_due = True
            self._spawn(self._restart_advertising())

    async def _restart_advertising(self) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S), self._advertising:
                self._again_due = False
                if self._accept is not None and self._radio.is_open(self._device):
                    await self._device.stop_advertising()
                    await self._advertise()
        except FAILURES as error:
            # It has as many connections as it takes; when one of them ends, this is tried again.
            logger.debug("not advertised again: %s", error)
        finally:
            self._again_due = False

    # -- centrals ---------------------------------------------------------------------------------

    def _connected(self, link: Any) -> None:
        self._advertise_again()
        if link.role != bumble.hci.Role.PERIPHERAL:
            return
        self._links[link] = None
        self._radio.keep(self._device)
        timer = asyncio.get_running_loop().call_later(SUBSCRIBE_S, self._subscribes_late, link)
        link.once("disconnection", lambda _: self._disconnected(link, timer))

    def _disconnected(self, link: Any, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        known = self._links.pop(link, None)
        if known is not None:
            known.is_gone()
        self._radio.drop(self._device)
        self._advertise_again()

    def _subscribes_late(self, link: Any) -> None:
        """Nobody may keep one of the few connections that a controller has without using it."""
        if self._links.get(link, self) is None:
            logger.debug("%s did not subscribe within %g s", link.peer_address, SUBSCRIBE_S)
            self._spawn(disconnect(link))

    def _subscribed(self, link: Any, notify: bool, _: bool) -> None:
        known = self._links.get(link)
        if not notify:
            if known is not None:
                known.is_gone()
        elif self._accept is not None and known is None and link in self._links:
            made = self._links[link] = PeripheralConnection(self._device, link, self._tx)
            self._accept(made)

    def _written(self, link: Any, value: bytes) -> None:
        known = self._links.get(link)
        if known is not None:
            if len(value) > known.value_bytes:
                known.allow(gatt.value_bytes(len(value) + gatt.ATT_HEAD_BYTES))
            known.received(bytes(value))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class HciServing:
    """See :class:`transports.ble.radio.Serving`; a controller that went and came back serves again."""

    def __init__(self, radio: HciRadio, name: str, accept: Callable[[Connection], None]) -> None:
        self._radio = radio
        self._name = name
        self._accept = accept
        self._device: Any = None
        self._again: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Put the service up and advertise.

        Raises:
            UnavailableError: the controller does not.
        """
        device = await self._radio.hold()
        try:
            await self._radio.service(device).open(self._name, self._accept)
        except BaseException:
            self._radio.drop(device)
            raise
        self._device = device
        device.host.once("flush", self._lost)

    async def close(self) -> None:
        """Advertise no more; connections stay."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
            await asyncio.wait((self._again,))
        device, self._device = self._device, None
        if device is not None:
            await self._radio.service(device).shut()
            self._radio.drop(device)

    def _lost(self) -> None:
        if self._device is not None and not self._closed:
            self._device = None
            self._again = asyncio.get_running_loop().create_task(self._start_again())

    async def _start_again(self) -> None:
        """Serve again once the controller is back."""
        for pause in (*AGAIN_S, *AGAIN_S[-1:] * 1000):
            await asyncio.sleep(pause)
            try:
                await self.start()
            except UnavailableError as error:
                logger.info("not advertised as %s yet: %s", self._name, error)
            else:
                logger.info("advertised as %s again", self._name)
                return


def _keep_permissions(device: Any) -> None:
    """Refuse what attributes do not permit: bumble lets anybody overwrite a service's declaration."""

    def refusal(handle: int, code: Any) -> Callable[..., Coroutine[Any, Any, NoReturn]]:
        async def refuse(*_: object) -> NoReturn:
            raise bumble.att.ATT_Error(error_code=code, att_handle=handle)

        return refuse

    for attribute in device.gatt_server.attributes:
        if not attribute.permissions & attribute.WRITEABLE:
            attribute.write_value = refusal(attribute.handle, bumble.att.ErrorCode.WRITE_NOT_PERMITTED)
        if not attribute.permissions & attribute.READABLE:
            attribute.read_value = refusal(attribute.handle, bumble.att.ErrorCode.READ_NOT_PERMITTED)


def _written_by(write: Callable[[Any, bytes], None]) -> Any:
    return bumble.gatt.CharacteristicValue(write=write)
