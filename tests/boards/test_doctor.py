"""What is in the way of a board's links is found, and what to do about it is exact."""

from __future__ import annotations

import os
from typing import Any

import pytest

from boards.doctor import Obstacle, User, examine
from boards.profiles import load

ANNA = User(1000, frozenset({1000}))


def found(tree: Any, name: str = "raspberry-pi-4b", user: User | None = None) -> dict[str, str]:
    return {obstacle.what: obstacle.fix for obstacle in examine(tree, load(name), user).obstacles}


def endpoints(tree: Any, name: str = "raspberry-pi-4b") -> list[str]:
    return [str(endpoint) for endpoint in examine(tree, load(name)).endpoints]


def test_nothing_is_in_the_way_of_a_board_that_is_set_up(pi4: Any) -> None:
    assert endpoints(pi4) == ["serial:/dev/serial0?baud=115200", "ble:pi-cabinet"]
    assert found(pi4) == {}


def test_a_port_that_is_switched_off_is_offered_with_what_switches_it_on(pi4: Any) -> None:
    (pi4.root / "dev/serial0").unlink()
    (pi4.root / "sys/class/tty/ttyS0").unlink()
    assert endpoints(pi4)[0] == "serial:/dev/serial0?baud=115200"
    assert found(pi4) == {
        "/dev/serial0 is not there (mini UART on GPIO 14 (TX) and 15 (RX))": (
            "echo enable_uart=1 | sudo tee -a /boot/firmware/config.txt && sudo reboot"
        )
    }


def test_a_console_is_removed_from_the_command_line_that_this_system_has(pi4: Any) -> None:
    pi4.write("/proc/consoles", "ttyS0                -W- (EC  p a)    4:64\n")
    what = "/dev/serial0 is the kernel's console"
    command = r"sudo sed -i 's/console=\(serial0\|ttyS0\),[0-9a-z]* *//' {} && sudo reboot"
    assert found(pi4) == {what: command.format("/boot/firmware/cmdline.txt")}
    (pi4.root / "boot/firmware/cmdline.txt").rename(pi4.root / "boot/cmdline.txt")
    assert found(pi4) == {what: command.format("/boot/cmdline.txt")}


def test_a_login_prompt_is_ended_by_its_service(pi4: Any) -> None:
    pi4.process(321, "agetty", "--keep-baud", "115200", "ttyS0", "vt220")
    assert found(pi4) == {
        "/dev/serial0 is in use by agetty (pid 321)": (
            "sudo systemctl disable --now serial-getty@ttyS0.service"
        )
    }


def test_a_jetsons_login_prompt_has_a_service_of_its_own(tree: Any) -> None:
    tree.serial("ttyTHS1", "serial-tegra")
    tree.process(9, "getty", "-L", "115200", "ttyTHS1")
    tree.adapter()
    assert found(tree, "jetson-orin-nano") == {
        "/dev/ttyTHS1 is in use by getty (pid 9)": "sudo systemctl disable --now nvgetty.service"
    }


def test_another_program_on_the_line_is_named(pi4: Any) -> None:
    pi4.process(400, "gpsd", opens="/dev/ttyS0")
    (fix,) = found(pi4).values()
    assert fix.startswith("sudo kill 400")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another group")
def test_a_device_for_a_group_names_the_group(pi4: Any) -> None:
    pi4.mode("/dev/ttyS0", 0o660, group=20)
    assert found(pi4, user=ANNA) == {
        "/dev/serial0 is for members of the group dialout": "sudo usermod -aG dialout $USER, then log in anew"
    }
    assert found(pi4, user=User(1000, frozenset({1000, 20}))) == {}
    assert found(pi4, user=User(0, frozenset())) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another group")
def test_a_device_whose_group_may_not_use_it_either_is_opened_to_it(pi4: Any) -> None:
    pi4.mode("/dev/ttyS0", 0o600, group=20)
    (fix,) = found(pi4, user=ANNA).values()
    assert fix == "sudo chmod g+rw /dev/ttyS0, and sudo usermod -aG dialout $USER"
    assert found(pi4, user=User(1000, frozenset({1000, 20})))


def test_a_device_for_everybody_is_in_nobodys_way(pi4: Any) -> None:
    pi4.mode("/dev/ttyS0", 0o666)
    assert found(pi4, user=ANNA) == {}


def test_bluetooth_blocked_by_software_or_by_a_switch(pi4: Any) -> None:
    pi4.write("/sys/class/rfkill/rfkill0/type", "wlan\n")
    pi4.write("/sys/class/rfkill/rfkill0/soft", "1\n")
    pi4.write("/sys/class/rfkill/rfkill1/type", "bluetooth\n")
    pi4.write("/sys/class/rfkill/rfkill1/soft", "1\n")
    pi4.write("/sys/class/rfkill/rfkill1/hard", "0\n")
    assert found(pi4) == {"Bluetooth is blocked by rfkill": "sudo rfkill unblock bluetooth"}
    pi4.write("/sys/class/rfkill/rfkill1/soft", "0\n")
    pi4.write("/sys/class/rfkill/rfkill1/hard", "1\n")
    assert list(found(pi4)) == ["Bluetooth is off by a switch"]


def test_a_bluetooth_service_that_does_not_run_is_started(pi4: Any) -> None:
    pi4.write("/proc/600/comm", "sleep\n")
    assert found(pi4) == {"bluetoothd does not run": "sudo systemctl enable --now bluetooth"}


def test_bluetooth_that_gave_its_uart_to_the_header_says_how_to_get_it_back(pi4: Any) -> None:
    (pi4.root / "sys/class/bluetooth/hci0/type").unlink()
    (pi4.root / "sys/class/bluetooth/hci0").rmdir()
    pi4.write("/boot/firmware/config.txt", "enable_uart=1\n  dtoverlay=disable-bt\n")
    assert found(pi4) == {
        "Bluetooth is off: dtoverlay=disable-bt gives its UART to the header": (
            "sudo sed -i '/^ *dtoverlay=disable-bt/d' /boot/firmware/config.txt && sudo reboot "
            "(the header is slow then)"
        )
    }
    assert not [text for text in endpoints(pi4) if text.startswith("ble:")]
    pi4.write("/boot/firmware/config.txt", "#dtoverlay=disable-bt\n")
    assert list(found(pi4)) == ["the board's Bluetooth adapter hci0 is not there"]


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("beaglebone-black", "add a USB adapter"),
        ("beagleplay", "add firmware for the coprocessor, or a USB adapter"),
        ("rock-5b", "add an M.2 card"),
        ("generic-x86", "add a USB adapter"),
    ],
)
def test_a_board_without_bluetooth_says_what_brings_it(tree: Any, name: str, fix: str) -> None:
    assert Obstacle("there is no Bluetooth adapter", fix) in examine(tree, load(name)).obstacles


def test_connections_are_no_adapters(tree: Any) -> None:
    tree.write("/sys/class/bluetooth/hci0:64/type", "link\n")
    assert not [text for text in endpoints(tree) if text.startswith("ble:")]


def test_without_an_adapter_nothing_is_said_of_its_service(x86: Any) -> None:
    assert "bluetoothd does not run" not in found(x86, "generic-x86")


def test_a_port_that_has_several_names_is_offered_once(pi4: Any) -> None:
    pi4.link("/dev/serial/by-id/on-board", "../../ttyS0")
    assert endpoints(pi4) == ["serial:/dev/serial0?baud=115200", "ble:pi-cabinet"]
    (pi4.root / "dev/serial/by-id/on-board").unlink()
    (pi4.root / "dev/serial0").unlink()
    pi4.serial("ttyAMA3", "uart-pl011")
    pi4.link("/dev/serial0", "ttyAMA3")
    assert endpoints(pi4) == ["serial:/dev/serial0?baud=115200", "ble:pi-cabinet"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_an_owner_and_a_group_need_to_read_and_write(pi4: Any) -> None:
    os.chown(pi4.here("/dev/ttyS0"), 1000, 20)
    pi4.mode("/dev/ttyS0", 0o600)
    assert found(pi4, user=ANNA) == {}
    pi4.mode("/dev/ttyS0", 0o640)
    assert found(pi4, user=User(1001, frozenset({20})))
    pi4.mode("/dev/ttyS0", 0o460)
    assert found(pi4, user=ANNA)
    assert found(pi4, user=User(1001, frozenset({20}))) == {}


def test_usb_adapters_are_offered_by_their_stable_names(x86: Any) -> None:
    x86.usb_serial("ttyUSB0", "cp210x", "usb-Silicon_Labs_CP2102_0001-if00-port0")
    assert "serial:/dev/serial/by-id/usb-Silicon_Labs_CP2102_0001-if00-port0?baud=115200" in endpoints(
        x86, "generic-x86"
    )


def test_all_ports_of_a_board_that_are_there_are_offered(pi4: Any) -> None:
    pi4.serial("ttyAMA3", "uart-pl011")
    assert endpoints(pi4)[:2] == ["serial:/dev/serial0?baud=115200", "serial:/dev/ttyAMA3?baud=921600"]


def test_notes_tell_of_conflict_cipher_and_what_is_not_verified(pi4: Any) -> None:
    notes = " ".join(examine(pi4, load("raspberry-pi-4b")).notes)
    assert "full-speed serial and full-speed BLE exclude each other" in notes
    assert "no AES instructions" in notes
    assert "Not verified for this board: uarts.max_baud" in notes


def test_the_processor_is_believed_before_the_profile(pi4: Any, processors: Any) -> None:
    pi4.write("/proc/cpuinfo", processors["aes"])
    assert "no AES instructions" not in " ".join(examine(pi4, load("raspberry-pi-4b")).notes)
