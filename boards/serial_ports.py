"""The serial ports of a machine: their device, their stable name, their driver, and who uses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transports.serial.users import holder_of, is_console, login_on

if TYPE_CHECKING:
    from boards.machine import Machine

_CLASS: Final = "/sys/class/tty"
_BY_ID: Final = "/dev/serial/by-id"
_LAYERS: Final = ("port", "ctrl")
"""Drivers of newer kernels that stand between a port and the driver of its hardware."""
_NO_HARDWARE: Final = "0"
"""``type`` of a port that the kernel reserves in case hardware should turn up."""


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial port that has hardware."""

    device: str
    """``/dev/ttyUSB0``; changes when things are plugged in another order."""
    by_id: str | None
    """A path that names the adapter itself, ``/dev/serial/by-id/…``; None if it has none."""
    driver: str | None
    """The driver of its hardware, as far as the kernel tells."""
    holder: str | None
    """``NAME (pid N)`` of a process that has it open or offers a login on it."""
    console: bool
    """True if the kernel writes its messages to it."""

    @property
    def path(self) -> str:
        """The best path to open it by."""
        return self.by_id or self.device

    @property
    def user(self) -> str:
        """Who keeps us from using it, or an empty string."""
        return self.holder or ("the kernel's console" if self.console else "")


def ports(machine: Machine) -> list[SerialPort]:
    """All ports that have hardware, in the order of their names."""
    stable: dict[str, str] = {}
    for name in machine.names(_BY_ID):
        stable.setdefault(machine.real(f"{_BY_ID}/{name}"), f"{_BY_ID}/{name}")
    return [
        _port(machine, name, stable.get(f"/dev/{name}"))
        for name in sorted(machine.names(_CLASS), key=_natural)
        if is_port(machine, f"/dev/{name}")
    ]


def is_port(machine: Machine, device: str) -> bool:
    """True if the device is there and has hardware; a link to one counts as well."""
    name = machine.real(device).removeprefix("/dev/")
    folder = f"{_CLASS}/{name}"
    return (
        machine.has(device)
        and "/" not in name
        and machine.has(f"{folder}/device")
        and machine.text(f"{folder}/type") != _NO_HARDWARE
    )


def _port(machine: Machine, name: str, by_id: str | None) -> SerialPort:
    device = f"/dev/{name}"
    process = holder_of(device, machine.root) or login_on(device, machine.root)
    return SerialPort(
        device=device,
        by_id=by_id,
        driver=_driver(machine, f"{_CLASS}/{name}/device"),
        holder=None if process is None else str(process),
        console=is_console(device, machine.root),
    )


def _driver(machine: Machine, path: str) -> str | None:
    folder = machine.real(path)
    while folder.startswith("/sys/devices/"):
        link = f"{folder}/driver"
        if machine.has(link):
            driver = machine.real(link).rpartition("/")[2]
            if driver not in _LAYERS:
                return driver
        folder = folder.rpartition("/")[0]
    return None


def _natural(name: str) -> tuple[str, int]:
    """Order ``ttyUSB10`` behind ``ttyUSB9``."""
    kind = name.rstrip("0123456789")
    digits = name[len(kind) :]
    return kind, int(digits) if digits else -1
