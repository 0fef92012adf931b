"""What is known of a kind of board, as values; the data are in ``boards/profiles/``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ockamlite.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Match:
    """By what a board is recognised."""

    compatible: tuple[str, ...] = ()
    """Entries of the device tree's ``compatible`` that stand for this board alone."""
    revision_types: tuple[int, ...] = ()
    """Raspberry Pi: the type in bits 4 to 11 of a new-style revision code."""
    eeprom: tuple[str, ...] = ()
    """BeagleBoard: how the name in the board's EEPROM begins."""


@dataclass(frozen=True, slots=True)
class Uart:
    """A serial port of the board that can carry a link."""

    devices: tuple[str, ...]
    """What it may be called; the first one that is there is used."""
    hardware: str
    """What it is, and on which pins."""
    baud: int = 115_200
    """Recommended."""
    max_baud: int = 115_200
    mtu_bytes: int = 256
    """Recommended largest frame."""
    flow_control: bool = False
    """True if it has RTS and CTS on pins."""
    enable: str = ""
    """The command that makes it appear, or an empty string if it is always there."""
    blocked_by: str = ""
    """What usually holds it, in words."""

    def __post_init__(self) -> None:
        if not self.devices or not all(device.startswith("/dev/") for device in self.devices):
            raise UsageError(f"{self.devices} are no devices")
        if not 1 <= self.baud <= self.max_baud:
            raise UsageError(f"recommended baud {self.baud} is above {self.max_baud}")


@dataclass(frozen=True, slots=True)
class Ble:
    """The board's Bluetooth LE adapter."""

    adapter: str = ""
    """``hci0``, or an empty string if the board has none."""
    attached: str = "none"
    """``uart``, ``usb``, ``card`` (bought separately), ``coprocessor`` or ``none``."""
    conflict: str = ""
    """What it and the serial ports take from each other, in words."""
    mtu_bytes: int = 244
    """Recommended chunk: what one of the longer packets on air holds."""
    links: int = 7
    """Most links at once."""
    interval_s: float = 0.015
    """Between connection events, as we recommend to ask for."""
    packets_per_event: int = 6
    """Packets each way in one connection event: what a phone or another board grants, not what fits."""
    packet_bytes: int = 251
    """Longest packet on air; 27 where the controller knows no longer ones."""


@dataclass(frozen=True, slots=True)
class Gpio:
    """The board's general pins. Chips are found by label: their numbers change with the kernel."""

    chip: str = ""
    """Label of the chip with the header's pins, or an empty string if it is not known."""
    lines: int = 0
    """How many lines that chip has; 0 if not known."""
    line_names: tuple[str, ...] = ()
    """Names of lines that are free for use, where the kernel names them."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of board."""

    name: str
    title: str
    sources: tuple[str, ...]
    """Where the facts are from."""
    ram_mb: tuple[int, ...] = ()
    """The sizes it is sold with; empty if any."""
    aes: bool | None = None
    """True if its processor has AES instructions; None if that has to be looked up."""
    cpu_mips: int = 0
    """What one of its cores does, as 7-zip measures it on one thread; 0 if not known."""
    match: Match = field(default_factory=Match)
    uarts: tuple[Uart, ...] = ()
    """Ports for links, the best one first."""
    ble: Ble = field(default_factory=Ble)
    leds: tuple[str, ...] = ()
    """Names of LEDs of the kernel's LED class that may show our state."""
    gpio: Gpio = field(default_factory=Gpio)
    fixes: Mapping[str, str] = field(default_factory=dict)
    """Commands by what is in the way (``console``, ``login``); ``{tty}`` is the port."""
    notes: tuple[str, ...] = ()
    """What a user should know, a sentence each."""
    unverified: tuple[str, ...] = ()
    """Which of these facts nobody has looked up or tried, as ``field`` or ``field.field``."""
