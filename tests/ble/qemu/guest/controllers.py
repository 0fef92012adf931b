"""The emulated part of the machine: controllers that the kernel takes for adapters, and the radio between.

bumble's, with what a real one does and they do not: answer a scan with the scan response, forget what was
being connected to when told to. Commands come by stdin, a line each: ``plug N``, ``pull N``, ``fade``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from bumble import hci, ll
from bumble.controller import Controller
from bumble.link import LocalLink
from bumble.transport import open_transport

ADDRESSES = ("00:AA:01:00:00:00", "00:AA:01:00:00:01", "00:AA:01:00:00:02")
_PACKET_BYTES = 251
_UNIT_MS = 0.625
_OUT_OF_RANGE = hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
_UNSUPPORTED = hci.LeFeatureMask.LL_PRIVACY | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
"""The kernel expects events of controllers that have these, which bumble's do not send."""
_Report = hci.HCI_LE_Advertising_Report_Event


class Air(LocalLink):
    """What the controllers share."""

    def send_acl_data(
        self, sender_controller: Any, destination_address: Any, transport: Any, data: bytes
    ) -> None:
        """Deliver data, from the address that the connection has, be it the public one."""
        connection = sender_controller.le_connections.get(destination_address)
        receiver = self.find_le_controller(destination_address)
        if connection is not None and receiver is not None:
            source = connection.self_address
            asyncio.get_running_loop().call_soon(lambda: receiver.on_link_acl_data(source, transport, data))

    def scan_response(self, address: Any) -> bytes:
        """What an advertiser tells who asks."""
        for controller in self.controllers:
            if controller.le_legacy_advertiser.address == address:
                return bytes(controller.le_legacy_advertiser.scan_response_data)
        return b""

    def fade(self) -> None:
        """Let every connection end as if its ends had gone out of range."""
        for controller in self.controllers:
            for connection in tuple(controller.le_connections.values()):
                controller.on_le_disconnected(connection, _OUT_OF_RANGE)


class Adapter(Controller):
    """A controller as the kernel expects it."""

    def __init__(self, number: int, transport: Any, air: Air) -> None:
        super().__init__(
            f"controller {number}",
            host_source=transport.source,
            host_sink=transport.sink,
            link=air,
            public_address=hci.Address(ADDRESSES[number], hci.Address.PUBLIC_DEVICE_ADDRESS),
        )
        self.air = air
        self.le_features &= ~_UNSUPPORTED
        self.le_acl_data_packet_length = _PACKET_BYTES
        self._heard: set[tuple[Any, bytes, bytes]] = set()

    def on_advertising_pdu(self, pdu: Any) -> None:
        """Report an advertisement and its scan response, each once a scan if duplicates are not wanted."""
        scanning, self.le_scan_enable = self.le_scan_enable, False
        try:
            super().on_advertising_pdu(pdu)
        finally:
            self.le_scan_enable = scanning
        if not scanning or not isinstance(pdu, ll.AdvInd):
            return
        response = self.air.scan_response(pdu.advertiser_address)
        heard = (pdu.advertiser_address, bytes(pdu.data), response)
        if self.filter_duplicates and heard in self._heard:
            return
        self._heard.add(heard)
        for kind, data in ((_Report.EventType.ADV_IND, pdu.data), (_Report.EventType.SCAN_RSP, response)):
            report = _Report.Report(
                event_type=kind,
                address_type=pdu.advertiser_address.address_type,
                address=pdu.advertiser_address,
                data=data,
                rssi=-50,
            )
            self.send_hci_packet(_Report([report]))

    def on_hci_le_set_scan_enable_command(self, command: Any) -> Any:
        """A scan forgets what it reported before."""
        self._heard.clear()
        return super().on_hci_le_set_scan_enable_command(command)

    def on_hci_le_set_advertising_parameters_command(self, command: Any) -> Any:
        """The interval comes in units."""
        result = super().on_hci_le_set_advertising_parameters_command(command)
        self.le_legacy_advertiser.advertising_interval_min = command.advertising_interval_min * _UNIT_MS
        return result

    def on_hci_le_create_connection_cancel_command(self, command: Any) -> Any:
        """Say that there will be no connection, and be ready for the next."""
        wanted, self.pending_le_connection = self.pending_le_connection, None
        if wanted is not None:
            self.send_hci_packet(
                hci.HCI_LE_Connection_Complete_Event(
                    status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
                    connection_handle=0,
                    role=hci.Role.CENTRAL,
                    peer_address_type=wanted.peer_address_type,
                    peer_address=wanted.peer_address,
                    connection_interval=0,
                    peripheral_latency=0,
                    supervision_timeout=0,
                    central_clock_accuracy=0,
                )
            )
        return super().on_hci_le_create_connection_cancel_command(command)

    def on_hci_reset_command(self, command: Any) -> Any:
        """Be as after power-on."""
        self.le_legacy_advertiser.stop()
        self.le_scan_enable = False
        self.pending_le_connection = None
        return super().on_hci_reset_command(command)


class Room:
    """The controllers that are plugged in."""

    def __init__(self) -> None:
        self._air = Air()
        self._open: dict[int, tuple[Adapter, Any]] = {}

    async def plug(self, number: int) -> None:
        """Give the kernel a controller."""
        transport = await open_transport("vhci")
        self._open[number] = Adapter(number, transport, self._air), transport

    async def pull(self, number: int) -> None:
        """Take a controller away; what it was connected to hears no more of it."""
        adapter, transport = self._open.pop(number)
        adapter.le_legacy_advertiser.stop()
        for other in self._air.controllers - {adapter}:
            for connection in tuple(other.le_connections.values()):
                if connection.peer_address == adapter.public_address:
                    other.on_le_disconnected(connection, _OUT_OF_RANGE)
        self._air.remove_controller(adapter)
        adapter.host = None
        await transport.close()

    async def obey(self, command: str) -> None:
        """Do what a line says."""
        match command.split():
            case ["plug", number]:
                await self.plug(int(number))
            case ["pull", number]:
                await self.pull(int(number))
            case ["fade"]:
                self._air.fade()
            case _:
                raise ValueError(command)


async def main() -> None:
    """Obey until stdin ends."""
    loop = asyncio.get_running_loop()
    room = Room()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        await room.obey(line.decode())
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
