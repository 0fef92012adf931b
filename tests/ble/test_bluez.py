"""bleak's stock backend and our peripheral on a fake bluetoothd: links, and what goes wrong on real ones.

Both run over a real D-Bus, unmodified; the fake's radios are on the emulated air.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest
from bleak import BleakClient, BleakScanner

from boards.emulation.air import AirModel
from boards.emulation.fake_bluez import VARIABLE, is_possible
from ockamlite.errors import LinkBrokenError, LinkClosedError, UnavailableError
from ockamlite.routing.endpoint import Endpoint
from transports.ble import gatt, peripheral, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transports.ble.gatt import Advertisement

pytestmark = pytest.mark.skipif(not is_possible(), reason="needs dbus-daemon: sudo apt install dbus-daemon")

MODELS = {
    "fast": AirModel(interval_s=0.0075, packets_per_event=20, advertising_s=0.05),
    "MTU of 23 for 200 ms": AirModel(
        interval_s=0.0075, packets_per_event=20, advertising_s=0.05, mtu_exchange_s=0.2
    ),
    "notifications lost, values swapped": AirModel(
        interval_s=0.0075,
        packets_per_event=20,
        advertising_s=0.05,
        notification_loss=0.02,
        write_loss=0.02,
        swapped=0.05,
    ),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
async def test_messages_arrive_once_and_in_order_both_ways(
    machine: Any, messages: Callable[..., list[bytes]], model: AirModel
) -> None:
    machine.air.model = model
    listener = await machine.listen()
    here = await machine.dial()
    there = await machine.wait_accepted()
    up, down = messages(40, seed=1), messages(40, seed=2)
    await asyncio.gather(here.send_all(up), there.send_all(down))
    assert await there.wait_frames(40) == up
    assert await here.wait_frames(40) == down
    assert here.link.remote == f"pi ({machine.addresses()[0]})"
    assert there.link.remote == machine.addresses()[1]
    here.link.close()
    assert await here.closed is None
    assert isinstance(await there.closed, LinkClosedError)
    await listener.close()
    assert not machine.daemon.central_sides


async def test_the_peripheral_may_close_the_link(machine: Any) -> None:
    listener = await machine.listen()
    here = await machine.dial()
    there = await machine.wait_accepted()
    there.link.send(b"", b"last words")
    there.link.close()
    assert await here.wait_frames(1) == [b"last words"]
    assert isinstance(await here.closed, LinkClosedError)
    assert await there.closed is None
    await listener.close()


@pytest.mark.parametrize("faults", [["aborted"], ["busy"], ["Software caused connection abort", "busy"]])
async def test_connections_that_fail_at_first_come_about(machine: Any, faults: list[str]) -> None:
    machine.daemon.faults.connects.extend(faults)
    await machine.listen()
    here = await machine.dial()
    assert not machine.daemon.faults.connects
    here.link.send(b"", b"hello")
    assert await (await machine.wait_accepted()).wait_frames(1) == [b"hello"]


async def test_services_that_count_as_found_too_early_are_looked_for_again(machine: Any) -> None:
    machine.daemon.faults.early_services = 1
    await machine.listen()
    await machine.dial()
    assert machine.daemon.faults.early_services == 0


async def test_a_storm_of_in_progress_delays_and_loses_nothing(
    machine: Any, messages: Callable[..., list[bytes]]
) -> None:
    await machine.listen()
    here = await machine.dial()
    there = await machine.wait_accepted()
    machine.daemon.faults.busy_writes = 50
    await here.send_all(messages(10))
    assert await there.wait_frames(10) == messages(10)
    assert machine.daemon.faults.busy_writes == 0


async def test_a_disconnect_in_a_transfer_breaks_both_ends_and_the_next_link_works(
    machine: Any, messages: Callable[..., list[bytes]]
) -> None:
    await machine.listen()
    here = await machine.dial()
    there = await machine.wait_accepted()
    sending = asyncio.ensure_future(here.send_all(messages(200)))
    await there.wait_frames(5)
    machine.air.disconnect(*machine.addresses())
    assert isinstance(await here.closed, LinkBrokenError)
    assert isinstance(await there.closed, LinkBrokenError)
    await sending
    assert there.frames == messages(200)[: len(there.frames)]
    again = await machine.dial()
    again.link.send(b"", b"again")
    assert await (await machine.wait_accepted(2)).wait_frames(1) == [b"again"]


async def test_a_peripheral_believes_bluetoothd_that_a_central_has_left(machine: Any) -> None:
    await machine.listen()
    here = await machine.dial()
    there = await machine.wait_accepted()
    machine.daemon.faults.kept_sockets = True  # else their end would tell it as well
    machine.air.disconnect(*machine.addresses())
    async with asyncio.timeout(5):
        assert isinstance(await there.closed, LinkBrokenError)
    assert isinstance(await here.closed, LinkBrokenError)


@pytest.mark.parametrize("fault", ["pulled", "turned off"])
async def test_an_adapter_that_goes_and_comes_back_serves_again(machine: Any, fault: str) -> None:
    await machine.listen()
    here = await machine.dial()
    there = await machine.wait_accepted()
    if fault == "pulled":
        machine.daemon.pull("hci0")
    else:
        machine.daemon.power("hci0", on=False)
    assert isinstance(await here.closed, LinkBrokenError)
    assert isinstance(await there.closed, LinkBrokenError)
    if fault == "pulled":
        machine.daemon.plug("hci0")
    else:
        machine.daemon.power("hci0", on=True)
    await machine.dial()
    await machine.wait_accepted(2)


async def test_a_bluetoothd_that_restarts_breaks_the_links_and_serves_again(machine: Any) -> None:
    await machine.listen()
    here = await machine.dial()
    there = await machine.wait_accepted()
    await machine.daemon.stop()
    assert isinstance(await there.closed, LinkBrokenError)
    await machine.daemon.start()
    assert isinstance(await here.closed, LinkBrokenError)
    await machine.dial()
    await machine.wait_accepted(2)


async def test_a_listener_that_is_closed_is_heard_no_more_and_its_links_stay(machine: Any) -> None:
    listener = await machine.listen()
    here = await machine.dial()
    there = await machine.wait_accepted()
    await listener.close()
    heard: list[Advertisement] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await machine.central.scan(lambda device: bool(heard.append(device)), adapter="hci1")
    assert not heard
    here.link.send(b"", b"still here")
    assert await there.wait_frames(1) == [b"still here"]
    here.link.close()
    await here.closed
    await listener.close()


async def test_a_central_that_writes_and_does_not_subscribe_is_disconnected(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peripheral, "SUBSCRIBE_S", 0.2)
    listener = await machine.listen()
    found = await BleakScanner.find_device_by_name("pi", bluez={"adapter": "hci1"})
    assert found is not None
    over = asyncio.Event()
    mute = BleakClient(found, lambda _: over.set(), bluez={"adapter": "hci1"})
    await mute.connect()
    await mute.write_gatt_char(gatt.RX, b"nobody asked", response=False)
    async with asyncio.timeout(5):
        await over.wait()
    assert not machine.accepted
    await machine.dial()
    await listener.close()


async def test_a_scan_tells_name_address_and_strength(machine: Any) -> None:
    listener = await machine.listen()
    heard: list[Advertisement] = []
    await machine.central.scan(lambda device: bool(heard.append(device)) or True, adapter="hci1")
    assert (heard[0].name, heard[0].address, heard[0].rssi) == ("pi", machine.addresses()[0], -50)
    await listener.close()


async def check(machine: Any, text: str, hint: str, *, adapter: str = "hci1") -> None:
    """Both roles tell the same error and its fix."""
    for attempt in (machine.dial(adapter), machine.listen(adapter)):
        with pytest.raises(UnavailableError, match=text) as caught:
            await attempt
        assert hint in caught.value.hint


async def test_an_adapter_that_is_off_is_said_with_the_fix(machine: Any) -> None:
    machine.daemon.power("hci1", on=False)
    await check(machine, "adapter is off", "bluetoothctl power on")


async def test_an_adapter_that_is_not_there_is_said(machine: Any) -> None:
    await check(machine, "no Bluetooth adapter 'hci7'", "bluetoothctl list", adapter="hci7")


async def test_a_machine_without_adapters_is_said(machine: Any) -> None:
    machine.daemon.pull("hci0")
    machine.daemon.pull("hci1")
    with pytest.raises(UnavailableError, match="no Bluetooth LE adapter"):
        await machine.central.connect(Endpoint.parse("ble:pi"))
    with pytest.raises(UnavailableError, match="no Bluetooth LE adapter"):
        await machine.peripheral.listen(Endpoint.parse("ble:pi"), machine.accept)


async def test_a_machine_without_bluetoothd_is_said(machine: Any) -> None:
    await machine.daemon.stop()
    await check(machine, "bluetoothd does not run", "systemctl enable --now bluetooth")


async def test_a_machine_without_a_bus_is_said(
    machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, f"unix:path={tmp_path / 'no-bus'}")
    await check(machine, "no system D-Bus", "/run/dbus/system_bus_socket")


async def test_an_adapter_that_takes_no_more_advertisements_is_said(machine: Any) -> None:
    machine.daemon.faults.no_advertising = True
    with pytest.raises(UnavailableError, match="takes no more advertisements"):
        await machine.listen()


@pytest.mark.parametrize(
    ("soft", "hard", "text", "hint"),
    [
        ("1", "0", "blocked by rfkill", "sudo rfkill unblock bluetooth"),
        ("0", "1", "blocked by a switch", "switch"),
        ("0", "0", "adapter is off", "bluetoothctl power on"),
    ],
)
def test_a_blocked_radio_is_told_from_one_that_is_off(
    tmp_path: Path, soft: str, hard: str, text: str, hint: str
) -> None:
    for name, kind in (("rfkill0", "wlan"), ("rfkill1", "bluetooth")):
        entry = tmp_path / "sys/class/rfkill" / name
        entry.mkdir(parents=True)
        (entry / "type").write_text(kind + "\n")
        (entry / "soft").write_text(("1" if kind == "wlan" else soft) + "\n")
        (entry / "hard").write_text(("0" if kind == "wlan" else hard) + "\n")
    error = unavailable.powered_off(tmp_path)
    assert text in str(error)
    assert hint in error.hint
    if "1" in (soft, hard):
        assert str(unavailable.no_adapter("", tmp_path)) == str(error)


async def test_commands_in_processes_of_their_own_and_a_central_that_is_killed(
    machine: Any, launch: Any, website: Any
) -> None:
    launch.environment[VARIABLE] = machine.address
    outlet = launch.command(
        "pi", "outlet", f"tcp:127.0.0.1:{website.port}", "--listen", "ble:pi?adapter=hci0", "--trust-everyone"
    )
    await asyncio.to_thread(outlet.line, "ready")
    for ending in (signal.SIGKILL, signal.SIGTERM):
        inlet = launch.command(
            "laptop", "inlet", "tcp:127.0.0.1:0", "--via", "ble:pi?adapter=hci1", "--trust-everyone"
        )
        ready = await asyncio.to_thread(inlet.line, "ready")
        assert await website.fetch(int(ready.split(" -> ")[0].rpartition(":")[2])) == website.page
        await asyncio.to_thread(inlet.end, ending)
    assert await asyncio.to_thread(outlet.end) == 0
