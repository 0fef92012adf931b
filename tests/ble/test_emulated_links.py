"""Links over the emulated air, in virtual time: what is sent arrives once and in order, or the link ends."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import AirModel
from ockamlite.cbor import bytes_head
from ockamlite.errors import (
    AnswerTimeoutError,
    LinkBrokenError,
    LinkClosedError,
    UnavailableError,
    UsageError,
)
from ockamlite.limits import LIMITS
from ockamlite.routing.codec import decode_message, encode_message_head
from ockamlite.routing.endpoint import Endpoint
from ockamlite.routing.route import Route
from transports.ble.gatt import Advertisement

if TYPE_CHECKING:
    from collections.abc import Callable

    World = Any
    Virtual = Callable[[Callable[[], Any]], None]

MODELS = {
    "clean": AirModel(),
    "smallest MTU": AirModel(mtu=23),
    "MTU grows": AirModel(mtu_exchange_s=0.2),
    "packets repeated": AirModel(packet_loss=0.1),
    "values lost": AirModel(notification_loss=0.03, write_loss=0.03),
    "values swapped": AirModel(swapped=0.1),
    "slow": AirModel(interval_s=0.06, packets_per_event=2),
    "all at once": AirModel(mtu=185, packet_loss=0.05, notification_loss=0.02, write_loss=0.02, swapped=0.05),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_messages_arrive_once_and_in_order_both_ways(
    world: type[World], virtual: Virtual, messages: Callable[..., list[bytes]], model: AirModel
) -> None:
    up, down = messages(40, seed=1), messages(40, seed=2)

    async def body() -> None:
        air = world(model)
        listener = await air.listen()
        here = await air.dial()
        there = await air.wait_accepted()
        await asyncio.gather(here.send_all(up), there.send_all(down))
        assert await there.wait_frames(len(up)) == up
        assert await here.wait_frames(len(down)) == down
        here.link.close()
        assert isinstance(await there.closed, LinkClosedError)
        await listener.close()

    virtual(body)


def test_what_goes_to_one_worker_keeps_its_order_however_short_the_values_are(
    world: type[World], virtual: Virtual
) -> None:
    """A long message in many fragments is not passed by a short one that another worker sends."""
    payloads = [bytes(2000), b"", bytes(700), b"", b"x", bytes(3000), b"y"]

    async def body() -> None:
        air = world(AirModel(mtu=23))
        await air.listen()
        here = await air.dial()
        there = await air.wait_accepted()
        for number, payload in enumerate(payloads):
            head = encode_message_head(Route.of("worker"), Route.of(f"asker{number}" + "r" * 40))
            here.link.send(head + bytes_head(len(payload)), payload)
        frames = await there.wait_frames(len(payloads))
        assert [bytes(decode_message(memoryview(frame))[2]) for frame in frames] == payloads

    virtual(body)


def test_the_same_seed_gives_the_same_events(
    world: type[World], virtual: Virtual, messages: Callable[..., list[bytes]]
) -> None:
    runs: list[list[Any]] = []

    async def body() -> None:
        air = world(AirModel(notification_loss=0.02, packet_loss=0.1, swapped=0.02), seed=5)
        await air.listen()
        here = await air.dial()
        there = await air.wait_accepted()
        await asyncio.gather(here.send_all(messages(20)), there.send_all(messages(20)))
        await here.wait_frames(20)
        await there.wait_frames(20)
        runs.append(air.events)

    virtual(body)
    virtual(body)
    assert len(runs[0]) > 100
    assert runs[0] == runs[1]


def test_the_first_message_arrives_within_a_second_and_a_half_of_the_search(
    world: type[World], virtual: Virtual
) -> None:
    async def body() -> None:
        for seed in range(20):
            air = world(AirModel(mtu_exchange_s=0.05), seed=seed)
            listener = await air.listen()
            began = asyncio.get_running_loop().time()
            here = await air.dial()
            here.link.send(b"", b"first")
            there = await air.wait_accepted()
            assert await there.wait_frames(1) == [b"first"]
            assert asyncio.get_running_loop().time() - began <= 1.5
            await listener.close()

    virtual(body)


def test_bulk_reaches_85_percent_of_what_the_radio_carries(world: type[World], virtual: Virtual) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        air = world(AirModel(interval_s=0.015, packets_per_event=6))
        await air.listen()
        here = await air.dial()
        there = await air.wait_accepted()
        for sender, receiver in ((here, there), (there, here)):
            began = loop.time()
            await sender.send_all([bytes(10_000)] * 50)
            await receiver.wait_frames(50)
            rate = 500_000 / (loop.time() - began)
            assert rate >= 0.85 * 6 * 251 / 0.015 * (495 / 502)

    virtual(body)


@pytest.mark.parametrize("way", ["pi", "C0:DE:00:00:00:01", "c0de00000001", "*"])
def test_a_device_is_found_by_name_address_or_service(world: type[World], virtual: Virtual, way: str) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        here = await air.dial(way)
        assert here.link.remote == "pi (C0:DE:00:00:00:01)"
        assert here.link.endpoint == f"ble:{way}"
        there = await air.wait_accepted()
        assert there.link.endpoint == "ble:pi"

    virtual(body)


def test_a_device_that_nobody_hears_is_unavailable_after_ten_seconds(
    world: type[World], virtual: Virtual
) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        began = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError, match="ble:nobody.*no device 'nobody'") as caught:
            await air.dial("nobody")
        assert "ockamlite scan" in caught.value.hint
        assert asyncio.get_running_loop().time() - began == pytest.approx(10)

    virtual(body)


def test_connecting_is_tried_again_with_pauses(world: type[World], virtual: Virtual) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        air.air.failures.extend(["le-connection-abort-by-local", "in progress", "connection abort"])
        await air.dial()
        assert asyncio.get_running_loop().time() < 10

    virtual(body)


def test_after_four_failures_the_device_is_given_up_and_then_left_alone_for_a_while(
    world: type[World], virtual: Virtual
) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        loop = asyncio.get_running_loop()
        transport = air.transport(air.air.radio())
        air.air.failures.extend(["software caused connection abort"] * 4)
        with pytest.raises(UnavailableError, match="cannot be connected to: software caused"):
            await transport.connect(Endpoint.parse("ble:pi"))
        assert not air.air.failures
        failed = loop.time()
        await transport.connect(Endpoint.parse("ble:pi"))
        assert 5 <= loop.time() - failed < 6

    virtual(body)


def test_nobody_scans_while_the_adapter_connects(world: type[World], virtual: Virtual) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        radio = air.air.radio()
        transport = air.transport(radio)
        scanning: list[int] = []
        opening = radio.connect

        async def connect(device: Advertisement) -> Any:
            scanning.append(len(radio.scans))
            return await opening(device)

        radio.connect = connect
        missing = asyncio.ensure_future(transport.connect(Endpoint.parse("ble:missing")))
        await asyncio.sleep(0.05)
        assert len(radio.scans) == 1
        await transport.connect(Endpoint.parse("ble:pi"))
        assert scanning == [0]
        with pytest.raises(UnavailableError, match="missing"):
            await missing

    virtual(body)


def test_an_adapter_makes_one_connection_at_a_time(world: type[World], virtual: Virtual) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        radio = air.air.radio()
        transport = air.transport(radio)
        under_way: list[int] = []
        most: list[int] = []
        opening = radio.connect

        async def connect(device: Advertisement) -> Any:
            under_way.append(1)
            most.append(len(under_way))
            try:
                return await opening(device)
            finally:
                under_way.pop()

        radio.connect = connect
        dialled = (transport.connect(Endpoint.parse("ble:pi")) for _ in range(3))
        links = await asyncio.gather(*dialled)
        assert most == [1, 1, 1]
        for link in links:
            link.close()

    virtual(body)


def test_seven_centrals_are_served_at_once(
    world: type[World], virtual: Virtual, messages: Callable[..., list[bytes]]
) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        ends = await asyncio.gather(*(air.dial() for _ in range(7)))
        await air.wait_accepted(7)
        sent = {end: messages(10, seed=number) for number, end in enumerate(ends)}
        await asyncio.gather(*(end.send_all(sent[end]) for end in ends))
        for _ in range(1000):
            if all(len(there.frames) == 10 for there in air.accepted):
                break
            await asyncio.sleep(0.1)
        assert sorted(there.frames for there in air.accepted) == sorted(sent.values())
        assert len({there.link.remote for there in air.accepted}) == 7
        with pytest.raises(UnavailableError, match="as many connections as it takes"):
            await air.dial()

    virtual(body)


def test_a_device_out_of_range_is_noticed_by_both_ends(world: type[World], virtual: Virtual) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        here = await air.dial()
        there = await air.wait_accepted()
        air.air.silence(air.pi_radio.address)
        began = asyncio.get_running_loop().time()
        for end in (here, there):
            error = await end.closed
            assert isinstance(error, LinkBrokenError)
            assert "nothing was heard" in str(error)
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)

    virtual(body)


def test_out_of_range_for_less_than_the_supervision_timeout_loses_nothing(
    world: type[World], virtual: Virtual, messages: Callable[..., list[bytes]]
) -> None:
    sent = messages(100)

    async def body() -> None:
        air = world()
        await air.listen()
        here = await air.dial()
        there = await air.wait_accepted()
        sending = asyncio.ensure_future(here.send_all(sent))
        for _ in range(3):
            await asyncio.sleep(0.3)
            air.air.silence(air.pi_radio.address)
            await asyncio.sleep(1.5)
            air.air.restore(air.pi_radio.address)
        await sending
        assert await there.wait_frames(100) == sent

    virtual(body)


def test_a_device_that_comes_back_after_half_a_minute_is_dialled_again(
    world: type[World], virtual: Virtual
) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        here = await air.dial()
        await air.wait_accepted()
        air.air.silence(air.pi_radio.address)
        assert isinstance(await here.closed, LinkBrokenError)
        redialled = asyncio.ensure_future(air.dial())
        await asyncio.sleep(5)
        air.air.restore(air.pi_radio.address)
        again = await redialled
        again.link.send(b"", b"back")
        assert await (await air.wait_accepted(2)).wait_frames(1) == [b"back"]

    virtual(body)


def test_a_connection_that_the_system_ends_is_a_broken_link(world: type[World], virtual: Virtual) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        radio = air.air.radio()
        here = await air.dial(radio=radio)
        there = await air.wait_accepted()
        air.air.disconnect(radio.address, air.pi_radio.address)
        assert isinstance(await here.closed, LinkBrokenError)
        assert isinstance(await there.closed, LinkBrokenError)

    virtual(body)


def test_an_idle_link_stays_for_an_hour(world: type[World], virtual: Virtual) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        here = await air.dial()
        there = await air.wait_accepted()
        await asyncio.sleep(3600)
        here.link.send(b"", b"still here")
        assert await there.wait_frames(1) == [b"still here"]
        values = len(air.of("value"))
        assert values <= 4 * 3600 / 5 + 20, "a sign of life each way every five seconds at most"

    virtual(body)


def test_a_listener_that_is_closed_is_found_no_more_but_its_links_stay(
    world: type[World], virtual: Virtual
) -> None:
    async def body() -> None:
        air = world()
        listener = await air.listen()
        here = await air.dial()
        there = await air.wait_accepted()
        await listener.close()
        with pytest.raises(UnavailableError):
            await air.dial()
        here.link.send(b"", b"hello")
        assert await there.wait_frames(1) == [b"hello"]

    virtual(body)


@pytest.mark.parametrize("garbage", [b"", b"\x00", b"\xff" * 20, b"\x60" * 495, b"\x20\x01" + b"\x00" * 18])
def test_a_central_that_writes_garbage_at_full_rate_neither_harms_nor_stays(
    world: type[World], virtual: Virtual, garbage: bytes
) -> None:
    async def body() -> None:
        air = world()
        await air.listen()
        good = await air.dial()
        radio = air.air.radio()
        bad = await radio.connect(Advertisement(air.pi_radio.address, "", (), 0))
        ended = Flood(bad, garbage)
        bad.start(ended)
        there = await air.wait_accepted()
        good.link.send(b"", b"hello")
        assert await there.wait_frames(1) == [b"hello"]
        await ended.over
        assert len(air.accepted) == 1
        good.link.send(b"", b"again")
        assert await there.wait_frames(2) == [b"hello", b"again"]

    virtual(body)


class Flood:
    """Writes whenever there is room."""

    def __init__(self, connection: Any, value: bytes) -> None:
        self._connection = connection
        self._value = value
        self.over: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.room_changed()

    def value_received(self, value: bytes) -> None:
        pass

    def room_changed(self) -> None:
        while self._connection.writable_bytes():
            self._connection.write_frame(self._value)

    def connection_lost(self, error: object) -> None:
        self.over.set_result(error)


def test_a_device_that_never_begins_the_link_is_given_up(world: type[World], virtual: Virtual) -> None:
    async def body() -> None:
        air = world(limits=dataclasses.replace(LIMITS, link_hello_s=3))
        silent = air.air.radio()
        kept: list[Any] = []
        await silent.serve("mute", kept.append)
        with pytest.raises(AnswerTimeoutError, match="did not begin the link within 3 s"):
            await air.dial("mute")
        assert not air.air.radio().links

    virtual(body)


def test_a_dial_that_is_cancelled_leaves_no_connection(world: type[World], virtual: Virtual) -> None:
    async def body() -> None:
        for after in (0.01, 0.1, 0.2, 0.24):
            air = world()
            await air.listen()
            radio = air.air.radio()
            dialling = asyncio.ensure_future(air.dial(radio=radio))
            await asyncio.sleep(after)
            assert not dialling.done()
            dialling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialling
            await asyncio.sleep(0.1)
            assert not radio.links
            assert not radio.scans
            await air.dial(radio=radio)

    virtual(body)


@pytest.mark.parametrize("name", ["x" * 30, "ä" * 15, "*", "C0:DE:00:00:00:01", "5b8e2be26fdc", "a\u200bb"])
def test_a_name_that_could_not_be_advertised_or_found_is_refused(
    world: type[World], virtual: Virtual, name: str
) -> None:
    async def body() -> None:
        air = world()
        with pytest.raises(UsageError):
            await air.pi.listen(Endpoint("ble", name), air.accept)
        assert air.pi_radio.serving is None

    virtual(body)


def test_a_name_is_advertised_once(world: type[World], virtual: Virtual) -> None:
    async def body() -> None:
        air = world()
        listener = await air.listen()
        with pytest.raises(UnavailableError, match="advertises as 'pi' already"):
            await air.listen("other")
        await listener.close()
        await air.listen("other")

    virtual(body)
