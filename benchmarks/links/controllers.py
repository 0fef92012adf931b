"""Bluetooth controllers that bumble emulates, in this process, under our radio without BlueZ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transports.ble.hci import HciRadio

_ACL_BYTES = 251


def obstacle() -> str | None:
    """What is missing."""
    try:
        import bumble.link  # noqa: F401
    except ImportError:
        return "pip install 'ockamlite[bumble]'"
    return None


class Controllers:
    """Controllers that hear each other; there is no radio between them, so nothing takes air time."""

    def __init__(self) -> None:
        from bumble import link

        made: Any = link
        self._link = made.LocalLink()

    def radio(self, number: int) -> HciRadio:
        """One more."""
        from transports.ble.hci import HciRadio

        return HciRadio(lambda: self._open(number))

    async def _open(self, number: int) -> Any:
        from bumble import hci
        from bumble.controller import Controller as Emulated
        from bumble.device import Device
        from bumble.host import Host
        from bumble.transport.common import AsyncPipeSink

        from transports.ble.hci_controller import Controller

        address = hci.Address(f"F0:F0:F0:F0:F0:{number:02X}")
        emulated: Any = Emulated(f"controller {number}", link=self._link, public_address=address)
        emulated.le_acl_data_packet_length = _ACL_BYTES
        device = Device(name="", address=address, host=Host(emulated, AsyncPipeSink(emulated)))

        async def close() -> None:
            self._link.remove_controller(emulated)
            emulated.link = None

        return Controller(device, close)
