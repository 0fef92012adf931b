"""A Bluetooth controller that is ours: opened by bumble, and how much it takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import bumble.core
import bumble.device
import bumble.hci
import bumble.transport

from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FAILURES: Final = (bumble.core.BaseBumbleError, OSError, TimeoutError, asyncio.InvalidStateError)
"""What bumble raises when a controller refuses, or is not there any more."""
_ROOM_S: Final = 0.25


class Controller:
    """A bumble device on an open controller, and how it is closed."""

    def __init__(self, device: Any, close: Callable[[], Awaitable[None]]) -> None:
        self.device = device
        self.close = close
        self.users = 0


async def open_controller(name: str) -> Controller:
    """Open a controller by its name, as bumble has it: ``usb:0``, ``serial:/dev/ttyACM0,1000000``.

    Raises:
        UnavailableError: it cannot be opened.
    """
    try:
        transport: Any = await bumble.transport.open_transport(name)
    except (*FAILURES, ValueError, ImportError) as error:
        raise UnavailableError(
            f"the controller {name} cannot be opened: {error}",
            hint="is it plugged in, is it yours to use, and does the system leave it be?",
        ) from error
    address = bumble.hci.Address.generate_static_address()
    device = bumble.device.Device.with_hci("", address, transport.source, transport.sink)
    return Controller(device, transport.close)


async def room(link: Any) -> None:
    """Wait until the controller takes more.

    Its buffers must not run empty: what is under way now goes out in one connection event.
    """
    queue = link.data_packet_queue
    if queue is None or queue.pending < queue.max_in_flight:
        return
    flowed = asyncio.Event()
    queue.on("flow", flowed.set)
    try:
        # Another connection that ends makes room without a word; the next value shows it.
        async with asyncio.timeout(_ROOM_S):
            while queue.pending >= queue.max_in_flight:
                flowed.clear()
                await flowed.wait()
    except TimeoutError:
        pass
    finally:
        queue.remove_listener("flow", flowed.set)
