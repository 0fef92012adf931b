"""The emulated radio and serial line of the demo, each with a record of every byte it carries."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

from boards.emulation.air import Air, AirEvent, AirModel
from boards.emulation.air_server import AirServer
from boards.emulation.line import PtyLine
from boards.emulation.uart import Wire

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

BAUD: Final = 3_000_000
AIR: Final = AirModel(packets_per_event=10)
"""What two devices with the 2M PHY reach: 167 kB/s each way."""
_PIECE: Final = 8


class Tap:
    """The record of one hop, one stream for each direction."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        """The kind of its link, as in endpoints."""
        self.is_recording = True
        self._streams: dict[object, bytearray] = {}

    @property
    def count_bytes(self) -> int:
        """How much has passed so far, both ways, framing included."""
        return sum(map(len, self._streams.values()))

    def record(self, direction: object, data: bytes) -> None:
        """Keep what passes."""
        if self.is_recording:
            self._streams.setdefault(direction, bytearray()).extend(data)

    def saw(self, text: bytes) -> bool:
        """True if eight bytes in a row of the text passed: frames may cut it anywhere."""
        pieces = [text[at : at + _PIECE] for at in range(len(text) - _PIECE + 1)]
        return any(piece in stream for stream in self._streams.values() for piece in pieces)


class Emulation:
    """An air and a line for the processes of the demo. Use it as ``async with``.

    Args:
        folder: for the air's socket and the devices of the line.
        air_tap: records what is on the air.
        line_tap: records what is on the line.
    """

    def __init__(self, folder: Path, air_tap: Tap, line_tap: Tap) -> None:
        self.environment = {"OCKAMLITE_AIR": str(folder / "air")}
        """What the processes need to find the air."""
        self._ends = (folder / "line-a", folder / "line-b")
        self.line = tuple(f"serial:{end}?baud={BAUD}" for end in self._ends)
        """The endpoints of the line."""
        self._air_tap = air_tap
        self._line_tap = line_tap
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin."""
        async with AsyncExitStack() as stack:
            air = Air(AIR, observe=self._on_air)
            await stack.enter_async_context(AirServer(air, self.environment["OCKAMLITE_AIR"]))
            line = await stack.enter_async_context(PtyLine(self._ends))
            line.wires = (_TappedWire(self._line_tap), _TappedWire(self._line_tap))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take both away."""
        await self._stack.aclose()

    def _on_air(self, event: AirEvent) -> None:
        if event.kind == "value":
            self._air_tap.record((event.source, event.target), event.value)


class _TappedWire(Wire):
    """One direction of a line, recorded."""

    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self._tap = tap

    def carry(self, data: bytes, sent_baud: int = 0, read_baud: int = 0) -> bytes:
        """Hand on what arrives."""
        self._tap.record(self, data)
        return super().carry(data, sent_baud, read_baud)
