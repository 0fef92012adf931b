"""One connection on the emulated air: two ends, and connection events that carry values between them."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from ockamlite.errors import LinkBrokenError, LinkClosedError
from transports.ble.gatt import LEAST_VALUE_BYTES, value_bytes

if TYPE_CHECKING:
    from boards.emulation.air import Air, AirRadio
    from ockamlite.errors import OckamError
    from transports.ble.radio import ConnectionUser

_HEAD_BYTES: Final = 7
"""ATT and L2CAP in front of a value."""
_EARLY_VALUES: Final = 64
"""Values kept for an end that nobody has started yet."""
_FLUSH_S: Final = 1.0


class AirLink:
    """A connection between a central and a peripheral."""

    def __init__(self, air: Air, central: AirRadio, peripheral: AirRadio) -> None:
        self.air = air
        self.radios = (central, peripheral)
        self.ends = {central.address, peripheral.address}
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.value_bytes = value_bytes(air.model.mtu) if not air.model.mtu_exchange_s else LEAST_VALUE_BYTES
        self.central = AirEnd(self, central.address, peripheral.address, peripheral.shown)
        self.peripheral = AirEnd(self, peripheral.address, central.address, central.shown)
        self.is_over = False
        self._anchor = loop.time()
        self._event: asyncio.TimerHandle | None = None
        self._supervision: asyncio.TimerHandle | None = None
        self._mtu: asyncio.TimerHandle | None = None
        if air.model.mtu_exchange_s:
            self._mtu = loop.call_later(air.model.mtu_exchange_s, self._exchange_mtu)

    def wake(self) -> None:
        """Something waits: be there at the next connection event."""
        if self._event is None and not self.is_over and self._supervision is None:
            interval = self.air.model.interval_s
            passed = math.floor((self.loop.time() - self._anchor) / interval + 1e-6) + 1
            self._event = self.loop.call_at(self._anchor + passed * interval, self._on_event)

    def range_changed(self) -> None:
        """The devices may have come into or out of range."""
        hears = self.air.in_range(*sorted(self.ends)) if len(self.ends) == 2 else True
        if hears and self._supervision is not None:
            self._supervision.cancel()
            self._supervision = None
            self.wake()
        elif not hears and self._supervision is None and not self.is_over:
            seconds = self.air.model.supervision_s
            self._supervision = self.loop.call_later(
                seconds, self.drop, f"nothing was heard of the device for {seconds:g} s"
            )
            if self._event is not None:
                self._event.cancel()
                self._event = None

    def drop(self, reason: str) -> None:
        """End the connection for both ends."""
        self.end({self.central: LinkBrokenError(reason), self.peripheral: LinkBrokenError(reason)})

    def end(self, errors: dict[AirEnd, OckamError | None]) -> None:
        """End it, and tell each end why."""
        if self.is_over:
            return
        self.is_over = True
        for timer in (self._event, self._supervision, self._mtu):
            if timer is not None:
                timer.cancel()
        self.air.tell("disconnected", self.central.address, self.peripheral.address)
        self.air.closed(self)
        for end, error in errors.items():
            end.lost(error)

    def _exchange_mtu(self) -> None:
        self.value_bytes = value_bytes(self.air.model.mtu)
        self.air.tell("mtu", self.central.address, self.peripheral.address)
        for end in (self.central, self.peripheral):
            end.tell_room()

    def _on_event(self) -> None:
        self._event = None
        model = self.air.model
        self._carry(self.central, self.peripheral, model.write_loss)
        self._carry(self.peripheral, self.central, model.notification_loss)
        if self.central.has_more or self.peripheral.has_more:
            self.wake()

    def _carry(self, source: AirEnd, target: AirEnd, loss: float) -> None:
        model, chance = self.air.model, self.air.random
        late = source.take_overtaken()
        for _ in range(model.packets_per_event):
            if not source.waiting or self.is_over:
                break
            if model.packet_loss and chance.random() < model.packet_loss:
                continue
            value = source.packet_sent(model.packet_bytes)
            if value is None:
                continue
            if loss and chance.random() < loss:
                self.air.tell("lost", source.address, target.address, value)
            elif late is None and model.swapped and chance.random() < model.swapped:
                self.air.tell("swapped", source.address, target.address, value)
                source.overtaken = value
                late = source.take_overtaken() if source.waiting else None
            else:
                self._deliver(source, target, value)
                if late is not None:
                    self._deliver(source, target, late)
                    late = None
        if late is not None:
            self._deliver(source, target, late)

    def _deliver(self, source: AirEnd, target: AirEnd, value: bytes) -> None:
        if not self.is_over:
            self.air.tell("value", source.address, target.address, value)
            target.received(value)


class AirEnd:
    """One end of a connection; see :class:`transports.ble.radio.Connection`."""

    def __init__(self, link: AirLink, address: str, peer: str, remote: str) -> None:
        self.address = address
        self.peer = peer
        """The other end's address."""
        self.remote = remote
        self.waiting: deque[bytes] = deque()
        self.overtaken: bytes | None = None
        """A value that the next one overtakes."""
        self._link = link
        self._sent_bytes = 0
        """How much of the first waiting value has been sent."""
        self._user: ConnectionUser | None = None
        self._early: deque[bytes] = deque(maxlen=_EARLY_VALUES)
        self._over: list[OckamError | None] = []
        self._closing = False

    # -- the user's side ------------------------------------------------------------------------

    @property
    def value_bytes(self) -> int:
        """The longest value that may be written now."""
        return self._link.value_bytes

    @property
    def free_values(self) -> int:
        """Values that may be written now."""
        return max(0, self._link.air.model.queued_values - len(self.waiting))

    def start(self, user: ConnectionUser) -> None:
        """Hand on what comes."""
        self._user = user
        while self._early:
            user.value_received(self._early.popleft())
        if self._over:
            self._link.loop.call_soon(self._tell_end)

    def write_frame(self, frame: bytes) -> None:
        """Write a value."""
        link = self._link
        if link.is_over or self._closing:
            return
        if len(frame) > self.value_bytes:
            link.air.tell("too-long", self.address, "", frame)
            return
        self.waiting.append(bytes(frame))
        link.wake()

    def writable_bytes(self) -> int:
        """Room in the system's queue."""
        return self.free_values * self.value_bytes

    def close(self) -> None:
        """Disconnect when all is sent."""
        if not self._closing:
            self._closing = True
            if self.waiting:
                self._link.loop.call_later(_FLUSH_S, self.abort)
            else:
                self.abort()

    def abort(self) -> None:
        """Disconnect."""
        link = self._link
        other = link.peripheral if self is link.central else link.central
        link.end({self: None, other: LinkClosedError("the other device disconnected")})

    # -- the link's side ------------------------------------------------------------------------

    @property
    def has_more(self) -> bool:
        """True if it has something for the next connection event."""
        return bool(self.waiting) or self.overtaken is not None

    def take_overtaken(self) -> bytes | None:
        """The value that comes late."""
        value, self.overtaken = self.overtaken, None
        return value

    def packet_sent(self, packet_bytes: int) -> bytes | None:
        """Note that a packet was sent; return the value if this was its last one."""
        self._sent_bytes += packet_bytes
        if self._sent_bytes < len(self.waiting[0]) + _HEAD_BYTES:
            return None
        self._sent_bytes = 0
        value = self.waiting.popleft()
        if self._closing and not self.waiting:
            self._link.loop.call_soon(self.abort)
        self._link.loop.call_soon(self.tell_room)
        return value

    def received(self, value: bytes) -> None:
        """A value came."""
        if self._user is None:
            self._early.append(value)
        else:
            self._user.value_received(value)

    def tell_room(self) -> None:
        """More may be written."""
        if self._user is not None and not self._link.is_over:
            self._user.room_changed()

    def lost(self, error: OckamError | None) -> None:
        """The connection is over."""
        self._over.append(error)
        self.waiting.clear()
        if self._user is not None:
            self._link.loop.call_soon(self._tell_end)

    def _tell_end(self) -> None:
        user, self._user = self._user, None
        if user is not None:
            user.connection_lost(self._over[0])
