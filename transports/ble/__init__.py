"""The Bluetooth LE transport: ``ble:NAME`` dialled as a central, listened at as a peripheral.

The radio is the system's, or the emulated air that ``OCKAMLITE_AIR`` names, or one given to it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from ockamlite.errors import LinkBrokenError, OckamError, UnavailableError
from ockamlite.routing.endpoint import Endpoint
from ockamlite.routing.tally import Tallies
from transports.ble.channel import BleChannel, open_link
from transports.ble.dialling import SEARCH_S, Dialler
from transports.ble.gatt import MOST_VALUE_BYTES, Wanted, check_name
from transports.ble.radio import MOST_CONNECTIONS
from transports.ble.visits import Visits

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ockamlite.limits import Limits
    from ockamlite.wire.link import Link
    from transports.ble.gatt import Advertisement
    from transports.ble.radio import Connection, Radio, Serving

logger = logging.getLogger(__name__)

AIR_VARIABLE = "OCKAMLITE_AIR"
"""Names the socket of an emulated air to be used instead of a radio."""


def radio_for(adapter: str, controller: str = "") -> Radio:
    """The radio that an endpoint means.

    Args:
        adapter: of the system; empty for its first.
        controller: one of our own, as bumble names it; empty for the system's adapters.

    Raises:
        UnavailableError: a package for it is missing.
    """
    socket = os.environ.get(AIR_VARIABLE)
    if socket:
        from transports.ble.air import AirClient

        return AirClient(socket)
    if controller:
        try:
            from transports.ble.hci import HciRadio
            from transports.ble.hci_controller import open_controller
        except ImportError as error:
            raise UnavailableError(
                "a controller of our own needs the package bumble", hint="pip install 'ockamlite[bumble]'"
            ) from error
        return HciRadio(lambda: open_controller(controller))
    from transports.ble.system import SystemRadio

    return SystemRadio(adapter)


class BleTransport:
    """Makes links over Bluetooth LE; see :class:`ockamlite.wire.link.Transport`.

    Args:
        limits: bounds.
        radio: what to use instead of the system's.
        draw: makes the 32 random bits of a session; for tests that want the same each time.
        search_s: how long a device is looked for.
        adapter: of the system, for endpoints that name none; its first if absent.
        most_bytes: the longest value that is written, whatever a connection takes.
    """

    kind: ClassVar[str] = "ble"
    options: ClassVar[Collection[str]] = ("adapter", "hci")

    def __init__(
        self,
        limits: Limits,
        radio: Radio | None = None,
        draw: Callable[[], int] | None = None,
        *,
        search_s: float = SEARCH_S,
        adapter: str = "",
        most_bytes: int = MOST_VALUE_BYTES,
    ) -> None:
        self._limits = limits
        self._adapter = adapter
        self._most_bytes = most_bytes
        self._given = radio
        self._search_s = search_s
        self._draw = draw or (lambda: secrets.randbelow(2**32 - 1) + 1)
        self._radios: dict[tuple[str, str], Radio] = {}
        self._diallers: dict[tuple[str, str], Dialler] = {}
        self._dialled: Counter[tuple[str, str]] = Counter()
        """Connections that we made with each adapter: they take places of its listener."""

    async def connect(self, endpoint: Endpoint) -> Link:
        """Find a device by name, address or service, connect, and begin the link."""
        radio, which = self._radio(endpoint), self._which(endpoint)
        if which not in self._diallers:
            self._diallers[which] = Dialler(radio, search_s=self._search_s)
        try:
            connection = await self._diallers[which].dial(Wanted(endpoint.details))
            self._dialled[which] += 1
            return await open_link(
                connection,
                endpoint=str(endpoint),
                session=self._draw(),
                limits=self._limits,
                most_bytes=self._most_bytes,
                gone=lambda: self._dialled.subtract((which,)),
            )
        except OckamError as error:
            raise type(error)(f"{endpoint}: {error}", hint=error.hint) from error

    async def listen(self, endpoint: Endpoint, accept: Callable[[Link], None]) -> BleListener:
        """Advertise ``NAME`` of ``ble:NAME`` and accept every central that subscribes."""
        check_name(endpoint.details)
        which = self._which(endpoint)
        listener = BleListener(
            endpoint,
            self._limits,
            self._draw,
            accept,
            most_bytes=self._most_bytes,
            dialled=lambda: self._dialled[which],
        )
        try:
            listener.serving = await self._radio(endpoint).serve(endpoint.details, listener.connected)
        except UnavailableError as error:
            raise UnavailableError(f"cannot listen at {endpoint}: {error}", hint=error.hint) from error
        return listener

    async def scan(self, heard: Callable[[Advertisement], bool], *, adapter: str = "") -> None:
        """Tell ``heard`` of every device with our service until it answers True.

        Raises:
            UnavailableError: no adapter, or it is off; says what to do.
        """
        options = (("adapter", adapter),) if adapter else ()
        await self._radio(Endpoint("ble", "*", options)).scan(heard)

    def _radio(self, endpoint: Endpoint) -> Radio:
        which = self._which(endpoint)
        if which not in self._radios:
            if self._adapter and which == (self._adapter, ""):
                logger.info("ble: is %s here; ?adapter= names another one", self._adapter)
            self._radios[which] = self._given or radio_for(*which)
        return self._radios[which]

    def _which(self, endpoint: Endpoint) -> tuple[str, str]:
        """The adapter and the controller that an endpoint means."""
        options = dict(endpoint.options)
        return options.get("adapter", self._adapter), options.get("hci", "")


class BleListener:
    """A peripheral that advertises; see :class:`ockamlite.wire.link.LinkListener`."""

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        draw: Callable[[], int],
        accept: Callable[[Link], None],
        *,
        most_bytes: int,
        dialled: Callable[[], int],
    ) -> None:
        self.endpoint = endpoint
        self.serving: Serving | None = None
        self._limits = limits
        self._draw = draw
        self._accept = accept
        self._most_bytes = most_bytes
        self._dialled = dialled
        self._visits = Visits()
        self._refused = Tallies()

    @property
    def places(self) -> int:
        """Links it can have while the adapter has those that were dialled."""
        return max(1, MOST_CONNECTIONS - self._dialled())

    def connected(self, connection: Connection) -> None:
        """A central subscribed; its link comes once it says HELLO.

        A device that begins links all the time is disconnected, and so is one that begins session after
        session on one connection.
        """
        device = connection.remote
        if not self._admits(device):
            connection.abort()
            return
        begun = 0

        def accept(link: Link) -> None:
            nonlocal begun
            begun += 1
            if begun > 1 and not self._admits(device):
                channel.shell.abort(LinkBrokenError("the device began the link anew too often"))
            else:
                self._accept(link)

        channel = BleChannel(
            connection,
            endpoint=str(self.endpoint),
            session=self._draw(),
            limits=self._limits,
            most_bytes=self._most_bytes,
            accept=accept,
            ended=lambda _: None,
        )
        channel.start()

    def _admits(self, device: str) -> bool:
        if self._visits.admit(device, asyncio.get_running_loop().time()):
            return True
        if times := self._refused.add(device):
            logger.info(
                "%s: %s begins links too often, disconnected (%d so far)", self.endpoint, device, times
            )
        return False

    async def close(self) -> None:
        """Advertise no more; links stay."""
        serving, self.serving = self.serving, None
        if serving is not None:
            await serving.close()
