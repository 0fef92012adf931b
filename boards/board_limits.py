"""What a board of some kind can do, as limits for emulated ones; a link has the lower of its ends' limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from boards.emulation.air import AirModel
from ockamlite.errors import UsageError
from transports.ble.gatt import ATT_HEAD_BYTES
from transports.serial.options import DEFAULT_BAUD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boards.profile import Profile

DESKTOP_MIPS: Final = 5000
"""``cpu_mips`` of one core of a desktop or laptop: what the processors of boards are compared with."""


@dataclass(frozen=True, slots=True)
class BoardLimits:
    """The limits of one kind of board."""

    board: str
    """Name of its profile."""
    baud: int
    """Recommended for its first port."""
    max_baud: int
    flow_control: bool
    """True if that port has RTS and CTS."""
    air: AirModel | None
    """What its Bluetooth LE adapter does at best; None if it comes without one."""
    memory_mb: int
    """Of the smallest model that is sold; 0 if not known."""
    cpu_share: float
    """What one of its cores does, as part of a core of a desktop machine; 1 if not known."""

    @classmethod
    def of(cls, profile: Profile) -> BoardLimits:
        """The limits of a profile's boards."""
        uart, ble = profile.uarts[0], profile.ble
        return cls(
            board=profile.name,
            baud=uart.baud,
            max_baud=uart.max_baud,
            flow_control=uart.flow_control,
            air=AirModel(
                interval_s=ble.interval_s,
                packets_per_event=ble.packets_per_event,
                packet_bytes=ble.packet_bytes,
                mtu=ble.mtu_bytes + ATT_HEAD_BYTES,
                connections=ble.links,
            )
            if ble.adapter
            else None,
            memory_mb=min(profile.ram_mb, default=0),
            cpu_share=min(1.0, profile.cpu_mips / DESKTOP_MIPS) if profile.cpu_mips else 1.0,
        )


def line_baud(ends: Iterable[BoardLimits], wanted: int | None = None, *, rtscts: bool = False) -> int:
    """The speed of a line between boards: as wanted, or the fastest that is recommended for all.

    Raises:
        UsageError: a board's port cannot do what is wanted; names the board.
    """
    boards = tuple(ends)
    for end in boards:
        if wanted is not None and wanted > end.max_baud:
            raise UsageError(
                f"the port of a {end.board} carries {end.max_baud} Bd at most, not {wanted}",
                hint=f"baud={end.max_baud}",
            )
        if rtscts and not end.flow_control:
            raise UsageError(f"the port of a {end.board} has no pins for RTS and CTS", hint="rtscts=False")
    return wanted if wanted is not None else min((end.baud for end in boards), default=DEFAULT_BAUD)


def air_model(ends: Iterable[BoardLimits], wanted: AirModel) -> AirModel:
    """The air between boards: as wanted, but no better than the adapter of any of them.

    Raises:
        UsageError: a board has no adapter.
    """
    models = [wanted]
    for end in ends:
        if end.air is None:
            raise UsageError(
                f"a {end.board} has no Bluetooth LE adapter of its own",
                hint="a serial line, or another board",
            )
        models.append(end.air)
    # More of the shorter packets fit an event, so their number counts with their length alone.
    packet_bytes, packets = min((model.packet_bytes, model.packets_per_event) for model in models)
    event_bytes = min(model.packet_bytes * model.packets_per_event for model in models)
    return replace(
        wanted,
        interval_s=max(model.interval_s for model in models),
        packet_bytes=packet_bytes,
        packets_per_event=max(1, min(packets, event_bytes // packet_bytes)),
        mtu=min(model.mtu for model in models),
        connections=min(model.connections for model in models),
    )
