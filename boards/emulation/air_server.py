"""An emulated air for several processes: each that finds its Unix socket has radios on it.

What goes over the socket is told in :mod:`transports.ble.air`, the other end of it. Usable alone:
``python -m boards.emulation.air_server PATH``.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boards.emulation.air import Air, AirModel
from ockamlite.errors import LinkBrokenError, OckamError
from transports.ble.air import AirSocket
from transports.ble.gatt import Advertisement
from transports.ble.radio import ConnectFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ockamlite.cbor import Encodable
    from transports.ble.radio import Connection, Serving


class AirServer:
    """Lets other processes into an air; use it as ``async with``."""

    def __init__(self, air: Air, path: str | Path) -> None:
        self.air = air
        self.path = Path(path)
        self._clients: dict[_Client, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> AirServer:
        """Listen; a socket that nobody listens to any more is replaced."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.get_running_loop().create_unix_server(self._joined, str(self.path))
        self.path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let everybody out."""
        if self._server is not None:
            self._server.close()
        for client in tuple(self._clients):
            client.socket.close()
        await self._empty.wait()
        self.path.unlink(missing_ok=True)

    def _joined(self) -> AirSocket:
        client = _Client(self.air, self._left)
        self._clients[client] = None
        self._empty.clear()
        return client.socket

    def _left(self, client: _Client) -> None:
        self._clients.pop(client, None)
        if not self._clients:
            self._empty.set()


class _Client:
    """One device of another process."""

    def __init__(self, air: Air, left: Callable[[_Client], None]) -> None:
        self.socket = AirSocket(self._received, self._ended)
        self._air = air
        self._radio = air.radio()
        self._left = left
        self._links: dict[int, _ClientLink] = {}
        self._links_so_far = 0
        self._task: asyncio.Task[None] | None = None
        self._serving: Serving | None = None

    def _received(self, message: list[Any]) -> None:
        match message:
            case ["scan"]:
                self._do(self._radio.scan(self._heard))
            case ["connect", str(address)]:
                self._do(self._connect(address))
            case ["serve", str(name)]:
                self._do(self._serve(name))
            case ["stop"] if self._serving is not None:
                self._radio.stop_serving()
            case ["write", int(link), bytes(value)] if link in self._links:
                self._links[link].write(value)
            case ["close", int(link)] if link in self._links:
                self._links[link].connection.close()
            case ["abort", int(link)] if link in self._links:
                self._links[link].connection.abort()
            case _:
                pass  # of a connection that has ended

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._guarded(work))
        else:
            work.close()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ConnectFailedError as error:
            self.socket.send("failed", str(error), round(error.pause_s * 1000))
        except OckamError as error:
            self.socket.send("refused", str(error))

    def _heard(self, device: Advertisement) -> bool:
        self.socket.send("heard", device.address, device.name, list(device.services), device.rssi)
        return False

    async def _connect(self, address: str) -> None:
        self._opened(await self._radio.connect(Advertisement(address, "", (), 0)))

    async def _serve(self, name: str) -> None:
        self._serving = await self._radio.serve(name, self._opened)
        self.socket.send("serving")

    def _opened(self, connection: Connection) -> None:
        self._links_so_far += 1
        link = self._links[self._links_so_far] = _ClientLink(self, self._links_so_far, connection)
        link.open()

    def forget(self, number: int) -> None:
        """A connection is over."""
        self._links.pop(number, None)

    def _ended(self) -> None:
        if self._task is not None:
            self._task.cancel()
        # A process that ends, however it does, leaves its connections to a system that closes them.
        for link in tuple(self._links.values()):
            link.connection.abort()
        self._radio.stop_serving()
        self._air.leave(self._radio)
        self._left(self)


class _ClientLink:
    """One connection of such a device; see :class:`transports.ble.radio.ConnectionUser`."""

    def __init__(self, client: _Client, number: int, connection: Connection) -> None:
        self.connection = connection
        self._client = client
        self._number = number
        self._granted = 0
        """Values that the process may still write."""

    def open(self) -> None:
        """Tell the process of it."""
        self._granted = self._free()
        self._send("opened", self.connection.remote, self.connection.value_bytes, self._granted)
        self.connection.start(self)

    def write(self, value: bytes) -> None:
        """The process writes."""
        self._granted -= 1
        self.connection.write_frame(value)

    def value_received(self, value: bytes) -> None:
        """Hand on a value."""
        self._send("value", value)

    def room_changed(self) -> None:
        """Tell of more room."""
        more = self._free() - self._granted
        self._granted += more
        self._send("room", self.connection.value_bytes, more)

    def connection_lost(self, error: OckamError | None) -> None:
        """Tell of the end."""
        self._send("lost", str(error) if isinstance(error, LinkBrokenError) else None)
        self._client.forget(self._number)

    def _free(self) -> int:
        return self.connection.writable_bytes() // self.connection.value_bytes

    def _send(self, word: str, *more: Encodable) -> None:
        self._client.socket.send(word, self._number, *more)


async def main(path: str) -> None:
    """Serve an air until interrupted."""
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    async with AirServer(Air(AirModel()), path):
        sys.stdout.write(f"export OCKAMLITE_AIR={path}\n")
        sys.stdout.flush()
        await interrupted.wait()


if __name__ == "__main__":
    asyncio.run(main(str(Path(sys.argv[1]).absolute())))
