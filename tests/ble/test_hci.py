"""Both roles on controllers of our own: the central over bleak's public interface, bumble below it.

Here the controllers are bumble's emulated ones, in this process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest
from bleak import BleakClient, BleakScanner
from bleak.exc import BleakError, BleakGATTProtocolError

from ockamlite.errors import LinkBrokenError, LinkClosedError, UnavailableError
from ockamlite.identities.local import LocalIdentity
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.endpoint import Endpoint
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers
from transports.ble import BleTransport, gatt

pytest.importorskip("bumble", reason="needs bumble: pip install 'ockamlite[bumble]'")

from bumble.device import Device
from bumble.host import Host

from boards.emulation.controllers import Controllers
from transports.ble import hci as hci_radio
from transports.ble import hci_serving
from transports.ble.hci import HciRadio
from transports.ble.hci_bleak import backends
from transports.ble.hci_controller import Controller

if TYPE_CHECKING:
    from collections.abc import Callable


class Room(Controllers):
    """Controllers that hear each other, and what is accepted by those that listen."""

    def __init__(self, end: Callable[[Any], Any]) -> None:
        super().__init__()
        self.accepted: list[Any] = []
        self.came = asyncio.Event()
        self._end = end

    def transport(self, number: int) -> BleTransport:
        return BleTransport(LIMITS, self.radio(number), search_s=2)

    def accept(self, link: Any) -> None:
        self.accepted.append(self._end(link))
        self.came.set()

    async def listen(self, transport: BleTransport, name: str = "pi") -> Any:
        return await transport.listen(Endpoint.parse(f"ble:{name}"), self.accept)

    async def dial(self, number: int, to: str = "pi") -> Any:
        return await self.dial_by(self.transport(number), to)

    async def dial_by(self, transport: BleTransport, to: str = "pi") -> Any:
        return self._end(await transport.connect(Endpoint.parse(f"ble:{to}")))

    async def wait_accepted(self, count: int) -> Any:
        while len(self.accepted) < count:
            self.came.clear()
            await self.came.wait()
        return self.accepted[count - 1]

    async def end(self, listener: Any, *ends: Any) -> None:
        """Close what is open; no controller stays open behind it."""
        for end in ends:
            end.link.close()
            await end.closed
        await listener.close()
        await self.all_closed()

    async def all_closed(self) -> None:
        async with asyncio.timeout(10):
            while self.open:
                await asyncio.sleep(0.05)


@pytest.fixture
def room(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setattr(hci_radio, "UNUSED_S", 0.1)
    # What its emulated controllers say when both ends disconnect at once.
    logging.getLogger("bumble").setLevel(logging.CRITICAL)
    return Room(receiver)


async def test_messages_arrive_once_and_in_order_from_several_centrals(
    room: Room, messages: Callable[..., list[bytes]]
) -> None:
    listener = await room.listen(room.transport(1))
    ends = []
    for count, number in enumerate((2, 3), 1):
        here = await room.dial(number)
        there = await room.wait_accepted(count)
        assert here.link.remote == "pi (F0:F0:F0:F0:F0:01)"
        assert there.link.remote == f"F0:F0:F0:F0:F0:{number:02X}"
        ends.append((here, there))
    up, down = messages(60, seed=1), messages(60, seed=2)
    for here, there in ends:
        await asyncio.gather(here.send_all(up), there.send_all(down))
        assert await there.wait_frames(60) == up
        assert await here.wait_frames(60) == down
    await listener.close()
    for here, there in ends:
        here.link.close()
        assert await here.closed is None
        assert isinstance(await there.closed, LinkClosedError)
    await room.all_closed()


async def test_a_central_that_is_switched_off_breaks_its_link(room: Room) -> None:
    listener = await room.listen(room.transport(1))
    here = await room.dial(2, "*")
    there = await room.wait_accepted(1)
    for connection in tuple(room.open[2].connections.values()):
        await connection.disconnect()
    assert isinstance(await here.closed, LinkBrokenError)
    assert isinstance(await there.closed, LinkBrokenError)
    again = await room.dial(2)
    again.link.send(b"", b"again")
    assert await (await room.wait_accepted(2)).wait_frames(1) == [b"again"]
    await room.end(listener, again)


async def test_one_controller_listens_and_dials(room: Room) -> None:
    middle, far = room.transport(1), room.transport(2)
    listeners = [await room.listen(middle, "middle"), await room.listen(far, "far")]
    onward = await room.dial_by(middle, "far")
    back = await room.dial_by(room.transport(3), "middle")
    for count, here in enumerate((onward, back), 1):
        here.link.send(b"", b"hello")
        assert await (await room.wait_accepted(count)).wait_frames(1) == [b"hello"]
    for here in (onward, back):
        here.link.close()
        await here.closed
    for listener in listeners:
        await listener.close()
    await room.all_closed()


async def test_who_stops_to_listen_does_not_stop_others_who_use_the_controller(room: Room) -> None:
    _, scanner = backends(room.radio(3))
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    first = BleakScanner(backend=scanner)
    second = BleakScanner(lambda device, _: heard.put_nowait(device.name), backend=scanner)
    await first.start()
    async with second:
        await first.stop()
        listener = await room.listen(room.transport(1))
        async with asyncio.timeout(5):
            assert await heard.get() == "pi"
    await room.end(listener)


async def test_a_listener_that_is_opened_again_has_one_service(room: Room) -> None:
    transport = room.transport(1)
    await (await room.listen(transport)).close()
    listener = await room.listen(transport, "renamed")
    with pytest.raises(UnavailableError, match="advertises as 'renamed' already"):
        await room.listen(transport)
    here = await room.dial(2, "renamed")
    here.link.send(b"", b"hello")
    assert await (await room.wait_accepted(1)).wait_frames(1) == [b"hello"]
    await room.end(listener, here)


async def test_a_controller_that_is_pulled_out_breaks_its_links_and_serves_again_when_it_is_back(
    room: Room,
) -> None:
    listener = await room.listen(room.transport(1))
    here = await room.dial(2)
    there = await room.wait_accepted(1)
    pulled = room.open[1]
    room.pull(1)
    assert isinstance(await there.closed, LinkBrokenError)
    assert isinstance(await here.closed, LinkBrokenError)
    room.plug(1)
    again = await room.dial(2)
    assert room.open[1] is not pulled
    again.link.send(b"", b"again")
    assert await (await room.wait_accepted(2)).wait_frames(1) == [b"again"]
    await room.end(listener, again)


async def test_a_portal_between_nodes_with_controllers_of_their_own_is_whole(
    room: Room, website: Any
) -> None:
    nodes = [
        Node(identity=LocalIdentity.ephemeral(1_700_000_000), transports=[room.transport(number)])
        for number in (1, 2)
    ]
    async with nodes[0] as pi, nodes[1] as laptop:
        listener = await pi.listen("ble:pi")
        channels = pi.secure_channel_listener(trust=TrustEveryone())
        pi.open(channels.address, listener)
        pi.open(pi.outlet(f"tcp:127.0.0.1:{website.port}").address, channels)
        path = laptop.path(
            "ble:pi,secure:secure_channel_listener,outlet", trust=TrustIdentifiers(pi.identity.identifier)
        )
        inlet = await laptop.inlet("tcp:127.0.0.1:0", path)
        assert await website.fetch(inlet.port) == website.page
        for link in tuple(room.open[2].connections.values()):
            await link.disconnect()
        await path.wait(10)
        assert await website.fetch(inlet.port) == website.page
    await room.all_closed()


async def test_a_device_that_nobody_hears_is_unavailable_and_the_controller_is_closed(room: Room) -> None:
    with pytest.raises(UnavailableError, match="no device 'pi'"):
        await room.dial(2)
    await room.all_closed()


async def test_a_controller_that_cannot_be_opened_is_named() -> None:
    transport = BleTransport(LIMITS)
    for name in ("serial:/dev/no-such-controller", "nonsense:1"):
        with pytest.raises(UnavailableError, match=name) as caught:
            await transport.connect(Endpoint("ble", "pi", (("hci", name),)))
        assert "plugged in" in caught.value.hint


class Mute:
    """What answers no command, as a wrong device on a serial line does."""

    def on_packet(self, packet: bytes) -> None:
        pass


async def test_a_controller_that_says_nothing_is_told_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hci_radio, "START_S", 0.2)
    closed = []

    async def open_one() -> Controller:
        async def close() -> None:
            closed.append(True)

        return Controller(Device(name="", host=Host(None, Mute())), close)

    radio = HciRadio(open_one)
    with pytest.raises(UnavailableError, match="does not start: no answer within 0.2 s"):
        await BleTransport(LIMITS, radio).listen(Endpoint.parse("ble:pi"), lambda _: None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await radio.hold()
    assert closed == [True, True]


async def test_a_central_that_floods_does_not_keep_others_from_talking(
    room: Room, messages: Callable[..., list[bytes]]
) -> None:
    limits = dataclasses.replace(LIMITS, link_hello_s=1)
    listener = await room.listen(BleTransport(limits, room.radio(1)))
    here = await room.dial(2)
    there = await room.wait_accepted(1)
    client, scanner = backends(room.radio(3))
    device = await BleakScanner.find_device_by_name("pi", backend=scanner)
    assert device is not None
    draw, over = random.Random(3), asyncio.Event()
    hostile = BleakClient(device, lambda _: over.set(), backend=client)
    await hostile.connect()
    await hostile.start_notify(gatt.TX, lambda *_: None)

    async def flood() -> int:
        written = 0
        while not over.is_set():
            try:
                await hostile.write_gatt_char(gatt.RX, draw.randbytes(400), response=False)
            except BleakError:
                break
            written += 1
        return written

    flooding = asyncio.ensure_future(flood())
    sent = messages(100)
    await here.send_all(sent)
    assert await there.wait_frames(100) == sent
    assert await flooding > 100
    assert len(room.accepted) == 1
    await room.end(listener, here)


async def test_a_central_that_does_not_subscribe_is_disconnected(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hci_serving, "SUBSCRIBE_S", 0.2)
    listener = await room.listen(room.transport(1))
    client, scanner = backends(room.radio(2))
    device = await BleakScanner.find_device_by_name("pi", backend=scanner)
    assert device is not None
    over = asyncio.Event()
    idle = BleakClient(device, lambda _: over.set(), backend=client)
    await idle.connect()
    async with asyncio.timeout(5):
        await over.wait()
    assert not room.accepted
    await room.end(listener)


# -- what bleak's users see ------------------------------------------------------------------------


async def test_bleaks_public_calls_work(room: Room) -> None:
    listener = await room.listen(room.transport(1))
    client, scanner = backends(room.radio(2))
    device = await BleakScanner.find_device_by_name("pi", backend=scanner, service_uuids=[gatt.SERVICE])
    assert device is not None
    assert device.address == "F0:F0:F0:F0:F0:01"
    left: list[object] = []
    async with BleakClient(device, left.append, services=[gatt.SERVICE], backend=client) as central:
        assert central.is_connected
        assert (central.name, central.mtu_size) == ("pi", 517)
        assert [service.uuid for service in central.services] == [gatt.SERVICE]
        rx, tx = (central.services.get_characteristic(uuid) for uuid in (gatt.RX, gatt.TX))
        assert rx is not None
        assert tx is not None
        assert rx.properties == ["write-without-response", "write"]
        assert rx.max_write_without_response_size == 514
        assert tx.properties == ["notify"]
        assert [descriptor.uuid[4:8] for descriptor in tx.descriptors] == ["2902"]
        assert bytes(await central.read_gatt_char(gatt.INFO)) == gatt.encode_info()
        await central.read_gatt_descriptor(tx.descriptors[0].handle)
        with pytest.raises(BleakGATTProtocolError):
            await central.read_gatt_char(tx)
        with pytest.raises(BleakError, match="a value of 515 bytes, 514"):
            await central.write_gatt_char(rx, bytes(515), response=False)
        with pytest.raises(BleakError, match="paired"):
            await central.pair()
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        await central.start_notify(tx, lambda _, value: heard.put_nowait(bytes(value)))
        async with asyncio.timeout(5):
            hello = await heard.get()
            assert hello[0] >> 5 == 1
        await central.write_gatt_char(rx, b"no frame", response=True)
        await central.write_gatt_char(rx, b"no frame", response=False)
        await central.stop_notify(tx)
    assert left == [central]
    assert not central.is_connected
    with pytest.raises(BleakError):
        await central.write_gatt_char(gatt.RX, b"too late", response=False)
    await room.end(listener)


async def test_a_device_that_goes_while_it_is_asked_is_an_error_and_no_cancelled_task(room: Room) -> None:
    listener = await room.listen(room.transport(1))
    client, scanner = backends(room.radio(2))
    device = await BleakScanner.find_device_by_name("pi", backend=scanner)
    assert device is not None

    def leave(link: Any) -> None:
        link.once("connection_att_mtu_update", lambda: asyncio.ensure_future(link.disconnect()))

    room.open[1].on("connection", leave)
    with pytest.raises(BleakError, match="disconnected"):
        await BleakClient(device, backend=client).connect()
    await room.end(listener)


async def test_a_connection_that_somebody_else_made_is_not_taken_for_the_one_that_was_wanted(
    room: Room,
) -> None:
    listener = await room.listen(room.transport(1))
    client, _ = backends(room.radio(1))
    wanted = asyncio.ensure_future(BleakClient("F0:F0:F0:F0:F0:09", backend=client).connect())
    here = await room.dial(2)
    with pytest.raises(BleakError, match="another device connected"):
        await wanted
    here.link.send(b"", b"hello")
    assert await (await room.wait_accepted(1)).wait_frames(1) == [b"hello"]
    await room.end(listener, here)


async def test_answers_without_sense_of_a_hostile_device_are_errors_of_bleak(room: Room) -> None:
    listener = await room.listen(room.transport(1))
    client, scanner = backends(room.radio(2))
    device = await BleakScanner.find_device_by_name("pi", backend=scanner)
    assert device is not None
    server = room.open[1].gatt_server
    sensible, draw, seen = server.send_response, random.Random(11), set()

    def senseless(bearer: Any, response: Any) -> None:
        data = bytearray(bytes(response))
        match draw.randrange(8):
            case 0:
                data[1] = draw.choice((0, 1, 2, 3, 5, 7, 20, 255))  # how long each part of a list is
            case 1:
                del data[draw.randrange(1, len(data)) :]
            case 2:
                data[draw.randrange(1, len(data))] = draw.randrange(256)
            case _:
                pass
        server.send_gatt_pdu(bearer, bytes(data))

    server.send_response = senseless
    patience_s = 0.1
    async with asyncio.timeout(50):
        for attempt in itertools.count():
            if attempt >= 50 and BleakError in seen:
                break
            try:
                async with asyncio.timeout(patience_s), BleakClient(device, backend=client) as central:
                    await central.read_gatt_char(gatt.INFO)
            except BleakError:
                seen.add(BleakError)
            except TimeoutError:
                # Some answers leave the question waiting; on a busy machine every one takes longer.
                patience_s *= 1 if BleakError in seen else 1.1
    server.send_response = sensible
    here = await room.dial(2)
    here.link.send(b"", b"hello")
    assert await (await room.wait_accepted(1)).wait_frames(1) == [b"hello"]
    await room.end(listener, here)


async def test_an_attempt_that_is_cancelled_leaves_the_controller_fit_for_the_next_one(room: Room) -> None:
    listener = await room.listen(room.transport(1))
    radio = room.radio(2)
    client, scanner = backends(radio)
    device = await BleakScanner.find_device_by_name("pi", backend=scanner)
    assert device is not None
    await listener.close()
    with pytest.raises(TimeoutError):
        await BleakClient(device, backend=client, timeout=0.1).connect()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await BleakClient(device, backend=client).connect()
    listener = await room.listen(room.transport(1))
    async with asyncio.timeout(5), BleakClient(device, backend=client) as central:
        assert central.is_connected
    await room.end(listener)


async def test_what_may_not_be_written_cannot_be_changed_by_anybody(room: Room) -> None:
    listener = await room.listen(room.transport(1))
    client, scanner = backends(room.radio(2))
    device = await BleakScanner.find_device_by_name("pi", backend=scanner)
    assert device is not None
    async with BleakClient(device, backend=client) as hostile:
        info: Any = hostile.services.get_characteristic(gatt.INFO)
        refused = 0
        for attribute in room.open[1].gatt_server.attributes:
            info.obj.handle = attribute.handle  # declarations as well, which no client offers to write
            try:
                await hostile.write_gatt_char(info, b"mine", response=True)
            except BleakGATTProtocolError:
                refused += 1
        assert refused > 10
    here = await room.dial(3)
    here.link.send(b"", b"hello")
    assert await (await room.wait_accepted(1)).wait_frames(1) == [b"hello"]
    await room.end(listener, here)
