"""What a serial endpoint says about its line: ``serial:/dev/ttyUSB0?baud=9600&parity=even``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from ockamlite.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ockamlite.routing.endpoint import Endpoint

DEFAULT_BAUD: Final = 115_200
OPTIONS: Final = ("baud", "bits", "parity", "stop", "flow", "rtscts")

_T = TypeVar("_T")

_PARITIES: Final[Mapping[str, str]] = {"none": "N", "even": "E", "odd": "O"}
_SWITCH: Final[Mapping[str, bool]] = {"on": True, "off": False}
_FLOWS: Final[Mapping[str, bool]] = {"none": False, "rtscts": True}
_STOPS: Final[Mapping[str, int]] = {"1": 1, "2": 2}


@dataclass(frozen=True, slots=True)
class LineSettings:
    """A device and how its line is set; both ends must agree on all but the device."""

    device: str
    baud: int = DEFAULT_BAUD
    parity: str = "N"
    """N, E or O."""
    stop_bits: int = 1
    rtscts: bool = False
    """Hardware flow control: five wires instead of three."""

    def __post_init__(self) -> None:
        if not 50 <= self.baud <= 20_000_000:
            raise UsageError(f"baud {self.baud} is not 50 to 20000000")

    @property
    def byte_bits(self) -> int:
        """Bits on the line per byte, start and stop included."""
        return 1 + 8 + (self.parity != "N") + self.stop_bits

    @property
    def bytes_per_s(self) -> float:
        """Bytes that the line carries in a second, each way."""
        return self.baud / self.byte_bits


def line_settings(endpoint: Endpoint) -> LineSettings:
    """Read a serial endpoint.

    Raises:
        UsageError: an option's value that no line can have; the allowed ones are listed.
    """
    options = dict(endpoint.options)
    bits = options.pop("bits", "8")
    if bits != "8":
        raise UsageError(f"bits={bits}: frames need lines of 8 data bits")
    baud = options.get("baud", str(DEFAULT_BAUD))
    if not (baud.isascii() and baud.isdigit() and len(baud) <= 9):
        raise UsageError(f"baud={baud} is no number", hint="baud=115200")
    flow = options.get("flow", "none")
    if flow in ("xonxoff", "software"):
        raise UsageError(
            f"flow={flow}: frames hold the bytes that would stop the line", hint="flow=rtscts, or flow=none"
        )
    return LineSettings(
        device=endpoint.details,
        baud=int(baud),
        parity=_chosen("parity", options.get("parity", "none"), _PARITIES),
        stop_bits=_chosen("stop", options.get("stop", "1"), _STOPS),
        rtscts=_chosen("flow", flow, _FLOWS) or _chosen("rtscts", options.get("rtscts", "off"), _SWITCH),
    )


def _chosen(name: str, value: str, known: Mapping[str, _T]) -> _T:
    if value not in known:
        raise UsageError(f"{name}={value} is not one of {_listed(known)}")
    return known[value]


def _listed(known: Collection[str]) -> str:
    return ", ".join(sorted(known))
