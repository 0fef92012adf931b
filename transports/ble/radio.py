"""What a Bluetooth LE radio does for us, in both roles; bleak, BlueZ and the emulated air provide it.

A connection carries GATT values both ways: what one end writes the other end is told, whole, mostly in
order, mostly once. Values get lost where a system's queues overflow: what is reliable stands above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.errors import OckamError
    from transports.ble.gatt import Advertisement


MOST_CONNECTIONS: Final = 7
"""What adapters take at a time, in both roles together; with so many, most can no more be found."""
SUBSCRIBE_S: Final = 10.0
"""How long a peripheral lets a central be connected that does not subscribe."""
AGAIN_S: Final = (0.2, 1.0, 5.0)
"""Pauses before a peripheral whose radio went tries to serve again; the last one over and over."""


class ConnectFailedError(UnavailableError):
    """An attempt to connect failed as they do on the air: another may succeed.

    Attributes:
        pause_s: how long to wait before it, at least.
    """

    def __init__(self, message: str, *, pause_s: float = 0.1) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class ConnectionUser(Protocol):
    """What a connection tells the one who uses it."""

    def value_received(self, value: bytes) -> None:
        """A value came."""

    def room_changed(self) -> None:
        """More may be written, or longer values."""

    def connection_lost(self, error: OckamError | None) -> None:
        """It ended; called exactly once. ``error`` is None if our side closed it."""


class Connection(Protocol):
    """A connection to a device at whose GATT service one end is the client, the other the server."""

    @property
    def remote(self) -> str:
        """The other device: its name where it tells one, and its address."""

    @property
    def value_bytes(self) -> int:
        """The longest value that may be written now; grows once the MTU is agreed on."""

    def start(self, user: ConnectionUser) -> None:
        """Tell ``user`` what comes, and what has come."""

    def write_frame(self, frame: bytes) -> None:
        """Write one value, not longer than :attr:`value_bytes`."""

    def writable_bytes(self) -> int:
        """How much may be written now; ``room_changed`` follows if it is little."""

    def close(self) -> None:
        """Send what was written, for a short while, then disconnect."""

    def abort(self) -> None:
        """Disconnect at once."""


class Serving(Protocol):
    """A peripheral that advertises and takes connections."""

    async def close(self) -> None:
        """Advertise no more; connections stay."""


class Radio(Protocol):
    """One adapter, in both roles. Whoever uses it connects to one device at a time."""

    async def scan(self, heard: Callable[[Advertisement], bool]) -> None:
        """Tell ``heard`` of every device with our service, again and again, until it answers True.

        Raises:
            UnavailableError: no adapter, or it is off; says what to do.
        """

    async def connect(self, device: Advertisement) -> Connection:
        """Connect to a device of which a scan heard, find our service, check INFO and subscribe.

        Raises:
            ConnectFailedError: it failed as it may do on the air.
            RemoteError: it is not one of ours.
            UnavailableError: trying again will not help.
        """

    async def serve(self, name: str, accept: Callable[[Connection], None]) -> Serving:
        """Offer our service under ``name``; ``accept`` is given each central that subscribes.

        Raises:
            UnavailableError: no adapter, or it is off, or takes no more advertisements.
        """
