"""What endpoints stand for on this board: ``serial:auto``, and ``ble:`` without an adapter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boards.detection import USB_BAUD, default_adapter, default_serial, detect, serial_endpoint
from boards.machine import Machine
from boards.serial_ports import ports
from ockamlite.cli.run.logs import printable
from ockamlite.errors import UnavailableError
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from transports.ble import BleTransport

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


def ble_transport(root: Path = Path("/")) -> BleTransport:
    """The transport for ``ble:``: the board's own adapter if there are several, values as it takes them."""
    # Only here: a serial port needs none of it.
    from transports.ble import AIR_VARIABLE, BleTransport

    if os.environ.get(AIR_VARIABLE):  # no adapter of this machine
        return BleTransport(LIMITS)
    own = detect(root).profile.ble
    return BleTransport(LIMITS, adapter=default_adapter(root), most_bytes=own.mtu_bytes)
