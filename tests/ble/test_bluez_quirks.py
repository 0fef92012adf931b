"""What BlueZ does not do or not say, as seen on a real one, and what our ends make of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import Air, AirModel
from boards.emulation.fake_bluez import FakeBluez, is_possible
from boards.emulation.fake_bluez.private_bus import VARIABLE, PrivateBus
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import Endpoint
from transports.ble import BleTransport, gatt, peripheral
from transports.ble.bluez import is_not_running
from transports.ble.bluez_quirks import installed_version, serves_several
from transports.ble.radio import ConnectFailedError
from transports.ble.system import SystemRadio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

needs_bus = pytest.mark.skipif(not is_possible(), reason="needs dbus-daemon: sudo apt install dbus-daemon")


class Centrals:
    """A peripheral on hci0 of a fake bluetoothd, and adapters for two centrals."""

    def __init__(self, daemon: FakeBluez) -> None:
        self.daemon = daemon
        self.accepted: list[Any] = []
        self.links = BleTransport(LIMITS)

    async def listen(self) -> Any:
        return await self.links.listen(Endpoint.parse("ble:pi?adapter=hci0"), self.accepted.append)

    async def connect(self, adapter: str) -> Any:
        """One attempt, no more."""
        radio = SystemRadio(adapter)
        heard: list[gatt.Advertisement] = []
        await radio.scan(lambda device: bool(heard.append(device)) or True)
        return await radio.connect(heard[0])


@pytest.fixture
async def centrals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Centrals]:
    async with PrivateBus(tmp_path) as bus:
        monkeypatch.setenv(VARIABLE, bus.address)
        async with FakeBluez(Air(AirModel(mtu_exchange_s=0.0), seed=1), bus.address, adapters=3) as daemon:
            yield Centrals(daemon)


def old(monkeypatch: pytest.MonkeyPatch, *version: int) -> None:
    async def said() -> tuple[int, ...]:
        return version

    monkeypatch.setattr(peripheral, "installed_version", said)


@needs_bus
async def test_a_bluez_that_mixes_centrals_up_is_given_one_at_a_time(
    centrals: Centrals, monkeypatch: pytest.MonkeyPatch
) -> None:
    old(monkeypatch, 5, 66)
    await centrals.listen()
    first = await centrals.connect("hci1")
    with pytest.raises(ConnectFailedError, match="it serves another device, and its BlueZ only one"):
        await centrals.connect("hci2")
    assert not first.is_over
    await first.leave()
    async with asyncio.timeout(10):
        while True:
            try:
                second = await centrals.connect("hci2")
                break
            except ConnectFailedError:
                await asyncio.sleep(0.1)
    await second.leave()


@needs_bus
async def test_a_bluez_that_tells_centrals_apart_serves_several(
    centrals: Centrals, monkeypatch: pytest.MonkeyPatch
) -> None:
    old(monkeypatch, 5, 79)
    await centrals.listen()
    first, second = await centrals.connect("hci1"), await centrals.connect("hci2")
    assert not first.is_over
    await second.leave()
    await first.leave()


@needs_bus
async def test_an_mtu_that_bluez_does_not_tell_is_asked_for(centrals: Centrals) -> None:
    centrals.daemon.faults.quiet_mtu = True
    await centrals.listen()
    made = await centrals.connect("hci1")
    assert made.value_bytes == gatt.MOST_VALUE_BYTES
    await made.leave()


@needs_bus
async def test_an_mtu_that_is_agreed_later_is_used_from_then_on(centrals: Centrals) -> None:
    air = centrals.daemon.air
    air.model = replace(air.model, mtu_exchange_s=1.0)
    await centrals.listen()
    made = await centrals.connect("hci1")
    assert made.value_bytes == gatt.LEAST_VALUE_BYTES
    async with asyncio.timeout(5):
        while made.value_bytes == gatt.LEAST_VALUE_BYTES:
            await asyncio.sleep(0.01)
    assert made.value_bytes == gatt.MOST_VALUE_BYTES == 495, "longer ones get lost in some stacks"
    await made.leave()


@needs_bus
async def test_a_device_whose_services_bluez_remembers_wrongly_is_found_again(centrals: Centrals) -> None:
    centrals.daemon.faults.stale_services = True
    await centrals.listen()
    for _ in range(2):
        made = await centrals.connect("hci1")
        await made.leave()


@needs_bus
async def test_a_device_that_did_not_show_our_service_is_found_again(centrals: Centrals) -> None:
    centrals.daemon.faults.stale_services = True
    centrals.daemon.faults.early_services = 1
    await centrals.listen()
    with pytest.raises(ConnectFailedError, match="does not show our service"):
        await centrals.connect("hci1")
    made = await centrals.connect("hci1")
    await made.leave()


@pytest.mark.parametrize(
    ("version", "several"),
    [(None, False), ((5, 66), False), ((5, 76), False), ((5, 77), True), ((6, 0), True)],
)
def test_only_a_bluez_that_sends_to_one_serves_several(
    version: tuple[int, int] | None, several: bool
) -> None:
    assert serves_several(version) is several


@pytest.mark.parametrize(
    ("said", "version"),
    [("bluetoothctl: 5.66", (5, 66)), ("5.83", (5, 83)), ("what?", None)],
)
async def test_the_version_is_what_its_tool_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, version: tuple[int, int] | None
) -> None:
    tool = tmp_path / "bluetoothctl"
    tool.write_text(f"#!/bin/sh\necho '{said}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert await installed_version() == version


async def test_a_machine_without_the_tool_has_no_known_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await installed_version() is None


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        ("org.freedesktop.DBus.Error.ServiceUnknown", True),
        ("org.freedesktop.DBus.Error.NameHasNoOwner", True),
        ("org.freedesktop.DBus.Error.Spawn.ExecFailed", True),
        ("org.freedesktop.systemd1.NoSuchUnit", True),
        ("org.bluez.Error.NotReady", False),
        ("", False),
    ],
)
def test_a_bluetoothd_that_the_bus_could_not_start_does_not_run(error: str, is_so: bool) -> None:
    assert is_not_running(error) is is_so


def test_what_a_busy_peripheral_says_is_understood() -> None:
    assert gatt.check_info(gatt.encode_info())
    assert not gatt.check_info(gatt.encode_info(is_busy=True))
