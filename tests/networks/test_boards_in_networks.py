"""Boards in a network: their links are no faster than the slower end, in virtual time, to the byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from boards import emulated
from boards.board_limits import BoardLimits, air_model, line_baud
from boards.emulation.air import AirModel
from boards.profiles import load
from ockamlite.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from boards.network import Network

ZERO = "raspberry-pi-zero-2-w"
SIZE = 20_000


async def echo_s(network: Network, kind: str, *profiles: str, **options: Any) -> float:
    """How many virtual seconds an echo of 20,000 bytes takes between two boards."""
    here, there = [
        await (network.board(profile) if profile else network.node("plain")) for profile in profiles
    ]
    hop = await getattr(network, kind)(here, there, **options)
    link = await here.connect(hop.endpoint)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await here.ask(link.route / "echo", bytes(SIZE), timeout_s=300)
    return loop.time() - began


def seconds(played: Any, kind: str, *profiles: str, **options: Any) -> float:
    took: list[float] = []

    async def body(network: Network) -> None:
        took.append(await echo_s(network, kind, *profiles, **options))

    played(body)
    return took[0]


@pytest.mark.parametrize("profiles", [(ZERO, "raspberry-pi-5"), ("raspberry-pi-5", ZERO), (ZERO, ZERO)])
def test_a_line_has_the_recommended_speed_of_the_slower_board(played: Any, profiles: Any) -> None:
    at_115200 = 2 * SIZE * 10 / 115_200
    assert at_115200 < seconds(played, "serial", *profiles) < 1.2 * at_115200


def test_two_fast_boards_have_a_fast_line(played: Any) -> None:
    at_921600 = 2 * SIZE * 10 / 921_600
    assert at_921600 < seconds(played, "serial", "raspberry-pi-5", "rock-5b") < 1.3 * at_921600


@pytest.mark.parametrize("profiles", [(ZERO, "raspberry-pi-5"), ("raspberry-pi-5", ZERO), (ZERO, "")])
def test_an_air_is_as_slow_as_the_slower_board(played: Any, profiles: Any) -> None:
    best = 2 * SIZE / (20 * 27 / 0.015)
    assert best < seconds(played, "ble", *profiles) < 1.5 * best


def test_two_boards_with_longer_packets_use_them(played: Any) -> None:
    best = 2 * SIZE / (6 * 251 / 0.015)
    assert best < seconds(played, "ble", "raspberry-pi-5", "rock-5b") < 1.5 * best


def test_a_board_makes_a_bad_air_no_better(played: Any) -> None:
    slow = AirModel(interval_s=0.1, packets_per_event=2)
    best = 2 * SIZE / (2 * 251 / 0.1)
    assert best < seconds(played, "ble", ZERO, ZERO, model=slow) < 1.5 * best


def test_values_are_as_long_as_the_profile_says(played: Any) -> None:
    async def body(network: Network) -> None:
        one, other = await network.board(ZERO), await network.board(ZERO)
        assert (one.name, other.name) == (ZERO, f"{ZERO}.2")
        assert (await network.ble(one, other)).air.model.mtu == 247
        assert (await network.ble(one, other, mtu=23)).air.model.mtu == 23

    played(body)


def test_a_speed_that_a_board_cannot_do_is_refused_with_what_it_can(played: Any) -> None:
    async def body(network: Network) -> None:
        zero, five = await network.board(ZERO), await network.board("raspberry-pi-5")
        with pytest.raises(UsageError, match=f"port of a {ZERO} carries 115200 Bd at most") as raised:
            await network.serial(five, zero, baud=921_600)
        assert raised.value.hint == "baud=115200"
        with pytest.raises(UsageError, match="no pins for RTS and CTS"):
            await network.serial(five, zero, rtscts=True)
        assert "baud=9600" in (await network.serial(five, zero, baud=9600)).endpoint

    played(body)


def test_a_board_without_bluetooth_has_no_air(played: Any) -> None:
    async def body(network: Network) -> None:
        black, five = await network.board("beaglebone-black"), await network.board("raspberry-pi-5")
        with pytest.raises(UsageError, match="a beaglebone-black has no Bluetooth LE adapter"):
            await network.ble(five, black)
        with pytest.raises(NotFoundError):
            await network.board("raspberry-pi-9")

    played(body)


def test_limits_are_those_of_the_profile() -> None:
    limits = BoardLimits.of(load(ZERO))
    assert (limits.baud, limits.max_baud, limits.memory_mb) == (115_200, 115_200, 512)
    assert limits.cpu_share == pytest.approx(0.168)
    generic = BoardLimits.of(load("generic-x86"))
    assert (generic.memory_mb, generic.cpu_share) == (0, 1.0)


def test_without_boards_nothing_is_limited() -> None:
    assert (line_baud([]), line_baud([], 3_000_000, rtscts=True)) == (115_200, 3_000_000)
    assert air_model([], AirModel(mtu=100)) == AirModel(mtu=100)


def test_a_node_reaches_an_emulated_board_by_its_line_and_its_air_and_the_trace_shows_it(played: Any) -> None:
    async def body(network: Network) -> None:
        async with emulated("raspberry-pi-4b", name="pi", cpu_share=1) as pi:
            laptop = await network.node("laptop")
            network.reach(laptop, pi)
            assert pi.ble is not None
            for endpoint in (pi.serial, pi.ble):
                link = await laptop.connect(endpoint)
                assert (await laptop.ask(link.route / "echo", b"hello", timeout_s=20)).payload == b"hello"

    trace = played(body, real_time=True).trace
    assert {step.link for step in trace.on(target="pi")} == {"serial:laptop-pi", "ble:laptop-pi.2"}


def test_a_board_without_an_adapter_is_reached_by_its_line_alone(played: Any) -> None:
    async def body(network: Network) -> None:
        async with emulated("beaglebone-black", name="black", cpu_share=1) as black:
            laptop = await network.node("laptop")
            network.reach(laptop, black)
            with pytest.raises(UsageError, match=f"this node has serial:{black.line.devices[1]}"):
                await laptop.connect("serial:/dev/ttyUSB0")
            await laptop.connect(black.serial)

    played(body, real_time=True)
