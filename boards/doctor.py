"""What is in the way of a board's links, each with the exact thing to do about it.

Looks at files only, below a root; asks no service and changes nothing.
"""

from __future__ import annotations

import grp
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from boards.detection import USB_BAUD, adapters, has_aes, serial_endpoint, uart_device
from boards.serial_ports import SerialPort, ports
from ockamlite.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from boards.machine import Machine
    from boards.profile import Profile, Uart

_RFKILL: Final = "/sys/class/rfkill"
_CMDLINES: Final = ("/boot/firmware/cmdline.txt", "/boot/cmdline.txt")
_CONFIGS: Final = ("/boot/firmware/config.txt", "/boot/config.txt")
_NO_BLUETOOTH: Final = "dtoverlay=disable-bt"
_ADAPTER_IS: Final = {
    "uart": "the board's own one",
    "usb": "a USB adapter",
    "card": "an M.2 card",
    "coprocessor": "firmware for the coprocessor, or a USB adapter",
    "none": "a USB adapter",
}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that keeps a link from working."""

    what: str
    fix: str
    """A command, or what to do in words."""


@dataclass(frozen=True, slots=True)
class User:
    """Who wants to use the devices."""

    uid: int
    groups: frozenset[int]

    @classmethod
    def current(cls) -> User:
        """Who runs this program."""
        return cls(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))


@dataclass(frozen=True, slots=True)
class Report:
    """What a board offers, and what keeps it from that."""

    endpoints: tuple[Endpoint, ...]
    obstacles: tuple[Obstacle, ...]
    notes: tuple[str, ...]
    """What is as it should be, but good to know."""


def examine(machine: Machine, profile: Profile, user: User | None = None) -> Report:
    """Find the endpoints that a machine offers as a board of that profile, and what is in their way."""
    who = user or User.current()
    found = ports(machine)
    by_device = {port.device: port for port in found}
    endpoints: list[Endpoint] = []
    obstacles: list[Obstacle] = []
    used: set[str] = set()
    here = [(uart, uart_device(machine, uart)) for uart in profile.uarts]
    for uart, device in here:
        if device is not None and machine.real(device) not in used:
            used.add(machine.real(device))
            endpoints.append(serial_endpoint(device, uart.baud))
            obstacles += _line_obstacles(machine, profile, device, by_device[machine.real(device)], who)
    if profile.uarts and not used:
        first = profile.uarts[0]
        endpoints.append(serial_endpoint(first.devices[0], first.baud))
        obstacles.append(_absent(machine, first))
    for port in found:
        if port.by_id is not None and port.device not in used:
            endpoints.append(serial_endpoint(port.by_id, USB_BAUD))
            obstacles += _line_obstacles(machine, profile, port.by_id, port, who)
    there = adapters(machine)
    if there:
        endpoints.append(Endpoint("ble", _ble_name(machine)))
    obstacles += _ble_obstacles(machine, profile, there)
    return Report(tuple(endpoints), tuple(obstacles), tuple(_notes(machine, profile)))


def _absent(machine: Machine, uart: Uart) -> Obstacle:
    what = f"{uart.devices[0]} is not there ({uart.hardware})"
    if uart.enable:
        return Obstacle(what, _fill(uart.enable, machine))
    return Obstacle(what, "plug in a USB serial adapter, or enable the port in the firmware")


def _line_obstacles(
    machine: Machine, profile: Profile, device: str, port: SerialPort, who: User
) -> Iterable[Obstacle]:
    tty = port.device.removeprefix("/dev/")
    if port.console:
        fix = profile.fixes.get(
            "console", "remove console={tty},... from the kernel's arguments, then reboot"
        )
        yield Obstacle(f"{device} is the kernel's console", _fill(fix, machine, tty))
    if port.holder is not None:
        name, _, rest = port.holder.partition(" (pid ")
        if name.endswith("getty") or name == "login":
            fix = _fill(profile.fixes.get("login", _LOGIN_FIX), machine, tty)
        else:
            fix = f"sudo kill {rest.removesuffix(')')}, or stop the service it belongs to"
        yield Obstacle(f"{device} is in use by {port.holder}", fix)
    try:
        status = machine.here(port.device).stat()
    except OSError:
        return
    if not _may_use(status.st_mode, status.st_uid, status.st_gid, who):
        group = _group(status.st_gid)
        if status.st_mode & stat.S_IRGRP and status.st_mode & stat.S_IWGRP:
            fix = f"sudo usermod -aG {group} $USER, then log in anew"
        else:
            fix = f"sudo chmod g+rw {port.device}, and sudo usermod -aG {group} $USER"
        yield Obstacle(f"{device} is for members of the group {group}", fix)


_LOGIN_FIX: Final = "sudo systemctl disable --now serial-getty@{tty}.service"


def _may_use(mode: int, owner: int, group: int, who: User) -> bool:
    if who.uid == 0:
        return True
    if who.uid == owner:
        return mode & 0o600 == 0o600
    if group in who.groups:
        return mode & 0o060 == 0o060
    return mode & 0o006 == 0o006


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _ble_obstacles(machine: Machine, profile: Profile, there: Collection[str]) -> Iterable[Obstacle]:
    for entry in machine.names(_RFKILL):
        folder = f"{_RFKILL}/{entry}"
        if machine.text(f"{folder}/type") != "bluetooth":
            continue
        if machine.text(f"{folder}/hard") == "1":
            yield Obstacle("Bluetooth is off by a switch", "turn the switch, or the key for flight mode")
        if machine.text(f"{folder}/soft") == "1":
            yield Obstacle("Bluetooth is blocked by rfkill", "sudo rfkill unblock bluetooth")
    if not there and profile.ble.attached == "uart":
        config = next((path for path in _CONFIGS if machine.has(path)), _CONFIGS[0])
        lines = (machine.text(config) or "").splitlines()
        if any(line.strip().startswith(_NO_BLUETOOTH) for line in lines):
            yield Obstacle(
                f"Bluetooth is off: {_NO_BLUETOOTH} gives its UART to the header",
                f"sudo sed -i '/^ *{_NO_BLUETOOTH}/d' {config} && sudo reboot (the header is slow then)",
            )
        else:
            yield Obstacle(
                f"the board's Bluetooth adapter {profile.ble.adapter} is not there",
                "sudo systemctl enable --now bluetooth, and see: sudo dmesg | grep -i bluetooth",
            )
    elif not there:
        yield Obstacle("there is no Bluetooth adapter", f"add {_ADAPTER_IS[profile.ble.attached]}")
    if there and not _runs(machine, "bluetoothd"):
        yield Obstacle("bluetoothd does not run", "sudo systemctl enable --now bluetooth")


def _runs(machine: Machine, name: str) -> bool:
    return any(
        machine.text(f"/proc/{number}/comm") == name
        for number in machine.names("/proc")
        if number.isdecimal()
    )


def _ble_name(machine: Machine) -> str:
    """The name under which this machine would be found: its host name."""
    return machine.text("/proc/sys/kernel/hostname") or machine.text("/etc/hostname") or "ockamlite"


def _notes(machine: Machine, profile: Profile) -> Iterable[str]:
    yield from profile.notes
    if profile.ble.conflict:
        yield profile.ble.conflict
    aes = has_aes(machine)
    if aes is False or (aes is None and profile.aes is False):
        yield "The processor has no AES instructions: secure channels cost more time over TCP and UDP."
    if profile.unverified:
        yield f"Not verified for this board: {', '.join(profile.unverified)}."


def _fill(fix: str, machine: Machine, tty: str = "") -> str:
    """A command of a profile, with the names that this machine has."""
    cmdline = next((path for path in _CMDLINES if machine.has(path)), _CMDLINES[0])
    config = next((path for path in _CONFIGS if machine.has(path)), _CONFIGS[0])
    return fix.format(tty=tty, cmdline=cmdline, config=config)
