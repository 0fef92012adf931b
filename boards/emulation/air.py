"""An emulated Bluetooth LE air: devices that advertise, scan, connect and exchange GATT values.

Time is the event loop's, chance comes from one seed: under a virtual clock the same seed gives the same
events at the same times. Losses on the air show as delay, because a radio repeats what was lost, or as the
supervision time-out; whole values get lost in the systems at its ends, or overtake one another there.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from boards.emulation.air_link import AirLink
from ockamlite.errors import UnavailableError
from transports.ble.gatt import SERVICE, Advertisement
from transports.ble.radio import ConnectFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from boards.emulation.air_link import AirEnd
    from transports.ble.radio import Connection

_ADVERTISING_JITTER_S: Final = 0.01
"""What every advertiser adds at random, so that two do not collide for ever."""
_LEAST_MTU: Final = 23
_MOST_MTU: Final = 517
"""What ATT allows, and what a value of 512 octets needs."""
_SETUP_EVENTS: Final = 10
"""Connection events that discovery, reading INFO and subscribing take."""


@dataclass(frozen=True, slots=True)
class AirModel:
    """What the air and the systems at its ends are like."""

    advertising_s: float = 0.1
    interval_s: float = 0.015
    """Between connection events."""
    packets_per_event: int = 6
    """Link-layer packets each way in one connection event."""
    packet_bytes: int = 251
    mtu: int = 517
    """ATT MTU once it is exchanged."""
    mtu_exchange_s: float = 0.0
    """How long after the connection the MTU still is 23."""
    supervision_s: float = 2.0
    """How long nothing may be heard before a connection counts as lost."""
    queued_values: int = 16
    """Values a system takes before it asks to wait."""
    connections: int = 7
    """Connections of one adapter."""
    packet_loss: float = 0.0
    """Part of the packets that the radio has to repeat."""
    notification_loss: float = 0.0
    """Part of the notifications that get lost in a system."""
    write_loss: float = 0.0
    """The same for writes without response."""
    swapped: float = 0.0
    """Part of the values that are overtaken by the next one."""
    rssi: int = -50

    def __post_init__(self) -> None:
        names = ("packet_loss", "notification_loss", "write_loss", "swapped")
        wrong = [name for name in names if not 0.0 <= getattr(self, name) <= 1.0]
        if wrong:
            raise ValueError(f"{wrong[0]} is not 0 to 1")
        if not _LEAST_MTU <= self.mtu <= _MOST_MTU:
            raise ValueError(f"an MTU of {self.mtu} is not {_LEAST_MTU} to {_MOST_MTU}")
        if min(self.interval_s, self.packets_per_event, self.packet_bytes) <= 0:
            raise ValueError("a connection has an interval, and packets that hold something")


@dataclass(frozen=True, slots=True)
class AirEvent:
    """Something that happened on the air."""

    at: float
    kind: str
    """``connected``, ``mtu``, ``value``, ``lost``, ``swapped``, ``too-long`` or ``disconnected``."""
    source: str
    target: str
    value: bytes = b""


class Air:
    """Where emulated devices hear each other.

    Args:
        model: how good it is; may be changed while it is used.
        seed: of all chance.
        observe: told of every event.
    """

    def __init__(
        self,
        model: AirModel | None = None,
        *,
        seed: int = 0,
        observe: Callable[[AirEvent], None] | None = None,
    ) -> None:
        self.model = model if model is not None else AirModel()
        self.random = Random(seed)  # noqa: S311  (chance, not secrets)
        self.failures: deque[str] = deque()
        """What the next attempts to connect fail with, one after the other."""
        self._observe = observe
        self._radios: dict[str, AirRadio] = {}
        self._links: dict[AirLink, None] = {}
        self._parted: set[frozenset[str]] = set()
        self._silent: set[str] = set()
        self._began = math.nan
        self._made = 0

    def radio(self, address: str = "") -> AirRadio:
        """A further device; its address is made up if absent."""
        if not address:
            self._made += 1
            number = self._made
            address = f"C0:DE:00:00:{number >> 8 & 0xFF:02X}:{number & 0xFF:02X}"
        made = self._radios[address] = AirRadio(self, address)
        return made

    def leave(self, radio: AirRadio) -> None:
        """Take a device away that has no connections any more."""
        radio.stop_serving()
        self._radios.pop(radio.address, None)

    # -- what happens to it ---------------------------------------------------------------------

    def part(self, one: str, other: str) -> None:
        """Take two devices, by address, out of each other's range."""
        self._parted.add(frozenset((one, other)))
        self._ranges_changed()

    def join(self, one: str, other: str) -> None:
        """Bring two devices back into range."""
        self._parted.discard(frozenset((one, other)))
        self._ranges_changed()

    def silence(self, address: str) -> None:
        """Take a device out of the range of all others."""
        self._silent.add(address)
        self._ranges_changed()

    def restore(self, address: str) -> None:
        """Bring it back."""
        self._silent.discard(address)
        self._ranges_changed()

    def disconnect(self, one: str, other: str) -> None:
        """End the connections between two devices, as their systems do now and then."""
        for link in tuple(self._links):
            if link.ends == {one, other}:
                link.drop("the connection was ended by the system")

    def in_range(self, one: str, other: str) -> bool:
        """True if two devices hear each other."""
        return not ({one, other} & self._silent) and frozenset((one, other)) not in self._parted

    def _ranges_changed(self) -> None:
        for link in tuple(self._links):
            link.range_changed()

    # -- what its devices use -------------------------------------------------------------------

    def tell(self, kind: str, source: str, target: str, value: bytes = b"") -> None:
        """Note an event."""
        if self._observe is None:
            return
        now = asyncio.get_running_loop().time()
        if math.isnan(self._began):
            self._began = now
        self._observe(AirEvent(round(now - self._began, 6), kind, source, target, value))

    def advertised(self, radio: AirRadio) -> None:
        """Let whoever scans hear a device."""
        assert radio.serving is not None  # noqa: S101  (called by its timer while it serves)
        found = Advertisement(radio.address, radio.serving, (SERVICE,), self.model.rssi)
        for scanner in tuple(self._radios.values()):
            if scanner is not radio and self.in_range(scanner.address, radio.address):
                scanner.hear(found)

    @property
    def is_listened_to(self) -> bool:
        """True while somebody scans."""
        return any(radio.scans for radio in self._radios.values())

    def scan_began(self) -> None:
        """Let those who serve advertise."""
        for radio in self._radios.values():
            radio.advertise()

    async def open(self, central: AirRadio, address: str) -> AirEnd:
        """Connect; see :meth:`transports.ble.radio.Radio.connect`.

        Raises:
            ConnectFailedError: not there, or not now.
        """
        model = self.model
        await asyncio.sleep(self.random.random() * model.advertising_s)
        if self.failures:
            raise ConnectFailedError(self.failures.popleft())
        peripheral = self._radios.get(address)
        if peripheral is None or peripheral.serving is None or not self.in_range(central.address, address):
            raise ConnectFailedError("the device does not answer")
        if max(len(central.links), len(peripheral.links)) >= model.connections:
            raise ConnectFailedError("the adapter has as many connections as it takes", pause_s=1.0)
        link = AirLink(self, central, peripheral)
        self._links[link] = None
        for radio in (central, peripheral):
            radio.links[link] = None
        self.tell("connected", central.address, address)
        try:
            await asyncio.sleep(_SETUP_EVENTS * model.interval_s)
        except asyncio.CancelledError:
            link.central.abort()
            raise
        if link.is_over:
            raise ConnectFailedError("the connection ended while it was set up")
        peripheral.accepted(link.peripheral)
        return link.central

    def closed(self, link: AirLink) -> None:
        """Forget a connection."""
        self._links.pop(link, None)
        for radio in link.radios:
            radio.links.pop(link, None)


class AirRadio:
    """One device on the air; see :class:`transports.ble.radio.Radio`."""

    def __init__(self, air: Air, address: str) -> None:
        self.air = air
        self.address = address
        self.links: dict[AirLink, None] = {}
        self.serving: str | None = None
        """The name under which it advertises."""
        self.scans: dict[asyncio.Future[None], Callable[[Advertisement], bool]] = {}
        self._accept: Callable[[Connection], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def shown(self) -> str:
        """What the other end calls it."""
        return f"{self.serving} ({self.address})" if self.serving else self.address

    async def scan(self, heard: Callable[[Advertisement], bool]) -> None:
        """Hear who advertises."""
        ended = asyncio.get_running_loop().create_future()
        self.scans[ended] = heard
        self.air.scan_began()
        try:
            await ended
        finally:
            del self.scans[ended]

    async def connect(self, device: Advertisement) -> Connection:
        """Connect to a device."""
        return await self.air.open(self, device.address)

    async def serve(self, name: str, accept: Callable[[Connection], None]) -> AirServing:
        """Advertise and accept."""
        if self.serving is not None:
            raise UnavailableError(f"this radio advertises as {self.serving!r} already")
        self.serving = name
        self._accept = accept
        self.advertise()
        return AirServing(self)

    def stop_serving(self) -> None:
        """Advertise no more."""
        self.serving = None
        self._accept = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the air's side -------------------------------------------------------------------------

    def hear(self, found: Advertisement) -> None:
        """Tell the scans of a device."""
        for ended, heard in tuple(self.scans.items()):
            if not ended.done() and heard(found):
                ended.set_result(None)

    def advertise(self) -> None:
        """Advertise from now on, while somebody listens."""
        if self._timer is None and self.serving is not None and self.air.is_listened_to:
            self._wait(self.air.random.random() * self.air.model.advertising_s)

    def accepted(self, end: AirEnd) -> None:
        """A central has subscribed."""
        if self._accept is None:
            end.abort()
        else:
            self._accept(end)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._advertise)

    def _advertise(self) -> None:
        self._timer = None
        if self.serving is not None and self.air.is_listened_to:
            self.air.advertised(self)
            self._wait(self.air.model.advertising_s + self.air.random.random() * _ADVERTISING_JITTER_S)


class AirServing:
    """See :class:`transports.ble.radio.Serving`."""

    def __init__(self, radio: AirRadio) -> None:
        self._radio = radio

    async def close(self) -> None:
        """Advertise no more."""
        self._radio.stop_serving()
