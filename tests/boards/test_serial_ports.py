"""Serial ports: those with hardware, their stable names, drivers and holders."""

from __future__ import annotations

from typing import Any

from boards.serial_ports import ports


def test_a_port_has_device_name_driver_and_no_holder(tree: Any) -> None:
    tree.usb_serial("ttyUSB0", "ftdi_sio", "usb-FTDI_FT232R_A1-if00-port0")
    (port,) = ports(tree)
    assert port.device == "/dev/ttyUSB0"
    assert port.by_id == port.path == "/dev/serial/by-id/usb-FTDI_FT232R_A1-if00-port0"
    assert (port.driver, port.holder, port.console, port.user) == ("ftdi_sio", None, False, "")


def test_a_port_behind_the_layers_of_newer_kernels_has_the_driver_of_its_hardware(tree: Any) -> None:
    tree.serial("ttyAMA0", "uart-pl011")
    (port,) = ports(tree)
    assert (port.driver, port.by_id, port.path) == ("uart-pl011", None, "/dev/ttyAMA0")


def test_a_port_without_a_driver_is_listed(tree: Any) -> None:
    tree.write("/sys/class/tty/ttyX0/device/uevent", "")
    tree.write("/dev/ttyX0", "")
    assert [port.driver for port in ports(tree)] == [None]


def test_terminals_and_ports_without_hardware_are_none(x86: Any) -> None:
    x86.write("/sys/class/tty/tty1/dev", "4:1\n")
    x86.write("/dev/tty1", "")
    assert ports(x86) == []


def test_ports_come_in_the_order_of_their_numbers(tree: Any) -> None:
    for number in (10, 9, 0):
        tree.serial(f"ttyS{number}")
    tree.usb_serial("ttyACM0", "cdc_acm", "usb-a")
    assert [port.device for port in ports(tree)] == [
        "/dev/ttyACM0",
        "/dev/ttyS0",
        "/dev/ttyS9",
        "/dev/ttyS10",
    ]


def test_the_process_that_has_a_port_open_is_named(tree: Any) -> None:
    tree.serial("ttyS0")
    tree.process(77, "minicom", opens="/dev/ttyS0")
    assert [port.user for port in ports(tree)] == ["minicom (pid 77)"]


def test_a_login_prompt_is_named_by_its_command_line(tree: Any) -> None:
    tree.serial("ttyS0")
    tree.process(88, "agetty", "-L", "ttyS0", "115200")
    assert [port.holder for port in ports(tree)] == ["agetty (pid 88)"]


def test_the_kernels_console_is_told(tree: Any) -> None:
    tree.serial("ttyS0")
    tree.serial("ttyS1")
    tree.write("/proc/consoles", "tty0                 -WU (EC  p  )    4:7\nttyS0  -W- (E   p a)  4:64\n")
    assert [port.user for port in ports(tree)] == ["the kernel's console", ""]
