"""A controller of our own, without BlueZ, by bumble: a USB dongle, a serial controller, or an emulated one.

``ble:NAME?hci=usb:0``. The controller is ours alone while it is used; the system's Bluetooth must leave it
be. bumble is an extra, pinned to one release, because its interface moves. The central is the same as on
the system's adapters: bleak, with a backend of ours below it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from ockamlite.errors import UnavailableError
from transports.ble.central import BleakCentral
from transports.ble.hci_bleak import backends
from transports.ble.hci_controller import FAILURES
from transports.ble.hci_serving import GattService, HciServing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transports.ble.gatt import Advertisement
    from transports.ble.hci_controller import Controller
    from transports.ble.radio import Connection

logger = logging.getLogger(__name__)

UNUSED_S: Final = 1.0
"""How long a controller stays open that nobody uses."""
START_S: Final = 5.0
"""How long it may take to answer its first commands; some load their firmware then."""


class HciRadio:
    """See :class:`transports.ble.radio.Radio`.

    Args:
        open_one: opens the controller, when it is first needed; it is closed when nothing uses it.
    """

    def __init__(self, open_one: Callable[[], Awaitable[Controller]]) -> None:
        self._open_one = open_one
        self._controller: Controller | None = None
        self._turn = asyncio.Lock()
        self._scanners: dict[Callable[[Any], None], Any] = {}
        """Who listens, each with the device at which it does."""
        self._scan_turn = asyncio.Lock()
        self._services: dict[Any, GattService] = {}
        self._unused: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        client, scanner = backends(self)
        self._central = BleakCentral("", client=client, scanner=scanner)

    async def scan(self, heard: Callable[[Advertisement], bool]) -> None:
        """Hear who advertises our service."""
        await self._central.scan(heard)

    async def connect(self, device: Advertisement) -> Connection:
        """Connect, find our service, check INFO and subscribe."""
        return await self._central.connect(device)

    async def serve(self, name: str, accept: Callable[[Connection], None]) -> HciServing:
        """Advertise and accept."""
        serving = HciServing(self, name, accept)
        await serving.start()
        return serving

    # -- the controller, for both roles -----------------------------------------------------------

    async def hold(self) -> Any:
        """The device, opened if it is not; to be dropped.

        Raises:
            UnavailableError: it cannot be opened, or does not start.
        """
        async with self._turn:
            if self._unused is not None:
                self._unused.cancel()
                self._unused = None
            if self._controller is None:
                self._controller = await self._start()
            self._controller.users += 1
            return self._controller.device

    async def _start(self) -> Controller:
        made = await self._open_one()
        try:
            async with asyncio.timeout(START_S):
                await made.device.power_on()
        except FAILURES as error:
            await made.close()
            reason = str(error) or f"no answer within {START_S:g} s"
            raise UnavailableError(
                f"the controller does not start: {reason}",
                hint="is it a Bluetooth controller, at this speed?",
            ) from error
        except BaseException:
            await made.close()
            raise
        made.device.host.once("flush", lambda: self._lost(made))
        return made

    def drop(self, device: Any) -> None:
        """One user less; a controller that nobody uses is closed after a while, as to open it takes long."""
        controller = self._controller
        if controller is None or not self.is_open(device):
            return  # it was pulled out, and is closed already
        controller.users -= 1
        if not controller.users:
            loop = asyncio.get_running_loop()
            self._unused = loop.call_later(UNUSED_S, self._close, controller)

    def keep(self, device: Any) -> None:
        """One user more of a device that has one."""
        if self._controller is not None and self.is_open(device):
            self._controller.users += 1

    def is_open(self, device: Any) -> bool:
        """False once it was pulled out, or closed."""
        return self._controller is not None and self._controller.device is device

    def service(self, device: Any) -> GattService:
        """Our service on a device that is held: one, however often it is advertised."""
        if device not in self._services:
            self._services = {device: GattService(self, device)}
        return self._services[device]

    async def listen(self, heard: Callable[[Any], None]) -> None:
        """Tell ``heard`` of advertisements; several may listen, the controller scans once."""
        device = await self.hold()
        async with self._scan_turn:
            try:
                if device not in self._scanners.values():
                    await device.start_scanning(active=True, filter_duplicates=False)
            except (*FAILURES, asyncio.CancelledError):
                self.drop(device)
                raise
            self._scanners[heard] = device
            device.on("advertisement", heard)

    async def listen_no_more(self, heard: Callable[[Any], None]) -> None:
        """Stop; the last one who listens ends the scan."""
        device = self._scanners.pop(heard, None)
        if device is None:
            return
        device.remove_listener("advertisement", heard)
        try:
            async with self._scan_turn:
                if device not in self._scanners.values() and self.is_open(device):
                    await device.stop_scanning()
        except FAILURES as error:
            logger.debug("the scan was not ended: %s", error)
        finally:
            self.drop(device)

    def _lost(self, controller: Controller) -> None:
        """It was pulled out; whoever needs one opens it again."""
        if self._controller is controller:
            logger.info("the Bluetooth controller is gone")
            self._close(controller)

    def _close(self, controller: Controller) -> None:
        self._unused = None
        if self._controller is controller:
            self._controller = None
            task = asyncio.get_running_loop().create_task(self._close_controller(controller))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close_controller(self, controller: Controller) -> None:
        async with self._turn:
            try:
                await controller.close()
            except FAILURES as error:
                logger.debug("the controller was not closed in order: %s", error)
