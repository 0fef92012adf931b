"""``serial:auto``: the serial port of this machine that nobody else uses."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from boards.detection import USB_BAUD, default_serial, detect, serial_endpoint
from boards.machine import Machine
from boards.serial_ports import ports
from ockamlite.cli.run.logs import printable
from ockamlite.errors import UnavailableError
from ockamlite.routing.endpoint import Endpoint

_EXAMPLE: Final = "/dev/ttyUSB0"


def choose_port(wanted: Endpoint, root: Path = Path("/")) -> Endpoint:
    """The port that ``serial:auto`` stands for here; options such as ``baud`` stay as they are wanted.

    Raises:
        UnavailableError: none is free; says what was seen, and how to name one.
    """
    try:
        found = default_serial(root)
    except UnavailableError as error:
        seen = ports(Machine(root))
        others = [port.path for port in seen if not port.user]
        shown = f", free but not taken unasked: {', '.join(others)}" if others else ""
        example = serial_endpoint((others or [port.path for port in seen] or [_EXAMPLE])[0], USB_BAUD)
        raise UnavailableError(
            f"{wanted}: {error}{shown} (on {printable(detect(root).model)})",
            hint=f"{example}, or another port of ockamlite scan serial; ockamlite board says how to free one",
        ) from error
    options = dict(found.options) | dict(wanted.options)
    return Endpoint(found.kind, found.details, tuple(options.items()))
