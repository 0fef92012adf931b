"""The radio of this machine: bleak as a central, BlueZ as a peripheral, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transports.ble.gatt import Advertisement
    from transports.ble.radio import Connection, Radio, Serving


class SystemRadio:
    """See :class:`transports.ble.radio.Radio`.

    Args:
        adapter: ``hci1``; empty for the first that is powered.
    """

    def __init__(self, adapter: str = "") -> None:
        self._adapter = adapter
        self._central_part: Radio | None = None

    async def scan(self, heard: Callable[[Advertisement], bool]) -> None:
        """Hear who advertises."""
        await self._central().scan(heard)

    async def connect(self, device: Advertisement) -> Connection:
        """Connect to a device."""
        return await self._central().connect(device)

    async def serve(self, name: str, accept: Callable[[Connection], None]) -> Serving:
        """Advertise and accept."""
        try:
            from transports.ble.peripheral import Peripheral
        except ImportError as error:
            raise _missing("dbus-fast") from error
        return await Peripheral.start(self._adapter, name, accept)

    def _central(self) -> Radio:
        if self._central_part is None:
            try:
                from transports.ble.central import BleakCentral
            except ImportError as error:
                raise _missing("bleak") from error
            self._central_part = BleakCentral(self._adapter)
        return self._central_part


def _missing(package: str) -> UnavailableError:
    return UnavailableError(f"the package {package} is not installed", hint=f"pip install '{package}'")
