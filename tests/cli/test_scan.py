"""``ockamlite scan`` shows what is near, and says which kinds of link cannot look."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import Air, AirModel
from boards.emulation.air_server import AirServer
from boards.machine import Machine
from ockamlite.cli.run import scan
from ockamlite.cli.run.scan import Findings, Found, ble_found, look
from ockamlite.cli.stop import ReaderGoneError
from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ROOT = Path(__file__).parents[2]


def plug(root: Path, name: str, by_id: str) -> None:
    """A USB adapter among the files of a machine."""
    (root / "sys/class/tty" / name / "device").mkdir(parents=True)
    (root / "dev/serial/by-id").mkdir(parents=True, exist_ok=True)
    (root / "dev" / name).touch()
    (root / "dev/serial/by-id" / by_id).symlink_to(f"../../{name}")


def here(seen: list[Found]) -> Findings:
    return Findings(lambda _, new: seen.append(new))


def test_serial_ports_are_listed_at_once_with_the_keys_of_the_contract(run: Any) -> None:
    started = time.monotonic()
    done = run("scan", "serial", "--output", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - started < 4
    for line in done.stdout.splitlines():
        found = json.loads(line)
        assert list(found) == ["kind", "device", "by_id", "driver", "holder", "endpoint"]
        assert found["endpoint"].startswith("serial:/dev/")


async def test_a_port_that_is_plugged_in_meanwhile_is_shown(tmp_path: Path) -> None:
    plug(tmp_path, "ttyUSB0", "usb-A")
    seen: list[Found] = []

    def tell(new: Found) -> None:
        if not seen:
            plug(tmp_path, "ttyUSB1", "usb-B")
        findings.add(new)

    findings = here(seen)
    await scan.serial(0.6, tell, Machine(tmp_path))
    assert [found.endpoint for found in seen] == [
        "serial:/dev/serial/by-id/usb-A",
        "serial:/dev/serial/by-id/usb-B",
    ]
    assert seen[0].facts == {
        "device": "/dev/ttyUSB0", "by_id": "/dev/serial/by-id/usb-A", "driver": None, "holder": None,
    }  # fmt: skip


async def test_the_kernels_console_is_told_as_who_holds_a_port(tmp_path: Path) -> None:
    plug(tmp_path, "ttyUSB0", "usb-A")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/consoles").write_text("ttyUSB0  -W- (EC  p a)  188:0\n")
    seen: list[Found] = []
    await scan.serial(0, here(seen).add, Machine(tmp_path))
    assert [found.facts["holder"] for found in seen] == ["the kernel's console"]
    assert seen[0].text.endswith("in use by the kernel's console")


def test_a_ble_device_has_the_keys_of_the_contract() -> None:
    found = ble_found("pi-cabinet", "5B:8E:2B:E2:6F:DC", -61)
    assert found.endpoint == "ble:pi-cabinet"
    assert found.facts == {"name": "pi-cabinet", "address": "5B:8E:2B:E2:6F:DC", "rssi": -61}


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_a_ble_device_without_a_usable_name_is_found_by_its_address(name: str) -> None:
    assert ble_found(name, "5B:8E:2B:E2:6F:DC", -61).endpoint == "ble:5B:8E:2B:E2:6F:DC"


async def test_ble_devices_come_from_the_transport_until_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Device:
        name, address, rssi = "pi-cabinet", "5B:8E:2B:E2:6F:DC", -61

    class Transport:
        async def scan(self, heard: Callable[[Any], bool]) -> None:
            assert not heard(Device)
            assert not heard(Device)
            await asyncio.Event().wait()

    monkeypatch.setattr(scan, "transports", lambda _: [Transport()])
    seen: list[Found] = []
    await look({"ble": scan.ble}, 0.01, here(seen))
    assert [found.endpoint for found in seen] == ["ble:pi-cabinet"]


async def test_a_kind_that_cannot_look_does_not_keep_the_others() -> None:
    async def broken(seconds: float, tell: scan.Tell) -> None:
        raise UnavailableError("no adapter")

    async def fine(seconds: float, tell: scan.Tell) -> None:
        tell(ble_found("a", "A", -1))

    seen: list[Found] = []
    findings = here(seen)
    await look({"ble": broken, "serial": fine}, 0, findings)
    assert [str(error) for error in findings.failed.values()] == ["no adapter"]
    assert len(seen) == 1


async def test_a_reader_that_has_gone_ends_the_search() -> None:
    async def fine(seconds: float, tell: scan.Tell) -> None:
        tell(ble_found("a", "A", -1))

    def gone(*_: object) -> None:
        raise ReaderGoneError

    with pytest.raises(ReaderGoneError):
        await look({"ble": fine, "tcp": fine}, 0, Findings(gone))


async def test_made_up_neighbours_do_not_fill_the_memory() -> None:
    async def flood(seconds: float, tell: scan.Tell) -> None:
        for number in range(5000):
            tell(ble_found("", f"{number:012x}", -1))

    findings = here([])
    await look({"ble": flood}, 0, findings)
    assert len(findings.found) == 1000


@pytest.mark.skipif(find_spec("zeroconf") is not None, reason="the extra is installed")
def test_mdns_without_the_extra_ends_with_64_and_says_what_brings_it(run: Any) -> None:
    done = run("scan", "tcp", "--seconds", "0.1")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.splitlines()[1] == "try: pip install 'ockamlite[mdns]'"


def test_a_kind_that_nobody_knows_ends_with_64(run: Any) -> None:
    done = run("scan", "smoke")
    assert done.returncode == 64
    assert "'ble', 'serial', 'tcp'" in done.stderr


@pytest.mark.parametrize("seconds", ["-1", "x", "1e9"])
def test_a_time_that_is_none_ends_with_64(run: Any, seconds: str) -> None:
    assert run("scan", "serial", "--seconds", seconds).returncode == 64


def test_on_a_terminal_the_table_is_drawn_as_things_turn_up() -> None:
    program = (
        "import sys; from ockamlite.cli.run import scan; from ockamlite.cli.options import Common\n"
        "async def near(seconds, tell):\n"
        "    for name in ('pi-a', 'pi-b'):\n"
        "        tell(scan.ble_found(name, name[-1], -50))\n"
        "scan.serial = near\n"
        "scan.run(Common(False, 0, False, False, 'default', False), ['serial'], 0)\n"
    )
    ours, theirs = pty.openpty()
    try:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, "-c", program], stdout=theirs, env=environment, check=True, timeout=20
        )
        drawn = os.read(ours, 4096).decode().replace("\r", "")
    finally:
        os.close(ours)
        os.close(theirs)
    assert (
        drawn == "ble:pi-a  a, -50 dBm\x1b[K\n\x1b[1Fble:pi-a  a, -50 dBm\x1b[K\nble:pi-b  b, -50 dBm\x1b[K\n"
    )


@pytest.fixture
async def air(tmp_path: Path) -> AsyncIterator[Path]:
    """The socket of an emulated air on which two devices have our service, by one name."""
    emulated = Air(AirModel())
    async with AirServer(emulated, tmp_path / "air"):
        serving = [await emulated.radio().serve("pi-cabinet", lambda _: None) for _ in range(2)]
        yield tmp_path / "air"
        for device in serving:
            await device.close()


async def test_devices_on_an_emulated_air_are_found(air: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ockamlite", "scan", "ble", "--seconds", "1", "--output", "json",
        env={**os.environ, "PYTHONPATH": str(ROOT), "OCKAMLITE_AIR": str(air)},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(20):
        stdout, _ = await process.communicate()
    assert process.returncode == 0
    found = [json.loads(line) for line in stdout.splitlines()]
    assert [list(device) for device in found] == [["kind", "name", "address", "rssi", "endpoint"]] * 2
    assert {(device["name"], device["kind"], device["rssi"]) for device in found} == {
        ("pi-cabinet", "ble", -50)
    }
    # Two of one name: the second one can be told apart by its address.
    assert found[0]["endpoint"] == "ble:pi-cabinet"
    assert found[1]["endpoint"] == f"ble:{found[1]['address']}" != f"ble:{found[0]['address']}"


def test_an_air_that_is_not_there_ends_with_69(run: Any) -> None:
    done = run("scan", "ble", "--seconds", "0.1", OCKAMLITE_AIR="/no-such-air")
    assert (done.returncode, done.stdout) == (69, "")
    assert "try: start 'ockamlite emulate --ble'" in done.stderr
