"""Bluetooth controllers that bumble emulates in this process, for our radio without BlueZ.

What is above HCI is real: bumble's host, L2CAP, ATT and GATT, and bleak above them. Below it there is no
radio, and nothing takes air time. Needs the extra ``bumble``.
"""

from __future__ import annotations

from typing import Any, Final

from bumble import hci, link, ll
from bumble.controller import Controller as Emulated
from bumble.device import Device
from bumble.host import Host
from bumble.transport.common import AsyncPipeSink

from ockamlite.errors import UnavailableError
from transports.ble.hci import HciRadio
from transports.ble.hci_controller import Controller

_PACKET_BYTES: Final = 251
"""What a controller takes at once: a link-layer packet of the usual length."""


class Controllers:
    """Emulated controllers that hear each other; each is plugged in until it is pulled out."""

    def __init__(self) -> None:
        self.open: dict[int, Any] = {}
        """The devices of those that are used now, as bumble has them, by number."""
        made: Any = link
        self._link = made.LocalLink()
        self._radios: dict[int, HciRadio] = {}
        self._pulled: set[int] = set()

    def radio(self, number: int) -> HciRadio:
        """The radio with a controller, of address ``F0:F0:F0:F0:F0:`` and its number."""
        if number not in self._radios:
            self._radios[number] = HciRadio(lambda: self._open(number))
        return self._radios[number]

    def pull(self, number: int) -> None:
        """Pull a controller out."""
        self._pulled.add(number)
        device = self.open.get(number)
        if device is not None:
            device.host.on_transport_lost()

    def plug(self, number: int) -> None:
        """Plug it in again."""
        self._pulled.discard(number)

    async def _open(self, number: int) -> Controller:
        if number in self._pulled:
            raise UnavailableError(f"controller {number} is not plugged in")
        address = hci.Address(f"F0:F0:F0:F0:F0:{number:02X}")
        emulated: Any = _Emulated(f"controller {number}", link=self._link, public_address=address)
        emulated.le_acl_data_packet_length = _PACKET_BYTES
        device = Device(name="", address=address, host=Host(emulated, AsyncPipeSink(emulated)))
        self.open[number] = device

        async def close() -> None:
            del self.open[number]
            for connection in emulated.le_connections.values():  # what the supervision time-out would do
                connection.send_ll_control_pdu(ll.TerminateInd(hci.HCI_CONNECTION_TIMEOUT_ERROR))
            self._link.remove_controller(emulated)
            emulated.link = None  # what is left of it advertises no more

        return Controller(device, close)


class _Emulated(Emulated):  # type: ignore[misc, unused-ignore]  # bumble may be absent
    """One that ends an attempt to connect when it is told to, as real ones do."""

    def on_hci_le_create_connection_cancel_command(self, command: Any) -> Any:
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is not None:
            ended = hci.HCI_LE_Connection_Complete_Event(
                status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
                connection_handle=0,
                role=hci.Role.CENTRAL,
                peer_address_type=pending.peer_address_type,
                peer_address=pending.peer_address,
                connection_interval=0,
                peripheral_latency=0,
                supervision_timeout=0,
                central_clock_accuracy=0,
            )
            self.send_hci_packet(ended)
        return super().on_hci_le_create_connection_cancel_command(command)
