"""A board is recognised by what its kernel says: device tree, revision code, EEPROM, DMI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boards.detection import default_serial, detect, has_aes, uart_device
from boards.profiles import all_profiles, load
from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMPATIBLE = [(entry, profile.name) for profile in all_profiles() for entry in profile.match.compatible]
REVISIONS = [
    (0x902120, "raspberry-pi-zero-2-w"),
    (0xA02082, "raspberry-pi-3b"),
    (0xA020D3, "raspberry-pi-3b-plus"),
    (0xC03111, "raspberry-pi-4b"),
    (0xD03115, "raspberry-pi-4b"),
    (0xB03141, "raspberry-pi-cm4"),
    (0xC04170, "raspberry-pi-5"),
    (0xD04190, "raspberry-pi-500"),
]
NEW_EEPROM = b"\xaaU3\xee\x01\x37\x00\x10\x2e\x00"


@pytest.mark.parametrize(("entry", "name"), COMPATIBLE, ids=str)
def test_a_device_tree_names_its_board(tree: Any, entry: str, name: str) -> None:
    tree.device_tree("Some Model Rev 1", entry, "vendor,family")
    found = detect(tree.root)
    assert found.profile.name == name
    assert found.model == "Some Model Rev 1"
    assert found.evidence == (f"/proc/device-tree/compatible: {entry}",)


@pytest.mark.parametrize(("code", "name"), REVISIONS, ids=lambda value: f"{value}")
def test_a_revision_code_names_its_board(tree: Any, code: int, name: str) -> None:
    tree.device_tree("Raspberry Pi", "raspberrypi,unheard-of", revision=code)
    found = detect(tree.root)
    assert found.profile.name == name
    assert found.evidence[0].startswith(
        f"/proc/device-tree/system/linux,revision: revision {code:x}, type 0x"
    )


@pytest.mark.parametrize("flags", [1 << 25, 1 << 30, 1 << 31])
def test_a_voided_warranty_does_not_hide_a_board(tree: Any, flags: int) -> None:
    tree.device_tree("Raspberry Pi", "raspberrypi,unheard-of", revision=0xC03111 | flags)
    assert detect(tree.root).profile.name == "raspberry-pi-4b"


def test_a_revision_code_is_also_found_among_the_processors(tree: Any, processors: Any) -> None:
    tree.device_tree("Raspberry Pi", "raspberrypi,unheard-of")
    tree.write("/proc/cpuinfo", processors["plain"] + "Revision\t: c03111\nSerial\t: 1\n")
    assert detect(tree.root).profile.name == "raspberry-pi-4b"


def test_a_revision_of_another_makers_board_is_no_raspberry_pi(tree: Any, processors: Any) -> None:
    tree.device_tree("Other Board", "other,board")
    tree.write("/proc/cpuinfo", processors["plain"] + "Revision\t: c03111\n")
    assert detect(tree.root).profile.name == "generic-arm"


def test_what_is_burnt_in_counts_before_the_tree_that_was_loaded(tree: Any) -> None:
    tree.device_tree("Raspberry Pi 5", "raspberrypi,5-model-b", "brcm,bcm2712", revision=0xD04190)
    found = detect(tree.root)
    assert found.profile.name == "raspberry-pi-500"
    assert "/proc/device-tree/compatible: raspberrypi,5-model-b" in found.evidence


def test_an_old_style_or_unknown_revision_names_nothing(tree: Any) -> None:
    tree.device_tree("Raspberry Pi Model B", "raspberrypi,model-b", "brcm,bcm2835", revision=0x000E)
    found = detect(tree.root)
    assert found.profile.name == "generic-arm"
    assert "revision 000e" in found.evidence[0]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\xaaU3\xeeA335BNLT000C1234BBBK5678", "beaglebone-black"),
        (b"\xaaU3\xeeA335BNLT0A5C1234BBBK5678", "beaglebone-black"),
        (b"\xaaU3\xeeA335BNLTEIA01234BBBI5678", "beaglebone-black"),
        (b"\xaaU3\xeeA335BNLTBWA51234BBBW5678", "beaglebone-black-wireless"),
        (NEW_EEPROM + b"BEAGLEPLAY-A0-\0\x0002", "beagleplay"),
    ],
)
@pytest.mark.parametrize("device", ["0-00500", "0-00501"])
def test_an_eeprom_names_its_beagle(tree: Any, content: bytes, name: str, device: str) -> None:
    tree.write(f"/sys/bus/nvmem/devices/{device}/nvmem", content.ljust(32_768, b"\xff"))
    found = detect(tree.root)
    assert found.profile.name == name
    assert found.evidence[0].startswith(f"/sys/bus/nvmem/devices/{device}/nvmem: ")


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 64, b"\xaaU3", b"\xaaU3\xee", b"\xaaU3\xeeA335BNLTBBG1", NEW_EEPROM[:-1]]
)
def test_another_eeprom_names_nothing(tree: Any, content: bytes) -> None:
    tree.write("/sys/bus/nvmem/devices/0-00500/nvmem", content)
    assert detect(tree.root).profile.name == "generic-arm"


def test_a_green_beaglebone_is_taken_for_the_black_one_whose_design_it_has(tree: Any) -> None:
    tree.device_tree(
        "TI AM335x BeagleBone Green", "ti,am335x-bone-green", "ti,am335x-bone-black", "ti,am335x-bone"
    )
    found = detect(tree.root)
    assert (found.profile.name, found.model) == ("beaglebone-black", "TI AM335x BeagleBone Green")


def test_a_pc_is_known_by_its_dmi(x86: Any) -> None:
    found = detect(x86.root)
    assert (found.profile.name, found.model) == ("generic-x86", "NUC11TNHi5")
    assert found.evidence == (
        "/sys/devices/virtual/dmi/id/product_name: NUC11TNHi5",
        "/sys/devices/virtual/dmi/id/board_name: NUC11TNBi5",
        "/proc/cpuinfo: x86 processor",
    )


def test_an_unknown_board_is_generic_and_says_what_was_seen(tree: Any, processors: Any) -> None:
    tree.write("/proc/cpuinfo", processors["aes"])
    tree.device_tree("Acme Widget 9", "acme,widget-9", "acme,soc")
    found = detect(tree.root)
    assert (found.profile.name, found.model) == ("generic-arm", "Acme Widget 9")
    assert found.evidence[0] == "/proc/device-tree/compatible: acme,widget-9, acme,soc"


def test_a_machine_that_says_nothing_is_generic(tree: Any) -> None:
    found = detect(tree.root)
    assert (found.profile.name, found.model) == ("generic-arm", "ARM board that is not known here")


@given(
    files=st.dictionaries(
        st.sampled_from([
            "sys/firmware/devicetree/base/compatible",
            "sys/firmware/devicetree/base/model",
            "sys/firmware/devicetree/base/system/linux,revision",
            "sys/bus/nvmem/devices/0-00500/nvmem",
            "sys/devices/virtual/dmi/id/product_name",
            "proc/cpuinfo",
        ]),
        st.binary(max_size=80) | st.binary(max_size=30).map(b"\xaaU3\xee".__add__),
    )
)  # fmt: skip
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_files_hold_a_board_is_found(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, machine_at: Callable[[Path], Any]
) -> None:
    tree = machine_at(tmp_path_factory.mktemp("machine"))
    for path, content in files.items():
        tree.write(path, content)
    found = detect(tree.root)
    assert found.profile in all_profiles()
    assert found.model


@pytest.mark.parametrize(("which", "expected"), [("plain", False), ("aes", True)])
def test_aes_instructions_are_told_by_the_processor(
    tree: Any, processors: Any, which: str, expected: bool
) -> None:
    tree.write("/proc/cpuinfo", processors[which])
    assert has_aes(tree) is expected


def test_a_processor_that_does_not_say_is_not_guessed_at(tree: Any) -> None:
    assert has_aes(tree) is None


def test_serial_auto_is_the_boards_own_port(pi4: Any) -> None:
    assert str(default_serial(pi4.root)) == "serial:/dev/serial0?baud=115200"


def test_serial_auto_passes_over_a_port_in_use(pi4: Any) -> None:
    pi4.usb_serial("ttyUSB0", "ftdi_sio", "usb-FTDI_FT232R_A1-if00-port0")
    pi4.process(321, "agetty", "ttyS0")
    auto = default_serial(pi4.root)
    assert str(auto) == "serial:/dev/serial/by-id/usb-FTDI_FT232R_A1-if00-port0?baud=115200"


def test_serial_auto_takes_the_port_that_an_upstream_kernel_calls_ttys1(pi4: Any) -> None:
    (pi4.root / "dev/serial0").unlink()
    (pi4.root / "sys/class/tty/ttyS0").unlink()
    pi4.serial("ttyS1")
    assert str(default_serial(pi4.root)) == "serial:/dev/ttyS1?baud=115200"


def test_serial_auto_without_a_free_port_says_what_is_in_the_way(pi4: Any) -> None:
    pi4.write("/proc/consoles", "ttyS0                -W- (EC  p a)    4:64\n")
    with pytest.raises(UnavailableError, match="/dev/serial0 is in use by the kernel's console"):
        default_serial(pi4.root)


def test_serial_auto_without_any_port_says_so(x86: Any) -> None:
    with pytest.raises(UnavailableError, match="shows no serial port"):
        default_serial(x86.root)


def test_a_name_that_is_kept_for_hardware_that_is_not_there_is_no_port(x86: Any) -> None:
    assert uart_device(x86, load("generic-x86").uarts[0]) is None


def test_what_was_never_written_to_an_eeprom_is_no_part_of_its_name(tree: Any) -> None:
    tree.write("/sys/bus/nvmem/devices/0-00500/nvmem", b"\xaaU3\xeeA335\x01" + b"\xff" * 32)
    assert detect(tree.root).evidence[0] == "/sys/bus/nvmem/devices/0-00500/nvmem: A335."
