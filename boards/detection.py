"""Which board this is, from what its kernel says: device tree, revision code, EEPROM, DMI.

What is burnt into a board counts before what was loaded when it started: a device tree may be made for a
near relative. Everything is read below a root, and nothing needs privileges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boards.machine import Machine
from boards.profiles import all_profiles, load
from boards.serial_ports import is_port, ports
from ockamlite.errors import UnavailableError
from ockamlite.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from boards.profile import Profile, Uart

_TREES: Final = ("/proc/device-tree", "/sys/firmware/devicetree/base")
_NVMEM: Final = "/sys/bus/nvmem/devices"
_DMI: Final = "/sys/devices/virtual/dmi/id"
_CPUINFO: Final = "/proc/cpuinfo"

BLUETOOTH: Final = "/sys/class/bluetooth"

USB_BAUD: Final = 115_200
"""What we recommend for a USB adapter: every one can do it."""

_NEW_STYLE: Final = 1 << 23
"""Bit of a revision code that says the others have a meaning."""
_EEPROM_MAGIC: Final = b"\xaa\x55\x33\xee"
_EEPROM_NAME: Final = (4, 16)
"""Where the name is in the EEPROM of a BeagleBone; newer boards have 6 bytes more in front of it."""
_EEPROM_NEW: Final = b"\x01\x37\x00\x10\x2e\x00"
_REVISION: Final = re.compile(r"^Revision\s*:\s*([0-9a-fA-F]{1,8})\s*$", re.MULTILINE)
_X86_FLAGS: Final = re.compile(r"^flags\s*:", re.MULTILINE)
_AES: Final = re.compile(r"^(?:flags|Features)\s*:.*\baes\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Detection:
    """A board, and why we think so."""

    profile: Profile
    model: str
    """What the machine calls itself; the profile's title if it does not say."""
    evidence: tuple[str, ...]
    """What was seen and where, ``PATH: VALUE``."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one source says."""

    path: str
    value: str
    profile: Profile | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.value}"


def detect(root: Path = Path("/")) -> Detection:
    """Recognise the machine whose files are below ``root``; a board nobody knows gets a generic profile."""
    machine = Machine(root)
    seen = [*_revision(machine), *_eeprom(machine), *_compatible(machine), *_dmi(machine)]
    known = [found.profile for found in seen if found.profile is not None]
    evidence = [str(found) for found in seen]
    if known:
        profile = known[0]
    else:
        profile = load("generic-x86" if _is_x86(machine) else "generic-arm")
        evidence.append(f"{_CPUINFO}: {'x86' if profile.name == 'generic-x86' else 'no x86'} processor")
    return Detection(profile, _model(machine) or profile.title, tuple(evidence))


def has_aes(machine: Machine) -> bool | None:
    """True if the processor has AES instructions; None if it does not say."""
    info = machine.text(_CPUINFO)
    return None if not info else _AES.search(info) is not None


def uart_device(machine: Machine, uart: Uart) -> str | None:
    """The device of a port of the profile, or None if this machine does not have it."""
    return next((device for device in uart.devices if is_port(machine, device)), None)


def serial_endpoint(device: str, baud: int) -> Endpoint:
    """The endpoint of a serial port."""
    return Endpoint("serial", device, (("baud", str(baud)),))


def default_serial(root: Path = Path("/")) -> Endpoint:
    """What ``serial:auto`` stands for: the first port that nobody else uses.

    The ports of the board's profile come first, then USB adapters in the order of their names.

    Raises:
        UnavailableError: there is none; says what is in the way.
    """
    machine = Machine(root)
    profile = detect(root).profile
    there = {port.device: port for port in ports(machine)}
    paths: dict[str, tuple[str, int]] = {}
    for uart in profile.uarts:
        device = uart_device(machine, uart)
        if device is not None:
            paths.setdefault(machine.real(device), (device, uart.baud))
    for device, port in there.items():
        if port.by_id is not None:
            paths.setdefault(device, (port.by_id, USB_BAUD))
    for device, (path, baud) in paths.items():
        if not there[device].user:
            return serial_endpoint(path, baud)
    busy = "; ".join(f"{path} is in use by {there[device].user}" for device, (path, _) in paths.items())
    raise UnavailableError(
        f"no serial port is free: {busy}" if busy else f"this {profile.title} shows no serial port",
        hint="ockamlite board",
    )


def default_adapter(root: Path = Path("/")) -> str:
    """The Bluetooth adapter of the system that ``ble:`` stands for; empty if there is nothing to choose.

    Of several that nothing blocks it is the one that the board came with, whatever its number is.
    """
    machine = Machine(root)
    own = detect(root).profile.ble
    usable = [name for name in adapters(machine) if not _is_blocked(machine, name)]
    if len(usable) < 2:
        return ""
    # A chip of the board hangs on a UART or on the memory card's bus; all others came by USB.
    return min(
        usable,
        key=lambda name: (_is_usb(machine, name) == (own.attached == "uart"), name != own.adapter, name),
    )


def adapters(machine: Machine) -> list[str]:
    """The Bluetooth adapters that a machine has."""
    return [name for name in machine.names(BLUETOOTH) if name.startswith("hci") and ":" not in name]


def _is_usb(machine: Machine, adapter: str) -> bool:
    return "/usb" in machine.real(f"{BLUETOOTH}/{adapter}")


def _is_blocked(machine: Machine, adapter: str) -> bool:
    """True if rfkill keeps an adapter off."""
    switches = [name for name in machine.names(f"{BLUETOOTH}/{adapter}") if name.startswith("rfkill")]
    return any(
        machine.text(f"{BLUETOOTH}/{adapter}/{switch}/{kind}") == "1"
        for switch in switches
        for kind in ("soft", "hard")
    )


def _revision(machine: Machine) -> list[_Seen]:
    """A Raspberry Pi's revision code."""
    for tree in _TREES:
        path = f"{tree}/system/linux,revision"
        data = machine.data(path)
        if data is not None and len(data) == 4:
            return [_revision_seen(path, int.from_bytes(data, "big"))]
    if any(entry.startswith("raspberrypi,") for _, entry in _entries(machine)):
        found = _REVISION.search(machine.text(_CPUINFO) or "")
        if found:
            return [_revision_seen(_CPUINFO, int(found[1], 16))]
    return []


def _revision_seen(path: str, code: int) -> _Seen:
    if not code & _NEW_STYLE:
        return _Seen(path, f"revision {code:04x}")
    kind = code >> 4 & 0xFF
    profile = next((known for known in all_profiles() if kind in known.match.revision_types), None)
    return _Seen(path, f"revision {code:x}, type 0x{kind:02x}", profile)


def _eeprom(machine: Machine) -> list[_Seen]:
    """The name in the EEPROM of a BeagleBoard."""
    for device in machine.names(_NVMEM):
        path = f"{_NVMEM}/{device}/nvmem"
        data = machine.data(path) if device.startswith("0-0050") else None
        if data is None or not data.startswith(_EEPROM_MAGIC):
            continue
        start, length = _EEPROM_NAME
        if data[start:].startswith(_EEPROM_NEW):
            start += len(_EEPROM_NEW)
        raw = data[start : start + length].split(b"\0")[0].split(b"\xff")[0]
        name = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in raw)
        profile = next(
            (known for known in all_profiles() if known.match.eeprom and name.startswith(known.match.eeprom)),
            None,
        )
        return [_Seen(path, name, profile)]
    return []


def _entries(machine: Machine) -> list[tuple[str, str]]:
    """The entries of ``compatible`` and where they are from, the most specific one first."""
    for tree in _TREES:
        path = f"{tree}/compatible"
        entries = machine.strings(path)
        if entries:
            return [(path, entry) for entry in entries]
    return []


def _compatible(machine: Machine) -> list[_Seen]:
    entries = _entries(machine)
    for path, entry in entries:
        for profile in all_profiles():
            if entry in profile.match.compatible:
                return [_Seen(path, entry, profile)]
    return [_Seen(entries[0][0], ", ".join(entry for _, entry in entries))] if entries else []


def _dmi(machine: Machine) -> list[_Seen]:
    found = ((f"{_DMI}/{name}", machine.text(f"{_DMI}/{name}")) for name in ("product_name", "board_name"))
    return [_Seen(path, text) for path, text in found if text]


def _is_x86(machine: Machine) -> bool:
    return _X86_FLAGS.search(machine.text(_CPUINFO) or "") is not None


def _model(machine: Machine) -> str:
    for path in (*(f"{tree}/model" for tree in _TREES), f"{_DMI}/product_name", f"{_DMI}/board_name"):
        text = machine.text(path)
        if text:
            return text
    return ""
