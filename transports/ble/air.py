"""The radio of a process that uses an emulated air of another process, over a Unix socket.

Each search, dialled connection and advertisement is a device of its own, with a socket of its own. On it
go messages of a 32-bit length and a CBOR array whose first element is a word:

    to the air      scan | serve name | connect address | write link value | close link | abort link | stop
    from the air    heard address name services rssi | serving | refused text | failed text pause-ms |
                    opened link remote value-bytes values | value link value | room link value-bytes values |
                    lost link text

``values`` is how many more values may be written. A ``link`` is a number of the air's choice.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from ockamlite import cbor
from ockamlite.errors import DecodeError, LinkBrokenError, LinkClosedError, OckamError, UnavailableError
from transports.ble.gatt import Advertisement
from transports.ble.radio import ConnectFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transports.ble.radio import Connection, ConnectionUser

LENGTH: Final = struct.Struct(">I")
MESSAGE_BYTES: Final = 64 * 1024


class AirSocket(asyncio.Protocol):
    """Cuts the messages of one socket; both ends use it.

    Args:
        received: called with each message, a list that begins with a word.
        ended: called once when the socket is closed.
    """

    def __init__(self, received: Callable[[list[Any]], None], ended: Callable[[], None]) -> None:
        self._received = received
        self._ended = ended
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, *message: cbor.Encodable) -> None:
        """Send a message; nothing happens once the socket is closed."""
        if self._transport is not None and not self._transport.is_closing():
            body = cbor.encode(list(message))
            self._transport.write(LENGTH.pack(len(body)) + body)

    def close(self) -> None:
        """Send what waits and close."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Cut messages."""
        self._data += data
        while len(self._data) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._data)[0]
            if end > MESSAGE_BYTES:
                self.close()
                return
            if len(self._data) < end:
                return
            body = bytes(self._data[LENGTH.size : end])
            del self._data[:end]
            try:
                message = cbor.decode(body)
            except DecodeError:
                self.close()
                return
            if not isinstance(message, list) or not message:
                self.close()
                return
            self._received(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the user."""
        self._ended()


class AirClient:
    """A radio on the emulated air at a Unix socket; see :class:`transports.ble.radio.Radio`."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def scan(self, heard: Callable[[Advertisement], bool]) -> None:
        """Hear who advertises."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def received(message: list[Any]) -> None:
            match message:
                case ["heard", str(address), str(name), list(services), int(rssi)] if not ended.done():
                    if heard(Advertisement(address, name, tuple(map(str, services)), rssi)):
                        ended.set_result(None)
                case _:
                    pass

        socket = await self._open(received, lambda: _fail(ended, UnavailableError("the emulated air ended")))
        socket.send("scan")
        try:
            await ended
        finally:
            socket.close()

    async def connect(self, device: Advertisement) -> Connection:
        """Connect to a device."""
        opened: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        device_side = _Device(opened=opened)
        socket = device_side.socket = await self._open(device_side.received, device_side.ended)
        socket.send("connect", device.address)
        try:
            return await opened
        except (OckamError, asyncio.CancelledError):
            socket.close()
            raise

    async def serve(self, name: str, accept: Callable[[Connection], None]) -> AirClientServing:
        """Advertise and accept."""
        serving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        device_side = _Device(accept=accept, serving=serving)
        socket = device_side.socket = await self._open(device_side.received, device_side.ended)
        socket.send("serve", name)
        try:
            await serving
        except (OckamError, asyncio.CancelledError):
            socket.close()
            raise
        return AirClientServing(device_side)

    async def _open(self, received: Callable[[list[Any]], None], ended: Callable[[], None]) -> AirSocket:
        loop = asyncio.get_running_loop()
        try:
            _, socket = await loop.create_unix_connection(lambda: AirSocket(received, ended), self._path)
        except OSError as error:
            raise UnavailableError(
                f"no emulated air at {self._path}",
                hint="start 'ockamlite emulate --ble', or unset OCKAMLITE_AIR",
            ) from error
        return socket


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


class _Device:
    """A device of ours on the air: what it is told, and its connections."""

    def __init__(
        self,
        *,
        opened: asyncio.Future[Connection] | None = None,
        serving: asyncio.Future[None] | None = None,
        accept: Callable[[Connection], None] | None = None,
    ) -> None:
        self.socket: AirSocket | None = None
        self.connections: dict[int, AirClientConnection] = {}
        self._opened = opened
        self._serving = serving
        self._accept = accept

    def received(self, message: list[Any]) -> None:
        match message:
            case ["value", int(link), bytes(value)] if link in self.connections:
                self.connections[link].received(value)
            case ["room", int(link), int(value_bytes), int(values)] if link in self.connections:
                self.connections[link].granted(value_bytes, values)
            case ["lost", int(link), str() | None as text] if link in self.connections:
                found = self.connections.pop(link)
                found.ended(LinkBrokenError(text) if text else None)
                self._close_unused()
            case ["opened", int(link), str(remote), int(value_bytes), int(values)]:
                made = AirClientConnection(self, link, remote, value_bytes, values)
                self.connections[link] = made
                if self._opened is not None and not self._opened.done():
                    self._opened.set_result(made)
                elif self._accept is not None:
                    self._accept(made)
                else:
                    made.abort()
            case ["serving"] if self._serving is not None and not self._serving.done():
                self._serving.set_result(None)
            case ["failed", str(text), int(pause_ms)]:
                self._refused(ConnectFailedError(text, pause_s=pause_ms / 1000))
            case ["refused", str(text)]:
                self._refused(UnavailableError(text))
            case _:
                pass  # of a connection that has ended, or a newer air

    def ended(self) -> None:
        self._refused(UnavailableError("the emulated air ended"))
        for connection in self.connections.values():
            connection.ended(LinkBrokenError("the emulated air ended"))
        self.connections.clear()

    def send(self, *message: cbor.Encodable) -> None:
        assert self.socket is not None  # noqa: S101  (connections are made by what comes over it)
        self.socket.send(*message)

    def stop(self) -> None:
        """Advertise no more."""
        self._accept = None
        self.send("stop")
        self._close_unused()

    def _close_unused(self) -> None:
        if self._accept is None and not self.connections and self.socket is not None:
            self.socket.close()

    def _refused(self, error: OckamError) -> None:
        for future in (self._opened, self._serving):
            if future is not None:
                _fail(future, error)


class AirClientServing:
    """See :class:`transports.ble.radio.Serving`."""

    def __init__(self, device: _Device) -> None:
        self._device = device

    async def close(self) -> None:
        """Advertise no more."""
        self._device.stop()


class AirClientConnection:
    """See :class:`transports.ble.radio.Connection`."""

    def __init__(self, device: _Device, link: int, remote: str, value_bytes: int, values: int) -> None:
        self.remote = remote
        self.value_bytes = value_bytes
        self._device = device
        self._link = link
        self._values = values
        self._user: ConnectionUser | None = None
        self._early: deque[bytes] = deque(maxlen=64)
        self._over: list[OckamError | None] = []
        self._closing = False

    def start(self, user: ConnectionUser) -> None:
        """Hand on what came and will come."""
        self._user = user
        while self._early:
            user.value_received(self._early.popleft())
        if self._over:
            asyncio.get_running_loop().call_soon(self._tell_end)

    def write_frame(self, frame: bytes) -> None:
        """Write a value."""
        self._values -= 1
        self._device.send("write", self._link, frame)

    def writable_bytes(self) -> int:
        """What the air gave us room for."""
        return max(0, self._values) * self.value_bytes

    def close(self) -> None:
        """Disconnect when all is sent."""
        if not self._closing:
            self._closing = True
            self._device.send("close", self._link)

    def abort(self) -> None:
        """Disconnect."""
        self._closing = True
        self._device.send("abort", self._link)

    def received(self, value: bytes) -> None:
        """A value came."""
        if self._user is None:
            self._early.append(value)
        else:
            self._user.value_received(value)

    def granted(self, value_bytes: int, values: int) -> None:
        """The air takes more, or longer values."""
        self.value_bytes = value_bytes
        self._values += values
        if self._user is not None:
            self._user.room_changed()

    def ended(self, error: OckamError | None) -> None:
        """The connection is over."""
        self._over.append(
            None if self._closing else error or LinkClosedError("the other device disconnected")
        )
        if self._user is not None:
            asyncio.get_running_loop().call_soon(self._tell_end)

    def _tell_end(self) -> None:
        user, self._user = self._user, None
        if user is not None:
            user.connection_lost(self._over[0])
